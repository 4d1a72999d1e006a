"""Vectors made with scapy: each CARP field set by hand, the digest by hmac and hashlib from docs/protocol.md.

`python tests/support/scapy_frames.py` writes tests/vectors/scapy.json anew. scapy does the framing and the checksums of
Ethernet, IP and CARP; its own digest (`CARP.build_hmac_sha1`) and its defaults are wrong and stay unused.

A vector: `hex` the frame; `verdict` the counter that the input path is to raise ("" for a valid advert, "ignored" for
what no IP layer hands on); `fields` what stands in it, when it is long enough to be an advert; `ours` true when it is
exactly what we build from these values. The host that hears it has the `addresses` and the `passphrase`, and is MASTER.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# scapy tells on import that its CARP takes the place of its VRRP.
logging.getLogger("scapy.loading").setLevel(logging.ERROR)
logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

from scapy.contrib.carp import CARP  # noqa: E402
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP, IPOption_Router_Alert, IPOption_RR  # noqa: E402
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop, in6_chksum  # noqa: E402
from scapy.layers.l2 import ARP, Dot1Q, Ether  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402

PATH = Path(__file__).parent.parent / "vectors" / "scapy.json"
VIRTUAL = "00:00:5e:00:01:"
V4 = ["10.13.37.42"]
V6 = ["2001:db8::42"]
MIXED = ["10.13.37.200", "10.13.37.42", "2001:db8::42", "fe80::42", "2001:db8::1:0"]
PASSPHRASE = "motdepassehalakon"
COUNTER = 0xD10C3A007A24499F


def digest(
    passphrase: bytes, vhid: int, addresses: list[str], counter: int, *, netbsd: bool, link_local: bool
) -> bytes:
    secret = passphrase[: min(len(passphrase), 20) - 1] if netbsd else passphrase[:19]
    mac = hmac.new(secret + bytes(20 - len(secret)), bytes([2, 1, vhid]), hashlib.sha1)
    for packed in sorted(socket.inet_pton(socket.AF_INET, address) for address in addresses if ":" not in address):
        mac.update(packed)
    for packed in sorted(socket.inet_pton(socket.AF_INET6, address) for address in addresses if ":" in address):
        if link_local or packed[:2] != b"\xfe\x80":
            mac.update(packed)
    mac.update(counter.to_bytes(8, "big"))
    return mac.digest()


def carp(
    *,
    vhid: int = 101,
    advbase: int = 1,
    advskew: int = 0,
    addresses: list[str] = V4,
    passphrase: str = PASSPHRASE,
    counter: int = COUNTER,
    netbsd: bool = False,
    link_local: bool = True,
    **fields: int,
) -> CARP:
    """The 36 bytes. `fields` overrides any field of scapy's layer."""
    hashed = digest(passphrase.encode(), vhid, addresses, counter, netbsd=netbsd, link_local=link_local)
    words = [int.from_bytes(hashed[at : at + 4], "big") for at in range(0, 20, 4)]
    values: dict[str, int] = {
        "version": 2, "type": 1, "vhid": vhid, "advskew": advskew, "authlen": 7, "demotion": 0, "advbase": advbase,
        "counter1": counter >> 32, "counter2": counter & 0xFFFFFFFF,
        "hmac1": words[0], "hmac2": words[1], "hmac3": words[2], "hmac4": words[3], "hmac5": words[4],
    }  # fmt: skip
    return CARP(**(values | fields))


def ether(vhid: int = 101, **fields: Any) -> Ether:
    return Ether(**({"dst": "01:00:5e:00:00:12", "src": f"{VIRTUAL}{vhid:02x}", "type": 0x0800} | fields))


def ip(**fields: Any) -> IP:
    return IP(
        **(
            {"src": "10.13.37.12", "dst": "224.0.0.18", "ttl": 255, "tos": 0x10, "flags": "DF", "id": 0, "proto": 112}
            | fields
        )
    )


def ether6(vhid: int = 101, **fields: Any) -> Ether:
    return Ether(**({"dst": "33:33:00:00:00:12", "src": f"{VIRTUAL}{vhid:02x}", "type": 0x86DD} | fields))


def ip6(**fields: Any) -> IPv6:
    return IPv6(**({"src": "2001:db8::12", "dst": "ff02::12", "hlim": 255, "nh": 112} | fields))


