"""Recorded rows "state, event, result" of the BSDs (tests/vectors/*-behaviour.json), played to our own host.

An event's words are read by rules, not by the row's name: a further row of the same words is played without a change
here. `play` says in which points our host differs from the recording; `Unreadable` is raised for words without a rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from pycarp import ConfigError, VirtualHost
from pycarp._impl import Implementation
from pycarp.engine.plan import make_plan
from pycarp.protocol import NS_PER_SECOND, SendAdvert, State, Transition
from pycarp.protocol.frames import virtual_mac
from support import wire
from support.wire import Frame

VECTORS = Path(__file__).parents[1] / "vectors"
SYSTEMS = ("netbsd", "openbsd", "freebsd")
OPTIONS: dict[str, dict[str, Any]] = {
    "netbsd": {},
    "openbsd": {"timing": "openbsd", "demotion": "obey"},
    "freebsd": {"demotion": "add"},
}
TICKS = 0.03
"""Seconds by which a BSD's timers are late, and NetBSD's recording: it was made in real time."""
SHORT_WAIT = 10_000_000
MILLISECOND = 1_000_000
MAC6 = bytes.fromhex("02000a0d250b")
CARPDEV6, PEER6, LINK_LOCAL, GLOBAL = "fe80::b", "fe80::c", "fe80::2a", "2001:db8::2a"


class Unreadable(Exception):
    """No rule reads these words."""


class NotHere(Exception):
    """The row is about something that pycarp does not have; says what."""


def rows(system: str) -> list[dict[str, Any]]:
    recorded = json.loads((VECTORS / f"{system}-behaviour.json").read_text())
    return list(recorded["rows"] if isinstance(recorded, dict) else recorded)


# What an event is about

NOT_HERE = {
    r"carpver 3|VRRP|interval 4096": "VRRP",
    r"sysctl net.inet.carp.demotion=-|dscp|SIOCSVH advskew 255 on a host|netlink GET": "a control of that system",
    r"carppeer|^peer [\d.]+: ": "unicast",  # tests of `peer`
    r"counter: alone": "that system's counter",
    r"two carp interfaces|another carp interface|vhid 102 comes in on": "more than one virtual host",
    r"GARP": "announcements",  # tests/wire
    r"link state unknown": "a link state that Linux tells as up",
}


class Host:
    """A virtual host as a runtime puts it together: input, plan and machine; all waits are 0."""

    def __init__(self, impl: Implementation, config: VirtualHost) -> None:
        self.impl, self.now = impl, 0
        self.sent: list[str] = []
        self.sending = True
        self.last: list[bytes] = []
        self.input = impl.input.Input()
        self.input.set_carpdev(MAC6, [ip_interface(wire.CARPDEV + "/24"), ip_interface(CARPDEV6 + "/64")])
        self.machine = impl.machine.Machine(config, lambda _most: 0)
        self._use(config)
        self.do(self.machine.start(0))

    def _use(self, config: VirtualHost) -> None:
        self.plan = make_plan(self.impl, config, MAC6, {})
        self.input.set_instance(config.vhid, self.plan.authenticator, virtual_mac(config.vhid), self.plan.packed)

    def do(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, SendAdvert):
                demotion = self.machine.sent_demotion
                self.sent.append(f"{action.advbase}/{action.advskew} demote {demotion}")
                frames = self.plan.adverts(action.advbase, action.advskew, len(self.sent), demotion)
                self.last = [frame for _family, frame in frames][-1:]
                self.do(self.machine.sent(self.sending, self.now))
            elif isinstance(action, Transition):
                self.input.set_state(self.machine.config.vhid, action.after)

    def change(self, **changes: Any) -> None:
        config = self.machine.config.replace(**changes)
        self._use(config)
        self.do(self.machine.reconfigure(config, self.now))

    def hear(self, frame: bytes) -> None:
        verdict = self.input.receive(frame, self.now)
        if verdict.counter == "" and verdict.advert is not None and verdict.advert.vhid == self.machine.config.vhid:
            advert = verdict.advert
            own = self.machine.sent_demotion
            demotion = self.plan.obeyed(advert, verdict.dialect or "", own, 0)
            self.do(self.machine.receive(advert, advert.source, self.now, demotion))

    def wait(self, until: int) -> None:
        while (due := self.machine.deadline) is not None and due <= until:
            self.now = due
            self.do(self.machine.timeout(due))
        self.now = until

    @property
    def counters(self) -> dict[str, int]:
        counted = self.input.stats(self.machine.config.vhid).as_dict()
        return {name: value for name, value in counted.items() if value and not name.startswith("opackets")}


def frame_of(words: str, own: str) -> Frame:
    """The advert that an event tells of."""
    frame = Frame(advbase=1, advskew=0)
    if "equal" in words:
        advbase, advskew = map(int, own.split("/"))
        frame = frame.but(advbase=advbase, advskew=advskew)
    if "bow-out" in words:
        frame = frame.but(advbase=255, advskew=255)
    if said := re.search(r"(?<![\d.])(\d+)/(\d+)(?![\d.])", words):
        frame = frame.but(advbase=int(said[1]), advskew=int(said[2]))
    if "IPv6" in words or "link-local and global" in words:
        frame = frame.but(source=PEER6)
    for pattern, change in CHANGES:
        if found := re.search(pattern, words):
            frame = change(frame, found)
    return frame


CHANGES: list[tuple[str, Callable[[Frame, re.Match[str]], Frame]]] = [
    (r"wrong HMAC", lambda frame, _: frame.but(digest_flip=0xFF)),
    (r"TTL (\d+)|hop limit (\d+)", lambda frame, of: frame.but(ttl=int(of[1] or of[2]))),
    (r"version (\d+)", lambda frame, of: frame.but(first=int(of[1]) << 4 | 1)),
    (r"type (\d+)", lambda frame, of: frame.but(first=0x20 | int(of[1]))),
    (r"wrong (CARP )?checksum", lambda frame, _: frame.but(checksum_flip=0x0101)),
    (r"vhid (\d+)", lambda frame, of: frame.but(vhid=int(of[1]))),
    (r"authlen (\d+)", lambda frame, of: frame.but(authlen=int(of[1]))),
    (
        r"(?:pad/demote|pad1|demote) (0x[0-9a-f]+|\d+)(?!.*heard 5 times)",
        lambda frame, of: frame.but(pad=int(of[1], 0)),
    ),
    (r"truncated by (\d+)", lambda frame, of: frame.but(cut=int(of[1]))),
    (r"truncated to (\d+)", lambda frame, of: frame.but(cut=36 - int(of[1]))),
    (r"no payload at all", lambda frame, _: frame.but(cut=36)),
    (r"(\d+) trailing zero bytes inside", lambda frame, of: frame.but(trailer=bytes(int(of[1])))),
    (r"(\d+) trailing non-zero bytes inside", lambda frame, of: frame.but(trailer=b"\x5a" * int(of[1]))),
    (r"(\d+) bytes of NOP options", lambda frame, of: frame.but(options=b"\x01" * int(of[1]))),
    (
        r"unicast to (the virtual address|VIP)",
        lambda frame, _: frame.but(destination=wire.VIP, destination_mac=wire.VIRTUAL_MAC),
    ),
    (
        r"unicast to (the carpdev|carpdev|us)",
        lambda frame, _: frame.but(destination=CARPDEV6 if frame.ipv6 else wire.CARPDEV, destination_mac=MAC6),
    ),
    (
        r"source IP (?:is |= )?(our carpdev address|VIP|0\.0\.0\.0)|source is (our own carpdev address)",
        lambda frame, of: frame.but(source={"VIP": wire.VIP, "0.0.0.0": "0.0.0.0"}.get(of[1] or "", wire.CARPDEV)),
    ),
    (r"source MAC arbitrary", lambda frame, _: frame.but(source_mac=bytes.fromhex("02deadbeef01"))),
    (r"TOS 0", lambda frame, _: frame.but(tos=0, fragment=0)),
    (
        r"dst 224\.0\.0\.1\b",
        lambda frame, _: frame.but(destination="224.0.0.1", destination_mac=bytes.fromhex("01005e000001")),
    ),
    (
        r"dst (255\.255\.255\.255)|dst (ff02::1\b)",
        lambda frame, of: frame.but(
            destination=of[1] or of[2], destination_mac=wire.BROADCAST_MAC if of[1] else bytes.fromhex("333300000001")
        ),
    ),
    (r"dmac ff:ff:ff:ff:ff:ff", lambda frame, _: frame.but(destination_mac=wire.BROADCAST_MAC)),
]
"""What words of an event change in the advert. Those of digests are in `digest_of`."""

KNOWN = frozenset(
    [
        "a",
        "accepted",
        "address",
        "apart",
        "frame",
        "it",
        "two",
        "was",
        "addresses",
        "advbase",
        "advert",
        "adverts",
        "advskew",
        "after",
        "again",
        "all",
        "allow",
        "also",
        "altered",
        "and",
        "another",
        "any",
        "arbitrary",
        "authlen",
        "back",
        "better",
        "bit",
        "both",
        "bow",
        "but",
        "by",
        "bytes",
        "carp",
        "carpdev",
        "checksum",
        "comes",
        "counter",
        "cookie",
        "counts",
        "covered",
        "demote",
        "demotion",
        "dmac",
        "dst",
        "equal",
        "equals",
        "every",
        "families",
        "family",
        "fe",
        "ff",
        "for",
        "from",
        "gives",
        "global",
        "has",
        "header",
        "heard",
        "at",
        "before",
        "every",
        "any",
        "sent",
        "own",
        "still",
        "carp",
        "gives",
        "interface",
        "second",
        "seconds",
        "off",
        "all",
        "which",
        "host",
        "hosts",
        "here",
        "hop",
        "hosts",
        "id",
        "in",
        "inet",
        "inside",
        "interface",
        "ip",
        "is",
        "its",
        "itself",
        "last",
        "length",
        "limit",
        "link",
        "local",
        "mac",
        "master",
        "net",
        "no",
        "nobody",
        "non",
        "nop",
        "not",
        "of",
        "on",
        "one",
        "ones",
        "only",
        "openbsd",
        "options",
        "or",
        "other",
        "our",
        "out",
        "outside",
        "over",
        "own",
        "pad",
        "padding",
        "part",
        "payload",
        "peer",
        "preempt",
        "replay",
        "same",
        "seen",
        "sent",
        "set",
        "signing",
        "slower",
        "source",
        "stop",
        "ten",
        "than",
        "that",
        "the",
        "them",
        "then",
        "these",
        "this",
        "times",
        "to",
        "tos",
        "total",
        "trailing",
        "truncated",
        "ttl",
        "type",
        "unicast",
        "us",
        "version",
        "vhid",
        "vip",
        "virtual",
        "we",
        "which",
        "while",
        "whose",
        "with",
        "without",
        "worse",
        "wrong",
        "x",
        "zero",
        "s",
        "df",
        "hmac",
        "ipv",
        "as",
    ]
)
"""What no rule changes anything for, or what is a rule's."""


