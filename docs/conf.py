"""Sphinx's settings for the site.

    python -m sphinx -n -W -b html docs build/site

The pages of the commands and of the words are made from the help texts and from the tables, as the man pages are.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "tools")]

from man_pages import pages, title  # noqa: E402

import pycarp  # noqa: E402
from pycarp.events import Event  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "pycarp"
author = copyright = "the pycarp authors"
version = release = pycarp.__version__
html_title = f"pycarp {version}"
html_theme = "furo"
templates_path: list[str] = []
suppress_warnings = ["ref.python"]  # two classes are called Engine

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx.ext.viewcode"]
myst_heading_anchors = 4
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}
default_role = "code"
autodoc_default_options = {"member-order": "bysource", "exclude-members": "__init__,__new__"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True

_MADE = HERE / "made"
"""What is written here is in no commit."""
_BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_ITEM = re.compile(r"^( *)([`*\w][\w`*., ]*?) {2,}(\S.*)$")


def setup(app: Sphinx) -> None:
    """Sphinx calls it first."""
    _write_pages()
    app.connect("source-read", _within_the_site)
    app.connect("autodoc-skip-member", _only_classes)
    app.connect("autodoc-process-docstring", _as_lists)


def _write_pages() -> None:
    """The reference of the commands and of the words, and what stands beside README."""
    _MADE.mkdir(exist_ok=True)
    for (name, section, _), text in pages():
        heading = title(name, section)
        _write(f"{name}.rst", f"{heading}\n{'#' * len(heading)}\n\n{text}")
    for name in _BESIDE:
        text = (HERE.parent / name).read_text("utf-8")
        _write(name, text.replace("](docs/", "](../").replace("](README.md", "](../index.md"))


def _write(name: str, text: str) -> None:
    path = _MADE / name
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def _within_the_site(_app: Sphinx, _page: str, source: list[str]) -> None:
    for name in _BESIDE:
        source[0] = source[0].replace(f"](../{name}", f"](made/{name}")


def _only_classes(_app: Sphinx, what: str, _name: str, member: object, _skip: bool, _options: object) -> bool | None:
    """What makes events is none, nor are the texts of their sentences."""
    return True if what == "module" and not isinstance(member, type) else None


def _as_lists(_app: Sphinx, _what: str, _name: str, member: object, _options: object, lines: list[str]) -> None:
    """Our docstrings have two columns, names and what they are; to docutils that is a definition list.

    An event tells its severity and its sentence as well.
    """
    if isinstance(member, type) and issubclass(member, Event) and member.says:
        lines += ["", f"*{member.severity}*: ``{member.says}``"]
    made: list[str] = []
    margin = -1
    for line in lines:
        item = _ITEM.match(line)
        if item is not None and (margin < 0 or len(item[1]) == margin):
            margin = len(item[1])
            if made and made[-1] and not made[-1].startswith(item[1] + "    "):
                made.append("")
            made += [f"{item[1]}{item[2]}", f"{item[1]}    {item[3]}"]
        elif margin >= 0 and line.strip() and len(line) - len(line.lstrip()) > margin:
            made.append(" " * (margin + 4) + line.strip())
        else:
            if margin >= 0 and line.strip() and made and made[-1]:
                made.append("")
            margin = -1
            made.append(line)
    lines[:] = made
