"""Servers that replace their workers at SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support import IMPLEMENTATIONS
from support.lan import VIP, Lan, held, wait_until
from support.recipes import QUICK, Served, recipe, served, write
from support.visitors import Visitors

from pycarp import State, events

WITHIN = 15.0
GUNICORN = ["gunicorn", "--no-control-socket", "--bind", "0.0.0.0:8000"]
# What people write first: the engine starts where the application is imported, in a worker.
AT_IMPORT = f"""
import pycarp
from mywsgi import application

engine = pycarp.Engine(pycarp.VirtualHost({QUICK}passphrase="motdepassehalakon", addresses=["10.13.37.42/24"]), wait=10)
engine.start()
"""


def workers(program: Served) -> int:
    return program.said.count("Booting worker")


def reload(net: Lan, program: Served, until: Callable[[], bool]) -> None:
    wait_until(lambda: VIP in held(net["main"]), WITHIN, program.said)
    before = workers(program)
    program.process.send_signal(signal.SIGHUP)
    wait_until(lambda: workers(program) == 2 * before, WITHIN, program.said)
    wait_until(until, WITHIN, program.said)


def test_the_arbiters_engine_stays(net: Lan, tmp_path: Path) -> None:
    # Fault: SIGHUP to gunicorn with the engine in its arbiter.
    # Expected: The workers are others, the address stays: no other host notices, and no connection fails.
    pytest.importorskip("gunicorn")
    write(tmp_path, "gunicorn.conf.py")
    [words] = [line.split()[1:] for line in recipe("arbiter.txt").splitlines() if "gthread" in line]
    net.remember("main")
    with served(net["main"], tmp_path, ["gunicorn", "--no-control-socket", *words], IMPLEMENTATIONS[0]) as program:
        wait_until(lambda: VIP in held(net["main"]), WITHIN, program.said)
        second = net.start("second", advskew=25)
        second.wait(events.PeerHeard)
        with Visitors(net["client"]) as visitors:
            wait_until(lambda: visitors.seen("main"), WITHIN, program.said)
            reload(net, program, lambda: len(visitors.outcomes) >= 20)
        assert set(visitors.outcomes) == {"main"}, visitors.counts
        assert [change.after for change in second.transitions()] == [State.BACKUP]
        program.terminate()
        second.become(State.MASTER)
        assert program.process.wait(WITHIN) == 0


def test_an_engine_that_starts_at_import(net: Lan, tmp_path: Path) -> None:
    # Fault: SIGHUP to gunicorn with one worker, whose application starts an engine with `wait` when it is imported.
    # Expected: The new worker's engine waits for the old one's end; the service goes on.
    pytest.importorskip("gunicorn")
    write(tmp_path)
    (tmp_path / "imported.py").write_text(AT_IMPORT)
    net.remember("main")
    with served(net["main"], tmp_path, [*GUNICORN, "imported:application"], IMPLEMENTATIONS[0]) as program:
        with Visitors(net["client"]) as visitors:
            reload(net, program, lambda: program.said.count("Worker exiting") == 1)
            visitors.outcomes.clear()
            wait_until(lambda: visitors.counts["main"] >= 3, WITHIN, program.said)
        assert VIP in held(net["main"]) and program.process.poll() is None
        program.terminate()
        assert program.process.wait(WITHIN) == 0
