"""Every Python block of docs/*.md runs as it stands, by itself, and prints what it says.

A block with prompts (>>>) is a doctest; any other runs without a warning. A block of a package that is not
installed is skipped. Only fences marked `python`, with nothing after it, are run.
"""

import ast
import doctest
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(page):
    """(heading above, number of the first line, code) of every Python block."""
    heading, code, start = "", None, 0
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if code is not None:
            if line.rstrip() == "```":
                yield heading, start, "\n".join(code) + "\n"
                code = None
            else:
                code.append(line)
        elif line.rstrip() == "```python":
            code, start = [], number + 1
        elif match := re.match(r"#+ (.+)", line):
            heading = match[1]
    assert code is None, f"{page.name}: the block at line {start} is not closed"


BLOCKS = [
    pytest.param(page.name, start, code, id=f"{page.stem}:{start} {heading}")
    for page in sorted(DOCS.glob("*.md"))
    for heading, start, code in blocks(page)
]


def skip_without_its_packages(code):
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if find_spec(name.split(".")[0]) is None:
                pytest.skip(f"{name} is not installed")


def run(page, start, code):
    """Raises where the block does, or prints something else than it says."""
    examples = doctest.DocTestParser().get_doctest(code, {"__name__": page}, page, page, start - 1)
    if not examples.examples:
        skip_without_its_packages(code)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(compile("\n" * (start - 1) + code, page, "exec"), {"__name__": page})
        return
    skip_without_its_packages("".join(example.source for example in examples.examples))
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("page, start, code", BLOCKS)
def test_block_runs_and_prints_what_it_says(page, start, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where pictures go
    run(page, start, code)


def links(page):
    """Targets of a page's links to files, and of those to headings; code left out."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:", target)]


def anchors(page):
    """Names of a page's headings in links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in links(page):
        file, _, heading = target.partition("#")
        there = page if not file else page.parent / file
        assert there.exists(), f"{page.name} links to {target}"
        assert not heading or heading in anchors(there), f"{page.name} links to {target}"


def test_the_index_has_every_page():
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    assert pages <= set(links(DOCS / "index.md"))


def test_the_pages_have_blocks():
    assert {page.name for page in DOCS.glob("*.md")} >= {"any_function.md"}
    assert len(BLOCKS) >= 15


@pytest.mark.parametrize(
    "code",
    ["assert False\n", "import warnings\nwarnings.warn('w')\n", ">>> print(1 + 1)\n3\n", ">>> 1 / 0\n"],
    ids=["assertion", "warning", "output", "error"],
)
def test_a_wrong_block_is_found_out(code):
    with pytest.raises((AssertionError, UserWarning)):
        run("page.md", 1, code)


def test_a_block_of_a_missing_package_is_skipped():
    with pytest.raises(pytest.skip.Exception):
        run("page.md", 1, ">>> import no_such_package.at_all\n")
