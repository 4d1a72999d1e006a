"""Checks virtual hosts before anything is changed: their words, each other, the interfaces of this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._records import dataclass, field, replace
from ..config import VirtualHost
from ..errors import InterfaceError, InterfaceMissing
from ..ifconfig import Defaults, Diagnostic, Parsed, check_together, parse_file
from ..ifconfig.files import interface_name
from ..ifconfig.statements import fields_of, parse_statement
from .output import complain

if TYPE_CHECKING:
    from ..linux.interfaces import Interface

Stated = Mapping[str, Sequence[str]]
"""Statements that are options of a command: for each name the values."""


@dataclass(slots=True)
class Loaded:
    """Parsed words, the diagnostics between them, and for indexes of `parsed` the interface that was chosen.

    `services` has what statements about the whole command say, in files and as options.
    """

    parsed: list[Parsed]
    between: list[Diagnostic] = field(default_factory=list)
    carpdevs: dict[int, str] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """All of them, in the order of the files and their lines."""
        order = {parsed.source: at for at, parsed in enumerate(self.parsed)}
        last = 1 << 60
        found = [*(d for parsed in self.parsed for d in parsed.diagnostics), *self.between]
        return sorted(found, key=lambda d: (order.get(d.source, last), d.line or last, d.column or last))

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.diagnostics if d.severity == "error"]

    def hosts(self) -> tuple[VirtualHost, ...] | None:
        """The virtual hosts, or None if anything is wrong; prints what is wrong, and the warnings."""
        for diagnostic in self.diagnostics:
            complain(str(diagnostic))
        return None if self.errors else tuple(parsed.require() for parsed in self.parsed)


def load_files(
    paths: Iterable[Path],
    defaults: Defaults | None = None,
    stated: Stated | None = None,
    *,
    machine: bool = True,
    wait: bool = False,
) -> Loaded:
    """Read files, and look at them together and, unless `machine` is False, beside the interfaces of this machine.

    `stated` are the statements that are options. With `wait` it is no mistake that an interface is missing: the engine
    waits for it, and says so.
    """
    parsed = [
        parse_file(path, defaults=defaults, source=_shown(path, number)) for number, path in enumerate(paths, start=1)
    ]
    return look(parsed, stated, machine=machine, wait=wait)


def _shown(path: Path, number: int) -> str:
    """How messages call a file: by its number where it may be no name, but a passphrase that lost its way."""
    if _exists(path) or interface_name(path) is not None or (len(path.parts) > 2 and _exists(path.parent)):
        return os.fspath(path)
    return f"FILE {number}"


def _exists(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


def look(parsed: Sequence[Parsed], stated: Stated | None = None, *, machine: bool = True, wait: bool = False) -> Loaded:
    """As `load_files`, for words that are parsed already."""
    loaded = Loaded(list(parsed))
    _add_statements(loaded, stated or {})
    if machine and sys.platform == "linux":
        _fit(loaded, wait)
    loaded.between += check_together(loaded.parsed, loaded.carpdevs)
    return loaded


def _add_statements(loaded: Loaded, stated: Stated) -> None:
    """Options that are statements: each virtual host gets them beside its own, or the command does."""
    made = []
    for name, texts in stated.items():
        for text in texts:
            one = parse_statement(name, text, f"--{name}")
            loaded.between += one.diagnostics
            if one.made is not None:
                made.append((one.kind, one.made))
    fields = fields_of(made)
    if fields:
        loaded.parsed = [_more(parsed, fields) for parsed in loaded.parsed]
    for parsed in loaded.parsed:
        for name, service in parsed.services.items():
            if loaded.services.setdefault(name, service) is not service:
                message = f"{name} is given in another file, too: it is the whole command's, keep one"
                loaded.between.append(parsed.about(name, message))
    # An option counts more than a file.
    loaded.services |= {kind.name: service for kind, service in made if not kind.about}


def _more(parsed: Parsed, fields: Mapping[str, Any]) -> Parsed:
    if parsed.host is None:
        return parsed
    own = {name: (*getattr(parsed.host, name), *added) for name, added in fields.items()}
    return replace(parsed, host=parsed.host.replace(**own))


def look_at_host(loaded: Loaded) -> None:
    """Add what of this machine keeps the virtual hosts from working, as warnings."""
    if sys.platform != "linux":
        return
    from ..linux.host_findings import look as look_around

    for parsed in loaded.parsed:
        loaded.between += _hooks(parsed)
    by_name = {parsed.host.name: parsed for parsed in loaded.parsed if parsed.host is not None}
    with contextlib.suppress(OSError):
        for one in look_around([parsed.require() for parsed in by_name.values()]):
            if one.severity != "note" and one.where in by_name:
                about = by_name[one.where].about("carpdev", f"{one.text} [{one.kind}]")
                loaded.between.append(replace(about, severity="warning"))


def _hooks(parsed: Parsed) -> Iterator[Diagnostic]:
    """Warnings about hooks that cannot run on this machine."""
    hooks = parsed.host.hooks if parsed.host is not None else ()
    for at, hook in enumerate(hooks):
        from ..hooks.look import fault, label

        why = fault(hook)
        if why is not None:
            about = parsed.about(f"hooks[{at}]", f"hook {label(hook, hook.command)}: {why}")
            yield replace(about, severity="warning")


def _fit(loaded: Loaded, wait: bool) -> None:
    """Choose the carpdev of each virtual host, or report why there is none; with `wait` only if none can ever run."""
    if not any(parsed.host is not None for parsed in loaded.parsed):
        return
    from ..linux.interfaces import choose_carpdev, read_interfaces

    try:
        interfaces = read_interfaces()
    except OSError as error:
        source = loaded.parsed[0].source
        why = f"the interfaces of this machine cannot be read ({error.strerror or error}): run where netlink is allowed"
        loaded.between.append(Diagnostic(source, None, None, None, why))
        return
    found: list[Diagnostic] = []
    may_run = False
    for at, parsed in enumerate(loaded.parsed):
        if parsed.host is not None:
            try:
                carpdev = choose_carpdev(parsed.host, interfaces)
                loaded.carpdevs[at] = carpdev.name
                loaded.between += _masks(parsed, carpdev)
                may_run = True
            except InterfaceError as error:
                may_run = may_run or isinstance(error, InterfaceMissing)
                found.append(parsed.about(_culprit(parsed.host, str(error)), str(error)))
    if not (wait and may_run):
        loaded.between += found


def _masks(parsed: Parsed, carpdev: Interface) -> Iterator[Diagnostic]:
    """Warnings about masks that are not those of the LAN."""
    for address in parsed.host.addresses if parsed.host is not None else ():
        subnets = [one.network for one in carpdev.own_addresses if address.ip in one.network]
        given = address.network.prefixlen
        if subnets and given not in (address.max_prefixlen, *(subnet.prefixlen for subnet in subnets)):
            message = (
                f"{address} has another mask than {carpdev.name}, which has it in {subnets[0]}: give that, or none"
            )
            yield replace(parsed.about(str(address.ip), message), severity="warning")


def _culprit(host: VirtualHost, message: str) -> str:
    """The field or the address that a message about interfaces is about: it names it."""
    # Longest first: 10.0.0.1 is also the beginning of 10.0.0.11.
    texts = sorted((str(address.ip) for address in host.addresses), key=len, reverse=True)
    return next((text for text in texts if text in message), "addresses" if host.carpdev is None else "carpdev")
