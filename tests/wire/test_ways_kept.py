"""The rules and routes of an engine from BACKUP to MASTER and back, and what others remove of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap

import pytest
from support.lan import VIP, VIP6, Lan, wait_until

from pycarp import State, events
from pycarp.lab.namespaces import Host

SUBNET = "198.51.100.0/24"
ALONE = "198.51.100.42"
"""In a subnet that no interface has."""
_IPV6_FREEBIND = 78


def _sends(host: Host, source: str, destination: str) -> bool:
    with host.enter(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sending:
        sending.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        sending.bind((source, 0))
        try:
            sending.sendto(b"", (destination, 9))
        except OSError:
            return False
        return True


def _ways(host: Host) -> set[str]:
    """Our rules, and the routes of tables of our own."""
    text = host.run("ip rule; ip -6 rule; ip route show table all; ip -6 route show table all", shell=True).stdout
    return {one.strip() for one in text.splitlines() if "proto 112" in one}


def test_the_ways_of_a_backup_and_a_master(with_impl: str, net: Lan) -> None:
    # Fault: No interface has the subnet of an address; somebody deletes all rules and our routes of the MASTER.
    # Expected: The MASTER alone has a route to the subnet and sends from the IPv6 address. What was deleted is put back
    # and told once, nobody takes over, and the BACKUP that it becomes is as before.
    main, client = net["main"], net["client"]
    client.run(["ip", "address", "add", "198.51.100.9/24", "dev", "eth0"])
    node = net.start("main", addresses=[f"{ALONE}/24", f"{VIP}/24", f"{VIP6}/64"], carpdev="eth0", advskew=20)
    assert node.state() is State.BACKUP
    assert SUBNET not in main.run(["ip", "route"]).stdout and not _sends(main, VIP6, str(client.address6))
    node.become(State.MASTER)
    wait_until(lambda: f"{SUBNET} dev carp101" in main.run(["ip", "route"]).stdout)
    assert net.ping(ALONE).wait(3) and _sends(main, VIP6, str(client.address6))
    before = _ways(main)
    node.log.forget()
    for family in ("-4", "-6"):
        for rule in main.run(["ip", family, "rule"]).stdout.splitlines():
            if "proto 112" in rule:
                main.run(["ip", family, "rule", "delete", *rule.split(":", 1)[1].split()])
        main.run(["ip", family, "route", "flush", "table", "all", "proto", "112"], check=False)
    wait_until(lambda: _ways(main) == before)
    assert net.ping(ALONE).wait(3) and node.state() is State.MASTER
    assert "rules" in node.wait(events.ChangedByOthers).what
    better = net.start("second", addresses=[f"{ALONE}/24", f"{VIP}/24", f"{VIP6}/64"], carpdev="eth0", preempt=True)
    better.become(State.MASTER)
    node.become(State.BACKUP)
    wait_until(lambda: SUBNET not in main.run(["ip", "route"]).stdout)
    wait_until(lambda: not _sends(main, VIP6, str(client.address6)))
    assert len(node.log.find(events.ChangedByOthers)) == 1


def test_what_is_put_back_after_root_was_given_up(with_impl: str) -> None:
    # Fault: A program gives up root; then somebody deletes the rules and tables of the MASTER.
    # Expected: The guardian puts them back.
    script = textwrap.dedent(
        f"""
        import os, sys, time
        import pycarp
        from pycarp.lab.namespaces import Lab

        with Lab() as lab:
            main = lab["main"]
            main.run("ip link add inner type veth peer name guest; ip addr add 172.17.0.1/16 dev inner;"
                     "ip link set inner up; ip link set guest up; ip route add default via 10.13.37.12", shell=True)
            ready, told = os.pipe()
            over, end = os.pipe()
            child = os.fork()
            if not child:
                os.close(end)
                with main.enter():
                    engine = pycarp.Engine(pycarp.VirtualHost(
                        vhid=101, passphrase="secret-secret", addresses=["{VIP}/24"], advbase=0, advskew=10))
                    engine.start()
                    while engine.state(101) is not pycarp.State.MASTER:
                        time.sleep(0.01)
                    time.sleep(1.2)  # what the engine imports in its first second may be root's alone
                    os.setgid(65534)
                    os.setuid(65534)
                    os.write(told, b"x")
                    os.read(over, 1)
                    engine.stop()
                    os._exit(0)
            os.close(over)
            os.read(ready, 1)
            ways = lambda: sorted(one.strip() for one in main.run(
                "ip rule; ip route show table all", shell=True).stdout.splitlines() if "proto 112" in one)
            before = ways()
            assert any("throw" in one for one in before) and any("lookup" in one for one in before), before
            for one in before:
                if "lookup" in one:
                    main.run(["ip", "rule", "del", *one.split(":")[1].split()])
            main.run("ip route flush table all proto 112", shell=True)
            limit = time.monotonic() + 8
            while ways() != before:
                assert time.monotonic() < limit, (before, ways())
                time.sleep(0.02)
            os.close(end)
            assert os.waitpid(child, 0)[1] == 0
        print("put back")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYCARP_IMPL": with_impl},
        timeout=30,
        check=False,
    )
    assert done.stdout == "put back\n", done.stderr


pytestmark = pytest.mark.wire
