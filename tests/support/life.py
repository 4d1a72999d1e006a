"""A program with an engine, as it restarts: tests start it and its successors as processes of their own.

    python life.py VALUES INHERIT [WHEN]

VALUES is JSON for `VirtualHost`, a list of such. Events go to stdout as JSON, and "ready" once the engine runs. It ends
when it has handed everything on, or at the end of stdin. With WHEN it dies by SIGKILL at that point of a hand-over.
"Exec" on stdin: it leaves everything to a holder and replaces itself by another life.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any

from pycarp import CarpError, Engine, VirtualHost, events


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def die_when(point: str) -> None:
    """Die, or with ":stop" be stopped, where the hand-over is at this point, on whichever side of it; once."""
    from pycarp.engine.line import Line

    send, receive = Line.send, Line.receive
    what, _, how = point.partition(":")
    number = signal.SIGSTOP if how == "stop" else signal.SIGKILL
    left = [number]

    def dying_send(self: Line, message: dict[str, Any], fds: Any = ()) -> None:
        if what == f"send {next(iter(message))}" and left:
            os.kill(os.getpid(), left.pop())
        send(self, message, fds)

    def dying_receive(self: Line, *arguments: Any) -> Any:
        answer = receive(self, *arguments)
        if what == f"receive {next(iter(answer[0]))}" and left:
            os.kill(os.getpid(), left.pop())
        return answer

    Line.send, Line.receive = dying_send, dying_receive  # type: ignore[method-assign]


def main() -> None:
    values, inherit, when = [*sys.argv[1:], ""][:3]
    if when:
        die_when(when)
    engine = Engine(*(VirtualHost(**one) for one in json.loads(values)), inherit=inherit or None)  # type: ignore[arg-type]
    try:
        engine.start()
    except (CarpError, OSError) as error:
        say(event="refused", why=str(error))
        return
    say(event="ready", pid=os.getpid(), states=[engine.state(one.name).name for one in engine.hosts])
    try:
        while engine.hosts:
            ready, _, _ = select.select([engine, 0], [], [])
            while (event := engine.poll()) is not None:
                say(**event.as_dict())
            if 0 in ready:
                order = os.read(0, 64)
                if not order:
                    break
                if order.startswith(b"exec"):
                    engine.bequeath(5.0)
                    engine.stop()
                    os.execv(sys.executable, [sys.executable, __file__, values, "held"])
    finally:
        engine.stop()
    while (event := engine.poll()) is not None:
        if isinstance(event, events.HandedOn):
            say(**event.as_dict())


if __name__ == "__main__":
    main()
