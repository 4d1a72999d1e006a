"""Figures of an engine for those who watch it: Prometheus, OpenTelemetry, and one page for people.

    from prometheus_client import REGISTRY
    REGISTRY.register(pycarp.metrics.Collector(engine))        # beside the figures of your own program

    with pycarp.metrics.Port(engine, "127.0.0.1", 9112):       # /metrics, and a page at /
        ...

    pycarp.metrics.instrument(engine)                          # OpenTelemetry's global meter provider

The extra ``metrics`` brings prometheus-client; OpenTelemetry's API is used where it is installed. Everything is read
from `Engine.snapshot` when somebody asks, in the thread that asks.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Collector", "Port", "instrument"]

_PLACES = {"Collector": "collector", "Port": "port", "instrument": "telemetry"}


def __getattr__(name: str) -> Any:
    # Each needs another library: only what is asked for is imported.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
