"""One process for one virtual host."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from ipaddress import ip_address

import pytest
from support.linux import carpdev, needs_namespaces

from pycarp.errors import InterfaceError
from pycarp.lab.namespaces import Host, Lab
from pycarp.linux import lock as lock_module
from pycarp.linux.lock import VirtualHostLock, held, holder

pytestmark = needs_namespaces()


def test_a_second_holder_is_told_who_the_first_is() -> None:
    with Lab() as lab, lab["main"].enter():
        eth0 = carpdev()
        assert not held(eth0.index, 101) and holder(eth0.index, 101) == 0
        with VirtualHostLock("carp0", eth0, 101):
            assert held(eth0.index, 101) and holder(eth0.index, 101) == os.getpid()
            for _turn in range(5):
                with pytest.raises(
                    InterfaceError, match=rf"carp0 \(vhid 101 on eth0\) is already run by process {os.getpid()}"
                ):
                    VirtualHostLock("carp0", eth0, 101)
            # Another vhid, another interface, another namespace are other virtual hosts.
            with VirtualHostLock("carp1", eth0, 102), VirtualHostLock("carp0", eth0.replace(index=99), 101):
                pass
            with lab["second"].enter(), VirtualHostLock("carp0", eth0, 101):
                pass
        with VirtualHostLock("carp0", eth0, 101):
            pass


def test_the_lock_dies_with_its_process() -> None:
    script = """
import sys, time
from pycarp.linux.interfaces import Interface
from pycarp.linux.lock import VirtualHostLock

lock = VirtualHostLock("carp0", Interface(int(sys.argv[1]), "eth0"), 101)
print("held", flush=True)
time.sleep(60)
"""
    with Lab() as lab, lab["main"].enter():
        eth0 = carpdev()
        process = lab["main"].popen([sys.executable, "-c", script, str(eth0.index)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(InterfaceError, match=f"process {process.pid}"):
            VirtualHostLock("carp0", eth0, 101)
        process.kill()
        process.wait()
        with VirtualHostLock("carp0", eth0, 101):
            pass


_LEGACY = """
import os, sys, time
from pycarp.linux.interfaces import Interface
from pycarp.linux.lock import VirtualHostLock

lock = VirtualHostLock("carp0", Interface(int(sys.argv[1]), "eth0"), 101)
reading, writing = os.pipe()
heir = os.fork()
if heir == 0:
    os.close(writing)
    os.read(reading, 1)  # until the parent has ended
    time.sleep(float(sys.argv[2]))
    os._exit(0)
print(heir, flush=True)
if sys.argv[3] == "exec":
    os.set_inheritable(writing, False)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[4], sys.argv[1]])
time.sleep(60)
"""

_ANEW = """
import sys
from pycarp.linux.interfaces import Interface
from pycarp.linux.lock import VirtualHostLock

with VirtualHostLock("carp0", Interface(int(sys.argv[1]), "eth0"), 101):
    print("anew", flush=True)
"""


def test_what_a_dead_process_left_is_waited_for() -> None:
    with Lab() as lab, lab["main"].enter():
        eth0 = carpdev()
        process = lab["main"].popen(
            [sys.executable, "-c", _LEGACY, str(eth0.index), "0.4", "stay"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline()
        process.kill()
        # Not even waited for: a process that has ended, to all others.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        started = time.monotonic()
        with VirtualHostLock("carp0", eth0, 101):
            assert 0.2 < time.monotonic() - started < 4


def test_who_never_releases_it_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_RELEASED_WITHIN", 0.2)
    with Lab() as lab, lab["main"].enter():
        eth0 = carpdev()
        process = lab["main"].popen(
            [sys.executable, "-c", _LEGACY, str(eth0.index), "60", "stay"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        heir = int(process.stdout.readline())
        process.kill()
        process.wait()
        with pytest.raises(InterfaceError, match=f"process {process.pid}, which has ended but left a process behind"):
            VirtualHostLock("carp0", eth0, 101)
        os.kill(heir, signal.SIGKILL)


def test_a_process_waits_for_what_it_left_itself_before_an_exec() -> None:
    with Lab() as lab, lab["main"].enter():
        eth0 = carpdev()
        process = lab["main"].popen(
            [sys.executable, "-c", _LEGACY, str(eth0.index), "0.3", "exec", _ANEW], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline()
        assert process.stdout.readline() == "anew\n"


def test_a_copy_of_the_descriptor_holds_it_too() -> None:
    with Lab() as lab, lab["main"].enter():
        eth0 = carpdev()
        lock = VirtualHostLock("carp0", eth0, 101)
        with socket.socket(fileno=os.dup(lock.fileno())) as copy:
            lock.close()
            lock.close()
            assert held(eth0.index, 101)
            # This process let go of it; what is left is its guardian's.
            threading.Timer(0.1, copy.close).start()
            with VirtualHostLock("carp0", eth0, 101):
                pass


VIP, LINK_LOCAL = ip_address("10.13.37.42"), ip_address("fe80::1")
_OTHER = """
import sys
from ipaddress import ip_address
from pycarp.linux.interfaces import Interface
from pycarp.linux.lock import VirtualHostLock

