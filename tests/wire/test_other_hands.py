"""Other programs at work on the same machine and the same LAN: what they change is repaired, or reported."""

from __future__ import annotations

import threading

import pytest
from support.lan import VIP, VIP6, Lan, Node, held, interface, stays, wait_until
from support.wire import VIRTUAL_MAC

from pycarp import State, events
from pycarp.lab.namespaces import Lab

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT


@pytest.mark.parametrize("words", [("address", "02:00:00:00:00:66"), ("name", "mine0")], ids=["mac", "name"])
def test_a_masters_macvlan_is_changed_by_hand(net: Lan, words: tuple[str, str]) -> None:
    # Fault: Somebody gives the macvlan of the MASTER another MAC or name.
    # Expected: It is made again; the host stays MASTER and answers.
    main = net.start("main", addresses=[f"{VIP}/24", f"{VIP6}/64"])
    main.become(MASTER)
    net.audited = False  # for a moment it answers from the MAC that it was given
    net["main"].run(["ip", "link", "set", "carp101", "down"])
    net["main"].run(["ip", "link", "set", "carp101", *words], check=False)
    wait_until(lambda: {VIP, VIP6} <= held(net["main"]))
    wait_until(lambda: (one := interface(net["main"], "carp101")) is not None and one.up and one.mac == VIRTUAL_MAC)
    assert net.ping().wait(3)
    assert main.state() is MASTER
    assert main.log.find(events.Failed) == []


def test_a_masters_macvlan_is_moved_away(net: Lan) -> None:
    # Fault: Somebody moves the macvlan of the MASTER to another namespace.
    # Expected: It is made again; the host stays MASTER and answers.
    main = net.start("main")
    main.become(MASTER)
    with Lab(["other"]) as elsewhere:
        net["main"].run(["ip", "link", "set", "carp101", "netns", elsewhere["other"].path])
        wait_until(lambda: VIP in held(net["main"]))
        assert net.ping().wait(3)
        assert main.state() is MASTER


def test_a_backup_is_given_the_address_by_hand(net: Lan) -> None:
    # Fault: Somebody gives a BACKUP the address and sets its macvlan up.
    # Expected: Both are undone; the states stay, and the address answers.
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    net.audited = False
    net["second"].run(["ip", "address", "add", f"{VIP}/32", "dev", "carp101"])
    net["second"].run(["ip", "link", "set", "carp101", "up"])
    wait_until(lambda: VIP not in held(net["second"]) and not interface(net["second"], "carp101").up)  # type: ignore[union-attr]
    assert (main.state(), second.state()) == (MASTER, BACKUP)
    assert net.ping().wait(3)


@pytest.mark.parametrize(
    "words", ["address delete 10.13.37.42/32 dev carp101", "link delete carp101"], ids=["address", "macvlan"]
)
@pytest.mark.slow
def test_somebody_who_does_not_give_up(net: Lan, words: str) -> None:
    # Fault: A program removes address or macvlan of the MASTER again and again.
    # Expected: The host backs off for 10 s and says so once; the other host takes over and answers.
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    over = threading.Event()

    def fight() -> None:
        while not over.wait(0.03):
            net["main"].run(["ip", *words.split()], check=False)

    fighter = threading.Thread(target=fight)
    fighter.start()
    try:
        # A take may fall between two removals, and fail before that.
        wait_until(lambda: backed_off(main))
        second.become(MASTER)
        assert main.state() is INIT
        assert net.ping().wait(10)
        stays(lambda: main.state() is INIT, 1)
    finally:
        over.set()
        fighter.join()
    assert len(backed_off(main)) == 1


def backed_off(node: Node) -> list[str]:
    return [one.what for one in node.log.find(events.Failed) if one.what.endswith("backing off for 10 s")]


class TestConflicts:
    """The client itself has the address, or thinks so."""

    @pytest.fixture
    def squatted(self, net: Lan) -> Lan:
        net.audited = False
        net["client"].run(["ip", "address", "add", f"{VIP}/32", "dev", "eth0"])
        return net

    @pytest.mark.slow
    def test_it_is_told_and_taken_all_the_same(self, squatted: Lan) -> None:
        # Fault: The client answers for the address, and no advert is heard.
        # Expected: The conflict is reported once, and the host becomes MASTER.
        main = squatted.start("main", advbase=1, advskew=0)
        told = main.wait(events.AddressConflict)
        assert (told.address, told.mac) == (VIP, squatted["client"].mac.hex(":"))
        main.become(MASTER)
        assert len(main.log.find(events.AddressConflict)) == 1

    @pytest.mark.slow
    def test_it_is_refused_as_long_as_somebody_answers(self, squatted: Lan) -> None:
        # Fault: The same, with conflict="refuse".
        # Expected: The host stays BACKUP until nobody answers, then it becomes MASTER.
        main = squatted.start("main", advbase=1, advskew=0, conflict="refuse")
        main.wait(events.AddressConflict)
        stays(lambda: main.state() is BACKUP, 3)
        squatted["client"].run(["ip", "address", "delete", f"{VIP}/32", "dev", "eth0"])
        main.become(MASTER)
        assert len(main.log.find(events.AddressConflict)) == 1

    @pytest.mark.slow
    def test_a_master_that_is_heard_is_none(self, net: Lan) -> None:
        # Fault: None: a MASTER is heard.
        # Expected: The BACKUP asks nothing and reports no conflict.
        main = net.start("main", advbase=1, advskew=0)
        main.become(MASTER)
        second = net.start("second", advbase=1, advskew=100)
        second.wait(events.PeerHeard)
        stays(lambda: second.state() is BACKUP, 4)
        assert second.log.find(events.AddressConflict) == []
        questions = [
            one
            for one in net.capture.frames
            if one.ethertype == 0x0806 and one.source == net["second"].mac and one.data[20:22] == b"\0\1"
        ]
        assert questions == []

    @pytest.mark.slow
    def test_a_failover_tells_of_nobody(self, net: Lan) -> None:
        # Fault: The MASTER's cable is cut.
        # Expected: The BACKUP takes over and reports no conflict.
        main = net.start("main", advbase=1, advskew=0)
        main.become(MASTER)
        second = net.start("second", advbase=1, advskew=100)
        second.wait(events.PeerHeard)
        net.lab.unplug("main")
        second.become(MASTER)
        assert second.log.find(events.AddressConflict) == []
