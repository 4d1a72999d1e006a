"""What the documents name is there: paths, links, and the files that commands run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TOP = {path.name for path in ROOT.iterdir() if path.is_dir()}
SUFFIXES = {".py", ".pyx", ".pxd", ".pxi", ".c", ".h", ".md", ".toml", ".yml"}
ELSEWHERE = {"sys/netinet/ip_carp.c", "ip_carp.c"}
"""Files of other projects that the documents name."""
PATH = re.compile(r"\.?[\w-][\w.-]*(/[\w.-]+)*/?")
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\bpython3? .*")
FENCE = "```"


def split(document: Path) -> tuple[list[str], list[str]]:
    """The lines of prose, and the lines of code blocks, fenced or indented."""
    prose, code, inside = [], [], False
    for line in document.read_text("utf-8").splitlines():
        if line.startswith(FENCE):
            inside = not inside
        else:
            (code if inside or line.startswith("    ") else prose).append(line)
    return prose, code


def looks_like_a_path(text: str) -> bool:
    if not PATH.fullmatch(text) or text in ELSEWHERE:
        return False
    if "/" in text:
        return text.partition("/")[0] in TOP or Path(text).suffix in SUFFIXES
    return Path(text).suffix in SUFFIXES


def exists(text: str) -> bool:
    """A path from the checkout's root or, without a folder, the name of a file anywhere in it."""
    if "/" in text:
        return (ROOT / text).exists()
    trees = ("benchmarks", "docs", "ext", "src", "tests", "tools")
    return (ROOT / text).exists() or any(next((ROOT / tree).rglob(text), None) for tree in trees)


def anchors(document: Path) -> set[str]:
    """What a link may point to inside a document, as GitHub names it."""
    headings = (line.lstrip("#").strip() for line in split(document)[0] if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_links(document: Path) -> Iterator[str]:
    for target in LINK.findall("\n".join(split(document)[0])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield target


def missing_in_commands(document: Path) -> Iterator[str]:
    for line in split(document)[1]:
        for command in COMMAND.findall(line.partition("#")[0]):
            words = command.split()
            modules = [following for word, following in pairwise(words) if word == "-m"]
            paths = [f"src/{name.replace('.', '/')}" for name in modules if name.split(".")[0] == "pycarp"]
            paths = [path if (ROOT / path).is_dir() else f"{path}.py" for path in paths]
            yield from (path for path in paths if not exists(path))
            yield from (word for word in words if looks_like_a_path(word) and not exists(word))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_is_there(document: Path) -> None:
    prose, _code = split(document)
    named = [text for line in prose for text in INLINE.findall(line)]
    assert [text for text in named if looks_like_a_path(text) and not exists(text)] == []
    assert list(missing_links(document)) == []
    assert list(missing_in_commands(document)) == []


def tree() -> set[str]:
    """The files that the tree in architecture.md names: names, two spaces, what they are; folders end with a slash."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8").partition("<!-- tree -->")[2]
    folders: list[str] = []
    files: set[str] = set()
    for line in text.split(FENCE)[1].splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        del folders[depth:]
        for name in line.strip().partition("  ")[0].split():
            if name.endswith("/"):
                folders.append(name)
            else:
                files.add("".join(folders) + name)
    return files


def test_the_tree_in_architecture_names_every_source_file() -> None:
    found = {path for top in ("src/pycarp", "ext") for path in (ROOT / top).rglob("*") if path.suffix in SUFFIXES}
    generated = {path for path in found if path.suffix == ".c" and path.parent == ROOT / "ext"}
    assert {path.relative_to(ROOT).as_posix() for path in found - generated} == tree()


def test_the_documents_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "architecture.md", "glossary.md"} <= {path.name for path in DOCUMENTS}
