"""The instances, and the description that comes with ADD: the twin of `ext/guardian/instance.c`.

Thread: the one that has the turn.
"""

import _socket as socket
import os

from . import protocol
from .clocks import boottime, monotonic
from .gate import Gate, gate_read
from .route import Batch, batch_prepare

BLOB_LIMIT = 16 << 20


class Order:
    """An order as it came."""

    def __init__(self, raw: bytes) -> None:
        (self.kind, _flags, _zero, self.index, self.at, self.lease, self.next_beat_ms, self.takeover_after_ms,
         self.number, self.boot) = protocol.ORDER.unpack(raw)  # fmt: skip


class Instance:
    """What was handed over, and what became of it; `ext/guardian/instance.h` says what each is."""

    packet: socket.socket
    lock: int

    def __init__(self, index: int) -> None:
        self.index = index
        self.batches: list[Batch] = []
        self.frames: list[bytes] = []
        self.gate = Gate()
        self.essential = self.lease = self.link = 0
        self.mute_is_all = False
        self.late_due = self.late_done = 0
        self.taken = self.stale = self.leaving = self.muted = self.silent = False
        self.at = self.boot = self.next_beat = self.takeover_after = 0
        self.late_until = self.link_due = self.bowout_at = 0
        self.order: Order | None = None
        self.asked: dict[int, Order] = {}


def _copy_whole(blob: int) -> bytes:
    size = os.lseek(blob, 0, os.SEEK_END)
    if not protocol.DESCRIPTION.size <= size <= BLOB_LIMIT:
        raise ValueError("no description has this size")
    return os.pread(blob, size, 0)


def _frames(data: bytes, count: int) -> list[bytes]:
    frames = []
    at = 0
    while at + protocol.FRAME_LENGTH.size <= len(data):
        (length,) = protocol.FRAME_LENGTH.unpack_from(data, at)
        at += protocol.FRAME_LENGTH.size + length
        frames.append(data[at - length : at])
    if at != len(data) or len(frames) != count:
        raise ValueError("the frames are malformed")
    return frames


def instance_read(index: int, blob: int) -> Instance:
    """An instance without descriptors. Raises `ValueError` or `OSError` for what is no description of it."""
    data = _copy_whole(blob)
    version, described, essential, link, ipv6, count, gate, *lengths = protocol.DESCRIPTION.unpack_from(data)
    if (
        version != protocol.DESCRIPTION_VERSION
        or described != index
        or len(data) != protocol.DESCRIPTION.size + sum(lengths) + gate
    ):
        raise ValueError("the description is malformed")
    instance = Instance(index)
    at = protocol.DESCRIPTION.size
    for length in lengths[: protocol.BATCHES]:
        instance.batches.append(batch_prepare(data[at : at + length]))
        at += length
    instance.frames = _frames(data[at : len(data) - gate], count)
    instance.gate = gate_read(data[len(data) - gate :])
    instance.essential = essential or instance.batches[protocol.BATCH_TAKE].count
    instance.link, instance.mute_is_all = link, not ipv6
    return instance


def _free_description(instance: Instance) -> None:
    instance.packet.close()
    os.close(instance.lock)


def instance_put(instances: dict[int, Instance], fresh: Instance) -> None:
    """Put `fresh` under its index; one that was there keeps its state."""
    instance = instances.setdefault(fresh.index, fresh)
    if instance is fresh:
        return
    _free_description(instance)
    for name in ("batches", "frames", "essential", "lease", "mute_is_all", "link", "packet", "lock", "gate"):
        setattr(instance, name, getattr(fresh, name))
    instance.late_done = 0  # what is there already does no harm


def instance_remove(instances: dict[int, Instance], instance: Instance) -> None:
    del instances[instance.index]
    _free_description(instance)


def beat_age(instance: Instance) -> int:
    """ns since the engine's sign of life, by the clock that has gone further."""
    return max(monotonic() - instance.at, boottime() - instance.boot)
