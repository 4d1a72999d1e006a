"""What OpenBSD's and FreeBSD's kernels sent (vectors/), believed by us as their own twin would, and signed alike."""

from __future__ import annotations

import json
import re
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from support import wire

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.engine.plan import make_plan
from pycarp.protocol import NS_PER_SECOND, NS_PER_SKEW, Advert, Reason, SendAdvert, State, Transition
from pycarp.protocol.frames import virtual_mac

VECTORS = Path(__file__).parents[1] / "vectors"
MAC = bytes.fromhex("02000000000c")
ADVERTS = ("advert", "advert6", "bowout", "bowout6", "advert-unicast", "vrrp3", "vrrp3_6")


def frames() -> list[Any]:
    return [
        pytest.param(record, frame, id=f"{system}-{record['name']}-{frame['kind']}-{number}")
        for system in ("openbsd", "freebsd")
        for record in json.loads((VECTORS / f"{system}-frames.json").read_text())["records"]
        for number, frame in enumerate(record["frames"])
        if frame["kind"] in ADVERTS and "hex" in frame
    ]


def expected(record: dict[str, Any], frame: dict[str, Any]) -> tuple[str, str | None]:
    """The check that it fails, if any, and the dialect."""
    if frame["kind"].startswith("vrrp3"):
        # VRRP's checksum over IPv6 has a pseudo header.
        return "badsum" if frame["kind"] == "vrrp3_6" else "badlen", None
    if "lladdr" in record:
        return "badauth", None  # the interface's own lladdr is in the digest
    if record.get("carpnodes") and whole(frame)[35] != record["vhid"]:
        return "sibling", "bsd"  # a second node of a balancing group has a vhid of its own
    if record["name"] == "rawkey20_by_netlink":
        return "badauth", None  # no passphrase that ifconfig takes makes this key
    dialect = "openbsd" if record["digest_covers"] == "without link-local addresses" else "bsd"
    return "badif" if whole(frame)[:6] == MAC else "", dialect


def whole(frame: dict[str, Any]) -> bytes:
    """What was sent by unicast was recorded without an Ethernet header, or without a destination in it."""
    octets = bytes.fromhex(frame["hex"])
    if octets[:2] in (b"\x01\x00", b"\x33\x33"):
        return octets
    return MAC + (octets[6:] if octets[:6] == bytes(6) else bytes.fromhex("02000000000b0800") + octets)


@pytest.mark.parametrize(("record", "frame"), frames())
def test_adverts_are_believed(impl: Implementation, record: dict[str, Any], frame: dict[str, Any]) -> None:
    input_ = impl.input.Input()
    input_.set_carpdev(MAC, [ip_interface("10.13.37.12/24"), ip_interface("fe80::c/64")])
    authenticator = impl.auth.Authenticator(record.get("passphrase"), record["vhid"], record["addresses"])
    addresses = [ip_interface(address).packed for address in record["addresses"]]
    input_.set_instance(record["vhid"], authenticator, virtual_mac(record["vhid"]), addresses)
    input_.set_state(record["vhid"], State.BACKUP)
    octets = whole(frame)
    verdict = input_.receive(octets)
    fault, dialect = expected(record, frame)
    assert (verdict.counter, verdict.dialect) == (fault, dialect)
    if frame["kind"].startswith("vrrp3"):
        assert verdict.vrrp_router == 101
    if dialect is not None and fault != "sibling":
        assert verdict.advert is not None and verdict.advert.digest == octets[-20:]
        assert authenticator.sign(octets[-28:-20], dialect) == octets[-20:]
        assert authenticator.check(octets[-28:-20], verdict.advert.advbase, verdict.advert.advskew, dialect) == ""
        assert wire.key(record.get("passphrase") or "").hex() == record["key_hex"]
    if "demote" in frame and verdict.advert is not None:
        assert verdict.advert.demotion == frame["demote"]


def test_there_is_something_to_believe() -> None:
    kinds = [parameters.values[1]["kind"] for parameters in frames()]
    assert set(kinds) == set(ADVERTS) and len(kinds) > 120


# The demotion byte, and what else BSDs have besides


