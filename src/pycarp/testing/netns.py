"""`CarpNetns`: real hosts in network namespaces, with real engines, for the tests of programs that embed one.

Thread: any caller
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from ..config import VirtualHost
from ..engine.engine import Engine
from ..errors import InterfaceError
from ..lab import profiles
from ..lab.namespaces import Host, Lab, available


def _plain(_lab: Lab, _host: Host) -> None:
    pass


def _debian(_lab: Lab, host: Host) -> None:
    profiles.set_sysctls(host, profiles.DEBIAN_SETTINGS)


def _firewalld(_lab: Lab, host: Host) -> None:
    profiles.set_sysctls(host, profiles.DEBIAN_SETTINGS, profiles.STRICT)
    profiles.load_rules(host, profiles.FIREWALLD)


def _docker(lab: Lab, host: Host) -> None:
    profiles.set_sysctls(host, profiles.DEBIAN_SETTINGS, profiles.FORWARDING)
    profiles.bridge_with_container(lab, host)
    profiles.load_rules(host, profiles.docker_rules())


PROFILES: dict[str, Callable[[Lab, Host], None]] = {
    "plain": _plain,
    "debian": _debian,
    "firewalld": _firewalld,
    "docker": _docker,
}
"""How hosts are set up: as the kernel is, as systemd's sysctls make Debian, with firewalld's rules and strict rp_filter
as on RHEL (SSH and ICMP pass), with docker's bridge, forwarding and rules."""


def hindrance() -> str:
    """Why there can be no `CarpNetns` in this process, in one sentence, or ""."""
    where = available()
    if where == "user":
        return "needs root: run `unshare --user --map-root-user --net --mount pytest`, or as root"
    return "" if where else "needs network namespaces with bridge, veth and macvlan, which this machine refuses"


class HostEngine(Engine):
    """A `pycarp.Engine` that starts on a host of a `CarpNetns`; `CarpNetns.engine` makes it."""

    def __init__(self, host: Host, *hosts: VirtualHost, **options: Any) -> None:
        super().__init__(*hosts, **options)
        self._on = host

    def start(self) -> None:
        """See `Engine.start`."""
        with self._on.enter():
            super().start()


class CarpNetns(Lab):
    """A switch and hosts in network namespaces, in real time: `pycarp.lab.namespaces.Lab`, with engines and profiles.

    Hosts have the addresses 10.13.37.11 and on, and 2001:db8::b and on. `netns["main"].run(argv)` runs a program on
    one, `.popen` starts it, and with `.enter()` sockets are made there. `profile` is one of `PROFILES`, for all hosts
    but "client".
    """

    def __init__(
        self, hosts: Sequence[str] = ("main", "second", "client"), profile: str = "plain", **options: Any
    ) -> None:
        if profile not in PROFILES:
            raise ValueError(f"there is no profile {profile!r}: there is {', '.join(PROFILES)}")
        self._engines: list[HostEngine] = []
        super().__init__(hosts, **options)
        try:
            for host in [host for name, host in self.hosts.items() if name != "client"]:
                PROFILES[profile](self, host)
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            said = getattr(error, "stderr", "") or str(error)
            raise InterfaceError(f"the profile {profile} cannot be had here: {said.strip()}") from error

    def engine(self, name: str, *hosts: VirtualHost, **options: Any) -> HostEngine:
        """An engine that starts on this host; the options are those of `pycarp.Engine`. It stops with the LAN."""
        engine = HostEngine(self[name], *hosts, **options)
        self._engines.append(engine)
        return engine

    def close(self) -> None:
        """Stop the engines, kill what runs on the hosts, and take all apart."""
        for engine in self._engines:
            engine.stop()
            engine._queue.close_descriptor()
        self._engines.clear()
        super().close()
