"""The address of a PostgreSQL cluster: it is where Patroni's leader is, for as long as its lease in etcd lasts.

    python follow_patroni.py 10.13.37.5/24 [http://127.0.0.1:8008]

As root beside Patroni, on each node. Patroni answers 200 on /primary where its node is the leader.
"""

import signal
import sys
import time
import urllib.request

import pycarp

TTL = 10.0
"""Seconds: less than Patroni's `ttl` (30), so that the address goes before another node can be the leader."""


def leads(patroni):
    try:
        with urllib.request.urlopen(f"{patroni}/primary", timeout=TTL / 5) as answer:
            return answer.status == 200
    except OSError:
        return False


def main():
    address, patroni = sys.argv[1], (sys.argv[2:] or ["http://127.0.0.1:8008"])[0]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with pycarp.Owner(address, vhid=5, on_event=lambda event: print(event.text, flush=True)) as owner:
        while True:
            asked = time.monotonic()
            led = leads(patroni)
            left = TTL - (time.monotonic() - asked)
            if not led:
                owner.release()
            elif not owner.renew(left):
                owner.take(left)
            time.sleep(TTL / 10)


if __name__ == "__main__":
    main()
