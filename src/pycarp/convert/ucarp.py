"""ucarp's command lines, wherever they stand: a shell, a script, a unit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .model import Conversion, Target, logical_lines

CALL = re.compile(r"^(?!\s*#).*(?:^|[\s=/\"'])ucarp\s+-", re.MULTILINE)
"""A line that starts ucarp."""

_LONG = {
    "interface": "i",
    "srcip": "s",
    "mcast": "m",
    "vhid": "v",
    "pass": "p",
    "passfile": "o",
    "preempt": "P",
    "neutral": "n",
    "addr": "a",
    "help": "h",
    "advbase": "b",
    "advskew": "k",
    "upscript": "u",
    "downscript": "d",
    "deadratio": "r",
    "debug": "D",
    "shutdown": "z",
    "daemonize": "B",
    "ignoreifstate": "S",
    "nomcast": "M",
    "facility": "f",
    "xparam": "x",
}
_ALONE = "PnhDzBSM"
_STOCK = ("/usr/share/ucarp/vip-up", "/usr/share/ucarp/vip-down")
"""Debian's own scripts: they add and remove the address, which pycarp does itself."""

_NOTHING = {
    "s": "the address of this host is found by itself",
    "B": "pycarp stays in the foreground, as its service unit wants it",
    "D": "events are printed without it",
    "n": "a hook runs at a change of state only",
    "f": "events go to standard output, and to the journal under systemd",
}
"""Options that need no counterpart, and why."""

_LACKING = {
    "m": "another multicast group cannot be chosen: adverts go to 224.0.0.18",
    "M": "adverts are sent to the multicast group and never broadcast: a host with this option would not be heard",
    "S": "the link is always followed: an address on an interface without carrier reaches nobody",
}


class Call(NamedTuple):
    """One start of ucarp: its options by letter, each with its value and its line."""

    line: int
    options: dict[str, tuple[str, int]]


def convert(text: str, source: str) -> Conversion:
    """A virtual host for each line that starts ucarp."""
    conversion = Conversion(source)
    for line, words in _calls(text):
        options = _options(words, line, conversion)
        if options is not None:
            target = to_target(Call(line, options), f"ucarp's options ({source}:{line})", conversion)
            conversion.targets += [target] if target is not None else []
    if not conversion.targets and not conversion.remarks:
        conversion.remark(None, "no line here starts ucarp with options: give the file that has its command line")
    return conversion


def to_target(call: Call, origin: str, conversion: Conversion) -> Target | None:
    """The virtual host of one call, or None if a part that it needs is missing."""
    target = Target(origin)
    options = call.options
    for letter, field in (("v", "vhid"), ("b", "advbase"), ("i", "carpdev")):
        if letter in options:
            conversion.put(target, options[letter][1], field, options[letter][0], _called(letter))
    if "k" in options:
        skew, line = options["k"]
        if skew == "255":
            conversion.remark(line, "advskew 255 became 254, the highest that a BSD host takes")
        conversion.put(target, line, "advskew", "254" if skew == "255" else skew, _called("k"))
    if "a" in options:
        conversion.add_address(target, options["a"][1], options["a"][0])
    if "P" in options:
        target.words["preempt"] = ""
    # ucarp answers for the address with the interface's own MAC.
    target.words["mac"] = "interface"
    _secret(target, options, conversion)
    _scripts(target, options, conversion)
    for letter, (value, line) in options.items():
        if letter in _LACKING:
            conversion.remark(line, f"{_called(letter)} was left out: {_LACKING[letter]}")
        elif letter in _NOTHING:
            conversion.remark(line, f"{_called(letter)} needs no counterpart: {_NOTHING[letter]}")
        elif letter == "r" and value != "3":
            conversion.remark(line, f"{_called('r')} was left out: a master counts as gone after 3 missed adverts")
    return _whole(target, call, conversion)


