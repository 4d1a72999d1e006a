"""The words of ``metrics``: where to listen."""

from __future__ import annotations

from typing import NamedTuple

from ..ifconfig.statements import Words


class Place(NamedTuple):
    """An address of this machine and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def read(words: Words) -> Place:
    """``ADDRESS:PORT``; ``:PORT`` is that of 127.0.0.1."""
    return Place(*words.address_and_port())
