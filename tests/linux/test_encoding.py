"""Requests are what pyroute2 makes of the same wish, byte for byte; what the kernel sends is read as pyroute2 does."""

from __future__ import annotations

import inspect
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink import nftsocket
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from support import oracle
from support.linux import needs_namespaces

from pycarp.lab import links
from pycarp.lab.namespaces import Host, Lab
from pycarp.linux import fib, gate, interfaces, messages, neighbours, netlink, watch
from pycarp.linux.host_findings import machine

wire = needs_namespaces()

PARTS = {"new_link", "set_link", "link_of_kind"}
"""What requests are made of."""

indexes = st.integers(0, 2**31 - 1)
octets = st.integers(0, 255)
words = st.integers(0, 2**32 - 1)
macs = st.binary(min_size=6, max_size=6)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.@", min_size=1, max_size=15)
ips = st.ip_addresses()
network_of = {4: 32, 6: 128}


@st.composite
def interface_addresses(draw: st.DrawFn) -> Any:
    ip = draw(ips)
    return ipaddress.ip_interface((ip, draw(st.integers(0, network_of[ip.version]))))


@st.composite
def networks(draw: st.DrawFn) -> Any:
    return draw(interface_addresses()).network


@st.composite
def gatewayed(draw: st.DrawFn) -> dict[str, Any]:
    network = draw(networks())
    gateway = draw(st.none() | st.ip_addresses(v=network.version))
    return {"network": network, "gateway": gateway}


VALUES: dict[str, Any] = {
    "index": indexes,
    "parent": indexes,
    "master": indexes,
    "peer_namespace": indexes,
    "up": st.booleans(),
    "present": st.booleans(),
    "snooping": st.booleans(),
    "name": names,
    "peer": names,
    "alias": st.text("abcxyz 0123456789=ü€", max_size=200),
    "which": names | indexes,
    "mtu": words,
    "group": words,
    "mac": macs,
    "peer_mac": macs,
    "address": interface_addresses(),
    "source": ips,
    "table": words,
    "priority": words,
    "protocol": octets,
    "prefix_route": st.booleans(),
    "deprecated": st.booleans(),
    "onlink": st.booleans(),
}
SETTINGS = st.dictionaries(st.sampled_from(sorted(messages.IPV4_CONF)), st.integers(-(2**31), 2**31 - 1), max_size=20)
PORTS = st.dictionaries(st.sampled_from(("state", "unicast_flood", "mcast_flood", "bcast_flood")), octets)


def requests() -> list[Any]:
    found = []
    for room in (messages, links):
        for name, one in inspect.getmembers(room, inspect.isfunction):
            if one.__module__ == room.__name__ and not name.startswith("_") and name not in PARTS:
                found.append(pytest.param(one, id=name))
    return found


@pytest.mark.parametrize("request_of", requests())
def test_every_request_is_what_pyroute2_makes(request_of: Any) -> None:
    expected = getattr(oracle, request_of.__name__)
    parameters = [name for name in inspect.signature(request_of).parameters if name not in ("network", "gateway")]
    values = {"values": SETTINGS if request_of is messages.ipv4_conf else PORTS, **VALUES}
    drawn = st.fixed_dictionaries({name: values[name] for name in parameters})

    @given(drawn, gatewayed())
    def compare(arguments: dict[str, Any], more: dict[str, Any]) -> None:
        if request_of is messages.add_route:
            arguments |= more
        assert request_of(**arguments).hex(" ", 4) == expected(**arguments).hex(" ", 4)

    compare()


@st.composite
def routes(draw: st.DrawFn) -> fib.Route:
    network = draw(networks())
    family = oracle.family(network.version)
    gateways = st.ip_addresses(v=network.version).map(lambda ip: ((fib.RTA_GATEWAY, ip.packed),))
    single = draw(st.booleans())
    hop = st.builds(
        fib.Hop, indexes, st.just(()) | gateways, st.just(0) if single else octets, st.sampled_from((0, fib.ONLINK))
    )
    return fib.Route(
        family=family,
        prefix=(network.prefixlen, network.network_address.packed, 0, b""),
        kind=draw(st.sampled_from((fib.UNICAST, fib.THROW))),
        hops=tuple(draw(st.lists(hop, max_size=1) if single else st.lists(hop, min_size=2, max_size=4))),
        tos=draw(octets),
        metric=draw(words),
        preference=draw(octets),
        scope=draw(octets),
    )


