"""The ifconfig(8) words: what they mean, and one plain sentence for each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pycarp import ConfigError, State, VirtualHost
from pycarp.ifconfig import (
    Defaults,
    Diagnostic,
    Parsed,
    WordsError,
    check_together,
    find_files,
    parse_file,
    parse_text,
    parse_words,
)
from pycarp.ifconfig.vocabulary import KNOWN

SECRET = "motdepassehalakon"
GOOD = f"vhid 101 pass {SECRET} 10.13.37.42/24"


def words(line: str, **options: object) -> Parsed:
    """Words from somewhere that is no command line, so that `pass` draws no warning."""
    return parse_words(line.split(), name="carp0", source="test", **options)  # type: ignore[arg-type]


def text(lines: str) -> Parsed:
    return parse_text(lines, name="carp0", source="/etc/ifconfig.carp0")


def only(parsed: Parsed, severity: str = "error") -> Diagnostic:
    found = [d for d in parsed.diagnostics if d.severity == severity]
    assert len(found) == 1, [str(d) for d in parsed.diagnostics]
    return found[0]


def messages(parsed: Parsed) -> str:
    return "\n".join(map(str, parsed.diagnostics))


# What the words mean


@pytest.mark.parametrize(
    "line",
    [
        f"vhid 101 pass {SECRET} 10.13.37.42 netmask 255.255.255.0",
        f"vhid 101 pass {SECRET} 10.13.37.42 255.255.255.0",
        f"create vhid 101 pass {SECRET} 10.13.37.42/24 up",
        f"vhid 101 pass {SECRET} inet 10.13.37.42 netmask 0xffffff00 alias",
        f"inet alias 10.13.37.42 prefixlen 24 vhid 101 pass {SECRET}",
        f"netmask 255.255.255.0 10.13.37.42 vhid 101 pass {SECRET}",
        f"10.13.37.42 0xffffff00 vhid 101 pass {SECRET} advbase 1 advskew 0 carpdev eth9 -carpdev down up",
        f"10.13.37.42/255.255.255.0 pass {SECRET} vhid 101",
    ],
)
def test_the_same_host_in_many_words(line: str) -> None:
    parsed = words(line)
    expected = VirtualHost(vhid=101, passphrase=SECRET, addresses=["10.13.37.42/24"], name="carp0")
    assert parsed.host == expected, messages(parsed)
    assert parsed.diagnostics == ()
    assert parsed.require() == expected


def test_every_word() -> None:
    host = words(
        f"vhid 7 pass {SECRET} advbase 2 advskew 254 carpdev eth1 state mAsTer down "
        "replay off siblings warn announcements 10 conflict refuse "
        "preempt dialect netbsd mac interface inet 10.0.0.1 inet6 2001:db8::1 prefixlen 64 fe80::7/64"
    ).require()
    assert host == VirtualHost(
        vhid=7,
        passphrase=SECRET,
        advbase=2,
        advskew=254,
        carpdev="eth1",
        state=State.MASTER,
        up=False,
        preempt=True,
        dialect="netbsd",
        mac="interface",
        replay="off",
        siblings="warn",
        announcements=10,
        conflict="refuse",
        addresses=["10.0.0.1", "2001:db8::1/64", "fe80::7/64"],
        name="carp0",
    )


def test_defaults_hold_where_the_words_say_nothing() -> None:
    defaults = Defaults(preempt=True, dialect="bsd", mac="interface")
    host = words(GOOD, defaults=defaults).require()
    assert (host.preempt, host.dialect, host.mac) == (True, "bsd", "interface")
    host = words(GOOD + " -preempt dialect auto mac virtual", defaults=defaults).require()
    assert (host.preempt, host.dialect, host.mac) == (False, "auto", "virtual")


def test_a_mask_belongs_to_the_address_before_it() -> None:
    host = words(f"vhid 1 pass {SECRET} 10.0.0.1 10.0.1.1 netmask 255.255.0.0 10.0.2.1/25").require()
    assert host.addresses == tuple(map(ip_interface, ("10.0.0.1/32", "10.0.1.1/16", "10.0.2.1/25")))


def test_without_a_name_the_vhid_gives_one() -> None:
    assert parse_words(GOOD.split(), source="test").require().name == "carp101"


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


# Mistakes: each one is one sentence that names the word and the remedy, at its place


@pytest.mark.parametrize(
    ("line", "column", "parts"),
    [
        ("vhid 0", 2, ["vhid 0", "1-255"]),
        ("vhid 256", 2, ["vhid 256", "1-255"]),
        ("vhid -1", 2, ["vhid '-1'", "1-255"]),
        ("vhid hundred", 2, ["vhid 'hundred'", "not a number", "1-255"]),
        ("vhid 1e2", 2, ["vhid '1e2'", "1-255"]),
        ("vhid \u0661", 2, ["not a number", "1-255"]),
        ("vhid 0101", 2, ["0101", "octal"]),
        ("vhid " + "9" * 5000, 2, ["999...'", "1-255"]),
        ("vhid", 1, ["'vhid' needs a number 1-255"]),
        ("vhid up", 1, ["'vhid' needs a number 1-255"]),
        ("vhid 1 advskew 255", 4, ["advskew 255", "0-254", "goodbye"]),
        ("vhid 1 advskew x", 4, ["advskew 'x'", "0-254"]),
        ("vhid 1 advbase 255", 4, ["advbase 255", "0-254"]),
        ("vhid 1 advbase 0", 4, ["advbase 0", "advskew"]),
        ("vhid 1 state maste", 4, ["state 'maste'", "INIT, BACKUP or MASTER"]),
        ("vhid 1 state", 3, ["'state' needs INIT, BACKUP or MASTER"]),
        ("vhid 1 dialect freebsd", 4, ["dialect 'freebsd'", "auto, bsd, netbsd"]),
        ("vhid 1 mac 00:00:5e:00:01:01", 4, ["mac '00:00:5e:00:01:01'", "virtual, interface"]),
        ("vhid 1 siblings off", 4, ["siblings 'off'", "arbitrate, warn"]),
        ("vhid 1 siblings up", 3, ["'siblings' needs arbitrate or warn"]),
        ("vhid 1 announcements 0", 4, ["announcements 0", "1-10"]),
        ("vhid 1 announcements 11", 4, ["announcements 11", "1-10"]),
        ("vhid 1 announcement 5", 3, ["'announcement' is unknown", "'announcements'"]),
        ("vhid 1 conflict allow", 4, ["conflict 'allow'", "warn, refuse"]),
        ("vhid 1 replay on", 4, ["replay 'on'", "guard, off"]),
        ("vhid 1 carpdev eth0/1", 4, ["carpdev 'eth0/1'", "not an interface name"]),
        ("vhid 1 carpdev", 3, ["'carpdev' needs the name of an interface"]),
        ("vhdi 1", 1, ["'vhdi' is unknown", "'vhid'"]),
        ("VHID 1", 1, ["'VHID' is unknown", "small letters", "'vhid'"]),
        ("vhid=1", 1, ["'vhid=1' is unknown", "'vhid' and its value as two words"]),
        ("--vhid 1", 1, ["'--vhid' is unknown", "'vhid'"]),
        ("vhid 1 advskw 100", 3, ["'advskw' is unknown", "'advskew'"]),
        ("vhid 1 carpdve eth0", 3, ["'carpdve' is unknown", "'carpdev'"]),
        ("vhid 1 -carpdv", 3, ["'-carpdv' is unknown", "'-carpdev'"]),
        ("vhid 1 frobnicate", 3, ["'frobnicate' is unknown", "the words are vhid, pass"]),
        ("vhid 1 \x1b[31m", 3, ["'\\x1b[31m' is unknown"]),
        ("vhid 1 mtu 9000", 3, ["'mtu' cannot be done here", "remove"]),
        ("vhid 1 destroy", 3, ["'destroy' cannot be done here", "remove"]),
        ("vhid 1 carppeer 10.0.0.9", 3, ["'carppeer' cannot be done here", "remove"]),
    ],
)
def test_mistakes_in_words(line: str, column: int, parts: list[str]) -> None:
    parsed = words(f"{line} 10.0.0.1/24 pass {SECRET}" if not line.endswith(("vhid", "state", "carpdev")) else line)
    diagnostic = next(d for d in parsed.errors)
    assert parsed.host is None
    assert diagnostic.column == column
    assert diagnostic.line is None
    for part in parts:
        assert part in diagnostic.message
    assert "\n" not in str(diagnostic)
    if not line.endswith(("vhid", "state", "carpdev")):
        assert len(parsed.errors) == 1, messages(parsed)


@pytest.mark.parametrize(
    ("line", "column", "parts"),
    [
        ("10.0.0.300/24", 5, ["'10.0.0.300/24' is not an IP address"]),
        ("10.0.0/24", 5, ["is not an IP address"]),
        ("10.0.0.1.1", 5, ["is not an IP address"]),
        ("010.0.0.1", 5, ["is not an IP address"]),
        ("2001:db8:::1/64", 5, ["is not an IP address", "2001:db8::42/64"]),
        ("inet www.example.org", 6, ["'www.example.org' is not an IPv4 address"]),
        ("inet 2001:db8::1/64", 6, ["IPv6 address", "'inet6'"]),
        ("inet6 10.0.0.1/24", 6, ["IPv4 address", "'inet'"]),
        ("inet", 5, ["'inet' needs an IPv4 address"]),
        ("inet6 alias", 5, ["'inet6' needs an IPv6 address"]),
        ("inet alias up 10.0.0.1/24", 5, ["'inet' needs an IPv4 address"]),
        ("::ffff:10.0.0.1", 5, ["give 10.0.0.1"]),
        ("fe80::1%eth0/64", 5, ["zone", "carpdev"]),
        ("10.0.0.1/33", 5, ["10.0.0.1/33", "1-32"]),
        ("10.0.0.1/0", 5, ["10.0.0.1/0", "1-32"]),
        ("10.0.0.1/", 5, ["10.0.0.1/", "missing"]),
        ("10.0.0.1/x", 5, ["10.0.0.1/x", "1-32"]),
        ("2001:db8::1/129", 5, ["1-128"]),
        ("10.0.0.1 prefixlen 33", 7, ["prefixlen 33", "1-32"]),
        ("2001:db8::1 prefixlen 0", 7, ["prefixlen 0", "1-128"]),
        ("2001:db8::1 netmask 255.255.255.0", 7, ["netmask '255.255.255.0'", "prefixlen"]),
        ("10.0.0.1 netmask 255.0.255.0", 7, ["netmask '255.0.255.0'", "holes"]),
        ("10.0.0.1 255.255.1.0", 6, ["netmask '255.255.1.0'", "holes"]),
        ("10.0.0.1 netmask 0.0.0.255", 7, ["netmask '0.0.0.255'", "holes"]),
        ("10.0.0.1 netmask 0xff00ff00", 7, ["0xff00ff00", "holes"]),
        ("10.0.0.1 netmask 0.0.0.0", 7, ["netmask '0.0.0.0'"]),
        ("10.0.0.1 netmask 24", 7, ["netmask 24", "prefixlen 24"]),
        ("10.0.0.1 netmask foo", 7, ["netmask 'foo'", "255.255.255.0"]),
        ("10.0.0.1 netmask", 6, ["'netmask' needs a mask"]),
        ("10.0.0.1/24 netmask 255.255.0.0", 7, ["10.0.0.1", "twice", "/24", "/16"]),
        ("10.0.0.1/24 10.0.0.1/24", 6, ["10.0.0.1 is given twice", "word 5"]),
        ("10.0.0.1/24 inet 10.0.0.1/25", 7, ["10.0.0.1 is given twice"]),
        ("10.0.0.0/24", 5, ["10.0.0.0/24", "give a host's"]),
        ("10.0.0.255 255.255.255.0", 5, ["10.0.0.255/24", "give a host's"]),
        ("224.0.0.18", 5, ["224.0.0.18", "unicast"]),
        ("127.0.0.1/8", 5, ["127.0.0.1", "unicast"]),
        ("10.0.0.1/24 up 255.255.255.0", 7, ["255.255.255.0", "no address before it"]),
    ],
)
def test_mistakes_in_addresses(line: str, column: int, parts: list[str]) -> None:
    parsed = words(f"vhid 1 pass {SECRET} {line}")
    diagnostic = parsed.errors[0]
    assert parsed.host is None
    assert (diagnostic.column, diagnostic.line) == (column, None), messages(parsed)
    for part in parts:
        assert part in diagnostic.message
    assert len([d for d in parsed.errors if "missing" not in d.message or "after '/'" in d.message]) == 1, messages(
        parsed
    )


def test_a_mask_without_an_address() -> None:
    parsed = text(f"{GOOD}\nnetmask 255.255.255.0")
    assert str(only(parsed)).startswith("/etc/ifconfig.carp0:2:1: error: 'netmask' has no address on its line")


def test_what_is_missing() -> None:
    parsed = words("advskew 100 up")
    assert sorted(d.message.split(":")[0] for d in parsed.errors) == ["an address is missing", "vhid is missing"]
    assert all(d.place == "test" and d.column is None for d in parsed.errors)
    for empty in ("", "\n\n# nothing\n", "create\nup"):
        assert "no words that describe a virtual host" in only(text(empty)).message


def test_a_wrong_vhid_is_not_missing_too() -> None:
    assert "vhid 0" in only(words(f"vhid 0 pass {SECRET} 10.0.0.1/24")).message
    assert "'vidh'" in only(words(f"vidh 1 pass {SECRET} 10.0.0.1/24")).message
    assert "10.0.0.999" in only(words(f"vhid 1 pass {SECRET} 10.0.0.999 netmask 255.255.255.0")).message
    assert "10.0.0.999" in only(words(f"vhid 1 pass {SECRET} 10.0.0.999 255.255.255.0")).message


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    parsed = text("vhid 0 advskew 255\ninet 10.0.0.300\n\nfrobnicate\nstate x")
    assert [(d.line, d.column) for d in parsed.errors] == [(1, 6), (1, 16), (2, 6), (4, 1), (5, 7)]
    with pytest.raises(WordsError) as caught:
        parsed.require()
    assert isinstance(caught.value, ConfigError)
    assert caught.value.diagnostics == parsed.errors
    assert str(caught.value).count("\n") == 4


def test_a_file_of_something_else_does_not_flood() -> None:
    parsed = text("lorem ipsum dolor\n" * 500)
    assert len(parsed.errors) == 21
    assert "1480 more" in parsed.errors[-1].message or "more mistakes" in parsed.errors[-1].message


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


def test_the_place_on_a_command_line_is_the_number_of_the_word() -> None:
    found = parse_words(["vhid", "256", "10.0.0.1/24"]).errors[0]
    assert str(found).startswith("command line, word 2: error: vhid 256")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quotation_without_end(quote: str) -> None:
    found = only(text(f"vhid 1 10.0.0.1/24\npass {quote}{SECRET} up\nup"))
    assert (found.line, found.column, found.word) == (2, 6, None)
    assert "does not end" in found.message
    assert SECRET not in str(found)


def test_twice_with_another_value_the_last_one_counts() -> None:
    parsed = text(f"{GOOD}\nvhid 102\nvhid 102\nadvskew 1\nadvskew 2")
    assert parsed.require().vhid == 102
    assert parsed.require().advskew == 2
    assert [(d.line, "first in line" in d.message) for d in parsed.warnings] == [(2, True), (5, True)]


@pytest.mark.parametrize("line", ["!route add default 10.0.0.1", "  ! rm -rf /", "dhcp", "dhcpcd", "rtsol"])
def test_what_is_not_run(line: str) -> None:
    parsed = text(f"{GOOD}\n{line}\nup")
    assert parsed.host is not None
    found = only(parsed, "warning")
    assert found.line == 2
    assert "not run" in found.message


def test_harmless_words_of_ifconfig_are_left_out() -> None:
    parsed = text(
        f"{GOOD} broadcast 10.13.37.255\nlink0 description hello media autoselect\n"
        "inet 10.1.0.1 255.255.255.0 10.1.0.255"
    )
    assert parsed.host is not None, messages(parsed)
    assert len(parsed.host.addresses) == 2
    assert [d.word for d in parsed.warnings] == ["broadcast", "link0", "description", "media", "10.1.0.255"]


# Passphrases


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


def test_characters_that_a_shell_would_act_upon() -> None:
    parsed = text("vhid 1 10.0.0.1/24 pass mot$depasse-halakon")
    assert parsed.require().passphrase == "mot$depasse-halakon"
    found = only(parsed, "warning")
    assert "$" in found.message and "single quotes" in found.message
    assert only(text('vhid 1 10.0.0.1/24 pass "mot`depasse halakon"'), "warning").word is None


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


def test_a_passphrase_of_several_words_without_quotes() -> None:
    parsed = words("vhid 1 pass correct horse battery 10.0.0.1/24 advskw 3")
    assert len(parsed.errors) == 2
    assert "quote a passphrase that has spaces" in parsed.errors[0].message
    assert "'advskew'" in parsed.errors[1].message
    assert "horse" not in messages(parsed) and "battery" not in messages(parsed)


def test_a_mistyped_word_after_the_passphrase_is_known_by_its_number() -> None:
    found = only(words(f"pass {SECRET} vihd 101 10.0.0.1/24"))
    assert "'vihd' is unknown" in found.message and "'vhid'" in found.message


# Passfiles


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


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
    assert part in found.message and str(file)[:10] in found.message
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


def test_pass_beside_passfile(tmp_path: Path) -> None:
    file = write(tmp_path / "carp.pass", SECRET)
    assert "twice" in only(words(f"{GOOD} passfile {file}")).message


def test_a_passphrase_of_the_command_line_that_is_no_text() -> None:
    phrase = os.fsdecode(b"motdepasse\xff\xfehalakon")
    assert (
        parse_words(["vhid", "1", "10.0.0.1/24", "pass", phrase]).require().passphrase == b"motdepasse\xff\xfehalakon"
    )


# Files


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

    monkeypatch.setattr("builtins.open", refuse)
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


# Several virtual hosts


def together(*lines: str, carpdevs: dict[int, str] | None = None) -> list[str]:
    parsed = [parse_text(f"pass {SECRET} {line}", name=f"carp{n}", source=f"/f{n}") for n, line in enumerate(lines)]
    assert all(p.host is not None for p in parsed), [messages(p) for p in parsed]
    return [str(d) for d in check_together(parsed, carpdevs)]


def test_hosts_that_get_along() -> None:
    assert together("vhid 1 10.0.0.1/24", "vhid 2 10.0.0.2/24", "vhid 1 10.0.1.1/24") == []
    assert together("vhid 1 10.0.0.1/24 carpdev eth0", "vhid 1 10.0.0.2/24 carpdev eth1") == []
    assert together("vhid 1 10.0.0.1", "vhid 1 10.0.0.2", carpdevs={0: "eth0", 1: "eth1"}) == []
    assert together("vhid 1 fe80::1/64 carpdev eth0", "vhid 1 fe80::1/64 carpdev eth1") == []


def test_one_vhid_twice_on_one_interface() -> None:
    for found in (
        together("vhid 1 10.0.0.1/24", "vhid 1 10.0.0.2/24"),
        together("vhid 1 10.0.0.1/24 carpdev eth0", "vhid 1 10.0.1.2/24 carpdev eth0"),
        together("vhid 1 10.0.0.1", "vhid 1 10.0.0.2", carpdevs={0: "eth0", 1: "eth0"}),
    ):
        assert len(found) == 1
        assert found[0].startswith(f"/f1:1:{len('pass  vhid ') + len(SECRET) + 1}: error: vhid 1 on ")
        assert "carp0 (/f0)" in found[0]


def test_one_name_or_one_address_twice(tmp_path: Path) -> None:
    for n in (0, 1):
        (tmp_path / str(n)).mkdir()
        write(tmp_path / str(n) / "ifconfig.carp0", f"vhid {n + 1} pass {SECRET}\n10.0.0.1/24")
    found = check_together([parse_file(tmp_path / str(n) / "ifconfig.carp0") for n in (0, 1)])
    assert [d.message.split(" is also")[0] for d in found] == ["the name carp0", "10.0.0.1"]
    assert [(d.line, d.column) for d in found] == [(None, None), (2, 1)]


# Robustness


@given(st.lists(st.one_of(st.sampled_from([*KNOWN, "10.0.0.1", "255.255.255.0", "/24", "1", ""]), st.text())))
def test_no_words_raise(line: list[str]) -> None:
    parsed = parse_words(line, name="carp0")
    assert (parsed.host is None) == bool(parsed.errors)
    for diagnostic in parsed.diagnostics:
        assert "\n" not in str(diagnostic)
        assert str(diagnostic).isprintable()


@given(st.text(st.sampled_from("vhid pass 1 10.0.0.1/24 '\"\\\n#!$\t\r\x00\u2028é")))
def test_no_text_raises(content: str) -> None:
    parsed = text(content)
    assert (parsed.host is None) == bool(parsed.errors)
    assert len(parsed.errors) <= 21


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=8, max_size=30),
    st.lists(st.sampled_from([*KNOWN, "foo", "10.0.0.1", "999"]), max_size=6),
    st.lists(st.sampled_from([*KNOWN, "bar", "1"]), max_size=6),
)
@example("arbitrat", ["siblings"], [])
@example("carpnode", [], [])
@example("mediaopt", [], [])
def test_no_passphrase_comes_out(secret: str, before: list[str], after: list[str]) -> None:
    assume(not any(secret in known for known in KNOWN))

    def said(phrase: str) -> str:
        parsed = parse_words([*before, "up", "pass", phrase, *after, phrase], name="carp0")
        return repr(parsed) + messages(parsed)

    # What is said of another passphrase, too, is no secret.
    assume(secret not in said("\N{BLACK CHESS KNIGHT}" * len(secret)))
    assert secret not in said(secret)


def test_one_text_is_no_list_of_words() -> None:
    with pytest.raises(TypeError):
        parse_words(GOOD)


def test_no_click_no_rich_no_pyroute2() -> None:
    code = "import sys, pycarp.ifconfig; print([m for m in ('click', 'rich', 'pyroute2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
