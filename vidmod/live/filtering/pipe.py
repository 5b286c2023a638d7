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

from vidmod.blurring import SIDE, blurred, fitted
from vidmod.errors import UndecodableError
from vidmod.live.counts import Counts
from vidmod.live.filtering.arrivals import Arrivals
from vidmod.live.filtering.gate import Decision, Gate
from vidmod.live.filtering.overload import LEVELS, Overload
from vidmod.live.filtering.sound import SoundLine
from vidmod.media.frame import Frame
from vidmod.media.live import KEY_SECONDS, TIME_BASE, Encoded, PictureDecoder, PictureEncoder, Shape
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

# A packet that has waited for a larger share of the delay is not worth decoding.
_WORTHWHILE = 0.8
# In the last level of overload pictures that leave so late are covered, which takes no time.
_COVERED_LAG = 0.05
# Pictures for people are taken no more often than so.
_GRID_SECONDS = 1.0

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
        min_analysis_fps: Overload never has fewer pictures looked at.
        on_block: `slate` or `blur`: how all is covered for what was seen; for all else there is a slate.
        shadow: Whether nothing is covered but by command: what would have been is counted and noted.
    """

    delay_seconds: float = 1.0
    max_pixels: int = 1 << 28
    decoder_threads: int = 1
    encoder_threads: int = 1
    min_analysis_fps: float = 4.0
    on_block: str = "slate"
    shadow: bool = False


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


@dataclass(frozen=True, slots=True)
class CoverNote:
    """From this picture on all is covered for another reason, of `COVER_REASONS` in `telling.state`; empty for none."""

    reason: str
    pts: int


@dataclass(frozen=True, slots=True)
class ArrivalNote:
    """The first picture of a source has come."""

    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ChangeNote:
    """Pictures are not what they were: their `size`, or their `clock`."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, repr=False)
class LookNote:
    """What was seen in a picture that has not left; `grid` is what may be shown of it, where there is anything to show.

    Attributes:
        size: Displayed width and height.
    """

    pts: int
    size: tuple[int, int]
    grid: bytes | None


