"""The runner of hooks, with real programs and events that a test makes."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.guardians import until

from pycarp import Reason, State, VirtualHost, events
from pycarp.hooks.hook import Hook
from pycarp.hooks.runner import Hooks


def host(number: int, *hooks: Hook) -> VirtualHost:
    return VirtualHost(vhid=number, passphrase="s3cr3t", addresses=[f"10.0.0.{number}/24", "fd00::1"], name=f"carp{number}", hooks=hooks)  # fmt: skip  # noqa: E501


def change(number: int, after: State, before: State = State.BACKUP, peer: str | None = None) -> events.Event:
    return events.StateChanged(
        vhid=number, name=f"carp{number}", at=time.monotonic_ns(), before=before, after=after,
        reason=Reason.MASTER_DOWN, peer=peer,
    )  # fmt: skip


def hook(when: str, script: str, **options: object) -> Hook:
    return Hook(when=when, command=["sh", "-c", script], **options)  # type: ignore[arg-type]


class Stage:
    """Runs hooks and keeps what they say."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self.stack = contextlib.ExitStack()

    def run(self, *hosts: VirtualHost) -> Hooks:
        hooks = Hooks(hosts, self.events.append, lambda _name: ("eth0", State.MASTER))
        self.stack.callback(hooks.close, 0.0)  # what hangs is killed
        hooks.start()
        return hooks

    def lines(self) -> list[str]:
        return [one.line for one in self.of(events.HookSaid)]

    def of(self, kind: Callable[..., events.Event]) -> list[events.Event]:
        return [one for one in list(self.events) if type(one) is kind]

    def texts(self) -> list[str]:
        return [one.text for one in list(self.events)]


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    with made.stack:
        yield made


def test_what_a_hook_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET", "s3cr3t-of-the-host")
    hooks = stage.run(host(7, hook("backup", "env | sort; cat")))
    hooks.put(change(7, State.MASTER))
    hooks.put(change(7, State.BACKUP, State.MASTER, "10.0.0.12"))
    until(lambda: stage.of(events.HookDone))
    environment = dict(line.split("=", 1) for line in stage.lines()[:-1])
    told = {name: value for name, value in environment.items() if name.startswith("PYCARP_")}
    assert told == {
        "PYCARP_HOOK": "backup", "PYCARP_NAME": "carp7", "PYCARP_VHID": "7", "PYCARP_STATE": "BACKUP",
        "PYCARP_FORMER_STATE": "MASTER", "PYCARP_REASON": Reason.MASTER_DOWN.value, "PYCARP_CARPDEV": "eth0",
        "PYCARP_ADDRESSES": "10.0.0.7 fd00::1", "PYCARP_MASTER": "10.0.0.12", "PYCARP_EVENT": "StateChanged",
    }  # fmt: skip
    assert "s3cr3t" not in str(environment) and environment["PATH"]
    values = json.loads(stage.lines()[-1])
    assert (values["event"], values["after"], values["vhid"], values["carpdev"], values["hook"]) == (
        "StateChanged", "BACKUP", 7, "eth0", "backup",
    )  # fmt: skip
    assert len(stage.of(events.HookDone)) == 1 and stage.of(events.HookDone)[0].name == "carp7"


def test_in_order_for_each_and_beside_each_other(stage: Stage) -> None:
    """While one instance's hook sleeps, its others wait, and another instance's run."""
    slow = host(1, hook("master", "sleep 0.3; echo slow"), hook("any", "echo $PYCARP_STATE"))
    hooks = stage.run(slow, host(2, hook("any", "echo two $PYCARP_STATE")))
    began = time.monotonic()
    for state in (State.MASTER, State.BACKUP, State.INIT):
        hooks.put(change(1, state))
    hooks.put(change(2, State.MASTER))
    assert time.monotonic() - began < 0.05
    until(lambda: len(stage.lines()) == 5)
    assert stage.lines() == ["two MASTER", "slow", "MASTER", "BACKUP", "INIT"]


