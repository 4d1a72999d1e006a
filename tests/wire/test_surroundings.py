"""An engine in interpreters and systems that are not the usual ones: right, or one sentence about what is missing."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lan import VIP, Lan, held
from support.wire import PASSPHRASE

import pycarp

ENGINE = f"""
import os, sys, threading
import pycarp
from pycarp import events
engine = pycarp.Engine(
    pycarp.VirtualHost(vhid=101, passphrase={PASSPHRASE!r}, addresses=["{VIP}/24"], advbase=0, advskew=10)
)
"""
MASTER = """
engine.start()
for event in engine.events(timeout=8):
    if isinstance(event, events.AddressesTaken):
        break
print(pycarp.__impl__, engine.state(101).name)
"""
START = ENGINE + MASTER
STOP = "engine.stop()\nprint('left:', *(one.name for one in threading.enumerate()))\n"
# Answers EPERM to the system calls and, of socket(2), to the families in its arguments; then it is the program.
FILTER = """
import ctypes, os, struct, sys
def instruction(code, yes, no, value): return struct.pack("HBBI", code, yes, no, value)
REFUSE, ALLOW = instruction(0x06, 0, 0, 0x00050001), instruction(0x06, 0, 0, 0x7FFF0000)
number, family = int(sys.argv[1]), int(sys.argv[2])
program = instruction(0x20, 0, 0, 0)
if family:
    program += instruction(0x15, 0, 3, number) + instruction(0x20, 0, 0, 16) + instruction(0x15, 0, 1, family)
else:
    program += instruction(0x15, 0, 1, number)