Note = CoverNote | ArrivalNote | ChangeNote


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
        is_hit: Whether what was seen in a picture is worth a picture of it.
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
        *,
        is_hit: Callable[[Predictions], bool] = lambda _: False,
    ) -> None:
        self.counts = Counts()
        self.delay: float | None = None
        self._settings, self._make_gate, self._preparations = settings, gate, tuple(preparations)
        self._is_hit = is_hit
        self._period = float(1 / shape.rate)
        self._arrivals = Arrivals(settings.delay_seconds)
        self._shape = shape
        self._encoder = self._usual = PictureEncoder(shape, threads=settings.encoder_threads)
        self._hurried: PictureEncoder | None = None
        # Less by a picture: the next one would be too late.
        self._overload = Overload(max(0.0, 1 / settings.min_analysis_fps - self._period))
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
        self._last_key = began
        self._held = _Cover()
        self._is_covered = True
        self._is_filling = True
        self._notes: list[Note] = []
        self._reason = ""
        self._shown_grid = float("-inf")
        self._is_new = True  # nothing of this source has come
        self._has_shown = False
        self._damaged = float("-inf")
        self._why_unseen = "starting"

    @property
    def level(self) -> int:
        """Of overload; see :mod:`vidmod.live.filtering.overload`."""
        return self._overload.level

    def take_notes(self) -> list[Note]:
        """What is worth telling since this was last asked."""
        notes, self._notes = self._notes, []
        return notes

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
        self._needs_key = self._is_new = True

    def lose(self) -> None:
        """The source is gone. What has come of it still leaves."""
        self._decoder = None
        self._arrivals.lose()

    def picture(
        self,
        data: bytes,
        pts: int | None,
        dts: int | None,
        *,
        key: bool,
        now: float,
        came: float | None = None,
        is_needed: bool = False,
    ) -> None:
        """A packet of pictures is there.

        Args:
            came: When it came to this machine, if that was not now.
            is_needed: It is decoded however late it is.
        """
        came = now if came is None else came
        if now - came > self._settings.delay_seconds * _WORTHWHILE and not is_needed:
            # It could not leave in time, and neither could what needs it.
            self._needs_key = True
            self.counts.late += 1
        if self._decoder is None or (self._needs_key and not key):
            return
        self._needs_key = False
        try:
            for frame in self._decoder.decode(data, pts, dts):
                self._arrive(frame, came, now)
        except UndecodableError:
            # What refers to it is damaged, too.
            self._needs_key = True
            self.counts.damaged += 1
            self._damaged = now

    def sound(self, data: bytes, time: float, now: float) -> None:
        """A packet of sound came; `time` is the source's, in seconds."""
        due = self._arrivals.sound(time, now)
        if self._sound is not None and due is not None:
            self._sound.take(data, due)

    def _arrive(self, frame: Frame, came: float, now: float) -> None:
        self.counts.decoded += 1
        if self._is_new:
            self._is_new = False
            self._notes.append(ArrivalNote(frame.size))
        placed = self._arrivals.frame(float(frame.pts * frame.time_base), came)
        if self._gate is None or frame.size != self._size:
            if self._gate is not None:
                self._notes.append(ChangeNote("size", *(f"{row[0]}x{row[1]}" for row in (self._size, frame.size))))
                self._why_unseen = "source_changed"
            self._gate, self._size = self._make_gate(frame.size), frame.size
            self._asked.clear()
        elif placed is not None and placed.is_cut:
            self._gate.cut()
            self._asked.clear()
            self._why_unseen = "source_changed"
        pts = -1 if placed is None else round(placed.due / TIME_BASE)
        last = max(self._last_pts, self._waiting[-1].pts) if self._waiting else self._last_pts
        if placed is None or placed.due < now or pts <= last:
            self.counts.late += 1
            return
        self._gate.frame(pts, pts + round(self._period / TIME_BASE))
        self._waiting.append(_Waiting(frame, pts, placed.due))

    # Looking ------------------------------------------------------------------------------------

    def wanted_look(self) -> WantedLook | None:
        """The newest picture, to be looked at next; None if there is none, or enough are being looked at."""
        if not self._waiting or len(self._asked) >= _LOOKS_AHEAD:
            return None
        newest = self._waiting[-1]
        if newest.pts <= self._last_asked or (newest.pts - self._last_asked) * TIME_BASE < self._overload.apart:
            return None
        self._last_asked = newest.pts
        try:
            inputs = tuple(prepare(newest.frame, preparation) for preparation in self._preparations)
        except UndecodableError:
            return None
        self._asked.append(newest.pts)
        return WantedLook(newest.pts, inputs)

    def looked(self, pts: int, predictions: Predictions, now: float) -> LookNote | None:
        """What models saw in a picture that was to be looked at; None if that is of no use any more."""
        while self._asked and self._asked[0] < pts:
            self._asked.popleft()
        if not self._asked or self._asked[0] != pts or self._gate is None:
            return None  # of before a cut, or nothing that was asked for
        self._asked.popleft()
        self.counts.looked += 1
        self._gate.look(pts, predictions)
        self._why_unseen = "not_analysed"
        grid = None
        if now - self._shown_grid >= _GRID_SECONDS and self._is_hit(predictions):
            waiting = next((row for row in self._waiting if row.pts == pts), None)
            if waiting is not None:
                self._shown_grid = now
                grid = _grid(waiting.frame)
        return LookNote(pts, self._size, grid)

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
            self._tell("emergency" if self._held.holds(until) else self._why_filling(until), round(due / TIME_BASE))
            rows += self._left(self._encoder.cover(round(due / TIME_BASE), key=self._wants_key), due)

    def _why_filling(self, now: float) -> str:
        if not self._has_shown:
            return "starting"
        return "error" if now - self._damaged < _MOST_PAST_SECONDS + self._settings.delay_seconds else "source_lost"

    def _shown(self, row: _Waiting, now: float) -> list[Leaving]:
        assert self._gate is not None
        self._is_filling, self._has_shown = False, True
        lag = max(0.0, now - row.due)
        self.delay = self._settings.delay_seconds + lag
        self._follow(self._overload.observe(lag, now))
        decision = self._gate.decide(row.pts, row.pts + round(self._period / TIME_BASE))
        reason = {"found": "hit", "unseen": self._why_unseen}.get(decision.reason, "")
        if self._held.holds(now):
            self.counts.held += 1
            self._tell("emergency", row.pts)
            return self._cover(row)
        if self._overload.level == len(LEVELS) - 1 and lag > _COVERED_LAG and not self._settings.shadow:
            self.counts.unseen += 1
            self._tell("overload", row.pts)
            return self._cover(row)
        self._tell(reason, row.pts)
        self.counts.boxed += bool(decision.boxes)
        if decision.whole:
            setattr(self.counts, decision.reason, getattr(self.counts, decision.reason) + 1)
        else:
            self.counts.shown += 1
        try:
            return self._decided(row, decision)
        except UndecodableError:
            self.counts.damaged += 1
            return self._cover(row)

    def _decided(self, row: _Waiting, decision: Decision) -> list[Leaving]:
        """What leaves of a picture."""
        picture, is_shadow = row.frame.picture, self._settings.shadow
        if decision.whole and not is_shadow:
            if decision.reason == "found" and self._settings.on_block == "blur":
                packets = self._encoder.blurred(picture, row.pts, key=self._wants_key)
                self._is_covered = True
                return self._left(packets, row.due)
            # What is unclear takes moments, and neither look around it demands silence.
            return self._cover(row, is_silent=decision.reason != "unclear")
        packets = self._encoder.picture(picture, () if is_shadow else decision.boxes, row.pts, key=self._wants_key)
        self._is_covered = False
        return self._left(packets, row.due)

    def _follow(self, level: int) -> None:
        """Use the encoder that a level of overload allows."""
        is_hurried = level >= LEVELS.index("effort")
        if is_hurried == (self._encoder is self._hurried):
            return
        # It takes some milliseconds to make, and at 1080p some 30 MB to keep.
        threads = self._settings.encoder_threads
        self._hurried = PictureEncoder(self._shape, threads=threads, hurried=True) if is_hurried else None
        self._encoder = self._usual if self._hurried is None else self._hurried
        # What one encoder wrote the other does not know.
        self._wants_key = True

    def _tell(self, reason: str, pts: int) -> None:
        if reason != self._reason:
            self._reason = reason
            self._notes.append(CoverNote(reason, pts))

    def _cover(self, row: _Waiting, *, is_silent: bool = True) -> list[Leaving]:
        self._is_covered = is_silent
        return self._left(self._encoder.cover(row.pts, key=self._wants_key), row.due)

    def _left(self, packets: Sequence[Encoded], due: float) -> list[Leaving]:
        if any(item.key for item in packets):
            self._last_key = due
        # The encoder counts pictures, and a source may have fewer a second than it said.
        self._wants_key = due + self._period - self._last_key > KEY_SECONDS
        self._last_left = due
        self._last_pts = max([self._last_pts, *(item.pts for item in packets)])
        return [Leaving("picture", item.pts, item.key, item.data) for item in packets]


def _grid(frame: Frame) -> bytes | None:
    try:
        return blurred(frame.image(*fitted(frame.size, SIDE), "rgb", "area")).tobytes()
    except UndecodableError:
        return None
