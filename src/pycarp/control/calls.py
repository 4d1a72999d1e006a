"""What a request does to an engine. A call that takes longer is looked at again; nothing here waits.

Thread: control
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._unpatched import time
from ..errors import EngineError
from ..protocol import State
from .wire import BadRequest, Request

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.mailbox import Outcome

Reload = Callable[[], "Outcome[str]"]
"""Has the configuration read again by whoever owns the engine. The text says what was wrong, "" for nothing."""
Later = Callable[[], "dict[str, Any] | None"]
"""What a call gave, None while it is not done. It may raise, as the call itself."""
_SAME_WITHIN = 50_000_000
"""ns for which a snapshot is given to all that ask: many clients do not keep the engine busy."""
_LONGEST_WAIT = 600.0


class Calls:
    """Carries out the calls of one server's clients."""

    def __init__(self, engine: Engine, reload: Reload | None) -> None:
        self._engine = engine
        self._reload = reload
        self._values: dict[str, Any] = {}

    def run(self, request: Request) -> dict[str, Any] | Later:
        """The result, or what will have it. Raises `BadRequest`, and what the engine raises."""
        arguments = dict(request.arguments)
        match request.call:
            case "status":
                return self._status(arguments.get("which"))
            case "hand-over":
                return self._hand_over(arguments.get("which"), arguments.get("timeout"))
            case "demote" | "undemote":
                change = self._engine.demote if request.call == "demote" else self._engine.undemote
                return {"demotion": change(**_known(change, arguments))}
            case "maintenance":
                return {"warning": self._engine.maintenance(arguments["on"])}
            case "force":
                self._engine.force(arguments["which"], _state(arguments["state"]))
                return {}
            case "announce":
                return self._announce(arguments.get("which"))
            case "speak":
                self._engine.speak(arguments["spoken"], arguments.get("which"))
                return {"speaks": self._speaks()}
            case "reload":
                return self._read_again()
        raise BadRequest("the call is not one that is answered")  # the server has it

    def _status(self, which: int | str | None) -> dict[str, Any]:
        values = self._values
        if not values or time.monotonic_ns() - values["taken"] > _SAME_WITHIN:
            values = self._values = self._engine.snapshot().as_dict()
        if which is None:
            return values
        chosen = [one for one in values["instances"] if which in (one["name"], one["vhid"])]
        if not chosen:
            raise EngineError(f"no virtual host of this name or vhid is here: there is {self._names()}")
        return {**values, "instances": chosen}

    def _hand_over(self, which: int | str | None, timeout: float | None) -> dict[str, Any] | Later:
        if timeout is not None and not 0 <= timeout <= _LONGEST_WAIT:
            raise BadRequest(f"the timeout of hand-over is out of range: give 0 to {_LONGEST_WAIT:.0f} seconds")
        handing = self._engine.begin_hand_over(which)
        if timeout is None or not handing.names:
            return {"handed_over": dict.fromkeys(handing.names)}
        until = time.monotonic() + timeout

        def look() -> dict[str, Any] | None:
            outcome = handing.look()
            if None in outcome.values() and time.monotonic() < until:
                return None
            return {"handed_over": {name: bool(done) for name, done in outcome.items()}}

        return look

    def _announce(self, which: int | str | None) -> dict[str, Any]:
        for name in [which] if which is not None else [host.name for host in self._engine.hosts]:
            self._engine.announce(name)
        return {}

    def _read_again(self) -> Later:
        if self._reload is None:
            raise EngineError("this process has no files to read again: change them where it was started")
        future = self._reload()

        def look() -> dict[str, Any] | None:
            if not future.done():
                return None
            wrong = future.result()
            if wrong:
                raise EngineError(wrong)
            return {}

        return look

    def _speaks(self) -> dict[str, str]:
        return {one.name: one.speaks for one in self._engine.snapshot().instances if one.speaks}

    def _names(self) -> str:
        return ", ".join(f"{host.name} (vhid {host.vhid})" for host in self._engine.hosts)


def _known(function: Callable[..., int], arguments: dict[str, Any]) -> dict[str, Any]:
    """Those arguments that it takes."""
    return {name: value for name, value in arguments.items() if name in inspect.signature(function).parameters}


def _state(name: str) -> State:
    if name.upper() not in ("BACKUP", "MASTER"):
        raise BadRequest("state of force is neither BACKUP nor MASTER: give one of the two")
    return State[name.upper()]