OPENBSD = [row for row in json.loads((VECTORS / "openbsd-behaviour.json").read_text())["rows"] if "before" in row]
DEMOTED = [row for row in OPENBSD if re.fullmatch(r"D_[MB][01]_own\d+_\w+_d\d+", row["id"])]


@pytest.mark.parametrize("row", DEMOTED, ids=lambda row: row["id"])
def test_the_demotion_byte_decides_as_on_openbsd(impl: Implementation, row: dict[str, Any]) -> None:
    """Each recorded row, but for our own advskew: while demoted it is 240, so the peer's is moved along with it."""
    before, preempt, own, kind, said = re.fullmatch(r"D_([MB])([01])_own(\d+)_(\w+)_d(\d+)", row["id"]).groups()  # type: ignore[union-attr]
    host = VirtualHost(vhid=101, passphrase="", addresses=["10.13.37.42"], advskew=100, preempt=preempt == "1")
    machine = impl.machine.Machine(host, lambda _most: 0)
    machine.start(0)
    machine.demote(int(own), 1)
    if before == "M":
        machine.force(State.MASTER, 2)
    advskew = machine.advskew + {"better": -50, "equal": 0, "worse": 10}[kind]
    heard = Advert(4, "10.13.37.12", "224.0.0.18", b"", 2, 1, 101, advskew, 7, int(said), 1, bytes(8), bytes(20))
    machine.receive(heard, "10.13.37.12", 100_000_000, int(said))
    machine.timeout(110_000_000)  # a takeover waits some ms
    assert machine.state.name == row["after"]


def test_who_is_obeyed(impl: Implementation) -> None:
    """A pycarp host by its tag, OpenBSD by its constant counter, and others where that is wanted."""
    host = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42"])
    plan = make_plan(impl, host, MAC, {})
    sender = impl.auth.Authenticator(host.passphrase, 101, host.addresses)

    def advert(demotion: int, counter: bytes) -> Advert:
        digest = sender.sign(counter, "bsd")
        return Advert(4, "10.13.37.12", "224.0.0.18", b"", 2, 1, 101, 240, 7, demotion, 1, counter, digest)

    tagged = sender.counter(1, 240, 7, "bsd", 5)
    assert plan.obeyed(advert(5, tagged), "bsd", 0, 0) == 5
    assert plan.obeyed(advert(0, sender.counter(1, 240, 7, "bsd", 0)), "bsd", 3, 0) == 0
    assert plan.obeyed(advert(0, sender.counter(1, 240, 7, "bsd", 0)), "bsd", 0, 0) is None
    # An older pycarp host, and NetBSD: their byte is 0, and says nothing.
    assert plan.obeyed(advert(0, sender.counter(1, 240, 7, "bsd")), "bsd", 3, 0) is None
    assert plan.obeyed(advert(5, bytes(8)), "bsd", 0, 0) is None
    assert plan.obeyed(advert(5, bytes(8)), "bsd", 0, 2 * NS_PER_SECOND) == 5
    assert plan.obeyed(advert(5, bytes(8)), "bsd", 0, NS_PER_SECOND) is None  # it may be a frame that was sent again
    for whose, obeyed in (("obey", 5), ("ignore", None), ("add", None)):
        other = make_plan(impl, host.replace(demotion=whose), MAC, {})
        assert other.obeyed(advert(5, bytes(8)), "bsd", 0, 0) == obeyed
        assert other.says_demotion is (whose == "obey")


@pytest.mark.parametrize("said", [0, 1, 255])
def test_an_altered_demotion_is_seen(impl: Implementation, said: int) -> None:
    """Whatever else was altered with it, and whichever layout the counter has."""
    ours = impl.auth.Authenticator("motdepassehalakon", 101, ["10.13.37.42"])
    sender = impl.auth.Authenticator("motdepassehalakon", 101, ["10.13.37.42"])
    counter = sender.counter(1, 100, 0xABCDEF, "bsd", said)
    assert counter[3] == said and ours.check(counter, 1, 100, "bsd", said) == ""
    assert ours.vouches(counter, 1, 100, "bsd", said)
    for advbase, advskew, demotion in (
        (1, 100, said ^ 1),
        (1, 99, said),
        (0, 100, said),
        (1, 99, 7),
        (1, 100, 0 if said else 9),
    ):
        assert ours.check(counter, advbase, advskew, "bsd", demotion) == "altered"
        assert not ours.vouches(counter, advbase, advskew, "bsd", demotion)
    none = sender.counter(1, 100, 7, "bsd")
    assert ours.check(none, 1, 100, "bsd", 0) == "" and not ours.vouches(none, 1, 100, "bsd", 0)
    assert ours.check(none, 1, 100, "bsd", 1) == "altered"
    first = wire.tagged_counter(wire.key("motdepassehalakon"), 101, 1, 100, 0xABCDEF)
    assert ours.check(first, 1, 100, "bsd", 0) == "" and not ours.vouches(first, 1, 100, "bsd", 0)
    assert ours.check(first, 1, 100, "bsd", 1) == "altered"
    assert ours.check(first, 1, 100, "bsd", 0xAB) == "altered"  # the byte of the nonce that stands there
    assert ours.check(bytes(8), 1, 100, "bsd", 5) == ""


