"""Sees from outside who holds an address and who answers for it; a process of its own, so that no test delays it.

    python chaos_witness.py DESCRIPTOR ADDRESS SECONDS

DESCRIPTOR is a netlink socket that gets the notices of all hosts in one queue: their order is the kernel's, their times
are this process's reading of them, in ns of CLOCK_REALTIME as everywhere here. ADDRESS is asked for an echo every
SECONDS, from the namespace that the process was started in. On standard output, as JSON:

    [at, nsid, payload]     a notice
    {"answers": n}          how many requests were answered until now, when that has changed
    {"requests": [[sent, answered or null], ...]}  in answer to a line with a time: those sent since then
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any

from pycarp.lab.pinger import Pinger

_SOL_NETLINK, _LISTEN_ALL_NSID = 270, 8
_LARGEST = 1 << 16


def main() -> None:
    notices = socket.socket(fileno=int(sys.argv[1]))
    notices.setblocking(False)
    # Before what it watches, where that is allowed; it does very little.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with Pinger(sys.argv[2], float(sys.argv[3])) as pinger:
        say({"ready": True})
        watch(notices, pinger)


def watch(notices: socket.socket, pinger: Pinger) -> None:
    poll = select.poll()
    poll.register(notices, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    answers, orders = 0, b""
    while True:
        ready = [number for number, _events in poll.poll(20)]
        if notices.fileno() in ready:
            drain(notices)
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                return
            *lines, orders = (orders + data).split(b"\n")
            for line in lines:
                say({"requests": [one for one in pinger.requests() if one[0] >= int(line)]})
        if pinger.received != answers:
            answers = pinger.received
            say({"answers": answers})


def drain(notices: socket.socket) -> None:
    lines = []
    while True:
        try:
            data, ancillary, _flags, _sender = notices.recvmsg(_LARGEST, 64)
        except BlockingIOError:
            break
        at = time.time_ns()
        nsid = [
            struct.unpack("=i", value)[0]
            for level, kind, value in ancillary
            if (level, kind) == (_SOL_NETLINK, _LISTEN_ALL_NSID)
        ]
        # Those without a number are the switch's own.
        if nsid:
            lines.append([at, nsid[0], data.hex()])
    # Only now: the times of the next ones do not wait for a pipe.
    for line in lines:
        say(line)


def say(line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
