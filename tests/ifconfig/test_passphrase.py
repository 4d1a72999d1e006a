"""Passphrases and passfiles: what is advised, and that none ever comes out in a message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.words import GOOD, SECRET, messages, only, text, words, write

from pycarp.ifconfig import parse_file, parse_words
from pycarp.ifconfig.vocabulary import KNOWN, PUBLIC, REFUSED


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("10.0.0.1/24 vhid 1", ["NO PASSPHRASE", "passfile"]),
        ("10.0.0.1/24 vhid 1 pass elevenchars", ["12 characters"]),
        ("10.0.0.1/24 vhid 1 pass twelve-chars-and-more", ["only the first 19 count"]),
        ("10.0.0.1/24 vhid 1 pass éééééééééé-é", ["only the first 19 count"]),
        ("10.0.0.1/24 vhid 1 pass 0x6d6f74646570", ["hexadecimal"]),
    ],
)
def test_advice_about_passphrases(line: str, parts: list[str]) -> None:
    parsed = words(line)
    assert parsed.host is not None
    found = only(parsed, "warning")
    for part in parts:
        assert part in found.message
    assert found.word is None


def test_good_passphrases_draw_no_advice() -> None:
    for phrase in ("twelve-chars", "nineteen-characters", SECRET):
        assert words(f"vhid 1 10.0.0.1/24 pass {phrase}").diagnostics == ()


def test_an_empty_passphrase_is_a_mistake() -> None:
    found = only(parse_words(["vhid", "1", "10.0.0.1/24", "pass", ""]))
    assert found.column == 5
    assert "empty" in found.message and "leave out 'pass'" in found.message
    assert "empty" in only(text("vhid 1 10.0.0.1/24 pass ''")).message


def test_netbsd_makes_a_zero_key_of_one_character() -> None:
    parsed = words("vhid 1 10.0.0.1/24 dialect netbsd pass x")
    assert any("loses the only character" in d.message for d in parsed.warnings)


def test_the_process_list() -> None:
    parsed = parse_words(GOOD.split())
    assert only(parsed, "warning").column == 3
    assert "passfile" in parsed.warnings[0].message


@pytest.mark.parametrize("line", ["pass", "pass # 123", "pass #123"])
def test_pass_without_a_passphrase(line: str) -> None:
    found = only(text(f"vhid 1 10.0.0.1/24\n{line}"))
    assert (found.line, found.column) == (2, 1)
    assert "'pass' needs a passphrase" in found.message
    assert ("begins with #" in found.message) == ("#" in line)


def test_pass_that_swallowed_a_word() -> None:
    parsed = words("pass vhid 101 10.0.0.1/24")
    assert any("one of ifconfig's own" in d.message for d in parsed.warnings)


def test_pass_twice() -> None:
    found = only(words(f"{GOOD} pass another-passphrase"))
    assert "twice" in found.message


@pytest.mark.parametrize(
    "line",
    [
        "vhid 256 pass {} 10.0.0.1/24",
        "pass {} vhid 1 {} 10.0.0.1/24",
        "pass x {} y vhid 1",
        "pass {} {} {}",
        "vhid {} pass {} 10.0.0.1/24",
        "advskew {} pass {}",
        "pass {} state {} mac {} dialect {} carpdev {} inet {} netmask {}",
        "passwd {} vhid 1",
        "password {}",
        "passphrase {} {}",
        "PASS {}",
        "pss {}",
        "psas {}",
        "-pass {}",
        "--pass {}",
        "--pass={}",
        "pass={}",
        "pass:{}",
        "pass{}",
        "Pass={}",
        "key {}",
        "secret={}",
        "psk {}",
        "passfile {}",
        "pass '{} and more",
        'pass "{}',
        "pass {}$ x",
        "pass '{} and more' pass {}",
        "pass {}-and-longer-than-nineteen passfile {}",
        "vhid 1 pass {} x{}x 10.0.0.1/24 {}/24",
    ],
)
@pytest.mark.parametrize("secret", ["hunter2-hunter2", "s3cr3t", "10.9.8.7x", "zwölf-zeichen"])
def test_no_message_repeats_a_passphrase(line: str, secret: str) -> None:
    written = line.replace("{}", secret)
    for parsed in (parse_words(written.split(), name="carp0"), text(written), text(written + "\n" + written)):
        assert parsed.host is None
        assert parsed.errors
        everything = messages(parsed) + repr(parsed.diagnostics) + repr(parsed) + str(parsed.places)
        assert secret not in everything
        assert repr(secret)[1:-1] not in everything


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=8, max_size=30),
    st.lists(st.sampled_from([*KNOWN, "foo", "10.0.0.1", "999"]), max_size=6),
    st.lists(st.sampled_from([*KNOWN, "bar", "1"]), max_size=6),
)
@example("arbitrat", ["siblings"], [])
@example("carpnode", [], [])
@example("mediaopt", [], [])
def test_no_passphrase_comes_out(secret: str, before: list[str], after: list[str]) -> None:
    # These are words and sentences of our own, whoever's passphrase stands in them.
    assume(not any(secret in own for own in (*PUBLIC, *(remedy for _, remedy in REFUSED.values()))))

    def said(phrase: str) -> str:
        parsed = parse_words([*before, "up", "pass", phrase, *after, phrase], name="carp0")
        return repr(parsed) + messages(parsed)

    # What is said of another passphrase, too, is no secret.
    assume(secret not in said("\N{BLACK CHESS KNIGHT}" * len(secret)))
    assert secret not in said(secret)


def test_a_passphrase_of_several_words_without_quotes() -> None:
    parsed = words("vhid 1 pass correct horse battery 10.0.0.1/24 advskw 3")
    assert len(parsed.errors) == 2
    assert "quote a passphrase that has spaces" in parsed.errors[0].message
    assert "'advskew'" in parsed.errors[1].message
    assert "horse" not in messages(parsed) and "battery" not in messages(parsed)


def test_a_mistyped_word_after_the_passphrase_is_known_by_its_number() -> None:
    found = only(words(f"pass {SECRET} vihd 101 10.0.0.1/24"))
    assert found.column == 3 and "did you mean 'vhid'?" in found.message


def test_a_passphrase_of_the_command_line_that_is_no_text() -> None:
    phrase = os.fsdecode(b"motdepasse\xff\xfehalakon")
    assert (
        parse_words(["vhid", "1", "10.0.0.1/24", "pass", phrase]).require().passphrase == b"motdepasse\xff\xfehalakon"
    )


@pytest.mark.parametrize("content", [SECRET, SECRET + "\n", SECRET + "\r\n", SECRET + "\n\n"])
def test_passfile(tmp_path: Path, content: str) -> None:
    file = write(tmp_path / "carp.pass", content)
    parsed = parse_words(["vhid", "1", "10.0.0.1/24", "passfile", str(file)])
    assert parsed.require().passphrase == SECRET.encode()
    assert parsed.diagnostics == ()


def test_a_relative_passfile_stands_beside_the_file_that_names_it(tmp_path: Path) -> None:
    write(tmp_path / "carp.pass", SECRET)
    config = write(tmp_path / "ifconfig.carp0", "vhid 1 10.0.0.1/24 passfile carp.pass", 0o644)
    parsed = parse_file(config)
    assert parsed.require().passphrase == SECRET.encode()
    assert parsed.diagnostics == ()


@pytest.mark.parametrize(("mode", "readers"), [(0o640, "its group"), (0o644, "everybody"), (0o604, "everybody")])
def test_files_that_others_may_read(tmp_path: Path, mode: int, readers: str) -> None:
    file = write(tmp_path / "carp.pass", SECRET, mode)
    found = only(parse_words(["vhid", "1", "10.0.0.1/24", "passfile", str(file)]), "warning")
    assert f"read by {readers}" in found.message and "chmod 600" in found.message
    config = write(tmp_path / "ifconfig.carp0", f"vhid 1 10.0.0.1/24\npass {SECRET}\n", mode)
    found = only(parse_file(config), "warning")
    assert (found.line, found.column, found.word) == (2, 1, "pass")
    assert f"read by {readers}" in found.message and "chmod 600" in found.message
    write(config, f"vhid 1 10.0.0.1/24\npass {SECRET}\n")
    assert parse_file(config).diagnostics == ()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "no passphrase"),
        ("\n", "no passphrase"),
        ("  \nfoo", "more than a passphrase"),
        ("one\ntwo\n", "one line"),
        (b"a\0b", "NUL"),
        (b"x" * 5000, "more than a passphrase"),
    ],
)
def test_bad_passfiles(tmp_path: Path, content: str | bytes, part: str) -> None:
    file = write(tmp_path / "carp.pass", content)
    found = only(parse_words(["vhid", "1", "10.0.0.1/24", "passfile", str(file)]))
    assert part in found.message and str(file) not in found.message
    assert found.column == 5


def test_passfiles_that_cannot_be_read(tmp_path: Path) -> None:
    for name, part in (
        (str(tmp_path / "none"), "does not exist"),
        (str(tmp_path), "cannot be read"),
        ("x\0/y", "cannot be read"),
        ("", "empty"),
        ("/dev/zero", "more than a passphrase"),
    ):
        found = only(parse_words(["vhid", "1", "10.0.0.1/24", "passfile", name]))
        assert part in found.message
    assert "'passfile' needs the name of a file" in only(words("vhid 1 10.0.0.1/24 passfile")).message
    assert (
        "put ./ before a name that is also a word" in words("vhid 1 passfile pass 10.0.0.1/24").diagnostics[0].message
    )


def test_pass_beside_passfile(tmp_path: Path) -> None:
    file = write(tmp_path / "carp.pass", SECRET)
    assert "twice" in only(words(f"{GOOD} passfile {file}")).message