def _all_read(words: str) -> bool:
    """Whether every word is known: what nobody reads would be played as something else."""
    return all(word in KNOWN for word in re.findall(r"[a-z]+", re.sub(r"0x[0-9a-f]+|fe80::\S+", "", words.lower())))


def addresses_of(words: str) -> list[str]:
    if "both families" in words:
        return [wire.VIP + "/24", GLOBAL + "/64"]
    if "link-local and global" in words:
        return [LINK_LOCAL + "/64", GLOBAL + "/64"]
    if "IPv6 only" in words or "IPv6 global only" in words:
        return [GLOBAL + "/64"]
    return [wire.VIP + "/24"]


def digest_of(words: str, frame: Frame, addresses: list[str]) -> Frame:
    """The frame with the digest that its event tells of."""
    covered = [address.partition("/")[0] for address in addresses]
    if "over another address set" in words:
        covered.append("10.13.37.43")
    if "fe80::200:5eff:fe00:165" in words:
        covered.append("fe80::200:5eff:fe00:165")
    frame = frame.but(addresses=tuple(covered), link_local="without the link-local ones" not in words)
    return frame


# Playing a row


def play(impl: Implementation, system: str, row: dict[str, Any]) -> list[str]:
    """In which points our host does not do what was recorded; none: it does the same."""
    words = row.get("event", row.get("advert", ""))
    for pattern, what in NOT_HERE.items():
        if re.search(pattern, words):
            raise NotHere(what)
    if "states" in row and words.startswith("boot"):
        return _boot(impl, system, row)
    if "ip_output" in words:
        return _sending(impl, system, row)
    if "rc" in row:
        return _configuration(system, row, words)
    if "master_down_s" in row:
        return _times(impl, system, row)
    if row.get("before") is None:
        raise NotHere("more than one virtual host")
    return _row(impl, system, row, words)


