"""Where the virtual hosts of an engine speak: a carpdev for each, or what is missing for one.

Thread: supervisor, and the one that starts the engine
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .._records import dataclass
from ..config import VirtualHost
from ..errors import ConfigError, InterfaceError, InterfaceMissing
from ..linux.interfaces import Interface, choose_carpdev
from .instances import Instance

NOWHERE = Interface(0, "", bytes(6), up=False, running=False)
"""The carpdev of an instance that waits for one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A virtual host and its carpdev; where there is none, `missing` says in one sentence what is.

    `hopeful`: that may come by itself.
    """

    host: VirtualHost
    carpdev: Interface | None
    missing: str = ""
    hopeful: bool = True

    def without_carpdev(self, error: InterfaceError) -> Place:
        """The same virtual host where its carpdev cannot be used."""
        return Place(self.host, None, str(error), isinstance(error, InterfaceMissing))


def places_to_start(hosts: Iterable[VirtualHost], interfaces: tuple[Interface, ...], wait: bool) -> tuple[Place, ...]:
    """With `wait`, what cannot start now has no carpdev; otherwise that is raised."""
    places = []
    for host in hosts:
        try:
            places.append(Place(host, choose_carpdev(host, interfaces)))
        except InterfaceError as error:
            if not wait:
                raise
            places.append(Place(host, None).without_carpdev(error))
    return without_conflicts(places)


def places_to_change_to(
    hosts: Iterable[VirtualHost], interfaces: tuple[Interface, ...], wait: bool, running: Mapping[str, Instance]
) -> tuple[Place, ...]:
    """For a running engine with these instances, by name.

    What runs keeps its carpdev while its addresses and its `carpdev` stay the same, and does not give it up for one
    that is missing: that is raised. An instance that waits goes on waiting. What is new waits only with `wait`.
    """
    places = []
    for host in hosts:
        former = running.get(host.name)
        if former is not None and _finds(former.host) == _finds(host):
            places.append(Place(host, former.carpdev if former.present else None, former.missing))
            continue
        try:
            places.append(Place(host, choose_carpdev(host, interfaces)))
        except InterfaceMissing as error:
            if former is not None and former.present:
                raise InterfaceMissing(f"{host.name} runs, and does not move to what is missing: {error}") from None
            if former is None and not wait:
                raise
            places.append(Place(host, None, str(error)))
    return without_conflicts(places)


def one_group(first: VirtualHost, second: VirtualHost, carpdev: str) -> str:
    """The sentence about two virtual hosts that would be one group."""
    return (
        f"{first.name} and {second.name} both have vhid {second.vhid} on {carpdev}: "
        "give each group on a link its own vhid"
    )


def without_conflicts(places: list[Place]) -> tuple[Place, ...]:
    """No two may be one group or one device."""
    names: set[str] = set()
    groups: dict[tuple[int, int], VirtualHost] = {}
    for place in places:
        host, carpdev = place.host, place.carpdev
        if host.name in names:
            raise ConfigError(f"two virtual hosts are called {host.name}: give each a name of its own", "name")
        names.add(host.name)
        former = host if carpdev is None else groups.setdefault((carpdev.index, host.vhid), host)
        if carpdev is not None and former is not host:
            raise ConfigError(one_group(former, host, carpdev.name), "vhid")
    return tuple(places)


def _finds(host: VirtualHost) -> tuple[object, ...]:
    """What its carpdev is chosen by."""
    return host.carpdev, host.addresses
