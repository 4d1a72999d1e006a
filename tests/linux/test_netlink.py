"""The small netlink socket: acknowledgements in order, the kernel's words, dumps."""

from __future__ import annotations

import errno
import struct
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.linux import needs_namespaces

from pycarp.lab.namespaces import Lab
from pycarp.linux import messages, netlink

wire = needs_namespaces()


@given(st.binary(max_size=300))
def test_broken_bytes_are_read_as_far_as_they_go(data: bytes) -> None:
    for kind, _flags, _sequence, payload in netlink.messages(data):
        assert 0 <= kind < 1 << 16
        netlink.attributes(payload)
    assert all(len(value) < len(data) for value in netlink.attributes(data).values())


@given(st.lists(st.tuples(st.integers(1, 60), st.binary(max_size=20)), max_size=8))
def test_attributes_are_found_again(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(struct.pack("=HH", len(v) + 4, k | 0x8000) + v + bytes(-len(v) % 4) for k, v in pairs)
    assert netlink.attributes(data) == dict(pairs)


def test_a_batch_numbers_its_requests() -> None:
    batch = netlink.batch(messages.link_state(1, True), messages.delete_link(7))
    assert [(kind, sequence) for kind, _flags, sequence, _payload in netlink.messages(batch)] == [(19, 1), (17, 2)]
    assert netlink.batch() == b""


class TestOnTheKernel:
    pytestmark = wire

    def test_each_request_has_its_outcome_and_all_are_tried(self) -> None:
        with Lab(hosts=("main",)) as lab, lab["main"].enter(), netlink.RouteSocket() as route:
            index = lab["main"].index("eth0")
            outcome = route.execute(
                netlink.batch(
                    messages.link_state(index, True),
                    messages.link_state(4711, True),
                    messages.add_macvlan("eth0", index, bytes((2, 0, 0, 0, 0, 99))),
                    messages.link_state(1, True),
                )
            )
            assert [None if error is None else error.errno for error in outcome] == [
                None,
                errno.ENODEV,
                errno.EEXIST,
                None,
            ]
            assert route.execute(b"") == []
            with pytest.raises(OSError) as raised:
                route.request(messages.delete_link(4711))
            assert raised.value.errno == errno.ENODEV
            # Somebody was interrupted between a request and its answer.
            route._ask(netlink.batch(messages.link_state(4711, True)))
            assert route.execute(netlink.batch(messages.link_state(index, True))) == [None]
            route._ask(netlink.batch(messages.link_state(4711, True)))
            assert len(route.dump(netlink.RTM_GETLINK)) >= 2

    def test_the_kernel_may_say_more_than_a_number(self) -> None:
        with Lab(hosts=("main",)) as lab, lab["main"].enter(), netlink.RouteSocket() as route:
            (error,) = route.execute(netlink.batch(messages.link_state(4711, True)))
            assert isinstance(error, OSError) and str(error.strerror).startswith("No such device")

    def test_a_dump_of_many_objects_is_whole(self) -> None:
        with Lab(hosts=("main",)) as lab, lab["main"].enter(), netlink.RouteSocket() as route:
            many = [ip_interface(f"10.14.{n // 200}.{n % 200 + 1}/32") for n in range(1000)]
            index = lab["main"].index("eth0")
            # Far more acknowledgements than a socket can hold: the batch goes in parts.
            outcome = route.execute(netlink.batch(*(messages.add_address(index, one) for one in many)))
            assert outcome == [None] * 1000
            again = route.execute(netlink.batch(*(messages.delete_address(index, one) for one in many[:600:-1])))
            assert again == [None] * 399
            assert len(route.dump(netlink.RTM_GETADDR, 2)) == 603
            assert len(route.dump(netlink.RTM_GETLINK)) == 2
