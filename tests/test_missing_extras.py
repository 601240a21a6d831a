"""What needs an optional package says so when it is missing, and not before it is needed."""

import subprocess
import sys


def test_inspection_is_imported_without_matplotlib_and_says_what_is_missing():
    """Also where matplotlib is installed: the import of it is made to fail."""
    code = """
import sys
sys.modules["matplotlib"] = None
from fastgd import GDRegressor, inspection
model = GDRegressor().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 3.0])
draw = [
    lambda: inspection.LossCurveDisplay.from_estimator(model),
    lambda: inspection.DescentPathDisplay.from_estimator(model, [[0.0], [1.0]], [0.0, 1.0]),
    lambda: inspection.DescentPathDisplay.from_function(abs, [0, 0], ((0, 1), (0, 1))),
    lambda: inspection.LearningRateDisplay.from_cv_results(
        {"params": [{"eta0": 1.0}], "split0_test_score": [1.0]}
    ),
]
for function in draw:
    try:
        function()
    except ImportError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if "requires matplotlib" in line]
    assert len(lines) == 4
    assert lines[0].startswith("LossCurveDisplay.plot") and "DescentPathDisplay.from_function" in lines[2]
