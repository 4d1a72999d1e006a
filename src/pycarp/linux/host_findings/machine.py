"""What the host is like: read once, for all checks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from ..._records import dataclass
from ...config import VirtualHost
from ...errors import InterfaceError
from ...protocol.frames import virtual_mac
from .. import interfaces, netlink
from ..interfaces import Interface
from ..messages import Address

# include/uapi/linux/if_link.h
_IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 4, 5, 10, 18
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_BOND_MODE = 1
_SYSCTL = Path("/proc/sys/net")
_VIRTUAL_KINDS = ("bridge", "dummy", "ifb", "ipvlan", "macvlan", "macvtap", "vrf")


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says of an interface beyond `Interface`: `kind` and `port_of` are "" where there is none."""

    index: int
    kind: str = ""
    parent: int = 0
    master: int = 0
    port_of: str = ""
    mtu: int = 0
    bond_mode: int = -1
    port: bytes = b""

    @classmethod
    def parse(cls, payload: bytes) -> Link:
        """From the payload of RTM_NEWLINK."""
        found = netlink.attributes(payload, netlink.LINK.size)
        info = netlink.attributes(found.get(_IFLA_LINKINFO, b""))
        kind = netlink.string(info.get(_INFO_KIND, b""))
        data = netlink.attributes(info.get(_INFO_DATA, b"")) if kind == "bond" else {}
        return cls(
            index=netlink.LINK.unpack_from(payload)[2],
            kind=kind,
            parent=netlink.number(found.get(_IFLA_LINK)),
            master=netlink.number(found.get(_IFLA_MASTER)),
            port_of=netlink.string(info.get(_INFO_SLAVE_KIND, b"")),
            mtu=netlink.number(found.get(_IFLA_MTU)),
            bond_mode=netlink.octet(data[_BOND_MODE]) if _BOND_MODE in data else -1,
            port=info.get(_INFO_SLAVE_DATA, b""),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A virtual host on its carpdev; without a `host` what any virtual host with the virtual MAC would meet there."""

    carpdev: Interface
    link: Link
    host: VirtualHost | None = None

    @property
    def where(self) -> str:
        return self.carpdev.name if self.host is None else self.host.name

    @property
    def device(self) -> str:
        """The name of the interface that the addresses are on."""
        if self.host is None:
            return "the virtual host's interface"
        return self.host.name if self.virtual else self.carpdev.name

    @property
    def virtual(self) -> bool:
        return self.host is None or self.host.mac == "virtual"

    @property
    def mac(self) -> bytes:
        return b"" if self.host is None else virtual_mac(self.host.vhid)

    def ips(self, version: int) -> list[Address]:
        return [] if self.host is None else [one.ip for one in self.host.addresses if one.version == version]

    def named(self, version: int = 0) -> str:
        """Its addresses in a sentence; of one family, or of both."""
        found = [str(ip) for family in (4, 6) if version in (0, family) for ip in self.ips(family)]
        return ", ".join(found) or "a floating address"

    def uses(self, version: int) -> bool:
        return self.host is None or version in self.host.families


class Machine:
    """This host as the calling thread's network namespace has it. `root` is where files are looked for."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.interfaces = interfaces.read_interfaces()
        self.links = {link.index: link for link in read_links()}

    def named(self, index: int) -> str:
        return next((one.name for one in self.interfaces if one.index == index), f"interface {index}")

    def link(self, index: int) -> Link:
        return self.links.get(index, Link(index))

    def setting(self, name: str) -> int | None:
        """A setting under /proc/sys/net; None where there is none or it may not be read."""
        try:
            return int((_SYSCTL / name).read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def conf(self, interface: str, name: str, version: int = 4) -> int:
        """A setting of an interface, or of "all"; 0 where there is none."""
        return self.setting(f"ipv{version}/conf/{interface}/{name}") or 0

    @cached_property
    def sysctl_writable(self) -> bool:
        return not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY if Path("/proc/sys").exists() else False

    @cached_property
    def listeners(self) -> dict[str, int]:
        """The processes of this machine that listen for changes of interfaces in this namespace: name to number."""
        found: dict[str, int] = {}
        for line in _lines(Path("/proc/thread-self/net/netlink"))[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[1] == "0" and int(fields[3], 16):
                found |= dict.fromkeys(_lines(Path("/proc", fields[2], "comm"))[:1], int(fields[2]))
        return found

    def lines(self, path: str) -> list[str]:
        """Of a file below `root`; none where it cannot be read."""
        return _lines(self.root / path.lstrip("/"))

    def files(self, directories: Iterable[str], pattern: str) -> Iterator[Path]:
        """The files of several directories in the order of their names; of the same name the first directory's."""
        found: dict[str, Path] = {}
        for directory in directories:
            try:
                for path in (self.root / directory.lstrip("/")).glob(pattern):
                    found.setdefault(path.name, path)
            except OSError:
                continue
        yield from (found[name] for name in sorted(found))

    def shown(self, path: Path) -> str:
        """A path as it is without `root`."""
        return f"/{path.relative_to(self.root)}"

    def places(self, hosts: Sequence[VirtualHost]) -> tuple[list[Place], list[tuple[VirtualHost, str]]]:
        """The virtual hosts on their carpdevs, and those that have none, with the reason.

        Without virtual hosts: every interface that one may be put on.
        """
        placed, lost = [], []
        others = [one.replace(addresses=tuple(a for a in one.addresses if not a.ours)) for one in self.interfaces]
        for host in hosts:
            try:
                carpdev = interfaces.choose_carpdev(host, others)
            except InterfaceError as error:
                lost.append((host, str(error)))
            else:
                placed.append(Place(carpdev, self.link(carpdev.index), host))
        if not hosts:
            placed += [Place(one, self.link(one.index)) for one in self.interfaces if self._may_carry(one)]
        return placed, lost

    def _may_carry(self, interface: Interface) -> bool:
        link = self.link(interface.index)
        plain = interface.ethernet and not interface.loopback and not interface.ours
        return plain and bool(interface.own_addresses) and link.kind not in _VIRTUAL_KINDS


def read_links() -> list[Link]:
    with netlink.RouteSocket() as route:
        return [Link.parse(payload) for payload in route.dump(netlink.RTM_GETLINK)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
