"""The page for people: who is MASTER, what happened, peers, checks, what is wrong. It needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from socket import gethostname
from typing import TYPE_CHECKING

from .._unpatched import time
from ..events import StateChanged

if TYPE_CHECKING:
    from ..engine.snapshot import InstanceSnapshot, Peer, Snapshot
    from .tally import Seen

STYLE = """
:root{color-scheme:light dark;--line:#8884;--ok:#1a7f37;--warn:#9a6700;--bad:#cf222e}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem;margin:0}h2{font-size:1rem;margin:1.6rem 0 .4rem}
.card{border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;margin:.8rem 0}
.card header{display:flex;gap:.8rem;align-items:baseline;flex-wrap:wrap}
.state{font-weight:700}.MASTER{color:var(--ok)}.INIT{color:var(--warn)}
.alarm{color:var(--bad)}.warning{color:var(--warn)}small,.faint{opacity:.7}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
section th{width:8rem;font-weight:500}
tr+tr>*{border-top:1px solid var(--line)}time{font-variant-numeric:tabular-nums;white-space:nowrap}
#gone{display:none}.lost #gone{display:block}.lost main{opacity:.5}
"""
SCRIPT = """
const feed = new EventSource('events');
feed.onmessage = (told) => {
  document.querySelector('main').innerHTML = JSON.parse(told.data);
  document.body.classList.remove('lost');
};
feed.onerror = () => document.body.classList.add('lost');
"""
_SHOWN = 40


def whole(snapshot: Snapshot, seen: list[Seen], nonce: str) -> str:
    """The page with its style and its script, which the policy of the page lets run by `nonce`."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{escape(_title(snapshot))}</title><style nonce="{nonce}">{STYLE}</style>'
        f'<body><p id="gone" class="alarm">The connection to pycarp is lost: what you see is old.</p>'
        f'<main>{inner(snapshot, seen)}</main><script nonce="{nonce}">{SCRIPT}</script>'
    )


def inner(snapshot: Snapshot, seen: list[Seen]) -> str:
    """What changes: the script puts it in the place of the former."""
    return "".join(_parts(snapshot, seen))


def _title(snapshot: Snapshot) -> str:
    return f"pycarp on {gethostname()}: {', '.join(f'{one.name} {one.state.name}' for one in snapshot.instances)}"


def _parts(snapshot: Snapshot, seen: list[Seen]) -> Iterator[str]:
    yield f"<h1>pycarp on {escape(gethostname())}</h1><p class=faint>{escape(_engine(snapshot))}</p>"
    if snapshot.maintenance:
        yield "<p class=warning>This host is in maintenance: it lets the others be master.</p>"
    for one in snapshot.instances:
        yield _card(one, snapshot)
    wrong = [one for one in seen if one.event.severity != "news"][:_SHOWN]
    yield "<h2>What was found</h2>" + (_table(wrong) or "<p class=faint>Nothing.</p>")
    changes = [one for one in seen if isinstance(one.event, StateChanged)][:_SHOWN]
    yield "<h2>Changes of state</h2>" + (_table(changes) or "<p class=faint>None since this page is served.</p>")


def _engine(snapshot: Snapshot) -> str:
    started = _moment(snapshot.time - (snapshot.taken - snapshot.since))
    guardian = "with its guardian" if snapshot.guardian is not None else "WITHOUT its guardian"
    return f"{snapshot.version}, {snapshot.implementation}, since {started}, {guardian}"


def _card(one: InstanceSnapshot, snapshot: Snapshot) -> str:
    since = _moment(snapshot.time - (snapshot.taken - one.since)) if one.since else ""
    why = f": {one.why}" if one.why is not None else ""
    rows = [
        ("addresses", ", ".join(one.addresses)),
        ("vhid", f"{one.vhid} on {one.carpdev or 'no interface'}, {one.mac}"),
        ("master", _who(one)),
        ("advskew", f"{one.effective_advskew}" + ("" if one.advskew == one.effective_advskew else f" ({one.advskew})")),
    ]
    if one.demotion:
        reasons = ", ".join(f"{each.reason or 'a call'} ({each.by})" for each in one.demotions)
        rows.append(("demotion", f"{one.demotion}: {reasons}"))
    if one.standing_back is not None:
        rows.append(("stands back", one.standing_back.why))
    rows += [("waits", one.waiting)] if one.waiting else []
    rows += [("hindered", one.hindrance)] if one.hindrance else []
    rows += [("conflict", f"{each.mac} answers for {each.address}") for each in one.conflicts]
    rows += [("check", f"{each.name}: {'passes' if each.up else 'FAILS'}, {each.said}") for each in one.checks]
    rows += [("peer", _peer(each, snapshot)) for each in one.peers]
    lines = "".join(f"<tr><th>{escape(name)}<td>{escape(text)}" for name, text in rows)
    mark = "" if one.well else ' <span class=warning title="something is wrong">not well</span>'
    return (
        f"<section class=card><header><strong>{escape(one.name)}</strong>"
        f"<span class='state {one.state.name}'>{one.state.name}</span>{mark}"
        f"<small>since {since}{escape(why)}</small></header><table>{lines}</table></section>"
    )


def _who(one: InstanceSnapshot) -> str:
    if one.owns:
        return "this host"
    return one.master.source if one.master is not None else "nobody is heard"


def _peer(peer: Peer, snapshot: Snapshot) -> str:
    ago = max(0, snapshot.taken - peer.heard) / 1e9
    said = f"advbase {peer.advbase}, advskew {peer.advskew}" if peer.kind == "advert" else "bowed out"
    return f"{peer.source}, {said}, heard {ago:.1f} s ago"


def _table(seen: Iterable[Seen]) -> str:
    rows = "".join(
        f"<tr class={one.event.severity}><td><time>{_moment(one.time)}</time><td>{escape(one.event.name)}"
        f"<td>{escape(one.event.text)}"
        for one in seen
    )
    return f"<table>{rows}</table>" if rows else ""


def _moment(ns: int) -> str:
    moment = datetime.fromtimestamp(ns / 1e9)
    today = moment.date() == datetime.fromtimestamp(time.time()).date()
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M:%S}"
