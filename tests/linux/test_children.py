"""Programs that an engine runs for its owner: started, killed, collected, and never a child of this process."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.guardians import lives, until

from pycarp import _impl
from pycarp.linux import children
from pycarp.linux.children import Child, Children

ENV = {"PATH": "/usr/bin:/bin", "WHO": "caf\udce9"}


@pytest.fixture
def start(impl: _impl.Implementation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    monkeypatch.setattr(_impl, "current", impl, raising=False)
    with contextlib.closing(Children()) as made:
        launcher = made.pid
        yield made
    until(lambda: not lives(launcher) and not lives(made.pid))


def shell(start: Children, script: str, **options: object) -> Child:
    return start.start(["sh", "-c", script], env=ENV, **options)  # type: ignore[arg-type]


def test_a_program_runs(start: Children) -> None:
    script = "cat; echo $WHO $1; ls /proc/self/fd; pwd; ps -o pgid= -o sid= $$ >&2; exit 7"
    started = time.monotonic()
    with shell(start, script, stdin=b"in" * 100_000 + b"\n") as child:
        code, output = child.finish(10, 300_000)
    assert code == 7 and time.monotonic() - started < 5
    lines = output.splitlines()
    assert lines[0] == b"in" * 100_000 and lines[1] == b"caf\xe9"
    assert lines[-2] == b"/" and lines[-1].split() == [str(child.pid).encode()] * 2
    assert lines[2:-2] == [b"0", b"1", b"2", b"3"]  # the last is the directory that ls reads
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL


def test_what_cannot_be_started_says_why(start: Children, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/nonexistent\n")
    broken = tmp_path / "broken"
    broken.write_text("#!/nonexistent/interpreter\n")
    broken.chmod(0o755)
    for program, number in (("/nonexistent/x", errno.ENOENT), ("no-such-x", errno.ENOENT), (str(plain), errno.EACCES),
                            (str(broken), errno.ENOENT), (str(tmp_path), errno.EACCES)):  # fmt: skip
        with pytest.raises(OSError) as caught:
            start.start([program], env=ENV)
        assert caught.value.errno == number, program
    with pytest.raises(OSError, match="no such user"):
        start.start(["true"], env=ENV, user="no-such-user")
    with shell(start, "id -un; id -G", user="nobody") as child:
        assert child.finish(5)[1].splitlines()[0] == b"nobody"


def test_a_time_limit_takes_the_whole_group(start: Children) -> None:
    with shell(start, "trap '' TERM; sleep 60 & echo $!; wait; wait; sleep 60") as child:
        until(lambda: select.select([child.output], [], [], 0)[0])
        grandchild = int(child.read() or b"")
        started = time.monotonic()
        assert child.finish(0.1) == (None, b"") and time.monotonic() - started < 1
        assert child.status == -signal.SIGKILL
        until(lambda: not Path(f"/proc/{grandchild}").exists())
        child.signal(signal.SIGTERM)  # of one that has ended: nothing
    with shell(start, "sleep 60") as child:
        child.signal(signal.SIGTERM)
        assert child.finish(5) == (-signal.SIGTERM, b"")
    with shell(start, "sleep 60") as child:
        pass
    until(lambda: not lives(child.pid))


@pytest.mark.parametrize("leave", [False, True])
def test_what_a_program_leaves_behind(start: Children, leave: bool) -> None:
    with shell(start, "sleep 60 & echo $!", leave=leave) as child:
        code, output = child.finish(5)
        assert code == 0  # though the pipe is still open
        left = int(output)
    if leave:
        time.sleep(0.05)
        assert lives(left)
        os.kill(left, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{left}").exists())


def test_whoever_writes_without_end_delays_itself_alone(start: Children) -> None:
    with shell(start, "yes") as child, shell(start, "yes >&2", output=False) as silent:
        code, output = child.finish(0.2, 1000)
        assert code is None and output == b"y\n" * 500
        assert silent.read() == b"" and silent.poll() is None


def test_a_launcher_that_dies_is_replaced(start: Children) -> None:
    with shell(start, "sleep 60") as child:
        os.kill(start.pid, signal.SIGKILL)
        assert child.finish(5) == (-signal.SIGKILL, b"")
        os.kill(child.pid, signal.SIGKILL)  # nobody else is left to do it
    with shell(start, "echo again") as child:
        assert child.finish(5) == (0, b"again\n")


def test_a_launcher_that_hangs_delays_nobody_for_long(start: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_STARTED_WITHIN", 0.05)
    hanging = start.pid
    os.kill(hanging, signal.SIGSTOP)
    try:
        with pytest.raises(OSError, match="does not answer"):
            shell(start, "true")
        monkeypatch.setattr(children, "_STARTED_WITHIN", 5.0)
        with shell(start, "echo another") as child:
            assert child.finish(5) == (0, b"another\n")
    finally:
        os.kill(hanging, signal.SIGCONT)
    until(lambda: not lives(hanging))


PROGRAM = """
import sys, os, signal, time
from pycarp.linux.children import Children
start = Children()
children = [start.start(["sleep", "60"], env={"PATH": "/bin:/usr/bin"}) for _ in range(3)]
if os.fork() == 0:  # its copies keep nothing alive
    time.sleep(60)
try:
    os.waitpid(-1, os.WNOHANG)
    print(start.pid, *(child.pid for child in children), flush=True)
except ChildProcessError:
    print("no child")
time.sleep(60)
"""


def test_they_end_with_their_owner() -> None:
    """Killed, with a fork that has copies of all descriptors."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    owner = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=environment,
                             start_new_session=True)  # fmt: skip
    with owner:
        assert owner.stdout is not None
        numbers = [int(one) for one in owner.stdout.readline().split()]
        assert len(numbers) == 4 and all(lives(one) for one in numbers)
        owner.kill()
        until(lambda: not any(lives(one) for one in numbers))
        os.killpg(owner.pid, signal.SIGKILL)
    closed = Children()
    closed.close()
    closed.close()
    with pytest.raises(OSError, match="closed"):
        closed.start(["true"], env={})
