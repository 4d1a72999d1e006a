"""Writes the tables of docs/reliability.md from the figures of test_chaos.py and test_profiles.py.

    PYCARP_FIGURES=one.json pytest tests/wire/test_chaos.py tests/wire/test_profiles.py -m "long or not long"
    python tests/support/chaos_table.py docs/reliability.md one.json [another.json ...]

Of several files the worst value of each figure counts.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_BEGIN, _END = "<!-- {} -->\n", "<!-- end of {} -->\n"
_PROFILE = "profile "
_FAULTS = ("SIGTERM", "SIGKILL", "cut", "heal")
_IMPLEMENTATIONS = ("native", "python")


def worst(files: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for figures in files:
        for name, value in figures.items():
            found[name] = max(value, found.get(name, value))
    return found


def rows(figures: Mapping[str, float]) -> list[str]:
    """One line for each fault and what was measured of it: the limit, and the value of each implementation."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, value in figures.items():
        fault, impl, what, limit = name.split(" | ")
        row = cells.setdefault((fault, what), {})
        row[impl] = _number(value, exact=what.endswith(("two owners", "transitions")))
        row["limit"] = "" if limit == "inf" else _number(float(limit), exact=False)
    lines = ["| fault | ms | limit | " + " | ".join(_IMPLEMENTATIONS) + " |", "|---|---|---|---|---|"]
    before = ""
    for (fault, what), row in cells.items():
        values = (row.get(impl, "") for impl in _IMPLEMENTATIONS)
        lines.append(f"| {fault if fault != before else ''} | {what} | {row['limit']} | {' | '.join(values)} |")
        before = fault
    return lines


def profile_rows(figures: Mapping[str, float]) -> list[str]:
    """One line for each profile: the client's outage after each fault, by implementation, and their limits."""
    cells: dict[str, dict[str, dict[str, str]]] = {}
    limits: dict[str, dict[str, str]] = {}
    for name, value in figures.items():
        row, impl, what, limit = name.split(" | ")
        fault, _, kind = what.partition(": ")
        if kind == "outage":
            pace = row.rpartition(", ")[2]
            limits.setdefault(pace, {})[fault] = _number(float(limit), exact=False)
            cells.setdefault(row.removeprefix(_PROFILE), {}).setdefault(fault, {})[impl] = _number(value, exact=False)
    lines = [f"| profile | {' | '.join(_FAULTS)} |", "|---" * (len(_FAULTS) + 1) + "|"]
    for pace, of in limits.items():
        lines.append(f"| limit, {pace} | {' | '.join(of.get(fault, '') for fault in _FAULTS)} |")
    for row, faults in cells.items():
        values = (" / ".join(faults.get(fault, {}).get(impl, "-") for impl in _IMPLEMENTATIONS) for fault in _FAULTS)
        lines.append(f"| {row} | {' | '.join(values)} |")
    return lines


def _number(value: float, exact: bool) -> str:
    if value == 0:
        return "0"
    return f"{value:.2f}" if exact and value < 10 else f"{value:,.0f}"


def main() -> None:
    page = Path(sys.argv[1])
    figures = worst(json.loads(Path(name).read_text()) for name in sys.argv[2:])
    of_profiles = {name: value for name, value in figures.items() if name.startswith(_PROFILE)}
    others = {name: value for name, value in figures.items() if name not in of_profiles}
    text = page.read_text()
    if others:
        text = replaced(text, "figures", rows(others))
    if of_profiles:
        text = replaced(text, "profiles", profile_rows(of_profiles))
    page.write_text(text)


def replaced(text: str, place: str, lines: list[str]) -> str:
    """The page with these lines between the two comments of that name."""
    begin, end = _BEGIN.format(place), _END.format(place)
    table = begin + "\n".join(lines) + "\n" + end
    text, count = re.subn(f"{begin}.*?{end}", lambda _match: table, text, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"the page has no place for {place} between {begin.strip()} and {end.strip()}")
    return text


if __name__ == "__main__":
    main()
