"""What is written down twice, once for Python and once for C, says the same."""

from __future__ import annotations

import re
from pathlib import Path

from pycarp import protocol
from pycarp.protocol import timing

ROOT = Path(__file__).parents[2]


def test_every_time_limit_is_the_same_in_c() -> None:
    header = (ROOT / "ext" / "timing.h").read_text()
    in_c = {name: int(value) for name, value in re.findall(r"#define (\w+) INT64_C\((\d+)\)", header)}
    in_python = {name: value for name, value in vars(timing).items() if name.isupper() and not name.startswith("_")} | {
        "NS_PER_SECOND": protocol.NS_PER_SECOND,
        "NS_PER_SKEW": protocol.NS_PER_SKEW,
    }
    in_python.pop("FOREVER")  # no time limit, but a value of netlink's
    assert in_c == in_python