def test_which_hooks_run(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "hooks.d"
    folder.mkdir()
    for name, mode in (("20-b", 0o755), ("10-a.sh", 0o755), ("15-not", 0o644), ("30-c~", 0o755), (".x", 0o755)):
        (folder / name).write_text("#!/bin/sh\necho $(basename $0) $PYCARP_HOOK\n")
        (folder / name).chmod(mode)
    hooks = stage.run(
        host(1, hook("init", "echo init"), hook("fault", "echo fault"), Hook(when="directory", command=[str(folder)])),
        host(2, hook("fault", "echo $PYCARP_NAME second"), hook("drain", "echo drain")),
    )
    hooks.put(change(1, State.MASTER))
    until(lambda: len(stage.of(events.HookDone)) == 2)
    assert stage.lines() == ["10-a.sh master", "20-b master"]
    stage.events.clear()
    hooks.put(events.GuardianLost(vhid=0, name="", at=1, what="it died"))
    hooks.put(events.AddressesTaken(vhid=1, name="carp1", at=1, addresses=(), took=1))
    until(lambda: len(stage.of(events.HookDone)) == 4)
    assert stage.lines() == ["fault", "10-a.sh fault", "20-b fault", "second"]
    hooks.configure((host(1, hook("any", "echo other")),))
    hooks.put(change(2, State.MASTER))
    hooks.put(change(1, State.INIT))
    until(lambda: stage.lines()[-1] == "other")


def test_what_goes_wrong_is_said_in_a_sentence(stage: Stage, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    shared = tmp_path / "shared"
    shared.write_text("#!/bin/sh\n")
    shared.chmod(0o757)
    hooks = stage.run(
        host(
            1, Hook(when="any", command=["/nonexistent/x", "s3cr3t"]), Hook(when="any", command=[str(plain)]),
            hook("any", "exit 3"), hook("any", "kill -9 $$"), hook("any", "true", user="no-such"),
            Hook(when="any", command=[str(shared)]), Hook(when="directory", command=["/nonexistent"]),
            Hook(when="fifo", command=[str(plain)]), Hook(when="fifo", command=["/nonexistent/a/b"]),
        )
    )  # fmt: skip
    assert stage.texts() == [
        "hook any x failed: its program is not there: give the path of one that is",
        "hook any plain failed: its program may not be executed: chmod +x the file",
        "hook any sh failed: there is no user of this name: make one, or name another",
        "hook any shared failed: everybody may change its program, which root runs: chmod o-w the file",
        "hook directory nonexistent failed: the directory is not there: make it, or remove the line",
        "hook fifo plain failed: its path is no named pipe: give another",
        "hook fifo b failed: the directory of its path is not there: make it",
    ]
    stage.events.clear()
    hooks.put(change(1, State.MASTER))
    until(lambda: stage.of(events.HookDone))
    assert stage.texts()[:-1] == [
        "hook fifo plain failed: it is no named pipe",
        "hook fifo b failed: No such file or directory",
        "hook any x failed: it cannot be started, No such file or directory",
        "hook any plain failed: it cannot be started, Permission denied",
        "hook any sh failed: exit code 3",
        "hook any sh failed: ended by signal 9",
        "hook any sh failed: it cannot be started, there is no such user on this machine",
    ]
    assert {one.vhid for one in stage.events} == {1} and "s3cr3t" not in str(stage.events)


def test_output_is_bounded_and_shown_as_it_is(stage: Stage) -> None:
    script = r"printf 'a\377b\033[1m\n\n last '; yes | head -300 >&2; printf 'x%.0s' $(seq 9000)"
    hooks = stage.run(host(1, hook("any", script)))
    hooks.put(change(1, State.MASTER))
    until(lambda: stage.of(events.HookDone))
    assert stage.lines()[:3] == [r"a\xffb\x1b[1m", "last y", "y"]
    assert len(stage.lines()) == 101 and stage.lines()[-1] == "(more of its output is not shown)"


def test_a_hook_that_hangs(stage: Stage) -> None:
    """The order is kept; of too many that wait, the oldest pairs go, and that is said."""
    hanging = hook("backup", "trap '' TERM; sleep 60 & sleep 60", timeout=0.4)
    hooks = stage.run(host(1, hanging, hook("any", "echo $PYCARP_STATE")))
    hooks.put(change(1, State.BACKUP, State.INIT))
    until(lambda: "carp1" in hooks._lanes and hooks._lanes["carp1"].running)
    for _turn in range(25):
        hooks.put(change(1, State.MASTER))
        hooks.put(change(1, State.INIT, State.MASTER))
    began = time.monotonic()
    until(lambda: len(stage.of(events.HookDone)) >= 33)
    assert time.monotonic() - began < 3
    (failed,) = stage.of(events.HookFailed)
    assert failed.text == "hook backup sh failed: it was ended after 0.4 s"
    (skipped,) = stage.of(events.HooksSkipped)
    assert skipped.text == "18 changes were not told to hooks: one before them takes too long"
    assert stage.lines()[-32:] == ["MASTER", "INIT"] * 16


def test_twenty_that_hang_and_a_launcher_that_is_killed(stage: Stage) -> None:
    hanging = [host(number, hook("any", "sleep 60")) for number in range(1, 21)]
    hooks = stage.run(*hanging, host(99, hook("any", "echo free")))
    began = time.monotonic()
    for number in range(1, 21):
        hooks.put(change(number, State.MASTER))
    hooks.put(change(99, State.MASTER))
    until(lambda: stage.lines() == ["free"])
    assert time.monotonic() - began < 2
    hooks.drain(["carp1"])  # has none
    until(lambda: sum(lane.running is not None for lane in hooks._lanes.values()) == 20)
    assert hooks._children is not None
    os.kill(hooks._children.pid, 9)
    until(lambda: len(stage.of(events.HookFailed)) == 20)
    hooks.put(change(99, State.BACKUP))
    until(lambda: stage.lines() == ["free", "free"])


def test_draining(stage: Stage) -> None:
    """All drains at once, past hooks that hang, and for no longer than their time."""
    hooks = stage.run(
        host(1, hook("any", "sleep 60"), hook("drain", "sleep 0.2; echo $PYCARP_NAME $PYCARP_STATE $PYCARP_CARPDEV")),
        host(2, hook("drain", "sleep 0.2; echo 2")),
        host(3, hook("drain", "sleep 60", timeout=0.5)),
    )
    hooks.put(change(1, State.MASTER))
    until(lambda: hooks._lanes and next(iter(hooks._lanes.values())).running)
    began = time.monotonic()
    hooks.drain(["carp1", "carp2"])
    assert 0.2 <= time.monotonic() - began < 0.45
    assert sorted(stage.lines()) == ["2", "carp1 MASTER eth0"]
    began = time.monotonic()
    hooks.drain(["carp3", "carp99"])
    assert 0.5 <= time.monotonic() - began < 1.4
    assert stage.of(events.HookFailed)[-1].text == "hook drain sh failed: it was ended after 0.5 s"


def test_the_end_waits_for_the_last_hooks_and_not_for_long() -> None:
    said: list[events.Event] = []
    for seconds, script in ((5.0, "sleep 0.2; echo last"), (0.3, "sleep 60")):
        hooks = Hooks([host(1, hook("init", script))], said.append, lambda _name: ("", State.INIT))
        hooks.start()
        hooks.put(change(1, State.INIT))
        began = time.monotonic()
        hooks.close(seconds)
        assert time.monotonic() - began < 1
        hooks.put(change(1, State.INIT))  # after the end: nothing
        hooks.drain(["carp1"])
    assert [type(one) for one in said] == [events.HookSaid, events.HookDone]
    unstarted = Hooks([host(1, hook("init", "true"))], said.append, lambda _name: ("", State.INIT))
    unstarted.close()


def test_a_named_pipe(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "events"
    hooks = stage.run(host(1, Hook(when="fifo", command=[str(path)])))
    assert hooks._children is None  # no program, no launcher
    hooks.put(change(1, State.MASTER))  # nobody reads: it is lost
    until(path.is_fifo)
    assert path.stat().st_mode & 0o777 == 0o600
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    hooks.put(events.AddressesTaken(vhid=1, name="carp1", at=1, addresses=("10.0.0.1",), took=5))
    got = b""

    def whole() -> bool:
        nonlocal got
        with contextlib.suppress(BlockingIOError):
            got += os.read(reader, 65536)
        return got.endswith(b"\n")

    until(whole)
    (line,) = got.splitlines()
    assert json.loads(line)["event"] == "AddressesTaken"
    for _turn in range(1000):  # more than fit: whole lines, or none
        hooks.put(change(1, State.MASTER))
    until(lambda: stage.of(events.HookFailed))
    assert stage.texts() == [
        "hook fifo events failed: its reader is too slow, and lines are lost: read them as they come"
    ]
    got = b""
    until(whole)
    assert all(json.loads(line)["after"] == "MASTER" for line in got.splitlines())
    os.close(reader)
    hooks.put(change(1, State.MASTER))
    threading.Event().wait(0.05)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # another reader
    got = b""
    hooks.put(change(1, State.BACKUP))
    until(whole)
    assert b"BACKUP" in got
    os.close(reader)
