"""The built package: which kernels an import takes, what it says if it cannot, what it leaves be.

Each claim runs in a fresh process, since a process imports fastgd only once.
"""

import os
import subprocess
import sys

import pytest

from fastgd._compiled import cpu

VARIANTS = cpu.variants()
SHOW_VARIANT = "import fastgd._compiled as c; print(c.VARIANT, c.linear.__name__)"
OLD_PROCESSOR = """
import sys, types
sys.modules["fastgd._compiled.cpu"] = types.SimpleNamespace(variants=lambda: ["baseline"])
"""


@pytest.fixture
def python(tmp_path):
    """Run code in a process of its own, outside the source folder; FASTGD_CPU as given."""

    def run(code, cpu=None):
        env = {name: value for name, value in os.environ.items() if name != "FASTGD_CPU"}
        if cpu is not None:
            env["FASTGD_CPU"] = cpu
        return subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True
        )

    return run


@pytest.mark.parametrize("variant", VARIANTS)
def test_environment_variable_forces_a_variant(python, variant):
    result = python(SHOW_VARIANT, cpu=variant)
    assert result.stdout.split() == [variant, f"fastgd._compiled.{variant}.linear"], result.stderr


@pytest.mark.parametrize("unset", [None, ""])
def test_processor_decides_by_default(python, unset):
    result = python(SHOW_VARIANT, cpu=unset)
    assert result.stdout.split()[:1] == [VARIANTS[-1]], result.stderr


def test_old_processor_takes_the_baseline(python):
    result = python(OLD_PROCESSOR + SHOW_VARIANT)
    assert result.stdout.split()[:1] == ["baseline"], result.stderr


def test_unknown_variant_is_refused_with_the_possible_ones(python):
    result = python("import fastgd", cpu="sse9")
    assert result.returncode == 1
    assert "ImportError: FASTGD_CPU='sse9'" in result.stderr
    assert "possible values on this processor are baseline" in result.stderr


@pytest.mark.parametrize("variant", ["avx2", "avx512"])
def test_new_kernels_are_refused_by_an_old_processor(python, variant):
    result = python(OLD_PROCESSOR + "import fastgd", cpu=variant)
    assert result.returncode == 1
    assert "possible values on this processor are baseline." in result.stderr


@pytest.mark.parametrize("module", ["cpu", "baseline.linear", "shared"])
def test_missing_extension_says_how_to_build_it(python, module):
    name = f"fastgd._compiled.{module}"
    result = python(f"import sys; sys.modules[{name!r}] = None; import fastgd", cpu="baseline")
    assert result.returncode == 1
    last_line = result.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: fastgd is not built")
    assert name in last_line and "pip install ." in last_line


@pytest.mark.parametrize("variant", VARIANTS)
def test_import_leaves_environment_and_floating_point_mode_alone(python, variant):
    result = python(
        """
import ctypes, os
import numpy as np
import sklearn.linear_model

tiny, smallest_normal = np.array([5e-324]), np.array([np.finfo(float).tiny])

def state():
    return {
        "environment": dict(os.environ),
        "errors": np.geterr(),
        "rounding": ctypes.CDLL(None).fegetround(),
        "denormals in, out": ((tiny * 1.0)[0] != 0, (smallest_normal / 4)[0] != 0),
    }

before = state()
import fastgd
assert state() == before, (before, state())
assert before["denormals in, out"] == (True, True)
""",
        cpu=variant,
    )
    assert result.returncode == 0, result.stderr


def test_compiled_modules_are_known_by_no_other_name(python):
    result = python("""
import sys
import fastgd
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
names = [name for name, file in files.items() if "_compiled" in file and "fastgd" in file]
assert len(names) > 5 and all(name.startswith("fastgd._compiled") for name in names), names
""")
    assert result.returncode == 0, result.stderr
