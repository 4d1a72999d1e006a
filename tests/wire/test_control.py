"""What an engine says of itself while it runs, and what it is told to do, from Python and from outside."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path
from typing import Any

import pytest
from support.lan import SWIFT, WITHIN, Lan, held, stays, wait_until
from support.wire import VIP, Frame

from pycarp import EngineError, Reason, State, events
from pycarp.control import Client, ControlError, Server, server
from pycarp.engine import supervisor
from pycarp.engine.snapshot import SCHEMA, DemotedBy, InstanceSnapshot, Snapshot
from pycarp.stats import Stats

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
VIRTUAL_MAC = "00:00:5e:00:01:65"
MAIN, SECOND = "10.13.37.11", "10.13.37.12"


def one(snapshot: Snapshot) -> InstanceSnapshot:
    [instance] = snapshot.instances
    return instance


def test_a_snapshot_says_who_is_master_and_why(net: Lan) -> None:
    # Fault: A hand-over, a demotion, and adverts with the right digest from forty source addresses.
    # Expected: Each host's snapshot says its state, since when and why, its master, whom it hears, and who demotes it.
    main, second = net.start("main"), net.start("second", advskew=SWIFT["advskew"] + 1)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    before = time.monotonic_ns()
    whole = main.engine.snapshot()
    here, there = one(whole), one(second.engine.snapshot())
    assert (here.state, here.why, here.master, here.owns) == (MASTER, Reason.MASTER_DOWN, None, True)
    assert here.since <= before <= whole.taken <= time.monotonic_ns() and whole.guardian and whole.since < here.since
    assert abs(whole.time - time.time_ns()) < WITHIN * 1_000_000_000
    assert (here.mac, here.carpdev, here.addresses) == (VIRTUAL_MAC, "eth0", (f"{VIP}/24",))
    assert here.due is not None and here.due > here.since and here.well and whole.well and here.lease is not None
    assert (there.state, there.why, there.standing_back) == (BACKUP, Reason.STARTED, None)
    master = there.master
    assert master is not None and master is there.peers[0]
    assert (master.source, master.mac, master.vhid, master.kind) == (MAIN, VIRTUAL_MAC, 101, "advert")
    assert (master.advbase, master.advskew) == (SWIFT["advbase"], SWIFT["advskew"])
    assert set(master.dialects) == {"bsd", "netbsd"} and master.heard <= time.monotonic_ns() and master.count > 0
    with pytest.raises(FrozenInstanceError):
        here.state = BACKUP  # type: ignore[misc]

    main.engine.hand_over(101)
    wait_until(lambda: (known := one(main.engine.snapshot()).master) is not None and known.source == SECOND)
    here = one(main.engine.snapshot())
    assert (here.state, here.why) == (BACKUP, Reason.HANDED_OVER)
    assert here.standing_back is not None and here.standing_back.why == "handed over"
    there = one(second.engine.snapshot())
    assert (there.state, there.why, there.cause, there.master) == (MASTER, Reason.BOWOUT, MAIN, None)
    assert there.peers[0].source == MAIN and there.peers[0].kind == "bow-out"

    main.engine.demote(2)
    whole = main.engine.snapshot()
    assert whole.demotion == one(whole).demotion == 2 and whole.demotions == (DemotedBy(reason="", by=2),)
    assert one(whole).effective_advskew == 240 and one(whole).advskew == SWIFT["advskew"] and not whole.well
    main.engine.undemote(2)

    frame = Frame(advbase=SWIFT["advbase"], advskew=SWIFT["advskew"] + 2)
    forged = [frame.but(source=f"10.13.37.{number}") for number in range(100, 140)]
    net.inject("client", *map(bytes, forged))
    wait_until(lambda: len(one(main.engine.snapshot()).peers) == 32)
    wait_until(lambda: (known := one(main.engine.snapshot()).master) is not None and known.source == SECOND)
    assert len(main.log.find(events.PeerHeard)) <= 32
    stands = as_json(main.engine.snapshot())
    assert stands["schema"] == SCHEMA == 1
    assert stands["instances"][0]["master"]["source"] == SECOND and stands["instances"][0]["state"] == "BACKUP"
    assert set(stands["instances"][0]["counters"]) == set(asdict(Stats()))


def as_json(snapshot: Snapshot) -> Any:
    """As it is after it has gone through JSON."""
    return json.loads(json.dumps(snapshot.as_dict()))


def test_a_hand_over_loses_no_packet(net: Lan, with_impl: str, figures: dict[str, float]) -> None:
    # Fault: Two hosts hand over to each other four times, while a client pings a thousand times a second.
    # Expected: Each hand-over is told to be done; no ping is lost (one may be, where this machine is slow).
    nodes = [net.start("main"), net.start("second", advskew=SWIFT["advskew"] + 1)]
    nodes[0].become(MASTER)
    nodes[1].wait(events.PeerHeard)
    pinger = net.ping(interval=0.001)
    assert pinger.wait(50)
    for turn in range(4):
        giver, taker = nodes[turn % 2], nodes[1 - turn % 2]
        assert giver.engine.hand_over(timeout=WITHIN) is True
        taker.become(MASTER)
        assert pinger.wait(50)
    pinger.stop()
    lost = sum(answered is None for _sent, answered in pinger.requests()[:-3])
    figures[f"hand-over, {with_impl}: pings lost of {pinger.sent}"] = lost
    assert lost <= 1


# The socket


class Raw:
    """A connection to a control socket, without our client."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WITHIN)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_error: object) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, data: bytes) -> Any:
        """What one line is answered with."""
        self.socket.sendall(data + b"\n")
        return json.loads(self.lines.readline())

    def refused(self, data: bytes) -> str:
        answer = self.send(data)
        assert answer["ok"] is False and answer["v"] == 1 and "\n" not in answer["error"]
        return str(answer["error"])


