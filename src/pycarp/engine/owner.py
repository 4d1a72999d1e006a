"""`Owner`: floating addresses whose holder is decided by the program, as by a leader's lease.

Thread: any caller
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Self

from .._unpatched import time
from ..config import AddressLike, Led
from ..events import Event
from ..protocol import NS_PER_SECOND, State
from ..protocol.choices import Mac
from ..protocol.timing import TENURE_FOREVER
from .engine import Engine

if TYPE_CHECKING:
    from ..hooks.hook import Hook
    from ..stats import Measures
    from .snapshot import Snapshot

_SHORTEST, _LONGEST = 0.1, 86400.0


class Owner:
    """Takes floating addresses and lets go of them when the program says so: no adverts, and no secret.

        with Owner("10.13.37.42/24", vhid=7) as owner:
            while leader.renew():                       # etcd, Patroni, Kubernetes ... decide
                owner.renew(10) or owner.take(10)
                time.sleep(3)

    What the program has said holds for a time, the tenure, which it moves on by `renew`. At its end the addresses go by
    themselves: the runtime drops them, or the guardian if this program is stopped, or the gate if that is as well.
    When this program dies they go at once. While they are here they have all that a MASTER's have: device, routes,
    settings, announcements, repair.

    `vhid` (1-255) is the number of the virtual MAC, 00:00:5e:00:01:VHID: the same on all hosts that may have these
    addresses, and no other group's on this LAN (event `AdvertRejected`). With ``mac="interface"`` they have the
    carpdev's MAC. `carpdev`, `name`, `announcements` and `hooks` are those of `VirtualHost`; `on_event`, `queue`,
    `realtime`, `missing` and `wait` those of `Engine`. Everything happens in the network namespace of the thread that
    calls `start`; it needs CAP_NET_ADMIN and CAP_NET_RAW. An owner runs once.
    """

    def __init__(
        self,
        *addresses: AddressLike,
        vhid: int,
        carpdev: str | None = None,
        name: str | None = None,
        mac: Mac = "virtual",
        announcements: int = 3,
        hooks: tuple[Hook, ...] = (),
        on_event: Callable[[Event], object] | None = None,
        queue: int = 1024,
        realtime: bool | Literal["auto"] = "auto",
        missing: Literal["wait", "refuse"] = "refuse",
        wait: float = 0,
    ) -> None:
        host = Led(
            vhid=vhid,
            addresses=addresses,
            # Nobody knows it: no advert on this LAN is one of ours.
            passphrase=os.urandom(9).hex(),
            carpdev=carpdev,
            name=name,
            mac=mac,
            announcements=announcements,
            hooks=hooks,
        )
        # Adverts are heard only to tell of a group that has the same virtual MAC.
        hears = mac == "virtual"
        self._engine = self._make_engine(
            host, on_event=on_event, queue=queue, allow=hears, realtime=realtime, missing=missing, wait=wait
        )

    def __repr__(self) -> str:
        return repr(self._engine).replace("pycarp.Engine", "pycarp.Owner")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Prepare device and sockets, and take nothing yet. Raises as `Engine.start`; then nothing is left behind."""
        self._engine.start()

    def stop(self) -> None:
        """Let go of the addresses, remove the device, end the threads. May be called again."""
        self._engine.stop()

    def take(self, for_seconds: float | None = None) -> bool:
        """Take the addresses for that time from now on, 0.1 to 86400 s, and return whether they are here.

        None is until `release`, or until this program dies or stands still for a second. The time counts from this
        call: subtract what the lease had run by then. False where they cannot be here now (the interface is down, the
        kernel refuses): they come by themselves when they can, until the time is over, and events say why.
        """
        return self._engine._running().hold(self._until(for_seconds))

    def renew(self, for_seconds: float | None = None) -> bool:
        """Have the addresses for that time from now on, if their time is not over; waits for nothing.

        False where it is: nothing has changed, and a program that is still the leader takes them again.
        """
        return self._engine._running().hold(self._until(for_seconds), again=True)

    def release(self) -> None:
        """Let go of the addresses; when this returns, nobody answers for them here. Without them nothing happens."""
        self._engine._running().hold(0)

    @property
    def held(self) -> bool:
        """Whether the addresses are this host's now."""
        supervisor = self._engine._running()
        return all(supervisor.runtime.owns(one.index) for one in supervisor.instances)

    @property
    def state(self) -> State:
        """MASTER with the addresses, INIT without them."""
        supervisor = self._engine._running()
        (state,) = (supervisor.runtime.state(one.index) for one in supervisor.instances)
        return state

    @property
    def blocking(self) -> Engine:
        """The engine that does it: for rooms that watch one, as `pycarp.metrics.Port`. Who steers an owner calls its
        own methods."""
        return self._engine

    def announce(self) -> None:
        """Send gratuitous ARP and neighbour advertisements once more, where the addresses are here."""
        (host,) = self._engine.hosts
        self._engine.announce(host.name)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """See `Engine.events`."""
        return self._engine.events(timeout)

    def poll(self) -> Event | None:
        """See `Engine.poll`."""
        return self._engine.poll()

    def fileno(self) -> int:
        """See `Engine.fileno`."""
        return self._engine.fileno()

    def snapshot(self) -> Snapshot:
        """See `Engine.snapshot`."""
        return self._engine.snapshot()

    def measures(self) -> Measures:
        """See `Engine.measures`."""
        return self._engine.measures()

    def _make_engine(self, host: Led, **options: Any) -> Engine:
        return Engine(host, **options)

    def _boottime(self) -> int:
        """CLOCK_BOOTTIME: a leader's lease goes on while this machine sleeps."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def _until(self, seconds: float | None) -> int:
        """The end of a tenure."""
        if seconds is None:
            return TENURE_FOREVER
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not _SHORTEST <= seconds <= _LONGEST:
            raise ValueError(f"{seconds!r} is out of range: give 0.1 to 86400 seconds, or None")
        return self._boottime() + int(seconds * NS_PER_SECOND)