addresses = [ip_address(one) for one in sys.argv[2:]]
try:
    lock = VirtualHostLock("carp1", Interface(int(sys.argv[1]), "eth0"), 102, addresses)
except OSError as error:
    print(error, flush=True)
else:
    print("held", flush=True)
    sys.stdin.read()
"""


def _other(host: Host, carpdev: int, *addresses: object) -> str:
    """What another process says that wants vhid 102 with these addresses."""
    words = [sys.executable, "-c", _OTHER, str(carpdev), *map(str, addresses)]
    return host.run(words, input="").stdout.strip()


def test_no_other_process_gets_an_address() -> None:
    with Lab() as lab, lab["main"].enter():
        main, eth0 = lab["main"], carpdev()
        with VirtualHostLock("carp0", eth0, 101, [VIP, LINK_LOCAL]):
            refused = (
                f"{VIP} is already an address of vhid 101 on eth0, run by process {os.getpid()}: give carp1 another"
            )
            assert _other(main, eth0.index, VIP).startswith(refused)
            # From another interface its vhid does not show, but the process does.
            assert f"another virtual host, run by process {os.getpid()}" in _other(main, 99, VIP)
            # A link-local address is each link's own.
            assert _other(main, eth0.index, LINK_LOCAL).startswith(f"{LINK_LOCAL} is already an address of vhid 101")
            assert _other(main, 99, LINK_LOCAL) == _other(main, eth0.index, "10.13.37.43") == "held"
            assert _other(lab["second"], eth0.index, VIP) == "held"
        assert _other(main, eth0.index, VIP, LINK_LOCAL) == "held"


def test_what_is_refused_in_part_is_not_taken_at_all() -> None:
    with Lab() as lab, lab["main"].enter():
        main, eth0 = lab["main"], carpdev()
        with VirtualHostLock("carp0", eth0, 101, [VIP]):
            assert "is already an address" in _other(main, eth0.index, "10.13.37.43", VIP)
            assert _other(main, eth0.index, "10.13.37.43") == "held"


def test_siblings_of_one_process_share_an_address_until_the_last_has_gone() -> None:
    with Lab() as lab, lab["main"].enter():
        main, eth0 = lab["main"], carpdev()
        first = VirtualHostLock("carp0", eth0, 101, [VIP])
        with VirtualHostLock("carp2", eth0, 103, [VIP]):
            first.close()
            assert not held(eth0.index, 101)
            assert "is already an address of vhid 103" in _other(main, eth0.index, VIP)
        assert _other(main, eth0.index, VIP) == "held"


def test_other_addresses_for_the_same_virtual_host() -> None:
    more = [ip_address(f"10.13.{number >> 8}.{number & 255}") for number in range(300)]
    with Lab() as lab, lab["main"].enter():
        main, eth0 = lab["main"], carpdev()
        former = VirtualHostLock("carp0", eth0, 101, [VIP, *more])
        with former.with_addresses("carp0", eth0, 101, more) as fresh:
            # Both hold what both have; the former alone has the address.
            assert "is already" in _other(main, eth0.index, VIP)
            former.close()
            assert _other(main, eth0.index, VIP) == "held"
            assert held(eth0.index, 101) and "is already" in _other(main, eth0.index, more[-1])
            with fresh.with_addresses("carp0", eth0, 101, []):
                pass
            assert held(eth0.index, 101)
        assert not held(eth0.index, 101)


def test_a_copy_in_another_process_holds_the_addresses_too() -> None:
    with Lab() as lab, lab["main"].enter():
        main, eth0 = lab["main"], carpdev()
        lock = VirtualHostLock("carp0", eth0, 101, [VIP])
        with socket.socket(fileno=os.dup(lock.fileno())):
            lock.close()
            assert "is already an address" in _other(main, eth0.index, VIP)
        assert _other(main, eth0.index, VIP) == "held"
