"""One picture stream of a scan: its parts, what was seen of them, what was lost, and the account of it all.

Nothing here waits, reads or infers: it is told what workers said and what models found, and says what to do next.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import msgspec

from vidmod import plans
from vidmod.coverage import account
from vidmod.media import Ledger, Part, Probe, VideoTrack
from vidmod.media.parts import ELSEWHERE, PICTURE, Surveyed
from vidmod.messages import LookTask, Picture, SurveyTask
from vidmod.plans import AdaptivePictures, Audit, Look, UniformPictures
from vidmod.predictions import Predictions
from vidmod.settings import ScanSettings
from vidmod.timebase import Span, to_pts, to_seconds, union
from vidmod.timeline import Json, Sample, StreamScan

# What has to be decoded whole cannot be gone back to cheaply, so it is looked at this often at once.
_WHOLE_INTERVAL_SECONDS = Fraction(1, 2)


@dataclass(slots=True, eq=False)
class Errand:
    """A look that is to be done: an order, what came of it, and how often it went wrong.

    Attributes:
        key: Names it among all looks at this stream, for the journal.
        unjudged: Pictures that were handed over and of which the models have not spoken.
        answered: The worker is done with it.
        failed: It did not do it.
        samples: Pictures of which the models have spoken, with the pts at which each ends.
    """

    look: Look
    key: str
    attempt: int = 0
    unjudged: int = 0
    answered: bool = False
    failed: bool = False
    samples: list[tuple[Sample, int]] = field(default_factory=list)
    ledger: Ledger | None = None
    picture: Picture | None = None

    @property
    def is_done(self) -> bool:
        """Whether everything that was handed over was judged, and no more will come."""
        return self.answered and not self.failed and self.unjudged == 0


@dataclass(frozen=True, slots=True)
class _Packed:
    """An errand that nobody has begun with."""

    number: int
    part: bytes
    wanted: tuple[int, ...] | None
    key: str
    attempt: int

    @classmethod
    def of(cls, errand: Errand) -> _Packed:
        look = errand.look
        return cls(look.part.number, msgspec.msgpack.encode(look.part), look.wanted, errand.key, errand.attempt)

    def unpacked(self) -> Errand:
        return Errand(Look(msgspec.msgpack.decode(self.part, type=Part), self.wanted), self.key, self.attempt)


@dataclass(slots=True)
class _PartAccount:
    """What is known of one part, without its lists.

    Attributes:
        open: Errands that are not done.
        marks: Of every listed packet.
        decoded: Of every listed packet, whether it was decoded.
        whole: The account of the worker that decoded all of it.
        size: Of its first picture.
    """

    first: int
    count: int
    start_pts: int | None
    end_pts: int | None
    marks: bytes
    decoded: bytearray
    borrowed: int = 0
    open: int = 0
    wholes: dict[int, tuple[int, Ledger]] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    pictures: dict[int, Picture] = field(default_factory=dict)

    @property
    def picture(self) -> Picture | None:
        """What its first picture showed."""
        return self.pictures[min(self.pictures)] if self.pictures else None

    def drop(self) -> None:
        """Nothing of it was looked at after all."""
        self.wholes, self.lost, self.pictures = {}, [], {}
        self.decoded = bytearray(len(self.marks))

    def ledger(self) -> Ledger:
        """Its packets."""
        ledger = Ledger()
        spoken_for = bytearray(len(self.marks))
        for first, (count, whole) in sorted(self.wholes.items()):
            ledger.include(whole)
            if (first, count) == (self.first, self.count):
                return whole
            spoken_for[first - self.first : first - self.first + count] = b"\1" * count
        lost = bytearray(len(self.marks))
        for first, count in self.lost:
            lost[first - self.first : first - self.first + count] = b"\1" * count
        if not self.marks and self.count > 0:
            ledger.packets = self.count - self.borrowed
            ledger.lost, ledger.skipped = (ledger.packets, 0) if self.lost else (0, ledger.packets)
        for place, mark in enumerate(self.marks):
            if mark & ELSEWHERE or spoken_for[place]:
                continue
            ledger.packets += 1
            if not mark & PICTURE:
                ledger.without_picture += 1
            elif self.decoded[place]:
                ledger.frames += 1
            elif lost[place]:
                ledger.lost += 1
            else:
                ledger.skipped += 1
        if self.start_pts is not None and self.end_pts is not None:
            ledger.extend(self.start_pts, self.end_pts)
        return ledger


class StreamJob:
    """One stream's scan as a state machine.

    Args:
        track: Which stream.
        facts: Of the file.
        settings: Of the scan.
        suspicion: How suspicious a picture is, by category: 1 is enough for a reviewer.
        max_packets: More of one stream are not accounted for.

    Attributes:
        troubles: What went wrong, in words.
        stopped: Enough was found.
        seen_seconds: Up to where pictures were judged.
    """

    def __init__(
        self,
        track: VideoTrack,
        facts: Probe,
        settings: ScanSettings,
        suspicion: Callable[[Predictions], tuple[float, ...]],
        max_packets: int,
    ) -> None:
        self.track = track
        self.stopped = False
        self.seen_seconds = 0.0
        self._facts = facts
        self._settings = settings
        self._suspicion = suspicion
        self._max_packets = max_packets
        self._interval = settings.interval / track.time_base
        self._plan = plans.create(settings.sampling, self._interval, track.time_base, settings.seed, settings.spans)
        self._start = None if settings.start is None else to_pts(settings.start, track.time_base)
        self._end = None if settings.end is None else to_pts(settings.end, track.time_base)
        self._surveyed: Surveyed | None = None
        # Packed: the packets of a long film, as lists of numbers, would fill the memory.
        self._queue: deque[_Packed] = deque()
        self._under_way = 0
        self._unjudged = 0
        self._parts: list[_PartAccount] = []
        self._samples: dict[int, _Judged] = {}
        self._survey_trouble: list[str] = []
        # By part and first packet, so that who failed first does not matter.
        self._losses: dict[tuple[int, int], tuple[Part, str]] = {}
        self._again: int | None = None
        self._settled = 0

    # What to do ---------------------------------------------------------------------------------

    def survey_task(self) -> SurveyTask:
        """The first thing to do."""
        return SurveyTask(track=self.track, until=self._end, max_packets=self._max_packets)

    def next_errand(self) -> Errand | None:
        """What to look at next; None if there is nothing, or not yet."""
        if not self._queue:
            return None
        self._under_way += 1
        return self._queue.popleft().unpacked()

    def give_back(self, errand: Errand) -> None:
        """Nobody has begun with it after all."""
        self._under_way -= 1
        self._queue.appendleft(_Packed.of(errand))

    def task(self, errand: Errand) -> LookTask:
        """What to tell a worker."""
        look, interval = errand.look, self._interval
        if self._settings.sampling in ("keyframes", "adaptive"):
            interval = min(interval, _WHOLE_INTERVAL_SECONDS / self.track.time_base)
        return LookTask(
            track=self.track,
            part=look.part,
            wanted=None if look.wanted is None else list(look.wanted),
            mode=self._settings.sampling,
            interval=interval,
            origin=self._plan.origin if isinstance(self._plan, UniformPictures) else None,
            start=self._settings.start,
            end=self._settings.end,
        )

    @property
    def is_surveyed(self) -> bool:
        """Whether all parts are known."""
        return self._surveyed is not None

    @property
    def has_queued(self) -> bool:
        """Whether :meth:`next_errand` has something."""
        return bool(self._queue)

    def advance(self) -> bool:
        """Once nothing is queued or under way: ask the plan for more. Whether the stream is done."""
        if not self.is_surveyed or self._queue or self._under_way or self._unjudged:
            return False
        if not self.stopped:
            scores = {pts: self._suspicion(item.sample.predictions) for pts, item in self._samples.items()}
            for look in self._plan.proceed(scores):
                self._order(look)
        return not self._queue

    def _order(self, look: Look) -> None:
        if look.wanted != ():
            self._queue.append(_Packed.of(Errand(look, _key(look))))
            self._parts[look.part.number].open += 1

    # What workers say ---------------------------------------------------------------------------

    def found(self, part: Part) -> None:
        """A part was found.

        Raises:
            ValueError: Not one that can come now.
        """
        if not self.is_surveyed and self._again is not None and self._again < len(self._parts):
            before = self._parts[self._again]
            if (part.number, part.first, part.count) != (self._again, before.first, before.count):
                raise ValueError("Another part than before.")
            self._again += 1
            return
        if self.is_surveyed or part.number != len(self._parts):
            raise ValueError("A part that is out of order.")
        self._parts.append(
            _PartAccount(
                part.first,
                part.count,
                part.start_pts,
                part.end_pts,
                bytes(part.marks),
                bytearray(len(part.marks)),
                part.borrowed,
            )
        )
        if self.stopped:
            return
        start, end = part.start_pts, part.end_pts
        if self._start is not None and part.count >= 0 and end is not None and end <= self._start:
            return
        if self._end is not None and part.count >= 0 and start is not None and start >= self._end:
            return
        shown = [picture for picture in part.pictures() if self._is_in_range(picture.pts, picture.end_pts)]
        last = part.last or (self._end is not None and end is not None and end >= self._end)
        self._order(self._plan.found(part, shown, last=last))

    def _is_in_range(self, pts: int, end_pts: int) -> bool:
        return (self._start is None or end_pts > self._start) and (self._end is None or pts < self._end)

    def surveyed(self, known: Surveyed) -> None:
        """All parts were found.

        Raises:
            ValueError: That was said before.
        """
        if self.is_surveyed:
            raise ValueError("A second survey.")
        self._surveyed = known

    def survey_again(self) -> bool:
        """The survey is to be done anew, once; whether it is."""
        if self._again is not None:
            return False
        self._again = 0
        return True

    def survey_failed(self, reason: str) -> None:
        """No more parts will be found; what follows the last is unknown."""
        self._survey_trouble.append(f"its packets could not be read to the end: {reason}")
        self._surveyed = Surveyed(packets=0, truncated=True, declared_end=self._declared_end(), ended=False)

    def seen(self, errand: Errand, pts: int, end_pts: int) -> None:
        """A picture was handed over.

        Raises:
            ValueError: Not one that can be.
        """
        part = errand.look.part
        if part.sound and errand.look.wanted is not None and pts not in part.times:
            raise ValueError("A picture that is not in the part.")
        if not self._is_in_range(pts, end_pts):
            raise ValueError("A picture that was not asked for.")
        errand.unjudged += 1
        self._unjudged += 1

    def judged(self, errand: Errand, pts: int, end_pts: int, predictions: Predictions) -> None:
        """The models have spoken of a picture that was handed over."""
        errand.unjudged -= 1
        self._unjudged -= 1
        start = to_seconds(pts, self.track.time_base)
        duration = round(to_seconds(end_pts, self.track.time_base) - start, 6)
        self.keep(errand, Sample(pts, start, duration, predictions), end_pts)

    def keep(self, errand: Errand, sample: Sample, end_pts: int) -> None:
        """Enter a sample, just made or from the journal."""
        errand.samples.append((sample, end_pts))
        number = errand.look.part.number
        if not self.stopped or number < self._settled:
            self._samples.setdefault(sample.pts, _Judged(sample, end_pts, number))
            self.seen_seconds = max(self.seen_seconds, sample.end_seconds)

    def looked(self, errand: Errand) -> None:
        """An errand is done, and all of its pictures were judged."""
        self._under_way -= 1
        part = errand.look.part
        known = self._parts[part.number]
        known.open -= 1
        if self._is_dropped(part):
            return
        if errand.picture is not None:
            known.pictures.setdefault(part.first, errand.picture)
        if errand.ledger is not None:
            known.wholes.setdefault(part.first, (part.count, errand.ledger))
        elif errand.look.wanted is not None:
            for place in part.needed(errand.look.wanted):
                known.decoded[part.first - known.first + place] = 1

    def failed(self, errand: Errand, reason: str, *, retry: bool) -> None:
        """A worker did not survive an errand, or could not do it."""
        self._under_way -= 1
        errand.failed = True
        look, known = errand.look, self._parts[errand.look.part.number]
        known.open -= 1
        if self._is_dropped(look.part):
            return
        if retry and errand.attempt == 0:
            for piece in _pieces(look):
                self._queue.append(_Packed.of(Errand(piece, _key(piece), attempt=1)))
                known.open += 1
            return
        known.lost.append((look.part.first, look.part.count))
        part = msgspec.structs.replace(look.part, sound=False, times=[], sizes=[], marks=[])
        self._losses.setdefault((part.number, part.first), (part, reason))

    def _is_dropped(self, part: Part) -> bool:
        """Whether nobody wants to know of a part any more."""
        return self.stopped and part.number >= self._settled

    def _hole(self, part: Part) -> Span | None:
        """When the pictures of a part that was lost would be shown."""
        start, end = part.start_pts, part.end_pts
        if part.count < 0:
            # Of a stream in one part, what was given before is known, and the rest is not.
            start = max((item.end_pts for item in self._samples.values()), default=self.track.start_pts or 0)
            end = self._declared_end()
        return Span(start, end) if start is not None and end is not None and start < end else None

    @property
    def troubles(self) -> list[str]:
        """What went wrong, in words."""
        rows = []
        for _, (part, reason) in sorted(self._losses.items(), key=lambda row: row[0]):
            hole, base = self._hole(part), self.track.time_base
            where = f"{to_seconds(int(hole.start), base):g} to {to_seconds(int(hole.end), base):g} s " if hole else ""
            rows.append(f"{where}could not be decoded: {reason}")
        return [*rows, *self._survey_trouble]

    def abandon(self) -> None:
        """Nobody will do what is still queued."""
        while self._queue:
            self._under_way += 1
            self.failed(self._queue.popleft().unpacked(), "given up before", retry=False)

    @property
    def audit(self) -> Audit | None:
        """What a random look at the rest found, if the plan took one."""
        return self._plan.audit if isinstance(self._plan, AdaptivePictures) else None

    # Stopping early -----------------------------------------------------------------------------

    def settle(self) -> bool:
        """Whether more of the stream's beginning was looked at completely than when last asked."""
        before = self._settled
        if self._settled < len(self._parts) and not self._parts[self._settled].open:
            self._settled += 1
        return self._settled > before

    def settled(self) -> StreamScan:
        """What was seen of that beginning, to be judged."""
        rows = tuple(item.sample for _, item in sorted(self._samples.items()) if item.number < self._settled)
        return StreamScan(self.track.index, self.track.kind, {}, (), rows, {})

    def stop(self) -> None:
        """Enough was found; what lies behind the settled beginning is dropped, seen or not."""
        self.stopped = True
        while self._queue:
            self._parts[self._queue.popleft().number].open -= 1
        self._samples = {pts: item for pts, item in self._samples.items() if item.number < self._settled}
        self._losses = {key: row for key, row in self._losses.items() if key[0] < self._settled}
        for known in self._parts[self._settled :]:
            known.drop()

    # The account --------------------------------------------------------------------------------

    def result(self, video: Callable[[VideoTrack, Picture | None], Json]) -> tuple[StreamScan, Ledger]:
        """Everything that is known of the stream."""
        ledger = self._ledger()
        spans = [Span(pts, item.end_pts) for pts, item in self._samples.items()]
        extent = self._extent(ledger)
        gap = int(self._interval)
        coverage = (
            []
            if extent is None
            else account(
                extent,
                spans,
                ledger.holes,
                gap,
                self.track.time_base,
                open_end=self._settings.sampling == "keyframes" and not self.stopped,
            )
        )
        scan = StreamScan(
            stream=self.track.index,
            kind=self.track.kind,
            video=video(self.track, next((known.picture for known in self._parts if known.picture), None)),
            coverage=tuple(coverage),
            samples=tuple(item.sample for _, item in sorted(self._samples.items())),
            ledger=ledger.as_json(),
        )
        return scan, ledger

    def _ledger(self) -> Ledger:
        ledger = Ledger()
        size: tuple[int, int] | None = None
        for known in self._parts:
            ledger.include(known.ledger())
            if known.picture is not None:
                ledger.size_changes += size is not None and size != known.picture.size
                size = known.picture.size
        for part, _ in self._losses.values():
            hole = self._hole(part)
            if hole is not None:
                ledger.add_hole(int(hole.start), int(hole.end))
            if part.count < 0:
                for pts, item in self._samples.items():
                    ledger.extend(pts, item.end_pts)
                # How much of it is missing nobody knows, but something is.
                ledger.truncated |= hole is None
        known_of_all = self._surveyed
        if known_of_all is not None:
            ledger.read_errors += known_of_all.read_errors
            if known_of_all.truncated and not self.stopped:
                ledger.truncated = True
                end = ledger.end_pts if ledger.end_pts is not None else self.track.start_pts or 0
                if known_of_all.declared_end is not None and known_of_all.declared_end > end:
                    ledger.add_hole(end, known_of_all.declared_end)
        ledger.holes = union(ledger.holes)
        return ledger

    def _declared_end(self) -> int | None:
        track = self.track
        if track.duration_pts is not None:
            return (track.start_pts or 0) + track.duration_pts
        if self._facts.duration_seconds is not None and track.kind != "cover":
            return to_pts((self._facts.start_seconds or 0) + self._facts.duration_seconds, track.time_base)
        return None

    def _extent(self, ledger: Ledger) -> Span | None:
        """All presentation time of the stream: what was met, and what is claimed of the rest."""
        start, end = ledger.first_pts, ledger.end_pts
        claimed_start, claimed_end = self.track.start_pts or 0, self._declared_end()
        if start is None or end is None:
            return None if claimed_end is None or claimed_end <= claimed_start else Span(claimed_start, claimed_end)
        if self._start is not None:
            start = min(start, claimed_start)
        if (self._end is not None or self.stopped) and claimed_end is not None:
            end = max(end, claimed_end)
        return Span(start, max(start, end))


@dataclass(frozen=True, slots=True)
class _Judged:
    """A sample, when it ends in pts, and the number of its part."""

    sample: Sample
    end_pts: int
    number: int


def _pieces(look: Look) -> list[Look]:
    """The same look in smaller pieces, if the part has any."""
    if look.wanted is None:
        return [look]
    pieces = []
    for part in look.part.pieces():
        times = {picture.pts for picture in part.pictures()}
        wanted = tuple(pts for pts in look.wanted if pts in times)
        if wanted:
            pieces.append(Look(part, wanted))
    return pieces or [look]


def _key(look: Look) -> str:
    """The look's name: which packets, and what of them."""
    wanted = "whole" if look.wanted is None else hashlib.sha256(repr(look.wanted).encode()).hexdigest()[:16]
    return f"{look.part.first}+{look.part.count}:{wanted}"
