"""How the lines of a file become words with places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.words import SECRET, only, text

from pycarp import VirtualHost


def test_the_lines_of_a_file_add_up() -> None:
    parsed = text(
        "# the address of the mission\n"
        "create\n"
        "\n"
        f"\tvhid 101 \\\n   pass {SECRET}   # and here\n"
        "inet 10.13.37.42 netmask 255.255.255.0\r\n"
        "inet6 2001:db8::42 prefixlen 64 alias\n"
        "up"
    )
    assert parsed.require() == VirtualHost(
        vhid=101, passphrase=SECRET, addresses=["10.13.37.42/24", "2001:db8::42/64"], name="carp0"
    )
    assert parsed.diagnostics == ()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'with some spaces'", "with some spaces"),
        ('"with \\"quotes\\" and \\a"', 'with "quotes" and \\a'),
        ("with\\ some\\ spaces", "with some spaces"),
        ("half'quoted 'only\" so\"", "halfquoted only so"),
        ("'#no-comment-here'", "#no-comment-here"),
        ("no#comment-here", "no#comment-here"),
        ("'$literally $(this)'", "$literally $(this)"),
        ("mötdépässe-halakön", "mötdépässe-halakön"),
        ("'broken \\\nover two lines'", "broken over two lines"),
    ],
)
def test_quoting_is_that_of_the_shell(written: str, meant: str) -> None:
    parsed = text(f"vhid 1 10.0.0.1/24 pass {written}")
    assert parsed.require().passphrase == meant
    assert [d for d in parsed.diagnostics if "bytes" not in d.message] == []


def test_words_are_not_cut_at_unicode_line_ends() -> None:
    assert text("vhid 1 10.0.0.1/24 pass 'long\u2028enough\x85phrase'").host is not None


def test_places_in_a_file() -> None:
    parsed = text("create\n\tvhid 101 \\\n  pass x advskew \\\n  300")
    found = next(d for d in parsed.errors if "advskew" in d.message)
    assert (found.line, found.column, found.word) == (4, 3, "300")
    assert str(found).startswith("/etc/ifconfig.carp0:4:3: error: advskew 300")
    assert found.as_dict() == {
        "source": "/etc/ifconfig.carp0",
        "line": 4,
        "column": 3,
        "word": "300",
        "severity": "error",
        "message": found.message,
    }


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quotation_without_end(quote: str) -> None:
    found = only(text(f"vhid 1 10.0.0.1/24\npass {quote}{SECRET} up\nup"))
    assert (found.line, found.column, found.word) == (2, 6, None)
    assert "does not end" in found.message
    assert SECRET not in str(found)


def test_characters_that_a_shell_would_act_upon() -> None:
    parsed = text("vhid 1 10.0.0.1/24 pass mot$depasse-halakon")
    assert parsed.require().passphrase == "mot$depasse-halakon"
    found = only(parsed, "warning")
    assert "$" in found.message and "single quotes" in found.message
    assert only(text('vhid 1 10.0.0.1/24 pass "mot`depasse halakon"'), "warning").word is None


@given(st.text(st.sampled_from("vhid pass 1 10.0.0.1/24 '\"\\\n#!$\t\r\x00\u2028é")))
def test_no_text_raises(content: str) -> None:
    parsed = text(content)
    assert (parsed.host is None) == bool(parsed.errors)
    assert len(parsed.errors) <= 21
