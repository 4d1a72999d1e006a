"""The successor: it finds the process that runs these virtual hosts, prepares everything beside it, and goes on.

What needs time comes first: guardian, sockets, keys, plans. Devices, addresses, rules, settings and the gate stay as
they are. Each instance is taken over as its predecessor runs it; another configuration follows as a reload.

Thread: the one that starts the engine
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Literal

from .._unpatched import socket, time
from ..config import VirtualHost
from ..errors import CarpError
from ..events import Event, Inherited
from ..linux import lock
from ..linux.leftovers import Inventory
from . import line as lines
from .builder import Builder
from .instances import Instance, Instances
from .line import Line, LineBroken
from .places import Place

Inherit = Literal["auto", "held"] | int | None
"""From whom: whichever process runs the virtual hosts, one that only holds them, or the one at the other end of a
descriptor."""

_MOMENTS_WITHIN = 8.0
"""Seconds until the predecessor finds a moment for an instance, or has stopped what is to stop."""


_SILENCE = 0.2
"""Seconds without a word after which what was taken over is taken once more."""


class Heir:
    """Takes over what it can, into `instances`. What fails is as if there had been no predecessor."""

    def __init__(self, instances: Instances, builder: Builder, emit: Callable[[Event], None]) -> None:
        self._instances = instances
        self._runtime = instances.runtime
        self._builder = builder
        self._emit = emit
        self._process = 0

    def run(self, inherit: Inherit, places: Iterable[Place], inventory: Inventory) -> int:
        """Afterwards `instances` has what was taken over; it runs. Returns the predecessor's process, 0: none."""
        places = [one for one in places if one.carpdev is not None]
        for line in _lines(inherit, places):
            with line, contextlib.suppress(LineBroken, LookupError, ArithmeticError, TypeError, ValueError):
                self._succeed(line, places, inventory, inherit == "held")
        return self._process

    def _succeed(self, line: Line, places: list[Place], inventory: Inventory, held: bool) -> None:
        nonce = secrets.token_hex(16)
        wanted = [(one.carpdev.index, one.host) for one in places if one.carpdev is not None]
        line.send(lines.hello(wanted, nonce, held))
        answer, _fds = line.receive()
        if "offers" not in answer:
            if answer.get("ends"):
                # It stops what is wanted here, and then hangs up.
                line.receive(_MOMENTS_WITHIN)
            return
        self._process = int(answer["process"])
        prepared: dict[int, Instance] = {}
        try:
            for _ in range(int(answer["offers"])):
                offer, fds = line.receive()
                instance = self._prepare(offer, fds, places, inventory)
                if instance is not None:
                    prepared[int(offer["index"])] = instance
            nonces = (str(answer["nonce"]), nonce)
            proofs = {str(index): lines.proof(one.host, *nonces) for index, one in prepared.items()}
            line.send({"ready": proofs, "process": os.getpid()})
            while not (message := self._next(line)).get("end"):
                self._take_over(line, message, prepared)
        finally:
            for instance in prepared.values():
                self._builder.let_go(instance)

    def _next(self, line: Line) -> dict[str, Any]:
        """What the predecessor says next. Raises `LineBroken`."""
        give_up = time.monotonic() + _MOMENTS_WITHIN
        while not line.ready(_SILENCE) and time.monotonic() < give_up:
            # It may hang, and its guardian then lets go of what it was not told to forget.
            for instance in self._instances:
                self._runtime.retake(instance.index, quiet=True)
        return line.receive()[0]

    def _prepare(
        self, offer: dict[str, Any], fds: list[int], places: list[Place], inventory: Inventory
    ) -> Instance | None:
        """An instance that is ready to go on; None where it is not to be, or cannot."""
        with contextlib.ExitStack() as undo:
            opened = [undo.enter_context(socket.socket(fileno=fd)) for fd in fds]
            carpdev, values = int(offer["carpdev"]), offer["host"]
            place = next((one for one in places if _same(one, carpdev, values)), None)
            if place is None or place.carpdev is None or not opened:
                return None
            host: VirtualHost = lines.as_it_runs(place.host, values)
            try:
                kept = lock.VirtualHostLock.passed_on(
                    socket.socket(fileno=os.dup(opened[0].fileno())),
                    place.carpdev,
                    host.vhid,
                    (one.ip for one in host.addresses),
                )
                return self._builder.adopt(host, place.carpdev, kept, inventory, offer["device"])
            except (CarpError, OSError):
                return None

    def _take_over(self, line: Line, message: dict[str, Any], prepared: dict[int, Instance]) -> None:
        index = int(message["index"])
        left = message["left"]
        if left is None:
            if index in prepared:
                self._builder.let_go(prepared.pop(index))
            return
        instance = prepared[index]
        taken = self._runtime.inherit(instance.index, left, int(message["until"]))
        if taken:
            # From here on it is ours, whatever becomes of the line.
            del prepared[index]
            self._instances.add(instance)
        line.send({"taken": taken})
        if taken:
            assert instance.lock is not None
            instance.lock.claim()
            state = self._runtime.state(instance.index)
            host, at = instance.host, time.monotonic_ns()
            self._emit(Inherited(vhid=host.vhid, name=host.name, at=at, process=self._process, state=state))


def _same(place: Place, carpdev: int, values: dict[str, Any]) -> bool:
    """Whether a place is for the virtual host that is offered."""
    host = place.host
    here = place.carpdev is not None and place.carpdev.index == carpdev
    return here and (host.vhid, host.name) == (values["vhid"], values["name"]) and host.mac == values["mac"]


def _lines(inherit: Inherit, places: Iterable[Place]) -> list[Line]:
    if isinstance(inherit, int):
        return [Line(socket.socket(fileno=os.dup(inherit)))]
    holders = {lock.holder(one.carpdev.index, one.host.vhid) for one in places if one.carpdev is not None}
    return [line for process in sorted(holders - {0}) for line in lines.call(process)]
