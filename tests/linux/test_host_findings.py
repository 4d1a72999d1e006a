"""Every kind of finding appears on a host that has the fault, and is gone after its remedy."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.linux import needs_namespaces

from pycarp import Engine, VirtualHost, events
from pycarp.lab.namespaces import Host, Lab
from pycarp.linux import host_findings
from pycarp.linux.host_findings import KINDS, Finding, finding, firewall, look, look_at_start, machine
from pycarp.linux.host_findings.machine import Link, Machine

pytestmark = needs_namespaces()

ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = ["10.13.37.42/24", "2001:db8::42/64"]
NFT = "nft -f - <<E\n%s\nE"


@dataclass(frozen=True)
class Case:
    """Commands that make the fault and those that mend it; `host` and `mended` change the virtual host's fields."""

    kind: str
    fault: str
    remedy: str = ""
    host: dict[str, Any] = field(default_factory=dict)
    mended: dict[str, Any] = field(default_factory=dict)
    where: str = "carp0"
    says: str = ""


def sysctl(*settings: str) -> str:
    return "sysctl -qw " + " ".join(f"net.{one}" for one in settings)


def chain(family: str, hook: str, *rules: str, policy: str = "accept", name: str = "c") -> str:
    body = "\n".join((f"type filter hook {hook} priority 0; policy {policy};", *rules))
    return NFT % f"table {family} fw {{\nchain {name} {{\n{body}\n}}\n}}"


