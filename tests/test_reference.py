"""docs/reference.md is what docs/make_reference.py would write today."""

import importlib.util
import re
from pathlib import Path

import pytest

import fastgd

DOCS = Path(__file__).parent.parent / "docs"
spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
make_reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_reference)
PAGE = make_reference.PAGE.read_text()
ADVICE = "docs/reference.md is out of date: run python docs/make_reference.py"


def written(module):
    """The section of a module as it stands in the page."""
    match = re.search(rf"^## {re.escape(module)}\n.*?(?=^## |\Z)", PAGE, re.M | re.S)
    return match[0].rstrip() if match else None


def section_or_skip(module):
    try:
        return make_reference.section(module)
    except ImportError as error:
        if str(error.name).startswith("fastgd"):  # not an extra that is missing
            raise
        pytest.skip(f"{module} needs an extra: {error}")


@pytest.mark.parametrize("module", make_reference.modules())
def test_a_module_stands_in_the_reference_as_its_docstrings_have_it(module):
    assert section_or_skip(module).rstrip() == written(module), ADVICE


def test_the_page_has_the_public_modules_and_no_others():
    assert re.findall(r"^## (\S+)$", PAGE, re.M) == make_reference.modules(), ADVICE


def test_the_whole_page_is_up_to_date():
    sections = {module: section_or_skip(module) for module in make_reference.modules()}
    assert make_reference.page(sections) == PAGE, ADVICE


def test_every_parameter_has_a_place():
    section = make_reference.section("fastgd")
    for estimator in (fastgd.GDRegressor, fastgd.GDClassifier):
        text = re.search(rf"^### {estimator.__name__}\n.*?(?=^### |\Z)", section, re.M | re.S)[0]
        documented = re.findall(r"`(\w+)`", " ".join(re.findall(r"^- (`.*?`) : ", text, re.M)))
        assert set(documented) >= set(estimator().get_params())


def test_docstrings_become_lists_and_fences():
    text = """One line with ``code``.

    Parameters
    ----------
    a, b : float or {"x", "y"}, default=1.0
        First line
        and second.

    Returns
    -------
    self

    Examples
    --------
    >>> 1 + 1
    2
    """
    blocks = make_reference.docstring(make_reference.inspect.cleandoc(text))
    assert blocks[0] == "One line with `code`."
    item = '- `a`, `b` : float or {"x", "y"}, default=1.0.\n  First line\n  and second.'
    assert blocks[1:3] == ["**Parameters**", item]
    assert blocks[3:] == ["**Returns**", "- `self`", "**Examples**", "```\n>>> 1 + 1\n2\n```"]
