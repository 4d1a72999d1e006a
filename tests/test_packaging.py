"""sdist and wheels as artefacts: what is in them, and what the build's switches do.

Everything is built from a copy of the source tree, by setuptools as pip would call it, without the network.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.artefacts import ROOT, build, copy_of_source

import pycarp
from pycarp import _impl

CHECK = ROOT / "tools" / "check_artifacts.py"


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CHECK, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source tree that a build may write into."""
    return copy_of_source(tmp_path / "tree")


def broken(tree: Path) -> Path:
    """The same tree with a module that no compiler takes, as where there is none: the build stops at once."""
    for source in (tree / "ext").rglob("*.pyx"):
        source.write_text("cdef extern from 'there-is-no-such-header.h':\n    pass\n")
    for declarations in (tree / "ext").rglob("*.pxd"):
        declarations.unlink()
    return tree


def hollow(tree: Path) -> Path:
    """The same tree with modules that have nothing in them, and are built in no time."""
    for source in (tree / "ext").rglob("*.pyx"):
        source.write_text("nothing = 0\n")
    for declarations in (tree / "ext").rglob("*.pxd"):
        declarations.unlink()
    return tree


@pytest.mark.slow
def test_sdist_holds_all_sources_and_builds_itself(tree: Path, tmp_path: Path) -> None:
    sdist, _ = build(tree, "sdist")
    checked = check(sdist)
    assert checked.returncode == 0, checked.stderr
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again, _ = build(unpacked, "sdist")
    assert again.name == sdist.name
    with tarfile.open(sdist) as first, tarfile.open(again) as second:
        assert sorted(first.getnames()) == sorted(second.getnames())


def test_without_extensions_the_wheel_is_pure_and_fits_any_machine(tree: Path) -> None:
    wheel, said = build(tree, "wheel", PYCARP_NO_EXTENSIONS="1", PYCARP_REQUIRE_EXTENSIONS="1", CC="false")
    assert wheel.name.endswith("-0pure-py3-none-any.whl")
    assert "PURE PYTHON" not in said  # it was asked for
    checked = check("--pure", wheel)
    assert checked.returncode == 0, checked.stderr
    with zipfile.ZipFile(wheel) as archive:
        modules = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    assert len(modules) > 200
    for name, packed in modules.items():
        assert in_lines((tree / "src" / name).read_bytes()) == in_lines(packed), name
    # What `help()` of a public name shows is there, a room's own notes are not.
    assert b"Prepare device and sockets, and take nothing yet" in modules["pycarp/engine/owner.py"]
    assert b'\n"""' not in modules["pycarp/engine/backoff.py"]


