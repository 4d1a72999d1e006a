"""Vectors that scapy framed (tests/vectors/scapy.json): parsed and checked by us, and equal to what we build."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

import pytest
from support import scapy_frames, wire

from pycarp._impl import Implementation
from pycarp.protocol import State
from pycarp.protocol.frames import arp_reply, gratuitous_arp, neighbour_advertisement, virtual_mac

VECTORS: list[dict[str, Any]] = json.loads(scapy_frames.PATH.read_text(encoding="utf-8"))


def chosen(*verdicts: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS if vector["verdict"] in verdicts]


def test_stored_is_what_scapy_makes() -> None:
    assert scapy_frames.vectors() == VECTORS


def test_names_are_unique_and_all_verdicts_occur() -> None:
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 150
    assert {vector["verdict"] for vector in VECTORS} == {
        "", "ignored", "badttl", "badlen", "badsum", "badvhid", "badver", "badauth"
    }  # fmt: skip


@pytest.mark.parametrize("vector", [*chosen(""), *chosen("badttl", "badlen", "badsum", "badvhid", "badver", "badauth")])
def test_verdicts(impl: Implementation, vector: dict[str, Any]) -> None:
    input_ = impl.input.Input()
    input_.set_carpdev(wire.CARPDEV_MAC, [ip_interface("10.13.37.11/24"), ip_interface("2001:db8::b/64")])
    authenticator = impl.auth.Authenticator(vector["passphrase"], vector["vhid"], vector["addresses"])
    packed = [ip_interface(address).packed for address in vector["addresses"]]
    input_.set_instance(vector["vhid"], authenticator, virtual_mac(vector["vhid"]), packed, siblings=False)
    input_.set_state(vector["vhid"], State.MASTER)
    frame = bytes.fromhex(vector["hex"])
    verdict = input_.receive(frame)
    assert verdict.counter == vector["verdict"]
    ipv6 = frame[12:14] == b"\x86\xdd"
    expected = {"ipackets6" if ipv6 else "ipackets": 1} | ({vector["verdict"]: 1} if vector["verdict"] else {})
    assert {name: value for name, value in input_.stats().as_dict().items() if value} == expected
    if "fields" in vector:
        advert = verdict.advert
        assert advert is not None
        fields = dict(vector["fields"])
        for name in ("source_mac", "counter", "digest"):
            fields[name] = bytes.fromhex(fields[name])
        assert {name: getattr(advert, name) for name in fields} == fields


@pytest.mark.parametrize("state", [State.INIT, State.BACKUP, State.MASTER], ids=lambda state: state.name)
def test_ignored(impl: Implementation, state: State) -> None:
    """Nothing is counted, whatever the state, and nothing raises."""
    for param in chosen("ignored"):
        (vector,) = param.values
        input_ = impl.input.Input()
        input_.set_carpdev(wire.CARPDEV_MAC, [ip_interface("10.13.37.11/24"), ip_interface("2001:db8::b/64")])
        authenticator = impl.auth.Authenticator(vector["passphrase"], vector["vhid"], vector["addresses"])
        packed = [ip_interface(address).packed for address in vector["addresses"]]
        input_.set_instance(101, authenticator, wire.VIRTUAL_MAC, packed)
        input_.set_state(101, state)
        verdict = input_.receive(bytes.fromhex(vector["hex"]))
        assert (verdict.counter, verdict.advert) == ("ignored", None), vector["name"]
        assert not any(input_.stats().as_dict().values()), vector["name"]


@pytest.mark.parametrize("vector", [param for param in chosen("") if param.values[0].get("ours")])
def test_built(impl: Implementation, vector: dict[str, Any]) -> None:
    """The same frame from our template and our signature, given the counter."""
    fields = vector["fields"]
    dialect = vector.get("dialect", "bsd")
    authenticator = impl.auth.Authenticator(vector["passphrase"], vector["vhid"], vector["addresses"], dialect)
    template = impl.packet.AdvertTemplate(vector["vhid"], bytes.fromhex(fields["source_mac"]), fields["source"])
    counter = bytes.fromhex(fields["counter"])
    frame = template.frame(fields["advbase"], fields["advskew"], counter, authenticator.sign(counter))
    assert frame.hex() == vector["hex"]


def test_arp_and_neighbour_advertisement() -> None:
    """scapy builds them from their fields; ours are the same bytes."""
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
    from scapy.layers.l2 import ARP, Ether

    mac, vip = "00:00:5e:00:01:65", "10.13.37.42"
    request = ARP(op=1, hwsrc=mac, psrc=vip, hwdst="00:00:00:00:00:00", pdst=vip)
    assert gratuitous_arp(wire.VIRTUAL_MAC, vip) == bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / request)
    client = "02:11:22:33:44:55"
    reply = ARP(op=2, hwsrc=mac, psrc=vip, hwdst=client, pdst="10.13.37.99")
    ours = arp_reply(wire.VIRTUAL_MAC, vip, bytes.fromhex(client.replace(":", "")), "10.13.37.99")
    assert ours == bytes(Ether(dst=client, src=mac) / reply)
    advertisement = (
        Ether(dst="33:33:00:00:00:01", src=mac)
        / IPv6(src="2001:db8::42", dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(R=0, S=0, O=1, tgt="2001:db8::42")
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )
    assert neighbour_advertisement(wire.VIRTUAL_MAC, "2001:db8::42") == bytes(advertisement)
