"""``pycarp monitor``: who speaks CARP on an interface, or in a capture, and why hosts do not understand each other."""

from __future__ import annotations

import shutil
from ipaddress import ip_interface

import click

from ..monitor.timeline import Timeline
from ..monitor.trunk import Trunk
from .group import fail
from .monitor_view import make_view
from .output import complain
from .watch import follow, source, source_options

_HELP = """Show who speaks CARP: which group, which host, how regularly, and what is wrong.

With the group's secret and addresses it also says why hosts do not understand each other: which form of the passphrase,
which addresses, which vhid. A capture of a trunk is read by its VLAN tags. It only listens, and needs no more than
CAP_NET_RAW (none for a capture). Ctrl-C ends it.

\b
Examples:
  pycarp monitor -i eth0
  pycarp monitor -i eth0 --vhid 101 --passfile /etc/carp.pass --address 10.13.37.42
  pycarp monitor -r trouble.pcap --json
  pycarp monitor -r trouble.pcap --timeline
  ssh router tcpdump -U -w - -i eth0 carp | pycarp monitor -r -

Exit code: 0; 1 if the interface vanished or the capture is damaged half-way; 2 if it cannot be done as asked for.
"""
_REFRESH = 0.25
"""Seconds between two looks at a table on a terminal."""


@click.command(help=_HELP)
@source_options
@click.option("--passfile", metavar="FILE", help="The file that holds the group's passphrase.")
@click.option("--address", "addresses", metavar="A", multiple=True, help="An address of the group; give it for each.")
@click.option("--vhid", type=click.IntRange(1, 255), metavar="N", help="The group that secret and addresses belong to.")
@click.option("--json", "as_json", is_flag=True, help="Print each change, and a summary, as one line of JSON.")
@click.option(
    "--timeline", "drawn", is_flag=True, help="In the end, show who was MASTER when, in a line for each host."
)
@click.pass_context
def monitor(
    ctx: click.Context,
    interface: str | None,
    capture: str | None,
    count: int | None,
    seconds: float | None,
    passfile: str | None,
    addresses: tuple[str, ...],
    vhid: int | None,
    as_json: bool,
    drawn: bool,
) -> None:
    timeline = Timeline()
    with source(ctx, interface, capture, seconds) as chosen:
        observer = Trunk(_secret(ctx, passfile), _valid(ctx, addresses), vhid=vhid)
        view = make_view(observer, chosen.where, as_json=as_json, live=chosen.live)

        def take(at: int, frame: bytes | None) -> bool:
            if drawn and frame is not None:
                timeline.frame(frame, at)
            view.show(observer.tick(at) if frame is None else observer.frame(frame, at), at)
            return count is None or observer.adverts < count

        frames = chosen.frames(lambda: observer.deadline, _REFRESH if view.moving else None)
        code = follow(ctx, view, frames, take)
        for line in [] if as_json else timeline.lines(shutil.get_terminal_size().columns):
            click.echo(line)
        ctx.exit(code)


def _secret(ctx: click.Context, passfile: str | None) -> bytes | None:
    if passfile is None:
        return None
    from ..ifconfig.passphrase import read_passfile
    from ..ifconfig.values import Wrong

    try:
        secret, readers = read_passfile(passfile, None)
    except Wrong as error:
        fail(ctx, f"--passfile: {error}")
    if readers is not None:
        complain(f"{ctx.command_path}: warning: {readers} may read the passphrase in {ascii(passfile)[1:-1]}")
    return secret


def _valid(ctx: click.Context, addresses: tuple[str, ...]) -> tuple[str, ...]:
    for address in addresses:
        try:
            ip_interface(address)
        except ValueError:
            fail(ctx, "--address is not an IP address: give one like 10.13.37.42")
    return addresses
