"""The service as systemd runs it, with a real systemd as process 1 of a host of the lab."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.artefacts import build, copy_of_source
from support.booted import Booted, why_not
from support.lan import VIP, Lan, held, wait_until

from pycarp._impl import Implementation

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be had")]

WORDS = f"vhid 101 passfile carp.pass carpdev eth0\n{VIP}/24\n"
SECRET = "motdepassehalakon"


def _main_pid(booted: Booted) -> int:
    return int(booted.show("pycarp", "MainPID"))


@pytest.mark.slow
def test_the_service(net: Lan, tmp_path: Path, impl: Implementation) -> None:
    # Fault: The service is installed, started, reloaded, restarted, killed, stuck, stopped, removed, by systemctl.
    # Expected: It runs as a user of its own, its passfile is a credential, and it holds the address until it stops. A
    #           restart loses no ping.
    host = net["main"]
    with Booted(host, tmp_path / "booted", impl.name) as booted:
        first = booted.run("/usr/local/bin/pycarp", "install-service")
        assert "pycarp.service: written" in first and "10-pycarp.network" not in first, first
        again = booted.run("/usr/local/bin/pycarp", "install-service")
        assert "written" not in again and "there already" in again, again
        booted.write("/etc/pycarp/secrets/carp.pass", f"{SECRET}\n", 0o600)
        booted.write("/etc/ifconfig.carp0", WORDS)
        # The interpreter of the tests may be in a home, or in /tmp.
        booted.write(
            "/etc/systemd/system/pycarp.service.d/home.conf",
            "[Service]\nProtectHome=no\nPrivateTmp=no\nWatchdogSec=1\n",
        )
        assert "carp0: ok" in booted.run("/usr/local/bin/pycarp", "check").replace("/etc/ifconfig.", "")
        said = booted.run("systemctl", "daemon-reload") + booted.run("systemctl", "enable", "--now", "pycarp")
        assert booted.show("pycarp", "ActiveState") == "active", said + _log(booted)
        wait_until(lambda: f"{VIP}" in str(held(host)), 8, _log(booted))
        uid = booted.run("ps", "-o", "user=", "-p", str(_main_pid(booted))).strip()
        assert uid == "pycarp"
        _settings_were_made(booted)

        booted.write("/etc/ifconfig.carp0", WORDS.replace("vhid 101", "vhid 101 advskew 3"))
        booted.run("systemctl", "reload", "pycarp")
        assert booted.show("pycarp", "ActiveState") == "active", _log(booted)
        pinger = net.ping(interval=0.005)
        assert pinger.wait(3)
        former = _main_pid(booted)
        booted.run("systemctl", "restart", "pycarp")
        assert _main_pid(booted) not in (0, former), _log(booted)
        pinger.stop()
        assert pinger.received == pinger.sent, _log(booted)

        former = _main_pid(booted)
        booted.run("systemctl", "kill", "--kill-whom=main", "-s", "STOP", "pycarp")
        wait_until(lambda: _main_pid(booted) not in (0, former), 15, "the watchdog does not start it anew")
        assert booted.show("pycarp", "NRestarts") == "1"
        wait_until(lambda: f"{VIP}" in str(held(host)), 10, _log(booted))

        booted.run("systemctl", "stop", "pycarp")
        assert f"{VIP}" not in str(held(host))
        assert booted.show("pycarp", "Result") == "success", _log(booted)
        assert SECRET not in _log(booted)
        removed = booted.run("/usr/local/bin/pycarp", "install-service", "--remove")
        assert "pycarp.service: removed" in removed
        assert not (booted.root / "etc/systemd/system/pycarp.service").exists()
    net.audited = False


def _log(booted: Booted) -> str:
    return booted.run("journalctl", "--no-pager", "-o", "cat", "-u", "pycarp")


def _settings_were_made(booted: Booted) -> None:
    """The sandbox leaves it netlink, and /proc/sys/net."""
    for setting, value in (("ipv4/conf/eth0/arp_filter", "1"), ("ipv6/conf/carp0/accept_ra", "0")):
        assert booted.run("cat", f"/proc/sys/net/{setting}").strip() == value, setting


@pytest.mark.skipif(not Path("/usr/bin/systemd-analyze").exists(), reason="no systemd-analyze")
@pytest.mark.parametrize("name", ["pycarp.service", "pycarp@.service"])
def test_the_sandbox_is_rated(name: str) -> None:
    # Fault: none
    # Expected: systemd rates what the units may do with 2.0 at most.
    unit = Path(__file__).resolve().parents[2] / "packaging" / "systemd" / name
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rated = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert rated is not None, done.stderr
    assert float(rated[1]) <= 2.0


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no Debian")
def test_the_debian_package(net: Lan, tmp_path: Path) -> None:
    # Fault: The package is installed, its service started, and the package purged, on a host with systemd.
    # Expected: The address is held meanwhile, and nothing is left but the administrator's files.
    tree = copy_of_source(tmp_path / "tree")
    wheel, _ = build(tree, "wheel", PYCARP_NO_EXTENSIONS="1")
    script = tree / "packaging" / "debian" / "build.sh"
    environment = {**os.environ, "PIP_PYTHON": sys.executable}
    done = subprocess.run([script, wheel, tmp_path], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    package = Path(done.stdout.split()[-1])
    with Booted(net["main"], tmp_path / "booted", "python") as booted:
        shutil.copy(package, booted.root / "root")
        said = booted.run("dpkg", "-i", f"/root/{package.name}")
        booted.write("/etc/pycarp/secrets/carp.pass", "motdepassehalakon\n", 0o600)
        booted.write("/etc/ifconfig.carp0", f"vhid 101 passfile carp.pass carpdev eth0\n{VIP}/24\n")
        assert "/etc/ifconfig.carp0: ok" in booted.run("/usr/bin/pycarp", "check"), said
        booted.run("systemctl", "enable", "--now", "pycarp")
        wait_until(lambda: VIP in str(held(net["main"])), 10, booted.run("journalctl", "-u", "pycarp"))
        assert "has brought it" in booted.run("/usr/bin/pycarp", "install-service")
        said = booted.run("dpkg", "--purge", "pycarp")
        assert VIP not in str(held(net["main"])), said
        left = ("usr/lib/pycarp", "usr/bin/pycarp", "lib/systemd/system/pycarp.service", "var/lib/pycarp")
        assert [name for name in left if (booted.root / name).exists()] == [], said
        assert (booted.root / "etc/pycarp/secrets/carp.pass").exists()
