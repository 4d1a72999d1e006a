"""Links of other kinds and in other states than a plain cable: MTU, carrier, bridges, macvlans."""

from __future__ import annotations

import signal
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from support.lan import VIP, VIP6, Lan, held, interface, stays, wait_until
from support.wire import passfile

from pycarp import State, events
from pycarp.lab import links
from pycarp.lab.namespaces import Host

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
V_MAC = "00:00:5e:00:01:65"


@pytest.mark.parametrize("families", [(VIP6,), (VIP, VIP6)], ids=["6", "4 and 6"])
def test_the_mtu_dips_below_that_of_ipv6(net: Lan, families: tuple[str, ...]) -> None:
    # Fault: The MASTER's carpdev has an MTU of 1200 for a while.
    # Expected: It hands over and names the MTU; then it is MASTER again, every address answers, at the full MTU.
    main = net.start("main", addresses=[f"{one}/{64 if ':' in one else 24}" for one in families])
    main.become(MASTER)
    main.log.forget()
    net["main"].run(["ip", "link", "set", "eth0", "mtu", "1200"])
    main.become(INIT)
    assert "the MTU of eth0 is 1200, and IPv6 needs 1280" in main.wait(events.CarpdevChanged, up=False).text
    net["main"].run(["ip", "link", "set", "eth0", "mtu", "1500"])
    net["main"].run(["ip", "-6", "addr", "replace", f"{net['main'].address6}/64", "dev", "eth0", "nodad"])
    main.become(MASTER)
    found = interface(net["main"], "carp101")
    assert found is not None and found.mtu == 1500
    # No link-local address of the virtual MAC was made on the way.
    assert {str(one.interface.ip) for one in found.addresses} == set(families)
    for one in families:
        assert net.ping(one).wait(3)
    assert main.log.find(events.Failed) == []
    net.tidy = False  # with the dip, eth0 lost IPv6 addresses and settings of its own


def test_the_mtu_dips_where_there_is_no_ipv6(net: Lan) -> None:
    # Fault: The carpdev's MTU sinks to 1200 and grows to 1400 while IPv4 alone is used.
    # Expected: The MASTER stays, and its device follows both ways.
    main = net.start("main")
    main.become(MASTER)
    for mtu in (1200, 1400):
        net["main"].run(["ip", "link", "set", "eth0", "mtu", str(mtu)])
        wait_until(lambda mtu=mtu: interface(net["main"], "carp101").mtu == mtu)  # type: ignore[misc]
    assert main.state() is MASTER and len(main.transitions()) == 2
    net.tidy = False  # with the dip, eth0 lost IPv6 addresses and settings of its own


def test_the_carrier_of_a_masters_device_is_taken(net: Lan) -> None:
    # Fault: Another program sets protodown on the MASTER's device, for a reason, as FRR does.
    # Expected: It is cleared, told, and the address answers again.
    main = net.start("main")
    main.become(MASTER)
    net["main"].run("ip link set carp101 protodown on; ip link set carp101 protodown_reason 7 on", shell=True)
    assert "took the carrier of carp101 (protodown)" in main.wait(events.ChangedByOthers).text
    assert net.ping().wait(3)
    assert main.state() is MASTER


def test_who_keeps_taking_the_carrier(net: Lan) -> None:
    # Fault: Another program sets protodown on the MASTER's device again and again.
    # Expected: The MASTER hands over and backs off.
    net.start("second", advskew=50).become(MASTER)
    main = net.start("main", preempt=True)
    main.become(MASTER)
    script = "while ip link set carp101 protodown on; do sleep 0.1; done"
    tormentor = net["main"].popen(["sh", "-c", script])
    main.wait(events.Failed)
    assert "keeps taking the carrier of carp101 (protodown): backing off" in main.log.find(events.Failed)[0].text
    net.nodes[0].become(MASTER)
    tormentor.kill()
    tormentor.wait()


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_the_advertisement_of_a_router_follows_its_forwarding(net: Lan, mac: str) -> None:
    # Fault: IPv6 forwarding is turned on while the host is BACKUP.
    # Expected: The neighbour advertisements of its takeover have the router flag, and its device forwards.
    second = net.start("second", addresses=[f"{VIP6}/64"], mac=mac)
    second.become(MASTER)
    main = net.start("main", addresses=[f"{VIP6}/64"], advskew=50, mac=mac)
    main.become(BACKUP)
    net["main"].run(["sysctl", "-qw", "net.ipv6.conf.eth0.forwarding=1"])
    if mac == "virtual":
        wait_until(lambda: interface(net["main"], "carp101").forwarding6 == 1)  # type: ignore[union-attr]
    else:
        stays(lambda: main.state() is BACKUP, 0.2)  # the new plan shows nowhere before the takeover
    second.stop()
    main.become(MASTER)
    own = [one.data for one in list(net.capture.frames) if one.port == "main" and not one.outgoing]
    target = IPv6Address(VIP6).packed
    announced = [data[58] for data in own if data[12:14] == b"\x86\xdd" and data[54] == 136 and data[62:78] == target]
    assert announced and set(announced) == {0xA0}
    net["main"].run(["sysctl", "-qw", "net.ipv6.conf.eth0.forwarding=0"])