@given(routes(), words, st.booleans(), st.data())
def test_routes(route: fib.Route, table: int, chosen: bool, data: st.DataObject) -> None:
    version = 4 if route.family == socket.AF_INET else 6
    source = data.draw(st.ip_addresses(v=version)) if chosen else None
    assert route.add(table, source).hex(" ", 4) == oracle.route_add(route, table, source).hex(" ", 4)
    if route.hops:
        assert route.delete(table).hex(" ", 4) == oracle.route_delete(route, table).hex(" ", 4)


@st.composite
def rules(draw: st.DrawFn) -> fib.Rule:
    source = draw(st.none() | networks())
    version = draw(st.sampled_from((4, 6))) if source is None else source.version
    return fib.Rule(
        family=oracle.family(version),
        priority=draw(words),
        action=draw(octets),
        table=draw(words),
        source=source,
        lengths=draw(octets),
        tos=draw(octets),
        flags=draw(words),
        protocol=draw(octets),
    )


@given(rules(), st.booleans())
def test_rules(rule: fib.Rule, anywhere: bool) -> None:
    assert rule.add().hex(" ", 4) == oracle.rule_add(rule).hex(" ", 4)
    assert rule.delete(anywhere).hex(" ", 4) == oracle.rule_delete(rule, anywhere).hex(" ", 4)


class Sent(Exception):
    pass


def test_requests_for_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recording:
        def send(self, data: bytes) -> None:
            raise Sent(data)

        def recv(self, *_words: int) -> bytes:
            raise BlockingIOError

        def setsockopt(self, *_words: int) -> None:
            pass

    route = netlink.RouteSocket.__new__(netlink.RouteSocket)
    route._socket, route._unread = Recording(), False  # type: ignore[assignment]
    for wanted in (netlink.RTM_GETLINK, netlink.RTM_GETADDR, netlink.RTM_GETNEIGH, netlink.RTM_GETRULE):
        for family in (0, 2, 10):
            with pytest.raises(Sent) as sent:
                route.dump(wanted, family)
            assert sent.value.args[0] == oracle.dump(wanted, family)
    for table, index, protocol in ((0, 0, 0), (254, 0, 0), (4711, 3, 0), (0, 3, 112)):
        with pytest.raises(Sent) as sent:
            route.dump_routes(2, table=table, index=index, protocol=protocol)
        assert sent.value.args[0] == oracle.dump_routes(2, table, index, protocol)


NFT = {
    0: nftsocket.nft_table_msg,
    2: nftsocket.nft_table_msg,
    3: nftsocket.nft_chain_msg,
    6: nftsocket.nft_rule_msg,
    9: nftsocket.nft_set_msg,
    12: nftsocket.nft_set_elem_list_msg,
}


def leaves(value: Any) -> Iterator[str]:
    """Every value that pyroute2 finds in an attribute, in order."""
    if isinstance(value, dict):
        value = [one[1] for one in value["attrs"]]
    if isinstance(value, list):
        for one in value:
            yield from leaves(one)
    elif isinstance(value, bytes):
        yield value.hex()
    else:
        yield "+".join(sorted(value)) if isinstance(value, frozenset) else str(value)


def spoken(table: gate.Table) -> tuple[list[str], list[str]]:
    """The rules of a gate, and whatever else makes it, in pyroute2's words."""
    rules, others = [], []
    for kind, flags, number, payload in list(netlink.messages(table.create))[1:-1]:
        raw = netlink.HEADER.pack(netlink.HEADER.size + len(payload), kind, flags, number, 0) + payload
        message = NFT[kind & 0xFF](raw)
        message.decode()
        assert message["nfgen_family"] == 5 and kind >> 8 == 10 and message["attrs"][0][1] == table.name
        assert all("NFTA_" in one[0] for one in message["attrs"])
        words = [" ".join(leaves(one[1])) for one in message["attrs"][1:] if one[0] != "NFTA_SET_USERDATA"]
        (rules if kind & 0xFF == 6 else others).append(" ".join(words).replace("NFT_", ""))
    return rules, others


