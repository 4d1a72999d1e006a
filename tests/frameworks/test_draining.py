"""Servers that drain at SIGTERM: the address leaves first."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest
from support import IMPLEMENTATIONS
from support.lan import VIP, Lan, held, wait_until
from support.recipes import recipe, served, write
from support.visitors import Site, Stream, Visitors

from pycarp import State, events

WITHIN = 15.0
"""Seconds until a test gives up; a server imports for a second or two on a busy machine."""
ASGI = [line.split() for line in recipe("serve.txt").splitlines()]
ARBITER = [line.split() for line in recipe("arbiter.txt").splitlines()]
PROGRAMS = {
    "greenlets.py": "gevent",
    "aiohttp_served.py": "aiohttp",
    "twisted_served.py": "twisted",
    "socketserver_served.py": "socketserver",
    "prefork.py": "multiprocessing",
}
"""Programs of their own, and what each needs."""


def goes_first(net: Lan, directory: Path, words: list[str], implementation: str) -> None:
    """Serve in main, with a stream open; SIGTERM; count what new connections see until second serves."""
    net.remember("main")
    with contextlib.ExitStack() as stack:
        stack.enter_context(Site(net["second"]))
        program = stack.enter_context(served(net["main"], directory, words, implementation))
        wait_until(lambda: VIP in held(net["main"]), WITHIN, program.said)
        second = net.start("second", advskew=25)
        second.become(State.BACKUP)
        second.wait(events.PeerHeard)
        stack.enter_context(contextlib.closing(Stream(net["client"])))
        visitors = stack.enter_context(Visitors(net["client"]))
        wait_until(lambda: visitors.counts["main"] >= 5, WITHIN, f"{visitors.counts} {program.said}")
        program.terminate()
        wait_until(lambda: visitors.counts["second"] >= 5, WITHIN, f"{visitors.counts} {program.said}")
    counts = visitors.counts
    cut_off = counts.pop("reset", 0)
    assert set(counts) == {"main", "second"} and cut_off <= 1, f"{counts} {cut_off} {program.said}"
    answered = [one for one in visitors.outcomes if one in ("main", "second")]
    assert answered == sorted(answered), "the address went back"


@pytest.mark.parametrize("words", ASGI, ids=lambda words: words[0])
def test_an_asgi_server(net: Lan, tmp_path: Path, words: list[str]) -> None:
    # Fault: SIGTERM to an ASGI server with an open stream, which it drains for seconds.
    # Expected: The address is on another host first: of one connection every 50 ms none is refused or times out.
    if importlib.util.find_spec(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    write(tmp_path, "served.py")
    implementation = "python" if words[0] == "uvicorn" and "python" in IMPLEMENTATIONS else IMPLEMENTATIONS[0]
    goes_first(net, tmp_path, words, implementation)


@pytest.mark.parametrize("words", ARBITER, ids=lambda words: words[words.index("--worker-class") + 1])
def test_gunicorn_with_the_engine_in_its_arbiter(net: Lan, tmp_path: Path, words: list[str]) -> None:
    # Fault: SIGTERM to gunicorn, of whose workers one drains an open stream.
    # Expected: As above, for workers with threads, with greenlets and with an event loop.
    pytest.importorskip("gunicorn")
    if "gevent" in words:
        pytest.importorskip("gevent")
    write(tmp_path, "gunicorn.conf.py")
    goes_first(net, tmp_path, [*words, "--no-control-socket"], IMPLEMENTATIONS[0])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_with_a_server_in_it(net: Lan, tmp_path: Path, name: str) -> None:
    # Fault: SIGTERM to a program that serves with gevent, aiohttp, Twisted, socketserver or forked workers.
    # Expected: As above.
    if importlib.util.find_spec(PROGRAMS[name]) is None:
        pytest.skip(f"{PROGRAMS[name]} is not installed")
    write(tmp_path, name)
    implementation = "python" if name == "greenlets.py" and "python" in IMPLEMENTATIONS else IMPLEMENTATIONS[0]
    goes_first(net, tmp_path, [sys.executable, name], implementation)


@pytest.mark.parametrize("name", ["starlette", "fastapi", "django"])
def test_a_framework_with_an_application_object_of_its_own(net: Lan, tmp_path: Path, name: str) -> None:
    # Fault: SIGTERM to uvicorn with an application of Starlette or FastAPI, whose lifespan has an engine for asyncio,
    # or of Django, which raises when it is asked for a lifespan.
    # Expected: As above.
    pytest.importorskip(name)
    pytest.importorskip("uvicorn")
    write(tmp_path, f"{name}_served.py")
    words = [word.replace("served:", f"{name}_served:") for word in ASGI[0]]
    goes_first(net, tmp_path, words, IMPLEMENTATIONS[0])


def test_a_server_that_does_not_pass_the_signal_on(net: Lan, tmp_path: Path) -> None:
    # Fault: hypercorn serves in a worker, which gets no SIGTERM; a second engine starts beside it.
    # Expected: The engine warns, and says what to write; the second server says who runs the first one, and ends.
    pytest.importorskip("hypercorn")
    pytest.importorskip("uvicorn")
    write(tmp_path, "served.py")
    with served(
        net["main"], tmp_path, ["hypercorn", "--bind", "0.0.0.0:8000", "served:app"], IMPLEMENTATIONS[0]
    ) as one:
        wait_until(lambda: VIP in held(net["main"]), WITHIN, one.said)
        assert "Run the server in one process (hypercorn --workers 0)" in one.said
        second = tmp_path / "second"
        second.mkdir()
        write(second, "served.py")
        (second / "served.py").write_text(recipe("served.py").replace("wait=10", "wait=0.2"))
        with served(net["main"], second, ["uvicorn", "--port", "8001", "served:app"], IMPLEMENTATIONS[0]) as other:
            assert other.process.wait(WITHIN) != 0
            assert "pycarp cannot start: carp101 (vhid 101 on eth0) is already run by process" in other.said
