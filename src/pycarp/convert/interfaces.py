"""Debian's /etc/network/interfaces with the options of its ucarp package."""

from __future__ import annotations

import re

from .model import Conversion, logical_lines
from .ucarp import Call, to_target

_LETTERS = {
    "ucarp-vid": "v",
    "ucarp-vip": "a",
    "ucarp-password": "p",
    "ucarp-upscript": "u",
    "ucarp-downscript": "d",
    "ucarp-advskew": "k",
    "ucarp-advbase": "b",
    "ucarp-deadratio": "r",
    "ucarp-xparam": "x",
}
_FLAGS = {"ucarp-master": "P", "ucarp-nomcast": "M"}
_NO = re.compile(r"no|off|false|0")


def convert(text: str, source: str) -> Conversion:
    """A virtual host for each stanza that has ucarp's options."""
    conversion = Conversion(source)
    call: Call | None = None
    calls: list[Call] = []
    for number, line in logical_lines(text):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "iface" and len(words) > 1:
            call = Call(number, {"i": (words[1], number)})
            calls.append(call)
        elif words[0] in ("source", "source-directory"):
            conversion.remark(number, "the files that this line names are not read: convert them by themselves")
        elif words[0] in ("auto", "mapping") or words[0].startswith("allow-"):
            call = None
        elif call is not None:
            _option(words[0].replace("_", "-").lower(), line.strip()[len(words[0]) :].strip(), number, call, conversion)
    for call in calls:
        # Debian's script starts ucarp only where all three are given.
        if {"v", "a", "p"} <= call.options.keys():
            interface = call.options["i"][0]
            call.options["z"] = ("", call.line)
            target = to_target(call, f"ucarp's options of {interface} ({source}:{call.line})", conversion)
            if target is not None:
                conversion.targets.append(target)
                own = f"{interface}:ucarp"
                conversion.remark(
                    call.line,
                    f"remove ucarp's options here, and the stanza {own} if there is one: pycarp has the address",
                )
        elif call.options.keys() & {"v", "a", "p"}:
            missing = " and ".join(
                name for name in ("ucarp-vid", "ucarp-vip", "ucarp-password") if _LETTERS[name] not in call.options
            )
            conversion.remark(call.line, f"ucarp is not started for this stanza: {missing} is missing")
    if not conversion.targets and not conversion.remarks:
        conversion.remark(None, "no stanza here has ucarp's options: give the file that has them")
    return conversion


def _option(name: str, value: str, number: int, call: Call, conversion: Conversion) -> None:
    if name in _LETTERS and value:
        call.options[_LETTERS[name]] = (value, number)
    elif name in _FLAGS and value and not _NO.match(value):
        call.options[_FLAGS[name]] = ("", number)
    elif name.startswith("ucarp-") and name not in (*_LETTERS, *_FLAGS):
        conversion.remark(number, "an option that Debian's ucarp does not have was left out")
