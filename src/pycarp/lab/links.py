"""Netlink requests for the links of a lab: bridges, their ports, and cables."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from ..linux import netlink
from ..linux.messages import IFLA_ADDRESS, IFLA_IFNAME, link_of_kind, new_link, set_link
from ..linux.netlink import attribute, message, nest, text, word

# include/uapi/linux/if_link.h, veth.h
_IFLA_MASTER, _IFLA_PROTINFO, _IFLA_NET_NS_FD, _VETH_INFO_PEER = 10, 12, 28, 1
_IFLA_BR_FORWARD_DELAY, _IFLA_BR_STP_STATE, _IFLA_BR_MCAST_SNOOPING = 1, 5, 23
_IFLA_BR_NF_CALLS = (36, 37, 38)
"""For iptables, ip6tables and arptables."""
_PORT = {"state": 1, "unicast_flood": 9, "mcast_flood": 27, "bcast_flood": 30}
"""IFLA_BRPORT_*, each an octet."""


def add_bridge(name: str, snooping: bool) -> bytes:
    """A bridge that forwards at once and lets no firewall of the machine see its frames."""
    octets = {_IFLA_BR_MCAST_SNOOPING: snooping, **dict.fromkeys(_IFLA_BR_NF_CALLS, False)}
    data = [word(_IFLA_BR_FORWARD_DELAY, 0), word(_IFLA_BR_STP_STATE, 0)]
    data += [attribute(number, bytes((value,))) for number, value in octets.items()]
    return new_link(text(IFLA_IFNAME, name), link_of_kind("bridge", *data))


def add_veth(name: str, mac: bytes, peer: str, peer_mac: bytes, peer_namespace: int) -> bytes:
    """A cable: one end here, the other as `peer` in the namespace behind the descriptor `peer_namespace`."""
    other = (
        netlink.LINK.pack(0, 0, 0, 0, 0),
        text(IFLA_IFNAME, peer),
        attribute(IFLA_ADDRESS, peer_mac),
        word(_IFLA_NET_NS_FD, peer_namespace),
    )
    return new_link(
        text(IFLA_IFNAME, name), attribute(IFLA_ADDRESS, mac), link_of_kind("veth", nest(_VETH_INFO_PEER, *other))
    )


def set_master(index: int, master: int) -> bytes:
    return set_link(index, word(_IFLA_MASTER, master))


def bridge_port(index: int, values: Mapping[str, int]) -> bytes:
    """Change a port of a bridge: ``state``, ``unicast_flood``, ``mcast_flood``, ``bcast_flood``."""
    # Through AF_BRIDGE: as the data of a slave link the kernel takes a new state and overrules it in the same breath.
    # Without the flag for nesting, the attribute is read as one byte of state.
    head = netlink.LINK.pack(socket.AF_BRIDGE, 0, index, 0, 0)
    info = (attribute(_PORT[name], bytes((value,))) for name, value in values.items())
    return message(netlink.RTM_SETLINK, netlink.ACK, head, nest(_IFLA_PROTINFO | netlink.NESTED, *info))
