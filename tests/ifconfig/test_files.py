"""Files of words: their names, and what can be wrong before the first word."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.words import GOOD, only, write

from pycarp.ifconfig import find_files, parse_file


def test_the_name_of_a_file_is_that_of_the_interface(tmp_path: Path) -> None:
    for file, name in (("ifconfig.carp0", "carp0"), ("hostname.carp3", "carp3"), ("web.conf", "carp101")):
        config = write(tmp_path / file, GOOD)
        assert parse_file(config).require().name == name
    assert parse_file(tmp_path / "web.conf", name="web0").require().name == "web0"
    found = only(parse_file(write(tmp_path / "ifconfig.carp0 (copy)", GOOD)))
    assert "not an interface name" in found.message and found.line is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, part in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "directory"),
        (Path("x\0y"), "not a file name"),
        (write(tmp_path / "binary", b"\x7fELF\0\0"), "not a text file"),
        (write(tmp_path / "huge", b"#" * (1 << 21)), "not a text file"),
    ):
        found = only(parse_file(path))
        assert part in found.message
        assert found.source == str(path)
        assert (found.line, found.column) == (None, None)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path / "ifconfig.carp0", GOOD, 0)

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    assert "permission denied" in only(parse_file(config)).message


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    found = only(parse_file(write(tmp_path / "latin1", "vhid 1\npass möt".encode("latin-1"))))
    assert (found.line, found.column) == (2, 7)
    assert "UTF-8" in found.message
    assert parse_file(write(tmp_path / "bom", b"\xef\xbb\xbf" + GOOD.encode())).host is not None


def test_files_of_a_directory(tmp_path: Path) -> None:
    for name in ("carp10", "carp2", "carp0", "carp0~", "carp0.bak", "carp0.dpkg-old", "carpweb", "wm0"):
        write(tmp_path / f"ifconfig.{name}", GOOD)
    found, leftovers = find_files(tmp_path)
    assert [path.name for path in found] == [f"ifconfig.{n}" for n in ("carp0", "carp2", "carp10", "carpweb")]
    assert {path.name for path in leftovers} == {"ifconfig.carp0~", "ifconfig.carp0.bak", "ifconfig.carp0.dpkg-old"}
    assert find_files(tmp_path / "none") == ([], [])
