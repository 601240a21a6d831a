"""The table of rooms in ARCHITECTURE.md is true: each file is in one room, and knows none to its left."""

import ast
import re
from pathlib import Path

import pytest

import fastgd

ROOMS = ("estimators", "plan", "descent", "problem", "solvers", "kernels")  # from left to right
SHARED = {"__init__", "__main__", "_exceptions"}  # the doors, and what all may raise
PACKAGE = Path(fastgd.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in SHARED)


def rooms():
    """Module -> the rooms that the table has it in; kernels.py is for users, and may name losses."""
    table = (Path(__file__).parent.parent / "ARCHITECTURE.md").read_text()
    found = {}
    for room, files in re.findall(r"^\| (\w[\w ]*) \| ((?:[^|]*`\w+\.py`)[^|]*) \|", table, re.M):
        for module in re.findall(r"`(\w+)\.py`", files):
            found.setdefault(module, []).append(room)
    return found


def imported(module):
    """Modules of the package that a module imports."""
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module] if node.module else [alias.name for alias in node.names]


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_in_one_room_and_looks_to_the_right(module):
    home = rooms()
    assert len(home.get(module, [])) == 1, f"{module}.py is in the rooms {home.get(module)}"
    [room] = home[module]
    if room in ROOMS and module != "kernels":
        for other in imported(module):
            for there in home.get(other, []):
                assert there in ROOMS and ROOMS.index(there) >= ROOMS.index(room), f"{room} knows {other}.py"


def test_the_table_names_no_file_that_is_not_there():
    assert {module for module in rooms()} <= set(MODULES)