program += REFUSE + ALLOW
held = ctypes.create_string_buffer(program)
call = ctypes.CDLL(None, use_errno=True).prctl
assert call(38, 1, 0, 0, 0) == 0
assert call(22, 2, struct.pack("@HP", len(program) // 8, ctypes.addressof(held)), 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def lone(make_lan: Callable[..., Lan]) -> Lan:
    return make_lan(("main", "client"))


def run(net: Lan, program: str, impl: str, *words: str, before: tuple[str, ...] = (), **environment: str) -> str:
    """What Python says, started with `words` after `before`, in main's namespace; the last line where it fails."""
    paths = [str(Path(pycarp.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYCARP_IMPL")}
    done = net["main"].run(
        [*before, sys.executable, *words, "-c", program],
        env={**inherited, "PYTHONPATH": os.pathsep.join(paths), "PYCARP_IMPL": impl, **environment},
        check=False,
    )
    said: str = done.stdout + done.stderr
    assert held(net["main"]) & {VIP} == set()
    return said if done.returncode == 0 else said.strip().splitlines()[-1]


def test_interpreters_that_were_started_otherwise(lone: Lan, with_impl: str) -> None:
    # Fault: Assertions and docstrings are gone, warnings are errors, memory is checked.
    # Expected: An engine becomes MASTER, and leaves no thread.
    for words in (["-O"], ["-OO", "-W", "error"], ["-X", "dev", "-W", "error"]):
        said = run(lone, START + STOP, with_impl, *words, PYTHONMALLOC="debug")
        assert said == f"{with_impl} MASTER\nleft: MainThread\n", words


def test_what_the_system_refuses_is_told_in_one_sentence(lone: Lan, with_impl: str) -> None:
    # Fault: No /proc, a filter that refuses sockets, memory or processes.
    # Expected: One sentence says what is refused, and by what.
    said = run(
        lone, START, with_impl, before=("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh")
    )
    assert said.startswith("pycarp.errors.EngineError: there is no /proc here"), said
    if platform.machine() != "x86_64":
        pytest.skip("the numbers of system calls are another machine's")
    # socket (AF_PACKET, AF_NETLINK), memfd_create, clone
    for number, family in (41, 17), (41, 16), (319, 0), (56, 0):
        said = run(lone, START, with_impl, before=(sys.executable, "-c", FILTER, str(number), str(family)))
        assert said.startswith("pycarp.errors.CapabilityError: the system refuses what an engine needs (")
        assert "Operation not permitted" in said and "seccomp profile" in said, said
    guardian = (
        "pycarp.errors.CapabilityError: the system refuses what the guardian needs (Operation not permitted): a filter"
    )
    ended = "pycarp.errors.EngineError: the guardian (process "
    engine = "pycarp.errors.CapabilityError: the system refuses what an engine needs (Operation not permitted"
    right = f"{with_impl} MASTER\nleft: MainThread\n"
    native = with_impl == "native"
    for number, wanted in (
        (283, guardian),  # timerfd_create
        (157, guardian),  # prctl
        (126, guardian),  # capset
        (271, engine if native else right),  # ppoll
        (16, f"{engine}, ioctl, SIOCGIFINDEX" if native else ended),  # ioctl
        (435, engine if native else "pycarp.errors.EngineError: an engine cannot run here (can't start new thread)"),
        (144, right),  # sched_setscheduler
        (149, right),  # mlock
        (434, right),  # pidfd_open
    ):
        said = run(lone, START + STOP, with_impl, before=(sys.executable, "-c", FILTER, str(number), "0"))
        assert said.startswith(wanted), (number, said)


@pytest.mark.parametrize("rate", ["-15d", "+0 x10"])
def test_a_clock_that_is_faked_is_told(lone: Lan, with_impl: str, rate: str) -> None:
    # Fault: A library gives the program another time than the guardian has.
    # Expected: The engine does not start: each would take the other for dead.
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("no libfaketime on this machine")
    said = run(lone, START, with_impl, LD_PRELOAD=str(found[0]), FAKETIME=rate)
    assert said.startswith("pycarp.errors.EngineError: the clock of this process is not its guardian's"), said


SUBINTERPRETER = """
try:
    import _interpreters
    legacy, isolated = _interpreters.create("legacy"), _interpreters.create("isolated")
except ImportError:
    import _xxsubinterpreters as _interpreters
    legacy, isolated = _interpreters.create(isolated=False), _interpreters.create(isolated=True)
import os, sys
PATH = "import sys; sys.path[:] = {!r}\\n".format(sys.path)
"""


def in_interpreter(which: str, program: str) -> str:
    return f"_interpreters.run_string({which}, PATH + {textwrap.dedent(program)!r})\n"


def test_sub_interpreters(lone: Lan, with_impl: str) -> None:
    # Fault: A sub-interpreter ends, or another has the compiled modules, or it may not have threads.
    # Expected: The engine ends with it; nobody gets plain Python in silence; one sentence.
    leave = "" if sys.version_info >= (3, 12) else STOP  # Python 3.11 refuses to end one that has threads
    program = SUBINTERPRETER + in_interpreter("legacy", START + leave)
    program += "_interpreters.destroy(legacy)\nprint('destroyed')\n"
    said = run(lone, program, with_impl)
    assert said.startswith(f"{with_impl} MASTER\n") and "destroyed\n" in said, said
    warned = "RuntimeWarning: Python before 3.12 cannot end a sub-interpreter in which an engine runs" in said
    assert warned == (sys.version_info < (3, 12)), said

    caught = "try:\n{}\nexcept pycarp.CarpError as error: print(type(error).__name__, error)\n"
    core = caught.format("    print(pycarp.__impl__)")
    engine = caught.format(textwrap.indent("engine.start()", "    "))
    second = "import pycarp; pycarp.__impl__\n" + SUBINTERPRETER
    second += in_interpreter("legacy", f"import os; os.environ.pop('PYCARP_IMPL', 0)\nimport pycarp\n{core}")
    said = run(lone, second, "")
    wanted = "ImplementationError implementation 'native' is not there (Interpreter change detected"
    assert said.startswith(wanted) and "use pycarp in the main interpreter of a process" in said, said
    said = run(lone, SUBINTERPRETER + in_interpreter("isolated", ENGINE + engine), with_impl)
    if with_impl == "native" and sys.version_info >= (3, 12):
        assert said.startswith("ImplementationError implementation 'native' is not there (module "), said
    else:
        assert said.startswith("EngineError an engine cannot run here ("), said
