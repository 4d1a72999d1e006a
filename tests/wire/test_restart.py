"""From one life of a program to the next: nobody else on the LAN notices, and what breaks on the way is as a crash."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.audit import speaker
from support.lan import VIP, WITHIN, Lan, Node, held, interface, stays, virtual_host, wait_until
from support.wire import PASSPHRASE, VHID

from pycarp import EngineError, InterfaceError, State, events
from pycarp.engine import line
from pycarp.linux import lock
from pycarp.protocol import NS_PER_SKEW
from pycarp.protocol.timing import PACES

MASTER, BACKUP = State.MASTER, State.BACKUP
LIFE = Path(__file__).parents[1] / "support" / "life.py"
QUICK = {"advbase": 0, "advskew": 50}
LATER = {"advbase": 0, "advskew": 100}


class Life:
    """A program of `support.life` in a host; `log` is what it has said."""

    def __init__(self, net: Lan, impl: str, inherit: str = "auto", when: str = "", **changes: Any) -> None:
        values = {"vhid": VHID, "passphrase": PASSPHRASE, "addresses": [f"{VIP}/24"], **QUICK, **changes}
        net.remember("main")
        self.log: list[dict[str, Any]] = []
        self.process = net["main"].popen(
            [sys.executable, "-W", "error", str(LIFE), json.dumps([values]), inherit, when],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYCARP_IMPL": impl},
        )
        self._reader = threading.Thread(target=self._read, name="life-events")
        self._reader.start()
        net._stack.callback(self.end)

    def wait(self, name: str, count: int = 1) -> dict[str, Any]:
        wait_until(lambda: len(self.find(name)) >= count, WITHIN, f"no {name}; there were {self.log}")
        return self.find(name)[-1]

    def find(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.log if one["event"] == name]

    def exec(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"exec\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """See it end, as it does when its stdin ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(WITHIN)
        finally:
            self.process.kill()
            self._reader.join()

    def _read(self) -> None:
        for text in self.process.stdout or ():
            self.log.append(json.loads(text))


def first_and_backup(net: Lan, impl: str, when: str = "", **changes: Any) -> tuple[Life, Node]:
    """A life that is MASTER in main, and its backup in second."""
    life = Life(net, impl, when=when, **changes)
    life.wait("AddressesTaken")
    backup = net.start("second", **{**LATER, "advskew": 2 * changes.get("advskew", 50)})
    backup.wait(events.PeerHeard)
    backup.log.forget()
    return life, backup


def owners(net: Lan) -> list[str]:
    return [name for name in ("main", "second") if VIP in held(net[name])]


def test_restarts_in_a_row(net: Lan, with_impl: str, figures: dict[str, float]) -> None:
    # Fault: The MASTER's program is started anew three times beside itself, once as the other implementation, and once
    #        it replaces itself by exec.
    # Expected: No advert is late or missing, no bow-out is sent, no ping of 200 a second is lost, the backup stays.
    other = "python" if with_impl == "native" else "native"
    life, backup = first_and_backup(net, with_impl, advskew=100)
    pinger = net.ping(interval=0.005)
    assert pinger.wait(3)
    began = time.time_ns()
    for impl in (with_impl, with_impl, other, with_impl):
        successor = Life(net, impl, advskew=100)
        assert successor.wait("Inherited")["state"] == "MASTER"
        assert life.process.wait(WITHIN) == 0
        life = successor
    life.exec()
    life.wait("Inherited", 2)
    stays(lambda: backup.state() is BACKUP, 1.1)
    pinger.stop()
    assert pinger.received == pinger.sent
    assert not backup.log.find(events.StateChanged)
    spoken = [one for one in net.capture.frames.copy() if one.port == "main" and not one.outgoing and one.at_ns > began]
    assert not any(speaker(one.data).bowout for one in spoken)
    times = sorted(one.at_ns for one in spoken if speaker(one.data).advert)
    # Under two key forms an advert is two frames.
    late = [
        (later - sooner - 100 * NS_PER_SKEW) / 1e6
        for sooner, later in itertools.pairwise(times)
        if later - sooner > 5e7
    ]
    assert len(late) >= 3
    assert min(late) > -20
    figures[f"latest advert over a restart, {with_impl} (ms)"] = max(late)
    assert max(late) < 20