def host_of(impl: Implementation, system: str, row: dict[str, Any], words: str) -> Host:
    """Our host in the row's state."""
    advbase, advskew = map(int, row.get("own_advbase_advskew", "1/100").split("/"))
    addresses = addresses_of(words)
    if "one of two" in words:
        addresses = [*addresses, "10.13.37.43/24"]
    demotion = row.get("own_demote", row.get("demotion", 0))
    if demotion < 0:  # as a host with so much less
        advskew, demotion = max(0, advskew + demotion), 0
    options = dict(OPTIONS[system], preempt=bool(row.get("preempt")), advbase=advbase, advskew=advskew)
    host = Host(impl, VirtualHost(vhid=101, passphrase=wire.PASSPHRASE, addresses=addresses, **options))
    host.do(host.machine.demote(demotion, 0))
    host.now = MILLISECOND
    if row["before"] == "MASTER":
        host.wait(host.machine.master_down)
        host.wait(host.now + 500 * MILLISECOND)
    elif row["before"] == "INIT":
        host.do(host.machine.link(False, host.now))
    return host


def _row(impl: Implementation, system: str, row: dict[str, Any], words: str) -> list[str]:
    host = host_of(impl, system, row, words)
    assert host.machine.state.name == row["before"], (row, host.machine.state)
    before, began = host.counters, host.now
    host.sent.clear()
    if not _command(host, words):
        _hear(host, row, words)
    at = host.now
    host.wait(host.now + SHORT_WAIT)
    differences = []
    after = "INIT" if row["after"] == "none" else row["after"]
    if host.machine.state.name != after:
        differences.append(f"{host.machine.state.name}, not {after}")
    if "stats" in row:
        wanted = {
            name: value for name, value in row["stats"].items() if name not in ("opackets", "opackets6", "preempt")
        }
        counted = {name: value - before.get(name, 0) for name, value in host.counters.items()}
        if counted != wanted:
            differences.append(f"counted {counted}, not {wanted}")
    if "emitted" in row:
        wanted_adverts = [
            emitted.removeprefix("advert ") for emitted in row["emitted"] if emitted.startswith("advert ")
        ]
        own = host.machine.config.advskew
        sent = [said.replace("/240 ", f"/{own} ") for said in host.sent] if system == "openbsd" else host.sent
        if host.machine.config.advbase == 0:  # the next ones follow at once
            sent = sent[: max(1, len(wanted_adverts))]
        if sent != wanted_adverts:
            differences.append(f"sent {sent}, not {wanted_adverts}")
    master = row.get("master_s_after_event", row.get("master_s_after_last_advert_sent"))
    if master is not None and not differences and host.machine.state is State.BACKUP:
        # Where several adverts come, and where what comes is not believed, it counts from the start.
        since = began if "master_s_after_event" in row else at
        refused = any(name.startswith("bad") for name in row.get("stats", {})) and system == "netbsd"
        expected = host.machine.master_down if refused else round(master * NS_PER_SECOND) + since
        late = round(TICKS * NS_PER_SECOND) * (1 if host.machine.config.advbase else 3)  # each advert may be late
        host.wait(expected + late)
        if host.machine.state is not State.MASTER:
            differences.append(f"not MASTER {master} s later")
        host = host_of(impl, system, row, words)
        if not _command(host, words):
            _hear(host, row, words)
        host.wait(expected - round(TICKS * NS_PER_SECOND))
        if host.machine.state is not State.BACKUP:
            differences.append(f"MASTER sooner than {master} s later")
    return differences


