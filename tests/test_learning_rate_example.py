"""examples/learning_rate.py prints the textbook's numbers and draws its pictures."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "learning_rate.py"


def test_learning_rate_example_tells_its_story(tmp_path):
    pytest.importorskip("matplotlib")
    result = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    out = result.stdout
    for rate, x1, x20 in [(0.01, 6.9, 2 + 5 * 0.98**20), (0.1, 6.0, 2 + 5 * 0.8**20), (1.0, -3.0, 7.0)]:
        line = re.search(rf"a = +{rate}: +7\.000 +(\S+) .* x20 = (\S+)", out)
        assert float(line[1]) == pytest.approx(x1) and float(line[2]) == pytest.approx(x20, abs=1e-6)
    assert "The largest stable rate is 0.054" in out
    assert re.search(r"accuracy 0\.9[5-9]", out) and re.search(r"\d+ of 75 candidates diverged", out)
    assert {path.name for path in tmp_path.iterdir()} == {"parabola.png", "line.png", "search.png"}
    assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir())
