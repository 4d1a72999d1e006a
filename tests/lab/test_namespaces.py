"""The lab itself: cables, switch, recorder and pinger do what the other tests on the wire rely on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from support.linux import needs_namespaces

from pycarp.errors import CapabilityError
from pycarp.lab import namespaces
from pycarp.lab.namespaces import Lab, Namespace

pytestmark = needs_namespaces()


def test_hosts_reach_each_other_in_both_families_at_once() -> None:
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        assert (main.address, main.address6, main.mac.hex(":")) == ("10.13.37.11", "2001:db8::b", "02:00:00:00:00:0b")
        with client.ping(main.address) as ipv4, client.ping(main.address6) as ipv6:
            assert ipv4.wait(5) and ipv6.wait(5)
        assert ipv4.received == ipv4.sent or ipv4.received == ipv4.sent - 1
        assert lab.switch.run(["bridge", "link"]).stdout.count("forwarding") == 3


def test_subnet_numbers_and_names_are_free_to_choose() -> None:
    with Lab(hosts=("a", "b"), subnet="192.168.7.0/28", subnet6=None, first=3) as lab:
        assert [host.address for host in lab.hosts.values()] == ["192.168.7.3", "192.168.7.4"]
        assert lab["a"].address6 == ""
        assert "inet6" not in lab["a"].run(["ip", "addr", "show", "eth0"]).stdout
        with lab["a"].ping(lab["b"].address) as pinger:
            assert pinger.wait()


@pytest.mark.parametrize("seen", [True, False])
def test_an_unplugged_cable_carries_nothing(seen: bool) -> None:
    with Lab() as lab:
        main = lab["main"]
        with lab["client"].ping(main.address) as pinger:
            assert pinger.wait(3)
            lab.unplug(main, seen=seen)
            received = pinger.received
            time.sleep(0.1)
            assert pinger.received <= received + 1
            carrier = "NO-CARRIER" not in main.run(["ip", "link", "show", "eth0"]).stdout
            assert carrier is not seen
            lab.plug("main")
            assert pinger.wait(3)
        ((start, end),) = pinger.outages()
        assert 0.08e9 < end - start < 1e9
        assert pinger.longest == end - start


def test_a_deaf_host_hears_no_flooded_frame_but_is_heard() -> None:
    with Lab() as lab:
        lab.deafen("main")
        with lab.record() as recorder:
            lab["client"].run(["ping", "-c1", "-W1", lab["main"].address], check=False)
            lab["second"].run(["ping", "-c1", "-W1", lab["client"].address])
            # Its own broadcast gets through, and so does the unicast answer.
            lab["main"].run(["ping", "-c1", "-W1", lab["second"].address])
        flooded = [one for one in recorder.frames if one.port == "main" and one.outgoing and one.destination[0] & 1]
        assert not flooded
        lab.undeafen("main")
        with lab["client"].ping(lab["main"].address) as pinger:
            assert pinger.wait()


def test_a_recorder_tells_port_direction_time_and_vlan_tag() -> None:
    with Lab() as lab:
        main = lab["main"]
        payload = bytes(46)
        plain = b"\xff" * 6 + main.mac + b"\x88\xb5" + payload
        tagged = b"\xff" * 6 + main.mac + b"\x81\x00\x00\x07\x88\xb5" + payload
        with main.enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.bind(("eth0", 0))
            recorder = lab.record()
            before = time.time_ns()
            raw.send(plain)
            raw.send(tagged)
        assert recorder.wait(lambda frame: frame.data == tagged and frame.outgoing) is not None
        frames = [frame for frame in recorder.stop() if frame.data in (plain, tagged)]
        assert {(frame.port, frame.outgoing) for frame in frames} == {
            ("main", False),
            ("second", True),
            ("client", True),
        }
        assert sum(frame.data == tagged for frame in frames) == 3
        assert all(before <= frame.at_ns <= time.time_ns() for frame in frames)
        assert recorder.dropped == 0 and recorder.stop() == recorder.frames


def test_the_lab_kills_what_still_runs_inside() -> None:
    with Lab(hosts=("main",)) as lab:
        process = lab["main"].popen(["sleep", "1000"], stdout=subprocess.PIPE)
        lab["main"].ping("10.13.37.99")
        lab.record()
        assert os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
    assert process.returncode == -9


def test_a_program_inside_a_host_knows_only_that_host() -> None:
    with Lab(hosts=("main", "second")) as lab:
        names = lab["main"].run(["ls", "/proc/self/net/dev_snmp6"], check=False).stdout.split()
        assert sorted(names) == ["eth0", "lo"]
        with pytest.raises(subprocess.CalledProcessError):
            lab["main"].run(["false"])


def test_the_thread_is_home_again_whatever_happens_inside() -> None:
    home = os.readlink("/proc/thread-self/ns/net")
    with Namespace() as one, Namespace() as other:
        with pytest.raises(ZeroDivisionError), one.enter():
            away = os.readlink("/proc/thread-self/ns/net")
            with other.enter():
                assert os.readlink("/proc/thread-self/ns/net") not in (home, away)
            assert os.readlink("/proc/thread-self/ns/net") == away
            _ = 1 / 0
        assert os.readlink("/proc/thread-self/ns/net") == home
        assert os.path.samefile(one.path, f"/proc/self/fd/{one.fd}")


def test_an_impossible_lab_leaves_nothing() -> None:
    with pytest.raises((OSError, ValueError)):
        Lab(hosts=("main", "a-name-that-is-too-long-for-a-port"))


def test_the_pinger_counts_a_silent_address_as_one_outage() -> None:
    with Lab(hosts=("client",)) as lab:
        with lab["client"].ping("10.13.37.99") as pinger:
            time.sleep(0.1)
            assert not pinger.wait(timeout=0.01)
        ((start, end),) = pinger.outages()
        assert end - start > 0.05e9
        assert pinger.received == 0 < pinger.sent


def test_without_the_right_a_namespace_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    before = namespaces._call
    monkeypatch.setattr(namespaces, "_call", lambda name, *rest: refuse() if name == "unshare" else before(name, *rest))
    with pytest.raises(CapabilityError, match="root, or a user namespace"):
        Namespace()


def test_a_lab_works_in_a_user_namespace() -> None:
    script = """
from pycarp.lab.namespaces import Lab, available
assert available() == "root"
with Lab() as lab, lab["client"].ping(lab["main"].address) as pinger:
    assert pinger.wait(3)
    lab.record()
print("worked")
"""
    enter = "import sys; from pycarp.lab import namespaces; namespaces.enter_user_namespace(sys.argv[1:])"
    inside = [sys.executable, "-c", script]
    done = subprocess.run(
        [sys.executable, "-c", enter, *inside], capture_output=True, text=True, timeout=60, check=False
    )
    if "unshare" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("user namespaces are forbidden here")
    assert done.stdout == "worked\n", done.stderr
