"""Programs that run when the state changes, on hosts as they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.guardians import lives
from support.lan import SWIFT, VIP, Lan, held, stays, virtual_host, wait_until

from pycarp import State, events
from pycarp.hooks.hook import Hook

MASTER, BACKUP = State.MASTER, State.BACKUP


def test_a_service_with_hooks(net: Lan, secret: str, tmp_path: Path) -> None:
    # Fault: A hook without program, one that fails, one that drains for 0.4 s; SIGUSR2, SIGHUP, SIGTERM.
    # Expected: Each is told of and changes nothing; the address stays until it is drained, and no ping is lost.
    said, file = tmp_path / "said", tmp_path / "ifconfig.carp101"
    words = f"vhid 101 passfile {secret} advbase 0 advskew 10 {VIP}/24\n"
    drain = f"hook drain sh -c 'sleep 0.4; echo drained $PYCARP_STATE $PYCARP_CARPDEV >> {said}'\n"
    file.write_text(
        words + drain + "hook any /nonexistent/x\nhook backup sh -c 'echo oops >&2; exit 7'\n"
        f"hook any sh -c 'echo $PYCARP_NAME $PYCARP_FORMER_STATE $PYCARP_STATE $PYCARP_CARPDEV >> {said}'\n"
    )
    main = net.command("main", "run", str(file))
    main.become(MASTER)
    main.wait("HookFailed", hook="any x", why="its program is not there: give the path of one that is")
    main.wait("HookSaid", hook="backup sh", line="oops")
    main.wait("HookFailed", hook="backup sh", why="exit code 7")
    wait_until(lambda: said.read_text() == "carp101 INIT BACKUP eth0\ncarp101 BACKUP MASTER eth0\n")
    second = net.start("second", advskew=25)
    second.wait(events.PeerHeard)
    pinger = net.ping()
    assert pinger.wait(3)
    main.log.forget()
    main.send_signal(signal.SIGUSR2)
    stays(lambda: VIP in held(net["main"]) and main.state is MASTER, 0.3)
    second.become(MASTER)
    assert main.wait("HookDone", hook="drain sh")["at"] < main.wait("StateChanged", after="BACKUP")["at"]
    assert pinger.wait(3)
    assert (
        "drained MASTER eth0\ncarp101 MASTER BACKUP eth0\n" in said.read_text()
        or wait_until(lambda: "drained MASTER eth0\ncarp101 MASTER BACKUP eth0\n" in said.read_text()) is None
    )

    file.write_text(words + drain + f"hook any sh -c 'echo again $PYCARP_STATE >> {said}'\n")
    main.log.forget()
    main.send_signal(signal.SIGHUP)
    stays(lambda: main.state is BACKUP, 0.2)
    second.stop()
    main.become(MASTER)
    wait_until(lambda: said.read_text().endswith("again MASTER\n"))
    main.send_signal(signal.SIGTERM)
    assert main.end() == 0
    assert said.read_text().endswith("drained MASTER eth0\nagain INIT\n")
    assert main.errors == "pycarp run: the configuration was read again: carp101 has changed: hooks\n"


def test_hooks_that_hang_delay_nothing(net: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fault: Twenty hooks of an embedded engine that ignore SIGTERM and hang, and one that drains for ever.
    # Expected: No transition but those of a quiet start and of the hand-over; the program has no child.
    monkeypatch.setattr("pycarp.hooks.runner._END_WITHIN", 0.2)
    hang = Hook(when="any", command=["sh", "-c", "trap '' TERM HUP; echo $$; sleep 60 & sleep 60"], timeout=30)
    other = Hook(when="any", command=["sh", "-c", "echo $PYCARP_STATE"])
    endless = Hook(when="drain", command=["sleep", "60"], timeout=0.3)
    hosts = [
        {"vhid": 101 + number, "name": f"carp{101 + number}", "addresses": [f"10.13.37.{60 + number}/24"]}
        for number in range(20)
    ]
    main = net.start(
        "main",
        *(virtual_host(**one, hooks=[hang]) for one in hosts),
        virtual_host(vhid=7, hooks=[other, endless]),
    )
    for one in hosts:
        main.log.wait(events.StateChanged, name=one["name"], after=MASTER)
    main.become(MASTER, 7)
    main.log.until(lambda: len(main.log.find(events.HookSaid, name="carp7")) == 2)
    main.log.until(lambda: len(main.log.find(events.HookSaid)) == 22)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    second = net.start("second", vhid=7, advskew=SWIFT["advskew"] + 20)
    second.wait(events.PeerHeard)
    stays(lambda: main.state(7) is MASTER and second.state() is BACKUP, 1.0)
    main.engine.hand_over(7)  # it does not wait for the drain
    assert main.state(7) is MASTER
    second.become(MASTER)
    assert second.wait(events.StateChanged, after=MASTER).reason.name == "BOWOUT"
    main.wait(events.HookFailed, hook="drain sleep", why="it was ended after 0.3 s")
    assert all(len(main.transitions(name=f"carp{101 + number}")) == 2 for number in range(20))
    hanging = [int(event.line) for event in main.log.find(events.HookSaid) if event.line.isdigit()]
    assert len(hanging) == 20 and all(lives(one) for one in hanging)
    main.stop()
    wait_until(lambda: not any(lives(one) for one in hanging))


def test_a_crash_drains_nothing(net: Lan, secret: str, tmp_path: Path) -> None:
    # Fault: kill -9 of `pycarp up` while a hook runs.
    # Expected: The hook ends with it; no drain runs; the backup takes over at once.
    net.tidy = False
    said = tmp_path / "said"
    options = ["--hook", f"drain sh -c 'echo drained > {said}'", "--hook", "master sh -c 'echo $$; sleep 60'"]
    words = ["vhid", "101", "passfile", secret, "advbase", "0", "advskew", "10", f"{VIP}/24"]
    main = net.command("main", "up", "carp101", *words, *options)
    main.become(MASTER)
    hook = int(main.wait("HookSaid")["line"])
    second = net.start("second", advskew=25)
    second.wait(events.PeerHeard)
    main.send_signal(signal.SIGKILL)
    second.become(MASTER)
    wait_until(lambda: not lives(hook))
    assert not said.exists()
