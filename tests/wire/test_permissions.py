"""Who may run it: root, a process with two capabilities, and an ordinary user in a user namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.lan import VIP, Lan, belongings

import pycarp

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
SCRIPT = textwrap.dedent(
    f"""
    import pycarp
    from pycarp import State, events
    from pycarp.lab.namespaces import Lab

    with Lab() as lab:
        engines = []
        for name, advskew in (("main", 10), ("second", 25)):
            with lab[name].enter():
                host = pycarp.VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["{VIP}/24"], advbase=0,
                                          advskew=advskew)
                engines.append(pycarp.Engine(host))
                engines[-1].start()
        main, second = engines
        for event in main.events(timeout=5):
            if isinstance(event, events.AddressesTaken):
                break
        pinger = lab["client"].ping("{VIP}")
        assert pinger.wait(3)
        lab.unplug("main")
        for event in second.events(timeout=5):
            if isinstance(event, events.AddressesTaken):
                break
        assert second.state(101) is State.MASTER
        assert pinger.wait(3)
        pinger.stop()
        for engine in engines:
            engine.stop()
    print("handed over")
    """
)


def _as_nobody() -> list[str]:
    """Words that make a command an ordinary user's, where that user can read this package and its interpreter."""
    if os.geteuid() != 0:
        return []
    # By way of a shell: setpriv itself may still open what only root may.
    command = [*NOBODY, "sh", "-c", 'exec "$@"', "sh", sys.executable, "-c", "import pycarp"]
    trial = subprocess.run(command, capture_output=True, env=_environment())
    return NOBODY if trial.returncode == 0 else []


