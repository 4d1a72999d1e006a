"""Findings about other programs that configure interfaces: systemd-networkd and NetworkManager."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

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
_DEVICE = {"Name": "", "Kind": "macvlan", "Type": "ether", "Driver": "macvlan"}
"""What a .network file's [Match] may ask for, and what the device of a virtual host is."""


def look(machine: Machine, places: Sequence[Place]) -> Iterator[Finding]:
    devices = [(place, place.host.name) for place in places if place.host is not None and place.virtual]
    if "systemd-network" in machine.listeners:
        yield from _networkd(machine, devices)
    if "NetworkManager" in machine.listeners:
        for place, name in devices:
            if not _left_alone(machine, name):
                yield finding("networkmanager", place.where, device=name)


def _networkd(machine: Machine, devices: Sequence[tuple[Place, str]]) -> Iterator[Finding]:
    for place, name in devices:
        file = _configured_by(machine, name)
        if file is not None:
            yield finding("networkd-manages", place.where, device=name, file=file)
    files = [machine.root / "etc/systemd/networkd.conf"]
    for directory in ("/etc", "/run", "/usr/lib"):
        files += sorted((machine.root / directory.lstrip("/") / "systemd/networkd.conf.d").glob("*.conf"))
    kept = [value for path in files for value in _values(path, "Network", "ManageForeignRoutingPolicyRules")]
    if not kept or kept[-1].lower() not in ("no", "false", "0", "off"):
        yield finding("networkd-rules")


def _configured_by(machine: Machine, device: str) -> str | None:
    """The .network file that systemd-networkd applies to the device, unless that leaves it alone."""
    for path in machine.files(_NETWORK_FILES, "*.network"):
        if _matches(path, device):
            unmanaged = _values(path, "Link", "Unmanaged")
            alone = bool(unmanaged) and unmanaged[-1].lower() in ("yes", "true", "1", "on")
            return None if alone else machine.shown(path)
    return None


def _matches(path: Path, device: str) -> bool:
    """systemd.network(5), [Match]: every key must fit. A key that is not known here is taken not to."""
    parsed = _parse(path)
    if parsed is None or not parsed.has_section("Match"):
        return False
    keys = dict(parsed["Match"])
    return bool(keys) and all(
        key in _DEVICE and _fits((_DEVICE[key] or device), value.split()) for key, value in keys.items()
    )


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
        parsed = _parse(path)
        for section in () if parsed is None else parsed.sections():
            if section.startswith("device") and parsed is not None:
                pattern = parsed[section].get("match-device", "").partition(":")[2].lstrip("=")
                if parsed[section].get("managed") in ("0", "false", "no") and fnmatchcase(device, pattern):
                    return True
    return False


def _values(path: Path, section: str, key: str) -> list[str]:
    parsed = _parse(path)
    found = parsed.get(section, key, fallback=None) if parsed is not None else None
    return [] if found is None else [found.strip()]


def _parse(path: Path) -> configparser.ConfigParser | None:
    """A file of keys in sections; None where it cannot be read. Of a key that stands twice the last one counts."""
    parsed = configparser.ConfigParser(
        interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#", ";"), empty_lines_in_values=False
    )
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parsed.read_string(path.read_text(errors="replace"), str(path))
    except (OSError, configparser.Error):
        return None
    return parsed
