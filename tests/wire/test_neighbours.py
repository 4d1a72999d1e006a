"""Beside the programs that run a host's network: the address is as well served as the host's own.

They really run, in the host's namespace: docs/findings.md says what to tell them.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.lan import VIP, Lan, Node, held, wait_until
from support.neighbours import Dhcpcd, Networkd, NetworkManager, available
from support.profiles import PROFILES
from support.strays import VIRTUAL_MAC

from pycarp import State, events
from pycarp.lab.namespaces import Host, Pinger

MASTER = State.MASTER
SHIPPED = Path(__file__).parents[2] / "packaging" / "networkd" / "10-pycarp.network"
RHEL = next(one for one in PROFILES if one.name == "rhel")
needs_networkd = pytest.mark.skipif(not available(*Networkd.needs), reason="systemd-networkd or dbus is not installed")


@pytest.fixture(autouse=True)
def the_machine_stays_as_it_is() -> Iterator[None]:
    """Whatever these programs write of names and leases is for the lab's host alone."""
    files = [Path("/etc/resolv.conf"), *Path("/var/lib").glob("dhcpcd/*"), *Path("/var/lib").glob("NetworkManager/*")]
    before = {one: one.stat().st_mtime_ns for one in files if one.exists()}
    yield
    assert before == {one: one.stat().st_mtime_ns for one in files if one.exists()}


def pair(net: Lan) -> tuple[Node, Node]:
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    return main, second


def network(host: Host) -> str:
    return f"[Match]\nName=eth0\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nAddress={host.address}/24\n"


def lost(pinger: Pinger, since: int) -> int:
    """Requests since then that nobody answered."""
    return sum(answered is None for sent, answered in pinger.requests() if sent >= since)


def as_well_served(net: Lan, act: Callable[[], object], seconds: float = 1.0, allowed: int = 0) -> None:
    """Do this and wait: the floating address loses no more requests than the MASTER's own, but `allowed` ones."""
    floating, own = net.ping(VIP), net.ping(net["main"].address)
    assert floating.wait(5) and own.wait(5)
    since = time.time_ns()
    act()
    time.sleep(seconds)
    assert floating.wait(5), "nobody answers for the address any more"
    # The last ones are still on their way.
    for pinger in (floating, own):
        pinger.stop()
    assert lost(floating, since) <= lost(own, since) + allowed + 1


def rules(host: Host) -> int:
    return str(host.run(["ip", "rule"]).stdout).count(f"from {VIP} ")


@needs_networkd
def test_networkd_reconfigures_reloads_and_starts_anew(make_lan: Callable[..., Lan], tmp_path: Path) -> None:
    # Fault: On the MASTER, with rp_filter=1, systemd-networkd reconfigures its interface, reloads, and starts anew; it
    # removes the rules that it did not make.
    # Expected: The address loses no ping that the host's own does not lose, and the rules are there again.
    net = make_lan(profile=RHEL)
    # Until the rules are back, answers leave with the carpdev's MAC, which the audit forbids.
    net.audited = False
    net.tidy = False  # what it leaves there is its own
    networkd = Networkd(net["main"], {"20-eth0.network": network(net["main"])}, tmp_path / "log")
    networkd.settle("eth0")
    main, second = pair(net)
    before = rules(net["main"])
    assert before > 0
    for act in (
        lambda: networkd.run("networkctl", "reconfigure", "eth0"),
        lambda: networkd.run("networkctl", "reload"),
        networkd.restart,
    ):
        as_well_served(net, act)
        wait_until(lambda: rules(net["main"]) == before, complaint="the rules do not come back")
    assert (main.state(), second.state()) == (MASTER, State.BACKUP)
    assert {frame.port for frame in net.capture.frames if frame.source == VIRTUAL_MAC and not frame.outgoing} == {
        "main"
    }
    networkd.stop()