@pytest.mark.parametrize(
    "impl, old, new, survives",
    [
        ("native", "", "send ready", True),
        ("python", "", "receive left", False),
        ("native", "", "send taken", False),
        ("python", "receive ready", "", False),
        ("native", "send left", "", False),
        ("python", "receive taken", "", False),
        ("native", "receive taken:stop", "", False),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_a_process_dies_in_a_hand_over(net: Lan, impl: str, old: str, new: str, survives: bool) -> None:
    # Fault: The successor or its predecessor dies by SIGKILL, or is stopped, at some point of the hand-over.
    # Expected: Before anything is handed on, nothing happens to the other one; after that it is as after a crash: one
    #           host has the address within a takeover, and answers.
    life, backup = first_and_backup(net, impl, when=old)
    pinger = net.ping()
    assert pinger.wait(3)
    successor = Life(net, impl, when=new)
    if "stop" not in old:
        (life if old else successor).process.wait(WITHIN)
    if survives:
        stays(lambda: owners(net) == ["main"] and backup.state() is BACKUP, 0.5)
        assert life.process.poll() is None
    else:
        if "stop" in old:
            # The guardian of the one that was stopped lets go of what the other one has.
            time.sleep(0.6)
        elif old:
            successor.wait("ready")
        since = [time.monotonic()]

        def settled() -> bool:
            if len(owners(net)) != 1:
                since[0] = time.monotonic()
            return time.monotonic() - since[0] > 0.5

        wait_until(settled, 3.0, "not one owner")
    assert pinger.wait(10)
    assert pinger.longest < 1_000_000_000
    if "stop" in old:
        life.process.send_signal(signal.SIGCONT)
        successor.wait("ready")


def test_who_goes_on_with_another_configuration(net: Lan, with_impl: str) -> None:
    # Fault: The successor has another advskew and an address more; the next one has another secret.
    # Expected: The first is MASTER all the time, with what it has now. For the second the predecessor stops in order,
    #           and it is a BACKUP that understands nobody.
    life, backup = first_and_backup(net, with_impl)
    pinger = net.ping(interval=0.005)
    assert pinger.wait(3)
    more = [f"{VIP}/24", "10.13.37.43/24"]
    second = Life(net, with_impl, addresses=more, advskew=60)
    second.wait("Inherited")
    wait_until(lambda: "10.13.37.43" in held(net["main"]))
    pinger.stop()
    assert pinger.received == pinger.sent
    # Its digest covers both addresses: to the backup it is another group.
    backup.become(MASTER)
    backup.stop()
    assert life.process.wait(WITHIN) == 0
    third = Life(net, with_impl, passphrase="another one")
    third.wait("ready")
    assert not third.find("Inherited")
    assert second.process.wait(WITHIN) == 0
    assert second.wait("HandedOn")["process"] == 0


def test_two_successors(net: Lan, with_impl: str) -> None:
    # Fault: Two successors come at the same time, and an engine that does not inherit, while others call
    #        and say nothing.
    # Expected: One goes on, the others are refused, the backup stays. Who says nothing keeps nobody out.
    life, backup = first_and_backup(net, with_impl)
    with net["main"].enter():
        for _ in range(10):
            for silent in line.call(life.process.pid):
                net._stack.callback(silent.close)
    with net["main"].enter(), pytest.raises(InterfaceError, match="already run by process"):
        Node(net["main"], [virtual_host(**QUICK)])
    rivals = [Life(net, with_impl) for _ in range(2)]
    assert life.process.wait(WITHIN) == 0
    wait_until(lambda: sum(bool(one.find("ready")) for one in rivals) >= 1)
    stays(lambda: owners(net) == ["main"] and backup.state() is BACKUP, 0.5)
    running = [one for one in rivals if one.process.poll() is None]
    assert len(running) == 1
    carpdev = interface(net["main"], "eth0")
    assert carpdev is not None
    with net["main"].enter():
        assert lock.holder(carpdev.index, VHID) == running[0].process.pid


def test_nobody_comes_for_what_is_held(net: Lan, with_impl: str) -> None:
    # Fault: A program leaves its virtual host to a holder, and no successor comes; none can be started at all.
    # Expected: The holder is MASTER for as long as it was told, then bows out, and leaves nothing behind.
    main = net.start("main", options={"inherit": "held"}, **QUICK)
    main.become(MASTER)
    second = net.start("second", **LATER)
    second.wait(events.PeerHeard)
    main.engine.bequeath(0.5)
    assert not main.engine.hosts
    with pytest.raises(EngineError):
        main.engine.state(VHID)
    net.nodes.remove(main)
    assert owners(net) == ["main"]
    main.stop()
    assert second.state() is BACKUP
    second.become(MASTER)
    assert second.wait(events.StateChanged, after=MASTER).reason.name == "BOWOUT"
    wait_until(lambda: owners(net) == ["second"])


GUNICORN = """
import os
import pycarp

bind = "0.0.0.0:8000"
pidfile = {pidfile!r}
engine = pycarp.Engine(pycarp.VirtualHost(**{values!r}), inherit="auto")

def when_ready(server):
    engine.start()
    states = [str(engine.state(one.name)) for one in engine.hosts]
    print(os.getpid(), "ready", *states, "after", engine.predecessor, flush=True)

def on_exit(server):
    engine.stop()
"""
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


@pytest.mark.slow
def test_gunicorn_replaces_itself(net: Lan, impl: Any, tmp_path: Path) -> None:
    # Fault: gunicorn, with the engine in its arbiter, starts its successor at SIGUSR2, and gets SIGQUIT.
    # Expected: The new arbiter is MASTER from its start; no ping is lost, and the address answers HTTP.
    pytest.importorskip("gunicorn")
    values = {"vhid": VHID, "passphrase": PASSPHRASE, "addresses": [f"{VIP}/24"], **QUICK}
    pidfile = tmp_path / "pid"
    (tmp_path / "conf.py").write_text(GUNICORN.format(values=values, pidfile=str(pidfile)))
    (tmp_path / "served.py").write_text(APPLICATION)
    net.remember("main")
    words = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "--no-control-socket", "served:application"]
    environment = {**os.environ, "PYCARP_IMPL": impl.name, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    said = tmp_path / "said"
    with said.open("w") as out:
        first = net["main"].popen(words, cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_until(lambda: VIP in held(net["main"]), WITHIN, said.read_text())
        backup = net.start("second", **LATER)
        backup.wait(events.PeerHeard)
        backup.log.forget()
        pinger = net.ping(interval=0.005)
        assert pinger.wait(3)
        first.send_signal(signal.SIGUSR2)
        wait_until(lambda: f"ready MASTER after {first.pid}" in said.read_text(), WITHIN, said.read_text())
        new = int(Path(f"{pidfile}.2").read_text())
        first.send_signal(signal.SIGQUIT)
        assert first.wait(WITHIN) == 0
        stays(lambda: backup.state() is BACKUP and owners(net) == ["main"], 0.5)
        pinger.stop()
        assert pinger.received == pinger.sent
        answer = net["client"].run(["curl", "-s", f"http://{VIP}:8000/"]).stdout
        assert answer == "hello"
        assert not backup.log.find(events.StateChanged)
        os.kill(new, signal.SIGTERM)
        backup.become(MASTER)
    finally:
        for found in (pidfile, Path(f"{pidfile}.2")):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(found.read_text()), signal.SIGTERM)


def test_the_pace_goes_on(net: Lan, with_impl: str) -> None:
    # Fault: The program of a MASTER with a pace is started anew beside itself.
    # Expected: Soon its adverts say the same pace as before.
    paced = {"advbase": 1, "advskew": 0, "pace": 20}
    first = Life(net, with_impl, **paced)
    first.wait("AddressesTaken")
    second = Life(net, with_impl, **paced)
    assert second.wait("Inherited")["state"] == "MASTER"
    assert first.process.wait(WITHIN) == 0
    time.sleep(0.5)
    before = len(net.capture.frames)
    time.sleep(0.3)
    # The counter begins at 42; the upper half of its third byte is the code of a pace.
    codes = {
        one.data[44] >> 4
        for one in net.capture.frames[before:].copy()
        if one.port == "main" and one.data[12:14] == b"\x08\0" and one.data[23] == 112
    }
    assert codes == {PACES.index(20_000_000)}


def test_garbage_on_the_line_ends_nothing(net: Lan) -> None:
    # Fault: A process of this user says garbage where successors call; somebody else has the names of that socket.
    # Expected: The line ends, the engine goes on; without the names it starts, and tells that no restart is seamless.
    main = net.start("main", options={"inherit": "auto"}, **QUICK)
    main.become(State.MASTER)
    clock = time.monotonic_ns()
    for words in (
        [b'{"hello":1,"clock":1e400}'],
        [b"[" * 100_000],
        [b'{"hello":1,"clock":%d,"nonce":"x","wants":[[1]]}' % clock],
        [b'{"hello":1,"clock":%d,"nonce":"x"}' % clock, b'{"ready":{},"process":1e400}'],
    ):
        with net["main"].enter():
            [called] = line.call(os.getpid())
        with called:
            for word in words:
                called._socket.send(word)
            with contextlib.suppress(line.LineBroken):
                called.receive()
                called.receive()
    assert main.state() is State.MASTER
    main.stop()
    with contextlib.ExitStack() as squatters:
        with net["main"].enter():
            for name in line._names(os.getpid()):
                squatters.enter_context(line._socket()).bind(name)
        again = net.start("main", options={"inherit": "auto"}, **QUICK)
        assert "no successor can find this process" in again.wait(events.Failed).what
        again.become(State.MASTER)
        again.stop()
