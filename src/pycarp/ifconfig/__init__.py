"""The ifconfig(8) words of carp(4): from a command line, or from a file like NetBSD's /etc/ifconfig.carp0.

    parsed = parse_words("vhid 101 passfile /etc/carp.pass 10.13.37.42/24".split(), name="carp0")
    parsed = parse_file("/etc/ifconfig.carp0")
    if parsed.host is None:
        for diagnostic in parsed.errors:
            print(diagnostic)            # /etc/ifconfig.carp0:2:6: error: vhid 256 is out of range: give 1-255

The words (each line of a file is the words of one ifconfig call; the lines add up):

    create                         accepted, does nothing: the virtual host is made when it is run
    vhid N                         1-255, the number of the group; needed
    pass PHRASE                    the group's secret, quoted as for sh(1) if it has spaces
    passfile FILE                  ours: the secret stands on the first line of FILE (beside the file that says so,
                                   if FILE is relative), so that it stands neither here nor in the process list
    advbase N, advskew N           0-254 each; seconds, and 1/256 seconds, between adverts
    carpdev NAME, -carpdev         the interface to speak on; choose it by the addresses again
    state INIT|BACKUP|MASTER       the state to force at start, upper or lower case
    up, down                       take part in the group (the default), or only be configured
    [inet|inet6] ADDRESS [MASK]    an address; MASK is `/24`, `netmask 255.255.255.0`, `netmask 0xffffff00`,
                                   `prefixlen 24`, or a bare `255.255.255.0`; left out: as the carpdev's subnet has it
    alias                          accepted, does nothing: addresses always add up
    preempt, -preempt              ours: become master as soon as a slower one is heard, or not
    dialect auto|bsd|netbsd        ours: how the passphrase becomes a key
    mac virtual|interface          ours: whose MAC the addresses have
    replay guard|off               ours: drop what comes back or was altered on the way (the default), or obey it
    siblings arbitrate|warn        ours: where hosts have these addresses under another vhid, the higher one holds them
                                   (the default), or both do, with a warning
    announcements N                ours: 1-10, how often the addresses are announced after a takeover; 3
    conflict warn|refuse          ours: take the addresses though somebody answers for them (the default), or do not
    # ...                          a comment

Nothing here runs, resolves or changes anything; files are read, and that is all. No message repeats a passphrase.
The grammar is that of NetBSD's ifconfig(8) and ifconfig.if(5).
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
