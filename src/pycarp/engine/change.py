"""A change of the secret or the addresses: what goes on from one configuration to the next, and what is said of it.

With which of the two an instance signs is its authenticator's (`pycarp._python.change`).

Thread: any caller
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .._unpatched import time
from ..config import VirtualHost
from ..events import ChangedAtOnce, ChangeStep, Event
from ..protocol import NEXT
from ..sentences import changed_at_once

if TYPE_CHECKING:
    from ..protocol.abc import Authenticator
    from .instances import Instance
    from .plan import Plan


def same(before: VirtualHost, after: VirtualHost) -> bool:
    """Whether both have the same authenticator."""
    return _now(before) == _now(after) and _then(before) == _then(after)


def _now(host: VirtualHost) -> tuple[object, ...]:
    """What an authenticator is made of, but for a change."""
    return host.passphrase, host.vhid, host.dialect, host.replay, frozenset(address.ip for address in host.signed)


def _then(host: VirtualHost) -> tuple[object, ...] | None:
    """The same after the change that is under way; None: there is none."""
    if host.following is None:
        return None
    secret, addresses = host.following
    return secret, host.vhid, host.dialect, host.replay, frozenset(address.ip for address in addresses)


def go_on(authenticator: Authenticator, host: VirtualHost, former: Plan) -> None:
    """Let a new authenticator go on from that of the former plan, where a change begins, ends or is withdrawn."""
    learned = former.authenticator.bequest()
    if _now(host) == _now(former.host):
        if _then(host) != _then(former.host):
            learned["change"] = None
    elif _now(host) == _then(former.host):
        learned["heard"] = [name.removeprefix(NEXT) for name in learned["heard"] if name.startswith(NEXT)]
        learned["change"] = None
    else:
        return
    authenticator.inherit(learned)
    if host.following is not None and learned["change"] is None:
        # Until it is told, or hears the new, nothing changes on the wire.
        authenticator.speak("old")
        authenticator.speak("auto")


def of_reload(before: VirtualHost, after: VirtualHost, former: Authenticator, now: int) -> Iterator[Event]:
    """The event of a reload that begins, ends or withdraws a change, or does without; `former` is what was there."""
    who: dict[str, Any] = {"vhid": after.vhid, "name": after.name, "at": now}
    if before.vhid != after.vhid or same(before, after):
        return
    if _now(before) == _now(after):
        begins = after.following is not None
        why = "both are accepted" if begins else "the change is withdrawn"
        yield ChangeStep(speaks="old", why=why, **who)
    elif _now(after) == _then(before) and former.speaks != "old":
        yield ChangeStep(speaks="new", why="the change is done", **who)
    elif before.passphrase != after.passphrase:
        yield ChangedAtOnce(what="secret", advice=changed_at_once("secret"), **who)
    elif set(before.signed) != set(after.signed):
        yield ChangedAtOnce(what="addresses", advice=changed_at_once("addresses"), **who)


def of_start(host: VirtualHost, authenticator: Authenticator, now: int) -> Iterator[Event]:
    """The event of a virtual host that starts while a change is under way."""
    if authenticator.speaks:
        why = "the change is under way"
        yield ChangeStep(vhid=host.vhid, name=host.name, at=now, speaks=authenticator.speaks, why=why)


def speak(instances: Iterable[Instance], which: str, now: int | None = None) -> Iterator[Event]:
    """Tell those of these that have a change under way what to sign with. Raises `ConfigError` if none has."""
    chosen = tuple(instances)
    changing = [one for one in chosen if one.plan.authenticator.speaks] or chosen
    for instance in changing:
        authenticator, host = instance.plan.authenticator, instance.host
        authenticator.speak(which)
        why = "it follows what it hears" if which == "auto" else "it was told so"
        at = time.monotonic_ns() if now is None else now
        yield ChangeStep(vhid=host.vhid, name=host.name, at=at, speaks=authenticator.speaks, why=why)
