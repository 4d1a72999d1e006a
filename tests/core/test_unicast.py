"""Adverts by unicast and to another group: which ones are heard, what a plan sends, and elections among peers."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from support import wire
from support.wire import Frame

from pycarp import ConfigError, State, VirtualHost, _impl
from pycarp._impl import Implementation
from pycarp.engine.destinations import finding_mac
from pycarp.engine.plan import Plan, make_plan
from pycarp.lab.simulation import Lan
from pycarp.protocol import BOWOUT, NS_PER_SECOND
from pycarp.protocol.abc import Input

OTHER, FAR = "10.13.37.13", "192.0.2.9"
OWN = [ip_interface(one) for one in (wire.CARPDEV + "/24", "fe80::b/64", "2001:db8::b/64")]
SOURCES = {4: ip_address(wire.CARPDEV), 6: ip_address("fe80::b")}
VIP6 = "2001:db8::42"
BOTH = (wire.VIP, VIP6)
TO_US = Frame(destination=wire.CARPDEV, destination_mac=wire.CARPDEV_MAC)
GROUP = "239.1.2.3"


def host(**changes: Any) -> VirtualHost:
    values: dict[str, Any] = {"vhid": wire.VHID, "passphrase": wire.PASSPHRASE, "addresses": [wire.VIP], **changes}
    return VirtualHost(**values)


def plan_of(impl: Implementation, former: Plan | None = None, **changes: Any) -> Plan:
    return make_plan(impl, host(**changes), wire.CARPDEV_MAC, SOURCES, former, own=OWN)


def input_of(impl: Implementation, state: State = State.BACKUP, **changes: Any) -> Input:
    plan = plan_of(impl, **changes)
    input_ = impl.input.Input()
    input_.set_carpdev(wire.CARPDEV_MAC, OWN)
    input_.set_instance(wire.VHID, plan.authenticator, plan.mac, plan.packed, True, plan.hearing)
    input_.set_state(wire.VHID, state)
    return input_


@pytest.mark.parametrize(
    ("changes", "frame", "counter"),
    [
        ({}, TO_US, "badif"),
        ({"peers": [wire.PEER]}, TO_US, ""),
        ({"peers": [wire.PEER]}, TO_US.but(destination_mac=wire.VIRTUAL_MAC), ""),
        ({"peers": [wire.PEER]}, TO_US.but(destination_mac=wire.BROADCAST_MAC), ""),
        ({"peers": [wire.PEER]}, TO_US.but(destination_mac=bytes.fromhex("020000000099")), "ignored"),
        ({"peers": [wire.PEER]}, TO_US.but(ttl=254), "badttl"),
        ({"peers": [wire.PEER]}, TO_US.but(digest_flip=1), "badauth"),
        ({"peers": [wire.PEER]}, TO_US.but(source=OTHER), "badif"),
        ({"peers": [wire.PEER, OTHER]}, TO_US.but(source=OTHER), ""),
        ({"peers": [wire.PEER]}, Frame(), "badvhid"),
        ({"peers": [wire.PEER], "multicast": True}, Frame(), ""),
        ({"peers": [wire.PEER, FAR]}, TO_US.but(source=FAR, ttl=61), ""),
        ({"peers": [wire.PEER, FAR], "multicast": True}, Frame(ttl=61), "badttl"),
        ({"groups": [GROUP]}, Frame(), "badvhid"),
        ({"groups": [GROUP]}, Frame(destination=GROUP, destination_mac=finding_mac(ip_address(GROUP))), ""),
        ({}, Frame(destination=GROUP, destination_mac=finding_mac(ip_address(GROUP))), "ignored"),
    ],
)
def test_what_is_heard(impl: Implementation, changes: dict[str, Any], frame: Frame, counter: str) -> None:
    input_ = input_of(impl, **changes)
    assert input_.receive(bytes(frame)).counter == counter
    # One that goes leaves nothing of what it heard.
    input_.remove_instance(wire.VHID)
    assert input_.receive(bytes(TO_US)).counter == "badif"


def test_what_is_heard_in_ipv6(impl: Implementation) -> None:
    near = Frame(source="fe80::c", destination="fe80::b", destination_mac=wire.CARPDEV_MAC, addresses=BOTH)
    input_ = input_of(impl, addresses=BOTH, peers=["fe80::c", "2001:db8::c"])
    assert input_.receive(bytes(near)).counter == ""
    asked = near.but(source="2001:db8::c", destination="2001:db8::b")
    assert input_.receive(bytes(asked.but(destination_mac=bytes.fromhex("3333ff00000b")))).counter == ""
    assert input_.receive(bytes(near.but(destination=None, destination_mac=None))).counter == "badvhid"
    # The other family has no peers: its adverts go to the group.
    assert input_.receive(bytes(Frame(addresses=BOTH))).counter == ""


def test_another_vhid_of_a_peer(impl: Implementation) -> None:
    """A sibling is found by its unicast adverts, too; one of nobody we know is not asked about."""
    input_ = input_of(impl, peers=[wire.PEER])
    verdicts = [input_.receive(bytes(TO_US.but(vhid=102)), turn * 10**9).counter for turn in range(4)]
    assert "sibling" in verdicts
    assert input_.receive(bytes(TO_US.but(vhid=102, source=OTHER))).counter == "badif"


def headers(frame: bytes) -> tuple[str, str, str]:
    at, length = (26, 4) if frame[12:14] == b"\x08\x00" else (22, 16)
    source, to = frame[at : at + length], frame[at + length : at + 2 * length]
    return frame[:6].hex(), str(ip_address(source)), str(ip_address(to))


def test_what_is_sent(impl: Implementation) -> None:
    plan = plan_of(
        impl, addresses=BOTH, peers=[wire.PEER, wire.CARPDEV, FAR, "2001:db8::c", "fe80::c", "2001:db8:1::c"]
    )
    frames = [frame for _family, frame in plan.adverts(1, 0, 1)]
    assert {headers(frame) for frame in frames} == {
        ("ffffffffffff", wire.CARPDEV, wire.PEER),
        ("ffffffffffff", wire.CARPDEV, FAR),
        ("3333ff00000c", "2001:db8::b", "2001:db8::c"),
        ("3333ff00000c", "fe80::b", "fe80::c"),
        ("3333ff00000c", "2001:db8::b", "2001:db8:1::c"),
    }
    assert [one.routed for one in plan.destinations] == [False, True, False, False, True]
    hearer = impl.input.Input()
    hearer.set_carpdev(bytes(6), [ip_interface(one) for one in (f"{wire.PEER}/24", "2001:db8::c/64", "fe80::c/64")])
    peers = plan.hearing._replace(peers=frozenset(one.packed for one in (*SOURCES.values(), ip_address("2001:db8::b"))))
    # One advert from two addresses of a family is otherwise taken for a copy at first.
    theirs = plan_of(impl, addresses=BOTH, replay="off")
    hearer.set_instance(wire.VHID, theirs.authenticator, plan.mac, plan.packed, True, peers)
    hearer.set_state(wire.VHID, State.BACKUP)
    assert [hearer.receive(frame).counter for frame in frames].count("") == 3 * len(plan.authenticator.dialects)
    # The guardian's bow-outs go the same ways, and a MAC that was found stays with the address.
    assert {headers(frame) for frame in plan.bowouts} == {headers(frame) for frame in frames}
    found = plan.destinations[0].at(bytes.fromhex("020000000012"))
    assert found.found and not plan.destinations[0].found
    from pycarp._records import replace

    after = plan_of(
        impl, replace(plan, destinations=(found, *plan.destinations[1:])), addresses=BOTH, peers=[wire.PEER]
    )
    assert [headers(frame)[0] for family, frame in after.adverts(1, 0, 1) if family == 4] == ["020000000012"] * len(
        after.authenticator.dialects
    )
    assert {headers(frame)[2] for family, frame in after.adverts(1, 0, 1) if family == 6} == {"ff02::12"}


def test_another_group(impl: Implementation) -> None:
    plan = plan_of(impl, addresses=BOTH, groups=[GROUP, "ff05::1:2"])
    assert {headers(frame) for _family, frame in plan.adverts(BOWOUT, BOWOUT, 1)} == {
        ("01005e010203", wire.CARPDEV, GROUP),
        ("333300010002", "fe80::b", "ff05::1:2"),
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"peers": ["224.0.0.18"]}, "peers"),
        ({"peers": ["10.13.37.12/24"]}, "peers"),
        ({"peers": ["fe80::1%eth0"]}, "peers"),
        ({"peers": [wire.VIP]}, "peers"),
        ({"peers": ["2001:db8::1"]}, "peers"),
        ({"peers": "10.13.37.12"}, "peers"),
        ({"peers": [f"10.13.37.{number}" for number in range(100, 117)]}, "peers"),
        ({"groups": ["10.13.37.12"]}, "groups"),
        ({"groups": [GROUP, "239.1.2.4"]}, "groups"),
        ({"groups": ["ff02::13"]}, "groups"),
    ],
)
def test_what_cannot_be_meant(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        host(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize("multicast", [False, True])
def test_peers_elect_as_a_group_does(impl: Implementation, monkeypatch: pytest.MonkeyPatch, multicast: bool) -> None:
    """Three hosts with one list of peers, in simulated time: one owner; it stops; it is cut off; it comes back."""
    monkeypatch.setattr(_impl, "current", impl)
    lan = Lan(seed=7)
    peers = [f"10.13.37.{number}" for number in (1, 2, 3)]
    configs = [host(peers=peers, advskew=50 * at, preempt=True, multicast=multicast) for at in range(3)]
    hosts = [lan.host(f"h{at}", f"{peers[at]}/24", configs[at]) for at in range(3)]
    for one in hosts:
        one.start()
    groups: list[bytes] = []
    lan.tap(lambda _at, _name, frame: groups.append(frame[30:34]) if frame[23] == 112 else None)
    lan.run(5 * NS_PER_SECOND)
    assert lan.masters(wire.VHID) == ["h0"]
    lan.unplug(hosts[0])
    lan.run(5 * NS_PER_SECOND)
    assert "h1" in lan.masters(wire.VHID)
    lan.plug(hosts[0])
    lan.run(5 * NS_PER_SECOND)
    assert lan.masters(wire.VHID) == ["h0"]
    assert [one.after for one in lan.transitions("h2")] == [State.BACKUP]
    assert groups and ip_address("224.0.0.18").packed not in groups
