"""`Collector`: an engine's figures as prometheus-client's metric families, with the kernel's names for its counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector as _Collector

from ..errors import EngineError
from ..protocol import State
from .tally import Tally

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.snapshot import InstanceSnapshot, Snapshot

_FIRST, _LAST = 10, 33
"""Of the powers of two in ns that become limits of buckets: 1 us to 8.6 s."""
_COUNTERS = {
    "ipackets": "Adverts received over IPv4.",
    "ipackets6": "Adverts received over IPv6.",
    "badif": "Adverts refused: they came in on an interface without a virtual host, or by unicast.",
    "badttl": "Adverts refused: their TTL or hop limit is not 255.",
    "hdrops": "Adverts refused: too short.",
    "badsum": "Adverts refused: wrong checksum.",
    "badver": "Adverts refused: another version.",
    "badlen": "Adverts refused: another length.",
    "badauth": "Adverts refused: wrong digest.",
    "badvhid": "Adverts of a vhid that is not here.",
    "badaddrs": "Kept for the kernel's table; never raised.",
    "opackets": "Adverts sent over IPv4.",
    "opackets6": "Adverts sent over IPv6.",
    "onomem": "Adverts that could not be sent.",
    "ostates": "Kept for the kernel's table; never raised.",
    "preempt": "Kept for the kernel's table; never raised.",
    "altered": "Adverts of pycarp hosts whose priority was changed on the way.",
    "echo": "Adverts of this host that came back.",
    "replayed": "Old adverts of other hosts that came again.",
}
_HISTOGRAMS = {
    "wakeup": ("wakeup_delay", "From a deadline to the runtime's looking at it."),
    "sending": ("advert_delay", "From a deadline to its advert being sent."),
    "takeover": (
        "takeover_duration",
        "From the decision to take over to the kernel's word that the addresses are here.",
    ),
}


class Collector(_Collector):
    """For a registry of prometheus-client: ``REGISTRY.register(Collector(engine))``.

    The engine has to run. Once it has stopped there are no figures. Transitions and events are counted from the
    collector's making on. `close` gives back what the engine keeps for it.
    """

    def __init__(self, engine: Engine, tally: Tally | None = None) -> None:
        self._engine = engine
        self._own = tally is None
        self._tally = Tally(engine) if tally is None else tally

    def close(self) -> None:
        """The engine keeps no queue for it any longer."""
        if self._own:
            self._tally.close()

    def describe(self) -> Iterable[Metric]:
        """None by name: a registry need not ask an engine to know them."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families, from one snapshot."""
        try:
            snapshot = self._engine.snapshot()
        except EngineError:
            return
        yield from _of_engine(snapshot)
        yield from _of_instances(snapshot.instances)
        yield from _of_checks(snapshot.instances)
        yield from _counters(snapshot.instances)
        yield from _histograms(snapshot)
        yield from self._counted()

    def _counted(self) -> Iterator[Metric]:
        transitions = CounterMetricFamily(
            "pycarp_transitions", "Changes of state.", labels=("name", "before", "after", "reason")
        )
        for kind, count in self._tally.transitions().items():
            transitions.add_metric(kind, count)
        yield transitions
        events = CounterMetricFamily("pycarp_events", "Events.", labels=("event", "severity"))
        for (event, severity), count in self._tally.events().items():
            events.add_metric((event, severity), count)
        yield events


def _of_engine(snapshot: Snapshot) -> Iterator[Metric]:
    about = {"version": snapshot.version, "implementation": snapshot.implementation}
    yield InfoMetricFamily("pycarp", "The engine.", value=about)
    started = (snapshot.time - (snapshot.taken - snapshot.since)) / 1e9
    yield GaugeMetricFamily("pycarp_start_time_seconds", "When the engine started, seconds since 1970.", started)
    yield GaugeMetricFamily("pycarp_well", "1: nothing is wrong that the engine knows of.", snapshot.well)
    yield GaugeMetricFamily("pycarp_guardian_up", "1: there is a guardian.", snapshot.guardian is not None)
    yield GaugeMetricFamily("pycarp_realtime", "1: the runtime runs under SCHED_FIFO.", snapshot.realtime)
    yield GaugeMetricFamily("pycarp_maintenance", "1: the host is in maintenance.", snapshot.maintenance)
    lost = snapshot.measures.ring_losses
    yield CounterMetricFamily("pycarp_ring_losses", "Frames that found no room in the packet ring.", lost)


