"""Virtual hosts whose interface is not there yet: they wait for it, and the others run meanwhile."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from support.lan import Command, Lan, Node, held, interface, stays, virtual_host, wait_until
from support.wire import passfile

from pycarp import InterfaceError, State, events

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
FAR = "192.0.2.42"


def late(**changes: Any) -> Any:
    return virtual_host(**{"vhid": 7, "addresses": [f"{FAR}/24"], **changes})


def start(net: Lan, *hosts: Any) -> Node:
    net.tidy = False  # interfaces come and go
    return net.start("main", *hosts, options={"missing": "wait"})


@pytest.mark.parametrize("carpdev", ["eth1", None], ids=["named", "chosen"])
def test_an_interface_that_comes_late(with_impl: str, net: Lan, carpdev: str | None) -> None:
    # Fault: One of two virtual hosts has no interface at the start; it comes, goes, and comes back with another index.
    # Expected: The other one runs; this one says what is missing, is INIT meanwhile, then MASTER, and answers.
    main = start(net, virtual_host(), late(carpdev=carpdev))
    main.become(MASTER, 101)
    what = "no interface eth1; there is eth0" if carpdev else f"no interface has the subnet of {FAR}; there is eth0"
    assert what in main.wait(events.Waiting, vhid=7).what
    assert what in main.engine.waiting["carp7"] and list(main.engine.waiting) == ["carp7"]
    assert main.state(7) is INIT and main.engine.hosts[1] == late(carpdev=carpdev)
    assert main.stats("carp7")["ipackets"] == 0 and main.engine.demotion(101) == 1
    for number in range(2):
        net.cable("main", "client")
        main.become(MASTER, 7)
        assert main.engine.waiting == {} and main.engine.demotion(101) == 0
        assert net.ping(FAR).wait(3)
        if number == 0:
            net["main"].run(["ip", "link", "delete", "eth1"])
            main.become(INIT, 7)
            wait_until(lambda: "carp7" in main.engine.waiting)
    assert main.state(101) is MASTER
    assert [change.after for change in main.transitions(101)] == [BACKUP, MASTER]
    assert len(main.log.find(events.Waiting)) <= 2
    main.stop()
    assert interface(net["main"], "carp7") is None
    assert [failed.what for failed in main.log.find(events.Failed) if "Network is down" not in failed.what] == []


def test_an_address_that_comes_late(net: Lan) -> None:
    # Fault: The interface has no address at the start (DHCP), and the virtual host names no carpdev.
    # Expected: It waits, then runs.
    own = f"{net['main'].address}/24"
    net["main"].run(["ip", "address", "delete", own, "dev", "eth0"])
    main = start(net, virtual_host())
    assert "no interface has the subnet" in main.wait(events.Waiting).what
    stays(lambda: main.state() is INIT, 0.2)
    net["main"].run(["ip", "address", "add", own, "brd", "+", "dev", "eth0"])
    main.become(MASTER)
    assert net.ping().wait(3)


def test_a_port_of_a_bridge_for_the_moment(net: Lan) -> None:
    # Fault: The carpdev is a port of a bridge at the start.
    # Expected: It waits and says so once, then runs when the interface has left the bridge.
    net.cable("main", "client")
    for words in ("link add br9 type bridge", "link set eth1 master br9"):
        net["main"].run(["ip", *words.split()])
    main = start(net, virtual_host(), late(carpdev="eth1", addresses=[f"{FAR}/24"]))
    main.become(MASTER, 101)
    assert "a port of a bridge or a bond" in main.wait(events.Waiting, vhid=7).what
    net["main"].run(["ip", "link", "set", "eth1", "nomaster"])
    main.become(MASTER, 7)
    assert len(main.log.find(events.Waiting)) == 1


def test_one_group_shows_only_when_the_interface_comes(net: Lan) -> None:
    # Fault: Two virtual hosts would be one group once a missing interface is there.
    # Expected: The one that waits says so; the other runs.
    net.cable("main", "client")
    main = start(net, late(carpdev="eth1"), late(carpdev="lan9", name="carp8", addresses=["192.0.2.43/24"]))
    main.become(MASTER, "carp7")
    main.wait(events.Waiting, name="carp8")
    for words in ("link set eth1 down", "link set eth1 name lan9", "link set lan9 up"):
        net["main"].run(["ip", *words.split()])
    wait_until(lambda: "carp7 and carp8 both have vhid 7 on lan9" in main.engine.waiting.get("carp8", ""))
    main.become(MASTER, "carp7")
    assert main.state("carp8") is INIT


def test_what_can_never_start_is_refused(net: Lan) -> None:
    # Fault: No word of any virtual host can ever be right; or all are to be refused at once.
    # Expected: The start raises, and nothing is left.
    with pytest.raises(InterfaceError, match="carpdev lo is no Ethernet"):
        net.start("main", virtual_host(carpdev="lo"), options={"missing": "wait"})
    with pytest.raises(InterfaceError, match="no interface eth9"):
        net.start("main", virtual_host(), late(carpdev="eth9"))
    # Beside one that runs, it waits: somebody may mend the machine.
    main = start(net, virtual_host(), late(carpdev="lo"))
    assert "no Ethernet" in main.wait(events.Waiting, vhid=7).what


def test_reconfiguring_what_waits(net: Lan) -> None:
    # Fault: A virtual host that waits gets other words, goes, and comes back by a reconfiguration.
    # Expected: It goes on waiting, by its new words; what runs does not give up its interface for a missing one.
    main = start(net, virtual_host())
    main.become(MASTER)
    main.reconfigure(virtual_host(), late(carpdev="eth8"))
    assert "no interface eth8" in main.wait(events.Waiting, vhid=7).what
    main.reconfigure(virtual_host(), late(carpdev="eth1", advskew=30))
    assert "no interface eth1" in main.engine.waiting["carp7"]
    with pytest.raises(InterfaceError, match="no interface eth8"):
        main.engine.reconfigure(virtual_host(carpdev="eth8"))
    net.cable("main", "client")
    main.become(MASTER, 7)
    main.reconfigure(virtual_host(), late(vhid=8, name="carp9", carpdev="eth8", addresses=["192.0.2.43/24"]))
    assert main.engine.waiting.keys() == {"carp9"}
    main.reconfigure(virtual_host())
    assert main.engine.waiting == {} and main.state() is MASTER
    assert [change.after for change in main.transitions(101)] == [BACKUP, MASTER]


def test_it_says_that_the_link_is_down_at_the_start(net: Lan) -> None:
    # Fault: The carpdev is set down at the start.
    # Expected: An event says so before the machine is demoted.
    net["main"].run(["ip", "link", "set", "eth0", "down"])
    main = start(net, virtual_host())
    assert "eth0 is down, or without carrier" in main.wait(events.CarpdevChanged).text
    net["main"].run(["ip", "link", "set", "eth0", "up"])
    main.become(MASTER)


def test_the_command_waits_and_reloads(net: Lan, tmp_path: Path) -> None:
    # Fault: `pycarp run` has a file whose interface is missing; a reload brings a broken one, then one that waits, too.
    # Expected: The other runs without a lost ping; systemd sees what is missing.
    passfile(tmp_path)
    write(tmp_path, "carp0", "vhid 101 carpdev eth0", "10.13.37.42/24")
    write(tmp_path, "carp1", "vhid 7 carpdev eth1", f"{FAR}/24")
    net.tidy = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        run = net.command("main", "run", "--directory", str(tmp_path), env=environment)
        run.wait("AddressesTaken", name="carp0")
        assert "no interface eth1" in run.wait("Waiting", name="carp1")["what"]
        pinger = net.ping()
        assert pinger.wait(3)
        assert said(notices, r"READY=1\nSTATUS=carp0 \(vhid 101\), carp1 \(vhid 7\) waits: there is no interface eth1")
        write(tmp_path, "carp0", "vhid 101 carpdev eth9", "10.13.37.42/24")
        reload(run, notices)
        wait_until(lambda: "the old configuration stays" in run.errors)
        assert "carp0 runs, and does not move to what is missing: there is no interface eth9" in run.errors
        write(tmp_path, "carp0", "vhid 101 carpdev eth0", "10.13.37.42/24")
        write(tmp_path, "carp2", "vhid 8 carpdev eth8", "198.51.100.42/24")
        reload(run, notices)
        run.wait("Waiting", name="carp2")
        net.cable("main", "client")
        wait_until(lambda: FAR in held(net["main"]))
        assert net.ping(FAR).wait(3)
        assert pinger.wait(pinger.received + 5)
        pinger.stop()
        assert pinger.received >= pinger.sent - 1
        run.send_signal(signal.SIGTERM)
        assert run.end() == 0


def write(directory: Path, name: str, *lines: str) -> None:
    path = directory / f"ifconfig.{name}"
    path.write_text("\n".join([f"{lines[0]} passfile ./pass advbase 0 advskew 10", *lines[1:]]) + "\n")
    path.chmod(0o600)


def reload(run: Command, notices: socket.socket) -> None:
    run.send_signal(signal.SIGHUP)
    assert said(notices, "RELOADING=1") and said(notices, "^READY=1$")


def said(notices: socket.socket, pattern: str) -> bool:
    """Whether systemd is told that, some time from now on."""
    notices.settimeout(8)
    while not re.search(pattern, notices.recv(4096).decode()):
        pass
    return True
