"""The kinds of host findings, in one table: how bad each is, its sentence, and its remedy.

``python tools/findings_table.py`` writes docs/findings.md from it. To add a kind: a row here, the function that makes
it, and a case in tests/linux/test_host_findings.py, where every kind appears on a real host and goes after its remedy.
"""

from __future__ import annotations

from typing import Any, Literal

from ..._records import asdict, dataclass

Severity = Literal["alarm", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Kind:
    """`says` and `remedy` are sentences with values in braces.

    severity    "alarm": the address does not work so; "warning": it does not for some, or after a fault; "note": what
                cannot be looked at, and what only matters in some places.
    at_start    whether an engine tells it when it starts. What the engine heals by itself is not told.
    """

    severity: Severity
    says: str
    remedy: str
    at_start: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something on this host that keeps a virtual host from working, or will.

    kind       the row of `KINDS`.
    where      the virtual host or the interface; "" for the whole host.
    message    one sentence: what is wrong.
    remedy     what to do about it.
    """

    kind: str
    severity: Severity
    where: str
    message: str
    remedy: str

    @property
    def text(self) -> str:
        return f"{self.message}: {self.remedy}"

    @property
    def at_start(self) -> bool:
        return KINDS[self.kind].at_start

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def finding(kind: str, where: str = "", /, **values: object) -> Finding:
    """One of this kind, with the values that its sentences have in braces."""
    row = KINDS[kind]
    return Finding(kind, row.severity, where, row.says.format(**values), row.remedy.format(**values))


def _rows(severity: Severity, at_start: bool, **rows: tuple[str, str]) -> dict[str, Kind]:
    return {name.replace("_", "-"): Kind(severity, *texts, at_start) for name, texts in rows.items()}


KINDS: dict[str, Kind] = {
    # Settings
    **_rows(
        "warning",
        True,
        rp_filter=(
            "rp_filter is 1 on {carpdev}: who sends to {addresses} through this host's own address gets no answer",
            "set net.ipv4.conf.{carpdev}.rp_filter=2, or let routes lead to the floating address",
        ),
        arp_ignore=(
            "arp_ignore is {value} {scope}: ARP requests for {addresses} are not answered",
            "set net.ipv4.conf.{name}.arp_ignore to 0 or 1",
        ),
    ),
    **_rows(
        "alarm",
        False,
        ipv6_disabled=(
            "IPv6 is disabled on {carpdev}: {addresses} cannot be there, and no advert leaves in IPv6",
            "set net.ipv6.conf.{carpdev}.disable_ipv6=0, or leave the IPv6 address out",
        ),
    ),
    **_rows(
        "note",
        False,
        accept_ra=(
            "this host forwards IPv6 and {carpdev} has accept_ra=1: the kernel ignores router advertisements there",
            "set net.ipv6.conf.{carpdev}.accept_ra=2 if its default route shall come from them",
        ),
        sysctl_read_only=(
            "/proc/sys is read-only here: IPv6 settings of {names} cannot be changed",
            "start the container with --sysctl or a writable /proc/sys where a message names such a setting",
        ),
        neighbour_table=(
            "{count} virtual hosts on {carpdev} with {neighbours} neighbours each may need more entries than "
            "gc_thresh3={limit}",
            "raise net.ipv4.neigh.default.gc_thresh3 and net.ipv6.neigh.default.gc_thresh3 to {wanted}",
        ),
        tcp_loose=(
            "nf_conntrack_tcp_loose is 0: connections that another host tracked before a takeover are invalid here",
            "set net.netfilter.nf_conntrack_tcp_loose=1 on hosts that forward or filter by connection state",
        ),
    ),
    # Rules and addresses
    **_rows(
        "warning",
        True,
        rule_own_address=(
            "the {family} rule {priority} (lookup {table}) is for what leaves from {other}, and not from {address}",
            "add the same rule for {address}, if clients come in by the way that the rule is for",
        ),
        rules_equal=(
            "the {family} rule {priority} (lookup {table}) has the priority of another one: answers from {address} may "
            "not follow it as others do",
            "give each of the two a priority of its own",
        ),
        subnet_elsewhere=(
            "{subnet} is on {other} and not on {carpdev}: answers from {address} to that subnet leave by {other}",
            "give {carpdev} an address in {subnet}, or name {other} as the carpdev",
        ),
    ),
    **_rows(
        "alarm",
        False,
        address_here=(
            "{address} is on {other} as this host's own address",
            "remove it there: ip address del {text} dev {other}",
        ),
        no_interface=("{why}", "pycarp check names the word to correct"),
        no_carpdev=(
            "this host has no Ethernet interface with an address, and a virtual host needs one",
            "give an interface an address, or name the file of a virtual host that names its carpdev",
        ),
    ),
    # Links
    **_rows(
        "alarm",
        True,
        same_mac=(
            "{other} has the virtual MAC of vhid {vhid} on {carpdev}, and is not pycarp's: the switch hears both",
            "remove {other}, or give this virtual host another vhid",
        ),
        wireless=(
            "{carpdev} is wireless: an access point passes no frames from a virtual MAC",
            "take mac interface",
        ),
    ),
    **_rows(
        "alarm",
        False,
        carpdev_is_port=(
            "{carpdev} is a port of {master}: addresses and adverts belong on {master}",
            "name {master} as the carpdev",
        ),
        carpdev_down=("{carpdev} is down", "ip link set {carpdev} up"),
        no_carrier=("{carpdev} has no carrier", "plug its cable, or take another carpdev"),
        mtu=(
            "{carpdev} has an MTU of {mtu}: IPv6 needs 1280, and {addresses} cannot be there",
            "ip link set {carpdev} mtu 1280 or more",
        ),
    ),
    **_rows(
        "warning",
        True,
        bond_alb=(
            "{carpdev} is a bond in mode balance-alb, which rewrites the MAC in ARP answers of its devices",
            "take mac interface, or another mode of the bond",
        ),
        bridge_port=(
            "port {port} of {carpdev} {what}",
            "bridge link set dev {port} {command}",
        ),
    ),
    **_rows(
        "note",
        False,
        carpdev_is_macvlan=(
            "{carpdev} is itself a {kind}, which does not hear another host's virtual MAC: its own MAC answers",
            "write mac interface on every host of the group, so that all do the same",
        ),
    ),
    # Firewall
    **_rows(
        "warning",
        True,
        fib_filter=(
            "{chain} drops packets whose way back is by another interface (fib, rpfilter): what comes to the virtual "
            "MAC on {carpdev} to be forwarded is lost",
            "accept iifname {device} before that rule, or take mac interface",
        ),
        rules_by_interface=(
            "{chain} has rules for {carpdev}, but packets for {addresses} come by {device}",
            "name {device} in them as well, or take mac interface",
        ),
        egress_filter=(
            '{chain} on {carpdev} may drop adverts on their way out ("No buffer space available")',
            "accept IP protocol 112 and ARP there first",
        ),
        bridge_filter=(
            "{chain} drops by policy: adverts (IP protocol 112) that cross a bridge of this host may be lost",
            "accept IP protocol 112 and ARP in it",
        ),
    ),
    **_rows(
        "note",
        False,
        ingress_filter=(
            "{chain} on {carpdev} drops some frames before this host has them",
            "accept ARP, ICMPv6 and what clients send to {addresses}; adverts are heard before it",
        ),
        input_policy=(
            "{chain} drops by policy what none of its rules accepts",
            "see to it that its rules hold for {addresses} as for this host's own addresses",
        ),
        bridge_netfilter=(
            "{settings} is on: packets that only cross a bridge of this host, adverts too, pass its firewall",
            "set it to 0 under net.bridge, or accept IP protocol 112 in the forward chains",
        ),
        firewall_unseen=("the firewall cannot be looked at ({why})", "{how}"),
    ),
    # Other programs
    **_rows(
        "warning",
        True,
        networkd_manages=(
            "systemd-networkd configures {device} as {file} says: it would ask for addresses from the virtual MAC",
            "install pycarp's 10-pycarp.network, or a file of your own before that one with Unmanaged=yes",
        ),
    ),
    **_rows(
        "warning",
        True,
        dhcpcd=(
            "dhcpcd configures every interface, {device} too: while MASTER it asks for an address from the virtual MAC",
            "write denyinterfaces {device} into /etc/dhcpcd.conf and start dhcpcd anew",
        ),
    ),
    **_rows(
        "note",
        False,
        networkd_rules=(
            "systemd-networkd removes other programs' routing rules when it starts or reloads; pycarp puts them back",
            "set ManageForeignRoutingPolicyRules=no in /etc/systemd/networkd.conf.d, as pycarp's 10-pycarp.conf does",
        ),
        networkmanager=(
            "NetworkManager runs here, and no setting of it leaves {device} alone",
            "set unmanaged-devices=interface-name:{device} under [keyfile] in /etc/NetworkManager/conf.d/pycarp.conf",
        ),
    ),
    **_rows(
        "warning",
        False,
        # Peers: an engine tells of them by `UnicastPeer`
        peer_routed=(
            "peer {peer} is beyond a router, {router}: its adverts are taken with any TTL, so who knows the secret, or "
            "repeats one of them, can send some from anywhere",
            "put the hosts on one link, or let only peers through to this one",
        ),
        peer_unreachable=(
            "peer {peer} cannot be reached by {carpdev}: {why}",
            "look at its address, its cable and the routes of {carpdev}",
        ),
        peers_own=(
            "the peers {peers} are this host itself: adverts of that family go to nobody",
            "give 'peer' with the other hosts' addresses",
        ),
        peer_source=(
            "{carpdev} has no {family} address of its own: adverts to peers come from the floating one, which is no "
            "peer of theirs",
            "give {carpdev} an {family} address, and that as 'peer' on the other hosts",
        ),
        heard=("{what}", "pycarp monitor -i {carpdev} shows more"),
        no_gate=(
            "this host makes no gates ({why}): when engine and guardian die at once, the addresses stay until their "
            "lifetime ends, up to 2 s longer",
            "run Linux 5.16 or newer with nf_tables, and let this process use it",
        ),
        # The service
        no_preempt=(
            "virtual hosts on {carpdevs} run without preempt: one broken cable leaves them on different hosts for good",
            "set preempt on every host where they belong together, as the two sides of a gateway do",
        ),
        kill_mode=(
            "{unit} has KillMode={mode}: systemd may kill engine and guardian at once, and the address stays until its "
            "lease ends",
            "set KillMode=process in it",
        ),
    ),
    **_rows(
        "note",
        False,
        capability=(
            "this process lacks {missing}, which an engine needs",
            "run as root, or from a systemd unit with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW",
        ),
        real_time=(
            "this process may not have a real-time priority: on a busy machine adverts leave late",
            "LimitRTPRIO=2 or CAP_SYS_NICE; in a control group of version 1 also cpu.rt_runtime_us",
        ),
        memory_lock=(
            "this process may lock {limit} KiB of memory: under memory pressure adverts leave late",
            "LimitMEMLOCK=infinity or CAP_IPC_LOCK",
        ),
        kernel_old=(
            "Linux {release} does not mark addresses with who put them there (5.18 does)",
            "nothing: pycarp tells its own by their interface; other programs cannot",
        ),
    ),
}
