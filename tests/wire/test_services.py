"""What the address is for: clients near and far, and services that live on it wherever it is."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

from support.lan import VIP, VIP6, Lan, wait_until

from pycarp import State, events
from pycarp.lab.namespaces import Host, Namespace

MASTER, BACKUP = State.MASTER, State.BACKUP
IP_FREEBIND = 15
DNS = 5353


class Service:
    """Answers every datagram to the address with its own name and what was asked."""

    def __init__(self, host: Host, freebind: bool) -> None:
        self.name = host.name.encode()
        with host.enter():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            if freebind:
                self._socket.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            self._socket.bind((VIP, DNS))
        self._wake, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="service")
        self._thread.start()

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        self._end.close()
        self._socket.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._end], [], [])
            if self._end in ready:
                return
            question, client = self._socket.recvfrom(512)
            with contextlib.suppress(OSError):
                self._socket.sendto(self.name + b" " + question, client)


@contextlib.contextmanager
def questions(net: Lan) -> Iterator[Callable[[], str | None]]:
    """A client's way to ask: the name of the host that answered, or None after a tenth of a second."""
    with net["client"].enter():
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    numbers = iter(range(1 << 16))
    with asking:
        asking.connect((VIP, DNS))
        asking.settimeout(0.1)

        def ask() -> str | None:
            question = b"who are you %d" % next(numbers)
            with contextlib.suppress(OSError):
                asking.send(question)
                while True:
                    name, _, echo = asking.recv(512).partition(b" ")
                    if echo == question:
                        return name.decode()
            return None

        yield ask


def test_a_service_that_waits_for_the_address(net: Lan) -> None:
    # Fault: The MASTER's cable is cut and plugged in; then it stops.
    # Expected: A service bound with IP_FREEBIND on both hosts answers on the host that has the address.
    with contextlib.ExitStack() as stack:
        for name in ("main", "second"):
            stack.callback(Service(net[name], freebind=True).close)
        ask = stack.enter_context(questions(net))
        main, second = net.start("main", advskew=10), net.start("second", advskew=25)
        main.become(MASTER)
        second.wait(events.PeerHeard)
        wait_until(lambda: ask() == "main")
        net.lab.unplug("main", seen=False)
        second.become(MASTER)
        wait_until(lambda: ask() == "second")
        net.lab.plug("main")
        second.become(BACKUP)
        wait_until(lambda: ask() == "main")
        main.stop()
        wait_until(lambda: ask() == "second")


def test_a_service_that_starts_when_the_address_has_come(net: Lan) -> None:
    # Fault: The MASTER stops.
    # Expected: A service that binds after AddressesTaken, without any option, binds and answers.
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    with contextlib.ExitStack() as stack:
        ask = stack.enter_context(questions(net))
        main.wait(events.AddressesTaken)
        service = Service(net["main"], freebind=False)
        stack.callback(service.close)
        wait_until(lambda: ask() == "main")
        second.wait(events.PeerHeard)
        main.stop()
        second.wait(events.AddressesTaken)
        stack.callback(Service(net["second"], freebind=False).close)
        wait_until(lambda: ask() == "second")


