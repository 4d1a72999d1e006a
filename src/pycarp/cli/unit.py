"""The systemd unit, as the help shows it; packaging/systemd/pycarp.service is the same (a test compares them)."""

from __future__ import annotations

import textwrap

UNIT = """\
[Unit]
Description=Floating addresses by CARP (pycarp)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/usr/local/bin/pycarp run
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
RestartSec=1
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW

[Install]
WantedBy=multi-user.target
"""
"""For systemd 240 or newer. From 253 on, Type=notify-reload without ExecReload= does the same."""


def indented() -> str:
    """The unit without its empty lines, as a piece of a help text."""
    return textwrap.indent(UNIT.replace("\n\n", "\n"), "  ")
