"""The predecessor: it goes on until a successor in another process is ready, and hands on one instance after the other.

Each is handed on between two of its adverts: it is frozen, the successor goes on with it and says so, and only then it
is forgotten here. Its guardian waits for the next advert as ever: if neither process comes to that, the addresses go.
Where the successor does not say whether it has an instance, this process bows out, as after a crash.

Thread: supervisor
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from collections.abc import Callable
from typing import Any

from .._unpatched import selectors, time
from ..errors import CarpError
from ..events import Event, Failed, HandedOn
from ..protocol import NS_PER_SECOND
from . import line as lines
from .builder import Builder
from .instances import Instance, Instances
from .line import Line, LineBroken, Listener

_MARGIN = 100_000_000
"""ns until an instance is due, for it to be handed on now; a third of its interval is enough."""
_MOST_AHEAD = NS_PER_SECOND
"""ns that a successor has to go on with an instance that is not due sooner."""
_MOMENTS_WITHIN = 4.0
"""Seconds until there was a moment for each instance."""
_LOOK = 0.003
_SPOKEN_WITHIN = 10.0
"""Seconds for which a successor that has said what it wants, and then says nothing, keeps others out."""
_MOST_SILENT = 8
"""Callers that have said nothing yet; one more takes the place of the first."""


class Bequest:
    """Serves successors, one at a time. `held`: this engine only holds what it has for a successor."""

    def __init__(self, instances: Instances, builder: Builder, emit: Callable[[Event], None], held: bool) -> None:
        self._instances = instances
        self._runtime = instances.runtime
        self._builder = builder
        self._emit = emit
        self._held = held
        self._listener: Listener | None = None
        self._line: Line | None = None
        self._silent: list[Line] = []
        self._since = 0.0
        self._wants: list[list[Any]] = []
        self._nonces = ("", "")
        self._process = 0
        self._to_holder = False
        self._offered: dict[int, Instance] = {}
        self._selector: selectors.BaseSelector | None = None
        self.ended = 0
        """How many hand-overs have ended, well or not."""
        self.why = ""
        """Why the last one came to nothing; empty where it did not."""

    def listen(self) -> None:
        """Let successors find this process. Where they cannot, that is told, and the engine goes on."""
        try:
            self._listener = Listener()
        except CarpError as error:
            self._emit(Failed(vhid=0, name="", at=time.monotonic_ns(), what=str(error)))

    def attach(self, selector: selectors.BaseSelector) -> None:
        """From now on `selector` has what to wait for; its data are what to call then."""
        self._selector = selector
        if self._listener is not None:
            selector.register(self._listener, selectors.EVENT_READ, self._answer_call)

    def serve(self, line: Line, holder: bool = False) -> bool:
        """Have a successor, or a holder, at the other end of this line. Returns whether nobody else is there."""
        if self._line is not None and time.monotonic() - self._since < _SPOKEN_WITHIN:
            with contextlib.suppress(LineBroken):
                line.send({"no": "another successor is there", "ends": False})
            line.close()
            return False
        self._hang_up("another successor has come")
        self._line, self._since, self._offered, self._to_holder = line, time.monotonic(), {}, holder
        assert self._selector is not None
        self._selector.register(line, selectors.EVENT_READ, lambda: self._listen_to(line))
        return True

    def close(self) -> None:
        self._hang_up("the engine has ended")
        while self._silent:
            self._leave(self._silent[0]).close()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._emit = lambda _event: None  # nothing keeps the engine any longer

    def abandon(self) -> None:
        """In a forked child: close the copies. What waits for them is the parent's, and shared."""
        for one in (self._listener, self._line, *self._silent):
            if one is not None:
                one.close()

    def _answer_call(self) -> None:
        assert self._listener is not None
        line = self._listener.accept()
        if line is None:
            return
        if len(self._silent) >= _MOST_SILENT:
            self._leave(self._silent[0]).close()
        assert self._selector is not None
        self._silent.append(line)
        self._selector.register(line, selectors.EVENT_READ, lambda: self._hear_first(line))

    def _hear_first(self, line: Line) -> None:
        """A caller says its first word: until then it keeps nobody out."""
        # It may have left since the look that found it.
        if line in self._silent and self.serve(self._leave(line)):
            self._listen_to(line)

    def _leave(self, line: Line) -> Line:
        """Of those who have said nothing this is one no longer."""
        self._silent.remove(line)
        if self._selector is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(line)
        return line

    def _hang_up(self, why: str) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        if self._selector is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(line)
        line.close()
        self.ended += 1
        self.why = why

    def _listen_to(self, line: Line) -> None:
        """The successor has said something, or ended."""
        if line is not self._line:
            return
        try:
            message, fds = line.receive()
            for fd in fds:
                os.close(fd)
            if "hello" in message:
                self._offer(line, message)
            else:
                self._hand_on(line, message)
        except LineBroken as error:
            self._hang_up(str(error))
        except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
            self._hang_up(f"the successor says what makes no sense: {error!r}")

    # What there is

    def _offer(self, line: Line, message: dict[str, Any]) -> None:
        held_only = bool(message.get("held"))
        if held_only and not self._held:
            line.send({"no": "nothing is held here for a successor", "ends": False})
            self._hang_up("it takes only what is held")
            return
        why = lines.why_not(message)
        self._wants = list(message.get("wants", ()))
        if why:
            line.send({"no": why, "ends": True})
            self._stop([one for one in self._instances if self._is_wanted(one)])
            self._hang_up(why)
            return
        self._nonces = (secrets.token_hex(16), str(message["nonce"]))
        self._offered = {one.index: one for one in self._instances if one.present and self._is_wanted(one)}
        line.send({"offers": len(self._offered), "process": os.getpid(), "nonce": self._nonces[0]})
        for one in self._offered.values():
            assert one.lock is not None
            line.send(
                {
                    "index": one.index,
                    "carpdev": one.carpdev.index,
                    "host": lines.plain(one.host),
                    "device": one.device.bequest(),
                },
                [one.lock.fileno()],
            )

    def _is_wanted(self, instance: Instance) -> bool:
        return lines.conflicting(self._wants, instance.carpdev.index, instance.host)

    # One after the other

    def _hand_on(self, line: Line, message: dict[str, Any]) -> None:
        there = {one.index: one for one in self._instances if self._offered.get(one.index) is one}
        ready: dict[int, Instance] = {}
        for text, proof in dict(message["ready"]).items():
            one = there.get(int(text))
            known = one is not None and hmac.compare_digest(lines.proof(one.host, *self._nonces), str(proof))
            if one is not None and known and one.stopped_until is None:
                ready[one.index] = one
            else:
                line.send({"left": None, "index": int(text)})
        self._process = int(message.get("process", 0))
        # A holder has no reasons of its own.
        demoted = None if self._to_holder else self._demoted_by_trouble()
        give_up = time.monotonic() + _MOMENTS_WITHIN
        while ready:
            for index, one in tuple(ready.items()):
                if self._hand_on_one(line, one, demoted, last=time.monotonic() > give_up):
                    del ready[index]
            if ready:
                time.sleep(_LOOK)
        self._stop([one for one in self._instances if one.present and self._is_wanted(one)])
        line.send({"end": True})
        self._hang_up("")

    def _demoted_by_trouble(self) -> int:
        """The demotion that goes along: what the program has demoted is the successor's to find out."""
        readings = [self._runtime.reading(one.index) for one in self._instances]
        return sum(one.link_demotes + one.sending_demotes for one in readings)

    def _hand_on_one(self, line: Line, instance: Instance, demoted: int | None, last: bool) -> bool:
        """False where this is no moment for it; with the `last` one, it is not handed on."""
        left = None if last else self._runtime.freeze(instance.index, _MARGIN)
        if left is None:
            if last:
                line.send({"left": None, "index": instance.index})
            return last
        now = time.monotonic_ns()
        until = min(now + _MOST_AHEAD, _due(left, now) - min(_MARGIN, instance.host.interval // 3) // 2)
        if demoted is not None:
            left["machine"]["demotion"] = demoted
        try:
            line.send({"left": left, "index": instance.index, "until": until})
            answer, _fds = line.receive(1.0 + (until - now) / NS_PER_SECOND)
            taken = bool(answer["taken"])
        except (LineBroken, KeyError):
            self._bow_out(instance)
            raise
        if not taken:
            self._runtime.thaw(instance.index)
            return False
        self._forget(instance)
        return True

    def _bow_out(self, instance: Instance) -> None:
        """The successor may have it or not: as after a crash, another host takes over."""
        self._runtime.thaw(instance.index)
        self._runtime.stop_instance(instance.index)
        self._runtime.start_instance(instance.index)

    def _forget(self, instance: Instance) -> None:
        with contextlib.suppress(CarpError):
            self._runtime.hand_on(instance.index)
        self._instances.remove(instance)
        self._instances.close_carpdev_if_unused(instance.carpdev.index)
        if instance.lock is not None:
            instance.lock.close()
        host = instance.host
        self._emit(HandedOn(vhid=host.vhid, name=host.name, at=time.monotonic_ns(), process=self._process))

    def _stop(self, going: list[Instance]) -> None:
        """What the successor cannot go on with, and what would be in its way."""
        for instance in going:
            self._runtime.stop_instance(instance.index)
            self._instances.remove(instance)
        self._builder.dismantle_all(going)
        for instance in going:
            host = instance.host
            self._emit(HandedOn(vhid=host.vhid, name=host.name, at=time.monotonic_ns(), process=0))


def _due(left: dict[str, Any], now: int) -> int:
    """When the machine is due that is left."""
    machine = left["machine"]
    names = ("advert_due", "master_down_due", "takeover_due", "forget_errors_due", "withheld_until")
    dues = [machine[name] for name in names] + list(machine["families"].values()) + [left["announce_due"]]
    return min((int(due) for due in dues if due is not None), default=now + 2 * _MOST_AHEAD)