def with_pseudo_header(layer: CARP, header: IPv6) -> CARP:
    """NetBSD's checksum in IPv6 since 2017, by scapy's own function."""
    layer = layer.copy()
    layer.chksum = 0
    layer.chksum = in6_chksum(112, header, bytes(layer))
    return layer


def vector(name: str, packet: Packet | bytes, verdict: str = "", **more: Any) -> dict[str, Any]:
    host = {"addresses": more.pop("addresses", V4), "passphrase": more.pop("passphrase", PASSPHRASE)}
    made = {"name": name, "hex": bytes(packet).hex(), "verdict": verdict, "vhid": 101, **host, **more}
    if isinstance(packet, Packet) and packet.haslayer(CARP) and verdict not in ("ignored", "badlen"):
        layer = packet[CARP]
        made["fields"] = {
            "family": 6 if packet.haslayer(IPv6) else 4,
            "source": packet[1].src,
            "destination": packet[1].dst,
            "source_mac": packet[Ether].src.replace(":", ""),
            "counter": f"{layer.counter1:08x}{layer.counter2:08x}",
            "digest": "".join(f"{getattr(layer, f'hmac{number}'):08x}" for number in range(1, 6)),
        } | {
            name: getattr(layer, name)
            for name in ("version", "type", "vhid", "advskew", "authlen", "demotion", "advbase")
        }
    return made


def built_by_us_too() -> Iterator[dict[str, Any]]:
    for vhid in (1, 101, 254, 255):
        yield vector(f"vhid {vhid}", ether(vhid) / ip() / carp(vhid=vhid), ours=True, vhid=vhid)
        yield vector(
            f"vhid {vhid}, IPv6",
            ether6(vhid) / ip6() / carp(vhid=vhid, addresses=V6),
            ours=True,
            vhid=vhid,
            addresses=V6,
        )
    for advbase, advskew in ((0, 1), (1, 100), (1, 240), (254, 254), (255, 255)):
        yield vector(f"{advbase}/{advskew}", ether() / ip() / carp(advbase=advbase, advskew=advskew), ours=True)
    for counter in (0, 1, 0x1000, 2**63, 2**64 - 1):
        yield vector(f"counter {counter:x}", ether() / ip() / carp(counter=counter), ours=True)
    for passphrase in ("a", "abcdefg", "abcdefgh", "abcdefghijklmnopqrs", "abcdefghijklmnopqrstu", "clé à molette"):
        yield vector(
            f"passphrase of {len(passphrase.encode())}",
            ether() / ip() / carp(passphrase=passphrase),
            ours=True,
            passphrase=passphrase,
        )
    for passphrase in ("abcdefgh", "abcdefghijklmnopqrs", "abcdefghijklmnopqrstu"):
        yield vector(
            f"NetBSD's key of {len(passphrase)}",
            ether() / ip() / carp(passphrase=passphrase, netbsd=True),
            ours=True,
            passphrase=passphrase,
            dialect="netbsd",
        )
    yield vector("mixed addresses", ether() / ip() / carp(addresses=MIXED), ours=True, addresses=MIXED)
    yield vector("mixed addresses, IPv6", ether6() / ip6() / carp(addresses=MIXED), ours=True, addresses=MIXED)
    many = [f"10.13.37.{last}" for last in range(1, 41)]
    yield vector("40 addresses", ether() / ip() / carp(addresses=many), ours=True, addresses=many)
    yield vector("the address itself for a source", ether() / ip(src="10.13.37.42") / carp(), ours=True)
    yield vector("the interface's MAC", ether(src="02:00:0a:0d:25:0b") / ip() / carp(), ours=True)
    yield vector("link-local source", ether6() / ip6(src="fe80::12") / carp(addresses=V6), ours=True, addresses=V6)