@pytest.fixture
def controlled(net: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Lan, Any, str]]:
    """Two hosts, of which main is MASTER and has a control socket."""
    monkeypatch.setattr(server, "HALF", 0.3)
    main = net.start("main", options={"maintenance_file": tmp_path / "maintenance"})
    main.become(MASTER)
    net.start("second", advskew=SWIFT["advskew"] + 1).wait(events.PeerHeard)
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        path = f"{place}/control.sock"
        with Server(main.engine, path):
            yield net, main, path
        assert os.listdir(place) == []


def test_a_client_asks_and_orders(controlled: tuple[Lan, Any, str]) -> None:
    # Fault: A client demotes, announces, forces, hands over, and switches maintenance on and off.
    # Expected: Each is done and answered; hand-over says who was taken over; a stream tells what happens.
    net, main, path = controlled
    second = net.nodes[1]
    with Client(path) as client, Client(path) as listener:
        stream = listener.events(timeout=WITHIN)
        status = client.call("status")
        assert status == client.call("status", which="carp101") and status["schema"] == SCHEMA
        assert status["instances"][0]["state"] == "MASTER" and status["pid"] == os.getpid()
        assert client.call("announce") == {}
        assert client.call("hand-over", timeout=WITHIN) == {"handed_over": {"carp101": True}}
        assert second.state() is MASTER
        assert client.call("hand-over", timeout=WITHIN) == {"handed_over": {}}
        client.call("force", which=101, state="master")
        main.become(MASTER)
        assert client.call("demote", by=3)["demotion"] == 3
        assert client.call("undemote", by=3)["demotion"] == 0
        assert client.call("demote", by=2, reason="disk", which="carp101")["demotion"] == 2
        assert client.call("undemote", by=2, reason="disk", which=101)["demotion"] == 0
        told = [next(stream) for _ in range(5)]
        assert {"StateChanged", "Demoted"} & {event["event"] for event in told} and all("at" in one for one in told)
        for call, arguments, part in (
            ("status", {"which": "carp7"}, "no virtual host of this name"),
            ("force", {"which": 7, "state": "MASTER"}, "no virtual host 7"),
            ("force", {"which": 101, "state": "INIT"}, "neither BACKUP nor MASTER"),
            ("demote", {"by": 0}, "a demotion of 0"),
            ("hand-over", {"timeout": -1}, "out of range"),
            ("reload", {}, "no files"),
        ):
            with pytest.raises(ControlError, match=part):
                client.call(call, **arguments)
        with pytest.raises(ControlError, match="nobody listens"):
            Client(path + "x")


