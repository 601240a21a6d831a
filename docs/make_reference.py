"""docs/reference.md from the docstrings: every public module of fastgd, and every public name in it.

    python docs/make_reference.py        rewrites reference.md; needs the extras plot and dask

Signatures come from `inspect`, texts from the docstrings, whose sections (numpydoc) become lists. A test
fails while the page differs from what this script would write.
"""

import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import fastgd

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Every public name, from its docstring; written by `docs/make_reference.py`. Estimators and searches also have
the methods that scikit-learn gives them (`score`, `get_params`, `set_params`, `set_callbacks`, ...).
"""
# sections whose entries are `name : type`, and a text below
LISTS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "See Also")


def modules():
    """Names of the public modules, the package itself first."""
    found = sorted(module.name for module in pkgutil.iter_modules(fastgd.__path__))
    return ["fastgd", *(f"fastgd.{name}" for name in found if not name.startswith("_"))]


def page(sections):
    return "\n".join([HEAD, *contents(sections), *sections.values()]).rstrip() + "\n"


def contents(sections):
    for name, section in sections.items():
        titles = re.findall(r"^### (.+)$", section, re.M)
        links = ", ".join(f"[{title.rpartition('.')[2]}](#{anchor(title)})" for title in titles)
        yield f"- [{name}](#{anchor(name)}): {links}"
    yield ""


def anchor(title):
    """How GitHub names a heading in links."""
    return re.sub(r"[^\w-]", "", title.lower())


def section(module_name):
    """Markdown of a module."""
    module = importlib.import_module(module_name)
    parts = [f"## {module_name}", prose(inspect.getdoc(module))]
    for name in public_names(module):
        thing = getattr(module, name)
        title = f"{module_name}.{name}".removeprefix("fastgd.")
        parts += [f"### {title}", *entry(thing, name)]
        if inspect.isclass(thing):
            for method_name, method in methods(thing):
                parts += [f"#### {title}.{method_name}", *entry(method, method_name)]
    return "\n\n".join(part for part in parts if part) + "\n"


def public_names(module):
    """Those of __all__ but for modules, which have sections of their own; errors last."""

    def is_error(name):
        thing = getattr(module, name)
        return inspect.isclass(thing) and issubclass(thing, Exception)

    names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    return sorted(names, key=lambda name: (is_error(name), name))


def methods(cls):
    """Public methods that fastgd wrote itself, in the order of the source."""
    written = {}
    for base in reversed(cls.__mro__):
        for name in vars(base):
            method = getattr(cls, name, None)
            module = getattr(method, "__module__", None) or ""
            if name[0] != "_" and module.startswith("fastgd.") and module != "fastgd._callbacks":
                written[name] = method
    return written.items()


def entry(thing, name):
    """Signature and docstring, a list of Markdown blocks."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return [prose(inspect.getdoc(thing))]
    return [f"```\n{signature(thing, name)}\n```", *docstring(inspect.getdoc(thing) or "")]


def signature(thing, name):
    """Without self and annotations, on as many lines as it takes."""
    empty = inspect.Parameter.empty
    found = inspect.signature(thing)
    parameters = [p.replace(annotation=empty) for p in found.parameters.values() if p.name != "self"]
    line = f"{name}{found.replace(parameters=parameters, return_annotation=empty)}"
    return textwrap.fill(line, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def docstring(text):
    """Markdown blocks of a numpydoc docstring."""
    pieces = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.M)
    blocks = [prose(pieces[0])]
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        render = items if title in LISTS else prose
        blocks += [f"**{title}**", render(body)]
    return blocks


def items(text):
    """A list of `name : type` and indented descriptions."""
    lines = []
    for item in re.split(r"\n(?=\S)", text.strip("\n")):
        first, _, rest = item.partition("\n")
        names, colon, kind = first.partition(" : ")
        names = ", ".join(f"`{name}`" for name in names.split(", "))
        end = "." if colon and rest.strip() else ""
        lines.append(f"- {names}{colon}{literals(kind)}{end}")
        lines += textwrap.indent(prose(textwrap.dedent(rest)), "  ").splitlines()
    return "\n".join(lines)


def prose(text):
    """Paragraphs; doctests become blocks without a language: they are run where they come from."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        doctest = block.lstrip().startswith(">>>")
        blocks.append(f"```\n{block}\n```" if doctest else literals(block))
    return "\n\n".join(blocks)


def literals(text):
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page({name: section(name) for name in modules()}))
