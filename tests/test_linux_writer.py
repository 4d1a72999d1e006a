"""Orders to the writer: carried out in its thread, the last one counts, every outcome is reported."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from support.linux import VIP, VIP6, carpdev, floating, needs_namespaces, set_up

from pycarp.linux import netlink
from pycarp.linux.device import Device
from pycarp.linux.interfaces import read_interfaces
from pycarp.linux.lock import VirtualHostLock
from pycarp.linux.namespaces import Host, Lab
from pycarp.linux.writer import AddressWriter

pytestmark = needs_namespaces()


class Heard:
    """Collects what a writer reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, str, OSError | None, int, int]] = []

    def __call__(self, *report: Any) -> None:
        self.reports.append(report)

    def wait(self, count: int) -> list[tuple[int, str, OSError | None]]:
        deadline = time.monotonic() + 5
        while len(self.reports) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        return [(index, what, error) for index, what, error, _started, _finished in self.reports]


def _writer(host: Host, heard: Any) -> AddressWriter:
    with host.enter():
        return AddressWriter(heard)


def test_take_renew_and_drop() -> None:
    with Lab() as lab:
        main, heard = lab["main"], Heard()
        device = set_up(main, floating())
        writer = _writer(main, heard)
        # It was made in the host's namespace; orders come from a thread in another.
        writer.add(1, device)
        with lab["client"].ping(VIP) as ipv4, lab["client"].ping(VIP6) as ipv6:
            for order in ("take", "take", "renew", "drop", "drop"):
                getattr(writer, order)(1)
                writer.remove(1)
                writer.add(1, device)
                if order == "take":
                    assert ipv4.wait() and ipv6.wait()
        assert heard.wait(5) == [(1, order, None) for order in ("take", "take", "renew", "drop", "drop")]
        assert all(started < finished for *_rest, started, finished in heard.reports)
        writer.take(1)
        writer.close()
        assert heard.wait(6)[-1] == (1, "take", None)
        writer.take(1)
        assert len(heard.reports) == 6
        with main.enter():
            device.teardown()


def test_of_waiting_orders_the_last_counts() -> None:
    with Lab() as lab:
        main, heard = lab["main"], Heard()
        device = set_up(main, floating())
        first, free = threading.Event(), threading.Event()

        def slow(*report: Any) -> None:
            heard(*report)
            first.set()
            free.wait(5)

        writer = _writer(main, slow)
        writer.add(1, device)
        writer.add(2, device)
        writer.drop(1)
        assert first.wait(5)
        for order in (writer.take, writer.renew, writer.drop, writer.take, writer.drop, writer.renew):
            order(1)
        writer.take(2)
        free.set()
        writer.close()
        assert [report[:2] for report in heard.reports] == [(1, "drop"), (1, "drop"), (2, "take")]
        with main.enter():
            device.teardown()


def test_a_failure_is_reported_and_the_next_order_is_carried_out() -> None:
    with Lab() as lab:
        main, heard = lab["main"], Heard()
        device = set_up(main, floating())
        writer = _writer(main, heard)
        writer.add(1, device)
        main.run(["ip", "link", "del", "carp0"])
        writer.take(1)
        assert isinstance(heard.wait(1)[0][2], OSError)
        writer.drop(1)  # gone is as good as dropped
        assert heard.wait(2)[1] == (1, "drop", None)
        with main.enter():
            device.teardown()
            device.setup()
        writer.take(1)
        writer.close()
        assert heard.wait(3)[2] == (1, "take", None)
        with main.enter():
            device.teardown()


def test_a_route_that_cannot_be_had_does_not_make_a_take_fail() -> None:
    with Lab() as lab:
        main, heard = lab["main"], Heard()
        # A gateway that the kernel believes to be elsewhere: it refuses the copy of this route.
        main.run(
            "ip -6 addr add 2001:db8:7::1/64 dev lo; ip -6 route add default via 2001:db8:7::9 dev eth0 onlink",
            shell=True,
            check=False,
        )
        device = set_up(main, floating())
        writer = _writer(main, heard)
        writer.add(1, device)
        writer.take(1)
        assert heard.wait(1) == [(1, "take", None)]
        with lab["client"].ping(VIP6) as pinger:
            assert pinger.wait()
        writer.close()
        with main.enter():
            device.teardown()


def test_orders_for_nobody_are_nothing() -> None:
    with Lab() as lab:
        heard = Heard()
        writer = _writer(lab["main"], heard)
        writer.take(7)
        writer.remove(7)
        writer.close()
        writer.close()
        assert heard.reports == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_fails_does_not_stop_the_writer() -> None:
    with Lab() as lab:
        main = lab["main"]
        device = set_up(main, floating())
        writer = _writer(main, lambda *_report: 1 / 0)
        writer.add(1, device)
        writer.take(1)
        writer.remove(1)
        writer.add(1, device)
        writer.drop(1)
        writer.close()
        with main.enter():
            assert not carpdev("carp0").up
            device.teardown()


def test_several_drops_are_all_mute_before_the_first_link_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab() as lab:
        main, heard = lab["main"], Heard()
        with main.enter():
            eth0 = carpdev()
            locks = [VirtualHostLock(f"carp{vhid}", eth0, vhid) for vhid in range(1, 9)]
            devices = [
                Device(floating(f"10.13.37.{100 + n}/24", name=f"carp{n}").replace(vhid=n), eth0) for n in range(1, 9)
            ]
            for device in devices:
                device.setup()
            writer = AddressWriter(heard)
        for number, device in enumerate(devices):
            writer.add(number, device)
            writer.take(number)
        heard.wait(8)
        left: list[int] = []
        before = netlink.RouteSocket.execute

        def counting(self: netlink.RouteSocket, requests: bytes) -> list[OSError | None]:
            outcome = before(self, requests)
            with main.enter():
                left.append(sum(one.ours for interface in read_interfaces() for one in interface.addresses))
            return outcome

        monkeypatch.setattr(netlink.RouteSocket, "execute", counting)
        for number in range(8):
            writer.drop(number)
        writer.close()
        monkeypatch.undo()
        assert [what for _index, what, _error in heard.wait(16)[8:]] == ["drop"] * 8
        assert all(error is None for *_rest, error, _started, _finished in heard.reports)
        # At the latest from the second drop on, all the others have been waiting, and went in one batch.
        assert left.index(0) <= 3
        with main.enter():
            for device in devices:
                device.teardown()
        for lock in locks:
            lock.close()


def test_a_dead_socket_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab() as lab:
        main, heard = lab["main"], Heard()
        device = set_up(main, floating())
        writer = _writer(main, heard)
        writer.add(1, SimpleNamespace(take=b"", renew=b"", drop=b"", mute=(), essential=0))  # type: ignore[arg-type]
        writer.take(1)
        assert heard.wait(1) == [(1, "take", None)]
        monkeypatch.setattr(
            netlink.RouteSocket, "execute", lambda *_arguments: (_ for _ in ()).throw(OSError(105, "full"))
        )
        writer.take(1)
        assert isinstance(heard.wait(2)[1][2], OSError)
        monkeypatch.undo()
        writer.add(1, device)
        writer.take(1)
        writer.close()
        assert heard.wait(3)[2] == (1, "take", None)
        with main.enter():
            device.teardown()