def test_pyroute2_reads_the_gate_as_it_is_meant() -> None:
    addresses = [ipaddress.ip_address(one) for one in ("10.0.0.1", "fd00::1")]
    rules, others = spoken(gate.Table(3, 7, False, "carp0", "what it is", 700, addresses))
    ipv6 = addresses[1].packed.hex()
    assert others == [
        "what it is",
        "",
        "what it is",
        "alive SET_EVAL+SET_TIMEOUT 20 4 128 5 5000",
        "alive 03000000 3153600000000",
        "ipv4 SET_CONSTANT 7 4 1 4",
        "ipv4 0a000001",
        "ipv6 SET_CONSTANT 8 16 1 4",
        f"ipv6 {ipv6}",
        "keys",
        "shut-in",
        "shut-out",
        "in 0 -500 carp0 1 filter",
        "out 1 -500 carp0 1 filter",
    ]
    key = "keys payload REG_1 PAYLOAD_LL_HEADER 14"
    update = "meta REG_1 META_OIF dynset alive DYNSET_OP_UPDATE REG_1"
    drop = "immediate REG_VERDICT NF_DROP"
    assert rules[:3] == [
        f"{key} 4 cmp REG_1 CMP_EQ 07000000 meta REG_1 META_OIF dynset alive DYNSET_OP_DELETE REG_1 {drop}",
        f"{key} 4 cmp REG_1 CMP_EQ 07000001 {update} 3153600000000 {drop}",
        f"{key} 4 cmp REG_1 CMP_EQ 07000002 {update} 17 {drop}",
    ]
    kind = "meta REG_1 META_PROTOCOL cmp REG_1 CMP_EQ"
    network = "payload REG_1 PAYLOAD_NETWORK_HEADER"
    ipv4_set, ipv6_set, dead = "lookup ipv4 REG_1", "lookup ipv6 REG_1", "lookup alive REG_1 LOOKUP_F_INV"
    icmp = f"{kind} 86dd {network} 6 1 cmp REG_1 CMP_EQ 3a {network} 40 1 cmp REG_1 CMP_EQ"
    about = f"{network} 48 16 cmp REG_1 CMP_EQ {ipv6}"
    assert rules[-12:] == [
        f"{key} 2 cmp REG_1 CMP_EQ 0700 {drop}",
        f"out {kind} 88b5 immediate REG_VERDICT JUMP keys",
        f"in meta REG_1 META_IIF {dead} immediate REG_VERDICT GOTO shut-in",
        f"shut-in {kind} 0800 {network} 16 4 {ipv4_set} {drop}",
        f"shut-in {kind} 0806 {network} 24 4 {ipv4_set} {network} 14 4 {ipv4_set} LOOKUP_F_INV {drop}",
        f"shut-in {kind} 86dd {network} 24 16 {ipv6_set} {drop}",
        f"shut-in {icmp} 87 {about} {drop}",
        f"out meta REG_1 META_OIF {dead} immediate REG_VERDICT GOTO shut-out",
        f"shut-out {kind} 0800 {network} 12 4 {ipv4_set} {drop}",
        f"shut-out {kind} 0806 {network} 14 4 {ipv4_set} {drop}",
        f"shut-out {kind} 86dd {network} 8 16 {ipv6_set} {drop}",
        f"shut-out {icmp} 88 {about} {drop}",
    ]
    rules, others = spoken(gate.Table(3, 7, False, "carp0", "what it is", 700))
    assert len(others) == 7 and rules[-1] == f"out meta REG_1 META_OIF {dead} {drop}"


