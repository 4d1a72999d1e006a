"""Who was heard when: the spans of every speaker, and how far each of its intervals was off. Frames come in. No I/O."""

from __future__ import annotations

from collections import deque

from .._impl import current
from .._records import dataclass, field
from ..protocol import Advert
from ..protocol.checks import first_fault
from .speakers import Key
from .text import clock, local_time
from .timing import TWIN

MOST_SPEAKERS = 256
KEPT = 20_000
"""Intervals of each speaker that are kept, the latest; of spans there are as many at most."""
_GOES_ON = 2.5
"""Intervals of silence that do not end a span."""
_NARROWEST = 20


@dataclass(slots=True)
class Span:
    """A time in which a host spoke as MASTER. Moments in ns, as those of the frames; `bowed_out` says how it ended."""

    begin: int
    end: int
    bowed_out: bool = False


@dataclass(slots=True)
class Line:
    """One speaker: its spans, and for each interval when it ended and how much longer than promised it was."""

    spans: deque[Span] = field(default_factory=lambda: deque(maxlen=KEPT))
    errors: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=KEPT))


class Timeline:
    """Give it every frame with its time, in order; look at `speakers`."""

    def __init__(self) -> None:
        self.speakers: dict[Key, Line] = {}
        self.first = self.last = 0

    def frame(self, frame: bytes, at: int) -> None:
        """Take in one Ethernet frame."""
        datagram = current.packet.dissect(frame)
        advert = None if datagram is None else current.packet.advert(datagram)
        if datagram is not None and advert is not None:
            if not first_fault(datagram, advert, current.packet.checksum_ok):
                self.advert(advert, at)

    def advert(self, advert: Advert, at: int) -> None:
        """Take in one advert that is known to be right."""
        key = Key(advert.vhid, advert.family, advert.source)
        line = self.speakers.get(key)
        if line is None:
            if len(self.speakers) >= MOST_SPEAKERS:
                return
            line = self.speakers[key] = Line()
        self.first = self.first or at
        self.last = max(self.last, at)
        former = line.spans[-1] if line.spans else None
        promised = advert.advbase * 1_000_000_000 + advert.advskew * 1_000_000_000 // 256
        if former is not None and 0 <= at - former.end < TWIN:
            former.bowed_out = former.bowed_out or advert.bowout
        elif former is None or former.bowed_out or at - former.end > _GOES_ON * max(promised, 1):
            if not advert.bowout:
                line.spans.append(Span(at, at))
            elif former is not None and not former.bowed_out:
                former.end, former.bowed_out = at, True
        else:
            if not advert.bowout:
                line.errors.append((at, at - former.end - promised))
            former.end, former.bowed_out = at, advert.bowout

    def lines(self, width: int) -> list[str]:
        """As text for a terminal of this width: a block where a host was MASTER, a dot where it was not heard."""
        if not self.speakers:
            return []
        keys = sorted(self.speakers, key=lambda key: key.rank)
        heads = [f"vhid {key.vhid} {key.source} " for key in keys]
        room = max(_NARROWEST, width - max(map(len, heads)))
        step = max(1, (self.last - self.first) // room + 1)
        widest = max(map(len, heads))
        made = [
            head.ljust(widest) + "".join(self._cell(self.speakers[key], cell, step) for cell in range(room))
            for key, head in zip(keys, heads, strict=True)
        ]
        scale = f"{clock(local_time(self.first))} to {clock(local_time(self.last))}, {step / 1e9:.3g} s a character"
        return [scale, *made]

    def _cell(self, line: Line, cell: int, step: int) -> str:
        begin = self.first + cell * step
        inside = [span for span in line.spans if span.begin < begin + step and span.end >= begin]
        if not inside:
            return "."
        return "v" if inside[-1].bowed_out and inside[-1].end < begin + step else "#"
