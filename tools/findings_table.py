"""Writes docs/findings.md's table from `pycarp.linux.host_findings.KINDS`.

    python tools/findings_table.py

Run it from the source tree when a row of the table changed; a test fails until then.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))

from pycarp.linux.host_findings import KINDS, Kind  # noqa: E402

PAGE = ROOT / "docs" / "findings.md"
_BEGIN, _END = "<!-- findings -->", "<!-- /findings -->"


def page(text: str) -> str:
    """The page with the table of all kinds between its markers."""
    rows = [
        f"| `{name}` | {_severity(kind)} | {_shown(kind.says)} | {_shown(kind.remedy)} |"
        for name, kind in KINDS.items()
    ]
    table = "\n".join(("| finding | severity | what it says | remedy |", "|---|---|---|---|", *rows))
    return re.sub(f"{_BEGIN}.*{_END}", lambda _: f"{_BEGIN}\n{table}\n{_END}", text, flags=re.DOTALL)


def _severity(kind: Kind) -> str:
    return f"{kind.severity}, at start" if kind.at_start else kind.severity


def _shown(text: str) -> str:
    """Values that stand in braces, as a reader knows them."""
    return re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
