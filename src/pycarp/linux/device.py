"""What a virtual host has on this machine: device, rules, settings, and the requests that take and drop its addresses.

With the virtual MAC (the default) the addresses are on a macvlan of their own, which exists from setup to teardown and
is up only while they are here. With the interface's MAC they are on the carpdev itself.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any, Self

from ..config import VirtualHost
from ..errors import CapabilityError, InterfaceError, InterfaceMissing
from ..protocol import timing
from ..protocol.frames import virtual_mac
from . import fib, gate, lock, messages, netlink, settings
from .differences import Differences, compare, goes_by_another, part
from .fib import Route, Rule, Snapshot
from .interfaces import OWN_PROTOCOL, Interface, Mark, index_of, mark_on, read_interfaces
from .leftovers import Inventory
from .messages import Address
from .routes import EARLY, Place, Planner, Ways, near, refusal, tables_of, turn_of

GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT})
"""What the kernel answers when something that is to be removed is not there."""
_REPLACED = frozenset({errno.EEXIST}) | GONE
"""What it answers where others have done the same."""

_ROOM = 15 << 20
"""Octets of a device's batches. The guardian takes descriptions of 16 MiB, with bow-outs and the gate."""

_ORDERS = ("index", "take", "late", "speak", "renew", "drop", "mute", "remove", "restore", "essential")
"""What the guardian is told of a device."""


