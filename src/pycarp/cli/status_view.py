"""What ``pycarp status`` shows: plain lines, or a table on a terminal where rich is installed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..monitor.text import local_time, printable, seconds
from .output import complain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

Found = Sequence[tuple[Path, dict[str, Any]]]
_NARROW = 90
"""Characters in a line under which the columns cannot be read."""
_STATES = {"MASTER": "bold green", "BACKUP": "cyan", "INIT": "yellow"}


def look_through(status: dict[str, Any]) -> None:
    """Use all that is shown of it. Raises whatever follows from a part that is missing or of another kind."""
    used: list[Any] = [*lines([(Path(), status)]), status["well"]]
    for one in status["instances"]:
        used += [_STATES[one["state"]], seconds(one["late"]), len(one["peers"]), one["well"]]


def lines(found: Found) -> list[str]:
    """One line for each virtual host, and what is wrong under it."""
    told = []
    for _path, status in found:
        for one in status["instances"]:
            parts = [
                f"vhid {one['vhid']}",
                f"{one['state']} since {_since(status, one)}{_why(one)}",
                ", ".join(one["addresses"]),
                f"on {one['carpdev']}" if one["carpdev"] else "",
                _master(status, one),
                f"demotion {one['demotion']}",
                _unicast(one),
                f"accepts old and new, speaks {one['speaks']}" if one.get("speaks") else "",
            ]
            told.append(f"{one['name']}: " + ", ".join(part for part in parts if part))
            told += [f"  ! {text}" for text in _wrong(status, one)]
        told += [f"! {text}" for text in _wrong_with_engine(status)]
    return [printable(line) for line in told]


def table(found: Found, width: int) -> RenderableType | None:
    """The same in columns, or in lines where `width` has no room for them; None where rich is not installed."""
    try:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        complain("pycarp: there is no table without rich: pip install 'pycarp[cli]'")
        return None
    if width < _NARROW:
        return Text("\n".join(lines(found)))
    shown = Table(box=box.SIMPLE_HEAD, expand=False)
    for heading in ("name", "vhid", "state", "since", "why", "master", "addresses", "demotion", "peers", "late"):
        shown.add_column(heading, justify="right" if heading in ("vhid", "demotion", "peers", "late") else "left")
    wrong = []
    for _path, status in found:
        for one in status["instances"]:
            shown.add_row(
                Text(one["name"], style="bold"),
                str(one["vhid"]),
                Text(one["state"], style=_STATES[one["state"]]),
                _since(status, one),
                one["why"] or "",
                "this host" if one["state"] == "MASTER" else one["master"]["source"] if one["master"] else "nobody",
                ", ".join(one["addresses"]) + (f" on {one['carpdev']}" if one["carpdev"] else ""),
                str(one["demotion"]),
                str(len(one["peers"])),
                seconds(one["late"]),
            )
            wrong += [Text(f"! {one['name']}: {text}", style="yellow") for text in _wrong(status, one)]
        wrong += [Text(f"! {text}", style="yellow") for text in _wrong_with_engine(status)]
    return Group(shown, *wrong)


class LiveStatus:
    """A table that is drawn anew where it stands."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False, emoji=False)
        self._live: Live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def show(self, found: Found, wrong: str) -> None:
        """`wrong` stands there where nothing was found."""
        from rich.text import Text

        picture = table(found, self._console.width) if found else None
        self._live.update(picture or Text(wrong, style="yellow"), refresh=True)

    def close(self) -> None:
        self._live.stop()


def living() -> LiveStatus | None:
    """None where rich is not installed."""
    try:
        return LiveStatus()
    except ModuleNotFoundError:
        complain("pycarp: there is no table that lives without rich: pip install 'pycarp[cli]'")
        return None


def _since(status: dict[str, Any], one: dict[str, Any]) -> str:
    return f"{local_time(status['time'] - status['taken'] + one['since']):%Y-%m-%d %H:%M:%S}"


def _why(one: dict[str, Any]) -> str:
    cause = f", {one['cause']}" if one["cause"] else ""
    return f" ({one['why']}{cause})" if one["why"] else ""


def _master(status: dict[str, Any], one: dict[str, Any]) -> str:
    if one["state"] != "BACKUP":
        return ""
    master = one["master"]
    if master is None:
        return "nobody is heard"
    return f"master {master['source']}, heard {seconds(status['taken'] - master['heard'])} ago"


def _unicast(one: dict[str, Any]) -> str:
    """Where adverts go by unicast; engines of before have no such field."""
    peers = (one.get("unicast") or {}).items()
    told = ", ".join(f"{address} ({mac or 'MAC unknown'})" for address, mac in peers)
    return f"adverts to {told}" if told else ""


def _wrong(status: dict[str, Any], one: dict[str, Any]) -> list[str]:
    """What is to be said of one virtual host beside its line."""
    found = []
    if one["waiting"]:
        found.append(f"waits: {one['waiting']}")
    if one["hindrance"]:
        found.append(f"{one['carpdev']} cannot be used: {one['hindrance']}")
    if one["failing"]:
        found.append("its last advert could not be sent")
    if one["standing_back"]:
        until = one["standing_back"]["until"]
        left = "" if until is None else f", for {max(0, until - status['taken']) / 1e9:.0f} s more"
        found.append(f"stands back: {one['standing_back']['why']}{left}")
    found += [f"{conflict['mac']} answers for {conflict['address']}" for conflict in one["conflicts"]]
    found += [f"demoted by {each['by']}: {each['reason'] or 'no reason given'}" for each in one["demotions"]]
    return found


def _wrong_with_engine(status: dict[str, Any]) -> list[str]:
    found = []
    if status["guardian"] is None:
        found.append("no guardian: nobody removes the addresses if this process dies")
    if status["watchdog"] and status["watchdog"]["expired"]:
        silence = (time.monotonic_ns() - status["watchdog"]["fed"]) / 1e9
        found.append(f"the program has not fed the watchdog for {silence:.1f} s")
    if status["maintenance"]:
        found.append("in maintenance: pycarp ctl maintenance off ends it")
    return found
