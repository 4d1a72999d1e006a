"""What an engine and its calls are given: right, or an error that says what to give.

Thread: any caller
"""

from __future__ import annotations

from collections.abc import Iterable

from ..config import VirtualHost
from ..errors import ConfigError, EngineError
from ..protocol import NS_PER_SECOND

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from typing import Protocol, TypeVar

    class _Named(Protocol):
        @property
        def host(self) -> VirtualHost: ...

    T = TypeVar("T", bound=_Named)


def chosen(instances: Iterable[T], which: int | str) -> T:
    """The one with this vhid or name. Raises `EngineError` where none or several have it."""
    instances = tuple(instances)
    found = [instance for instance in instances if which in (instance.host.name, instance.host.vhid)]
    if not found:
        known = ", ".join(f"{instance.host.name} (vhid {instance.host.vhid})" for instance in instances)
        raise EngineError(f"no virtual host {which!r} here: there is {known}")
    if len(found) > 1:
        names = ", ".join(instance.host.name for instance in found)
        raise EngineError(f"vhid {which} stands on several interfaces: say which, {names}")
    return found[0]


def checked_hosts(hosts: tuple[VirtualHost, ...]) -> tuple[VirtualHost, ...]:
    for host in hosts:
        if not isinstance(host, VirtualHost):
            several = isinstance(host, list | tuple | set)
            remedy = "give them as separate arguments: Engine(*hosts)" if several else "make one: VirtualHost(vhid=...)"
            raise ConfigError(f"an engine takes virtual hosts, and was given a {type(host).__name__}: {remedy}")
    if not hosts:
        raise ConfigError("an engine without virtual hosts has nothing to do: give at least one")
    for host in hosts:
        if not host.addresses:
            raise ConfigError(f"{host.name} has no address: give at least one", "addresses")
    return hosts


def checked_options(allow: bool, on_event: object, queue: int) -> None:
    if not isinstance(allow, bool):
        raise ConfigError(f"allow is of type {type(allow).__name__}, not a bool: give True or False", "allow")
    if on_event is not None and not callable(on_event):
        raise ConfigError(f"on_event is of type {type(on_event).__name__}: give what can be called", "on_event")
    if isinstance(queue, bool) or not isinstance(queue, int):
        raise ConfigError(f"queue is of type {type(queue).__name__}, not a whole number: give 1 or more", "queue")


def checked_choices(realtime: object, missing: object, inherit: object) -> None:
    if realtime not in (True, False, "auto"):
        raise ConfigError(f'realtime {realtime!r} is unknown: give True, False or "auto"', "realtime")
    if missing not in ("wait", "refuse"):
        raise ConfigError(f'missing {missing!r} is unknown: give "wait" or "refuse"', "missing")
    if inherit not in ("auto", "held", None) and (isinstance(inherit, bool) or not isinstance(inherit, int)):
        raise ConfigError(f'inherit {inherit!r} is unknown: give "auto", "held", a descriptor or None', "inherit")


def watchdog_ns(seconds: float | None) -> int:
    """In ns, 0 for none."""
    if seconds is None:
        return 0
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.01 <= seconds <= 86400:
        raise ConfigError(f"watchdog {seconds!r} is out of range: give 0.01 to 86400 seconds, or None", "watchdog")
    return int(seconds * NS_PER_SECOND)


def free_within(seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
        raise ConfigError(f"wait {seconds!r} is out of range: give 0 to 3600 seconds", "wait")
    return seconds


def positive(by: int) -> int:
    if isinstance(by, bool) or not isinstance(by, int) or by < 1:
        raise ValueError(f"a demotion of {by!r} is none: give a whole number of 1 or more")
    return by
