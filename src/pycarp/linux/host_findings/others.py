"""Findings about other programs that configure interfaces: systemd-networkd, NetworkManager, dhcpcd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ...config import VirtualHost
from ...protocol.frames import virtual_mac
from .kinds import Finding, finding
from .machine import Machine, Place

_NETWORK_FILES = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
)
_NETWORKMANAGER = (
    "/etc/NetworkManager/conf.d",
    "/run/NetworkManager/conf.d",
    "/usr/lib/NetworkManager/conf.d",
)
_DEVICE = {"Kind": "macvlan", "Type": "ether", "Driver": "macvlan"}
"""What a .network file's [Match] may ask for besides name and MAC, and what the device of a virtual host is."""
Sections = dict[str, dict[str, list[str]]]


def look(machine: Machine, places: Sequence[Place]) -> Iterator[Finding]:
    devices = [(place, place.host) for place in places if place.host is not None and place.virtual]
    if "systemd-network" in machine.listeners:
        yield from _networkd(machine, devices)
    if "NetworkManager" in machine.listeners:
        for place, host in devices:
            if not _left_alone(machine, host.name):
                yield finding("networkmanager", place.where, device=host.name)
    if "dhcpcd" in machine.listeners:
        words = machine.lines(f"/proc/{machine.listeners['dhcpcd']}/cmdline")
        named = {one.name for one in machine.interfaces}.intersection("\0".join(words).split("\0")[1:])
        for place, host in devices:
            if not (named or _denied(machine, host.name)):
                yield finding("dhcpcd", place.where, device=host.name)


def _denied(machine: Machine, device: str) -> bool:
    """Whether dhcpcd.conf(5) keeps dhcpcd off the device."""
    allowed, kept = [], False
    for line in machine.lines("/etc/dhcpcd.conf"):
        word, *patterns = line.partition("#")[0].split() or [""]
        kept |= word == "denyinterfaces" and any(fnmatchcase(device, one) for one in patterns)
        allowed += patterns if word == "allowinterfaces" else []
    return kept or (bool(allowed) and not any(fnmatchcase(device, one) for one in allowed))


def _networkd(machine: Machine, devices: Sequence[tuple[Place, VirtualHost]]) -> Iterator[Finding]:
    for place, host in devices:
        file = _configured_by(machine, host)
        if file is not None:
            yield finding("networkd-manages", place.where, device=host.name, file=file)
    files = [machine.root / "etc/systemd/networkd.conf"]
    for directory in ("/etc", "/run", "/usr/lib"):
        files += sorted((machine.root / directory.lstrip("/") / "systemd/networkd.conf.d").glob("*.conf"))
    kept = [value for path in files for value in _values(path, "Network", "ManageForeignRoutingPolicyRules")]
    if not kept or kept[-1].lower() not in ("no", "false", "0", "off"):
        yield finding("networkd-rules")


def _configured_by(machine: Machine, host: VirtualHost) -> str | None:
    """The .network file that systemd-networkd applies to the device, unless that leaves it alone."""
    for path in machine.files(_NETWORK_FILES, "*.network"):
        if _matches(path, host):
            unmanaged = _values(path, "Link", "Unmanaged")
            alone = bool(unmanaged) and unmanaged[-1].lower() in ("yes", "true", "1", "on")
            return None if alone else machine.shown(path)
    return None


def _matches(path: Path, host: VirtualHost) -> bool:
    """systemd.network(5), [Match]: every key must fit. A key that is not known here is taken not to."""
    keys = _parse(path).get("Match", {})
    is_so = {**_DEVICE, "Name": host.name, "MACAddress": virtual_mac(host.vhid).hex(":")}
    return bool(keys) and all(key in is_so and _fits(is_so[key], " ".join(of).split()) for key, of in keys.items())


def _fits(text: str, patterns: list[str]) -> bool:
    if patterns and patterns[0].startswith("!"):
        return not _fits(text, [patterns[0][1:], *patterns[1:]])
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _left_alone(machine: Machine, device: str) -> bool:
    """Whether NetworkManager.conf(5) lists the device under unmanaged-devices, by its name or type."""
    files = [machine.root / "etc/NetworkManager/NetworkManager.conf", *machine.files(_NETWORKMANAGER, "*.conf")]
    for path in files:
        for line in _values(path, "keyfile", "unmanaged-devices"):
            for spec in line.replace(",", ";").split(";"):
                kind, _, pattern = spec.strip().partition(":")
                named = kind == "interface-name" and fnmatchcase(device, pattern.lstrip("="))
                if named or spec.strip() == "*" or (kind, pattern) == ("type", "macvlan"):
                    return True
        for section, keys in _parse(path).items():
            pattern = keys.get("match-device", [""])[-1].partition(":")[2].lstrip("=")
            unmanaged = keys.get("managed", [""])[-1] in ("0", "false", "no")
            if section.startswith("device") and unmanaged and fnmatchcase(device, pattern):
                return True
    return False


def _values(path: Path, section: str, key: str) -> list[str]:
    return _parse(path).get(section, {}).get(key, [])


def _parse(path: Path) -> Sections:
    """A file of keys in sections; of a key that stands several times all values, and none of a file that cannot be
    read."""
    sections: Sections = {}
    keys: dict[str, list[str]] = {}
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return sections
    for line in map(str.strip, lines):
        if line.startswith("[") and line.endswith("]"):
            keys = sections.setdefault(line[1:-1], {})
        elif line and line[0] not in "#;":
            key, _, value = line.partition("=")
            keys.setdefault(key.strip(), []).append(value.strip())
    return sections
