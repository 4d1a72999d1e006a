"""The ifconfig(8) words of carp(4): from a command line, or from a file like NetBSD's /etc/ifconfig.carp0.

    parsed = parse_words("vhid 101 passfile /etc/carp.pass 10.13.37.42/24".split(), name="carp0")
    parsed = parse_file("/etc/ifconfig.carp0")
    if parsed.host is None:
        for diagnostic in parsed.errors:
            print(diagnostic)            # /etc/ifconfig.carp0:2:6: error: vhid 256 is out of range: give 1-255

The words are the rows of `pycarp.protocol.options`; ``pycarp up --help`` lists them. Each line of a file is the words
of one ifconfig call, and the lines add up. A passphrase with spaces is quoted as for sh(1), ``#`` begins a comment, and
a relative passfile stands beside the file that names it.

Nothing here runs, resolves or changes anything; it only reads files. No message repeats a passphrase.
The grammar is that of NetBSD's ifconfig(8) and ifconfig.if(5), with what OpenBSD's hostname.if(5) and FreeBSD's
rc.conf(5) have of their own.
"""

from __future__ import annotations

from .diagnostics import COMMAND_LINE, Diagnostic, WordsError
from .files import DEFAULT_DIRECTORY, find_files, parse_file, parse_text
from .parser import Defaults, Parsed, parse_words
from .together import check_together

__all__ = [
    "COMMAND_LINE",
    "DEFAULT_DIRECTORY",
    "Defaults",
    "Diagnostic",
    "Parsed",
    "WordsError",
    "check_together",
    "find_files",
    "parse_file",
    "parse_text",
    "parse_words",
]
