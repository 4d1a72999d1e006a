"""Turns what `wire.py` and `test_core.py` have measured into tables and plots.

python benchmarks/report.py wire.json --core core.json                            # tables on stdout
python benchmarks/report.py wire.json --core core.json --write docs/benchmarks.md # into the page, between its marks
python benchmarks/report.py wire.json --plots docs/plots                          # needs pip install 'pycarp[plot]'
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pycarp.monitor.timing import quantiles

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
_Row = dict[str, Any]
NATIVE = "pycarp native"


def tables(wire: _Row, core: _Row | None) -> str:
    """All figures as Markdown."""
    parts = [about(wire), targets(wire, core)]
    if core is not None:
        parts.append(core_table(core))
    makers: dict[str, Callable[[_Row], str]] = {
        "timing": timing_table,
        "takeover": takeover_table,
        "flood": flood_table,
        "load": load_table,
    }
    parts += [make(wire) for part, make in makers.items() if wire.get(part)]
    return "\n\n".join(parts)


def about(wire: _Row) -> str:
    machine = wire["machine"]
    subjects = ", ".join(f"{name} {version}".strip() for name, version in wire["subjects"].items())
    return (
        f"Measured {wire['when'][:10]} on {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']},"
        f" {machine['system']}, Python {machine['python']}: {subjects}.\n\n    {wire['command']}"
    )


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first two to the right."""
    rule = ["---" if place < 2 else "--:" for place in range(len(headings))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))


def us(nanoseconds: float | None) -> str:
    """Microseconds or, beyond ten thousand of them, milliseconds."""
    if nanoseconds is None:
        return ""
    size = abs(nanoseconds)
    if size >= 1e7:
        return f"{nanoseconds / 1e6:.1f} ms"
    return f"{nanoseconds / 1e3:.1f} us" if size < 1e5 else f"{nanoseconds / 1e3:.0f} us"


# Targets


def targets(wire: _Row, core: _Row | None) -> str:
    """What was to be reached, beside what was."""
    rows = [
        [row["what"], row["target"], _figure(row["measured"], row["unit"]), _verdict(row["holds"])]
        for row in (core or {}).get("ratios", ())
    ]
    for what, target, value, limit, shown in wire_targets(wire):
        rows.append([what, target, "not measured" if value is None else shown(value), _verdict(_within(value, limit))])
    return "### Targets\n\n" + markdown(("what", "target", "measured", ""), rows)


def _within(value: float | None, limit: float) -> bool | None:
    return None if value is None else value <= limit


def _figure(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.2f} {unit}"


def _verdict(holds: bool | None) -> str:
    return "" if holds is None else "holds" if holds else "**missed**"


Target = tuple[str, str, float | None, float, Callable[[float], str]]


def wire_targets(wire: _Row) -> list[Target]:
    """The targets on the wire: what, in words, measured, limit, and how to show it. They are the native runtime's."""
    many = f"{wire['many']} virtual hosts"
    timing = wire.get("timing", {}).get(NATIVE, {})
    found: list[Target] = []
    for condition, limit in (("idle", 10), ("every core busy", 10), ("GIL held", 10), (many, 100)):
        row = timing.get(condition, {})
        found.append((f"interval error p50, {condition}", "at most 2 us", row.get("p50"), 2e3, us))
        found.append((f"interval error p99, {condition}", f"at most {limit} us", row.get("p99"), limit * 1e3, us))
    drift = timing.get("idle", {}).get("drift")
    found.append(("drift an interval, idle", "under 1 us", None if drift is None else abs(drift), 1e3, us))
    without = timing.get("idle, no SCHED_FIFO", {}).get("p99")
    others = [
        rows["idle"]["p99"]
        for name, rows in wire.get("timing", {}).items()
        if not name.startswith("pycarp") and rows["idle"]["count"]
    ]
    if others:
        found.append(
            ("the same without SCHED_FIFO, p99, idle", f"the best peer's {us(min(others))}", without, min(others), us)
        )
    found += takeover_targets(wire.get("takeover", {}).get(NATIVE, {}))
    flood = wire.get("flood", {}).get(NATIVE)
    if flood:
        rate = f"{flood['rate']:.0f} forged adverts/s"
        spoke = flood["adverts of the backup"] + flood["timing"]["missed"]
        found += [
            (f"{rate}: transitions, adverts missed", "none", spoke, 0, lambda value: f"{value:.0f}"),
            (f"{rate}: interval error p99", "at most 50 us", flood["timing"].get("p99"), 50e3, us),
            (f"{rate}: CPU as MASTER", "under 3 %", flood["master"]["cpu_percent"], 3, percent),
            (f"{rate}: CPU a frame", "at most 250 ns", flood["master"]["ns_per_frame"], 250, nanoseconds),
        ]
    costs = wire.get("load", {}).get(NATIVE, {})
    most, one = costs.get(str(wire["many"])), costs.get("1")
    if most:
        found += [
            (f"{many}, idle: CPU as MASTER", "at most 2 %", most["master"]["cpu_percent"], 2, percent),
            (f"{many}, idle: CPU as BACKUP", "at most 0.2 %", most["backup"]["cpu_percent"], 0.2, percent),
        ]
    if most and one:
        each = (most["backup"]["private"] - one["backup"]["private"]) / (wire["many"] - 1)
        found.append(("memory of each virtual host", "at most 8 KiB", each, 8192, kibibytes))
    if wire.get("import"):
        more = wire["import"]["difference"]["p50"]
        found.append(("import pycarp, beyond bare Python", "at most 60 ms", more, 60e6, us))
    return found


