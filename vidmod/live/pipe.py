"""The pipe: packets in, packets out a fixed delay later, with nothing to be seen that nobody vouched for.

Everything that happens is told to it with the time at which it happens; it owns no thread, no clock and no socket, so a
test can run it faster or slower than time. Whatever fails inside costs covers, never clear pictures: a packet that
cannot be decoded is a picture that is not shown, a look that does not come leaves its pictures covered, and a source
that is silent is replaced by cover and silence, at the same rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vidmod.errors import UndecodableError
from vidmod.live.arrivals import Arrivals
from vidmod.live.counts import Counts
from vidmod.live.gate import Gate
from vidmod.live.sound import SoundLine
from vidmod.media.frame import Frame
from vidmod.media.live import TIME_BASE, Encoded, PictureDecoder, PictureEncoder, Shape
from vidmod.models import ModelInput
from vidmod.models.manifest import Preparation
from vidmod.models.preprocessing import prepare
from vidmod.predictions import Predictions

# More looks than this would only wait for each other.
_LOOKS_AHEAD = 2
# What a viewer saw last stands for so long; then there is cover.
_PATIENCE_SECONDS = 0.4
# A hole is never filled from longer ago: nobody waits for what is past.
_MOST_PAST_SECONDS = 1.0

Kind = Literal["picture", "sound"]
# A gate for pictures of a displayed width and height.
GateMaker = Callable[[tuple[int, int]], Gate]


@dataclass(frozen=True, slots=True)
class PipeSettings:
    """How a pipe works.

    Attributes:
        delay_seconds: From a picture's arrival until it leaves.
        max_pixels: Larger pictures are not decoded.
        decoder_threads, encoder_threads: Of FFmpeg.
    """

    delay_seconds: float = 1.0
    max_pixels: int = 1 << 28
    decoder_threads: int = 1
    encoder_threads: int = 1


@dataclass(frozen=True, slots=True)
class PictureSource:
    """What a source says of its pictures."""

    codec: str
    extradata: bytes | None
    time_base: Fraction


@dataclass(frozen=True, slots=True, repr=False)
class Leaving:
    """A packet that leaves; `pts` in `TIME_BASE`, on the clock that the pipe is told the time of."""

    kind: Kind
    pts: int
    key: bool
    data: bytes


@dataclass(frozen=True, slots=True, repr=False)
class WantedLook:
    """A picture to look at: an input for every model."""

    pts: int
    inputs: tuple[ModelInput, ...]


@dataclass(slots=True, repr=False)
class _Waiting:
    frame: Frame
    pts: int
    due: float


@dataclass(slots=True)
class _Cover:
    """Whether all is covered by command, and until when."""

    until: float | None = None

    def holds(self, now: float) -> bool:
        return self.until is not None and now < self.until


class Pipe:
    """Pictures and sound of one source after the other, to one stream. Belongs to one thread.

    Args:
        settings: How.
        gate: Decides what may be seen, in displayed pixels of the source's pictures; made anew for each size.
        preparations: What models want to see.
        shape: Of what leaves.
        sound: What is done with sound; None for none.
        began: The time now.
    """

    def __init__(
        self,
        settings: PipeSettings,
        gate: GateMaker,
        preparations: Sequence[Preparation],
        shape: Shape,
        sound: SoundLine | None,
        began: float,
    ) -> None:
        self.counts = Counts()
        self._settings, self._make_gate, self._preparations = settings, gate, tuple(preparations)
        self._period = float(1 / shape.rate)
        self._arrivals = Arrivals(settings.delay_seconds)
        self._encoder = PictureEncoder(shape, threads=settings.encoder_threads)
        self._sound = sound
        self._decoder: PictureDecoder | None = None
        self._needs_key = True
        self._gate: Gate | None = None
        self._size = (0, 0)
        self._waiting: deque[_Waiting] = deque()
        self._asked: deque[int] = deque()
        self._last_asked = -1
        self._last_left = began
        self._last_pts = -1
        self._wants_key = True
        self._held = _Cover()
        self._is_covered = True
        self._is_filling = True

    @property
    def parameter_sets(self) -> bytes:
        """Of the pictures that leave; see :class:`vidmod.media.live.PictureEncoder`."""
        return self._encoder.parameter_sets

    # What comes ---------------------------------------------------------------------------------

    def begin(self, source: PictureSource) -> None:
        """A source is there, or another one.

        Raises:
            UndecodableError: There is no decoder for it.
        """
        self.lose()
        self._decoder = PictureDecoder(
            source.codec,
            source.extradata,
            source.time_base,
            max_pixels=self._settings.max_pixels,
            threads=self._settings.decoder_threads,
        )
        self._needs_key = True

    def lose(self) -> None:
        """The source is gone. What has come of it still leaves."""
        self._decoder = None
        self._arrivals.lose()

    def picture(self, data: bytes, pts: int | None, dts: int | None, *, key: bool, now: float) -> None:
        """A packet of pictures came."""
        if self._decoder is None or (self._needs_key and not key):
            return
        self._needs_key = False
        try:
            for frame in self._decoder.decode(data, pts, dts):
                self._arrive(frame, now)
        except UndecodableError:
            self.counts.damaged += 1

    def sound(self, data: bytes, time: float, now: float) -> None:
        """A packet of sound came; `time` is the source's, in seconds."""
        due = self._arrivals.sound(time, now)
        if self._sound is not None and due is not None:
            self._sound.take(data, due)

    def _arrive(self, frame: Frame, now: float) -> None:
        self.counts.decoded += 1
        placed = self._arrivals.frame(float(frame.pts * frame.time_base), now)
        pts = None if placed is None else round(placed.due / TIME_BASE)
        if placed is None or pts is None or (self._waiting and pts <= self._waiting[-1].pts) or pts <= self._last_pts:
            self.counts.late += 1
            return
        if self._gate is None or frame.size != self._size:
            self._gate, self._size = self._make_gate(frame.size), frame.size
            self._asked.clear()
        elif placed.is_cut:
            self._gate.cut()
            self._asked.clear()
        self._gate.frame(pts, pts + round(self._period / TIME_BASE))
        self._waiting.append(_Waiting(frame, pts, placed.due))

    # Looking ------------------------------------------------------------------------------------

    def wanted_look(self) -> WantedLook | None:
        """The newest picture, to be looked at next; None if there is none, or enough are being looked at."""
        if not self._waiting or len(self._asked) >= _LOOKS_AHEAD:
            return None
        newest = self._waiting[-1]
        if newest.pts <= self._last_asked:
            return None
        self._last_asked = newest.pts
        try:
            inputs = tuple(prepare(newest.frame, preparation) for preparation in self._preparations)
        except UndecodableError:
            return None
        self._asked.append(newest.pts)
        return WantedLook(newest.pts, inputs)

    def looked(self, pts: int, predictions: Predictions) -> None:
        """What models saw in a picture that was to be looked at."""
        while self._asked and self._asked[0] < pts:
            self._asked.popleft()
        if not self._asked or self._asked[0] != pts or self._gate is None:
            return  # of before a cut, or nothing that was asked for
        self._asked.popleft()
        self.counts.looked += 1
        self._gate.look(pts, predictions)

    def lose_looks(self) -> None:
        """Who looks was replaced: what it was asked is not answered."""
        self._asked.clear()

    # What leaves --------------------------------------------------------------------------------

    def hold(self, until: float | None) -> None:
        """Cover everything until then, whatever is seen; None to leave it to what is seen again."""
        self._held.until = until

    def want_key(self) -> None:
        """Whoever gets the packets needs a key picture."""
        self._wants_key = True

    @property
    def due(self) -> float:
        """When there is something to do next."""
        times = [self._last_left + (self._period if self._is_filling else _PATIENCE_SECONDS)]
        times += [self._waiting[0].due] if self._waiting else []
        return min(times if self._sound is None else [*times, self._sound.due])

    def leave(self, now: float) -> list[Leaving]:
        """All that is to leave by now, in order."""
        rows: list[Leaving] = []
        while self._waiting and self._waiting[0].due <= now:
            row = self._waiting.popleft()
            self._fill(row.due - self._period / 2, rows)
            rows += self._shown(row, now)
        self._fill(now, rows)
        if self._sound is not None:
            rows += [Leaving("sound", *item) for item in self._sound.leave(now, covered=self._is_covered)]
        return rows

    def _fill(self, until: float, rows: list[Leaving]) -> None:
        """Let covers leave where pictures are missing."""
        if not self._is_filling and until - self._last_left < _PATIENCE_SECONDS:
            return
        while self._last_left + self._period <= until:
            due = max(self._last_left + self._period, until - _MOST_PAST_SECONDS)
            self.counts.filled += 1
            self._is_covered = self._is_filling = True
            rows += self._left(self._encoder.cover(round(due / TIME_BASE), key=self._wants_key), due)

    def _shown(self, row: _Waiting, now: float) -> list[Leaving]:
        assert self._gate is not None
        self._is_filling = False
        decision = self._gate.decide(row.pts, row.pts + round(self._period / TIME_BASE))
        held = self._held.holds(now)
        self._is_covered = held or decision.whole
        if self._is_covered:
            name = "held" if held else decision.reason
            setattr(self.counts, name, getattr(self.counts, name) + 1)
            return self._left(self._encoder.cover(row.pts, key=self._wants_key), row.due)
        self.counts.shown += 1
        self.counts.boxed += bool(decision.boxes)
        packets = self._encoder.picture(row.frame.picture, decision.boxes, row.pts, key=self._wants_key)
        return self._left(packets, row.due)

    def _left(self, packets: Sequence[Encoded], due: float) -> list[Leaving]:
        self._wants_key = False
        self._last_left = due
        self._last_pts = max([self._last_pts, *(item.pts for item in packets)])
        return [Leaving("picture", item.pts, item.key, item.data) for item in packets]