def test_maintenance_outlives_a_restart(
    controlled: tuple[Lan, Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fault: Maintenance is switched on, the engine starts anew, the other host is worse; then a disk takes nothing;
    #        then nobody can look at the file.
    # Expected: This host is no MASTER while the other one is, and MASTER when it is alone; each is one sentence.
    net, main, path = controlled
    second, file = net.nodes[1], tmp_path / "maintenance"
    with Client(path) as client:
        assert client.call("maintenance", on=True) == {"warning": ""}
        second.become(MASTER)
        assert file.exists() and client.call("status")["maintenance"] is True
    main.stop()
    again = net.start("main", preempt=True, options={"maintenance_file": file})
    again.wait(events.PeerHeard)
    standing = one(again.engine.snapshot()).standing_back
    assert again.engine.in_maintenance and standing is not None and standing.why == "maintenance"
    stays(lambda: second.state() is MASTER, 0.3)
    second.stop()
    again.become(MASTER)
    # Another host comes, and says nothing as BACKUP: the addresses are offered.
    monkeypatch.setattr(supervisor, "OFFERED_EVERY", 0.3)
    third = net.start("second", advskew=SWIFT["advskew"] + 1)
    third.become(MASTER)
    again.become(BACKUP)
    third.stop()
    again.become(MASTER)
    assert again.engine.maintenance(False) == "" and not file.exists()
    transitions = len(again.transitions())
    assert again.engine.hand_over(timeout=WITHIN) is False, "nobody is there"
    assert len(again.transitions()) == transitions and VIP in held(net["main"])
    again.stop()
    last = net.start("main", options={"maintenance_file": file})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        wrong = last.engine.maintenance(True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert wrong == f"{file} cannot be written (File too large): the mode ends with a restart"
    assert last.engine.in_maintenance and os.listdir(tmp_path) == []
    last.stop()
    file.symlink_to(file)
    unknown = net.start("main", options={"maintenance_file": file})
    assert f"{file} cannot be looked at (Too many levels" in unknown.wait(events.Failed).what
    assert not unknown.engine.in_maintenance


def test_bad_messages_are_one_sentence_each(controlled: tuple[Lan, Any, str]) -> None:
    # Fault: Garbage, deep nesting, wrong kinds, a half message, an endless one, and clients that go in the middle.
    # Expected: One sentence each, without what was sent; half and endless ones are sent away; the others are served.
    _net, main, path = controlled
    with Raw(path) as raw:
        for data, part in (
            (b"\xff\xfe secret", "this is not JSON"),
            (b"[" * 60_000, "this is not JSON"),
            (b"[1]", "this is no object"),
            (b'{"call":"status"}', 'give "v": 1'),
            (b'{"v":true,"call":"status"}', 'give "v": 1'),
            (b'{"v":1,"call":"secret"}', "the call is unknown: give one of status"),
            (b'{"v":1,"call":["status"]}', "the call is unknown"),
            (b'{"v":1,"call":"status","secret":1}', "status has an argument that is unknown: it takes which"),
            (b'{"v":1,"call":"demote","by":true}', "by of demote is of the wrong kind: give a whole number"),
            (b'{"v":1,"call":"demote","by":%d}' % 2**80, "by of demote is out of range"),
            (b'{"v":1,"call":"maintenance"}', "maintenance needs on"),
            (b'{"v":1,"id":[1],"call":"status"}', "the id is neither text nor a number"),
        ):
            why = raw.refused(data)
            assert part in why and "secret" not in why, why
        assert raw.send(b'{"v":1,"id":"mine","call":"status"}')["id"] == "mine"
        # Half of it now, the rest soon after; then a half that is all.
        raw.socket.sendall(b'{"v":1,"call":')
        time.sleep(0.1)
        assert raw.send(b'"announce"}')["ok"] is True
        raw.socket.sendall(b'{"v":1,"call":')
        assert "was not finished within" in json.loads(raw.lines.readline())["error"]
        assert raw.lines.readline() == b""
    with Raw(path) as raw:
        with contextlib.suppress(OSError):
            for _ in range(200):
                raw.socket.sendall(b"a" * 65_536)
        assert "longer than 65536 bytes" in json.loads(raw.lines.readline())["error"]
    for data in (b"", b"{", b'{"v":1,"call":"status"}\n' * 3, b'{"v":1,"call":"hand-over","which":"x","timeout":9}\n'):
        with Raw(path) as raw:
            raw.socket.sendall(data)
    with Client(path) as client:
        assert client.call("status")["instances"][0]["state"] == "MASTER"
    assert main.state() is MASTER


def test_clients_that_do_not_read_and_too_many(controlled: tuple[Lan, Any, str]) -> None:
    # Fault: A client asks and never reads; more clients come than there is room for.
    # Expected: The one is dropped with one event, the last ones are refused in one sentence, and go.
    _net, main, path = controlled
    with Raw(path) as deaf:
        deaf.socket.setblocking(False)
        with contextlib.suppress(OSError):
            while not main.log.find(events.ControlClientDropped):
                with contextlib.suppress(BlockingIOError):
                    deaf.socket.send(b'{"v":1,"call":"status"}\n' * 100)
        dropped = main.wait(events.ControlClientDropped)
        assert dropped.pid == os.getpid() and dropped.uid == 0 and "does not read" in dropped.why
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Raw(path)) for _ in range(server.CLIENTS)]
        assert all(one.send(b'{"v":1,"call":"announce"}')["ok"] for one in crowd)
        late = stack.enter_context(Raw(path))
        assert "64 clients are connected" in json.loads(late.lines.readline())["error"]
    wait_until(lambda: answers(path))


def answers(path: str) -> bool:
    with contextlib.suppress(ControlError), Client(path) as client:
        return bool(client.call("status"))
    return False


def test_who_may_connect_and_where(controlled: tuple[Lan, Any, str]) -> None:
    # Fault: Another user connects; the path is taken, stale, a file, too long, or in a directory that is not there.
    # Expected: Users are refused unless of the group; a living socket is never stolen; each error is one sentence.
    _net, main, path = controlled
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.chmod(path, 0o666)
    place = Path(path).parent
    assert "this user may not control pycarp" in as_user(path, 4711, 4711)
    with Server(main.engine, place / "group.sock", group=4712) as grouped:
        found = os.stat(grouped.path)
        assert (found.st_mode & 0o777, found.st_gid) == (0o660, 4712)
        assert '"ok":true' in as_user(str(grouped.path), 4711, 4712)
    with pytest.raises(EngineError, match="another process listens at"):
        Server(main.engine, path)
    assert answers(path), "it was not stolen"
    stale = place / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    with Server(main.engine, stale):
        assert answers(str(stale))
    plain = place / "plain"
    plain.write_text("precious")
    for wrong, part in (
        (plain, "is no socket"),
        (place / ("x" * 120), "is too long for a socket"),
        (place / "none" / "a.sock", "No such file or directory"),
    ):
        with pytest.raises(EngineError, match=part):
            Server(main.engine, wrong)
    assert plain.read_text() == "precious"
    plain.unlink()


def as_user(path: str, uid: int, gid: int) -> str:
    """What another user gets for a call."""
    code = (
        "import contextlib, os, socket, sys\n"
        "os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(9); s.connect(sys.argv[1])\n"
        'with contextlib.suppress(BrokenPipeError): s.sendall(b\'{"v":1,"call":"announce"}\\n\')\n'
        "print(s.recv(9999).decode())"
    )
    command = [sys.executable, "-c", code, path, str(uid), str(gid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_status_and_ctl(net: Lan, secret: str, tmp_path: Path) -> None:
    # Fault: Two commands on two hosts; one is told to hand over, to reload, to be in maintenance; nothing runs at last.
    # Expected: status and ctl find the sockets by themselves, say who is MASTER, and end with 0, 1 and 2 as documented.
    here = {"PYCARP_RUN_DIRECTORY": str(tmp_path / "run"), "PYCARP_STATE_DIRECTORY": str(tmp_path / "state")}
    os.mkdir(tmp_path / "there")
    there = {**here, "PYCARP_RUN_DIRECTORY": str(tmp_path / "there")}
    words = ["vhid", "101", "passfile", secret, "advbase", "0", f"{VIP}/24"]
    (tmp_path / "ifconfig.carp0").write_text(" ".join([*words, "advskew", "10"]))
    net.tidy = False  # the second one dies in the end
    main = net.command("main", "run", str(tmp_path / "ifconfig.carp0"), env={**os.environ, **here})
    main.become(MASTER)
    second = net.command("second", "up", "carp0", *words, "advskew", "12", env={**os.environ, **there})
    second.wait("PeerHeard")

    def pycarp(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-W", "error", "-m", "pycarp", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=WITHIN
        )
        assert done.returncode == code, done
        return done.stdout + done.stderr

    assert os.listdir(tmp_path / "run") == os.listdir(tmp_path / "there") == ["carp0.sock"]
    assert "carp0: vhid 101, MASTER since 20" in pycarp(here, "status")
    assert f"master {MAIN}, heard" in pycarp(there, "status", "carp0")
    told = json.loads(pycarp(there, "status", "101", "--json"))
    assert told["instances"][0]["master"]["source"] == MAIN and told["socket"].endswith("there/carp0.sock")
    assert pycarp(here, "ctl", "hand-over") == "carp0: another host is MASTER\n"
    second.become(MASTER)
    assert "nothing is MASTER here" in pycarp(here, "ctl", "hand-over", "carp0", code=1)
    assert pycarp(here, "ctl", "reload") == ""
    (tmp_path / "ifconfig.carp0").write_text("vhid 101 pass")
    assert "the files are not in order" in pycarp(here, "ctl", "reload", code=2)
    assert pycarp(here, "ctl", "maintenance", "on") == "carp0: maintenance is on\n"
    assert (tmp_path / "state" / "carp0.maintenance").exists()
    assert "in maintenance" in pycarp(here, "status")
    assert "no virtual host 'carp9' runs here" in pycarp(here, "status", "carp9", code=2)
    assert "stands back" in pycarp(here, "status")
    main.send_signal(signal.SIGTERM)
    assert main.end() == 0 and "old configuration stays" in main.errors
    assert "nothing of pycarp runs here" in pycarp(here, "status", code=2) and os.listdir(tmp_path / "run") == []
    second.send_signal(signal.SIGKILL)
    second.end()
    assert "nothing of pycarp runs here" in pycarp(there, "ctl", "announce", code=2), "its socket is stale"


def test_a_client_that_does_not_read_ends_nothing(controlled: tuple[Lan, Any, str]) -> None:
    # Fault: A client begins calls with long ids and reads nothing; one begins many; reasons would forge lines of a log,
    #        and are more than a thousand.
    # Expected: It alone is sent away, and the others are served; 16 calls are under way at most; lines are refused.
    net, main, path = controlled
    net.nodes[1].stop()
    asked = b'{"v":1,"id":"%s","call":"hand-over","timeout":0.3}' % (b"x" * 60_000)
    with Raw(path) as deaf:
        with contextlib.suppress(OSError):
            for _ in range(30):
                deaf.socket.sendall(asked + b"\n")
        main.wait(events.ControlClientDropped)
    with Raw(path) as raw:
        many = b'{"v":1,"call":"hand-over","timeout":60}\n' * server.JOBS
        raw.socket.sendall(many)
        assert "are under way" in raw.refused(many[: many.index(b"\n")])
    with Raw(path) as raw:
        for wrong in (b'"a\\n<0>b"', b'"\\u001b[2J"', b'"\\ud800"'):
            assert "not one line" in raw.refused(b'{"v":1,"call":"demote","reason":%s}' % wrong)
        for number in (b"1e400", b"NaN"):
            assert "the id is neither" in raw.refused(b'{"v":1,"id":%s,"call":"announce"}' % number)
    with Client(path) as client:
        for number in range(1000):
            client.call("demote", reason=f"{number:0200}")
        with pytest.raises(ControlError, match="1000 reasons demote this host already: take some back first"):
            client.call("demote", reason="one more")
        assert client.call("undemote", reason="one more") == {"demotion": 1000}
        assert client.call("demote", reason=f"{7:0200}") == {"demotion": 1001}
        assert client.call("status")["demotion"] == 1001, "longer than what may wait"