def takeover_targets(rows: _Row) -> list[Target]:
    late = [value for kind in ("cut", "SIGKILL") for value in rows.get(kind, {}).get("late", {}).get("samples", ())]
    # Not after SIGTERM: in a lab the two hosts share the kernel's lock, and the master's link going down holds it.
    answers = [
        value for kind in ("cut", "SIGKILL") for value in rows.get(kind, {}).get("answer", {}).get("samples", ())
    ]
    gap = rows.get("SIGTERM", {}).get("gap", {}).get("max")
    # 100 x 20 us, and up to 500 us of chance, are PROTOCOL's own wait for an advskew of 100.
    beyond = None if gap is None else gap - 2_500_000
    return [
        ("deadline to first advert, p99", "at most 100 us", _p99(late), 100e3, us),
        ("deadline to an answered ping, worst", "at most 1 ms", max(answers, default=None), 1e6, us),
        ("bow-out to advert, beyond the longest wait ordered", "at most 200 us", beyond, 200e3, us),
    ]


def _p99(values: list[int]) -> float | None:
    return quantiles(values, 0.99)[0] if values else None


def percent(value: float) -> str:
    return f"{value:.3f} %"


def nanoseconds(value: float) -> str:
    return f"{value:.0f} ns"


def kibibytes(value: float) -> str:
    return f"{value / 1024:.1f} KiB"


# Tables


def core_table(core: _Row) -> str:
    rows = [[name, f"{value:,.1f} ns"] for name, value in core["nanoseconds"].items()]
    return "### The core, fastest rounds\n\n" + markdown(("what", "time for one"), rows)


def timing_table(wire: _Row) -> str:
    rows = [
        [subject, condition, str(row["count"]), *(us(row.get(name)) for name in ("p50", "p90", "p99", "max")),
         us(row.get("sd")), us(row.get("drift")), str(row["missed"])]
        for subject, conditions in wire["timing"].items()
        for condition, row in conditions.items()
    ]  # fmt: skip
    headings = ("who", "while", "intervals", "p50", "p90", "p99", "worst", "sd", "drift", "missed")
    return "### Intervals of 1 s: how far off, at the switch\n\n" + markdown(headings, rows)


def takeover_table(wire: _Row) -> str:
    rows = []
    for subject, kinds in wire["takeover"].items():
        for kind, row in kinds.items():
            gap, late, answer, outage = (row[name] for name in ("gap", "late", "answer", "outage"))
            rows.append(
                [
                    subject,
                    kind,
                    str(gap["count"]),
                    f"{gap['min'] / 1e9:.4f}-{gap['max'] / 1e9:.4f} s",
                    us(late.get("p50")),
                    us(late.get("max")),
                    us(answer["p50"]),
                    us(answer["max"]),
                    f"{outage['p50'] / 1e6:.0f} ms",
                ]
            )
    headings = ("who", "master goes by", "rounds", "last to first advert", "late p50", "late worst", "ping p50")
    return "### Takeovers\n\n" + markdown((*headings, "ping worst", "client without answer"), rows)


