"""What a NetBSD kernel sent (vectors/netbsd-frames.json), rebuilt by us byte for byte, and believed by us."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from support import wire

from pycarp._impl import Implementation
from pycarp.protocol import State
from pycarp.protocol.frames import arp_reply, gratuitous_arp, virtual_mac

RECORDS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "netbsd-frames.json").read_text())
# Recorded under the key that NetBSD's own ifconfig made of the passphrase; the others under the passphrase as written.
NETBSD_KEY = {"blog_netbsd_ifconfig_key", "pass19_netbsd_ifconfig", "pass21_netbsd_ifconfig"}


def frames(*kinds: str) -> list[Any]:
    return [
        pytest.param(record, bytes.fromhex(frame["hex"]), id=f"{record['name']}-{frame['kind']}-{number}")
        for record in RECORDS
        for number, frame in enumerate(record["frames"])
        if frame["kind"] in kinds
    ]


def dialect_of(record: dict[str, Any]) -> str:
    return "netbsd" if record["name"] in NETBSD_KEY else "bsd"


def mac_of(record: dict[str, Any]) -> bytes:
    return bytes.fromhex("00005e0001") + bytes((record["vhid"],))


def carpdev_ip(record: dict[str, Any]) -> str:
    address: str = record["carpdev_address"]
    return address.partition("/")[0]


def test_there_is_something_to_rebuild() -> None:
    assert len(frames("advert")) >= 30
    assert len(frames("bowout")) >= 10
    assert len(frames("garp")) >= 11
    assert len(frames("arp-reply")) >= 10
    assert {frame["kind"] for record in RECORDS for frame in record["frames"]} == {
        "advert",
        "bowout",
        "garp",
        "arp-reply",
    }


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["name"])
def test_keys(record: dict[str, Any]) -> None:
    """The recorded key is the one that docs/protocol.md makes of the passphrase; this checks the oracle, too."""
    assert wire.key(record["passphrase"], dialect_of(record)).hex() == record["key_hex"]


@pytest.mark.parametrize(("record", "frame"), frames("advert", "bowout"))
def test_adverts_byte_for_byte(impl: Implementation, record: dict[str, Any], frame: bytes) -> None:
    counter = frame[-28:-20]
    authenticator = impl.auth.Authenticator(
        record["passphrase"], record["vhid"], record["addresses"], dialect_of(record)
    )
    template = impl.packet.AdvertTemplate(record["vhid"], virtual_mac(record["vhid"]), carpdev_ip(record))
    bowout = frame[34 + 5] == 255
    advbase, advskew = (255, 255) if bowout else (record["advbase"], record["advskew"])
    assert template.frame(advbase, advskew, counter, authenticator.sign(counter)) == frame


@pytest.mark.parametrize(("record", "frame"), frames("advert", "bowout"))
@pytest.mark.parametrize("dialect", ["auto", "bsd", "netbsd"])
def test_adverts_are_believed(impl: Implementation, record: dict[str, Any], frame: bytes, dialect: str) -> None:
    input_ = impl.input.Input()
    input_.set_carpdev(bytes.fromhex("02000a0d250c"), [ip_interface("10.13.37.12/24")])
    authenticator = impl.auth.Authenticator(record["passphrase"], record["vhid"], record["addresses"], dialect)
    addresses = [ip_interface(address).packed for address in record["addresses"]]
    input_.set_instance(record["vhid"], authenticator, mac_of(record), addresses)
    input_.set_state(record["vhid"], State.BACKUP)
    verdict = input_.receive(frame)
    # From 20 bytes on, and without a passphrase, both dialects make the same key.
    keys = {name: wire.key(record["passphrase"], name).hex() for name in ("bsd", "netbsd")}
    understood = [name for name in keys if dialect in (name, "auto") and keys[name] == record["key_hex"]]
    assert verdict.dialect == (understood[0] if understood else None)
    assert verdict.counter == ("" if understood else "badauth")
    advert = verdict.advert
    assert advert is not None
    assert (advert.family, advert.source, advert.destination) == (4, carpdev_ip(record), "224.0.0.18")
    assert advert.source_mac == mac_of(record)
    assert (advert.version, advert.type, advert.vhid, advert.authlen) == (2, 1, record["vhid"], 7)
    assert advert.advskew == frame[36] and advert.demotion == frame[38] and advert.advbase == frame[39]
    assert advert.counter == frame[42:50] and advert.digest == frame[50:70]
    assert advert.bowout == (frame[39] == 255)


@pytest.mark.parametrize(("record", "frame"), frames("garp"))
def test_gratuitous_arp_but_for_the_ethernet_source(record: dict[str, Any], frame: bytes) -> None:
    address = ".".join(str(byte) for byte in frame[-4:])
    assert address in [text.partition("/")[0] for text in record["addresses"]]
    ours = gratuitous_arp(mac_of(record), address)
    assert ours[:6] == frame[:6]
    assert ours[6:12] == mac_of(record)  # so that switches learn it; NetBSD has the carpdev's there
    assert frame[6:12].hex(":") == record["carpdev_mac"]
    assert ours[12:] == frame[12:]


@pytest.mark.parametrize(("record", "frame"), frames("arp-reply"))
def test_arp_reply(record: dict[str, Any], frame: bytes) -> None:
    asked, asker_mac, asker = frame[28:32], frame[32:38], frame[38:42]
    ours = arp_reply(mac_of(record), ".".join(map(str, asked)), asker_mac, ".".join(map(str, asker)))
    assert ours == frame
