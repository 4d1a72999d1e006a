"""Serves figures beside an engine that a command runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import CarpError
from .output import complain

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..metrics.words import Place


@contextlib.contextmanager
def measured(engine: Engine, place: Place | None, command: str) -> Iterator[None]:
    """Serve them while the context lasts. Where that cannot be, one sentence says so, and the engine runs on."""
    port = None
    if place is not None:
        try:
            from ..metrics.port import Port

            port = Port(engine, *place)
        except ModuleNotFoundError as error:
            if error.name is None or not error.name.startswith("prometheus_client"):
                raise
            complain(f"{command}: metrics need prometheus-client: install it with pip install 'pycarp[metrics]'")
        except CarpError as error:
            complain(f"{command}: {error}")
    try:
        yield
    finally:
        if port is not None:
            port.close()