def _environment() -> dict[str, str]:
    # The package that is tested, also where it is not installed.
    paths = [str(Path(pycarp.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


def test_an_ordinary_user_in_a_user_namespace() -> None:
    # Fault: A cut cable, in a lab that an ordinary user made in a user namespace.
    # Expected: The other host takes over.
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.fail("util-linux is not installed")
    enter = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"]
    who = _as_nobody()
    allowed = subprocess.run([*who, *enter, "true"], capture_output=True)
    if allowed.returncode != 0:
        pytest.skip(f"user namespaces are not allowed here: {allowed.stderr.decode().strip()}")
    done = subprocess.run(
        [*who, *enter, sys.executable, "-W", "error", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        env=_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "handed over\n"


def test_the_labs_own_way_into_a_user_namespace() -> None:
    # Fault: None: an ordinary user enters a user namespace by the lab's own function.
    # Expected: The lab is available there.
    program = (
        "import sys; from pycarp.lab.namespaces import available, enter_user_namespace; "
        "enter_user_namespace([sys.executable, '-c', "
        "'from pycarp.lab.namespaces import available; print(available())'])"
    )
    command = [*_as_nobody(), sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=_environment(), check=False)
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(f"user namespaces are not allowed here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, "root\n"), done.stderr


@pytest.mark.parametrize(
    "dropped, missing",
    [
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-net_raw", "CAP_NET_RAW"),
        ("-net_admin,-net_raw", "CAP_NET_ADMIN and CAP_NET_RAW"),
    ],
)
def test_missing_capabilities_are_named(net: Lan, dropped: str, missing: str) -> None:
    # Fault: CAP_NET_ADMIN, CAP_NET_RAW or both are missing.
    # Expected: Engine and command name them and the remedy, and nothing is changed.
    before = belongings(net["main"])
    program = textwrap.dedent(
        f"""
        import pycarp
        try:
            pycarp.Engine(pycarp.VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["{VIP}/24"])).start()
        except pycarp.CapabilityError as error:
            print(error)
        """
    )
    drop = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}"]
    done = net["main"].run([*drop, sys.executable, "-W", "error", "-c", program], env=_environment())
    assert done.stdout.startswith(f"missing {missing}: run as root, or from a systemd unit with AmbientCapabilities=")
    command = ["up", "carp101", "vhid", "101", f"{VIP}/24"]
    failed = net["main"].run([*drop, sys.executable, "-m", "pycarp", *command], env=_environment(), check=False)
    assert failed.returncode == 2
    assert f"missing {missing}" in failed.stderr
    assert belongings(net["main"]) == before


def test_two_capabilities_are_enough(net: Lan) -> None:
    # Fault: None: an ordinary user runs the command with CAP_NET_ADMIN and CAP_NET_RAW only.
    # Expected: The address answers, and the command ends in order.
    net.remember("main")
    two = "+net_admin,+net_raw"
    who = [*_as_nobody(), f"--inh-caps={two}", f"--ambient-caps={two}"]
    if who[0] != "setpriv":
        # Only root may read the interpreter: then it is root by name, and can do no more than that.
        who = ["setpriv", f"--bounding-set=-all,{two}", f"--inh-caps=-all,{two}"]
    words = ["vhid", "101", "pass", "motdepassehalakon", "advbase", "0", "advskew", "10", f"{VIP}/24", "--json"]
    process = net["main"].popen(
        [*who, sys.executable, "-m", "pycarp", "up", "carp101", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(),
    )
    pinger = net.ping()
    answered = pinger.wait(3)
    process.terminate()
    _out, errors = process.communicate(timeout=10)
    assert answered, errors
    assert process.returncode == 0


def test_a_change_after_root_was_given_up() -> None:
    # Fault: A program gives up root after the start, and then asks for another configuration.
    # Expected: What needs no permission is done, also the removal of a virtual host. The rest raises one sentence that
    # says what is missing, and changes nothing: state, configuration and addresses stay.
    script = textwrap.dedent(
        f"""
        import os, time
        import pycarp
        from pycarp.lab.namespaces import Lab
        from pycarp.linux.interfaces import read_interfaces

        def held():
            return sorted(str(a.interface.ip) for one in read_interfaces() for a in one.addresses if a.ours)

        def become(*addresses):
            give_up = time.monotonic() + 8
            while held() != sorted(addresses):
                assert time.monotonic() < give_up, held()
                time.sleep(0.01)

        other = pycarp.VirtualHost(vhid=7, passphrase="another-one", addresses=["10.13.37.7/24"], advbase=0, advskew=9)
        host = pycarp.VirtualHost(vhid=101, passphrase="secret-secret", addresses=["{VIP}/24"], advbase=0, advskew=10)
        with Lab() as lab:
            child = os.fork()
            if not child:
                with lab["main"].enter():
                    engine = pycarp.Engine(host, other)
                    engine.start()
                    become("{VIP}", "10.13.37.7")
                    # What the engine imports in its first second may be root's alone.
                    time.sleep(1)
                    os.setgid(65534)
                    os.setuid(65534)
                    swift = host.replace(advskew=20)
                    engine.reconfigure(swift, other)
                    third = other.replace(vhid=8, name="carp8", addresses=["10.13.37.8/24"])
                    for wrong in (
                        (host.replace(addresses=["{VIP}/24", "10.13.37.43/24"]), other),
                        (swift, other.replace(name="carp9")),
                        (swift.replace(mac="interface"), other),
                        (swift, other.replace(passphrase="another secret")),
                        (swift, third),
                    ):
                        try:
                            engine.reconfigure(*wrong)
                        except pycarp.CapabilityError as error:
                            print(error, flush=True)
                        assert engine.hosts == (swift, other)
                        assert engine.state(101) is engine.state(7) is pycarp.State.MASTER
                        assert held() == sorted(["{VIP}", "10.13.37.7"])
                    engine.reconfigure(swift)
                    become("{VIP}")
                    assert not any(one.name == "carp7" for one in read_interfaces())
                    engine.stop()
                    become()
                    failures = [event.text for event in engine.events() if isinstance(event, pycarp.events.Failed)]
                    print(failures, flush=True)
                    os._exit(0)  # nobody without root could enter its own namespace again
            os.waitpid(child, 0)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=_environment(), timeout=30
    )
    sentence = "this program has given up CAP_NET_ADMIN"
    *told, failures = done.stdout.splitlines() or [""]
    assert [line.split(":")[0] for line in told] == [
        "carp101 cannot be changed",
        "carp9 cannot be changed",
        "carp101 cannot be changed",
        "carp7 cannot be changed",
        "carp8 cannot be added",
    ], done
    assert all(sentence in line for line in told) and failures == "[]", done


THREADS = textwrap.dedent(
    f"""
    import contextlib, ctypes, glob, os, sys, time
    import pycarp
    from pycarp.lab.namespaces import Lab

    ctypes.CDLL(None).prctl(29, 1_000_000_000)  # PR_SET_TIMERSLACK
    with Lab(("main",)) as lab, lab["main"].enter():
        own = os.stat("/proc/thread-self/ns/net").st_ino
        host = pycarp.VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["{VIP}/24"], advbase=0,
                                  advskew=10)
        engine = pycarp.Engine(host, realtime=eval(sys.argv[1]))
        engine.start()
        while engine.state(101) is not pycarp.State.MASTER:
            time.sleep(0.01)
        found = [int(one) for one in os.listdir("/proc/self/task") if int(one) != os.getpid()]
        slack = max(int(open(f"/proc/{{one}}/timerslack_ns").read()) for one in found)
        for path in glob.glob("/proc/[0-9]*/comm"):
            one = int(path.split("/")[2])
            with contextlib.suppress(OSError):
                if open(path).read() == "pycarp-guardian\\n" and os.stat(f"/proc/{{one}}/ns/net").st_ino == own:
                    found.append(one)
        priorities = [os.sched_getparam(one).sched_priority for one in found]
        engine.stop()
    print(len(found), slack, min(priorities), sorted(priorities)[1])
    """
)


@pytest.mark.parametrize("realtime", ["'auto'", "False"])
def test_in_a_real_time_program(impl: Any, realtime: str) -> None:
    # Fault: The program has SCHED_FIFO 50, and lets its timers end up to 1 s late.
    # Expected: Runtime and guardian are as urgent as the program, or ordinary by `realtime=False`; no timer is late.
    env = {**_environment(), "PYCARP_IMPL": impl.name}
    if subprocess.run(["chrt", "-f", "50", "true"], capture_output=True).returncode:
        pytest.skip("no real-time priority may be had here")
    command = ["chrt", "-f", "50", sys.executable, "-c", THREADS, realtime]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env)
    assert done.returncode == 0, done.stderr
    threads, slack, least, next_to_least = (int(one) for one in done.stdout.split())
    assert threads >= 3 and slack <= 1, done.stdout
    assert (least, next_to_least) == ((50, 50) if realtime != "False" else (0, 0)), done.stdout


def test_a_thread_with_a_deadline_is_told_what_to_do() -> None:
    words = ["chrt", "-d", "-T", "1000000", "-D", "10000000", "-P", "10000000", "0"]
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("no deadline may be had here")
    script = (
        "import pycarp; pycarp.Engine(pycarp.VirtualHost(vhid=1, addresses=['10.1.2.3/24'], passphrase='x')).start()"
    )
    done = subprocess.run([*words, sys.executable, "-c", script], capture_output=True, text=True, env=_environment())
    assert "EngineError: a thread under SCHED_DEADLINE may not start others" in done.stderr, done.stderr