@pytest.fixture(scope="module")
def furnished() -> Iterator[Host]:
    """A namespace with one of each: devices, names, settings, addresses, routes, rules, neighbours."""
    with Lab(hosts=("main",), subnet6="fd00:7::/64") as lab:
        main = lab["main"]
        for command in (
            "ip link add carp0 link eth0 type macvlan mode bridge",
            "ip link set carp0 alias pycarp-x group 7",
            "ip link property add dev carp0 altname another altname third",
            "ip link add br0 type bridge",
            "ip link add v0 type veth peer name v1",
            "ip link set v0 master br0",
            "ip address add 10.9.0.1/24 dev eth0 label eth0:x",
            "ip address add 10.9.1.1 peer 10.9.1.2/32 dev eth0",
            "ip address add fd00:8::1/64 dev eth0 nodad",
            "ip address add 10.9.2.1/32 dev carp0 valid_lft 1000 preferred_lft 0",
            "ip route add 10.20.0.0/16 via 10.9.0.9 dev eth0 metric 77 table 4711",
            "ip route add 10.21.0.0/16 nexthop via 10.9.0.9 weight 3 nexthop via 10.9.0.8 weight 2",
            "ip route add unreachable 10.22.0.0/16",
            "ip -6 route add fd00:9::/64 via fd00:8::9 dev eth0 pref high expires 1000",
            "ip -6 route add fd00:a::/64 nexthop via fd00:8::9 dev eth0 nexthop via fd00:8::8 dev eth0",
            "ip rule add from 10.9.0.0/24 iif eth0 lookup 4711 priority 50 protocol 112",
            "ip rule add to 10.9.0.7 fwmark 7 unreachable priority 51",
            "ip -6 rule add from fd00:8::/64 lookup main suppress_prefixlength 0 priority 52",
            "ip neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0",
            "ip neigh add 10.9.0.78 dev eth0 nud failed",
        ):
            main.run(command.split())
        yield main


def decoded(kind: Any, payloads: list[bytes]) -> list[Any]:
    found = []
    for payload in payloads:
        message = kind(netlink.HEADER.pack(netlink.HEADER.size + len(payload), 16, 0, 0, 0) + payload)
        message.decode()
        found.append(message)
    return found


