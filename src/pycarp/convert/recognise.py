"""Which program a text is for, and the room that reads it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath

from .bsd import convert as from_bsd
from .interfaces import convert as from_interfaces
from .keepalived import convert as from_keepalived
from .model import Conversion
from .ucarp import CALL
from .ucarp import convert as from_ucarp

KINDS: dict[str, Callable[[str, str], Conversion]] = {
    "ucarp": from_ucarp,
    "interfaces": from_interfaces,
    "keepalived": from_keepalived,
    "bsd": from_bsd,
}
"""By the name of the kind: what makes a `Conversion` of a text and of what remarks call it."""

_SIGNS = {
    "keepalived": re.compile(r"^\s*(vrrp_\w+|global_defs|virtual_server\w*|static_ipaddress)\b", re.MULTILINE),
    "interfaces": re.compile(r"^\s*(iface\s+\S+\s+inet|ucarp-\w+)", re.MULTILINE),
    "ucarp": CALL,
    "bsd": re.compile(
        r"^\s*(\w*ifconfig_\w+=|net\.inet\.carp\.)|\b(vhid|carpdev|carpnodes|advskew)\s+\S", re.MULTILINE
    ),
}


def kind_of(text: str, source: str) -> str | None:
    """The kind by the file's name, or by what stands in it; None if it is none of them."""
    name = PurePath(source).name
    if re.match(r"hostname\.carp|ifconfig\.carp|rc\.conf", name):
        return "bsd"
    return next((kind for kind, sign in _SIGNS.items() if sign.search(text)), None)


def convert(text: str, source: str, kind: str | None = None) -> Conversion:
    """Our files for a text of this kind, or of the kind that it looks like; remarks call the text `source`.

    Never raises for a bad text: what is not understood is a remark.
    """
    found = kind or kind_of(text, source)
    if found is None:
        conversion = Conversion(source)
        conversion.remark(
            None,
            "this is no configuration that can be converted: give one of ucarp, keepalived, /etc/network/interfaces, "
            "hostname.carp* or rc.conf, or say with --from which it is",
        )
        return conversion
    return KINDS[found](text, source).finish()
