"""Netlink requests for the links of a lab: bridges, their ports, and cables."""

from __future__ import annotations

from collections.abc import Mapping

from ..linux.messages import new_link, set_link

_AF_BRIDGE = 7
_NESTED = 0x8000


def add_bridge(name: str, snooping: bool) -> bytes:
    """A bridge that forwards at once and lets no firewall of the machine see its frames."""
    data = [
        ("IFLA_BR_FORWARD_DELAY", 0),
        ("IFLA_BR_STP_STATE", 0),
        ("IFLA_BR_MCAST_SNOOPING", int(snooping)),
        ("IFLA_BR_NF_CALL_IPTABLES", 0),
        ("IFLA_BR_NF_CALL_IP6TABLES", 0),
        ("IFLA_BR_NF_CALL_ARPTABLES", 0),
    ]
    kind = [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]
    attrs = [("IFLA_IFNAME", name), ("IFLA_LINKINFO", {"attrs": kind})]
    return new_link(attrs)


def add_veth(name: str, mac: bytes, peer: str, peer_mac: bytes, peer_namespace: int) -> bytes:
    """A cable: one end here, the other as `peer` in the namespace behind the descriptor `peer_namespace`."""
    other = [("IFLA_IFNAME", peer), ("IFLA_ADDRESS", peer_mac.hex(":")), ("IFLA_NET_NS_FD", peer_namespace)]
    kind = [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": other})]})]
    attrs = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac.hex(":")), ("IFLA_LINKINFO", {"attrs": kind})]
    return new_link(attrs)


def set_master(index: int, master: int) -> bytes:
    return set_link([("IFLA_MASTER", master)], index=index)


def bridge_port(index: int, values: Mapping[str, int]) -> bytes:
    """Change a port of a bridge: names of IFLA_BRPORT_* in lower case, such as ``state`` or ``bcast_flood``."""
    # Through AF_BRIDGE: as the data of a slave link the kernel takes a new state and overrules it in the same breath.
    # Without the flag for nesting, the attribute is read as one byte of state.
    info = {"attrs": [(f"IFLA_BRPORT_{name.upper()}", value) for name, value in values.items()]}
    return set_link([("IFLA_PROTINFO", info, _NESTED)], family=_AF_BRIDGE, index=index)