def accepted() -> Iterator[dict[str, Any]]:
    yield vector(
        "OpenBSD leaves link-local out", ether() / ip() / carp(addresses=MIXED, link_local=False), addresses=MIXED
    )
    yield vector("FreeBSD's DSCP 56", ether() / ip(tos=0xE0) / carp())
    yield vector("UCarp's Ethernet source", ether(src="00:00:5e:00:00:65") / ip() / carp())
    yield vector("an id and no DF", ether() / ip(id=0xBEEF, flags=0) / carp())
    yield vector("priority tag", ether(type=0x8100) / Dot1Q(vlan=0, prio=7, type=0x0800) / ip() / carp())
    yield vector("priority tag of 802.1ad", ether(type=0x88A8) / Dot1Q(vlan=0, type=0x0800) / ip() / carp())
    yield vector("two priority tags", ether(type=0x8100) / Dot1Q(vlan=0, type=0x8100) / Dot1Q(vlan=0) / ip() / carp())
    for authlen in (0, 6, 8, 255):
        yield vector(f"authlen {authlen}", ether() / ip() / carp(authlen=authlen))
    for kind in (0, 2, 4, 15):
        yield vector(f"type {kind}", ether() / ip() / carp(type=kind))
    yield vector("demoted OpenBSD", ether() / ip() / carp(demotion=255))
    yield vector("four NOPs", ether() / ip(options=[IPOption_NOP()] * 4) / carp())
    yield vector("router alert", ether() / ip(options=[IPOption_Router_Alert()]) / carp())
    yield vector("record route", ether() / ip(options=[IPOption_RR(routers=["0.0.0.0"] * 3)]) / carp())
    yield vector("trailing bytes", ether() / ip() / carp() / Raw(b"and so on"))
    yield vector("a large datagram", ether() / ip() / carp() / Raw(bytes(9000)))
    yield vector("Ethernet padding", bytes(ether() / ip() / carp()) + bytes(20))
    yield vector("broadcast MAC", ether(dst="ff:ff:ff:ff:ff:ff") / ip() / carp())
    yield vector("to the virtual host's own", ether(dst=VIRTUAL + "65") / ip(dst="10.13.37.42") / carp())
    yield vector("source 0.0.0.0", ether() / ip(src="0.0.0.0") / carp())
    six = carp(addresses=V6)
    yield vector("IPv6 pseudo-header", ether6() / ip6() / with_pseudo_header(six, ip6()), addresses=V6)
    yield vector("IPv6 flow label", ether6() / ip6(fl=0xABCDE, tc=0xE0) / six, addresses=V6)
    yield vector("IPv6 trailing bytes", ether6() / ip6() / six / Raw(b"more"), addresses=V6)
    yield vector(
        "IPv6 pseudo-header, trailing bytes",
        ether6() / ip6() / with_pseudo_header(six, ip6()) / Raw(b"odd"),
        addresses=V6,
    )


def rejected() -> Iterator[dict[str, Any]]:
    for ttl in (0, 1, 64, 254):
        yield vector(f"TTL {ttl}", ether() / ip(ttl=ttl) / carp(), "badttl")
        yield vector(f"hop limit {ttl}", ether6() / ip6(hlim=ttl) / carp(addresses=V6), "badttl", addresses=V6)
    whole = bytes(carp())
    for length in range(36):
        yield vector(f"{length} bytes", ether() / ip() / Raw(whole[:length]), "badlen")
    six = bytes(carp(addresses=V6))
    for length in (0, 1, 35):
        yield vector(f"{length} bytes, IPv6", ether6() / ip6() / Raw(six[:length]), "badlen", addresses=V6)
    yield vector("IPv6 length zero", ether6() / ip6(plen=0) / carp(addresses=V6), "badlen", addresses=V6)
    right = int.from_bytes(whole[6:8], "big")
    for wrong in (right ^ 1, right ^ 0x8000, 0):
        yield vector(f"checksum {wrong:04x}", ether() / ip() / carp(chksum=wrong), "badsum")
    yield vector(
        "IPv6 pseudo-header of another source",
        ether6() / ip6() / with_pseudo_header(carp(addresses=V6), ip6(src="2001:db8::13")),
        "badsum",
        addresses=V6,
    )
    for vhid in (0, 100, 102, 255):
        yield vector(f"another vhid {vhid}", ether(vhid) / ip() / carp(vhid=vhid), "badvhid")
    for version in (0, 1, 3, 4, 15):
        yield vector(f"version {version}", ether() / ip() / carp(version=version), "badver")
    yield vector("another passphrase", ether() / ip() / carp(passphrase="motdepassehalakom"), "badauth")
    yield vector("another address", ether() / ip() / carp(addresses=["10.13.37.43"]), "badauth")
    yield vector("one address more", ether() / ip() / carp(addresses=[*V4, "10.13.37.43"]), "badauth")
    yield vector("no address", ether() / ip() / carp(addresses=[]), "badauth")
    yield vector("zero key", ether() / ip() / carp(passphrase=""), "badauth")
    for number in range(1, 6):
        word = getattr(carp(), f"hmac{number}")
        yield vector(f"digest word {number}", ether() / ip() / carp(**{f"hmac{number}": word ^ 1}), "badauth")
    yield vector("counter word 1", ether() / ip() / carp(counter1=1), "badauth")
    yield vector("counter word 2", ether() / ip() / carp(counter2=1), "badauth")
    scapys = carp()
    hashed = scapys.build_hmac_sha1(PASSPHRASE.encode().ljust(20, b"\0"), ip4l=V4)
    for number in range(5):
        setattr(scapys, f"hmac{number + 1}", int.from_bytes(hashed[4 * number : 4 * number + 4], "big"))
    yield vector("scapy's own digest", ether() / ip() / scapys, "badauth")
    yield vector("scapy's own defaults", ether() / ip() / CARP(vhid=101), "badver")


