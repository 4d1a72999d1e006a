"""A UDP echo on a floating address that gives up root once the engine runs.

    python echo.py 10.13.37.7 --user nobody [--advskew 100] [--port 7]

As root, with the secret in /etc/carp.pass. The engine goes on without root: its guardian keeps what it needs.
"""

import argparse
import os
import pwd
import selectors
import signal
import socket
from pathlib import Path

import pycarp

IP_FREEBIND = 15  # socket.IP_FREEBIND from Python 3.14 on


def drop_root(name):
    """Be this user, for good."""
    user = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--user", default="nobody")
    parser.add_argument("--advskew", type=int, default=0)
    parser.add_argument("--port", type=int, default=7)
    parser.add_argument("--passfile", type=Path, default="/etc/carp.pass")
    given = parser.parse_args()
    passphrase = given.passfile.read_text().strip()
    host = pycarp.VirtualHost(vhid=7, passphrase=passphrase, addresses=[given.address], advskew=given.advskew)

    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)  # a backup does not have the address
    echo.bind((given.address, given.port))
    signal.signal(signal.SIGTERM, lambda *_: exit(0))
    with pycarp.Engine(host) as engine, selectors.DefaultSelector() as selector:
        drop_root(given.user)
        selector.register(echo, selectors.EVENT_READ)
        selector.register(engine, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is echo:
                    data, client = echo.recvfrom(65536)
                    echo.sendto(data, client)
                while (event := engine.poll()) is not None:
                    print(f"{event.text} (user {os.getuid()})", flush=True)


if __name__ == "__main__":
    main()