@needs_networkd
def test_networkd_loses_carrier(net: Lan, tmp_path: Path) -> None:
    # Fault: The MASTER's cable comes out and goes in again, where systemd-networkd configures the interface.
    # Expected: The backup takes over; the better host is MASTER again and answers, from its own addresses as before.
    net.tidy = False  # what it leaves there is its own
    networkd = Networkd(net["main"], {"20-eth0.network": network(net["main"])}, tmp_path / "log")
    networkd.settle("eth0")
    main, second = net.start("main", advskew=10, preempt=True), net.start("second", advskew=25, preempt=True)
    main.become(MASTER)
    pinger = net.ping()
    net.lab.unplug("main", seen=True)
    second.become(MASTER)
    assert pinger.wait(5)
    net.lab.plug("main")
    main.become(MASTER)
    assert pinger.wait(5)
    assert net["main"].address in held(net["main"])
    networkd.stop()


@needs_networkd
def test_networkd_for_every_interface_leaves_ours_alone(net: Lan, tmp_path: Path) -> None:
    # Fault: On both hosts, systemd-networkd has a file for every interface, with DHCP, after ours with Unmanaged=yes.
    # Expected: It does nothing with the devices: no address, and no frame from the virtual MAC by a BACKUP (the audit).
    files = {"10-pycarp.network": SHIPPED.read_text(), "50-all.network": "[Match]\nName=*\n[Network]\nDHCP=yes\n"}
    net.tidy = False
    daemons = [Networkd(net[name], files, tmp_path / name) for name in ("main", "second")]
    pair(net)
    assert daemons[0].state("carp101") == "unmanaged"
    as_well_served(net, lambda: [one.run("networkctl", "reload") for one in daemons], 2.0)
    assert held(net["second"]) & {VIP} == set()
    for one in daemons:
        one.stop()


@pytest.mark.long
@pytest.mark.skipif(not available(*NetworkManager.needs), reason="NetworkManager or dbus is not installed")
def test_networkmanager_starts_and_reloads(net: Lan, tmp_path: Path) -> None:
    # Fault: NetworkManager starts on both hosts, reloads, and starts anew.
    # Expected: The address loses no ping that the host's own does not lose; the BACKUP stays silent (the audit).
    pair(net)
    daemons = [NetworkManager(net[name], tmp_path / name) for name in ("main", "second")]
    as_well_served(net, lambda: [one.run("nmcli", "general", "reload") for one in daemons], 3.0)
    as_well_served(net, daemons[0].restart, 3.0)
    for one in daemons:
        one.stop()


@pytest.mark.long
@pytest.mark.skipif(not available(*Dhcpcd.needs), reason="dhcpcd is not installed")
def test_dhcpcd_starts_and_ends(net: Lan, tmp_path: Path) -> None:
    # Fault: dhcpcd starts for every interface, and ends, on both hosts.
    # Expected: The address loses no ping that the host's own does not lose; the BACKUP stays silent (the audit).
    pair(net)

    def run() -> None:
        daemons = [Dhcpcd(net[name], tmp_path / name) for name in ("main", "second")]
        time.sleep(5)
        for one in daemons:
            one.stop()

    as_well_served(net, run)


@pytest.mark.long
@pytest.mark.skipif(not available("dnsmasq"), reason="dnsmasq is not installed")
def test_dnsmasq_answers_from_the_address(net: Lan) -> None:
    # Fault: dnsmasq, with no addresses named, runs on both hosts, and the MASTER's engine stops.
    # Expected: It answers a question to the address at once, on the one host and then on the other.
    for name in ("main", "second"):
        options = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file="]
        net[name].popen(["dnsmasq", *options, "--address=/who.test/192.0.2.1"], stderr=subprocess.DEVNULL)
    main, second = pair(net)
    wait_until(lambda: _resolves(net["client"]))
    main.stop()
    second.become(MASTER)
    assert _resolves(net["client"])


def _resolves(client: Host) -> bool:
    """Whether the address answers a question for who.test within a second, and as itself."""
    import socket

    question = b"\1\2\1\0\0\1\0\0\0\0\0\0\3who\4test\0\0\1\0\1"
    with client.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        asking.connect((VIP, 53))
        try:
            asking.send(question)
            return asking.recv(512).endswith(bytes((192, 0, 2, 1)))
        except OSError:
            return False
