"""What a conversion makes: files of words, and remarks about what they lack."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from .._records import dataclass, field
from ..errors import ConfigError
from ..protocol.options import BY_NAME, NAME


class Remark(NamedTuple):
    """One sentence about a line that was not carried over, or not whole. It repeats no text that may be a secret."""

    source: str
    line: int | None
    message: str

    def __str__(self) -> str:
        source = _shown(self.source)
        place = source if self.line is None else f"{source}:{self.line}"
        return f"{place}: {self.message}"


@dataclass(slots=True)
class Target:
    """A file to be: one virtual host in our words. `secret` stays out of the text and the repr."""

    origin: str
    """What it was made of, for the comment on its first line."""
    words: dict[str, str] = field(default_factory=dict)
    """Fields of `VirtualHost` by name, as words: advskew -> "100"; a flag has an empty text."""
    addresses: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    """Whole lines: checks, hooks, sync."""
    passfile: str = ""
    """The file that has the secret already, or is to have it."""
    secret: str | bytes | None = field(default=None, repr=False)
    name: str = ""
    """The name of the interface; `Conversion` gives it where there is none."""

    @property
    def file_name(self) -> str:
        return f"ifconfig.{self.name}"

    @property
    def secret_name(self) -> str:
        """The file that the text names for the passphrase."""
        return self.passfile or f"{self.name}.pass"

    def text(self) -> str:
        """The file, in the order in which a person would write it."""
        first = [f"vhid {self.words['vhid']}"] if "vhid" in self.words else []
        first += [f"passfile {shlex.quote(self.secret_name)}"]
        rest = [f"{word} {value}".rstrip() for word, value in self.words.items() if word != "vhid"]
        lines = [f"# Converted from {_shown(self.origin)}.", " ".join([*first, *rest])]
        lines += [f"{'inet6' if ':' in address else 'inet'} {address}" for address in self.addresses]
        return "\n".join([*lines, *self.statements]) + "\n"


@dataclass(slots=True)
class Conversion:
    """The files that came out, and the remarks in the order of their lines."""

    source: str
    targets: list[Target] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def remark(self, line: int | None, message: str) -> None:
        self.remarks.append(Remark(self.source, line, message))

    def finish(self) -> Conversion:
        """Name the targets: carp and the vhid, or the next free number. Sort the remarks."""
        taken = {target.name for target in self.targets if target.name}
        for target in self.targets:
            number = int(target.words.get("vhid", "0"))
            while not target.name:
                name = f"carp{number}"
                target.name = "" if name in taken else name
                number += 1
            taken.add(target.name)
        self.remarks = sorted(dict.fromkeys(self.remarks), key=lambda one: one.line or 0)
        return self

    def put(self, target: Target, line: int, field_name: str, text: str, what: str) -> bool:
        """Take a number or a name for a field, or remark that it is none; `what` is what the other program calls it."""
        option = NAME if field_name == "name" else BY_NAME[field_name]
        value: object = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
        try:
            option.kind.check(field_name, value)
        except ConfigError as error:
            self.remark(line, f"the value of {what} cannot be taken: {error}")
            return False
        target.words[field_name] = str(value)
        return True

    def add_address(self, target: Target, line: int, text: str) -> bool:
        """Take an address with or without a length, or remark why not."""
        try:
            (address,) = BY_NAME["addresses"].kind.check("addresses", [text])
        except ConfigError as error:
            self.remark(line, f"an address cannot be taken: {str(error).removeprefix('addresses[0] ')}")
            return False
        given = str(address) if "/" in text else str(address.ip)
        if str(address.ip) not in (one.partition("/")[0] for one in target.addresses):
            target.addresses.append(given)
        return True


def _shown(text: str) -> str:
    """In one line, whatever the file is called."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; a backslash at the end of one joins the next one to it."""
    joined, first = "", 0
    for number, physical in enumerate([*text.splitlines(), ""], 1):
        first = first or number
        if physical.endswith("\\"):
            joined += physical[:-1] + " "
            continue
        yield first, joined + physical
        joined, first = "", 0