def _whole(target: Target, call: Call, conversion: Conversion) -> Target | None:
    missing = [_called("v")] if "vhid" not in target.words else []
    missing += [] if target.addresses else [_called("a")]
    if missing:
        conversion.remark(
            call.line, f"no virtual host came of this: {' and '.join(missing)} cannot be used or is missing"
        )
    return None if missing else target


def _called(letter: str) -> str:
    long = next(name for name, short in _LONG.items() if short == letter)
    return f"--{long} (-{letter})"


def _secret(target: Target, options: dict[str, tuple[str, int]], conversion: Conversion) -> None:
    if "o" in options:
        target.passfile = options["o"][0]
    elif "p" in options:
        target.secret = options["p"][0]
    else:
        conversion.remark(None, "ucarp was started without a passphrase: write one into the passfile, on all hosts")


def _scripts(target: Target, options: dict[str, tuple[str, int]], conversion: Conversion) -> None:
    arguments = [options.get("i", ("", 0))[0], options.get("a", ("", 0))[0], options.get("x", ("", 0))[0]]
    for letter, when in (("u", "master"), ("d", "backup")):
        if letter not in options or options[letter][0] in _STOCK:
            continue
        command = shlex.join([options[letter][0], *(one for one in arguments if one)])
        target.statements.append(f"hook {when} {command}")
        line = options[letter][1]
        conversion.remark(
            line, f"{_called(letter)} became a hook: take out of the script what adds or removes the address"
        )
    if "z" in options and "d" in options and options["d"][0] not in _STOCK:
        target.statements.append(f"hook init {shlex.join([options['d'][0], *(one for one in arguments if one)])}")


def _calls(text: str) -> Iterator[tuple[int, Sequence[str]]]:
    """The words after ``ucarp`` on each line that starts it; lines that end in a backslash are joined."""
    for start, line in logical_lines(text):
        if not CALL.match(line):
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        at = next((at for at, word in enumerate(words) if word.rpartition("/")[2] == "ucarp"), None)
        if at is None:
            # In quotes, or after an equals sign: the name is the end of a word, or stands in one with the rest.
            words = re.split(r".*?[\s=/\"']ucarp\s+", line, maxsplit=1)[-1].replace('"', " ").split()
            at = -1
        yield start, words[at + 1 :]


def _options(words: Sequence[str], line: int, conversion: Conversion) -> dict[str, tuple[str, int]] | None:
    """The options by letter, as getopt_long(3) reads them; None if nothing can be made of them."""
    found: dict[str, tuple[str, int]] = {}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word in ("&", ";", "&&", "||", "|") or word.startswith((">", "2>")):
            break
        if not word.startswith("-") or word == "-":
            conversion.remark(line, "a word that is no option of ucarp was left out")
            continue
        for letter, value in _letters(word):
            if letter is None:
                conversion.remark(line, "an option that ucarp does not have was left out")
            elif letter in _ALONE:
                found[letter] = ("", line)
            elif value or at < len(words):
                if not value:
                    value = words[at]
                    at += 1
                found[letter] = (value, line)
    for letter, (value, _) in list(found.items()):
        if re.search(r"[$`]", value) and letter != "p":
            conversion.remark(
                line, f"the value of {_called(letter)} is a variable of the shell: write what it stands for"
            )
            del found[letter]
    return None if "h" in found else found


def _letters(word: str) -> Iterator[tuple[str | None, str]]:
    """The letters that one word stands for, with the value that is in it, or ""."""
    if word.startswith("--"):
        name, _, value = word[2:].partition("=")
        matches = [short for long, short in _LONG.items() if long == name or (name and long.startswith(name))]
        exact = _LONG.get(name)
        yield (exact or (matches[0] if len(matches) == 1 else None)), value
        return
    for at, letter in enumerate(word[1:], 1):
        if letter not in _LONG.values():
            yield None, ""
            return
        if letter not in _ALONE:
            yield letter, word[at + 1 :]
            return
        yield letter, ""
