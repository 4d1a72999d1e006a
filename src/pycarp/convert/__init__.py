"""Makes files of our words from other programs' configurations, and says line by line what could not be carried over.

    conversion = convert(Path("/etc/keepalived/keepalived.conf").read_text(), "keepalived.conf")
    for target in conversion.targets:
        print(target.file_name, target.text(), sep="\\n")
    for remark in conversion.remarks:
        print(remark)

Read are ucarp's command lines (also in scripts and units), Debian's /etc/network/interfaces with ucarp's options,
keepalived.conf, OpenBSD's hostname.carp* and FreeBSD's or NetBSD's rc.conf(5). Nothing is run, resolved or written.
"""

from __future__ import annotations

from .model import Conversion, Remark, Target
from .recognise import KINDS, convert, kind_of

__all__ = ["KINDS", "Conversion", "Remark", "Target", "convert", "kind_of"]
