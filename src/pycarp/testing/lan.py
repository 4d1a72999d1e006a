"""`CarpLan`: a LAN in memory for the tests of programs that embed an engine.

Thread: any caller; the test's thread lets time pass
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from ..config import AddressLike, VirtualHost
from ..lab.clients import Client
from ..lab.network import Record
from ..lab.simulation import SECOND
from ..protocol import State
from .engine import SimulatedAioEngine, SimulatedAioOwner, SimulatedEngine, SimulatedOwner
from .host import EngineHost
from .network import SharedLan


class CarpLan:
    """Hosts with real engines on a switch in memory, on a clock that stands still until a test lets time pass.

        with CarpLan(seed=1) as lan:
            first = lan.engine("first", VirtualHost(vhid=7, passphrase="s", addresses=["10.0.0.7/24"]))
            ...
            lan.run(5)

    The machines and the checks of adverts are those of the implementation in use. The same `seed` and the same calls
    give the same run to the nanosecond, also with `loss` (the part of all frames that does not arrive) and `jitter`
    (seconds that a frame takes longer at most). Times are seconds where nothing else is said.
    """

    def __init__(self, seed: int = 0, *, loss: float = 0.0, jitter: float = 0.0) -> None:
        self._lan = SharedLan(seed=seed)
        self._engines: dict[str, SimulatedEngine] = {}
        self._made: list[SimulatedEngine] = []
        self.loss = loss
        self.jitter = jitter

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop every engine that runs. The descriptors of all that there were end, too."""
        for engine in self._made:
            engine.stop()
            engine._queue.close_descriptor()
        self._made.clear()

    @property
    def loss(self) -> float:
        """The part of all frames that does not arrive, each for itself: 0 to 1."""
        return self._lan.loss

    @loss.setter
    def loss(self, loss: float) -> None:
        if not 0 <= loss <= 1:
            raise ValueError(f"loss {loss!r} is no part of all frames: give 0 to 1")
        self._lan.loss = loss

    @property
    def jitter(self) -> float:
        """Seconds that a frame takes longer at most."""
        return self._lan.jitter / SECOND

    @jitter.setter
    def jitter(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"jitter {seconds!r} would bring frames before they are sent: give 0 or more seconds")
        self._lan.jitter = int(seconds * SECOND)

    # Hosts

    def engine(
        self, name: str, *hosts: VirtualHost, address: str | Iterable[str] | None = None, **options: Any
    ) -> SimulatedEngine:
        """An engine on the host of this name, which is plugged in when it is new. It is not started yet.

        `options` are those of `pycarp.Engine`. `address` is the host's own, or one for each family, with a prefix
        length; without it, it gets some of 198.18.0.0/15 and fd00:c42b::/64. After the stop or the death of its engine
        a host may have another.
        """
        return self._made_on(name, SimulatedEngine(self._free_place(name, address), *hosts, **options))

    def owner(
        self,
        name: str,
        *addresses: AddressLike,
        vhid: int,
        address: str | Iterable[str] | None = None,
        **options: Any,
    ) -> SimulatedOwner:
        """A `pycarp.Owner` on the host of this name, as `engine` has an engine there."""
        owner = SimulatedOwner(self._free_place(name, address), *addresses, vhid=vhid, **options)
        self._made_on(name, owner._engine)
        return owner

    def _free_place(self, name: str, address: str | Iterable[str] | None) -> EngineHost:
        place = self._lan.hosts.get(name)
        if place is None:
            number = len(self._lan.switch.cables) + 1
            own = (f"198.18.{number >> 8}.{number & 255}/15", f"fd00:c42b::{number:x}/64")
            place = self._lan.hosts[name] = EngineHost(self._lan, name, own if address is None else address)
        elif name in self._engines and self._running(name):
            raise ValueError(f"an engine runs on {name} already: stop it, kill it, or take another name")
        assert isinstance(place, EngineHost)
        return place

    def _made_on(self, name: str, engine: SimulatedEngine) -> SimulatedEngine:
        self._engines[name] = engine
        self._made.append(engine)
        return engine

    def aio_engine(
        self, name: str, *hosts: VirtualHost, address: str | Iterable[str] | None = None, **options: Any
    ) -> SimulatedAioEngine:
        """As `engine`, for asyncio: a `pycarp.aio.Engine`."""
        return SimulatedAioEngine(self.engine(name, *hosts, address=address, **options))

    def aio_owner(
        self,
        name: str,
        *addresses: AddressLike,
        vhid: int,
        address: str | Iterable[str] | None = None,
        **options: Any,
    ) -> SimulatedAioOwner:
        """As `owner`, for asyncio: a `pycarp.aio.Owner`."""
        return SimulatedAioOwner(self.owner(name, *addresses, vhid=vhid, address=address, **options))

    def client(self, name: str, address: str = "198.19.255.254/15") -> Client:
        """A client on the LAN that resolves addresses and pings them, and counts outages."""
        return self._lan.clients.get(name) or self._lan.client(name, address)

    def _place(self, name: str) -> EngineHost:
        place = self._lan.hosts.get(name)
        if not isinstance(place, EngineHost):
            raise ValueError(f"there is no host {name!r} on this LAN: there is {', '.join(self._lan.hosts) or 'none'}")
        return place

    def _running(self, name: str) -> bool:
        return self._engines[name]._supervisor is not None

    # Time

    @property
    def now(self) -> float:
        """Seconds since the LAN began."""
        return self._lan.now / SECOND

    def run(self, seconds: float) -> None:
        """Let so much time pass: it takes as long as it takes to compute."""
        self._lan.run(int(seconds * SECOND))

    async def arun(self, seconds: float) -> None:
        """As `run`, in a thread of its own, so that the event loop and what it serves go on meanwhile."""
        await asyncio.to_thread(self.run, seconds)

    def run_until(self, true: Callable[[], object], within: float = 60.0) -> float:
        """Let time pass until `true()` is, and return how many seconds that took. `AssertionError` after `within`."""
        begun = self._lan.now
        until = begun + int(within * SECOND)
        while not true():
            if not self._lan.step(until) and not true():
                raise AssertionError(f"it is not so after {within:g} s: {self._described()}")
        return (self._lan.now - begun) / SECOND

    # Faults

    def cut(self, name: str, *, seen: bool = True) -> None:
        """Pull the cable of a host. `seen`: it loses carrier; otherwise the fault is out of its sight."""
        with self._lan.lock:
            self._lan.unplug(self._place(name), seen=seen)

    def deafen(self, name: str) -> None:
        """A host hears nothing, but is heard."""
        with self._lan.lock:
            self._lan.deafen(self._place(name))

    def heal(self, name: str) -> None:
        """Put the cable back, whatever was wrong with it."""
        with self._lan.lock:
            self._lan.plug(self._place(name))

    def kill(self, name: str) -> None:
        """The program of a host dies, as by SIGKILL: the guardian lets go of the addresses and bows out.

        Its engine is of no use from then on; `engine` makes another one on this host.
        """
        self._end(name, bowout=True)

    def crash(self, name: str) -> None:
        """A host loses power: nobody says anything, and the others have to notice."""
        self._end(name, bowout=False)

    def _end(self, name: str, *, bowout: bool) -> None:
        self._place(name).die(bowout=bowout)
        if name in self._engines:
            self._engines[name]._die()

    # What there is

    @property
    def log(self) -> list[Record]:
        """Every event of every host, in order."""
        return self._lan.log

    def masters(self, vhid: int | None = None) -> list[str]:
        """The hosts that are MASTER of a group, or of any."""
        return [
            name
            for name, host in self._lan.hosts.items()
            if any(host.state(one) is State.MASTER for one in host.vhids if vhid in (None, one))
        ]

    def master(self, vhid: int | None = None) -> str | None:
        """The one host that is MASTER; None where there is none, or several are: `masters` says which."""
        return _only(self.masters(vhid))

    def holder(self, address: str) -> str | None:
        """The one host that answers for a floating address; None where none or several do."""
        return _only(self._lan.holders(address.partition("/")[0]))

    def _described(self) -> str:
        return "; ".join(self._states()) or "no engine runs"

    def _states(self) -> Iterator[str]:
        for name, host in list(self._lan.hosts.items())[:16]:
            states = ", ".join(f"vhid {vhid} is {host.state(vhid).name}" for vhid in host.vhids)
            yield f"{name}: {states or 'no engine runs'}"


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None
