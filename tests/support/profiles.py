"""Hosts as distributions and their administrators set them up: what a lab's hosts wear before engines start on them.

A lab's own settings (`plain`) are the same on every machine, and like no host in the field. A profile dresses the
hosts that run virtual hosts, and says what a client asks: the floating address, or something behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pycarp.lab import links
from pycarp.lab.namespaces import Host, Lab, Namespace
from pycarp.lab.profiles import (
    CONTAINER,
    DEBIAN_SETTINGS,
    FIREWALLD,
    FORWARDING,
    STRICT,
    bridge_with_container,
    docker_rules,
    load_rules,
    set_sysctls,
)
from pycarp.linux import messages

from .wire import VIP

FAR = "198.51.100.2"
"""A host behind the routers, in the profile `router`."""
BEYOND = "10.50.0.9"
"""The client's address in the profile `two-defaults`: it is reached by a gateway."""

_DROP = """
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop
    ct state { established, related } accept
    iif "lo" accept
    meta l4proto { icmp, icmpv6 } accept
    tcp dport { 22, 80 } accept
  }
  chain forward { type filter hook forward priority filter; policy drop; }
}
"""
_MASQUERADE = "table ip nat { chain post { type nat hook postrouting priority srcnat; oifname wan masquerade; }; }"


@dataclass(frozen=True)
class Profile:
    """`dress` is called for the names of the hosts that run virtual hosts, after `prepare` for the whole lab; what
    `prepare` makes besides lives until the lab is closed. `target` is what a client asks."""

    name: str
    dress: Callable[[Lab, Host], None]
    prepare: Callable[[Lab], None] = lambda lab: None
    target: str = VIP
    behind: bool = False
    """Whether what answers is behind the address, and not the host itself."""

    def apply(self, lab: Lab, names: Sequence[str]) -> None:
        self.prepare(lab)
        for name in names:
            self.dress(lab, lab[name])


def _plain(_lab: Lab, _host: Host) -> None:
    pass


def _debian(_lab: Lab, host: Host) -> None:
    set_sysctls(host, DEBIAN_SETTINGS)


def _debian_at_once(_lab: Lab, host: Host) -> None:
    set_sysctls(host, DEBIAN_SETTINGS, {f"ipv6.conf.{scope}.accept_dad": 0 for scope in ("default", "eth0")})


def _rhel(_lab: Lab, host: Host) -> None:
    set_sysctls(host, DEBIAN_SETTINGS, STRICT)
    load_rules(host, FIREWALLD)


def _nft_drop(_lab: Lab, host: Host) -> None:
    set_sysctls(host, DEBIAN_SETTINGS)
    load_rules(host, _DROP)


def _wan(lab: Lab) -> None:
    """A second switch, with a host behind the routers; the client's way there leads through the floating address."""
    lab.switch.request(links.add_bridge("wan", False))
    lab.switch.run(["ip", "link", "set", "wan", "up"])
    far = lab.add(Namespace())
    _cable(lab, "far", far, "eth0", "wan", f"{FAR}/24")
    lab["client"].run(["ip", "route", "add", "198.51.100.0/24", "via", VIP])
    set_sysctls(lab["client"], {"ipv4.conf.all.accept_redirects": 0, "ipv4.conf.eth0.accept_redirects": 0})


def _router(lab: Lab, host: Host) -> None:
    set_sysctls(host, DEBIAN_SETTINGS, STRICT, FORWARDING)
    _cable(lab, f"wan-{host.name}", host, "wan", "wan", f"198.51.100.{host.mac[5]}/24")
    load_rules(host, _MASQUERADE)


def _docker(lab: Lab, host: Host) -> None:
    """docker0 with one container; each host has the same, as with one compose file on all."""
    set_sysctls(host, DEBIAN_SETTINGS, FORWARDING)
    bridge_with_container(lab, host)
    # An echo request in the place of a published port.
    load_rules(host, docker_rules(f'iifname != "docker0" ip daddr {VIP} icmp type echo-request dnat to {CONTAINER};'))


def _two_nics(lab: Lab, host: Host) -> None:
    """A second card on the same LAN, with an address of another subnet."""
    set_sysctls(host, DEBIAN_SETTINGS)
    _cable(lab, f"nic-{host.name}", host, "eth1", "switch", f"10.20.0.{host.mac[5]}/24")
    set_sysctls(host, {"ipv4.conf.eth1.rp_filter": 2})


def _gateway(lab: Lab) -> None:
    """The client is behind a gateway: "gw" on the LAN sends on what it asks from `BEYOND`, and the answers."""
    gateway, client = lab["gw"], lab["client"]
    set_sysctls(gateway, FORWARDING, {"ipv4.conf.all.send_redirects": 0, "ipv4.conf.eth0.send_redirects": 0})
    client.run(["ip", "address", "add", f"{BEYOND}/32", "dev", "lo"])
    client.run(["ip", "route", "add", f"{VIP}/32", "via", gateway.address, "src", BEYOND])
    gateway.run(["ip", "route", "add", f"{BEYOND}/32", "via", client.address])


def _two_defaults(lab: Lab, host: Host) -> None:
    """The default route with the better metric is the gateway's; the other one leads nowhere."""
    set_sysctls(host, DEBIAN_SETTINGS)
    host.run(["ip", "route", "add", "default", "via", lab["gw"].address, "dev", "eth0", "metric", "100"])
    host.run(["ip", "route", "add", "default", "via", "10.13.37.250", "dev", "eth0", "metric", "200"])


def _cable(lab: Lab, port: str, host: Namespace, ifname: str, bridge: str, address: str) -> None:
    """A cable from a port of that name on one of the switch's bridges to a host's new interface."""
    lab.switch.run(["ip", "link", "add", port, "type", "veth", "peer", "name", ifname, "netns", host.path])
    lab.switch.run(["ip", "link", "set", port, "master", bridge, "up"])
    host.request(messages.link_state(host.index(ifname), True))
    host.run(["ip", "address", "add", address, "dev", ifname])


PLAIN = Profile("plain", _plain)
DEBIAN = Profile("debian", _debian)
USUAL = Profile("debian, new addresses at once", _debian_at_once)
"""What the tests on the wire run on: duplicate detection would keep each new link-local address back for 1-2 s."""
PROFILES = [
    DEBIAN,
    Profile("rhel", _rhel),
    Profile("nft-drop", _nft_drop),
    Profile("router", _router, _wan, FAR, behind=True),
    Profile("docker", _docker, behind=True),
    Profile("two-nics", _two_nics),
    Profile("two-defaults", _two_defaults, _gateway),
]
