"""`instrument`: an engine's figures for OpenTelemetry, through its API alone. The program chooses the exporter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter

from ..errors import EngineError
from ..protocol import State

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.snapshot import InstanceSnapshot

_GAUGES: tuple[tuple[str, str, Callable[[InstanceSnapshot], float]], ...] = (
    ("pycarp.master", "1: this host is MASTER.", lambda one: one.state is State.MASTER),
    ("pycarp.owns", "1: the addresses are ordered here.", lambda one: one.owns),
    ("pycarp.well", "1: nothing is wrong that the engine knows of.", lambda one: one.well),
    ("pycarp.demotion", "The demotion counter.", lambda one: one.demotion),
    ("pycarp.advert.late", "How late the last advert of a MASTER was sent, in seconds.", lambda one: one.late / 1e9),
)


def instrument(engine: Engine, provider: MeterProvider | None = None) -> Meter:
    """Add an engine's figures to a meter provider, without one to the global one. Once it has stopped there are none.

    Gauges have the attributes ``pycarp.name`` and ``pycarp.vhid``. ``pycarp.packets`` has the kernel's name of each
    counter in ``pycarp.counter``.
    """
    meter = get_meter("pycarp") if provider is None else provider.get_meter("pycarp")

    def observe(value: Callable[[InstanceSnapshot], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [Observation(float(value(one)), _attributes(one)) for one in _instances(engine)]

    for name, about, value in _GAUGES:
        meter.create_observable_gauge(name, callbacks=[observe(value)], description=about)

    def packets(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {**_attributes(one), "pycarp.counter": counter})
            for one in _instances(engine)
            for counter, count in one.counters.as_dict().items()
        ]

    meter.create_observable_counter("pycarp.packets", callbacks=[packets], description="Counters of netstat -p carp.")
    return meter


def _instances(engine: Engine) -> tuple[InstanceSnapshot, ...]:
    try:
        return engine.snapshot().instances
    except EngineError:
        return ()


def _attributes(one: InstanceSnapshot) -> dict[str, Any]:
    return {"pycarp.name": one.name, "pycarp.vhid": one.vhid, "pycarp.state": one.state.name}
