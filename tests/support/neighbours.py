"""Other programs that run the network of a host, really running on hosts of a lab.

Each has a mount namespace of its own with an empty /run, so that it meets none of the machine's services, and with
copies of /etc and /var/lib, because they write resolv.conf and leases. /sys is read-only, which tells systemd that
there is no udev. The bus ends with the shell that started it: a change of user would cancel that.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from pycarp.lab.namespaces import Host

from .lan import wait_until

_PRIVATE = """
set -e
mount -t tmpfs tmpfs /run
cp -a /etc /run/etc
mount --bind /run/etc /etc
mkdir /run/lib
for one in dhcpcd NetworkManager dbus; do
    if [ -d /var/lib/$one ]; then cp -a /var/lib/$one /run/lib/$one; mount --bind /run/lib/$one /var/lib/$one; fi
done
mount -t sysfs -o ro sysfs /sys
mkdir -p /run/dbus
sed '/<user>/d' /usr/share/dbus-1/system.conf > /run/dbus.conf
setpriv --pdeathsig KILL dbus-daemon --config-file=/run/dbus.conf --nofork --nopidfile &
while ! [ -S /run/dbus/system_bus_socket ]; do sleep 0.01; done
"""
_NETWORKD = "/lib/systemd/systemd-networkd"
_FILES = "/run/systemd/network"


def available(*programs: str) -> bool:
    """Whether they are installed."""
    return all(shutil.which(one) or Path(one).exists() for one in programs)


class Networkd:
    """systemd-networkd with these .network files (name to text), until `stop` or the host's end."""

    needs = ("dbus-daemon", "setpriv", "networkctl", _NETWORKD)

    def __init__(self, host: Host, files: Mapping[str, str], log: Path) -> None:
        self.host = host
        self._log = log
        owned = "install -d -o systemd-network -g systemd-network /run/systemd/netif /run/systemd/netif"
        written = [f"cat > {_FILES}/{name} <<'E'\n{text}\nE" for name, text in files.items()]
        # The bus stays when networkd is started anew.
        script = "\n".join(
            (_PRIVATE, f"mkdir -p {_FILES}", owned + "/{links,leases,lldp}", *written, "echo ready", "cat")
        )
        self._inside = host.popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._daemon: subprocess.Popen[bytes] | None = None
        assert self._inside.stdout is not None and self._inside.stdout.readline() == b"ready\n"
        self.start()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._daemon = self.host.popen(self._entered(_NETWORKD), stdout=subprocess.DEVNULL, stderr=log, env={})
        wait_until(lambda: self.run("networkctl", "status") == 0, 30, "networkd does not run")

    def stop(self) -> None:
        assert self._daemon is not None
        self._daemon.terminate()
        self._daemon.wait(10)

    def restart(self) -> None:
        self.stop()
        self.start()

    def run(self, *words: str) -> int:
        return self.host.run(self._entered(*words), check=False).returncode

    def state(self, ifname: str) -> str:
        """configured, configuring, unmanaged, pending ..."""
        done = self.host.run(self._entered("networkctl", "list", ifname, "--no-legend"), check=False)
        words: list[str] = done.stdout.split()
        return words[4] if len(words) > 4 else ""

    def settle(self, ifname: str) -> None:
        """Wait until it has configured the interface: the kernel's own link-local address takes it 1-2 s and more."""
        deadline = time.monotonic() + 30
        while (state := self.state(ifname)) != "configured":
            assert time.monotonic() < deadline, f"{ifname} is {state or 'unknown'}: {self.log}"
            time.sleep(0.05)

    def _entered(self, *words: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._inside.pid}/ns/mnt", *words]


class Daemon:
    """A program in a private /run of its own, until `stop` or the host's end."""

    command = ""
    needs: tuple[str, ...] = ()

    def __init__(self, host: Host, log: Path) -> None:
        self.host = host
        self._log = log
        self._inside = self._start()

    def stop(self) -> None:
        self.run("pkill", "-TERM", "-P", str(self._inside.pid))
        self._inside.terminate()
        self._inside.wait(10)

    def restart(self) -> None:
        self.stop()
        self._inside = self._start()

    def run(self, *words: str) -> int:
        return self.host.run(["nsenter", f"--mount=/proc/{self._inside.pid}/ns/mnt", *words], check=False).returncode

    def _start(self) -> subprocess.Popen[bytes]:
        script = f"{_PRIVATE}\nexec {self.command}"
        with self._log.open("ab") as log:
            argv = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
            return self.host.popen(argv, stdout=log, stderr=log)


class NetworkManager(Daemon):
    command = "NetworkManager --no-daemon"
    needs = ("dbus-daemon", "NetworkManager", "nmcli")


class Dhcpcd(Daemon):
    command = "dhcpcd --nobackground --nodev"
    needs = ("dbus-daemon", "dhcpcd")
