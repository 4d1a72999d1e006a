"""Between an engine and its successor: who may speak, and what is understood."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator

import pytest

if sys.platform != "linux":
    pytest.skip("an engine needs Linux", allow_module_level=True)

from pycarp import ConfigError, Engine, VirtualHost
from pycarp.engine import line as lines
from pycarp.engine.line import Line, LineBroken, Listener

HOST = VirtualHost(vhid=7, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"], name="carp0")


@pytest.fixture
def ends() -> Iterator[tuple[Line, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Line(one) as line, other:
        yield line, other


def test_a_descriptor_comes_along(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    with open(os.devnull, "rb") as file, Line(other.dup()) as far:
        line.send({"index": 1}, [file.fileno()])
        message, fds = far.receive()
        assert message == {"index": 1}
        assert os.fstat(fds[0]).st_rdev == os.fstat(file.fileno()).st_rdev
        assert not os.get_inheritable(fds[0])
        os.close(fds[0])


@pytest.mark.parametrize("said", [b"{", b"[]", b"\xff", b"7", b"x" * (lines._LONGEST + 1)], ids=len)
def test_what_is_no_message_breaks_the_line(ends: tuple[Line, socket.socket], said: bytes) -> None:
    line, other = ends
    other.setsockopt(socket.SOL_SOCKET, 32, 1 << 20)
    other.send(said)
    with pytest.raises(LineBroken):
        line.receive()


def test_an_end_and_a_silence_break_the_line(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    with pytest.raises(LineBroken):
        line.receive(0.01)
    other.close()
    with pytest.raises(LineBroken, match="has ended"):
        line.receive()
    with pytest.raises(LineBroken):
        line.send({"hello": 1})


@pytest.mark.root
def test_another_user_is_not_listened_to() -> None:
    with Listener() as listener:
        for user in (65534, 0):
            child = os.fork()
            if child == 0:
                os.setuid(user)
                caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                caller.connect(listener._socket.getsockname())
                caller.recv(1)
                os._exit(0)
            listener._socket.settimeout(5)
            line = listener.accept()
            assert (line is None) == (user != 0)
            if line is not None:
                line.close()
            assert os.waitpid(child, 0)[1] == 0


def test_two_engines_of_a_process_are_both_found() -> None:
    with Listener(), Listener():
        found = lines.call(os.getpid())
        assert len(found) == 2
        for one in found:
            one.close()


def test_another_version_and_another_clock_are_refused() -> None:
    message = lines.hello([(2, HOST)], "nonce", False)
    assert lines.why_not(message) == ""
    assert "version 2" in lines.why_not(message | {"hello": 2})
    assert "clock" in lines.why_not(message | {"clock": message["clock"] + 2_000_000_000})


def test_the_passphrase_is_proved_and_not_said() -> None:
    message = json.dumps([lines.plain(HOST), lines.hello([(2, HOST)], "a", False)])
    assert str(HOST.passphrase) not in message
    assert lines.proof(HOST, "a", "b") == lines.proof(HOST.replace(passphrase=b"motdepassehalakon"), "a", "b")
    for other in (HOST.replace(passphrase="another"), HOST.replace(dialect="bsd"), HOST.replace(passphrase="")):
        assert lines.proof(other, "a", "b") != lines.proof(HOST, "a", "b")
    assert lines.proof(HOST, "a", "c") != lines.proof(HOST, "a", "b")
    own = HOST.replace(advskew=9, addresses=["10.13.37.43/24"], passphrase="its own")
    assert lines.as_it_runs(own, lines.plain(HOST)) == HOST.replace(passphrase="its own")


def test_what_is_in_the_way_of_a_successor() -> None:
    wants = lines.hello([(2, HOST)], "a", False)["wants"]
    for carpdev, host, conflict in (
        (2, HOST.replace(name="carp9", addresses=["10.13.37.99/24"]), True),
        (3, HOST.replace(vhid=8, addresses=["10.13.37.99/24"]), True),
        (3, HOST.replace(vhid=8, name="carp9"), True),
        (3, HOST.replace(name="carp9", addresses=["10.13.37.99/24"]), False),
    ):
        assert lines.conflicting(wants, carpdev, host) is conflict


@pytest.mark.parametrize("inherit", ["all", True, 1.5])
def test_from_whom_to_inherit_is_checked(inherit: object) -> None:
    with pytest.raises(ConfigError, match="inherit"):
        Engine(HOST, inherit=inherit)  # type: ignore[arg-type]


def test_descriptors_that_come_are_no_childs():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Line(left) as ours, Line(right) as theirs, open(os.devnull) as file:
        ours.send({"a": 1}, [file.fileno(), file.fileno()])
        message, fds = theirs.receive()
        assert message == {"a": 1} and len(fds) == 2
        assert not any(map(os.get_inheritable, fds))
        for fd in fds:
            os.close(fd)
