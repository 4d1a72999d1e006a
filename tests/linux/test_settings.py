"""The settings of macvlan and carpdev: who answers for what, and what comes in and is let in."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support.linux import VHID, VIP, VIRTUAL_MAC, arp_answers, carpdev, floating, needs_namespaces, order, set_up

from pycarp import VirtualHost
from pycarp.lab import links
from pycarp.lab.namespaces import Host, Lab, Namespace
from pycarp.linux import messages, netlink, settings
from pycarp.linux.device import GONE, Device
from pycarp.linux.interfaces import Interface, Mark, read_interfaces
from pycarp.linux.leftovers import Inventory
from pycarp.linux.lock import VirtualHostLock

pytestmark = needs_namespaces()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def sysctl(host: Host | Namespace, *values: str) -> None:
    host.run(["sysctl", "-qw", *values])


def answering(lab: Lab, address: str) -> set[bytes]:
    """The MACs from which the first host answers an ARP request of the client for an address."""
    client, main = lab["client"], lab["main"]
    client.run(["ip", "neigh", "flush", "all"])
    with lab.record() as capture:
        client.run(f"ip route replace {address} dev eth0; ping -c1 -W1 {address}", shell=True, check=False)
        time.sleep(0.05)
    return {mac for _port, mac in arp_answers(capture.frames, address) if _port.startswith(main.name)}


def second_interface(lab: Lab) -> None:
    """Give the first host an eth1 on the same switch, in another subnet."""
    port = bytes((2, 0, 0, 0, 1, 99))
    lab.switch.request(links.add_veth("main-b", port, "eth1", bytes((2, 0, 0, 0, 0, 99)), lab["main"].fd))
    lab.switch.run("ip link set main-b master switch; ip link set main-b up", shell=True)
    lab["main"].run("ip link set eth1 up; ip addr add 10.20.0.1/24 dev eth1", shell=True)
    time.sleep(0.1)


@pytest.mark.parametrize("scope", ["all", "default"])
def test_traffic_through_the_address_passes_a_strict_reverse_path_filter(lab: Lab, scope: str) -> None:
    main, client = lab["main"], lab["client"]
    with Namespace() as far:
        with main.enter():
            main.request(links.add_veth("wan", b"\2\0\0\0\2\1", "eth0", b"\2\0\0\0\2\2", far.fd))
        far.run(
            "ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.1", shell=True
        )
        sysctl(main, f"net.ipv4.conf.{scope}.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1", "net.ipv4.ip_forward=1")
        main.run("ip addr add 192.0.2.1/24 dev wan; ip link set wan up", shell=True)
        device = set_up(main, floating(f"{VIP}/24"))
        # As udev does: it runs systemd-sysctl for a new interface, after it was made.
        sysctl(main, "net.ipv4.conf.carp0.rp_filter=1")
        order(main, device.take)
        client.run(["ip", "route", "add", "default", "via", VIP])
        client.run(["ping", "-c2", "-i0.2", "-W1", "192.0.2.2"])
        with main.enter():
            device.teardown()


def test_the_macvlan_forwards_as_its_carpdev_does(lab: Lab) -> None:
    main = lab["main"]
    sysctl(
        main,
        "net.ipv4.conf.eth0.forwarding=1",
        "net.ipv6.conf.eth0.forwarding=1",
        "net.ipv4.conf.eth0.route_localnet=1",
    )
    device = set_up(main, floating())
    with main.enter():
        carp0 = carpdev("carp0")
        assert (carp0.ipv4["forwarding"], carp0.forwarding6, carp0.ipv4["route_localnet"]) == (1, 1, 1)
        device.teardown()


def test_the_macvlan_proxies_for_nobody(lab: Lab) -> None:
    main = lab["main"]
    sysctl(main, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.proxy_arp=1", "net.ipv4.conf.eth0.proxy_arp=0")
    main.run("ip link add away type veth peer name gone; ip link set away up; ip link set gone up", shell=True)
    main.run("ip addr add 192.0.2.1/24 dev away", shell=True)
    device = set_up(main, floating(f"{VIP}/24"))
    order(main, device.take)
    assert VIRTUAL_MAC not in answering(lab, "192.0.2.7")
    with main.enter():
        device.teardown()


def changed(device: Device, host: VirtualHost) -> Device:
    """The device with other addresses, as a reload changes it."""
    fresh = device.changed_to(host)
    fresh.admit(device.host)
    kept = {one.ip for one in host.addresses}
    with netlink.RouteSocket() as route:
        netlink.raise_first(
            route.execute(device.parting(one for one in device.host.addresses if one.ip not in kept)), GONE
        )
    return fresh


@pytest.mark.parametrize("setting", ["proxy_arp", "proxy_arp_pvlan"])
@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_a_proxy_does_not_answer_for_an_address_that_another_host_has(lab: Lab, mac: str, setting: str) -> None:
    main = lab["main"]
    near, far = ("10.13.37.42", "10.13.37.77") if setting == "proxy_arp_pvlan" else ("198.51.100.42", "203.0.113.77")
    sysctl(main, f"net.ipv4.conf.eth0.{setting}=1", "net.ipv4.ip_forward=1", "net.ipv4.neigh.eth0.proxy_delay=0")
    main.run(
        "ip link add wan type veth peer name isp; ip addr add 192.0.2.1/24 dev wan; ip link set wan up;"
        "ip link set isp up; ip route add default via 192.0.2.2",
        shell=True,
    )
    device = set_up(main, floating(f"{near}/24", carpdev="eth0", mac=mac))
    # The kernel puts a rule without a priority before the second one that it has.
    main.run("ip rule add from 192.0.2.99 lookup 99", shell=True)
    assert "\n0:\tfrom 192.0.2.99" not in main.run(["ip", "rule"]).stdout
    main.run("ip rule del from 192.0.2.99 lookup 99", shell=True)
    for _turn in range(2):
        assert answering(lab, near) == set()
        assert answering(lab, far) == {main.mac}
        order(main, device.take)
        assert answering(lab, near) == {device.mac}
        order(main, device.drop)
    with main.enter():
        device = changed(device, floating("198.51.100.43/24", carpdev="eth0", mac=mac))
        assert f"to {near} " not in main.run(["ip", "rule"]).stdout
        device.teardown()
        assert "unreachable" not in main.run(["ip", "rule"]).stdout


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_one_mac_answers_for_the_address_and_the_hosts_others_are_still_answered(lab: Lab, rp_filter: int) -> None:
    main = lab["main"]
    sysctl(main, f"net.ipv4.conf.all.rp_filter={rp_filter}")
    main.run("ip link set lo up; ip addr add 198.51.100.9/32 dev lo", shell=True)
    device = set_up(main, floating(f"{VIP}/24"))
    assert answering(lab, "198.51.100.9") == {main.mac}  # a BACKUP
    order(main, device.take)
    assert answering(lab, VIP) == {VIRTUAL_MAC}
    assert answering(lab, main.address) == {main.mac}
    assert answering(lab, "198.51.100.9") == {main.mac}
    with main.enter():
        device.teardown()


@pytest.mark.parametrize("everywhere", ["arp_ignore=1", "arp_ignore=2", "arp_filter=1", "arp_announce=2"])
def test_it_answers_with_the_administrators_arp_settings(lab: Lab, everywhere: str) -> None:
    main = lab["main"]
    sysctl(main, f"net.ipv4.conf.all.{everywhere}")
    device = set_up(main, floating(f"{VIP}/24", "10.13.37.43/24"))
    order(main, device.take)
    assert answering(lab, VIP) == answering(lab, "10.13.37.43") == {VIRTUAL_MAC}
    with main.enter():
        # The second address does not depend on the first one.
        device = changed(device, floating("10.13.37.43/24"))
    assert answering(lab, "10.13.37.43") == {VIRTUAL_MAC}
    order(main, device.drop)
    assert answering(lab, "10.13.37.43") == set()
    with main.enter():
        device.teardown()


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_another_interface_on_the_link_does_not_answer(lab: Lab, mac: str) -> None:
    main = lab["main"]
    second_interface(lab)
    device = set_up(main, floating(f"{VIP}/24", mac=mac))
    order(main, device.take)
    assert answering(lab, VIP) == {device.mac}
    order(main, device.drop)
    order(main, device.remove)
    order(main, device.restore)
    with main.enter():
        assert [one.name for one in read_interfaces() if one.ipv4["arp_filter"] or one.altnames] == []


def test_nobody_is_asked_where_no_other_interface_could_answer(lab: Lab) -> None:
    second_interface(lab)
    sysctl(lab["main"], "net.ipv4.conf.eth1.arp_ignore=1")
    with lab.record() as capture, lab["main"].enter():
        assert Inventory().beside(carpdev()) == ()
        time.sleep(0.05)
    assert not [frame for frame in capture.frames if frame.ethertype == 0x0806]


def test_the_macvlan_follows_group_and_mtu(lab: Lab) -> None:
    main = lab["main"]
    main.run("ip link set eth0 group 7; ip link set eth0 mtu 1400", shell=True)
    device = set_up(main, floating())
    main.run("ip link set eth0 group 8; ip link set eth0 mtu 1500", shell=True)
    with main.enter():
        assert (carpdev("carp0").group, carpdev("carp0").mtu) == (7, 1400)
        device.refresh(carpdev())
        order(main, device.take)
        assert (carpdev("carp0").group, carpdev("carp0").mtu) == (8, 1500)
        device.teardown()


def test_a_take_lifts_protodown(lab: Lab) -> None:
    main = lab["main"]
    device = set_up(main, floating(f"{VIP}/24"))
    main.run("ip link set carp0 protodown on; ip link set carp0 protodown_reason 7 on", shell=True)
    order(main, device.take)
    assert answering(lab, VIP) == {VIRTUAL_MAC}
    with main.enter():
        device.teardown()


def test_what_a_carpdev_had_survives_a_crash_and_the_macvlan(lab: Lab) -> None:
    main = lab["main"]
    with main.enter():
        set_up(main, floating())  # and no teardown: it crashed
        main.run(["ip", "link", "del", "carp0"])
        assert settings.recorded(carpdev()) == (carpdev().index, {"arp_announce": 0, "arp_filter": 0})
        # A virtual host elsewhere cleans up, too.
        main.run("ip link add veth0 type veth peer name veth1; ip link set veth0 up", shell=True)
        other = Device(floating("192.0.2.1/24", name="carp1", carpdev="veth0"), carpdev("veth0"))
        other.setup()
        assert _settings(carpdev()) == (0, 0, ())
        other.teardown()


def _settings(interface: Interface) -> tuple[object, ...]:
    return interface.ipv4["arp_filter"], interface.ipv4["arp_announce"], interface.altnames


@pytest.mark.parametrize("orderly", [True, False])
def test_what_an_administrator_set_meanwhile_stays(lab: Lab, orderly: bool) -> None:
    main = lab["main"]
    device = set_up(main, floating())
    with main.enter():
        assert device.untouched(read_interfaces())
        sysctl(main, "net.ipv4.conf.eth0.arp_announce=1")
        assert not device.untouched(read_interfaces())
        if orderly:
            device.teardown()
        else:
            set_up(main, floating(name="carp5")).teardown()
        assert _settings(carpdev()) == (0, 1, ())


def test_the_mark_of_an_earlier_version_gives_back_what_that_changed(lab: Lab) -> None:
    main = lab["main"]
    with main.enter():
        index = carpdev().index
        mark = Mark(9, "eth0", index, {"arp_ignore": 0, "arp_announce": 0})
        main.run(f"ip link add old link eth0 type macvlan; ip link set old alias '{mark}'", shell=True)
        main.request(messages.ipv4_conf(index, {"arp_ignore": 1, "arp_announce": 2}))
        device = set_up(main, floating())
        assert carpdev().ipv4["arp_ignore"] == 0
        device.teardown()
        assert _settings(carpdev()) == (0, 0, ())


def test_the_settings_stay_while_any_virtual_host_is_there(lab: Lab) -> None:
    second_interface(lab)
    main = lab["main"]
    with main.enter():
        eth0 = carpdev()
        first, second = (
            Device(floating(mac="interface"), eth0),
            Device(floating("10.13.37.43/24", name="carp1").replace(vhid=7), eth0),
        )
        with VirtualHostLock("carp1", eth0, 7):
            with VirtualHostLock("carp0", eth0, VHID):
                first.setup()
                second.setup()
                first.teardown()
            assert carpdev("eth1").ipv4["arp_filter"] == carpdev().ipv4["arp_filter"] == 1
            second.teardown()
        assert _settings(carpdev()) == (0, 0, ()) and _settings(carpdev("eth1")) == (0, 0, ())


@pytest.mark.parametrize("addresses", [("2001:db8::42/64",), ("2001:db8::42/64", f"{VIP}/24")])
def test_ipv6_that_cannot_be_enabled(lab: Lab, addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    main = lab["main"]
    sysctl(main, "net.ipv6.conf.default.disable_ipv6=1")
    monkeypatch.setattr(settings.sysctl, "try_write", lambda _name, _value: False)
    if len(addresses) == 1:
        with pytest.raises(Exception, match=r"net\.ipv6\.conf\.default\.disable_ipv6 is 1 and /proc/sys cannot"):
            set_up(main, floating(*addresses))
        return
    device = set_up(main, floating(*addresses))
    outcome = order(main, device.take)
    assert outcome[-device.essential :] == [None] * 2
    assert answering(lab, VIP) == {VIRTUAL_MAC}
    with main.enter():
        device.teardown()