class Device:
    """One virtual host on its carpdev. `take`, `renew` and `drop` are batches of netlink requests, ready to send.

    `late` follows a take when that is answered: it may be long, and no request of it is needed for the first answer.
    `unfit` counts the requests of it that are left out, as the guardian has no room for so many; then it is empty.

    The last `essential` requests of `take` decide whether it succeeded: without a route of ours, answers still leave
    by the host's own. The first `leading` ones come before a gate opens: after them the link is up. `mute` is the part
    of `drop` that is quick: where several virtual hosts drop at once, it goes out for all of them first, so that none
    waits for the links of the others.

    `remove` and `restore` are what `teardown` does after the drop. The guardian does it where this process may no
    longer do it: `remove` takes the device and its rules away, `restore` gives the carpdev its settings back, which
    only the last virtual host on it may ask for. Both are empty where nothing was made.

    `no_ipv6` says in one sentence why the device cannot have IPv6; then it takes IPv4 addresses alone.
    `gate` is what keeps packets from and to the addresses unless the guardian renews it; None where this kernel has
    none, and `no_gate` says why. Then the addresses have a lifetime instead; `gated` false asks for that.

    `index` is the interface that carries the addresses: the macvlan called `name`, or the carpdev. The caller has the
    `VirtualHostLock`: that is how leftovers of a crashed run are told from the devices of a running one.
    """

    def __init__(self, host: VirtualHost, carpdev: Interface, gated: bool = True) -> None:
        self.host = host
        self.carpdev = carpdev
        self.name = host.name if host.mac == "virtual" else carpdev.name
        self.index = 0
        self.take = self.late = self.speak = self.renew = self.drop = self.remove = self.restore = b""
        self.mute: tuple[bytes, ...] = ()
        self.essential = self.leading = self.unfit = 0
        self.no_ipv6 = ""
        self._changed: list[tuple[Interface, Mapping[str, int]]] = []
        self._with_subnet = False
        self.tables = tables_of(carpdev.index, host.vhid)
        self.ways = Ways()
        self._planner: Planner | None = None
        self.gate: gate.Table | None = None
        self.no_gate = "" if gated else "it is not wanted"

    @property
    def mac(self) -> bytes:
        """The MAC that answers for the addresses: 00:00:5e:00:01:VHID, in both families."""
        return virtual_mac(self.host.vhid) if self.host.mac == "virtual" else self.carpdev.mac

    @property
    def holdable(self) -> set[Address]:
        """The addresses that the device can have."""
        return {one.ip for one in self.host.addresses if one.version == 4 or not self.no_ipv6}

    def setup(self, inventory: Inventory | None = None) -> None:
        """Make everything but the addresses, after removing what a crashed run left.

        An `inventory` spares reading the machine, and is brought up to date; after an error it is of no use. Raises
        `InterfaceError` (the name is taken, the carpdev is gone or cannot carry a macvlan) or `CapabilityError`; then
        nothing is left behind.
        """
        try:
            with netlink.RouteSocket() as route:
                inventory = inventory or Inventory()
                self._clean(route, inventory)
                beside = inventory.beside(self.carpdev)
                self.tables = inventory.tables(self)
                if self.host.mac == "virtual":
                    self._create(route, inventory)
                else:
                    self.index = self.carpdev.index
                    self._set_gate()
                for interface in beside:
                    inventory.replace(
                        self._change(route, inventory.interfaces, interface, settings.of_beside(interface))
                    )
                self.refresh(self.carpdev, inventory.snapshot)
                if self.no_ipv6 and not self.holdable:
                    raise InterfaceError(self.no_ipv6)
                found = self.compare(inventory.snapshot, False)
                route.request(*found.requests, fine=_REPLACED)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.teardown()
            if isinstance(error, PermissionError) and not isinstance(error, CapabilityError):
                raise CapabilityError(f"{self.host.name} cannot be made: {error}; it needs CAP_NET_ADMIN") from error
            raise

    def refresh(self, carpdev: Interface, snapshot: Snapshot | None = None) -> None:
        """Build the requests anew: the carpdev or the virtual host's addresses changed.

        A `snapshot` spares reading rules and routes.
        """
        self.carpdev = carpdev
        if self.host.mac == "interface":
            self.name = carpdev.name
        else:
            self.no_ipv6 = settings.set_ipv6(self.name, carpdev, 6 in self.host.families)
        self._build(self._plan(snapshot or Snapshot()))

    def follow(self, snapshot: Snapshot) -> bool:
        """Build the requests anew if the host's rules or routes changed; returns whether they did."""
        ways = self._plan(snapshot)
        if ways == self.ways:
            self.ways.expires = ways.expires
            return False
        self._build(ways)
        return True

    def would_change(self, snapshot: Snapshot) -> bool:
        """Whether `follow` would."""
        return self._plan(snapshot) != self.ways

    def has_table(self, table: int) -> bool:
        return any(table == each for _family, each in self.ways.tables)

    def compare(self, snapshot: Snapshot, master: bool) -> Differences:
        """What the kernel has of the ways, or lacks. `master`: the addresses are here."""
        return compare(self.ways, self._where, snapshot, master)

    def _build(self, ways: Ways) -> None:
        self.ways = ways
        addresses = [self._placed(one) for one in self.host.addresses]
        add = [self._add(one) for one in addresses if one.ip in self.holdable]
        delete = {one: messages.delete_address(self.index, one) for one in addresses}
        silent = [request for one, request in delete.items() if one.version == 4]
        if self._on_bridge:
            # Before another host has the address, or the bridge would keep that host's frames from its guests.
            silent.insert(0, messages.bridge_fdb(self.carpdev.index, self.mac, False))
        self.renew = netlink.batch(*add)
        self.mute = tuple(silent)
        self.essential = len(add)
        self.remove = netlink.batch(*self._removal())
        back = [settings.give_back_later(interface, before) for interface, before in self._changed]
        self.restore = netlink.batch(*itertools.chain(*back))
        if self.gate is not None:
            table = self._table()
            table.made = self.gate.made and table.create == self.gate.create
            self.gate = table
        early, late = self._routes()
        late = [*(route.add(fib.MAIN, source) for route, source in ways.subnets), *late]
        loud = [request for one, request in delete.items() if one.version == 6]
        subnets = [route.delete(fib.MAIN) for route, _source in ways.subnets]
        # What is sent from an IPv6 address that is not here would leave by the carpdev.
        silence = [rule.add() for rule in ways.silence]
        speak = [rule.delete(anywhere=True) for rule in ways.silence]
        self.speak = netlink.batch(*speak)
        if self.host.mac == "interface":
            self.take = netlink.batch(*speak, *add)
            self.drop = netlink.batch(*silence, *silent, *loud, *subnets)
            self.leading = 0
            self._set_late(late)
            return
        # While the link is down the addresses are mute, and taking it down needs milliseconds of the kernel. IPv4
        # addresses go first: that sends nothing. IPv6 addresses go last: removed from a link that is up, they send
        # multicast reports from the virtual MAC.
        up = messages.link_state(self.index, True)
        self.essential += 1
        place = self._place()
        self.leading = len(place) + len(speak) + 1
        self.take = netlink.batch(
            *place,
            *speak,
            # The routes come before the addresses, or the first answers would leave by the carpdev with its MAC.
            up,
            *early,
            # They are there since setup, unless another program removed them, as systemd-networkd does.
            *(rule.add() for rule in ways.rules),
            *add,
            # Once more, for its outcome to stand among the essential ones; the kernel has nothing to do.
            up,
        )
        self.drop = netlink.batch(*silence, *silent, messages.link_state(self.index, False), *loud, *subnets)
        self._set_late(late)

    def _set_late(self, late: Sequence[bytes]) -> None:
        """What follows a take: all of it, or nothing, since routes without the more specific ones would mislead."""
        batches = (self.take, self.renew, self.drop, *self.mute, self.remove, self.restore, *late)
        self.unfit = len(late) if sum(map(len, batches)) > _ROOM else 0
        self.late = b"" if self.unfit else netlink.batch(*late)

    def guard(self, beside: Iterable[Interface], interfaces: Iterable[Interface]) -> bool:
        """Other interfaces came to the carpdev's link: they are not to answer. Returns whether `refresh` is due."""
        known = {interface.index for interface, _before in self._changed}
        new = [one for one in beside if one.index not in known]
        with netlink.RouteSocket() as route:
            for one in new:
                self._change(route, interfaces, one, settings.of_beside(one))
        return bool(new)

    @property
    def _on_bridge(self) -> bool:
        return self.host.mac == "virtual" and self.carpdev.kind == "bridge"

    def _place(self) -> list[bytes]:
        """Make the macvlan as the carpdev is now. Other programs change it: udev runs sysctl for a new interface, FRR
        sets protodown on one with a VRRP MAC, and the kernel makes its MTU smaller with the carpdev's, never larger."""
        requests = [
            messages.lift_protodown(self.index),
            messages.set_mtu(self.index, self.carpdev.mtu),
            messages.set_group(self.index, self.carpdev.group),
            messages.ipv4_conf(self.index, settings.of_macvlan(self.carpdev)),
        ]
        if 6 in self.host.families:
            requests.append(messages.no_link_local(self.index))
        if self._on_bridge:
            # Without it the bridge, which learns only from what comes in by a port, floods every port.
            requests.append(messages.bridge_fdb(self.carpdev.index, self.mac, True))
        return requests

    def revive_ipv6(self, carpdev: Interface) -> None:
        """Give the macvlan IPv6 again, which the kernel took from it while its MTU was below 1280.

        The link goes down first: the kernel would make a link-local address of the virtual MAC. A take is due after
        it, and a `refresh` before. Raises `OSError`.
        """
        with netlink.RouteSocket() as route:
            down = messages.link_state(self.index, False)
            route.request(down, messages.set_mtu(self.index, carpdev.mtu), messages.no_link_local(self.index))

    def changed_to(self, host: VirtualHost, anew: bool = True) -> Device:
        """The same device for a virtual host of the same vhid and kind of MAC; this one stays as it is.

        With the same addresses, and without `anew`, it keeps its requests.

        What both need of the machine is there. `admit` makes what the new one needs besides, `parting` removes what the
        former one had besides.
        """
        fresh = object.__new__(type(self))
        fresh.__dict__ |= self.__dict__
        fresh.host = host
        fresh._planner = None
        if anew or host.addresses != self.host.addresses:
            fresh._build(fresh._plan(Snapshot()))
        return fresh

    def bequest(self) -> dict[str, Any]:
        """What `passed_on` needs in another process, as plain values."""
        return {
            "name": self.name,
            "index": self.index,
            "tables": self.tables,
            "subnet": self._with_subnet,
            "no_ipv6": self.no_ipv6,
            "gate": None if self.gate is None else self.gate.made,
            "no_gate": self.no_gate,
            "changed": [[one.index, dict(one.ipv4), dict(before)] for one, before in self._changed],
        }

    @classmethod
    def passed_on(
        cls, host: VirtualHost, carpdev: Interface, interfaces: Iterable[Interface], values: Mapping[str, Any]
    ) -> Self:
        """The device that another process has made for this virtual host. Nothing on the machine is changed."""
        device = cls(host, carpdev)
        device.name, device.index = values["name"], values["index"]
        device.tables, device._with_subnet = values["tables"], values["subnet"]
        device.no_ipv6, device.no_gate = values["no_ipv6"], values["no_gate"]
        there = {one.index: one for one in interfaces}
        device._changed = [
            (there[index].replace(ipv4=ipv4), before) for index, ipv4, before in values["changed"] if index in there
        ]
        if values["gate"] is not None:
            device.gate = device._table()
            device.gate.made = values["gate"]
        device._build(device._plan(Snapshot()))
        return device

    def same_orders(self, other: Device) -> bool:
        """Whether a guardian that knows the one knows the other."""
        return all(getattr(self, name) == getattr(other, name) for name in _ORDERS)

    def admit(self, former: VirtualHost) -> None:
        """Make the rules for the addresses that the `former` virtual host on this device did not have."""
        known = {one.ip for one in former.addresses}
        if 6 in self.host.families and 6 not in former.families:
            self.refresh(self.carpdev)
        with netlink.RouteSocket() as route:
            route.request(*(rule.add() for rule in self.ways.rules if _address(rule) not in known), fine=_REPLACED)

    def parting(self, addresses: Iterable[IPv4Interface | IPv6Interface]) -> bytes:
        """A batch that removes addresses, which the virtual host no longer has, and their rules."""
        addresses = tuple(addresses)
        gone = {one.ip for one in addresses}
        requests = [messages.delete_address(self.index, self._placed(one)) for one in addresses]
        requests += [rule.delete() for rule in self.ways.silence + self.ways.rules if _address(rule) in gone]
        return netlink.batch(*requests)

    def rename(self, name: str) -> None:
        """Give the macvlan another name; that sets it down. The guardian has to be told: a gate goes by the name."""
        with netlink.RouteSocket() as route:
            route.request(messages.link_state(self.index, False), messages.rename_link(self.index, name))
        self.name = name
        self._planner = None
        self._build(self._plan(Snapshot()))
        self.reclaim()

    def reclaim(self) -> None:
        """Something has happened to the gate: the guardian is told to make it again."""
        if self.gate is not None:
            self.gate.made = False

    def leave_to(self, other: Device) -> None:
        """The settings that both have changed are the other's to give back."""
        others = {interface.index for interface, _before in other._changed}
        self._changed = [one for one in self._changed if one[0].index not in others]

    def teardown(self) -> None:
        """Remove everything and give the carpdev its settings back. May be called again; what is gone is fine.

        Raises the first other `OSError`, after trying all.
        """
        if not self.index and not self._changed:
            return
        changed, drop, removal, table = self._changed, self.drop, self._removal(), self.gate
        self.forget()
        with netlink.RouteSocket() as route:
            outcome = route.execute(drop)
            outcome += route.execute(netlink.batch(*removal))
            outcome += self._restore(route, changed)
        if table is not None:
            with gate.FilterSocket() as filters:
                outcome.append(filters.execute(table.delete))
        netlink.raise_first(outcome, _REPLACED)

    def forget(self) -> None:
        """The guardian has carried out `drop`, `remove`, and `restore` where it was due: nothing is left to undo."""
        self.index, self._changed = 0, []
        self.take = self.late = self.speak = self.renew = self.drop = self.remove = self.restore = b""
        self.mute = ()
        self.gate = None

    def untouched(self, interfaces: Iterable[Interface]) -> bool:
        """Whether the settings that this device has changed are as it left them: then `restore` restores all."""
        now = {one.index: one.ipv4 for one in interfaces}
        return all(
            after.ipv4.get(name) == now[after.index].get(name)
            for after, before in self._changed
            if after.index in now
            for name in before
        )

    def restore_rest(self) -> None:
        """What `restore` is for, but for what an administrator has changed meanwhile. Raises `OSError`."""
        with netlink.RouteSocket() as route:
            netlink.raise_first(self._restore(route, self._changed), GONE)

    def _restore(
        self, route: netlink.RouteSocket, changed: Iterable[tuple[Interface, Mapping[str, int]]]
    ) -> list[OSError | None]:
        """Give interfaces their settings back, unless another virtual host still needs ours."""
        interfaces = {one.index: one for one in read_interfaces()}
        outcome: list[OSError | None] = []
        for after, before in changed:
            now = interfaces.get(after.index)
            carpdev = (settings.recorded(after) or (after.index, before))[0]
            if now is not None and not self._is_needed(carpdev, interfaces.values()):
                outcome += route.execute(netlink.batch(*settings.give_back(now, before)))
        return outcome

    def _is_needed(self, carpdev: int, interfaces: Iterable[Interface]) -> bool:
        """Whether another virtual host is on that carpdev."""
        return mark_on(carpdev, interfaces) is not None or lock.others_held(carpdev, (self.host.vhid,))

    def _placed(self, address: IPv4Interface | IPv6Interface) -> IPv4Interface | IPv6Interface:
        """An address as it stands on the device: alone, so that it brings no subnet."""
        return address if self._with_subnet and address.version == 4 else ip_interface(address.ip)

    def _removal(self) -> list[bytes]:
        requests = []
        if self.host.mac == "virtual" and self.index:
            requests = [messages.link_state(self.index, False), messages.delete_link(self.index)]
        requests += [rule.delete(anywhere=True) for rule in self.ways.silence]
        requests += [rule.delete() for rule in self.ways.rules]
        return requests + [
            # The hops may have changed since.
            one.delete(table, anyhow=True)
            for (_family, table), routes in self.ways.tables.items()
            for one in routes
            if goes_by_another(one, self.index)
        ]

    def _add(self, address: IPv4Interface | IPv6Interface) -> bytes:
        return messages.add_address(
            self.index,
            address,
            protocol=OWN_PROTOCOL,
            prefix_route=False,
            # The floating address must not become the source of the host's own connections.
            deprecated=address.version == 6,
        )

    def _clean(self, route: netlink.RouteSocket, inventory: Inventory) -> None:
        requests, changed = inventory.removal(self)
        if requests:
            route.request(*requests, fine=GONE)
            # A rule that was just removed may be one that this device needs.
            inventory.snapshot = Snapshot()
        for interface, before in changed:
            self._restore(route, [(interface, before)])
        if changed:
            inventory.interfaces = read_interfaces()
        gates = inventory.dead_gates(self)
        if gates:
            with gate.FilterSocket() as filters:
                netlink.raise_first([filters.execute(gate.deletion(*one)) for one in gates], GONE)

    # The gate

    def _table(self) -> gate.Table:
        whole = self.host.mac == "virtual"
        longest, slowest = timing.gate_bounds(self.host.advbase, self.host.advskew, self.host.missed)
        return gate.Table(
            self.carpdev.index,
            self.host.vhid,
            turn_of(self.tables),
            self.name if whole else self.carpdev.name,
            f"{self.host.name}: vhid {self.host.vhid} on {self.carpdev.name}",
            gate.LED_LONGEST if self.host.led else max(longest, gate.SHORTEST_STEP),
            () if whole else (one.ip for one in self.host.addresses),
            slowest,
        )

    def _set_gate(self) -> None:
        """Make the gate, shut. Where that cannot be, or is not wanted, there is none."""
        if self.no_gate:
            return
        table = self._table()
        try:
            with gate.FilterSocket() as filters:
                failed = filters.execute(table.add)
                if failed is not None and failed.errno == errno.EEXIST:
                    failed = filters.execute(table.create)
        except OSError as error:
            failed = error
        if failed is None:
            table.made = True
            self.gate = table
        else:
            self.no_gate = str(failed.strerror)

    # Making the macvlan

    def _create(self, route: netlink.RouteSocket, inventory: Inventory) -> None:
        carpdev = inventory.carpdev(self.carpdev.index)
        if carpdev is None:
            raise InterfaceError(f"{self.carpdev.name} has gone: {self.host.name} has no interface to speak on")
        given = settings.of_carpdev(carpdev)
        before = settings.before_giving(carpdev, given, self._known(carpdev, inventory.interfaces))
        mark = Mark(self.host.vhid, carpdev.name, carpdev.index, before)
        self._with_subnet = settings.needs_subnet()
        # Other programs, as systemd-networkd, may set up what they see, and send by it before the gate is there.
        added, _carrier, *others = route.execute(
            netlink.batch(
                messages.add_macvlan(self.name, carpdev.index, self.mac),
                messages.set_protodown(self.name),
                messages.set_alias(self.name, str(mark)),
                messages.no_link_local(self.name),
            )
        )
        if added is not None:
            raise self._refused(added)
        self.index = index_of(self.name, route)
        self._set_gate()
        inventory.interfaces += (Interface(self.index, self.name, self.mac, up=False, alias=str(mark)),)
        netlink.raise_first(others, () if 6 in self.host.families else (errno.EAFNOSUPPORT,))
        self.carpdev = self._change(route, inventory.interfaces, carpdev, given)
        inventory.replace(self.carpdev)
        route.execute(netlink.batch(*self._place()))

    def _change(
        self,
        route: netlink.RouteSocket,
        interfaces: Iterable[Interface],
        interface: Interface,
        given: Mapping[str, int],
    ) -> Interface:
        """Give an interface other settings, for as long as there are virtual hosts on the carpdev."""
        before = settings.before_giving(interface, given, self._known(interface, interfaces))
        requests, after = settings.give(interface, given, self.carpdev.index, before)
        self._changed.append((after, before))
        settings.request(route, requests)
        return after

    @staticmethod
    def _known(carpdev: Interface, interfaces: Iterable[Interface]) -> Mapping[str, int]:
        """The carpdev's settings before an earlier virtual host changed them."""
        record = settings.recorded(carpdev)
        if record is not None:
            return record[1]
        mark = mark_on(carpdev.index, interfaces)
        return mark.before if mark is not None else {}

    def _refused(self, error: OSError) -> OSError:
        if isinstance(error, PermissionError):
            return error
        where = f"{self.host.name} cannot be put on {self.carpdev.name}"
        if error.errno == errno.EEXIST:
            return InterfaceError(f"there is an interface {self.name} already, and it is not ours: give another name")
        if error.errno == errno.EBUSY:
            return InterfaceMissing(f"{where}, a port of a bridge or a bond: name the bridge or bond as the carpdev")
        if error.errno == errno.EOPNOTSUPP:
            return InterfaceError(f'{where}: this kernel has no macvlan; mac="interface" does without')
        return InterfaceError(f"{where}: {error.strerror}")

    # Rules and routes

    @property
    def _where(self) -> Place:
        return Place(self.carpdev.index, self.index, self.name, self.host.addresses, self.tables)

    def _plan(self, snapshot: Snapshot) -> Ways:
        if self._planner is None or self._planner.place != self._where:
            self._planner = Planner(self._where)
        ways = self._planner.plan(snapshot)
        if settings.is_proxy(self.carpdev):
            ips = [one.ip for one in self.host.addresses if isinstance(one, IPv4Interface)]
            rules = snapshot.rules(fib.AF_INET)
            ways.silence += [refusal(self.carpdev.name, ip, self.tables, rules) for ip in ips]
        return ways

    def _routes(self) -> tuple[list[bytes], list[bytes]]:
        """Requests for all routes of the tables: those that come before the addresses, and those that follow them.

        The first are few: what is on the link, and gateways where there are few of them. Of many the longest prefixes
        come first and the default last: what is not there yet goes by the carpdev, and never to another gateway.
        """
        direct: list[bytes] = []
        gateways: list[bytes] = []
        others: list[bytes] = []
        for (_family, table), routes in self.ways.tables.items():
            parts = part(routes, self.index)
            direct += self._added(table, parts.links, routes, parts.links)
            still_there = [one for one in parts.mixed if goes_by_another(one, self.index)]
            direct += [one.delete(table) for one in sorted(still_there, key=lambda one: one.direct)]
            direct += self._added(table, parts.mixed, routes, parts.links)
            gateways += self._added(table, parts.gateways, routes, parts.links)
            others += self._added(table, parts.staying, routes, parts.links)
        if len(gateways) <= EARLY:
            return direct + gateways, others
        return direct, others + gateways

    @staticmethod
    def _added(table: int, adding: list[Route], routes: Sequence[Route], there: Sequence[Route]) -> list[bytes]:
        gates = near(adding, routes, there)
        # Linux 6.18 no longer finds a route for one source once it has refused to add it a second time.
        again = [one.delete(table) for one in adding if one.prefix[2]]
        return again + [one.add(table) for one in [*gates, *adding]] + [one.delete(table) for one in gates]


def _address(rule: Rule) -> Address | None:
    """The virtual address that a rule of ours is for."""
    if rule.source is not None:
        return rule.source.network_address
    to = rule.get(fib.FRA_DST)
    return None if to is None else ip_address(to)