def test_forwarding_of_one_interface_is_followed(net: Lan) -> None:
    # Fault: Forwarding is turned on for the carpdev alone, while MASTER.
    # Expected: The device forwards, too.
    net.start("main").become(MASTER)
    net["main"].run(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=1"])
    wait_until(lambda: interface(net["main"], "carp101").ipv4["forwarding"] == 1)  # type: ignore[union-attr]
    net["main"].run(["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0"])


def _on_bridge(host: Host) -> None:
    """eth0 becomes the port of a bridge, as on a hypervisor; the bridge has its address."""
    host.run(
        f"ip link add br0 type bridge; ip addr del {host.interface} dev eth0; ip link set eth0 master br0;"
        f"ip addr add {host.interface} dev br0; ip link set br0 up; ip link add guest type veth peer name inside;"
        "ip link set guest master br0; ip link set guest up; ip link set inside up",
        shell=True,
    )


def _in_fdb(host: Host) -> bool:
    return f"{V_MAC} dev br0 master br0 permanent" in host.run(["bridge", "fdb", "show"]).stdout


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_bridge_does_not_flood_what_comes_for_its_host(net: Lan, end: str, tmp_path: Path) -> None:
    # Fault: The carpdev is a bridge, which never learns the MAC of a device on it.
    # Expected: The bridge knows the virtual MAC while this host is MASTER, and not afterwards, also when it was killed.
    net.tidy = False
    _on_bridge(net["main"])
    wait_until(lambda: interface(net["main"], "br0").running)  # type: ignore[union-attr]
    words = f"up carp0 vhid 101 advbase 0 advskew 10 passfile {passfile(tmp_path)} {VIP}/24"
    main = net.command("main", *words.split())
    main.become(MASTER)
    assert net.ping().wait(5)
    assert _in_fdb(net["main"])
    main.process.send_signal(signal.SIGTERM if end == "stop" else signal.SIGKILL)
    main.process.wait()
    wait_until(lambda: not _in_fdb(net["main"]) and VIP not in held(net["main"]))


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_a_second_interface_comes_to_the_link(net: Lan, mac: str) -> None:
    # Fault: Another interface of the MASTER is plugged into the same switch.
    # Expected: It does not answer for the address, and at the end it has its settings back.
    main, host = net.start("main", mac=mac), net["main"]
    main.become(MASTER)
    port = bytes((2, 0, 0, 0, 1, 99))
    net.lab.switch.request(links.add_veth("main-b", port, "eth1", bytes((2, 0, 0, 0, 0, 99)), host.fd))
    net.lab.switch.run("ip link set main-b master switch; ip link set main-b up", shell=True)
    host.run(["ip", "link", "set", "eth1", "up"])
    wait_until(lambda: interface(host, "eth1").ipv4["arp_filter"] == 1)  # type: ignore[union-attr]
    net.tidy = False  # eth1 is new
    main.stop()
    found = interface(host, "eth1")
    assert found is not None and (found.ipv4["arp_filter"], found.altnames) == (0, ())


def test_a_carpdev_that_is_a_macvlan(net: Lan) -> None:
    # Fault: The carpdev is a macvlan, as a container's interface is.
    # Expected: Its own MAC answers, which is told; a rival is heard.
    net.tidy = net.audited = False  # the audit expects a virtual MAC
    host = net["main"]
    host.run("ip addr flush dev eth0; ip link add m0 link eth0 type macvlan mode bridge; ip link set m0 up", shell=True)
    host.run(["ip", "addr", "add", str(host.interface), "dev", "m0"])
    main = net.start("main", advskew=50, carpdev="m0")
    assert "m0 is a macvlan" in main.wait(events.CarpdevMacUsed).text
    main.become(MASTER)
    assert net.ping().wait(5)
    assert interface(host, "carp101") is None
    net.start("second", preempt=True).become(MASTER)
    main.become(BACKUP)
    main.reconfigure(*main.hosts)
    assert len(main.transitions()) == 3
