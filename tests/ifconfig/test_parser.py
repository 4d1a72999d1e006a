"""What the words mean, and one plain sentence for each mistake, at its place."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.words import GOOD, SECRET, messages, only, text, words

from pycarp import ConfigError, State, VirtualHost
from pycarp.ifconfig import Defaults, WordsError, parse_words
from pycarp.ifconfig.vocabulary import KNOWN


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


@pytest.mark.parametrize(
    ("line", "column", "parts"),
    [
        ("vhid 0", 2, ["vhid 0", "1-255"]),
        ("vhid 256", 2, ["vhid 256", "1-255"]),
        ("vhid -1", 2, ["vhid -1", "1-255"]),
        ("vhid hundred", 2, ["vhid is not a number", "1-255"]),
        ("vhid 1e2", 2, ["vhid is not a number", "1-255"]),
        ("vhid \u0661", 2, ["not a number", "1-255"]),
        ("vhid 0101", 2, ["vhid begins with 0", "octal"]),
        ("vhid " + "9" * 5000, 2, ["vhid is out of range", "1-255"]),
        ("vhid", 1, ["'vhid' needs a number 1-255"]),
        ("vhid up", 1, ["'vhid' needs a number 1-255"]),
        ("vhid 1 advskew 255", 4, ["advskew 255", "0-254", "goodbye"]),
        ("vhid 1 advskew x", 4, ["advskew is not a number", "0-254"]),
        ("vhid 1 advbase 255", 4, ["advbase 255", "0-254"]),
        ("vhid 1 advbase 0", 4, ["advbase 0", "advskew"]),
        ("vhid 1 state maste", 4, ["state has an unknown value", "INIT, BACKUP or MASTER"]),
        ("vhid 1 state", 3, ["'state' needs INIT, BACKUP or MASTER"]),
        ("vhid 1 dialect freebsd", 4, ["dialect has an unknown value", "auto, bsd or netbsd"]),
        ("vhid 1 mac 00:00:5e:00:01:01", 4, ["mac has an unknown value", "virtual or interface"]),
        ("vhid 1 siblings off", 4, ["siblings has an unknown value", "arbitrate or warn"]),
        ("vhid 1 siblings up", 3, ["'siblings' needs arbitrate or warn"]),
        ("vhid 1 announcements 0", 4, ["announcements 0", "1-10"]),
        ("vhid 1 announcements 11", 4, ["announcements 11", "1-10"]),
        ("vhid 1 announcement 5", 3, ["the word is unknown", "'announcements'"]),
        ("vhid 1 conflict allow", 4, ["conflict has an unknown value", "warn or refuse"]),
        ("vhid 1 replay on", 4, ["replay has an unknown value", "guard or off"]),
        ("vhid 1 carpdev eth0/1", 4, ["carpdev is not an interface name"]),
        ("vhid 1 carpdev", 3, ["'carpdev' needs the name of an interface"]),
        ("vhdi 1", 1, ["the word is unknown", "'vhid'"]),
        ("VHID 1", 1, ["'VHID' is unknown", "small letters", "'vhid'"]),
        ("vhid=1", 1, ["a word that begins with 'vhid=' is unknown", "'vhid' and its value as two words"]),
        ("--vhid 1", 1, ["'--vhid' is unknown", "'vhid'"]),
        ("vhid 1 advskw 100", 3, ["the word is unknown", "'advskew'"]),
        ("vhid 1 carpdve eth0", 3, ["the word is unknown", "'carpdev'"]),
        ("vhid 1 -carpdv", 3, ["the word is unknown", "'-carpdev'"]),
        ("vhid 1 frobnicate", 3, ["the word is unknown", "the words are vhid, pass"]),
        ("vhid 1 \x1b[31m", 3, ["the word is unknown"]),
        ("vhid 1 mtu 9000", 3, ["'mtu' cannot be done here", "remove"]),
        ("vhid 1 destroy", 3, ["'destroy' cannot be done here", "remove"]),
        ("vhid 1 carppeer 10.0.0.9/24", 4, ["what stands after 'carppeer'", "10.13.37.2"]),
        ("vhid 1 peer eth0", 4, ["what stands after 'peer'"]),
        ("vhid 1 peer6 10.0.0.9", 4, ["peer6 takes an IPv6 address"]),
        ("vhid 1 group 10.0.0.9", 4, ["group takes a multicast address", "'peer 10.0.0.9'"]),
        ("vhid 1 peer 10.0.0.9 peer 2001:db8::1", 4, ["peers has an IPv6"]),
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
        ("10.0.0.300/24", 5, ["this is not an IP address"]),
        ("10.0.0/24", 5, ["is not an IP address"]),
        ("10.0.0.1.1", 5, ["is not an IP address"]),
        ("010.0.0.1", 5, ["is not an IP address"]),
        ("2001:db8:::1/64", 5, ["is not an IP address", "2001:db8::42/64"]),
        ("inet www.example.org", 6, ["this is not an IPv4 address"]),
        ("inet 2001:db8::1/64", 6, ["IPv6 address", "'inet6'"]),
        ("inet6 10.0.0.1/24", 6, ["IPv4 address", "'inet'"]),
        ("inet", 5, ["'inet' needs an IPv4 address"]),
        ("inet6 alias", 5, ["'inet6' needs an IPv6 address"]),
        ("::ffff:10.0.0.1", 5, ["10.0.0.1 is an IPv4 address", "give it as such"]),
        ("fe80::1%eth0/64", 5, ["zone", "carpdev"]),
        ("10.0.0.1/33", 5, ["'/' of 10.0.0.1 is", "1-32"]),
        ("10.0.0.1/0", 5, ["'/' of 10.0.0.1 is", "1-32"]),
        ("10.0.0.1/", 5, ["'/' of 10.0.0.1 is missing"]),
        ("10.0.0.1/x", 5, ["'/' of 10.0.0.1 is", "1-32"]),
        ("2001:db8::1/129", 5, ["1-128"]),
        ("10.0.0.1 prefixlen 33", 7, ["prefixlen 33", "1-32"]),
        ("2001:db8::1 prefixlen 0", 7, ["prefixlen 0", "1-128"]),
        ("2001:db8::1 netmask 255.255.255.0", 7, ["netmask is IPv4's", "prefixlen"]),
        ("10.0.0.1 netmask 255.0.255.0", 7, ["netmask 255.0.255.0", "holes"]),
        ("10.0.0.1 255.255.1.0", 6, ["netmask 255.255.1.0", "holes"]),
        ("10.0.0.1 netmask 0.0.0.255", 7, ["netmask 0.0.0.255", "holes"]),
        ("10.0.0.1 netmask 0xff00ff00", 7, ["netmask 255.0.255.0", "holes"]),
        ("10.0.0.1 netmask 0.0.0.0", 7, ["netmask 0.0.0.0"]),
        ("10.0.0.1 netmask 24", 7, ["netmask 24", "prefixlen 24"]),
        ("10.0.0.1 netmask foo", 7, ["netmask is not a mask", "255.255.255.0"]),
        ("10.0.0.1 netmask", 6, ["'netmask' needs a mask"]),
        ("10.0.0.1/24 netmask 255.255.0.0", 7, ["10.0.0.1", "twice", "/24", "/16"]),
        ("10.0.0.1/24 10.0.0.1/24", 6, ["10.0.0.1 is given twice", "word 5"]),
        ("10.0.0.1/24 inet 10.0.0.1/25", 7, ["10.0.0.1 is given twice"]),
        ("10.0.0.0/24", 5, ["10.0.0.0/24", "give a host's"]),
        ("10.0.0.255 255.255.255.0", 5, ["10.0.0.255/24", "give a host's"]),
        ("224.0.0.18", 5, ["224.0.0.18", "unicast"]),
        ("127.0.0.1/8", 5, ["127.0.0.1", "unicast"]),
        ("10.0.0.1/24 up 255.255.255.0", 7, ["no address before it"]),
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
    assert "'vhid'" in only(words(f"vidh 1 pass {SECRET} 10.0.0.1/24")).message
    for mask in ("netmask 255.255.255.0", "255.255.255.0", "24", "0xffffff00"):
        assert "not an IP address" in only(words(f"vhid 1 pass {SECRET} 10.0.0.999 {mask}")).message


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


def test_the_place_on_a_command_line_is_the_number_of_the_word() -> None:
    found = parse_words(["vhid", "256", "10.0.0.1/24"]).errors[0]
    assert str(found).startswith("command line, word 2: error: vhid 256")


def test_twice_with_another_value_the_last_one_counts() -> None:
    parsed = text(f"{GOOD}\nadvskew 1\nadvskew 1\nadvskew 2")
    assert parsed.require().advskew == 2
    assert [(d.line, "first in line" in d.message) for d in parsed.warnings] == [(4, True)]


def test_another_vhid_is_another_virtual_host() -> None:
    found = only(text(f"{GOOD}\nvhid 101\nvhid 102"))
    assert found.line == 3 and "first in line 2" in found.message and "a file of its own" in found.message


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


@given(st.lists(st.one_of(st.sampled_from([*KNOWN, "10.0.0.1", "255.255.255.0", "/24", "1", ""]), st.text())))
def test_no_words_raise(line: list[str]) -> None:
    parsed = parse_words(line, name="carp0")
    assert (parsed.host is None) == bool(parsed.errors)
    for diagnostic in parsed.diagnostics:
        assert "\n" not in str(diagnostic)
        assert str(diagnostic).isprintable()


def test_one_text_is_no_list_of_words() -> None:
    with pytest.raises(TypeError):
        parse_words(GOOD)


def test_no_click_and_no_rich() -> None:
    code = "import sys, pycarp.ifconfig; print([m for m in ('click', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_words_of_two() -> None:
    words = [
        "vhid",
        "1",
        "pass",
        "secret00",
        "10.13.37.42/24",
        "announce",
        "every",
        "20",
        "preempt",
        "delay",
        "30",
        "start",
        "delay",
        "40",
    ]
    host = parse_words(words, source="test").require()
    assert (host.announce, host.preempt, host.preempt_delay, host.start_delay) == (20, True, 30, 40)
    usual = parse_words(
        ["vhid", "1", "pass", "delay", "10.13.37.42/24", "announce", "0", "preempt", "start_delay", "5"], source="test"
    ).require()
    assert (usual.announce, usual.preempt, usual.preempt_delay, usual.start_delay) == (0, True, 0, 5)
    assert (
        "0-900"
        in parse_words(["vhid", "1", "pass", "secret00", "announce", "every", "901"], source="test").errors[0].message
    )
    assert parse_words(["vhid", "1", "pass", "secret00", "start", "delay"], source="test").errors
