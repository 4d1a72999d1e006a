#!/bin/sh
# Linux nf_tables (6.18): after a delete, closing any netfilter netlink socket waits for an RCU grace period.
#
# Expected: what a delete costs, the one who deletes pays: the commit is acknowledged when it is done, and close() of a
# netlink socket that nobody used is a matter of microseconds.
# Seen: the delete of a table is acknowledged at once, and the next close() of a NETLINK_NETFILTER socket in that network
# namespace (of the one who deleted, but also of an idle one that never sent a byte) takes 5 to 30 ms. After a table was
# added it takes microseconds. So a program that opens such a socket for each request, or a listener to conntrack events
# that ends, stands still because of somebody else's rules: close it in a thread that may wait, or keep it open.
# Needs: Linux with nf_tables, unshare (util-linux), python3; user namespaces or root. Nothing is installed.
set -eu
unshare --user --map-root-user --net python3 - <<'PROGRAM'
import os, socket, statistics, struct, sys, time

NETLINK_NETFILTER, NEWTABLE, DELTABLE, BEGIN, END = 12, 10 << 8, 10 << 8 | 2, 16, 17
REQUEST, ACK, CREATE, INET = 1, 4, 0x400, 1


def message(kind, flags, family, resource, body=b""):
    body = struct.pack(">BBH", family, 0, resource) + body
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def opened():
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    sock.bind((0, 0))
    return sock


def change(sock, kind, flags):
    name = struct.pack("HH", 6, 1) + b"t\0" + b"\0\0"
    sock.send(message(BEGIN, REQUEST, 0, 10) + message(kind, flags, INET, 0, name) + message(END, REQUEST, 0, 10))
    error = struct.unpack_from("i", sock.recv(4096), 16)[0]
    assert error == 0, os.strerror(-error)


def milliseconds(call):
    begun = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begun) / 1e6


def close_times(delete, which):
    times = []
    for _ in range(15):
        worker, idle = opened(), opened()
        change(worker, NEWTABLE, REQUEST | ACK | CREATE)
        if delete:
            change(worker, DELTABLE, REQUEST | ACK)
        times.append(milliseconds({"worker": worker, "idle": idle}[which].close))
        if not delete:
            change(worker if which == "idle" else idle, DELTABLE, REQUEST | ACK)
        worker.close()
        idle.close()
        time.sleep(0.05)
    return statistics.median(times)


print("Linux", os.uname().release)
seen = {}
for delete in (False, True):
    for which in ("worker", "idle"):
        seen[delete, which] = close_times(delete, which)
        print(f"close() of the {which} socket after {'a delete' if delete else 'an addition'}: {seen[delete, which]:.3f} ms")
if seen[True, "idle"] < 20 * seen[False, "idle"] or seen[True, "worker"] < 20 * seen[False, "worker"]:
    sys.exit("CHANGED: a delete does not slow down closes any more")
print("SEEN: a delete makes the next close of any netfilter socket wait")
PROGRAM
