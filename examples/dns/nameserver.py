"""A name server whose address is on the host where it answers: dnslib, asyncio and an engine in one program.

    python nameserver.py 10.13.37.53 --advskew 0 www.example.=192.0.2.80

On the other host the same with `--advskew 100`. As root, with the secret in /etc/carp.pass.
"""

import argparse
import asyncio
import contextlib
import signal
import socket
from functools import partial
from pathlib import Path

from dnslib import QTYPE, RCODE, RR, A, DNSRecord

import pycarp
from pycarp import aio

IP_FREEBIND = 15  # socket.IP_FREEBIND from Python 3.14 on


class NameServer(asyncio.DatagramProtocol):
    def __init__(self, zone):
        self.zone = zone
        self.hangs = False

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, client):
        question = DNSRecord.parse(data)
        answer = question.reply()
        name = str(question.q.qname)
        if name in self.zone:
            answer.add_answer(RR(name, QTYPE.A, rdata=A(self.zone[name]), ttl=60))
        else:
            answer.header.rcode = RCODE.NXDOMAIN
        if not self.hangs:
            self.transport.sendto(answer.pack(), client)


async def ask(address, name):
    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data, server):
            answered.set_result(data)

    loop = asyncio.get_running_loop()
    answered = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=address)
    try:
        transport.sendto(DNSRecord.question(name).pack())
        return [str(record.rdata) for record in DNSRecord.parse(await answered).rr]
    finally:
        transport.close()


def socket_on(address, port):
    """Also where the address is not: a backup has it only after a takeover."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    made.bind((address, port))
    made.setblocking(False)
    return made


async def serve(engine, zone, addresses, port=53):
    """Answer on these addresses, and start the engine; its check asks the first of them."""
    loop = asyncio.get_running_loop()
    servers = [NameServer(zone) for _ in addresses]
    for address, server in zip(addresses, servers, strict=True):
        await loop.create_datagram_endpoint(lambda server=server: server, sock=socket_on(address, port))
    await engine.start()
    probe = servers[0].transport.get_extra_info("sockname")
    engine.health.add("dns", partial(ask, probe, next(iter(zone))), interval=0.5, timeout=0.05)
    return servers


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("records", nargs="+", metavar="NAME=ADDRESS")
    parser.add_argument("--advskew", type=int, default=0)
    parser.add_argument("--passfile", type=Path, default="/etc/carp.pass")
    given = parser.parse_args()
    host = pycarp.VirtualHost(
        vhid=53,
        passphrase=given.passfile.read_text().strip(),
        addresses=[given.address],
        advskew=given.advskew,
        preempt=True,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    engine = aio.Engine(host, wait=10)
    try:
        await serve(engine, dict(record.split("=") for record in given.records), ["127.0.0.1", given.address])
        async for event in engine.events():
            print(event.text, flush=True)
    finally:
        await engine.stop()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
