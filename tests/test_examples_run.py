"""Every script in examples/ runs within a minute and writes the pictures that it names.

A script takes the directory for its pictures as its argument, and names them in its docstring as NAME.png
or NAME.gif. Those that need data are tried in test_examples.py and test_pieces.py.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NEED_DATA = {"mnist_from_kernels", "stream_parquet"}
SCRIPTS = [path for path in sorted(EXAMPLES.glob("*.py")) if path.stem not in NEED_DATA]
MOST_LINES = 80
PRINTED = {  # what arithmetic on paper says; scripts that are not here only have to print something
    "by_hand": [r"rate 0\.1: \[7\. +6\. +5\.2 +4\.56", r"rate 0\.5: \[7\. +2\.", r"y = 1\.0+ x \+ 1\.0+\n"],
    "optimizers_on_a_ravine": [r"gd, auto +\d+ steps, x = \[1\. 1\.\]"],
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs_and_writes_its_pictures(script, tmp_path):
    pytest.importorskip("matplotlib")
    code = script.read_text()
    named = set(re.findall(r"\b\w+\.(?:png|gif)\b", ast.get_docstring(ast.parse(code))))
    assert named, "the docstring names no picture"
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-W", "error::UserWarning", script, tmp_path],
        env={**os.environ, "MPLBACKEND": "Agg"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    for pattern in PRINTED.get(script.stem, [r"\S"]):
        assert re.search(pattern, result.stdout), result.stdout
    written = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(written) == named
    assert min(written.values()) > 5000, written


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_is_short(script):
    assert len(script.read_text().splitlines()) < MOST_LINES
