"""Reconfiguration while it runs: no drop where the wire allows that."""

from __future__ import annotations

from typing import Any

import pytest
from support.lan import VIP, VIP6, Lan, Node, held, interface, stays, virtual_host, wait_until

from pycarp import ConfigError, EngineError, InterfaceError, State, events

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT


@pytest.fixture
def pair(net: Lan) -> tuple[Node, Node]:
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    net.forget()
    return main, second


@pytest.mark.parametrize(
    "changes",
    [{"advskew": 30}, {"advbase": 1, "advskew": 0}, {"preempt": True}, {"dialect": "bsd"}],
    ids=["advskew", "advbase", "preempt", "dialect"],
)
def test_a_master_stays_master(with_impl: str, net: Lan, pair: tuple[Node, Node], changes: dict[str, Any]) -> None:
    # Fault: None: advskew, advbase, preempt or dialect of the MASTER change.
    # Expected: It stays MASTER, without a transition on either host, and answers.
    main, second = pair
    pinger = net.ping()
    assert pinger.wait(3)
    if "advbase" in changes:
        second.reconfigure(virtual_host(advbase=1, advskew=25))
    main.reconfigure(virtual_host(**{"advskew": 10, **changes}))
    assert main.engine.hosts == (virtual_host(**{"advskew": 10, **changes}),)
    stays(lambda: net.masters() == ["main"], 0.3)
    assert pinger.wait(3)
    assert main.log.find(events.StateChanged) == second.log.find(events.StateChanged) == []


def test_an_address_more_and_one_less(net: Lan, pair: tuple[Node, Node]) -> None:
    # Fault: None: both hosts get two more addresses, then lose two.
    # Expected: The new ones answer, the lost ones leave device and rules; the MASTER stays.
    main, second = pair
    pinger = net.ping()
    assert pinger.wait(3)
    more = {"addresses": [f"{VIP}/24", "10.13.37.43/24", f"{VIP6}/64"]}
    for node, advskew in ((main, 10), (second, 25)):
        node.reconfigure(virtual_host(advskew=advskew, **more))
    main.become(MASTER)
    new = [net.ping("10.13.37.43"), net.ping(VIP6)]
    assert all(one.wait(3) for one in (pinger, *new))
    less = {"addresses": ["10.13.37.43/24"]}
    for node, advskew in ((main, 10), (second, 25)):
        node.reconfigure(virtual_host(advskew=advskew, **less))
    wait_until(lambda: not held(net["main"]) & {VIP, VIP6})
    assert new[0].wait(3)
    assert "10.13.37.42" not in net["main"].run(["ip", "rule"]).stdout
    assert [change for change in main.log.find(events.StateChanged) if change.after is not MASTER] == []
    main.stop()
    second.become(MASTER)
    assert new[0].wait(3)


def test_another_passphrase(net: Lan, pair: tuple[Node, Node]) -> None:
    # Fault: None: the backup's passphrase changes, then the MASTER's.
    # Expected: The backup rejects adverts and is MASTER meanwhile, then BACKUP; the MASTER stays and answers.
    main, second = pair
    pinger = net.ping()
    assert pinger.wait(3)
    second.reconfigure(virtual_host(advskew=25, passphrase="uneautrephrase"))
    main.reconfigure(virtual_host(advskew=10, passphrase="uneautrephrase"))
    wait_until(lambda: second.stats()["ipackets"] > second.stats()["badauth"] + 5)
    second.become(BACKUP)
    assert main.state() is MASTER
    assert main.log.find(events.StateChanged) == []
    assert pinger.wait(3)


def test_another_vhid_is_another_group(net: Lan, pair: tuple[Node, Node]) -> None:
    # Fault: None: the vhid of the MASTER changes.
    # Expected: The backup takes over the old group; the host is MASTER of the new one only.
    main, second = pair
    net.audited = False  # both groups have the address now, each with a MAC of its own
    main.reconfigure(virtual_host(vhid=102, name="carp101"))
    second.become(MASTER)
    main.become(MASTER, 102)
    with pytest.raises(EngineError, match="no virtual host 101 here"):
        main.state(101)
    main.stop()


def test_virtual_hosts_come_and_go(net: Lan) -> None:
    # Fault: None: a second virtual host comes, the first one goes and comes back.
    # Expected: The one that is kept stays MASTER, and the one that goes leaves nothing.
    one = virtual_host(vhid=1, addresses=["10.13.37.51/24"])
    two = virtual_host(vhid=2, addresses=["10.13.37.52/24"])
    main = net.start("main", one)
    main.become(MASTER, 1)
    pinger = net.ping("10.13.37.51")
    main.reconfigure(one, two)
    main.become(MASTER, 2)
    assert net.ping("10.13.37.52").wait(3)
    main.reconfigure(two)
    wait_until(lambda: "10.13.37.51" not in held(net["main"]))
    assert interface(net["main"], "carp1") is None
    assert main.state(2) is MASTER
    main.reconfigure(two, one)
    main.become(MASTER, 1)
    assert pinger.wait(3)


def test_from_the_virtual_mac_to_the_interfaces(net: Lan, pair: tuple[Node, Node]) -> None:
    # Fault: None: the virtual host goes over to the interface's MAC.
    # Expected: The macvlan is gone, and the virtual host runs.
    main, _second = pair
    main.reconfigure(virtual_host(advskew=10, mac="interface"))
    assert interface(net["main"], "carp101") is None
    net.audited = False  # the rule of the audit is that a group has one kind of MAC
    wait_until(lambda: main.state() is not INIT)


@pytest.mark.parametrize(
    "wrong, error",
    [
        ({"vhid": 5, "carpdev": "eth9"}, InterfaceError),
        ({"vhid": 5, "addresses": ["203.0.113.9/24"]}, InterfaceError),
        ({"vhid": 101, "name": "twin"}, ConfigError),
        ({"vhid": 5, "addresses": []}, ConfigError),
    ],
    ids=["no-carpdev", "no-subnet", "same-vhid", "no-address"],
)
def test_a_broken_configuration_changes_nothing(
    net: Lan, pair: tuple[Node, Node], wrong: dict[str, Any], error: type[Exception]
) -> None:
    # Fault: A new virtual host among the given ones cannot be run.
    # Expected: The call raises; configuration and states stay.
    main, second = pair
    before = main.engine.hosts
    with pytest.raises(error):
        main.engine.reconfigure(*before, virtual_host(**{"addresses": ["10.13.37.55/24"], **wrong}))
    assert main.engine.hosts == before
    stays(lambda: net.masters() == ["main"], 0.1)
    assert main.log.find(events.StateChanged) == second.log.find(events.StateChanged) == []


def test_a_name_that_is_taken_changes_nothing(net: Lan, pair: tuple[Node, Node]) -> None:
    # Fault: The device of a new virtual host cannot be made: its name is taken.
    # Expected: The call raises and the first one stays MASTER; once the name is free, it works.
    main, _second = pair
    net["main"].run(["ip", "link", "add", "carp5", "type", "veth", "peer", "name", "far"])
    before = main.engine.hosts
    with pytest.raises(InterfaceError, match="an interface carp5 already"):
        main.engine.reconfigure(*before, virtual_host(vhid=5, addresses=["10.13.37.55/24"]))
    assert main.engine.hosts == before
    assert main.state(101) is MASTER
    with pytest.raises(EngineError, match="no virtual host 5 here"):
        main.state(5)
    net["main"].run(["ip", "link", "delete", "carp5"])
    main.reconfigure(*before, virtual_host(vhid=5, addresses=["10.13.37.55/24"]))
    main.become(MASTER, 5)