def _hear(host: Host, row: dict[str, Any], words: str) -> None:
    if not _all_read(words):
        raise Unreadable(words)
    config = host.machine.config
    addresses = addresses_of(words)
    own = f"{config.advbase}/{config.advskew}"
    told = re.sub(r"^own \d+/\d+; ", "", words)
    frame = digest_of(words, frame_of(told, own), addresses)
    if config.timing == "openbsd" and host.machine.demotion and frame.advbase != 255:
        # Demoted, we have 240: the peer moves along.
        frame = frame.but(advskew=host.machine.advskew + max(-50, min(14, frame.advskew - config.advskew)))
    host.input.allow = "allow=0" not in words
    if "its own last advert comes back" in words:
        host.hear(host.last[0])
        return
    if "cookie still 0" in words:
        frame = frame.but(counter=bytes(8))
    elif "replay cookie" in words:
        frame = frame.but(counter=host.last[0][-28:-20])
    times, apart = (5, 2) if "5 times, 2 s apart" in words else (10, 1) if "every second for 10 s" in words else (1, 0)
    for number in range(times):
        if number:
            host.wait(host.now + apart * NS_PER_SECOND)
        for one in _copies(frame, words):
            host.hear(bytes(one))


def _copies(frame: Frame, words: str) -> list[Frame]:
    if "master heard in" not in words:
        return [frame]
    families = (4, 6) if "in both" in words else (4,) if "IPv4 only" in words else (6,)
    return [frame.but(source=wire.PEER if family == 4 else PEER6) for family in families]


