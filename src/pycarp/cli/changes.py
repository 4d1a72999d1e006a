"""What a configuration that was read again has changed, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable

from .._records import fields
from ..config import VirtualHost

_NOT_SHOWN = {"passphrase": "secret", "nextpass": "next secret"}


def changes(before: Iterable[VirtualHost], after: Iterable[VirtualHost]) -> str:
    """Which virtual hosts came, went or changed, and in which fields; no value is shown, so no secret either."""
    former = {host.name: host for host in before}
    now = {host.name: host for host in after}
    said = [f"{name} is new" for name in now if name not in former]
    said += [f"{name} is gone" for name in former if name not in now]
    for name, host in now.items():
        if name in former and (others := _fields(former[name], host)):
            said.append(f"{name} has changed: {', '.join(others)}")
    return f"the configuration was read again: {'; '.join(said) or 'nothing has changed'}"


def _fields(one: VirtualHost, other: VirtualHost) -> list[str]:
    names = [field.name for field in fields(one) if getattr(one, field.name) != getattr(other, field.name)]
    return [name for name in names if name not in _NOT_SHOWN] + [
        _NOT_SHOWN[name] for name in names if name in _NOT_SHOWN
    ]
