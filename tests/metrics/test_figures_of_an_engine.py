"""Figures from a snapshot: prometheus-client's and OpenTelemetry's, and the examples for Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pycarp import EngineError, Reason, State
from pycarp.engine.queue import EventQueue
from pycarp.engine.snapshot import DemotedBy, InstanceSnapshot, Peer, Snapshot
from pycarp.events import EventsLost, StateChanged
from pycarp.metrics import Collector, instrument
from pycarp.stats import Histogram, Measures, Stats

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def snapshot(**changes: Any) -> Snapshot:
    peer = Peer(
        source="10.13.37.12", vhid=101, mac="00:00:5e:00:01:65", kind="advert", advbase=1, advskew=100,
        dialects=("bsd",), heard=5, count=7,
    )  # fmt: skip
    takeovers = Histogram()
    takeovers.count(300_000)
    takeovers.count(2_000_000)
    one = InstanceSnapshot(
        name="carp0", vhid=101, carpdev="eth0", mac="00:00:5e:00:01:65", addresses=("10.13.37.42",),
        state=State.BACKUP, since=10, why=Reason.STARTED, cause=None, owns=False, master=peer, peers=(peer,), advbase=1,
        advskew=0, effective_advskew=240, preempt=False, demotion=3,
        demotions=(DemotedBy(reason='dns "x"\nfails', by=3),), standing_back=None, leaving=False, conflicts=(),
        waiting="",
        hindrance="", gated=True, lease=None, failing=False, due=None, late=2_000,
        counters=Stats(ipackets=41, badauth=2),
        checks=(SimpleNamespace(name="dns", up=False, runs=9, said="no answer"),),
    )  # fmt: skip
    values: dict[str, Any] = {
        "implementation": "native", "version": "1", "pid": 1, "taken": 20, "time": 5_000_000_000, "since": 10,
        "realtime": True, "guardian": None, "watchdog": None, "maintenance": False, "demotion": 3, "demotions": (),
        "waiting": {}, "measures": Measures(takeover=takeovers.counts), "instances": (one,),
    }  # fmt: skip
    return Snapshot(**(values | changes))


class Double:
    """What of an engine is asked for figures."""

    def __init__(self, now: Snapshot | None) -> None:
        self.now = now
        self.queue = EventQueue(2)

    def snapshot(self) -> Snapshot:
        if self.now is None:
            raise EngineError("the engine is not running")
        return self.now

    def tap(self, _: int) -> EventQueue:
        return self.queue

    def untap(self, queue: EventQueue) -> None:
        queue.close()


def values(engine: Any) -> dict[str, float]:
    """Every sample as OpenMetrics has it, read back by the library's own parser."""
    registry = CollectorRegistry()
    registry.register(Collector(engine))
    text = generate_latest(registry).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_figures_for_prometheus():
    engine = Double(snapshot())
    change = {"vhid": 101, "name": "carp0", "reason": Reason.MASTER_DOWN}
    engine.queue.put(StateChanged(at=1, before=State.INIT, after=State.BACKUP, **change))
    found = values(engine)
    who = "name=carp0,vhid=101"
    assert found["pycarp_state{name=carp0,pycarp_state=BACKUP,vhid=101}"] == 1
    assert found["pycarp_state{name=carp0,pycarp_state=MASTER,vhid=101}"] == 0
    assert found[f"pycarp_ipackets_total{{{who}}}"] == 41
    assert found[f"pycarp_badauth_total{{{who}}}"] == 2
    assert found[f"pycarp_demotion{{{who}}}"] == 3
    assert found['pycarp_demotion_by{name=carp0,reason=dns "x"\nfails,vhid=101}'] == 3
    assert found["pycarp_master{name=carp0,peer=10.13.37.12,vhid=101}"] == 1
    assert found["pycarp_guardian_up{}"] == 0
    assert found[f"pycarp_advert_late_seconds{{{who}}}"] == 2e-6
    assert found["pycarp_check_up{check=dns,name=carp0,vhid=101}"] == 0
    reason = "master-down timer expired"
    assert found[f"pycarp_transitions_total{{after=BACKUP,before=INIT,name=carp0,reason={reason}}}"] == 1
    # 300 us is below 2**19 ns, 2 ms below 2**21 ns.
    assert found["pycarp_takeover_duration_seconds_bucket{le=0.000524288}"] == 1
    assert found["pycarp_takeover_duration_seconds_bucket{le=0.002097152}"] == 2
    assert found["pycarp_takeover_duration_seconds_bucket{le=+Inf}"] == 2
    # Every counter of the kernel has its family.
    assert {f"pycarp_{name}_total{{{who}}}" for name in Stats().as_dict()} <= found.keys()


def test_what_is_lost_is_counted_and_what_has_ended_has_no_figures():
    engine = Double(snapshot())
    for at in range(5):
        engine.queue.put(
            StateChanged(vhid=1, name="c", at=at, before=State.INIT, after=State.BACKUP, reason=Reason.FORCED)
        )
    found = values(engine)
    assert found["pycarp_events_total{event=EventsLost,severity=warning}"] == 3
    assert found["pycarp_events_total{event=StateChanged,severity=news}"] == 2
    assert EventsLost.__name__ == "EventsLost"
    assert values(Double(None)) == {}


def test_figures_for_opentelemetry():
    engine = Double(snapshot())
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    instrument(engine, provider)  # type: ignore[arg-type]
    data = json.loads(reader.get_metrics_data().to_json())
    metrics = {one["name"]: one for one in data["resource_metrics"][0]["scope_metrics"][0]["metrics"]}
    assert {point["value"] for point in metrics["pycarp.demotion"]["data"]["data_points"]} == {3.0}
    packets = {
        point["attributes"]["pycarp.counter"]: point["value"]
        for point in metrics["pycarp.packets"]["data"]["data_points"]
    }
    assert packets["ipackets"] == 41
    provider.shutdown()


def test_the_dashboard_and_the_alerts_ask_for_what_there_is():
    names = {re.split(r"[{]", name)[0] for name in values(Double(snapshot()))}
    names |= {"pycarp_transitions_total", "pycarp_advert_delay_seconds_bucket", "up"}
    dashboard = json.loads((EXAMPLES / "grafana" / "pycarp.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += re.findall(r"expr: (.*)", (EXAMPLES / "prometheus" / "alerts.yml").read_text())
    used = {name for expression in asked for name in re.findall(r"\b(?:pycarp_\w+|up)(?=[{\[)\s*=]|$)", expression)}
    assert used - {"pycarp_state"} <= names | {"pycarp_state"}
    assert len(used) > 10


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on this machine")
def test_promtool_takes_rules_and_figures(tmp_path):
    done = subprocess.run(
        ["promtool", "check", "config", EXAMPLES / "prometheus" / "prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    registry = CollectorRegistry()
    registry.register(Collector(Double(snapshot())))  # type: ignore[arg-type]
    from prometheus_client import generate_latest as plain

    done = subprocess.run(["promtool", "check", "metrics"], input=plain(registry), capture_output=True)
    assert done.returncode == 0, done.stderr
