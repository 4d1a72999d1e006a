"""Every row of the transition tables in docs/protocol.md has a test that is called by its number, and no other."""

from __future__ import annotations

import re
from pathlib import Path

CORE = Path(__file__).parent
PROTOCOL = CORE.parents[1] / "docs" / "protocol.md"


def test_every_row_has_a_test() -> None:
    rows = re.findall(r"^\| ([TS]\d+) \|", PROTOCOL.read_text("utf-8"), re.MULTILINE)
    assert rows == [f"T{number}" for number in range(1, 43)] + [f"S{number}" for number in range(1, 11)]
    tested = set()
    for module in ("test_machine.py", "test_arbitration.py", "test_pace.py"):
        tested |= set(re.findall(r'\bid="([TS]\d+)\b', (CORE / module).read_text("utf-8")))
    assert tested == set(rows)