def in_lines(source: bytes) -> list[tuple[int, str]]:
    """The statements of a module but for those that are nothing but a text, each with its line."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [one for one in body if not isinstance(one, ast.Expr) or not isinstance(one.value, ast.Constant)]
    return [(node.lineno, ast.dump(node)) for node in ast.walk(tree) if isinstance(node, ast.stmt)]


@pytest.mark.slow
def test_a_failed_compile_leaves_a_pure_wheel_and_says_so(tree: Path) -> None:
    wheel, said = build(broken(tree), "wheel")
    assert "PURE PYTHON" in said
    assert wheel.name.endswith("-0pure-py3-none-any.whl")  # pip shows the name
    checked = check("--pure", wheel)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.slow
def test_two_builds_are_the_same_byte_by_byte(tree: Path, tmp_path: Path) -> None:
    """In directories of different names, by people with different umasks, one later than the other."""
    other = shutil.copytree(hollow(tree), tmp_path / "another" / "and longer", copy_function=shutil.copy)
    for path in other.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    flags = {"SOURCE_DATE_EPOCH": "1700000000", "PYCARP_REQUIRE_EXTENSIONS": "1"}
    # The modules are hollow, the guardian is the real one.
    wheels = [build(each, "wheel", umask, **flags)[0] for each, umask in ((tree, 0o022), (other, 0o077))]
    sources = [build(each, "sdist", umask, **flags)[0] for each, umask in ((tree, 0o022), (other, 0o077))]
    assert sources[0].name == sources[1].name
    assert sources[0].read_bytes() == sources[1].read_bytes()
    assert wheels[0].name == wheels[1].name
    assert not wheels[0].name.endswith("-none-any.whl")
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as archive:
        (bill,) = (json.loads(archive.read(name)) for name in archive.namelist() if "/sboms/" in name)
        assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/pycarp@{pycarp.__version__}"
        assert bill["dependencies"] == [{"ref": "pycarp", "dependsOn": ["cython"]}]
        native = {name: archive.read(name) for name in archive.namelist() if name.startswith("pycarp/_native/")}
    assert "pycarp/_native/guardian" in native
    for name, content in native.items():
        assert str(tree).encode() not in content, name
        assert b".symtab" not in content and b".debug_info" not in content, (
            name
        )  # section names of what is not stripped


@pytest.mark.slow
def test_a_failed_compile_is_fatal_where_extensions_are_required(tree: Path) -> None:
    with pytest.raises(RuntimeError):
        build(broken(tree), "wheel", PYCARP_REQUIRE_EXTENSIONS="1")


def test_the_tool_sees_what_is_missing_and_what_is_too_much(tree: Path, tmp_path: Path) -> None:
    wheel, _ = build(tree, "wheel", PYCARP_NO_EXTENSIONS="1")
    spoilt = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(spoilt, "w") as target:
        for name in source.namelist():
            if name != "pycarp/py.typed":
                target.writestr(name, source.read(name))
        target.writestr("pycarp/left_over.c", "int x;")
    checked = check(spoilt)
    assert checked.returncode == 1
    assert "missing: pycarp/py.typed" in checked.stderr
    assert "does not belong: pycarp/left_over.c" in checked.stderr
    assert check("--native", wheel).returncode == 1


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("name", ["pycarp.service", "pycarp@.service"])
def test_systemd_takes_the_unit(tmp_path: Path, name: str) -> None:
    unit = tmp_path / name.replace("@", "@carp0")
    text = (ROOT / "packaging" / "systemd" / name).read_text().replace("Documentation=", "#")
    unit.write_text(text.replace("/usr/local/bin/pycarp", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    # It looks at every unit of the machine that this one needs.
    assert [line for line in done.stderr.splitlines() if "pycarp" in line] == []
    unit.write_text(text.replace("KillMode=process", "KillMode=procesz"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert unit.name in done.stderr


def test_networkd_is_told_of_every_mac_of_a_virtual_host() -> None:
    from pycarp.protocol.frames import virtual_mac

    lines = (ROOT / "packaging" / "networkd" / "10-pycarp.network").read_text().splitlines()
    named = [mac for line in lines if line.startswith("MACAddress=") for mac in line.partition("=")[2].split()]
    assert named == [virtual_mac(vhid).hex(":") for vhid in range(1, 256)]


def test_importing_the_package_needs_no_extra() -> None:
    """click and rich are extras, the rest is for tests: `import pycarp` imports none of them."""
    code = (
        "import sys, pycarp, pycarp.aio\n"
        "extras = {'click', 'rich', 'scapy', 'pytest', 'hypothesis', 'Cython'}\n"
        "print(*sorted(extras & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_version_is_the_same_everywhere() -> None:
    try:
        installed = importlib.metadata.version("pycarp")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("run from the source tree, not installed")
    assert installed == pycarp.__version__


@pytest.mark.skipif(not shutil.which("nm"), reason="no nm on this machine")
def test_extension_modules_show_no_symbol_but_their_entry_point(impl: _impl.Implementation) -> None:
    """What a module carries in C is its own: not the process's, nor replaced by what the process has."""
    if impl.name != "native":
        pytest.skip("nothing compiled")
    from pycarp._native import packet

    modules = sorted(Path(packet.__file__).parent.glob("*.so"))
    assert {path.name.split(".")[0] for path in modules} == {path.stem for path in (ROOT / "ext").rglob("*.pyx")}
    for path in modules:
        command = ["nm", "--dynamic", "--defined-only", "--format=just-symbols", str(path)]
        symbols = set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())
        assert symbols - {"_init", "_fini"} == {f"PyInit_{path.name.split('.')[0]}"}


@pytest.mark.skipif(sys.platform != "linux", reason="the guardian is for Linux")
@pytest.mark.slow
def test_a_native_wheel_holds_the_guardian_as_a_program(tree: Path, tmp_path: Path) -> None:
    wheel, _ = build(hollow(tree), "wheel", PYCARP_REQUIRE_EXTENSIONS="1", CFLAGS="-O1 -g0")
    checked = check("--native", wheel)
    assert checked.returncode == 0, checked.stderr
    # Without the bit nobody could start it.
    spoilt = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(spoilt, "w") as target:
        for one in source.infolist():
            if one.filename == "pycarp/_native/guardian":
                one.external_attr = 0o644 << 16
            target.writestr(one, source.read(one.filename))
    assert "not executable: pycarp/_native/guardian" in check(spoilt).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the guardian is for Linux")
@pytest.mark.slow
def test_a_program_that_cannot_be_built_leaves_a_pure_wheel_too(tree: Path) -> None:
    """All or nothing: modules without the guardian that they start would be neither."""
    (hollow(tree) / "ext" / "guardian" / "main.c").write_text("#error nothing\n")
    wheel, said = build(tree, "wheel", CFLAGS="-O1 -g0")
    assert "PURE PYTHON" in said
    checked = check("--pure", wheel)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(not shutil.which("nm"), reason="no nm on this machine")
def test_the_guardian_needs_the_c_library_alone(impl: _impl.Implementation) -> None:
    if impl.name != "native":
        pytest.skip("nothing compiled")
    from pycarp._native import spawn

    program = Path(spawn.__file__).with_name("guardian")
    assert os.access(program, os.X_OK)
    if os.environ.get("PYCARP_SANITIZE") or b"__asan_init" in program.read_bytes():
        pytest.skip("a sanitizer brings its own library")
    command = ["nm", "--dynamic", "--undefined-only", str(program)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    versions = {line.split("@")[1].split("_")[0].split(".")[0] for line in listed.splitlines() if "@" in line}
    assert versions <= {"GLIBC"}  # musl has none


def test_workflows_name_actions_by_their_commit() -> None:
    """A tag can be moved to another commit by whoever owns the action, or steals it."""
    workflows = ROOT / ".github" / "workflows"
    if not workflows.exists():
        pytest.skip("not in an sdist")
    used = [line for path in workflows.glob("*.yml") for line in path.read_text().splitlines() if "uses:" in line]
    assert used and [line for line in used if not re.search(r"uses: [\w/.-]+@[0-9a-f]{40} # v[\d.]+$", line)] == []
