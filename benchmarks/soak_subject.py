"""pycarp as `soak` wears it out: a process with an engine, told what to be by JSON in its one argument.

Prints "ready" once the engine runs, then does what each line on stdin says; "sample" is answered by a line of JSON. The
end of stdin is the end.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pycarp
from pycarp.events import EventsLost, StateChanged


class Tally:
    """Counts events. It keeps none, so that what grows is the engine's."""

    def __init__(self) -> None:
        self.events = self.transitions = self.lost = 0

    def __call__(self, event: pycarp.Event) -> None:
        self.events += 1
        self.transitions += isinstance(event, StateChanged)
        if isinstance(event, EventsLost):
            self.lost += event.count


def sample(engine: pycarp.Engine, tally: Tally) -> dict[str, Any]:
    measures = engine.measures()
    return {
        "masters": sum(engine.state(host.name) is pycarp.State.MASTER for host in engine.hosts),
        "events": tally.events,
        "transitions": tally.transitions,
        "events_lost": tally.lost,
        "realtime": measures.realtime,
        "ring_losses": measures.ring_losses,
        "wakeup": measures.wakeup,
        "sending": measures.sending,
        "takeover": measures.takeover,
    }


def obey(engine: pycarp.Engine, tally: Tally, word: str) -> None:
    if word == "sample":
        print(json.dumps(sample(engine, tally)), flush=True)
    elif word == "demote":
        engine.demote()
    elif word == "undemote":
        engine.undemote()
    elif word == "announce":
        for host in engine.hosts:
            engine.announce(host.name)
    elif word == "reconfigure":
        engine.reconfigure(*(host.replace(advskew=host.advskew ^ 1) for host in engine.hosts))
    else:
        raise ValueError(f"{word!r} is no order")


def main() -> None:
    told = json.loads(sys.argv[1])
    tally = Tally()
    hosts = [pycarp.VirtualHost(**values) for values in told]
    with pycarp.Engine(*hosts, on_event=tally) as engine:
        print("ready", flush=True)
        for line in sys.stdin:
            obey(engine, tally, line.strip())


if __name__ == "__main__":
    main()
