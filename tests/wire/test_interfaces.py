"""Interfaces, addresses and devices that come, go and change while a virtual host runs on them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import Any

import pytest
from support.lan import VIP, VIP6, Lan, Node, held, interface, only, stays, virtual_host, wait_until

from pycarp import InterfaceError, Reason, State, events
from pycarp.lab.namespaces import Host
from pycarp.linux.interfaces import read_interfaces

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
FAR = "192.0.2.42"


def on_second_cable(net: Lan, **changes: Any) -> Node:
    """A master of 192.0.2.42 on a cable from main to the client."""
    net.cable("main", "client")
    main = net.start("main", addresses=[f"{FAR}/24"], **changes)
    main.become(MASTER)
    net.forget()
    return main


@pytest.mark.parametrize("named", [True, False], ids=["named", "chosen"])
def test_the_carpdev_is_deleted_and_made_again(net: Lan, named: bool) -> None:
    # Fault: The carpdev of the MASTER is deleted and made again.
    # Expected: It is INIT and demoted while there is none, then MASTER without demotion, and answers.
    main = on_second_cable(net, carpdev="eth1" if named else None)
    net["main"].run(["ip", "link", "delete", "eth1"])
    main.become(INIT)
    gone = main.wait(events.CarpdevChanged, present=False)
    assert (gone.carpdev, gone.up) == ("eth1", False)
    assert main.wait(events.StateChanged).reason is Reason.LINK_DOWN
    assert main.engine.demotion(101) == 1
    net.forget()
    net.cable("main", "client")
    main.become(MASTER)
    assert main.wait(events.CarpdevChanged, present=True)
    assert main.engine.demotion(101) == 0
    assert net.ping(FAR).wait(3)
    net.tidy = False  # it is another interface than at the beginning


def test_another_interface_has_the_carpdevs_index_at_once(net: Lan) -> None:
    # Fault: The carpdev is deleted, and in the same moment there is another of its name and index.
    # Expected: It is another one all the same: the virtual host starts anew there, is heard and hears.
    main = on_second_cable(net, carpdev="eth1")
    index = json.loads(net["main"].run(["ip", "-json", "link", "show", "eth1"]).stdout)[0]["ifindex"]
    words = f"link del eth1\nlink add eth1 index {index} type veth peer name eth2\nlink set eth1 up\nlink set eth2 up\n"
    net["main"].run(["ip", "-batch", "-"], input=words)
    main.become(INIT)
    assert main.wait(events.CarpdevChanged, present=False)
    main.become(MASTER)
    assert main.log.find(events.Failed) == []
    bound = net["main"].run(["cat", "/proc/net/packet"]).stdout.splitlines()[1:]
    assert not [one for one in bound if one.split()[4] == "-1"], "a socket of an interface that has gone"
    net.tidy = False


def test_a_stop_while_the_carpdev_is_gone(net: Lan) -> None:
    # Fault: The engine stops while its carpdev is gone.
    # Expected: Nothing fails, and no rule is left.
    main = on_second_cable(net)
    net["main"].run(["ip", "link", "delete", "eth1"])
    main.become(INIT)
    main.stop()
    assert main.log.find(events.Failed) == []
    assert "112" not in net["main"].run(["ip", "rule"]).stdout
    net.tidy = False


def test_one_of_two_carpdevs_goes(net: Lan) -> None:
    # Fault: One of two carpdevs is deleted.
    # Expected: The virtual host on the other one stays MASTER and answers.
    net.cable("main", "client")
    main = net.start("main", virtual_host(), virtual_host(vhid=7, addresses=[f"{FAR}/24"]))
    main.become(MASTER, 101)
    main.become(MASTER, 7)
    pinger = net.ping()
    net["main"].run(["ip", "link", "delete", "eth1"])
    main.become(INIT, 7)
    assert pinger.wait(3)
    assert main.state(101) is MASTER
    net.tidy = False


@pytest.mark.parametrize("addresses", [(f"{VIP}/24",), (f"{VIP}/24", f"{VIP6}/64")], ids=["ipv4", "both"])
def test_a_masters_macvlan_is_deleted_by_hand(net: Lan, addresses: tuple[str, ...]) -> None:
    # Fault: Somebody deletes the macvlan of the MASTER.
    # Expected: It is made again with its addresses; the host stays MASTER and answers.
    main = net.start("main", addresses=addresses)
    main.become(MASTER)
    pinger = net.ping()
    assert pinger.wait(3)
    net["main"].run(["ip", "link", "delete", "carp101"])
    wait_until(lambda: VIP in held(net["main"]))
    assert main.state() is MASTER
    assert pinger.wait(3)


def test_a_backups_macvlan_is_deleted_by_hand(net: Lan) -> None:
    # Fault: Somebody deletes the macvlan of a BACKUP.
    # Expected: It is made again, and the host takes over when the MASTER stops.
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    net["second"].run(["ip", "link", "delete", "carp101"])
    wait_until(lambda: interface(net["second"], "carp101") is not None)
    main.stop()
    second.become(MASTER)
    assert net.ping().wait(3)


def test_the_address_is_deleted_by_hand(net: Lan) -> None:
    # Fault: Somebody deletes the address of the MASTER.
    # Expected: It is taken again and answers.
    main = net.start("main")
    main.become(MASTER)
    net["main"].run(["ip", "address", "delete", f"{VIP}/32", "dev", "carp101"])
    wait_until(lambda: VIP in held(net["main"]))
    assert net.ping().wait(3)


def test_the_macvlan_is_set_down_by_hand(net: Lan) -> None:
    # Fault: Somebody sets the macvlan of the MASTER down.
    # Expected: It is set up again, and the address answers.
    main = net.start("main")
    main.become(MASTER)
    pinger = net.ping()
    assert pinger.wait(3)
    net["main"].run(["ip", "link", "set", "carp101", "down"])
    assert pinger.wait(3)


def test_the_carpdevs_address_changes(net: Lan) -> None:
    # Fault: The carpdev's own address changes, goes, and comes back.
    # Expected: Adverts come from the new one, and from the virtual address while there is none; the MASTER stays.
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard, peer=net["main"].address)
    pinger = net.ping()
    net["main"].run(["ip", "address", "delete", f"{net['main'].address}/24", "dev", "eth0"])
    net["main"].run(["ip", "address", "add", "10.13.37.99/24", "dev", "eth0"])
    second.wait(events.PeerHeard, peer="10.13.37.99")
    net["main"].run(["ip", "address", "flush", "dev", "eth0", "scope", "global"])
    second.wait(events.PeerHeard, peer=VIP)
    net["main"].run(["ip", "address", "add", f"{net['main'].address}/24", "brd", "+", "dev", "eth0"])
    net["main"].run(["ip", "address", "add", f"{net['main'].address6}/64", "dev", "eth0", "nodad"])
    assert pinger.wait(3)
    assert net.masters() == ["main"]
    assert [change.after for change in main.transitions()] == [BACKUP, MASTER]


def test_the_carpdev_is_renamed(net: Lan) -> None:
    # Fault: The carpdev is set down, renamed and set up.
    # Expected: The change is reported; the host is MASTER on it again, and leaves nothing after the stop.
    main = on_second_cable(net)
    for words in (("eth1", "down"), ("eth1", "name", "lan0"), ("lan0", "up")):
        net["main"].run(["ip", "link", "set", *words])
    main.wait(events.CarpdevChanged, carpdev="lan0", up=True)
    main.become(MASTER)
    assert net.ping(FAR).wait(3)
    main.stop()
    assert interface(net["main"], "carp101") is None
    net.tidy = False


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_a_named_carpdev_is_renamed(net: Lan, mac: str) -> None:
    # Fault: A carpdev that was given by name is renamed while it is up.
    # Expected: The host stays MASTER on that interface, the name was for finding it; its gate goes with the new name.
    main = on_second_cable(net, carpdev="eth1", mac=mac)
    sent = main.stats()["opackets"]
    try:
        net["main"].run(["ip", "link", "set", "eth1", "name", "lan0"])
    except subprocess.CalledProcessError:
        pytest.skip("this kernel renames only what is down")
    main.wait(events.CarpdevChanged, carpdev="lan0", up=True)
    wait_until(lambda: main.stats()["opackets"] > sent + 10)
    assert net.ping(FAR).wait(3)
    assert main.state() is MASTER
    assert main.log.find(events.Failed) + main.log.find(events.Stalled) == []
    net.tidy = False


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_the_carpdevs_mac_changes(net: Lan, mac: str) -> None:
    # Fault: The carpdev gets another MAC.
    # Expected: The address answers; with mac="interface" adverts come from the new MAC, else from the virtual one.
    main = on_second_cable(net, mac=mac)
    fresh = bytes.fromhex("020000000299")
    net["main"].run(["ip", "link", "set", "eth1", "address", fresh.hex(":")])
    assert net.ping(FAR).wait(3)
    expected = fresh if mac == "interface" else bytes.fromhex("00005e000165")
    with net["client"].enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as listening:
        listening.bind(("eth1", 0x0800))
        listening.settimeout(5)

        def advert_from() -> bytes:
            while True:
                frame = listening.recv(2048)
                if frame[23] == 112:
                    return frame[6:12]

        wait_until(lambda: advert_from() == expected)
    assert main.state() is MASTER
    net.tidy = False


def test_the_carpdev_is_set_down_and_up_by_hand(net: Lan) -> None:
    # Fault: The carpdev of the MASTER is set down and up.
    # Expected: It is INIT without the address meanwhile, then MASTER, and answers.
    main = on_second_cable(net)
    net["main"].run(["ip", "link", "set", "eth1", "down"])
    main.become(INIT)
    assert FAR not in held(net["main"])
    assert main.wait(events.CarpdevChanged).up is False
    net["main"].run(["ip", "link", "set", "eth1", "up"])
    main.become(MASTER)
    assert net.ping(FAR).wait(3)


def test_it_starts_without_carrier(net: Lan) -> None:
    # Fault: The cable is unplugged at the start.
    # Expected: The host is INIT until it is plugged in, then MASTER.
    net.lab.unplug("main")
    wait_until(lambda: not interface(net["main"], "eth0").running)  # type: ignore[union-attr]
    main = net.start("main")
    assert main.state() is INIT
    stays(lambda: main.state() is INIT, 0.3)
    net.lab.plug("main")
    main.become(MASTER)
    assert [change.reason for change in main.transitions()] == [Reason.LINK_UP, Reason.MASTER_DOWN]


def test_a_carpdev_that_is_missing_at_the_start(net: Lan) -> None:
    # Fault: No interface fits the virtual host, or its address is the host's own.
    # Expected: The start raises and says which interfaces there are.
    with pytest.raises(InterfaceError, match="no interface eth9; there is eth0"):
        net.start("main", carpdev="eth9")
    with pytest.raises(InterfaceError, match="no interface has the subnet of 203.0.113.1"):
        net.start("main", addresses=["203.0.113.1/24"])
    with pytest.raises(InterfaceError, match=f"{net['main'].address} is already on eth0"):
        net.start("main", addresses=[f"{net['main'].address}/24"])


def test_a_foreign_interface_of_that_name(net: Lan) -> None:
    # Fault: An interface of another program has the device's name.
    # Expected: The start raises, and that interface stays.
    net["main"].run(["ip", "link", "add", "carp101", "type", "veth", "peer", "name", "far"])
    with pytest.raises(InterfaceError, match="an interface carp101 already, and it is not ours"):
        net.start("main")
    assert only([one for one in ("carp101",) if interface(net["main"], one)]) == "carp101"


def test_new_carpdevs_addresses_are_routed_from_the_virtual_host(net: Lan) -> None:
    # Fault: The carpdev gets an address in a second subnet.
    # Expected: That subnet is reached from the floating address, by the virtual MAC.
    main = net.start("main")
    main.become(MASTER)
    net["main"].run(["ip", "address", "add", "198.51.100.1/24", "dev", "eth0"])
    net["client"].run(["ip", "address", "add", "198.51.100.2/24", "dev", "eth0"])
    main.engine.force(101, BACKUP)
    main.become(MASTER)
    with net["client"].enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind(("198.51.100.2", 0))
        with net["main"].enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
            answering.bind((VIP, 0))
            answering.sendto(b"hello", asking.getsockname())
            asking.settimeout(3)
            assert asking.recv(16) == b"hello"
    assert net.capture.wait(lambda one: one.port == "main" and one.data.endswith(b"hello")).source[:2] == b"\0\0"  # type: ignore[union-attr]
    net["main"].run(["ip", "address", "delete", "198.51.100.1/24", "dev", "eth0"])


def test_one_address_on_two_links(net: Lan) -> None:
    # Fault: fe80::1 is the address of a group on each of two links, and of a bridge of the host besides.
    # Expected: Both groups run, in two engines and in one, and answer.
    net.cable("main", "client")
    net["main"].run(["ip", "link", "add", "br9", "type", "bridge"])
    net["main"].run(["ip", "link", "set", "br9", "up"])
    net["main"].run(["ip", "address", "add", "fe80::1/64", "dev", "br9", "nodad"])
    for name in ("main", "client"):
        wait_until(lambda name=name: _has_link_local(net[name], "eth1"))  # type: ignore[misc]
    hosts = [virtual_host(vhid=one + 1, carpdev=f"eth{one}", addresses=["fe80::1/64"]) for one in (0, 1)]
    for together in (False, True):
        nodes = [net.start("main", *hosts)] if together else [net.start("main", one) for one in hosts]
        for node in nodes:
            for one in node.hosts:
                node.become(MASTER, one.name)
        for carpdev in ("eth0", "eth1"):
            wait_until(lambda at=carpdev: _answers(net["client"], f"fe80::1%{at}"))  # type: ignore[misc]
        for node in nodes:
            node.stop()
    net["main"].run(["ip", "link", "delete", "br9"])
    net.tidy = False
    net.audited = False  # the audit knows each address on one link only


def _has_link_local(host: Host, name: str) -> bool:
    found = interface(host, name)
    return found is not None and any(
        one.interface.version == 6 and one.interface.is_link_local and not one.flags & 0x40 for one in found.addresses
    )


def _answers(host: Host, address: str) -> bool:
    return host.run(["ping", "-6", "-n", "-c1", "-W1", address], check=False).returncode == 0


def test_no_two_processes_with_one_address(net: Lan, secret: str) -> None:
    # Fault: A second process of the machine is to run the same address under another vhid, before the first is MASTER.
    # Expected: It ends at once and says whose the address is. When the first is gone, it may have it.
    slow = {"advbase": 1, "advskew": 10}
    main = net.start("main", **slow)
    words = ["up", "carp7", "vhid", "7", "passfile", secret, f"{VIP}/24"]
    second = net.command("main", *words)
    assert second.end() == 2
    assert f"{VIP} is already an address of vhid 101 on eth0, run by process {os.getpid()}" in second.errors
    # The same with the interface's MAC, where no device bears a mark.
    second = net.command("main", *words, "mac", "interface")
    assert second.end() == 2 and "is already an address of" in second.errors
    main.stop()
    net.audited = False  # it has the address under another vhid now
    last = net.command("main", *words, "advbase", "0", "advskew", "10", "carpdev", "eth0")
    assert "is already" in last.errors or last.become(MASTER) is None


def test_two_processes_that_stop_together_leave_no_setting(net: Lan) -> None:
    # Fault: Two processes with a virtual host each on one carpdev get SIGTERM in one moment, as at a shutdown.
    # Expected: The carpdev has its settings back, as when they stop one after the other.
    def settings() -> str:
        with net["main"].enter():
            return str([(one.ipv4, one.altnames) for one in read_interfaces() if one.name == "eth0"])

    before = settings()
    for _ in range(2):
        pair = [
            net.command(
                "main", "up", f"carp{vhid}", "vhid", str(vhid), "pass", "motdepassehalakon", "carpdev", "eth0",
                f"10.13.37.{vhid}/24", "--control", "off",
            )
            for vhid in (43, 44)
        ]  # fmt: skip
        for one in pair:
            one.become(State.BACKUP)
        assert settings() != before
        for one in pair:
            one.send_signal(signal.SIGTERM)
        assert [one.end() for one in pair] == [0, 0]
        assert settings() == before