def _command(host: Host, words: str) -> bool:
    """What the host's own system or operator does; False: it is an advert."""
    machine, now = host.machine, host.now
    if words == "link down" or words == "ifconfig down of the carpdev":
        host.do(machine.link(False, now))
    elif words == "link up again":
        host.do(machine.link(True, now))
    elif words == "ifconfig state master":
        host.do(machine.force(State.MASTER, now))
    elif words.startswith("ifconfig down, then up"):
        host.do(machine.stop(now))
        host.do(machine.start(now))
    elif words.startswith("ifconfig down of the"):
        host.do(machine.stop(now))
    elif words == "another IPv4 address is added":
        host.change(addresses=[*machine.config.addresses, "10.13.37.43/24"])
    elif words == "one of two IPv4 addresses is removed":
        host.change(addresses=machine.config.addresses[:1])
    elif words == "its only address is removed":
        host.change(addresses=[])
    elif found := re.match(r"advskew changed \d+ -> (\d+) by ifconfig", words):
        host.change(advskew=int(found[1]))
    elif words == "net.inet.carp.allow=0":
        host.input.allow = False
    elif found := re.match(r"(?:carpdemote |demotion=)(\d+), then (?:again )?(-?\d+)", words):
        host.do(machine.demote(int(found[1]), now))
        host.do(machine.demote(int(found[2]), now))
    elif words.endswith("link down, link up"):
        host.do(machine.link(False, now))
        host.do(machine.link(True, now))
    elif words == "another carp interface of the same group goes down by ifconfig":
        pass
    else:
        return False
    return True


