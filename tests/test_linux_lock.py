"""One process for one virtual host."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.linux import carpdev, needs_namespaces

from pycarp.errors import InterfaceError
from pycarp.linux.lock import VirtualHostLock, held, holder
from pycarp.linux.namespaces import Lab

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