def ignored() -> Iterator[dict[str, Any]]:
    yield vector("VLAN", ether(type=0x8100) / Dot1Q(vlan=7, type=0x0800) / ip() / carp(), "ignored")
    yield vector(
        "priority tag, then VLAN", ether(type=0x8100) / Dot1Q(vlan=0) / Dot1Q(vlan=7) / ip() / carp(), "ignored"
    )
    yield vector("QinQ", ether(type=0x88A8) / Dot1Q(vlan=7, type=0x0800) / ip() / carp(), "ignored")
    yield vector("VLAN, IPv6", ether6(type=0x8100) / Dot1Q(vlan=7, type=0x86DD) / ip6() / carp(addresses=V6), "ignored")
    yield vector("ethertype of IPv6", ether(type=0x86DD) / ip() / carp(), "ignored")
    yield vector("ethertype of IPv4", ether(type=0x0800) / ip6() / carp(addresses=V6), "ignored")
    yield vector("ARP", ether(type=0x0806) / ARP(psrc="10.13.37.42"), "ignored")
    yield vector("UDP", ether() / ip(proto=17) / UDP(sport=112, dport=112) / Raw(bytes(carp())), "ignored")
    yield vector("ICMP", ether() / ip(proto=1) / ICMP(), "ignored")
    yield vector("OSPF's number", ether() / ip(proto=89) / carp(), "ignored")
    yield vector("IPv6 hop-by-hop first", ether6() / ip6(nh=0) / IPv6ExtHdrHopByHop(nh=112) / carp(), "ignored")
    for ihl in (0, 1, 4, 15):
        yield vector(f"IHL {ihl}", ether() / ip(ihl=ihl) / carp(), "ignored")
    for length in (0, 19, 57, 9000, 65535):
        yield vector(f"IPv4 length {length}", ether() / ip(len=length) / carp(), "ignored")
    for length in (37, 9000, 65535):
        yield vector(f"IPv6 length {length}", ether6() / ip6(plen=length) / carp(addresses=V6), "ignored", addresses=V6)
    yield vector("IP checksum", ether() / ip(chksum=0x1234) / carp(), "ignored")
    yield vector("IP checksum zero", ether() / ip(chksum=0) / carp(), "ignored")
    yield vector("first fragment", ether() / ip(flags="MF") / carp(), "ignored")
    yield vector("last fragment", ether() / ip(flags=0, frag=3) / carp(), "ignored")
    yield vector("IP version 6 in IPv4", ether() / ip(version=6) / carp(), "ignored")
    for source in ("224.0.0.18", "239.1.2.3", "127.0.0.1"):
        yield vector(f"source {source}", ether() / ip(src=source) / carp(), "ignored")
    for source in ("ff02::12", "::1"):
        yield vector(f"source {source}", ether6() / ip6(src=source) / carp(addresses=V6), "ignored", addresses=V6)
    yield vector("another group", ether(dst="01:00:5e:00:00:13") / ip(dst="224.0.0.19") / carp(), "ignored")
    yield vector("somebody else's", ether(dst="02:00:00:00:00:99") / ip(dst="10.13.37.99") / carp(), "ignored")
    good = bytes(ether() / ip() / carp())
    for length in range(len(good)):
        yield vector(f"cut after {length}", good[:length], "ignored")
    good6 = bytes(ether6() / ip6() / carp(addresses=V6))
    for length in range(0, len(good6), 7):
        yield vector(f"IPv6 cut after {length}", good6[:length], "ignored", addresses=V6)


def vectors() -> list[dict[str, Any]]:
    return [*built_by_us_too(), *accepted(), *rejected(), *ignored()]


if __name__ == "__main__":
    lines = ",\n".join(f" {json.dumps(made, ensure_ascii=False)}" for made in vectors())
    PATH.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