def flood_table(wire: _Row) -> str:
    rows = []
    for subject, row in wire["flood"].items():
        timing = row["timing"]
        rows.append(
            [
                subject,
                f"{row['sent'] / row['seconds']:,.0f}/s",
                f"{row['master']['cpu_percent']:.2f} %",
                f"{row['master']['ns_per_frame']:,.0f} ns",
                f"{row['backup']['cpu_percent']:.2f} %",
                us(timing.get("p50")),
                us(timing.get("p99")),
                str(timing["missed"]),
                str(row["adverts of the backup"]),
            ]
        )
    headings = ("who", "forged adverts", "CPU, MASTER", "a frame", "CPU, BACKUP", "interval p50", "p99", "missed")
    return "### Under a flood\n\n" + markdown((*headings, "adverts of the backup"), rows)


def load_table(wire: _Row) -> str:
    rows = [
        [subject, f"{count} as {role.upper()}", f"{cost['cpu_percent']:.3f} %", f"{cost['private'] / 2**20:.1f} MiB",
         f"{cost['proportional'] / 2**20:.1f} MiB", str(cost["processes"])]
        for subject, counts in wire["load"].items()
        for count, roles in counts.items()
        for role, cost in roles.items()
    ]  # fmt: skip
    headings = ("who", "virtual hosts", "CPU", "memory, private", "with its share", "processes")
    return "### What it costs while nothing happens\n\n" + markdown(headings, rows)


# Plots


def plots(wire: _Row, directory: Path) -> list[Path]:
    """A plot of interval errors for each condition, and one of takeovers, as SVG; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)
    written = []
    timing = wire.get("timing", {})
    for condition in dict.fromkeys(condition for rows in timing.values() for condition in rows):
        curves = {
            name: sorted(max(abs(value), 100) / 1e3 for value in rows[condition]["samples"])
            for name, rows in timing.items()
            if rows.get(condition, {}).get("samples")
        }
        if not curves:
            continue
        figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
        for name, values in curves.items():
            axes.step(values, [(place + 1) / len(values) for place in range(len(values))], where="post", label=name)
        axes.set(xscale="log", ylim=(0, 1), xlabel="interval off by, us", ylabel="part of all intervals")
        axes.set_title(f"1 s adverts, {condition}")
        axes.grid(alpha=0.3)
        axes.legend()
        written.append(_save(figure, directory / f"intervals-{_slug(condition)}.svg"))
        pyplot.close(figure)
    if wire.get("takeover"):
        figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
        labels, values = [], []
        for name, kinds in wire["takeover"].items():
            for kind, row in kinds.items():
                labels.append(f"{name}, {kind}")
                values.append([gap / 1e9 for gap in row["gap"]["samples"]])
        axes.boxplot(values, orientation="horizontal", tick_labels=labels)
        axes.set(xlabel="last advert of the old master to first of the new one, s", xlim=(0, None))
        axes.grid(alpha=0.3)
        written.append(_save(figure, directory / "takeovers.svg"))
        pyplot.close(figure)
    return written


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    return path


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def write(page: Path, text: str) -> None:
    """Put the text between the marks of a page."""
    before, mark, rest = page.read_text().partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"report: {page} has no {BEGIN} ... {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("wire", type=Path, help="what wire.py --json has written")
    parser.add_argument("--core", type=Path, help="what pytest benchmarks --figures has written")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the marks of this page")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw there")
    options = parser.parse_args(arguments)
    wire = json.loads(options.wire.read_text())
    core = None if options.core is None else json.loads(options.core.read_text())
    text = tables(wire, core)
    if options.write is None:
        print(text)
    else:
        write(options.write, text)
    if options.plots is not None:
        try:
            written = plots(wire, options.plots)
        except ModuleNotFoundError as error:
            print(f"report: plots need {error.name}: pip install 'pycarp[plot]'", file=sys.stderr)
            return 2
        print(*written, sep="\n", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