class TestWhatTheKernelSends:
    pytestmark = wire

    def dump(self, host: Host, wanted: int, family: int = 0) -> list[bytes]:
        with host.enter(), netlink.RouteSocket() as route:
            return route.dump(wanted, family)

    def test_links(self, furnished: Host) -> None:
        payloads = self.dump(furnished, netlink.RTM_GETLINK)
        for payload, theirs in zip(payloads, decoded(ifinfmsg, payloads), strict=True):
            ours = interfaces.parse_link(payload)
            info = theirs.get_attr("IFLA_LINKINFO")
            names = theirs.get_attr("IFLA_PROP_LIST")
            assert (ours.index, ours.name) == (theirs["index"], theirs.get_attr("IFLA_IFNAME"))
            assert ours.mac.hex(":") == theirs.get_attr("IFLA_ADDRESS")
            assert (ours.up, ours.loopback) == (bool(theirs["flags"] & 1), bool(theirs["flags"] & 8))
            assert (ours.alias or None) == theirs.get_attr("IFLA_IFALIAS")
            assert (ours.mtu, ours.group) == (theirs.get_attr("IFLA_MTU"), theirs.get_attr("IFLA_GROUP"))
            assert (ours.kind or None) == (info.get_attr("IFLA_INFO_KIND") if info else None)
            assert (ours.master or None) == theirs.get_attr("IFLA_MASTER")
            assert list(ours.altnames) == ([value for _name, value in names["attrs"]] if names else [])
            families = dict(theirs.get_attr("IFLA_AF_SPEC")["attrs"])
            settings = families["AF_INET"]
            theirs_by_name = {name: settings[name] for name in ours.ipv4 if name in settings}
            assert len(theirs_by_name) > 15
            assert {name: ours.ipv4[name] for name in theirs_by_name} == theirs_by_name
            conf6 = families["AF_INET6"].get_attr("IFLA_INET6_CONF")
            assert (ours.forwarding6, ours.disable_ipv6) == (conf6["forwarding"], conf6["disable_ipv6"])

    def test_addresses(self, furnished: Host) -> None:
        payloads = self.dump(furnished, netlink.RTM_GETADDR)
        assert len(payloads) > 6
        for payload, theirs in zip(payloads, decoded(ifaddrmsg, payloads), strict=True):
            parsed = interfaces.parse_address(payload)
            assert parsed is not None
            index, ours = parsed
            ip = theirs.get_attr("IFA_LOCAL") or theirs.get_attr("IFA_ADDRESS")
            assert (index, str(ours.interface)) == (theirs["index"], f"{ip}/{theirs['prefixlen']}")
            assert (ours.flags, ours.protocol) == (theirs.get_attr("IFA_FLAGS"), theirs.get_attr("IFA_PROTO") or 0)

    @pytest.mark.parametrize("family", fib.FAMILIES)
    def test_routes(self, furnished: Host, family: int) -> None:
        payloads = self.dump(furnished, netlink.RTM_GETROUTE, family)
        assert len(payloads) > 5
        for payload, theirs in zip(payloads, decoded(rtmsg, payloads), strict=True):
            ours = fib.parse_route(payload)
            nothing = "0.0.0.0" if family == socket.AF_INET else "::"
            assert fib.table_in(payload) == theirs.get_attr("RTA_TABLE")
            assert str(ours.network) == f"{theirs.get_attr('RTA_DST') or nothing}/{theirs['dst_len']}"
            assert (ours.kind, ours.scope, ours.protocol) == (theirs["type"], theirs["scope"], theirs["proto"])
            assert ours.metric == (theirs.get_attr("RTA_PRIORITY") or 0)
            assert ours.preference == (theirs.get_attr("RTA_PREF") or 0)
            hops = theirs.get_attr("RTA_MULTIPATH")
            if hops:
                expected = [(one["oif"], one["hops"], one.get_attr("RTA_GATEWAY")) for one in hops]
            else:
                expected = [(theirs.get_attr("RTA_OIF") or 0, 0, theirs.get_attr("RTA_GATEWAY"))]
            if ours.kind == 7:
                expected = []
            found = []
            for hop in ours.hops:
                gateway = dict(hop.attributes).get(fib.RTA_GATEWAY)
                found.append((hop.index, hop.weight, gateway and str(ipaddress.ip_address(gateway))))
            assert sorted(found, key=str) == sorted(expected, key=str)

    @pytest.mark.parametrize("family", fib.FAMILIES)
    def test_rules(self, furnished: Host, family: int) -> None:
        payloads = self.dump(furnished, netlink.RTM_GETRULE, family)
        assert len(payloads) > 2
        for payload, theirs in zip(payloads, decoded(fibmsg, payloads), strict=True):
            ours = fib.parse_rule(payload)
            assert (ours.priority, ours.action) == (theirs.get_attr("FRA_PRIORITY") or 0, theirs["action"])
            assert (ours.table, ours.protocol) == (theirs.get_attr("FRA_TABLE"), theirs.get_attr("FRA_PROTOCOL"))
            source = theirs.get_attr("FRA_SRC")
            assert (ours.source and str(ours.source)) == (source and f"{source}/{theirs['src_len']}")
            assert len(ours.get(fib.FRA_IIFNAME) or b"\0") - 1 == len(theirs.get_attr("FRA_IIFNAME") or "")

    def test_neighbours(self, furnished: Host) -> None:
        payloads = self.dump(furnished, netlink.RTM_GETNEIGH)
        theirs = {one.get_attr("NDA_DST") for one in decoded(ndmsg, payloads) if one.get_attr("NDA_LLADDR")}
        with furnished.enter():
            known = {str(one) for one in neighbours.neighbours([furnished.index("eth0")])}
        assert "10.9.0.77" in known and known <= theirs


@given(st.binary(max_size=400), st.sampled_from(sorted({*range(16, 35), 80, 81, 108, 2, 3})))
def test_no_length_of_the_kernels_is_believed(data: bytes, kind: int) -> None:
    raw = netlink.HEADER.pack(netlink.HEADER.size + len(data), kind, 0, 0, 0) + data
    for kind, flags, _number, payload in netlink.told(raw):
        if kind == netlink.NLMSG_ERROR:
            netlink.failure(flags, payload)
        elif kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
            assert fib.parse_route(payload).network.prefixlen <= 128
            fib.table_in(payload)
        elif kind in (netlink.RTM_NEWRULE, netlink.RTM_DELRULE):
            fib.parse_rule(payload)
        elif kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
            interfaces.parse_link(payload)
            machine.Link.parse(payload)
        watch._parse(kind, payload)
        watch._note(watch.RouteChanges(), kind, payload)


@given(st.integers(0, 0xFFFF), st.binary(max_size=60))
def test_an_answer_of_any_shape_is_an_error_or_none(flags: int, payload: bytes) -> None:
    error = netlink.failure(flags, payload)
    assert (error is None) is (len(payload) >= 4 and payload[:4] == bytes(4))