FLUSH = "nft flush ruleset"
MACVLAN = {"addresses": ["10.20.0.42/24"]}
BRIDGE = "ip link add br0 type bridge; ip link add p0 type veth peer name p1; ip link set p0 master br0 up; "
CASES = [
    Case("rp-filter", sysctl("ipv4.conf.all.rp_filter=1"), sysctl("ipv4.conf.eth0.rp_filter=2")),
    Case("rp-filter", sysctl("ipv4.conf.eth0.rp_filter=1"), mended={"mac": "interface"}),
    Case("arp-ignore", sysctl("ipv4.conf.all.arp_ignore=8"), sysctl("ipv4.conf.all.arp_ignore=1")),
    Case(
        "ipv6-disabled",
        sysctl("ipv6.conf.eth0.disable_ipv6=1"),
        sysctl("ipv6.conf.eth0.disable_ipv6=0"),
        host={"carpdev": "eth0"},
    ),
    Case(
        "accept-ra",
        sysctl("ipv6.conf.eth0.forwarding=1", "ipv6.conf.eth0.accept_ra=1"),
        sysctl("ipv6.conf.eth0.accept_ra=2"),
    ),
    Case(
        "tcp-loose",
        sysctl("netfilter.nf_conntrack_tcp_loose=0"),
        sysctl("netfilter.nf_conntrack_tcp_loose=1"),
        where="",
    ),
    Case(
        "rule-own-address",
        "ip rule add from 10.13.37.11 lookup 100 priority 100",
        "ip rule add from 10.13.37.42 lookup 100 priority 100",
        says="the IPv4 rule 100 (lookup 100)",
    ),
    Case(
        "rules-equal",
        "ip -6 rule add from all lookup 7 priority 9; ip -6 rule add from all lookup 8 priority 9",
        "ip -6 rule del lookup 8 priority 9; ip -6 rule add from all lookup 8 priority 10",
    ),
    Case(
        "subnet-elsewhere",
        "ip link add eth1 type veth peer name eth2; ip address add 10.99.0.1/24 dev eth1",
        "ip address add 10.99.0.2/24 dev eth0",
        host={"addresses": ["10.99.0.42/24"], "carpdev": "eth0"},
    ),
    Case("address-here", "ip address add 10.13.37.42/24 dev eth0", "ip address del 10.13.37.42/24 dev eth0"),
    Case(
        "no-interface",
        "true",
        "ip link add eth7 type veth peer name eth8",
        host={"carpdev": "eth7"},
        says="no interface eth7",
    ),
    Case(
        "same-mac",
        "ip link add vrrp.101 link eth0 address 00:00:5e:00:01:65 type macvlan mode bridge",
        "ip link del vrrp.101",
    ),
    Case("wireless", "mkdir -p $ROOT/sys/class/net/eth0/wireless", mended={"mac": "interface"}),
    Case(
        "carpdev-is-port",
        "ip link add br0 type bridge; ip link set eth0 master br0",
        "ip link set eth0 nomaster",
        says="belong on br0",
    ),
    Case(
        "peer-routed",
        "ip route add 192.0.2.0/24 via 10.13.37.1",
        "ip address add 192.0.2.1/24 dev eth0",
        host={"peers": ["192.0.2.2"]},
        says="beyond a router, 10.13.37.1:",
    ),
    Case(
        "peer-unreachable",
        "ip neigh add 10.13.37.12 dev eth0 nud failed",
        "ip neigh replace 10.13.37.12 dev eth0 lladdr 02:00:00:00:00:12",
        host={"peers": ["10.13.37.12"]},
        says="it does not answer",
    ),
    Case(
        "peers-own",
        "ip address add 10.13.37.15/24 dev eth0",
        "ip address del 10.13.37.15/24 dev eth0",
        host={"peers": ["10.13.37.15"]},
    ),
    Case(
        "peer-source",
        "ip address flush dev eth0 scope global",
        "ip address add 10.13.37.11/24 dev eth0",
        host={"peers": ["10.13.37.12"], "carpdev": "eth0"},
    ),
    Case("carpdev-down", "ip link set eth0 down", "ip link set eth0 up", host={"carpdev": "eth0"}),
    Case(
        "no-carrier",
        "ip link add eth5 type veth peer name eth6; ip link set eth5 up; ip address add 10.20.0.1/24 dev eth5",
        "ip link set eth6 up; sleep 0.1",
        host=MACVLAN,
    ),
    Case("mtu", "ip link set eth0 mtu 1200", "ip link set eth0 mtu 1280", host={"carpdev": "eth0"}),
    Case(
        "carpdev-is-macvlan",
        "ip link add eth1 link eth0 type macvlan mode bridge; ip address add 10.20.0.1/24 dev eth1",
        host=MACVLAN,
        mended={"mac": "interface"},
    ),
    Case(
        "bridge-port",
        BRIDGE + "ip address add 10.20.0.1/24 dev br0; bridge link set dev p0 mcast_flood off",
        "bridge link set dev p0 mcast_flood on",
        host=MACVLAN,
        says="mcast_flood on",
    ),
    Case(
        "bridge-port",
        BRIDGE + "ip address add 10.20.0.1/24 dev br0; bridge link set dev p0 neigh_suppress on",
        "bridge link set dev p0 neigh_suppress off",
        host=MACVLAN,
        says="neigh_suppress off",
    ),
    Case(
        "fib-filter",
        chain("inet", "prerouting", "meta nfproto ipv6 fib saddr . mark . iif oif missing drop"),
        mended={"mac": "interface"},
    ),
    Case("rules-by-interface", chain("inet", "input", "iifname eth0 tcp dport 80 accept", policy="drop"), FLUSH),
    Case(
        "rules-by-interface",
        chain("ip", "input", "iifname { eth0, lo } accept"),
        FLUSH + "\n" + chain("ip", "input", "iifname { eth0, carp0 } accept"),
        says="chain c of table ip fw has rules for eth0",
    ),
    Case("rules-by-interface", chain("inet", "input", "iif eth0 counter accept"), mended={"mac": "interface"}),
    Case("egress-filter", chain("netdev", "egress device eth0", policy="drop"), FLUSH),
    Case("ingress-filter", chain("netdev", "ingress device eth0", "udp dport 9 drop"), FLUSH),
    Case("bridge-filter", "ip link add br0 type bridge; " + chain("bridge", "forward", policy="drop"), FLUSH, where=""),
    Case("input-policy", chain("inet", "input", policy="drop"), FLUSH, where=""),
    Case(
        "bridge-netfilter",
        "ip link add br0 type bridge; " + sysctl("bridge.bridge-nf-call-arptables=1"),
        sysctl(*(f"bridge.bridge-nf-call-{one}=0" for one in ("iptables", "ip6tables", "arptables"))),
        where="",
    ),
    Case(
        "kill-mode",
        "mkdir -p $ROOT/etc/systemd/system; "
        "printf '[Service]\\nExecStart=/usr/bin/pycarp run\\n' > $ROOT/etc/systemd/system/carp.service",
        "mkdir -p $ROOT/etc/systemd/system/carp.service.d; "
        "printf '[Service]\\nKillMode=mixed\\n' > $ROOT/etc/systemd/system/carp.service.d/pycarp.conf",
        where="carp.service",
    ),
]
"""Faults that need no more than commands; the other kinds have tests of their own below."""


@pytest.fixture
def main() -> Iterator[Host]:
    with Lab(("main",)) as lab:
        yield lab["main"]