def test_silence_and_order_beside_openbsd(impl: Implementation) -> None:
    """The recorded times of OpenBSD: never sooner than a more eager OpenBSD, never later than a less eager one."""
    recorded = {
        row["id"]: row["master_down_s"]
        for row in json.loads((VECTORS / "openbsd-behaviour.json").read_text())["rows"]
        if row["id"].startswith("T_")
    }

    def silence(advbase: int, advskew: int) -> float:
        host = VirtualHost(
            vhid=1, passphrase="", addresses=["10.0.0.1"], advbase=advbase, advskew=advskew, timing="openbsd"
        )
        assert impl.machine.Machine(host, lambda _most: 0).master_down == host.master_down
        return host.master_down / NS_PER_SECOND

    for advbase, advskew in ((1, 0), (1, 1), (1, 100), (1, 200), (2, 100), (5, 0)):
        theirs = recorded[f"T_{advbase}_{advskew}"]
        assert theirs - 0.01 < silence(advbase, advskew) < theirs + 0.02
        assert silence(advbase, advskew + 1) > theirs and (not advskew or silence(advbase, advskew - 1) < theirs + 0.01)
    # Three of its adverts that come every 20 or 50 ms may be lost.
    assert silence(0, 0) > 3 * 0.02 and silence(0, 1) > 3 * 0.02 and silence(0, 10) > 3 * 0.05
    machine = impl.machine.Machine(
        VirtualHost(vhid=1, passphrase="", addresses=["10.0.0.1"], advbase=0, timing="openbsd"), lambda _most: 0
    )
    machine.start(0)
    assert machine.timeout(machine.deadline or 0)[0] == SendAdvert(0, 0)
    assert machine.deadline == 3 * (NS_PER_SKEW + 20_000_000) + NS_PER_SKEW


def test_missed_and_delays(impl: Implementation) -> None:
    host = VirtualHost(
        vhid=101,
        passphrase="",
        addresses=["10.0.0.1"],
        advskew=100,
        missed=5,
        preempt=True,
        preempt_delay=10,
        start_delay=30,
    )
    machine = impl.machine.Machine(host, lambda _most: 0)
    machine.start(0)
    assert machine.master_down == 5 * NS_PER_SECOND + 100 * NS_PER_SKEW
    assert machine.deadline == 30 * NS_PER_SECOND

    def slower(at: float, advbase: int = 1, advskew: int = 200) -> State:
        now = round(at * NS_PER_SECOND)
        advert = Advert(4, "10.0.0.2", "224.0.0.18", b"", 2, 1, 101, advskew, 7, 0, advbase, bytes(8), bytes(20))
        machine.receive(advert, "10.0.0.2", now)
        machine.timeout(now + 5_000_000)
        return machine.state

    assert slower(1, 255, 255) is State.BACKUP  # neither a bow-out nor silence makes it MASTER before
    assert machine.deadline == 30 * NS_PER_SECOND
    assert slower(2) is State.BACKUP
    assert machine.deadline == 30 * NS_PER_SECOND
    assert slower(31) is State.BACKUP and slower(40.9) is State.BACKUP
    assert slower(41) is State.MASTER
    machine.force(State.BACKUP, 50 * NS_PER_SECOND)
    assert slower(51) is State.BACKUP and slower(60, 1, 50) is State.BACKUP
    assert slower(62) is State.BACKUP and slower(71) is State.BACKUP  # a better one came between
    assert slower(71.5, 255, 255) is State.MASTER


