"""Asserts what is in wheels and sdists: all that belongs there, and nothing else.

    python tools/check_artifacts.py [--pure | --native] dist/*

What belongs there is read from the source tree around this file, so that a new file that was forgotten in MANIFEST.in
or in pyproject.toml shows. `--native` demands wheels with every extension module and the guardian, `--pure` wheels
without any; without either, a wheel may be one or the other, by its tag. One line for each fault; exit code 1 if there
was any.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pycarp"
NATIVE = f"{PACKAGE}/_native"
PROGRAM = f"{NATIVE}/guardian"
"""What is built beside the extension modules: it must be executable, and stands in no sdist."""
TOP_LEVEL = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md", "SECURITY.md")
BUILD = ("pyproject.toml", "setup.py")
"""Files of the source tree's top that an sdist holds."""
TREES = ("benchmarks", "docs", "examples", "ext", "packaging", "src", "tests", "tools")
"""Directories of the source tree that an sdist holds, but for what is generated there."""
LARGEST = 840_000
"""Bytes of a wheel. One with debugging information has three million."""
GENERATED = {".so", ".pyc", ".pyo", ".pyd", ".o", ".html"}


def version() -> str:
    """The version as src/pycarp/_version.py has it, without importing anything."""
    for statement in ast.parse((ROOT / "src" / PACKAGE / "_version.py").read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
            return str(ast.literal_eval(statement.value))
    raise SystemExit("src/pycarp/_version.py has no __version__")


def extension_modules() -> set[str]:
    """The names of the extension modules: each .pyx in ext is one."""
    return {path.stem for path in (ROOT / "ext").rglob("*.pyx")}


def is_generated(path: PurePosixPath) -> bool:
    """Whether a file is a compiler's, an interpreter's or the site's, not a person's."""
    if path.suffix in GENERATED or any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts):
        return True
    if path.parts[:2] == ("docs", "made"):
        return True
    return path == PurePosixPath("src", PROGRAM) or (path.suffix == ".c" and path.parts[:-1] == ("ext",))


def source_files(*trees: str) -> set[str]:
    """The files of the given directories that a person wrote, relative to the source tree."""
    files = (path for tree in trees for path in (ROOT / tree).rglob("*") if path.is_file())
    names = (PurePosixPath(path.relative_to(ROOT).as_posix()) for path in files)
    return {str(name) for name in names if not is_generated(name) and not name.name.startswith(".")}


def differences(found: Iterable[str], expected: Iterable[str]) -> Iterator[str]:
    """One line for each name that is missing and each that is too much."""
    have, want = set(found), set(expected)
    yield from (f"missing: {name}" for name in sorted(want - have))
    yield from (f"does not belong: {name}" for name in sorted(have - want))


def metadata_faults(metadata: Message) -> Iterator[str]:
    """What is wrong with METADATA or PKG-INFO."""
    expected = {
        "Name": PACKAGE,
        "Version": version(),
        "License-Expression": "BSD-2-Clause",
        "Requires-Python": ">=3.11",
    }
    for key, value in expected.items():
        if metadata[key] != value:
            yield f"metadata: {key} is {metadata[key]!r}, not {value!r}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    if extras := set(project["optional-dependencies"]) - set(metadata.get_all("Provides-Extra", [])):
        yield f"metadata: no extra {', '.join(sorted(extras))}"
    unconditional = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    if unconditional:
        yield f"metadata: the run-time dependencies are {unconditional}, where there should be none"
    if not str(metadata.get_payload()).strip():
        yield "metadata: no long description (README.md)"