def virtual_host(**changes: Any) -> VirtualHost:
    return VirtualHost(
        **{
            "vhid": 101,
            "addresses": ADDRESSES,
            "name": "carp0",
            "preempt": True,
            "passphrase": "motdepassehalakon",
            **changes,
        }
    )


def seen(host: Host, kind: str, *hosts: VirtualHost, root: Path = Path("/")) -> list[Finding]:
    with host.enter():
        return [one for one in look(hosts, root) if one.kind == kind]


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case.kind}" for number, case in enumerate(CASES)])
def test_a_fault_is_found_and_its_remedy_ends_it(main: Host, tmp_path: Path, case: Case) -> None:
    environment = {**os.environ, "ROOT": str(tmp_path)}
    virtual = virtual_host(**case.host)
    if case.kind != "no-interface":
        assert seen(main, case.kind, virtual, root=tmp_path) == []
    main.run(["sh", "-ec", case.fault], env=environment)
    found = seen(main, case.kind, virtual, root=tmp_path)
    assert [one.where for one in found] == [case.where]
    assert case.says in found[0].text
    with main.enter():
        at_start = [one.kind for one in look_at_start([virtual])]
    # Files are not looked for elsewhere than where they belong when an engine starts.
    if case.kind != "wireless":
        assert (case.kind in at_start) is KINDS[case.kind].at_start
    if case.remedy:
        main.run(["sh", "-ec", case.remedy], env=environment)
    assert seen(main, case.kind, virtual_host(**{**case.host, **case.mended}), root=tmp_path) == []


def test_no_route_leads_to_a_peer(main: Host) -> None:
    found = seen(main, "peer-unreachable", virtual_host(peers=["2001:db8:ffff::2"], addresses=["2001:db8::42/64"]))
    assert ["no route leads there" in one.message for one in found] == [True]


