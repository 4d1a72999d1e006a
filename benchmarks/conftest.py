"""``--quick`` for the core's benchmarks, the figures they share, and the table of ratios at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import building
import machine
import pytest
from targets import FIGURES, RATIOS, Measure

import pycarp


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few rounds: shows that the benchmarks run, not how fast")
    parser.addoption("--figures", type=Path, metavar="FILE", help="write the fastest rounds there, as JSON")


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
    if (path := config.getoption("--figures")) is not None:
        figures = {
            "command": " ".join(["python -m pytest", *config.invocation_params.args]),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine.describe(),
            "nanoseconds": {name: round(seconds * 1e9, 2) for name, seconds in FIGURES.items()},
        }
        path.write_text(json.dumps(figures, indent=1) + "\n")
    terminalreporter.section("ratios within this run, of the fastest rounds")
    for ratio in RATIOS:
        what, target, measured, verdict = ratio.compare(FIGURES).row()
        missed = "  MISSED" if "missed" in verdict else ""
        terminalreporter.write_line(f"{what:<50}{measured:>15} ({target}){missed}")
