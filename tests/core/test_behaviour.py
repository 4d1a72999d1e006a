"""Every recorded row of the three BSDs is played to our host: it does the same, or docs/protocol.md says why not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support import behaviour

from pycarp._impl import Implementation

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()

# What docs/protocol.md calls a difference on purpose: the systems, and the rows by id and words.
DIFFERENT = {
    "bytes after the advert": ("freebsd", r"trailing non-zero bytes"),
    "sent to everybody": ("openbsd|freebsd", r"dst (224\.0\.0\.1|255\.255\.255\.255|ff02::1)\b"),
    "sent to this host alone": ("openbsd|freebsd", r"unicast to (the virtual address|the carpdev|us)"),
    "carp.allow": ("freebsd", r"allow=0"),
    "our own advert": ("openbsd|freebsd", r"its own last advert comes back|replay cookie|own cookie"),
    "a bow-out": ("openbsd|freebsd", r"ifconfig down|its only address is removed"),
    "changes": ("openbsd|freebsd", r"another IPv4 address is added|one of two IPv4 addresses|advskew changed"),
    "both families": ("openbsd|freebsd", r"master heard in IPv[46] only"),
    "the other family": ("freebsd", r"only IPv4 addresses; better advert comes over IPv6"),
    "both digests": ("openbsd|freebsd", r"HMAC (with all addresses|without the link-local|also over|over it and) ?.*"),
    "advbase 0": ("openbsd", r"^own 0/\d+; (bow-out|1/0)$"),
    "a bow-out to a demoted master": ("openbsd", r"bow-out 255/255 with demote \d+ heard as MASTER"),
    "demoted twice": ("openbsd|freebsd", r"^(carpdemote|demotion=)\d*"),
    "advskew above 240": ("freebsd", r"^advert 1/2\d\d, own demotion 0$|advskew 254: INIT"),
    "advbase": ("freebsd", r"^set advbase (0 advskew 0|255)"),
}


OTHERS = {"a control of that system", "a link state that Linux tells as up", "unicast"}
LEFT_OUT = {
    "netbsd": set(),
    "openbsd": OTHERS | {"announcements", "more than one virtual host"},
    "freebsd": OTHERS | {"VRRP", "that system's counter"},
}
"""What rows are about that no advert or command of ours plays; unicast and announcements have tests of theirs."""


def words_of(row: dict[str, Any]) -> str:
    return str(row.get("event", row.get("advert", "")))


def on_purpose(system: str, row: dict[str, Any]) -> str | None:
    for name, (systems, pattern) in DIFFERENT.items():
        if re.fullmatch(systems, system) and re.search(pattern, words_of(row)):
            return name
    return None


@pytest.mark.parametrize("system", behaviour.SYSTEMS)
def test_as_recorded_or_on_purpose(impl: Implementation, system: str) -> None:
    wrong = []
    seen: set[str] = set()
    left_out: set[str] = set()
    for row in behaviour.rows(system):
        name = on_purpose(system, row)
        try:
            differences = behaviour.play(impl, system, row)
        except behaviour.NotHere as error:
            left_out.add(str(error))
            continue
        if differences and name is None:
            wrong.append((row["id"], words_of(row), differences))
        elif differences and name is not None:
            seen.add(name)
    assert not wrong
    assert seen == {name for name, (systems, _) in DIFFERENT.items() if re.fullmatch(systems, system)}
    assert left_out <= LEFT_OUT[system]  # any other would be one that applies


def test_each_difference_is_documented() -> None:
    assert [name for name in DIFFERENT if f"| {name} |" not in DOCUMENT] == []


def test_words_without_a_rule_are_refused(impl: Implementation) -> None:
    row = {"id": "X", "before": "BACKUP", "after": "BACKUP", "event": "better, in a frame of purple"}
    with pytest.raises(behaviour.Unreadable):
        behaviour.play(impl, "openbsd", row)
