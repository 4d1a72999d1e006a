"""Adverts and announcements on their way out.

Thread: runtime.
"""

from __future__ import annotations

import errno
import os

from ... import events
from ..._unpatched import time
from ...protocol import BOWOUT, State
from ...protocol.timing import BOWOUT_AFTER_DROP
from .clock import next_serial, serial
from .peers import heard_last
from .reports import report
from .state import Instance, RuntimeState


def send_advert(runtime: RuntimeState, instance: Instance, advbase: int, advskew: int, pace: int, now: int) -> bool:
    """Send an advert in every family and dialect; False if any frame could not be sent."""
    failure: OSError | None = None
    vhid = instance.plan.host.vhid
    # All are made before the first is sent: a better host answers that one at once, and a frame of ours that came
    # later would teach the switch our port again.
    if advbase == advskew == BOWOUT:
        said = instance.left = serial(runtime)
    else:
        said = next_serial(runtime, instance)
    frames = _signed(instance, advbase, advskew, said, pace)
    for family, signed in frames:
        # Switches are to learn where the virtual MAC is when the addresses are here.
        inherits = instance.ownership.inherits
        frame = signed[:6] + instance.carpdev.mac + signed[12:] if inherits else signed
        error = send_frame(instance, frame)
        if error is None:
            instance.carpdev.input.count_sent(vhid, family)
        failure = failure or error
    if failure is not None and not instance.failing:
        report(runtime, instance, events.Failed, now, what=events.not_sent(failure.errno or errno.EIO))
    instance.failing = failure is not None
    instance.speaks = instance.machine.state is State.MASTER
    return failure is None


def _signed(instance: Instance, advbase: int, advskew: int, said: int, pace: int = 0) -> list[tuple[int, bytes]]:
    nonce, demotion = os.urandom(1)[0] & 7, instance.machine.sent_demotion
    return list(instance.plan.adverts(advbase, advskew, nonce, demotion, said, pace))


def make_way(runtime: RuntimeState, instance: Instance, rival: bytes) -> None:
    """Tell the MASTER at this MAC, and nobody else, that we have yielded to it: it announces once more.

    A bow-out to the group would make other backups take over. It comes from the carpdev's own MAC: switches are not to
    learn the virtual MAC here again. A peer hears what is sent to its address.
    """
    if not any(rival) or rival[0] & 1:
        return
    carpdev, vhid = instance.carpdev, instance.plan.host.vhid
    address = heard_last(instance, rival) if instance.plan.aimed else None
    for family, frame in _signed(instance, BOWOUT, BOWOUT, serial(runtime)):
        wanted = instance.plan.is_to(family, frame, address)
        if wanted and send_frame(instance, rival + carpdev.mac + frame[12:]) is None:
            carpdev.input.count_sent(vhid, family)


def leave_to(runtime: RuntimeState, instance: Instance, heir: bytes) -> None:
    """Make way for the one that we have handed over to, once nothing of ours answers any more."""
    time.sleep(BOWOUT_AFTER_DROP / 1e9)
    make_way(runtime, instance, instance.ownership.heir or heir)


def announce(instance: Instance) -> None:
    """Gratuitous ARP and unsolicited neighbour advertisements: where the addresses are."""
    instance.ownership.announced = time.monotonic_ns()
    for frame in instance.plan.announce_frames:
        send_frame(instance, frame)


def send_frame(instance: Instance, frame: bytes) -> OSError | None:
    """Send one frame on the instance's carpdev, and say what failed."""
    try:
        instance.carpdev.sockets.send.send(frame)
    except OSError as error:
        return error
    return None
