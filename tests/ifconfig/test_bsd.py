"""Lines as the other BSDs have them in their files: hostname.if(5), rc.conf(5), ifconfig.if(5)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from support.words import SECRET, messages, only, text, words, write

from pycarp import ConfigError, State, VirtualHost
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
    f"inet {VIP} 255.255.255.0 10.13.37.255 {REST} carppeer 10.13.37.2": host(peers=["10.13.37.2"]),
    f"inet {VIP} 255.255.255.0 NONE {REST} carppeer 224.0.0.20": host(groups=["224.0.0.20"]),
    f"{REST} carppeer 10.13.37.2 -carppeer {VIP}/24": host(),
    f"{REST} peer 10.13.37.2 10.13.37.3 {VIP}/24 multicast": host(peers=["10.13.37.2", "10.13.37.3"], multicast=True),
    f"{REST} peer 10.13.37.2 {VIP} 255.255.255.0 peer 10.13.37.3": host(peers=["10.13.37.2", "10.13.37.3"]),
    f"inet {VIP}/24 NONE {REST} rdomain 0 lladdr 00:00:5e:00:01:01": host(),
    f"inet {VIP} prefixlen 24 10.13.37.255 {REST}": host(),
    f"inet {VIP}/24 10.13.37.255 {REST}": host(),
    f'{REST}\ninet {VIP} 255.255.255.0 NONE description "Bob\'s address"\n!route add\ninet6 autoconf': (host()),
}

FREEBSD = {
    f"inet vhid 1 advskew 100 {PASS} alias {VIP}/32": host(f"{VIP}/32", carpdev=None, advskew=100),
    f"inet6 vhid 1 {PASS} alias 2001:db8::42/128": host("2001:db8::42/128", carpdev=None),
    f"inet {VIP}/24 alias vhid 1 {PASS} mcast -tso4 -lro": host(carpdev=None),
    f"add {VIP}/24 vhid 1 {PASS} state master carpver 2 peer 224.0.0.18 peer6 ff02::12": host(carpdev=None, state=2),
    f"inet vhid 1 {PASS} peer 10.13.37.2 alias {VIP}/24": host(carpdev=None, peers=["10.13.37.2"]),
    f"inet6 vhid 1 {PASS} peer6 fe80::2 alias 2001:db8::42/64": host(
        "2001:db8::42/64", carpdev=None, peers=["fe80::2"]
    ),
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
        (f"{REST} {VIP}/24 net.inet.carp.preempt=1", 1, 59, "write 'preempt', or '-preempt'"),
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


# Any virtual host, as the files of each system would have it


@st.composite
def virtual_hosts(draw: st.DrawFn) -> VirtualHost:
    ipv4 = st.tuples(st.integers(0x0A000000, 0x0AFFFFFF).map(IPv4Address), st.integers(8, 32))
    ipv6 = st.tuples(st.integers(0x20010DB8 << 96, (0x20010DB9 << 96) - 1).map(IPv6Address), st.integers(32, 128))
    addresses = draw(st.lists(st.one_of(ipv4, ipv6), min_size=1, max_size=4, unique_by=lambda one: one[0]))
    try:
        return VirtualHost(
            vhid=draw(st.integers(1, 255)),
            passphrase=draw(st.from_regex(r"[A-Za-z0-9]{12,19}", fullmatch=True)),
            addresses=[f"{ip}/{prefix}" for ip, prefix in addresses],
            advbase=draw(st.integers(1, 254)),
            advskew=draw(st.integers(0, 254)),
            carpdev=draw(st.sampled_from([None, "eth0", "em0"])),
            name="carp0",
            state=draw(st.sampled_from([None, *State])),
            up=draw(st.booleans()),
        )
    except ConfigError:
        reject()  # A subnet's own address, or its broadcast.


def options_of(host: VirtualHost, draw: st.DrawFn) -> str:
    words = [f"vhid {host.vhid}", f"pass {host.passphrase!s}", f"advbase {host.advbase}", f"advskew {host.advskew}"]
    words += [f"carpdev {host.carpdev}"] if host.carpdev else []
    words += [f"state {host.state.name.lower()}"] if host.state is not None else []
    words.append("up" if host.up else "down")
    extra = st.sampled_from(["-inet6", "group lan", "description 'wan vip'", "priority 3", "-debug", "link0", "mcast"])
    return " ".join(draw(st.permutations(words + draw(st.lists(extra, max_size=2, unique=True)))))


def openbsd(host: VirtualHost, draw: st.DrawFn) -> str:
    """hostname.if(5): the address first, its mask and broadcast by their position."""
    lines = []
    for number, one in enumerate(host.addresses):
        alias = "alias " if number else ""
        if one.version == 6:
            lines.append(f"inet6 {alias}{one.ip} {one.network.prefixlen}")
            continue
        mask = draw(st.sampled_from([str(one.netmask), hex(int(one.netmask)), f"netmask {one.netmask}"]))
        broadcast = draw(st.sampled_from(["", " NONE", f" {one.network.broadcast_address}"]))
        lines.append(f"inet {alias}{one.ip} {mask}{broadcast}")
    lines[0] += f" {options_of(host, draw)}"
    return "\n".join(["# made", *lines, ""])


def freebsd(host: VirtualHost, draw: st.DrawFn) -> str:
    """rc.conf(5): the whole description before each address."""
    bare = host.replace(carpdev=None)
    family = {4: "inet", 6: "inet6"}
    return "\n".join(
        f'ifconfig_em0_alias{number}="{family[one.version]} {options_of(bare, draw)} alias {one}"'
        for number, one in enumerate(host.addresses)
    )


def netbsd(host: VirtualHost, draw: st.DrawFn) -> str:
    """ifconfig.if(5): a call of ifconfig on each line."""
    lines = [options_of(host, draw)]
    for one in host.addresses:
        mask = f"netmask {one.netmask}" if one.version == 4 else f"prefixlen {one.network.prefixlen}"
        lines.append(f"{'inet' if one.version == 4 else 'inet6'} {one.ip} {mask}")
    return "\n".join(["create", *draw(st.permutations(lines))])


@given(virtual_hosts(), st.sampled_from([openbsd, freebsd, netbsd]), st.data())
def test_any_virtual_host_in_any_file(host: VirtualHost, write_as: Callable[..., str], data: st.DataObject) -> None:
    written = write_as(host, data.draw)
    parsed = text(written)
    expected = host.replace(carpdev=None) if write_as is freebsd else host
    assert parsed.host is not None, messages(parsed)
    assert parsed.host.replace(addresses=()) == expected.replace(addresses=())
    assert set(parsed.host.addresses) == set(expected.addresses)