def _sending(impl: Implementation, system: str, row: dict[str, Any]) -> list[str]:
    """Adverts that fail to go out, and then do again."""
    found = re.fullmatch(r"(\d+) failures of ip_output in a row, then (\d+) successes", row["event"])
    if found is None:
        raise Unreadable(row["event"])
    host = host_of(impl, system, row, "")
    differences = []
    for ok, number, recorded in ((False, found[1], row["after_failures"]), (True, found[2], row["after_successes"])):
        host.sending = ok
        host.sent.clear()
        while len(host.sent) < int(number):
            host.wait(host.machine.deadline or 0)
        said = re.search(r"^(\w+) .*?demot\w+=(\d+)", recorded)
        now = (host.machine.state.name, host.machine.demotion > 0)
        if said is None or now != (said[1], said[2] != "0"):
            differences.append(f"{now}, not {recorded}")
    return differences


def _boot(impl: Implementation, system: str, row: dict[str, Any]) -> list[str]:
    """As BACKUP, demoted as a host that boots, then no longer."""
    found = re.fullmatch(
        r"boot: own demote (\d+), master (\S+) with demote 0 heard (\d) times; then demote back to 0 and one more .*",
        row["event"],
    )
    if found is None:
        raise Unreadable(row["event"])
    host = host_of(impl, system, {**row, "before": "BACKUP", "own_demote": int(found[1])}, "")
    states = []
    frame = bytes(frame_of(found[2], row["own_advbase_advskew"]))
    for number in range(int(found[3]) + 1):
        if number == int(found[3]):
            host.do(host.machine.demote(-int(found[1]), host.now))
        host.hear(frame)
        host.wait(host.now + SHORT_WAIT)
        states.append(host.machine.state.name)
        host.wait(host.now + NS_PER_SECOND)
    return [] if states == row["states"] else [f"{states}, not {row['states']}"]


def _configuration(system: str, row: dict[str, Any], words: str) -> list[str]:
    values = dict(re.findall(r"(advbase|advskew) (\d+)", words))
    try:
        VirtualHost(
            vhid=101,
            passphrase="",
            addresses=["10.13.37.42"],
            **OPTIONS[system],
            **{k: int(v) for k, v in values.items()},
        )
    except ConfigError:
        return [] if row["rc"] else ["refused"]
    return ["accepted"] if row["rc"] else []


def _times(impl: Implementation, system: str, row: dict[str, Any]) -> list[str]:
    found = re.match(r"(?:advbase (\d+) advskew (\d+): INIT|sysctl net.inet.carp.demotion=(\d+))", row["event"])
    if found is None:
        raise Unreadable(row["event"])
    own = f"{found[1]}/{found[2]}" if found[1] else row["own_advbase_advskew"]
    if "note" in row:
        own = row["sent"]  # of advbase 0 the system makes another one
    host = host_of(impl, system, {"before": "BACKUP", "own_advbase_advskew": own, "demotion": int(found[3] or 0)}, "")
    # Ticks of 10 ms or of 1 ms; OpenBSD's timers are up to two of them late.
    ticks = 0.021
    differences = []
    first = (host.machine.deadline or 0) / NS_PER_SECOND
    if abs(first - row["master_down_s"]) > ticks + (0.045 if own.startswith("0/") else 0):
        differences.append(f"MASTER after {first} s, not {row['master_down_s']} s")
    host.wait(host.machine.deadline or 0)
    sent = [host.now]
    for _ in row["intervals_s"]:
        host.wait(host.machine.deadline or 0)
        sent.append(host.now)
    recorded = row["intervals_s"][-1]
    if abs((sent[-1] - sent[-2]) / NS_PER_SECOND - recorded) > ticks:
        differences.append(f"an advert every {(sent[-1] - sent[-2]) / NS_PER_SECOND} s, not {recorded} s")
    said = row.get("sent") or f"1/{row['advskew_sent'][-1]}"
    if not host.sent[-1].startswith(said + " "):
        differences.append(f"says {host.sent[-1]}, not {said}")
    return differences
