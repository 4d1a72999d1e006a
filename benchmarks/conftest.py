"""``--quick`` for the core's benchmarks, the figures they share, and the table of ratios at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import building
import pytest

import pycarp


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few rounds: shows that the benchmarks run, not how fast")
    parser.addoption(
        "--figures", type=Path, metavar="FILE", help="write the fastest rounds and the ratios there, as JSON"
    )


@dataclass(frozen=True)
class Ratio:
    """A row of the table: `what` took `over` times as long as `than`; `target` is "at most" or "at least" so much."""

    what: str
    over: str
    than: str
    target: str
    limit: float

    def row(self, figures: dict[str, float]) -> dict[str, Any]:
        """Plain values; "measured" is None if a figure is lacking."""
        measured = holds = None
        if self.over in figures and (not self.than or self.than in figures):
            measured = figures[self.over] / (figures[self.than] if self.than else 1e-9)
            holds = measured <= self.limit if self.target == "at most" else measured >= self.limit
        unit = "x" if self.than else "ns"
        return {
            "what": self.what,
            "measured": measured,
            "unit": unit,
            "target": f"{self.target} {self.limit:g} {unit}",
            "holds": holds,
        }


RATIOS = [
    Ratio("verify one advert, native / one SHA-1 block", "verify native one", "sha1 block", "at most", 2.6),
    Ratio("verify one of many, native / one SHA-1 block", "verify native many", "sha1 block", "at most", 1.5),
    Ratio("model of the kernel's way / native", "verify model", "verify native one", "at least", 5),
    Ratio("hmac.digest / native", "verify hmac.digest", "verify native one", "at least", 15),
    Ratio("scapy building the same / native", "verify scapy", "verify native one", "at least", 100),
    Ratio("forged advert, frame to verdict, native", "input native forged", "", "at most", 250),
]
"""The targets of the core. A limit without a second figure is in nanoseconds."""

FIGURES: dict[str, float] = {}
"""Seconds for one of each, the fastest round of this run: the least disturbed one."""

Measure = Callable[..., Any]


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Measure:
    """`measure(name, function, *arguments, turns=N)`: time a function that does its work once, or itself N times."""
    quick = request.config.getoption("--quick")

    def timed(name: str, function: Callable[..., Any], *arguments: Any, turns: int = 0, calls: int = 1000) -> Any:
        if turns:
            turns = turns // 20 if quick else turns
            arguments = (*arguments, turns)
            calls = 1
        elif quick:
            calls = max(1, calls // 20)
        result = benchmark.pedantic(
            function, arguments, rounds=5 if quick else 100, iterations=calls, warmup_rounds=1 if quick else 5
        )
        if benchmark.stats is not None:  # it is None under --benchmark-disable
            stats = benchmark.stats.stats
            if turns:
                # The loop was inside: show what one turn took.
                stats.data[:] = [seconds / turns for seconds in stats.data]
                benchmark.stats.iterations = turns
            FIGURES[name] = min(stats.min, FIGURES.get(name, stats.min))
        return result

    return timed


@pytest.fixture(scope="session")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The native core's functions in loops without the interpreter."""
    from pycarp._native import auth

    module = building.loops(tmp_path_factory.mktemp("loops"))
    module.select(auth.sha1_variant())
    return module


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The model of the kernel's way."""
    return building.library("kernel_model", tmp_path_factory.mktemp("model"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Ratios are asserted once everything they need has been measured.
    here = Path(__file__).parent
    items.sort(key=lambda item: here in item.path.parents and item.name == "test_ratios_hold_by_far")


def pytest_report_header() -> str:
    return f"pycarp {pycarp.__version__} benchmarks: __impl__ is {pycarp.__impl__}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not FIGURES:
        return
    rows = [ratio.row(FIGURES) for ratio in RATIOS]
    if (path := config.getoption("--figures")) is not None:
        nanoseconds = {name: round(seconds * 1e9, 2) for name, seconds in FIGURES.items()}
        path.write_text(json.dumps({"nanoseconds": nanoseconds, "ratios": rows}, indent=1) + "\n")
    terminalreporter.section("ratios within this run, of the fastest rounds")
    for row in rows:
        measured = "not measured" if row["measured"] is None else f"{row['measured']:9.2f} {row['unit']:<3}"
        verdict = "" if row["holds"] in (None, True) else "  MISSED"
        terminalreporter.write_line(f"{row['what']:<50}{measured} ({row['target']}){verdict}")