def test_a_bond_that_rewrites_arp(main: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not every kernel has bonds: what netlink would say of one.
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    def bond(mode: int) -> Link:
        message = ifinfmsg()
        message["index"] = main.index("eth0")
        info = [("IFLA_INFO_KIND", "bond"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_BOND_MODE", mode)]})]
        message["attrs"] = [("IFLA_LINKINFO", {"attrs": info})]
        message.encode()
        return Link.parse(bytes(message.data)[16:])

    for mode, expected in ((6, 1), (1, 0)):
        monkeypatch.setattr(machine, "read_links", lambda mode=mode: [bond(mode)])
        assert len(seen(main, "bond-alb", virtual_host())) == expected


def test_many_virtual_hosts_need_room_for_neighbours(main: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # The limit is the whole machine's and shows in its own namespace only.
    for number in (200, 201):
        main.run(["ip", "neigh", "add", f"10.13.37.{number}", "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
    hosts = [virtual_host(vhid=vhid, name=f"carp{vhid}", addresses=[f"10.13.37.{vhid}/24"]) for vhid in range(100, 120)]
    setting = Machine.setting
    for limit, expected in ((20, 1), (1024, 0)):
        monkeypatch.setattr(
            Machine, "setting", lambda self, name, limit=limit: limit if "gc_thresh3" in name else setting(self, name)
        )
        found = seen(main, "neighbour-table", *hosts)
        assert len(found) == expected and all("20 virtual hosts on eth0" in one.message for one in found)


def test_an_old_kernel(main: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(main, "kernel-old", virtual_host()) == []
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "5.10.0-30-amd64", "1", "x86_64")))
    assert len(seen(main, "kernel-old", virtual_host())) == 1
    (no_gate,) = seen(main, "no-gate", virtual_host())
    assert "Linux 5.10" in no_gate.message


def test_a_gateway_pair_without_preempt(main: Host) -> None:
    main.run(["sh", "-ec", "ip link add eth1 type veth peer name eth2; ip address add 10.20.0.1/24 dev eth1"])
    for preempt, expected in ((False, 1), (True, 0)):
        other = virtual_host(vhid=102, name="carp1", addresses=["10.20.0.42/24"], preempt=preempt)
        assert len(seen(main, "no-preempt", virtual_host(preempt=preempt), other)) == expected


# Other programs

LISTENER = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as listening:
    listening.bind((0, 1))
    print("ready", flush=True)
    sys.stdin.read()
"""


def listener(host: Host, name: str, *words: str) -> None:
    """A process of that name that listens for changes of interfaces, until the host is closed."""
    process = host.popen([sys.executable, "-c", LISTENER, name, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_systemd_networkd_that_would_configure_the_device(main: Host, tmp_path: Path) -> None:
    network = "etc/systemd/network"
    write(tmp_path, f"{network}/50-all.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n")
    assert seen(main, "networkd-manages", virtual_host(), root=tmp_path) == []
    listener(main, "systemd-network")
    (found,) = seen(main, "networkd-manages", virtual_host(), root=tmp_path)
    assert "/etc/systemd/network/50-all.network" in found.message
    shipped = (ROOT / "packaging" / "networkd" / "10-pycarp.network").read_text()
    write(tmp_path, f"{network}/10-pycarp.network", shipped)
    assert seen(main, "networkd-manages", virtual_host(), root=tmp_path) == []
    assert seen(main, "networkd-manages", virtual_host(mac="interface"), root=tmp_path) == []


@pytest.mark.parametrize(
    "match, fits",
    [
        ("Name=eth* carp0", True),
        ("Name=eth*", False),
        ("Name=!carp*", False),
        ("Name=!eth* lo", True),
        ("Type=ether", True),
        ("Kind=macvlan\nName=en*", False),
        ("Kind=veth", False),
        ("MACAddress=02:00:00:00:00:01", False),
        ("", False),
    ],
)
def test_which_network_file_is_for_the_device(main: Host, tmp_path: Path, match: str, fits: bool) -> None:
    write(tmp_path, "usr/lib/systemd/network/80-x.network", f"[Match]\n{match}\n[Network]\nDHCP=yes\nDNS=1\nDNS=2\n")
    listener(main, "systemd-network")
    assert len(seen(main, "networkd-manages", virtual_host(), root=tmp_path)) == fits


def test_systemd_networkd_that_removes_rules(main: Host, tmp_path: Path) -> None:
    listener(main, "systemd-network")
    assert len(seen(main, "networkd-rules", virtual_host(), root=tmp_path)) == 1
    text = "[Network]\nManageForeignRoutingPolicyRules=no\n"
    write(tmp_path, "etc/systemd/networkd.conf.d/pycarp.conf", text)
    assert seen(main, "networkd-rules", virtual_host(), root=tmp_path) == []


@pytest.mark.parametrize(
    "remedy",
    [
        "[keyfile]\nunmanaged-devices=mac:02:00:00:00:00:01;interface-name:carp*\n",
        "[keyfile]\nunmanaged-devices=*,except:type:ethernet\n",
        "[device-carp]\nmatch-device=interface-name:carp0\nmanaged=0\n",
    ],
)
def test_networkmanager_that_was_not_told(main: Host, tmp_path: Path, remedy: str) -> None:
    listener(main, "NetworkManager")
    write(tmp_path, "etc/NetworkManager/conf.d/a.conf", "[keyfile]\nunmanaged-devices=interface-name:eth1\n")
    assert len(seen(main, "networkmanager", virtual_host(), root=tmp_path)) == 1
    write(tmp_path, "etc/NetworkManager/conf.d/pycarp.conf", remedy)
    assert seen(main, "networkmanager", virtual_host(), root=tmp_path) == []


@pytest.mark.parametrize("remedy", ["denyinterfaces eth1 carp*\n", "allowinterfaces eth0 # no other\n"])
def test_dhcpcd_on_every_interface(main: Host, tmp_path: Path, remedy: str) -> None:
    assert seen(main, "dhcpcd", virtual_host(), root=tmp_path) == []
    listener(main, "dhcpcd")
    write(tmp_path, "etc/dhcpcd.conf", "hostname\n\ndenyinterfaces eth1\n")
    assert len(seen(main, "dhcpcd", virtual_host(), root=tmp_path)) == 1
    write(tmp_path, "etc/dhcpcd.conf", remedy)
    assert seen(main, "dhcpcd", virtual_host(), root=tmp_path) == []


def test_dhcpcd_on_one_interface_is_no_harm(main: Host) -> None:
    listener(main, "dhcpcd", "-4", "eth0")
    assert seen(main, "dhcpcd", virtual_host()) == []


# The process, and the command


def command(host: Host, *words: str, before: tuple[str, ...] = ()) -> tuple[int, list[dict[str, Any]]]:
    """``pycarp doctor --json``, perhaps run by another program; exit code and findings."""
    argv = [*before, sys.executable, "-W", "error", "-m", "pycarp", "doctor", "--json", *words]
    done = host.run(argv, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def kinds(found: list[dict[str, Any]]) -> set[str]:
    return {one["kind"] for one in found}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "ifconfig.carp0"
    path.write_text("vhid 101 pass motdepassehalakon preempt 10.13.37.42/24\n")
    path.chmod(0o600)
    return str(path)


def test_a_process_without_rights_sees_less_and_says_so(main: Host, file: str) -> None:
    code, found = command(main, file, before=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    assert code == 0
    assert {"capability", "firewall-unseen"} <= kinds(found)
    assert {one["severity"] for one in found} == {"note"}
    assert not {"capability", "firewall-unseen"} & kinds(command(main, file)[1])


def possible_priority() -> bool:
    return subprocess.run(["chrt", "-f", "2", "true"], capture_output=True, check=False).returncode == 0


def test_a_process_that_may_not_be_real_time_nor_lock_memory(main: Host, file: str) -> None:
    few = ("setpriv", "--bounding-set=-sys_nice,-ipc_lock")
    limited = (*few, "prlimit", "--rtprio=0", "--memlock=65536")
    assert {"real-time", "memory-lock"} <= kinds(command(main, file, before=limited)[1])
    if possible_priority():  # not in a user namespace, nor in every container
        assert not {"real-time", "memory-lock"} & kinds(command(main, file)[1])


def test_settings_that_are_read_only(main: Host, file: str) -> None:
    Path(file).write_text("vhid 101 pass motdepassehalakon 10.13.37.42/24 inet6 2001:db8::42/64\n")
    mount = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mount, "sh")
    assert "sysctl-read-only" in kinds(command(main, file, before=before)[1])
    assert "sysctl-read-only" not in kinds(command(main, file)[1])


def test_a_firewall_of_the_older_iptables(main: Host) -> None:
    class Older(Machine):
        def lines(self, path: str) -> list[str]:
            return ["filter"] if path.endswith("/ip_tables_names") else super().lines(path)

    with main.enter():
        (found,) = [one for one in firewall.look(Older(), [], 1) if one.kind == "firewall-unseen"]
        assert "table filter" in found.message
        assert [one for one in firewall.look(Machine(), [], 1) if one.kind == "firewall-unseen"] == []


REFUSES_NETFILTER = """
import ctypes, errno, os, struct, sys
# man 2 seccomp; include/uapi/linux/filter.h: socket(_, _, NETLINK_NETFILTER) fails with the errno given.
steps = [(0x20, 0, 0, 0), (0x15, 0, 5, %d), (0x20, 0, 0, 16), (0x15, 0, 3, 16), (0x20, 0, 0, 32), (0x15, 0, 1, 12)]
steps += [(0x06, 0, 0, 0x00050000 | getattr(errno, sys.argv[1])), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in steps))
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[2], sys.argv[2:])
"""
SOCKET_CALL = {"x86_64": 41, "aarch64": 198, "riscv64": 198}.get(os.uname().machine)


@pytest.mark.skipif(SOCKET_CALL is None, reason="the number of socket(2) is not known here")
@pytest.mark.parametrize("error", ["EPROTONOSUPPORT", "EPERM"])
def test_a_host_without_nf_tables_or_that_forbids_it(main: Host, file: str, error: str) -> None:
    before = (sys.executable, "-c", REFUSES_NETFILTER % SOCKET_CALL, error)
    found = command(main, file, before=before)[1]
    (no_gate,) = [one for one in found if one["kind"] == "no-gate"]
    assert no_gate["severity"] == "warning" and os.strerror(getattr(errno, error)) in no_gate["message"]
    assert "firewall-unseen" not in kinds(found)
    assert "no-gate" not in kinds(command(main, file)[1])


def test_others_that_speak_with_our_number_are_heard(file: str) -> None:
    with Lab(("main", "second")) as lab:
        main, second = lab["main"], lab["second"]
        assert "heard" not in kinds(command(main, file, "--listen", "0.3")[1])
        words = ["vhid", "101", "pass", "motdepassehalakon", "10.13.37.43/24"]
        second.popen([sys.executable, "-m", "pycarp", "up", "carp0", *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not (found := command(main, file, "--listen", "1.5")[1]) and time.monotonic() < deadline:
            pass
        heard = [one for one in found if one["kind"] == "heard"]
        assert heard and all(one["where"] == "carp0" for one in heard), found


def test_vrrp_with_our_number_is_heard(file: str) -> None:
    with Lab(("main", "second")) as lab:
        main, second = lab["main"], lab["second"]
        process = second.popen([sys.executable, "-c", VRRP], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not (found := command(main, file, "--listen", "0.5")[1]) and time.monotonic() < deadline:
            assert process.poll() is None
        assert [(one["kind"], one["where"], one["severity"]) for one in found] == [("heard", "carp0", "warning")]
        assert "VRRP" in found[0]["message"]


VRRP = """
import socket, time
# RFC 3768: version 2, an advertisement of router 101, priority 100, one address.
body = bytes((0x21, 101, 100, 1, 0, 1)) + b"\\0\\0" + bytes((10, 13, 37, 99)) + bytes(8)
total = sum(int.from_bytes(body[at : at + 2], "big") for at in range(0, len(body), 2))
total = (total & 0xFFFF) + (total >> 16)
body = body[:6] + (~total & 0xFFFF).to_bytes(2, "big") + body[8:]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sender:
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.13.37.12"))
    while True:
        sender.sendto(body, ("224.0.0.18", 0))
        time.sleep(0.05)
"""


def test_lines_for_people_and_exit_codes(main: Host, file: str) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return main.run([sys.executable, "-m", "pycarp", "doctor", *words], check=False, env=environment)

    done = run(file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing is wrong here with carp0\n", "")
    main.run(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"])
    done = run(file)
    assert done.returncode == 1
    assert done.stdout == (
        "carp0: warning: rp_filter is 1 on eth0: who sends to 10.13.37.42 through this host's own address gets no "
        "answer: set net.ipv4.conf.eth0.rp_filter=2, or let routes lead to the floating address [rp-filter]\n"
    )
    done = run("/nonexistent/ifconfig.carp0")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_without_files_it_looks_at_what_could_be_a_carpdev(main: Host) -> None:
    main.run(["sh", "-ec", sysctl("ipv4.conf.eth0.rp_filter=1")])
    code, found = command(main, "--listen", "0.1")
    assert code == 1
    assert ("rp-filter", "eth0") in [(one["kind"], one["where"]) for one in found]


def test_there_is_nothing_to_put_a_virtual_host_on(main: Host) -> None:
    assert seen(main, "no-carpdev") == []
    main.run(["ip", "address", "flush", "dev", "eth0"])
    (found,) = seen(main, "no-carpdev")
    assert found.severity == "alarm" and "Ethernet" in found.text
    assert seen(main, "no-carpdev", virtual_host(carpdev="eth0")) == []


def test_an_engine_tells_what_is_serious_when_it_starts(main: Host) -> None:
    main.run(
        ["sh", "-ec", sysctl("ipv4.conf.all.arp_ignore=8", "ipv6.conf.eth0.accept_ra=1", "ipv6.conf.eth0.forwarding=1")]
    )
    told: list[events.Event] = []
    with main.enter():
        began = time.monotonic()
        with Engine(virtual_host(), on_event=told.append) as engine:
            assert time.monotonic() - began < 1
            found = next(event for event in engine.events(5) if isinstance(event, events.HostFinding))
    assert (found.vhid, found.name, found.finding) == (101, "carp0", "arp-ignore")
    assert found.text.endswith("set net.ipv4.conf.all.arp_ignore to 0 or 1")
    assert [event.finding for event in told if isinstance(event, events.HostFinding)] == ["arp-ignore"]


def test_the_start_does_not_wait_for_the_look_and_the_stop_does(main: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    started, may_go_on = threading.Event(), threading.Event()

    def slow(hosts: list[VirtualHost]) -> list[Finding]:
        started.set()
        assert may_go_on.wait(10)
        return [finding("arp-ignore", "carp0", value=8, scope="on eth0", name="eth0", addresses="10.13.37.42")]

    monkeypatch.setattr(host_findings, "look_at_start", slow)
    with main.enter():
        engine = Engine(virtual_host())
        engine.start()
        assert started.wait(5)
        threading.Timer(0.2, may_go_on.set).start()
        engine.stop()
    assert may_go_on.is_set()
    assert not [event for event in engine.events(0) if isinstance(event, events.HostFinding)]


def test_the_page_has_the_table() -> None:
    specification = importlib.util.spec_from_file_location("findings_table", ROOT / "tools" / "findings_table.py")
    assert specification is not None and specification.loader is not None
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    text = tool.PAGE.read_text("utf-8")
    assert text == tool.page(text), "the table of findings has changed: run python tools/findings_table.py"


def test_every_kind_has_a_test() -> None:
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
