"""The examples of the README run as they stand."""

import contextlib
import io
import re
import warnings
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"## ([^\n]*)\n(?:(?!\n## ).)*?```python\n(.*?)```", README.read_text(), re.DOTALL)
EXTRAS = {"fastgd.dask": "distributed", "fastgd.inspection": "matplotlib"}  # what examples need beyond fastgd


@pytest.mark.parametrize("code", [pytest.param(code, id=title) for title, code in EXAMPLES])
def test_example_runs_without_a_warning_and_prints(code):
    for sign, extra in EXTRAS.items():
        if sign in code:
            pytest.importorskip(extra)
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("error")
        exec(code, {})
    assert printed.getvalue().strip()


def test_the_readme_has_examples():
    assert len(EXAMPLES) >= 5
