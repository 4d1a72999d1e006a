"""Programs whose threads, sockets or clock are not Python's own."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from support import IMPLEMENTATIONS
from support.lan import Lan
from support.recipes import QUICK, served

# Each line is printed when it has come true; no line may hang.
GREENLETS = f"""
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey, sleep, spawn
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()
    from eventlet import sleep, spawn
import pycarp
from pycarp import events

said = []
host = pycarp.VirtualHost({QUICK}passphrase="motdepassehalakon", addresses=["10.13.37.42/24"])
engine = pycarp.Engine(host, on_event=said.append)
engine.start()
turns = 0

def turn():
    global turns
    while True:
        turns += 1
        sleep(0.01)

spawn(turn)
for event in engine.events(timeout=5):
    if isinstance(event, events.AddressesTaken):
        print("taken", flush=True)
        break
before = turns
assert list(engine.events(timeout=0.2)) == []
print("silence ended", flush=True)
print("others ran" if turns > before + 2 else turns, flush=True)
assert engine.demote() == 1 and engine.undemote() == 0 and engine.snapshot().instances
if sys.argv[2] == "stop":
    engine.stop()
    assert [event.after.name for event in engine.events() if isinstance(event, events.StateChanged)][-1] == "INIT"
    assert len(said) >= 4, said
print("end", flush=True)
"""
FROZEN = f"""
import asyncio, time
from freezegun import freeze_time
import pycarp
from pycarp import aio, events

def host():
    return pycarp.VirtualHost({QUICK}passphrase="motdepassehalakon", addresses=["10.13.37.42/24"])

with freeze_time("2030-01-01"):
    assert time.monotonic() == time.monotonic()
    with pycarp.Engine(host()) as engine:
        seen = list(engine.events(timeout=0.4))
        assert any(isinstance(event, events.AddressesTaken) for event in seen), seen
        assert seen[0].at < seen[-1].at
        print("taken", flush=True)

async def main():
    async with aio.Engine(host()) as engine:
        return [event async for event in engine.events(timeout=0.4)]

with freeze_time("2030-01-01", real_asyncio=True):
    assert any(isinstance(event, events.AddressesTaken) for event in asyncio.run(main()))
print("end", flush=True)
"""


def run(net: Lan, directory: Path, script: str, *words: str, implementation: str) -> list[str]:
    net.remember("main")
    (directory / "script.py").write_text(script)
    with served(net["main"], directory, [sys.executable, "script.py", *words], implementation) as program:
        assert program.process.wait(20) == 0, program.said
        return [line for line in program.said.splitlines() if "Warning" not in line]


@pytest.mark.parametrize("how", ["stop", "exit"])
@pytest.mark.parametrize("name", ["gevent", "eventlet"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_greenlets(net: Lan, tmp_path: Path, name: str, how: str, implementation: str) -> None:
    # Fault: A program patched by gevent or eventlet starts an engine; it stops it, or just ends.
    # Expected: Nothing hangs, other greenlets run while events are waited for, and nothing is left on the host.
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    said = run(net, tmp_path, GREENLETS, name, how, implementation=implementation)
    assert [line for line in said if not line.startswith(" ")][-4:] == ["taken", "silence ended", "others ran", "end"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_clock_that_stands(net: Lan, tmp_path: Path, implementation: str) -> None:
    # Fault: freezegun stops the clock of a program while its engine runs.
    # Expected: The engine runs, events have times of their own, and what waits for them ends in time.
    pytest.importorskip("freezegun")
    assert run(net, tmp_path, FROZEN, implementation=implementation)[-2:] == ["taken", "end"]


FAKED = f"""
import time
import pycarp
from pycarp import events

print(time.strftime("%Y"), flush=True)
engine = pycarp.Engine(pycarp.VirtualHost({QUICK}passphrase="motdepassehalakon", addresses=["10.13.37.42/24"]))
try:
    with engine:
        assert any(isinstance(event, events.AddressesTaken) for event in engine.events(timeout=0.5))
        print("taken", flush=True)
except pycarp.EngineError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_clock_that_is_changed_below_python(net: Lan, tmp_path: Path, implementation: str) -> None:
    # Fault: libfaketime changes the clocks of a program with an engine; the monotonic one too, or not.
    # Expected: The engine refuses to start and says what to do; with that it runs.
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed")
    (tmp_path / "script.py").write_text(FAKED)
    net.remember("main")
    for words, wanted in (([], "(faketime --exclude-monotonic)"), (["--exclude-monotonic"], "taken")):
        command = ["faketime", *words, "-f", "@2031-01-01 00:00:00", sys.executable, "script.py"]
        with served(net["main"], tmp_path, command, implementation) as program:
            assert program.process.wait(20) == 0, program.said
            assert "2031" in program.said and wanted in program.said
