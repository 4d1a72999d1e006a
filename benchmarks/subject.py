"""pycarp as `wire` measures it: a process with an engine, told what to be by JSON in its one argument.

Prints "ready" once the engine runs, stops in order at SIGTERM, and then prints the counters of its first
virtual host and what its runtime measured of itself.
"""

from __future__ import annotations

import ctypes
import json
import signal
import struct
import sys
import threading
from dataclasses import asdict
from typing import Any

import pycarp

_CAP_SYS_NICE = 23
_SYS_CAPSET_VERSION = 0x20080522


def drop_realtime() -> None:
    """Give up CAP_SYS_NICE, for this process: no SCHED_FIFO from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _SYS_CAPSET_VERSION, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("=6I", data.raw))
    for place in (0, 1, 2):
        words[place] &= ~(1 << _CAP_SYS_NICE)
    if libc.capset(header, struct.pack("=6I", *words)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def virtual_hosts(told: dict[str, Any]) -> list[pycarp.VirtualHost]:
    return [
        pycarp.VirtualHost(
            vhid=vhid,
            passphrase=told["passphrase"],
            addresses=[f"{told['prefix']}{vhid}/16"],
            advskew=told["advskew"],
            preempt=True,
            pace=told.get("pace", 0),
            state=pycarp.State.MASTER if told["master"] else None,
        )
        for vhid in range(1, told["count"] + 1)
    ]


def main() -> None:
    told = json.loads(sys.argv[1])
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    if not told["realtime"]:
        drop_realtime()
    moves: list[str] = []

    def note(event: pycarp.Event) -> None:
        if isinstance(event, pycarp.events.StateChanged | pycarp.events.PaceChanged):
            moves.append(event.text)

    engine = pycarp.Engine(*virtual_hosts(told), on_event=note)
    engine.start()
    print("ready", flush=True)
    # Called with the GIL held, as a badly written extension module does it.
    hold = ctypes.PyDLL(None).sleep
    while told["hold_gil"] and not stopping.wait(0.001):
        hold(told["hold_gil"])
    stopping.wait()
    told_in_the_end = {"counters": engine.stats(1), "measures": asdict(engine.measures()), "moves": moves}
    engine.stop()
    print(json.dumps(told_in_the_end), flush=True)


if __name__ == "__main__":
    main()