def _of_instances(instances: Sequence[InstanceSnapshot]) -> Iterator[Metric]:
    labels = ("name", "vhid")
    states = StateSetMetricFamily("pycarp_state", "The state of a virtual host.", labels=labels)
    for one in instances:
        states.add_metric(_labels(one), {state.name: state is one.state for state in State})
    yield states
    for name, about, value in (
        ("owns", "1: the addresses are ordered here.", lambda one: one.owns),
        ("instance_well", "1: nothing is wrong with it that the engine knows of.", lambda one: one.well),
        ("demotion", "The demotion counter.", lambda one: one.demotion),
        ("advskew", "The advskew as it is sent and compared now.", lambda one: one.effective_advskew),
        ("waiting", "1: it waits for an interface, or for an address on it.", lambda one: bool(one.waiting)),
        ("gated", "1: a gate of nftables keeps its lease.", lambda one: one.gated),
        ("conflicts", "Addresses for which somebody else answers.", lambda one: len(one.conflicts)),
        ("peers", "Sources that were heard with the right digest.", lambda one: len(one.peers)),
        ("advert_late_seconds", "How late the last advert of a MASTER was sent.", lambda one: one.late / 1e9),
    ):
        family = GaugeMetricFamily(f"pycarp_{name}", about, labels=labels)
        for one in instances:
            family.add_metric(_labels(one), float(value(one)))
        yield family
    master = GaugeMetricFamily("pycarp_master", "1: this peer is MASTER.", labels=(*labels, "peer"))
    demoted = GaugeMetricFamily("pycarp_demotion_by", "What demotes it, and by how much.", labels=(*labels, "reason"))
    for one in instances:
        if one.master is not None:
            master.add_metric((*_labels(one), one.master.source), 1)
        for reason in one.demotions:
            demoted.add_metric((*_labels(one), reason.reason), reason.by)
    yield master
    yield demoted


def _of_checks(instances: Sequence[InstanceSnapshot]) -> Iterator[Metric]:
    up = GaugeMetricFamily("pycarp_check_up", "1: the check passes.", labels=("name", "vhid", "check"))
    runs = CounterMetricFamily("pycarp_check_runs", "How often it was run.", labels=("name", "vhid", "check"))
    for one in instances:
        for check in one.checks:
            up.add_metric((*_labels(one), check.name), bool(check.up))
            runs.add_metric((*_labels(one), check.name), check.runs)
    yield up
    yield runs


def _counters(instances: Sequence[InstanceSnapshot]) -> Iterator[Metric]:
    for name, about in _COUNTERS.items():
        family = CounterMetricFamily(f"pycarp_{name}", about, labels=("name", "vhid"))
        for one in instances:
            family.add_metric(_labels(one), getattr(one.counters, name))
        yield family


def _histograms(snapshot: Snapshot) -> Iterator[Metric]:
    for field, (name, about) in _HISTOGRAMS.items():
        counts = getattr(snapshot.measures, field)
        upto = list(accumulate(counts)) or [0]
        limits = [(str(2**power / 1e9), float(upto[min(power, len(upto) - 1)])) for power in range(_FIRST, _LAST + 1)]
        buckets = [*limits, ("+Inf", float(upto[-1]))]
        yield HistogramMetricFamily(f"pycarp_{name}_seconds", about, buckets=buckets, sum_value=None)


def _labels(one: InstanceSnapshot) -> tuple[str, str]:
    return one.name, str(one.vhid)