def test_a_client_beyond_a_gateway(net: Lan) -> None:
    # Fault: A client asks through a gateway; the MASTER's cable is cut, plugged in, and the new MASTER stops.
    # Expected: Answers go back through the carpdev's own gateway, from the virtual MAC.
    with Namespace() as far:
        router = net["client"]
        router.run(["ip", "link", "add", "wan", "type", "veth", "peer", "name", "wan", "netns", far.path])
        router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        for one, address, address6 in (
            (router, "198.51.100.1/24", "2001:db8:1::1/64"),
            (far, "198.51.100.2/24", "2001:db8:1::2/64"),
        ):
            one.run(["ip", "address", "add", address, "dev", "wan"])
            one.run(["ip", "address", "add", address6, "dev", "wan", "nodad"])
            one.run(["ip", "link", "set", "wan", "up"])
        far.run(["ip", "route", "add", "default", "via", "198.51.100.1"])
        far.run(["ip", "-6", "route", "add", "default", "via", "2001:db8:1::1"])
        for name in ("main", "second"):
            net[name].run(["ip", "route", "add", "default", "via", router.address])
            net[name].run(["ip", "-6", "route", "add", "default", "via", router.address6])
        addresses = (f"{VIP}/24", f"{VIP6}/64")
        main = net.start("main", advskew=10, addresses=addresses)
        second = net.start("second", advskew=25, addresses=addresses)
        main.become(MASTER)
        from pycarp.lab.namespaces import Pinger

        with far.enter():
            pingers = [Pinger(VIP), Pinger(VIP6)]
        with pingers[0], pingers[1]:
            assert all(pinger.wait(3) for pinger in pingers)
            second.wait(events.PeerHeard)
            net.lab.unplug("main")
            second.become(MASTER)
            assert all(pinger.wait(3) for pinger in pingers)
            net.lab.plug("main")
            main.become(BACKUP)
            second.stop()
            main.become(MASTER)
            # The table's routes went with the link, and are there again.
            assert all(pinger.wait(3) for pinger in pingers)


def test_a_default_route_that_comes_later(net: Lan) -> None:
    # Fault: None: the default route is added while the engine runs.
    # Expected: The table of the address follows: a client beyond the gateway is answered.
    with Namespace() as far:
        router = net["client"]
        router.run(["ip", "link", "add", "wan", "type", "veth", "peer", "name", "wan", "netns", far.path])
        router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        for one, number in ((router, 1), (far, 2)):
            one.run(["ip", "address", "add", f"198.51.100.{number}/24", "dev", "wan"])
            one.run(["ip", "link", "set", "wan", "up"])
        far.run(["ip", "route", "add", "default", "via", "198.51.100.1"])
        main = net.start("main")
        main.become(MASTER)
        net["main"].run(["ip", "route", "add", "default", "via", router.address])
        from pycarp.lab.namespaces import Pinger

        with far.enter():
            pinger = Pinger(VIP)
        with pinger:
            assert pinger.wait(3)
        # Until the new route was seen, answers may have left by the main table, with the carpdev's MAC.
        main.engine.force(101, BACKUP)
        main.become(MASTER)
        net["main"].run(["ip", "route", "delete", "default"])
    net.audited = False


def test_a_connection_outlives_nothing_but_a_new_one_succeeds(net: Lan) -> None:
    # Fault: The MASTER's cable is cut while a TCP connection stands.
    # Expected: The new owner resets the connection, and answers the next one.
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    with contextlib.ExitStack() as stack:
        listeners = {}
        for name in ("main", "second"):
            with net[name].enter():
                listener = stack.enter_context(socket.socket())
                listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
                listener.bind((VIP, 8080))
                listener.listen()
                listeners[name] = listener
        with net["client"].enter():
            old = stack.enter_context(socket.create_connection((VIP, 8080), timeout=3))
        stack.enter_context(listeners["main"].accept()[0])
        second.wait(events.PeerHeard)
        net.lab.unplug("main")
        second.become(MASTER)
        old.send(b"are you there")
        try:
            refused = old.recv(1) == b""
        except ConnectionResetError:
            refused = True
        assert refused
        with net["client"].enter():
            stack.enter_context(socket.create_connection((VIP, 8080), timeout=3))
        stack.enter_context(listeners["second"].accept()[0])


def test_a_service_on_a_backup_cannot_speak_for_the_address(net: Lan) -> None:
    # Fault: A service on a BACKUP sends from the address, which it has bound beforehand.
    # Expected: Nothing of it is on the wire until that host is MASTER.
    main, second = net.start("main", advskew=10), net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    with net["second"].enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaking:
        speaking.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        speaking.bind((VIP, 0))
        with contextlib.suppress(OSError):
            speaking.sendto(b"too early", (net["client"].address, 9))
        main.stop()
        second.become(MASTER)
        speaking.sendto(b"now", (net["client"].address, 9))
    assert net.capture.wait(lambda one: one.port == "second" and one.data.endswith(b"now"))
    assert not any(one.data.endswith(b"too early") for one in net.capture.frames)
