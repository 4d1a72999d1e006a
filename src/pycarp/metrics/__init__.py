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
_NEEDS = {
    "prometheus_client": "prometheus-client: pip install 'pycarp[metrics]'",
    "opentelemetry": "OpenTelemetry's API: pip install opentelemetry-api",
}


def __getattr__(name: str) -> Any:
    # Each needs another library: only what is asked for is imported.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        needed = _NEEDS.get((error.name or "").partition(".")[0])
        if needed is None:
            raise
        raise ModuleNotFoundError(f"pycarp.metrics.{name} needs {needed}", name=error.name) from None
