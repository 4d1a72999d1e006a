"""Turns what `wire.py` and `test_core.py` have measured into tables: one run, all targets in one table.

    python benchmarks/report.py wire.json --core core.json                               on stdout
    python benchmarks/report.py wire.json --core core.json --write docs/benchmarks.md    between the marks of a page

Both files must be of one machine and one version, and made within a day.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from targets import core_targets, us, wire_targets

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
_Row = dict[str, Any]
ONE_RUN = timedelta(days=1)
"""What was measured within this time may be called one run."""


def tables(wire: _Row, core: _Row | None) -> str:
    """All figures as Markdown."""
    targets = wire_targets(wire) if core is None else core_targets(core) + wire_targets(wire)
    parts = [about(wire, core)]
    parts.append("### Targets\n\n" + markdown(("what", "target", "measured", ""), [one.row() for one in targets]))
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


def about(wire: _Row, core: _Row | None) -> str:
    machine = wire["machine"]
    subjects = ", ".join(f"{name} {version}".strip() for name, version in wire["subjects"].items())
    commands = [wire["command"]] if core is None else [core["command"], wire["command"]]
    return (
        f"Measured {wire['when'][:10]} on {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']},"
        f" {machine['system']}, Python {machine['python']}: {subjects}.\n\n"
        + "\n".join(f"    {command}" for command in commands)
    )


def differences(wire: _Row, core: _Row) -> list[str]:
    """Why these two are not one run; empty if they are."""
    found = [
        f"{name} is {wire['machine'][name]} in one file and {core['machine'][name]} in the other"
        for name in ("cpu", "cores", "kernel", "python", "pycarp")
        if wire["machine"][name] != core["machine"][name]
    ]
    if abs(datetime.fromisoformat(wire["when"]) - datetime.fromisoformat(core["when"])) > ONE_RUN:
        found.append(f"one was measured {wire['when']}, the other {core['when']}")
    return found


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first two to the right."""
    rule = ["---" if place < 2 else "--:" for place in range(len(headings))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))


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
    options = parser.parse_args(arguments)
    wire = json.loads(options.wire.read_text())
    core = None if options.core is None else json.loads(options.core.read_text())
    if core is not None and (wrong := differences(wire, core)):
        print(f"report: these are two runs: {'; '.join(wrong)}", file=sys.stderr)
        return 2
    text = tables(wire, core)
    if options.write is None:
        print(text)
    else:
        write(options.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
