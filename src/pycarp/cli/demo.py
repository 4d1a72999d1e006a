"""``pycarp demo``: an address fails over between two hosts, on real sockets."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable

import click

from ..errors import CarpError
from .demo_stage import LabStage, SimulatedStage, this_program
from .demo_story import DemoError, Stage, Story
from .demo_view import ColourView, DemoView, make_view
from .group import fail
from .output import complain
from .signals import interrupt, on_signals

_HELP = """Watch an address fail over between two hosts, while a client pings it.

Two hosts run the real 'pycarp up' in network namespaces of their own, on a switch inside this machine; nothing outside
it is touched. The master's cable is pulled and put back, and it is stopped. That takes some 15 seconds, and nothing is
left behind, not even after Ctrl-C. As an ordinary user it runs in a user namespace; where that is not allowed, on a
simulated LAN in memory.

\b
Examples:
  pycarp demo
  pycarp demo --simulate
  pycarp demo --svg demo.svg

Exit code: 0; 1 if a host did not do its part; 130 after Ctrl-C.
"""
_INSIDE = "PYCARP_DEMO_INSIDE"
"""Set for the second run of this program, inside the user namespace, so that there is no third."""
_WHERE = {
    "root": "in network namespaces of this machine",
    "user": "in network namespaces inside a user namespace: no root needed",
    "asked": "on a simulated LAN in memory, as asked for: the protocol is real, time and wire are not",
    "none": (
        "on a simulated LAN in memory, since this machine allows neither root's network namespaces nor a user's:"
        " the protocol is real, time and wire are not"
    ),
    "elsewhere": "on a simulated LAN in memory, since this is not Linux: the protocol is real, time and wire are not",
}


@click.command(help=_HELP)
@click.option("--simulate", is_flag=True, help="Use a simulated LAN in memory; it is done at once.")
@click.option("--seed", type=int, metavar="N", help="Make the random choices of the simulated LAN the same every time.")
@click.option("--json", "as_json", is_flag=True, help="Print each event, and the measurements, as one line of JSON.")
@click.option("--svg", metavar="FILE", help="Draw the picture of the end into FILE, as SVG.")
@click.pass_context
def demo(ctx: click.Context, simulate: bool, seed: int | None, as_json: bool, svg: str | None) -> None:
    if svg is not None and as_json:
        fail(ctx, "--json has no picture: give --svg or --json")
    how = "asked" if simulate or seed is not None else _how()
    if how == "user" and _INSIDE not in os.environ:
        _enter([*(["--json"] if as_json else []), *([f"--svg={os.path.abspath(svg)}"] if svg is not None else [])])
        how = "none"
    story = Story()
    view = make_view(story, as_json=as_json, picture=svg is not None)
    chosen = random.randrange(1 << 32) if seed is None else seed
    # They end the story as Ctrl-C does.
    with on_signals(interrupt, "SIGINT", "SIGTERM", "SIGHUP"):
        code = _play(ctx, story, view, lambda: _stage(how, story, view, chosen))
    if svg is not None and code == 0 and isinstance(view, ColourView):
        try:
            view.save(svg)
        except OSError as error:
            fail(ctx, f"the picture cannot be written ({error.strerror}): give a file in a directory that there is")
    ctx.exit(code)


def _play(ctx: click.Context, story: Story, view: DemoView, build: Callable[[], Stage]) -> int:
    """Play the story and clean up in every case; returns the exit code."""
    stage: Stage | None = None
    code, trouble = 0, ""
    try:
        stage = build()
        view.opening(stage)
        story.play(stage)
        view.closing()
    except KeyboardInterrupt:
        code, trouble = 130, "interrupted"
    except DemoError as error:
        code, trouble = 1, str(error)
    except (CarpError, OSError) as error:
        code, trouble = 1, str(error) if isinstance(error, CarpError) else f"the lab failed: {error}"
    finally:
        # A second Ctrl-C must not leave behind what the first one was to remove.
        with on_signals(signal.SIG_IGN, "SIGINT", "SIGTERM", "SIGHUP"):
            try:
                view.broken()
            finally:
                if stage is not None:
                    stage.close()
    if trouble:
        real = stage is not None and stage.real
        complain(f"{ctx.command_path}: {trouble}{'; everything is taken down again' if real else ''}")
    elif stage is not None and stage.real:
        view.cleaned()
    return code


def _stage(how: str, story: Story, view: DemoView, seed: int) -> Stage:
    where = _WHERE[how]
    if how in ("root", "user"):
        return LabStage(where, story.tell, view.idle)
    return SimulatedStage(where, story.tell, view.idle, seed)


def _how() -> str:
    """Where the demonstration can run: a key of `_WHERE`."""
    if sys.platform != "linux":
        return "elsewhere"
    from ..lab.namespaces import available

    found = available()
    if _INSIDE in os.environ:
        return "user" if found == "root" else "none"
    return found or "none"


def _enter(options: list[str]) -> None:
    """Begin anew inside a user namespace; returns only if that fails."""
    from ..lab.namespaces import enter_user_namespace

    os.environ[_INSIDE] = "1"
    sys.stdout.flush()
    with contextlib.suppress(OSError):
        enter_user_namespace([*this_program(), "demo", *options])
    del os.environ[_INSIDE]