def test_freebsds_demotion_is_added(impl: Implementation) -> None:
    host = VirtualHost(vhid=101, passphrase="", addresses=["10.0.0.1"], advskew=100, demotion="add")
    machine = impl.machine.Machine(host, lambda _most: 0)
    machine.start(0)
    for by, advskew in ((50, 150), (89, 239), (1, 240), (300, 240), (-440, 100)):
        machine.demote(by, 1)
        assert (machine.advskew, machine.sent_demotion) == (advskew, 0)
    assert machine.master_down == 3 * NS_PER_SECOND + 100 * NS_PER_SKEW
    machine.reconfigure(host.replace(advskew=250), 2)
    machine.demote(1, 2)
    assert machine.advskew == 250  # less eager, never more


@pytest.mark.parametrize("own_first", [True, False], ids=["bow-out of the group", "bow-out of the sibling"])
def test_nothing_is_taken_from_siblings_in_the_start_delay(impl: Implementation, own_first: bool) -> None:
    host = VirtualHost(vhid=101, passphrase="", addresses=["10.0.0.1"], start_delay=30)
    machine = impl.machine.Machine(host, lambda _most: 0)
    machine.start(0)

    def heard(at: float, vhid: int, advbase: int, advskew: int = 0) -> None:
        now = round(at * NS_PER_SECOND)
        advert = Advert(4, "10.0.0.2", "224.0.0.18", b"", 2, 1, vhid, advskew, 7, 0, advbase, bytes(8), bytes(20))
        if vhid == 101:
            machine.receive(advert, "10.0.0.2", now)
        else:
            machine.sibling(vhid, advert, "10.0.0.2", now)

    if own_first:
        heard(1, 101, 1)
    heard(1, 102, 1)
    heard(2, *((101, 255, 255) if own_first else (102, 255, 255)))
    assert machine.deadline == 30 * NS_PER_SECOND
    machine.timeout(30 * NS_PER_SECOND - 1)
    assert machine.state is State.BACKUP
    machine.timeout(30 * NS_PER_SECOND)
    assert machine.state is State.MASTER


def test_the_less_demoted_of_equals_is_no_rival_in_a_tie(impl: Implementation) -> None:
    """It has the same interval and does not yield: coming back at once would make two masters for an interval."""
    host = VirtualHost(vhid=101, passphrase="", addresses=["10.0.0.1"], demotion="obey")
    machine = impl.machine.Machine(host, lambda _most: 0)
    machine.start(0)
    machine.demote(1, 0)
    machine.timeout(3 * NS_PER_SECOND)
    assert machine.state is State.MASTER
    advert = Advert(4, "10.0.0.2", "224.0.0.18", b"", 2, 1, 101, 240, 7, 0, 1, bytes(8), bytes(20))
    now = 3 * NS_PER_SECOND + 5_000_000
    assert machine.receive(advert, "10.0.0.2", now, 0)[-1] == Transition(
        State.MASTER, State.BACKUP, Reason.BETTER, "10.0.0.2", now
    )
    assert machine.deadline == now + 3 * NS_PER_SECOND


@pytest.mark.parametrize(("timing", "advbase"), [("bsd", 26), ("bsd", 85), ("openbsd", 60)])
def test_who_misses_many_adverts_understands_a_bow_out(impl: Implementation, timing: str, advbase: int) -> None:
    """It promises the next advert in 256 s, which is sooner than ten adverts of that master."""
    host = VirtualHost(vhid=101, passphrase="", addresses=["10.0.0.1"], advbase=advbase, missed=10, timing=timing)
    machine = impl.machine.Machine(host, lambda _most: 0)
    machine.start(0)
    machine.receive(Advert(4, "10.0.0.2", "", b"", 2, 1, 101, 0, 7, 0, advbase, bytes(8), bytes(20)), "10.0.0.2", 1)
    machine.receive(Advert(4, "10.0.0.2", "", b"", 2, 1, 101, 255, 7, 0, 255, bytes(8), bytes(20)), "10.0.0.2", 2)
    machine.timeout(1_000_000)
    assert machine.state is State.MASTER
