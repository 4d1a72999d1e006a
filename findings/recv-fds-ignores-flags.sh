#!/bin/sh
# CPython: socket.recv_fds() takes `flags` and does not use them; descriptors it returns are inheritable.
#
# Expected: recv_fds(sock, size, maxfds, MSG_DONTWAIT | MSG_PEEK | MSG_CMSG_CLOEXEC) behaves as recvmsg() with these.
# Seen (CPython 3.11, 3.12, 3.13): the flags are dropped. With MSG_PEEK the message is gone after the call, and with
# MSG_CMSG_CLOEXEC the received descriptors are still inherited by every child, against PEP 446's rule that Python makes
# no inheritable descriptors. recvmsg() with the same flags does what it is told. Whoever passes sockets between
# processes (a restart without closing them, for one) has to use recvmsg(), or set_inheritable(fd, False) afterwards.
# Needs: any Python from 3.9; PYTHON chooses one. Nothing is installed.
set -eu
"${PYTHON:-python3}" - <<'PROGRAM'
import array, os, socket, sys

print("Python", sys.version.split()[0])
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
right.setblocking(False)
reader, _ = os.pipe()

socket.send_fds(left, [b"first"], [reader])
_, (by_recv_fds,), _, _ = socket.recv_fds(right, 16, 1, socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC)
try:
    right.recv(16)
    peeked = True
except BlockingIOError:
    peeked = False

socket.send_fds(left, [b"second"], [reader])
_, ancillary, _, _ = right.recvmsg(16, socket.CMSG_LEN(4), socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC)
by_recvmsg = array.array("i", ancillary[0][2])[0]
assert right.recv(16) == b"second", "recvmsg() with MSG_PEEK left the message where it was"

print("recv_fds(): message left by MSG_PEEK:", peeked, " inheritable:", os.get_inheritable(by_recv_fds))
print("recvmsg():  message left by MSG_PEEK: True   inheritable:", os.get_inheritable(by_recvmsg))
if peeked or not os.get_inheritable(by_recv_fds) or os.get_inheritable(by_recvmsg):
    sys.exit("CHANGED: recv_fds() uses its flags now")
print("SEEN: recv_fds() ignores its flags")
PROGRAM
