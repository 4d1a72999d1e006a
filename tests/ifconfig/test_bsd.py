"""Lines as the other BSDs have them in their files: hostname.if(5), rc.conf(5), ifconfig.if(5)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.words import SECRET, messages, only, text, words, write

from pycarp import VirtualHost
from pycarp.ifconfig import parse_file
from pycarp.ifconfig.vocabulary import IGNORED, REFUSED

VIP = "10.13.37.42"
PASS = f"pass {SECRET}"
REST = f"vhid 1 carpdev eth0 {PASS}"


def host(address: str = f"{VIP}/24", **changes: object) -> VirtualHost:
    values = {"vhid": 1, "passphrase": SECRET, "addresses": [address], "carpdev": "eth0", "name": "carp0"} | changes
    return VirtualHost(**values)  # type: ignore[arg-type]


OPENBSD = {
    f"inet {VIP} 255.255.255.0 10.13.37.255 {REST}": host(),
    f"inet {VIP} 255.255.255.0 10.13.37.0 {REST}": host(),
    f"inet {VIP} 255.255.255.0 255.255.255.255 {REST}": host(),
    f"inet {VIP} 255.255.255.0 NONE {REST} advskew 100": host(advskew=100),
    f"inet {VIP} 255.255.255.0 {REST}": host(),
    f"inet {VIP} 0xffffff00 NONE {REST}": host(),
    f"inet {VIP} 24 NONE {REST}": host(),
    f"inet alias {VIP} 255.255.255.255 {VIP} {REST}": host(f"{VIP}/32"),
    f"inet alias {VIP} 255.255.255.255 10.13.37.255 {REST}": host(f"{VIP}/32"),
    f"inet alias {VIP} 255.255.255.255 NONE {REST}": host(f"{VIP}/32"),
    f"inet {VIP}/24 {REST}": host(),
    f"{REST} {VIP} netmask 255.255.255.0 broadcast 10.13.37.255": host(),
    f"inet6 2001:db8::42 64 {REST}": host("2001:db8::42/64"),
    f"inet6 alias 2001:db8::42 64 anycast {REST}": host("2001:db8::42/64"),
    f"inet6 2001:db8::42 prefixlen 64 {REST}": host("2001:db8::42/64"),
    f"inet {VIP} 255.255.255.0 NONE \\\n\tvhid 1 carpdev eth0 \\\n\t{PASS}": host(),
    f"# the office\ninet {VIP} 255.255.255.0 NONE\n{REST}\nup": host(),
    f"{REST}\ninet {VIP} 255.255.255.0 10.13.37.255 -inet6 group office -group carp description 'wan vip'": host(),
    f"{REST} state backup {VIP} 255.255.255.0 -carppeer priority 3 rtlabel web llprio 3 metric 1 link0 -debug": host(
        state=1
    ),
    f"carpnodes 1:0 carpdev eth0 {PASS} balancing none {VIP}/24": host(),
    f"carpnodes 1:100 carpdev eth0 {PASS} {VIP}/24 carppeer 224.0.0.18": host(advskew=100),
    f'{REST}\ninet {VIP} 255.255.255.0 NONE description "Bob\'s address"\n!route add\ninet6 autoconf': (host()),
}

FREEBSD = {
    f"inet vhid 1 advskew 100 {PASS} alias {VIP}/32": host(f"{VIP}/32", carpdev=None, advskew=100),
    f"inet6 vhid 1 {PASS} alias 2001:db8::42/128": host("2001:db8::42/128", carpdev=None),
    f"inet {VIP}/24 alias vhid 1 {PASS} mcast -tso4 -lro": host(carpdev=None),
    f"add {VIP}/24 vhid 1 {PASS} state master carpver 2 peer 224.0.0.18 peer6 ff02::12": host(carpdev=None, state=2),
    f"ifconfig carp0 vhid 1 {PASS} {VIP}/24": host(carpdev=None),
    f"/sbin/ifconfig em0 inet vhid 1 {PASS} alias {VIP}/24": host(carpdev=None),
    f'cloned_interfaces="carp0"\nifconfig_carp0="vhid 1 {PASS} {VIP}/24"': host(carpdev=None),
    f'create_args_carp0="vhid 1 {PASS}"\nifconfig_carp0="inet {VIP} netmask 255.255.255.0"': host(carpdev=None),
    f'ifconfig_em0="inet 10.13.37.11/24"\nifconfig_em0_alias0="inet vhid 1 {PASS} alias {VIP}/32"  # web': host(
        f"{VIP}/32", carpdev=None
    ),
    f"ifconfig_em0_alias0='inet vhid 1 advbase 2 {PASS} {VIP}/32'": host(f"{VIP}/32", carpdev=None, advbase=2),
    f'sysrc ifconfig_em0_alias0="inet vhid 1 {PASS} {VIP}/32"': host(f"{VIP}/32", carpdev=None),
    f'ifconfig_em0_aliases="\\\n vhid 1 advskew 9 {PASS} {VIP}/32 \\\n vhid 1 advskew 9 {PASS} 10.13.37.43/32"': (
        host(f"{VIP}/32", addresses=[f"{VIP}/32", "10.13.37.43/32"], carpdev=None, advskew=9)
    ),
    f'ifconfig_em0_aliases="\n inet 10.13.37.12/24\n inet vhid 1 {PASS} {VIP}/32\n\n inet6 2001:db8::2/64"': host(
        f"{VIP}/32", carpdev=None
    ),
    f'ifconfig_em0_ipv6="inet6 2001:db8::11/64"\nifconfig_em0_alias1="inet6 vhid 1 {PASS} 2001:db8::42/64"': host(
        "2001:db8::42/64", carpdev=None
    ),
    f"ifconfig_em0_alias0=\"inet vhid 1 pass 'with some # blanks' {VIP}/32\"": host(
        f"{VIP}/32", carpdev=None, passphrase="with some # blanks"
    ),
    f'hostname="a"\ndefaultrouter="10.13.37.1"\nsshd_enable="YES"\nkld_list="carp"\nifconfig_em0="DHCP"\ncarp_load="YES"\n'
    f'ifconfig_em0_descr="vhid 9"\nipv4_addrs_em0="10.13.37.11/24"\nifconfig_em0_alias0="vhid 1 {PASS} {VIP}/24"': (
        host(carpdev=None)
    ),
}


@pytest.mark.parametrize("written", OPENBSD)
def test_openbsd(written: str) -> None:
    parsed = text(written)
    assert parsed.host == OPENBSD[written], messages(parsed)
    assert SECRET not in messages(parsed)


@pytest.mark.parametrize("written", FREEBSD)
def test_freebsd(written: str) -> None:
    parsed = text(written)
    assert parsed.host == FREEBSD[written], messages(parsed)
    assert SECRET not in messages(parsed)


def test_what_is_understood_is_not_remarked_upon() -> None:
    for written in (
        f"inet {VIP} 255.255.255.0 NONE {REST}",
        f"inet6 2001:db8::42 64 {REST}",
        f"inet vhid 1 {PASS} alias {VIP}/32",
        f"carpnodes 1:0 {PASS} {VIP}/24 balancing none carppeer 224.0.0.18",
        f'ifconfig_em0_alias0="inet vhid 1 {PASS} alias {VIP}/32"',
    ):
        assert text(written).diagnostics == (), written


@pytest.mark.parametrize("word", sorted(IGNORED))
def test_words_that_change_nothing(word: str) -> None:
    parsed = words(f"{REST} {VIP}/24 {word} {'x ' * IGNORED[word]} advskew 7")
    assert parsed.host == host(advskew=7)
    found = only(parsed, "warning")
    assert f"'{word}' changes nothing here" in found.message and found.word == word


@pytest.mark.parametrize("word", sorted(REFUSED))
def test_words_that_would_be_a_false_promise(word: str) -> None:
    arguments, remedy = REFUSED[word]
    found = only(words(f"{REST} {VIP}/24 {word} {'10.13.37.9 ' * arguments} advskew 7"))
    assert found.message == f"'{word}' cannot be done here: {remedy}"
    assert found.column == 8


@pytest.mark.parametrize(
    ("written", "line", "column", "part"),
    [
        (f"{REST} {VIP}/24 carpnodes 1:0,2:100", 1, 59, "give one vhid and one advskew"),
        (f"{REST} {VIP}/24 balancing ip-stealth", 1, 59, "load balancing"),
        (f"{REST} {VIP}/24 carpnodes 7:0", 1, 69, "vhid is given twice"),
        (f"{PASS} {VIP}/24 carpnodes 0:0", 1, 49, "vhid 0 is out of range"),
        (f"inet {VIP} 33 {REST}", 1, 18, "prefixlen 33 is out of range: give 1-32"),
        (f"inet6 2001:db8::42 129 {REST}", 1, 20, "prefixlen 129 is out of range: give 1-128"),
        (f"{REST}\ninet inet6 2001:db8::42 64", 2, 1, "'inet' needs an IPv4 address"),
        (f"{REST}\ninet6 vhid 1 {VIP}/24", 2, 14, "write 'inet' before it"),
        (f'ifconfig_em0_alias0="inet vhid 1 {PASS} {VIP}/32', 1, 21, "the quotation"),
        (
            f'ifconfig_em0_alias0="vhid 1 {PASS} {VIP}/32"\nifconfig_em1_alias0="vhid 1 {PASS} 10.1.0.1/32"',
            2,
            1,
            "about another interface",
        ),
        (
            f'ifconfig_em0_alias0="vhid 1 {PASS} {VIP}/32"\nifconfig_em0_alias1="vhid 2 {PASS} 10.1.0.1/32"',
            2,
            27,
            "vhid is given twice, first in line 1, with another number",
        ),
        (f'{REST} {VIP}/24\nifconfig_em0_alias0="vhid 300"', 2, 27, "vhid 300 is out of range"),
    ],
)
def test_mistakes_in_them(written: str, line: int, column: int, part: str) -> None:
    found = only(text(written))
    assert (found.line, found.column) == (line, column)
    assert part in found.message and SECRET not in found.message


def test_a_whole_rc_conf(tmp_path: Path) -> None:
    content = f'hostname="a"\nifconfig_em0="inet 10.13.37.11/24"\nifconfig_em0_alias0="inet vhid 7 {PASS} {VIP}/32"\n'
    parsed = parse_file(write(tmp_path / "rc.conf", content))
    assert parsed.require().name == "carp7"
    assert [(d.line, d.column, d.word) for d in parsed.warnings] == [(1, 1, None), (2, 1, None)]
    assert all("describes no virtual host" in d.message for d in parsed.warnings)
