"""What distributions and other programs set up on a host: the clothes that a lab's hosts wear in tests."""

from __future__ import annotations

from .namespaces import Host, Lab, Namespace

CONTAINER = "172.17.0.2"
"""The address of the container behind docker0."""

DEBIAN_SETTINGS = {
    # systemd's sysctl.d/50-default.conf; the rest is the kernel's own.
    "ipv4.conf.default.rp_filter": 2,
    "ipv4.conf.eth0.rp_filter": 2,
    "ipv4.conf.default.promote_secondaries": 1,
    "ipv4.conf.eth0.promote_secondaries": 1,
    "ipv6.conf.all.accept_dad": 0,
    "ipv6.conf.default.accept_dad": 1,
    "ipv6.conf.eth0.accept_dad": 1,
    "ipv6.conf.all.accept_ra": 1,
    "ipv6.conf.default.accept_ra": 1,
    "ipv6.conf.eth0.accept_ra": 1,
}
STRICT = {f"ipv4.conf.{scope}.rp_filter": 1 for scope in ("all", "default", "eth0")}
FORWARDING = {"ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1}
FIREWALLD = """
table inet firewalld {
  chain prerouting {
    type filter hook prerouting priority filter + 10
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain input {
    type filter hook input priority filter + 10; policy accept
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    meta l4proto { icmp, icmpv6 } accept
    tcp dport 22 accept
    reject with icmpx admin-prohibited
  }
}
"""


def docker_rules(published: str = "") -> str:
    """Docker's tables, as it writes them; `published` are the rules for published ports."""
    return f"""
table ip nat {{
  chain PREROUTING {{
    type nat hook prerouting priority dstnat; policy accept
    fib daddr type local counter jump DOCKER
  }}
  chain POSTROUTING {{
    type nat hook postrouting priority srcnat; policy accept
    ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
  }}
  chain DOCKER {{ {published} }}
}}
table ip filter {{
  chain FORWARD {{
    type filter hook forward priority filter; policy drop
    oifname "docker0" ct state related,established accept
    oifname "docker0" iifname != "docker0" ip daddr {CONTAINER} meta l4proto icmp accept
    iifname "docker0" oifname != "docker0" accept
  }}
}}
"""


def set_sysctls(host: Namespace, *settings: dict[str, int]) -> None:
    """Set these of net.* on a host."""
    host.run(["sysctl", "-qw", *(f"net.{name}={value}" for values in settings for name, value in values.items())])


def load_rules(host: Namespace, rules: str) -> None:
    """Have nft load them on a host."""
    host.run(["nft", "-f", "-"], input=rules)


def bridge_with_container(lab: Lab, host: Host) -> None:
    """docker0 with one container."""
    container = lab.add(Namespace())
    host.run(["ip", "link", "add", "docker0", "type", "bridge"])
    host.run(["ip", "address", "add", "172.17.0.1/16", "dev", "docker0"])
    end = ["name", "eth0", "netns", container.path]
    host.run(["ip", "link", "add", "veth0", "master", "docker0", "up", "type", "veth", "peer", *end])
    host.run(["ip", "link", "set", "docker0", "up"])
    container.run(["ip", "address", "add", f"{CONTAINER}/16", "dev", "eth0"])
    container.run(["ip", "link", "set", "eth0", "up"])
    container.run(["ip", "route", "add", "default", "via", "172.17.0.1"])