def wheel_faults(path: Path, native: bool | None) -> Iterator[str]:
    """What is wrong with a wheel; `native`: whether it must, must not, or may hold the extension modules."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        executable = {one.filename for one in archive.infolist() if one.external_attr >> 16 & 0o111 == 0o111}
        info = f"{PACKAGE}-{version()}.dist-info"
        try:
            metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode("utf-8"))
            entry_points = archive.read(f"{info}/entry_points.txt").decode("utf-8")
            tags = Parser().parsestr(archive.read(f"{info}/WHEEL").decode("utf-8")).get_all("Tag", [])
        except KeyError as error:
            yield str(error.args[0])
            return

    yield from metadata_faults(metadata)
    if (size := path.stat().st_size) > LARGEST:
        yield f"{size} bytes, {LARGEST} are enough: was it built with debugging information?"
    if f"{PACKAGE} = {PACKAGE}.cli:main" not in entry_points:
        yield "no console script"

    compiled = [PurePosixPath(name) for name in names if PurePosixPath(name).suffix in (".so", ".pyd")]
    if native is None:
        native = "py3-none-any" not in tags
    if native and "py3-none-any" in tags:
        yield "a wheel with extension modules is tagged for any machine"
    if not native and "py3-none-any" not in tags:
        yield f"a wheel without extension modules is tagged {', '.join(tags)}"
    modules = [str(module.parent / module.name.split(".")[0]) for module in compiled]
    yield from differences(modules, {f"{NATIVE}/{name}" for name in extension_modules()} if native else ())
    if native and PROGRAM in names and PROGRAM not in executable:
        yield f"not executable: {PROGRAM}"

    meta = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt")}
    meta.add(f"{info}/licenses/LICENSE")
    meta |= {
        f"{PACKAGE}-{version()}.data/data/share/{place}" for place in map(_shared, source_files("packaging")) if place
    }
    python = {name.removeprefix("src/") for name in source_files("src")}
    if native:
        meta.add(PROGRAM)
    rest = {name for name in names if PurePosixPath(name) not in compiled}
    # cibuildwheel's repair adds a bill of materials where it copied a library in.
    yield from differences({name for name in rest if not name.startswith(f"{info}/sboms/")}, python | meta)
    if f"{PACKAGE}/py.typed" not in names:
        yield "no py.typed"


def _shared(name: str) -> str:
    """Where a file of packaging/ is put below share/; "" if it is for building alone."""
    path = PurePosixPath(name).relative_to("packaging")
    if path.parts[0] == "man":
        return f"man/man{path.suffix[1:]}/{path.name}"
    return "" if path.parts[0] == "debian" else f"{PACKAGE}/{path}"


def sdist_faults(path: Path) -> Iterator[str]:
    """What is wrong with an sdist."""
    prefix = f"{PACKAGE}-{version()}"
    with tarfile.open(path) as archive:
        names = [entry.name for entry in archive.getmembers() if entry.isfile()]
        if outside := [name for name in names if not name.startswith(f"{prefix}/")]:
            yield f"outside of {prefix}/: {', '.join(outside)}"
            return
        information = archive.extractfile(f"{prefix}/PKG-INFO")
        assert information is not None
        yield from metadata_faults(Parser().parsestr(information.read().decode("utf-8")))

    found = {name.removeprefix(f"{prefix}/") for name in names}
    made = {name for name in found if name in ("PKG-INFO", "setup.cfg") or name.startswith(f"src/{PACKAGE}.egg-info/")}
    yield from differences(found - made, {*TOP_LEVEL, *BUILD, *source_files(*TREES)})


def main(arguments: list[str] | None = None) -> int:
    """Check the files named on the command line; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--native", dest="native", action="store_const", const=True, help="wheels with extension modules")
    kind.add_argument("--pure", dest="native", action="store_const", const=False, help="wheels without any")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="*.whl or *.tar.gz")
    options = parser.parse_args(arguments)

    faulty = False
    for path in options.files:
        faults = list(wheel_faults(path, options.native) if path.suffix == ".whl" else sdist_faults(path))
        for fault in faults:
            print(f"{path.name}: {fault}", file=sys.stderr)
        print(f"{path.name}: {'NOT as it should be' if faults else 'as it should be'}")
        faulty = faulty or bool(faults)
    return int(faulty)


if __name__ == "__main__":
    raise SystemExit(main())
