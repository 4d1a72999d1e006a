"""Writes the tables of docs/reliability.md from the figures of test_chaos.py.

    PYCARP_FIGURES=one.json pytest tests/wire/test_chaos.py -m "long or not long"
    python tests/support/chaos_table.py docs/reliability.md one.json [another.json ...]

Of several files the worst value of each figure counts.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"
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


def _number(value: float, exact: bool) -> str:
    if value == 0:
        return "0"
    return f"{value:.2f}" if exact and value < 10 else f"{value:,.0f}"


def main() -> None:
    page = Path(sys.argv[1])
    figures = worst(json.loads(Path(name).read_text()) for name in sys.argv[2:])
    table = _BEGIN + "\n".join(rows(figures)) + "\n" + _END
    text, count = re.subn(f"{_BEGIN}.*?{_END}", lambda _match: table, page.read_text(), flags=re.DOTALL)
    if count != 1:
        sys.exit(f"{page} has no place for figures between {_BEGIN.strip()} and {_END.strip()}")
    page.write_text(text)


if __name__ == "__main__":
    main()
