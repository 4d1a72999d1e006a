"""The command line as people and service managers run it: `pycarp up` and `pycarp run`, their signals and their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.chaos import guardians
from support.lan import VIP, Command, Lan, belongings, held, interface, stays, wait_until
from support.wire import PASSPHRASE

from pycarp import State, events

MASTER, BACKUP = State.MASTER, State.BACKUP


def up(net: Lan, name: str, secret: str, *words: str, advskew: int = 10) -> Command:
    common = ["vhid", "101", "passfile", secret, "advbase", "0", "advskew", str(advskew), f"{VIP}/24"]
    return net.command(name, "up", "carp101", *common, *words)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_bows_out(net: Lan, secret: str, number: int) -> None:
    # Fault: SIGTERM or SIGINT of `pycarp up`.
    # Expected: It bows out, drops and ends with code 0; the backup takes over; no secret is in its events.
    main = up(net, "main", secret)
    main.become(MASTER)
    second = net.start("second", advskew=25)
    second.wait(events.PeerHeard)
    pinger = net.ping()
    assert pinger.wait(3)
    assert main.wait("AddressesTaken")["addresses"] == [f"{VIP}/24"]
    main.send_signal(number)
    second.become(MASTER)
    assert second.wait(events.StateChanged, after=MASTER).reason.name == "BOWOUT"
    assert main.end() == 0
    assert pinger.wait(3)
    assert main.errors == ""
    assert [event["after"] for event in main.log.find("StateChanged")] == ["BACKUP", "MASTER", "INIT"]
    assert main.log.find("AddressesDropped")
    assert PASSPHRASE not in json.dumps(main.log.events)


@pytest.mark.parametrize("command", ["up", "run"])
def test_usr2_hands_over_without_preempt(net: Lan, secret: str, tmp_path: Path, command: str) -> None:
    # Fault: SIGUSR1, then SIGUSR2, of a MASTER that would preempt; the backup has no preempt, and is stopped later.
    # Expected: The state in a line; the backup takes over and keeps the address; the first stays MASTER when alone.
    if command == "up":
        main = up(net, "main", secret, "--preempt")
    else:
        words = f"vhid 101 passfile {secret} advbase 0 advskew 10 preempt {VIP}/24\n"
        (tmp_path / "ifconfig.carp101").write_text(words)
        main = net.command("main", "run", str(tmp_path / "ifconfig.carp101"))
    main.become(MASTER)
    second = net.start("second", advskew=25)
    second.wait(events.PeerHeard)
    pinger = net.ping()
    assert pinger.wait(3)
    main.send_signal(signal.SIGUSR1)
    status = main.wait("Status")
    assert (status["name"], status["state"], status["addresses"]) == ("carp101", "MASTER", [VIP])
    main.log.forget()
    main.send_signal(signal.SIGUSR2)
    second.become(MASTER)
    assert second.wait(events.StateChanged, after=MASTER).reason.name == "BOWOUT"
    main.wait("AddressesDropped")
    assert pinger.wait(3)
    stays(lambda: second.state() is MASTER and main.state is BACKUP, 1.0)
    main.log.forget()
    second.stop()
    main.become(MASTER)
    assert pinger.wait(3)
    main.send_signal(signal.SIGUSR2)
    stays(lambda: main.state is MASTER and VIP in held(net["main"]), 0.3)
    main.send_signal(signal.SIGTERM)
    assert main.end() == 0


def test_two_commands_fail_over(net: Lan, secret: str) -> None:
    # Fault: The cable of the first of two commands is cut, and comes back.
    # Expected: The other takes over; the first preempts.
    main, second = up(net, "main", secret, "--preempt"), up(net, "second", secret, advskew=25)
    main.become(MASTER)
    pinger = net.ping()
    assert pinger.wait(3)
    second.wait("PeerHeard")
    net.lab.unplug("main")
    second.become(MASTER)
    assert pinger.wait(3)
    net.lab.plug("main")
    second.become(BACKUP)
    main.become(MASTER)
    assert pinger.wait(3)


def test_the_same_command_twice(net: Lan, secret: str) -> None:
    # Fault: The same command is started twice on a host.
    # Expected: The second ends with code 2 and one line that names the first; the first is untouched.
    main = up(net, "main", secret)
    main.become(MASTER)
    before = belongings(net["main"])
    again = up(net, "main", secret)
    assert again.end() == 2
    assert again.errors.count("\n") == 1
    assert f"is already run by process {main.process.pid}" in again.errors
    assert "wait=" not in again.errors and "pycarp status" in again.errors
    assert "Traceback" not in again.errors
    assert belongings(net["main"]) == before
    assert net.ping().wait(3)
    assert main.state is MASTER


def crash(net: Lan, command: Command, guardian_too: bool) -> None:
    """kill -9: the guardian lets go of the address, unless it is killed as well."""
    if guardian_too:
        # Stopped, it does not start another.
        command.process.send_signal(signal.SIGSTOP)
        for pid in guardians(net["main"]):
            os.kill(pid, signal.SIGKILL)
    command.process.kill()
    assert command.end() == -signal.SIGKILL
    if guardian_too:
        assert VIP in held(net["main"])
    else:
        wait_until(lambda: VIP not in held(net["main"]))


@pytest.mark.parametrize("guardian_too", [False, True], ids=["engine", "both"])
def test_a_start_after_a_crash(net: Lan, secret: str, guardian_too: bool) -> None:
    # Fault: kill -9 of the command, or of command and guardian, and a new start.
    # Expected: The start removes what the crash left, and nothing that others made.
    host = net["main"]
    host.run(["ip", "link", "add", "mine", "link", "eth0", "type", "macvlan", "mode", "bridge"])
    host.run(["ip", "link", "set", "mine", "up"])
    host.run(["ip", "address", "add", "10.13.37.77/32", "dev", "mine"])
    host.run(["ip", "address", "add", "10.13.37.78/32", "dev", "eth0"])
    host.run(["ip", "rule", "add", "from", "10.13.37.77", "lookup", "77"])
    host.run(["ip", "link", "set", "mine", "alias", "pycarp is not what made this"])
    net.remember("main")
    crashed = up(net, "main", secret)
    crashed.become(MASTER)
    crash(net, crashed, guardian_too)
    again = up(net, "main", secret, advskew=30)
    again.become(MASTER)
    assert not again.log.find("ChangedByOthers")
    assert net.ping().wait(3)
    rules = host.run(["ip", "rule"]).stdout
    assert rules.count(f"from {VIP} ") == 1
    assert rules.count("from 10.13.37.77 ") == 1
    again.send_signal(signal.SIGTERM)
    assert again.end() == 0
    # The rest is compared when the test ends: nothing of ours, everything of the others'.
    assert VIP not in held(host)
    assert {"10.13.37.77", "10.13.37.78"} <= held(host)


def test_a_crash_with_the_interfaces_mac(net: Lan, secret: str) -> None:
    # Fault: kill -9 of command and guardian with `mac interface`; a start with another vhid and address.
    # Expected: The address that was left goes; the host's own stays.
    crashed = up(net, "main", secret, "--mac", "interface")
    crashed.become(MASTER)
    crash(net, crashed, guardian_too=True)
    # Under another vhid and address: what the dead one left goes all the same.
    again = net.command(
        "main", "up", "carp7", "vhid", "7", "passfile", secret, "advbase", "0", "advskew", "10", "10.13.37.47/24",
        "--mac", "interface",
    )  # fmt: skip
    again.become(MASTER)
    assert VIP not in held(net["main"])
    assert net["main"].address in held(net["main"])


def test_a_crash_of_one_of_two(net: Lan, secret: str) -> None:
    # Fault: kill -9 of one of two commands on one carpdev, and a new start.
    # Expected: The other command's device, settings and pings are untouched.
    other = net.command(
        "main", "up", "carp7", "vhid", "7", "passfile", secret, "advbase", "0", "advskew", "10", "10.13.37.47/24"
    )
    other.become(MASTER)
    pinger = net.ping("10.13.37.47")
    assert pinger.wait(3)
    crashed = up(net, "main", secret)
    crashed.become(MASTER)
    crashed.process.kill()
    crashed.end()
    again = up(net, "main", secret)
    again.become(MASTER)
    assert pinger.wait(3)
    assert other.state is MASTER
    eth0 = interface(net["main"], "eth0")
    assert eth0 is not None and (eth0.ipv4["arp_filter"], eth0.ipv4["arp_announce"]) == (1, 2)


def test_run_reads_its_files_again(net: Lan, secret: str, tmp_path: Path) -> None:
    # Fault: SIGHUP after a file was added, spoilt, and removed.
    # Expected: The changes are carried out; a mistake is reported and changes nothing; the rest goes on.
    directory = tmp_path / "etc"
    directory.mkdir()
    first = directory / "ifconfig.carp0"
    first.write_text(f"vhid 101 passfile {secret} advbase 0 advskew 10\ninet {VIP} netmask 255.255.255.0\n")
    command = net.command("main", "run", "--directory", str(directory))
    command.become(MASTER)
    pinger = net.ping()
    assert pinger.wait(3)
    second = directory / "ifconfig.carp1"
    second.write_text(f"vhid 7 passfile {secret} advbase 0 advskew 10\n10.13.37.47/24\n")
    command.log.forget()
    command.send_signal(signal.SIGHUP)
    assert command.wait("AddressesTaken", name="carp1")["vhid"] == 7
    assert net.ping("10.13.37.47").wait(3)
    # A mistake is said, and everything stays.
    second.write_text("vhid 0\n")
    command.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old configuration stays" in command.errors)
    assert "ifconfig.carp1:1:6" in command.errors
    stays(lambda: "10.13.37.47" in held(net["main"]), 0.1)
    second.unlink()
    command.log.forget()
    command.send_signal(signal.SIGHUP)
    wait_until(lambda: "10.13.37.47" not in held(net["main"]))
    assert pinger.wait(3)
    assert command.log.find("StateChanged", name="carp0") == []
    command.send_signal(signal.SIGTERM)
    assert command.end() == 0


def test_a_mistake_changes_nothing(net: Lan, secret: str) -> None:
    # Fault: A command line with a mistake.
    # Expected: Code 2, one line that names it, and an unchanged machine.
    before = belongings(net["main"])
    for words, said in (
        (["vhid", "0", f"{VIP}/24"], "vhid"),
        (["vhid", "101", "203.0.113.9/24"], "203.0.113.9"),
        (["vhid", "101", net["main"].address], net["main"].address),
        (["vhid", "101", "carpdev", "eth9", f"{VIP}/24"], "eth9"),
    ):
        command = net.command("main", "up", "carp101", "passfile", secret, *words)
        assert command.end() == 2
        assert command.errors.count("\n") == 1 and said in command.errors, command.errors
        assert belongings(net["main"]) == before


def test_a_second_virtual_host_that_cannot_start(net: Lan, secret: str, tmp_path: Path) -> None:
    # Fault: The second of two virtual hosts cannot start, then neither can.
    # Expected: The first one runs and the second says why it waits; with neither, code 2, and nothing is left.
    net["main"].run(["ip", "link", "add", "carp1", "type", "veth", "peer", "name", "far"])
    before = belongings(net["main"])
    for number, address in ((0, VIP), (1, "10.13.37.47")):
        text = f"vhid {number + 1} passfile {secret} {address}/24\n"
        (tmp_path / f"ifconfig.carp{number}").write_text(text)
    command = net.command("main", "run", "--directory", str(tmp_path))
    assert "an interface carp1 already, and it is not ours" in command.wait("Waiting", name="carp1")["what"]
    command.wait("StateChanged", name="carp0")
    command.send_signal(signal.SIGTERM)
    assert command.end() == 0
    assert belongings(net["main"]) == before
    (tmp_path / "ifconfig.carp0").unlink()
    command = net.command("main", "run", "--directory", str(tmp_path))
    assert command.end() == 2
    assert "an interface carp1 already, and it is not ours" in command.errors
    assert belongings(net["main"]) == before


@pytest.mark.parametrize("fault", ["pipe", "disk", "closed"])
def test_the_reader_of_the_events_goes_away(net: Lan, secret: str, tmp_path: Path, fault: str) -> None:
    # Fault: The pipe that events go to is closed; or the disk that they go to is full; or there is no stdout.
    # Expected: The address stays, at most a line says so, and SIGTERM ends the command with code 0.
    words = ["vhid", "101", "passfile", secret, "advbase", "0", "advskew", "10", f"{VIP}/24", "--json"]
    net.remember("main")
    program = [sys.executable, "-m", "pycarp", "up", "carp101", *words]
    if fault == "closed":
        program = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    with open("/dev/full", "w") as full, (tmp_path / "errors").open("w") as stderr:
        process = net["main"].popen(program, stdout=subprocess.PIPE if fault == "pipe" else full, stderr=stderr)
    if process.stdout is not None:
        process.stdout.close()
    pinger = net.ping()
    assert pinger.wait(3)
    process.terminate()
    assert process.wait(5) == 0
    said = (tmp_path / "errors").read_text()
    expected = {
        "pipe": "the reader of the events is gone",
        "disk": "events cannot be printed (No space left",
        "closed": "",
    }
    assert said.count("\n") == (fault != "closed") and expected[fault] in said
