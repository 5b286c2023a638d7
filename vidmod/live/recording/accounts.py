"""What is known of the pictures of one recording: which were looked at, what was seen, and the timeline of that.

Looks come before or after their pictures, from another process. One belongs to the picture of the same time, and one
whose picture is not in the recording belongs nowhere.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

from vidmod._version import __version__
from vidmod.coverage import Covered, account
from vidmod.judging import find_segments, verdict_of
from vidmod.live.messages import Begin, Found, RecorderSettings, Sight
from vidmod.media import Ledger
from vidmod.media.live import TIME_BASE, placed
from vidmod.media.recording import FORMAT, channels_of
from vidmod.media.recording import TIME_BASE as FILE_BASE
from vidmod.policy import Policy
from vidmod.predictions import Box, Detection, Predictions, Scores
from vidmod.timebase import Span, to_seconds
from vidmod.timeline import Json, Sample, Status, StreamScan, Timeline

# Of a file that is not whole nobody knows it.
UNKNOWN_SHA256 = "0" * 64
_GOING_ON = "It is being recorded: what follows, its size and its hash are not known yet."
COVERED_NOTE = (
    "Recorded from a live stream: models looked at the source's pictures, and what was to be covered is covered in "
    "the recording."
)
UNFINISHED_NOTE = (
    "The recording was cut off: its recorder was ended, or its disk failed. What came after the last account is "
    "unsampled."
)
# A look comes no later after its picture.
_LATEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a file: what a timeline says of its source."""

    name: str
    size_bytes: int
    sha256: str = UNKNOWN_SHA256


@dataclass(slots=True)
class _Looked:
    pts: int
    predictions: Predictions
    end: int | None


@dataclass(slots=True)
class Account:
    """Of the pictures of one recording, whose time 0 is that of its first picture. Times are in `TIME_BASE`.

    Attributes:
        start: Of the first picture, on the shared clock.
        began: The same in seconds since 1970.
        before: When the last look before the first picture was, if any was: two looks speak for what is between them.
        after: The same of the first one after the last picture.
        end: Of the last picture; if None, it goes on for as long as pictures do.
        pictures: How many there are.
    """

    settings: RecorderSettings
    policy: Policy
    begin: Begin
    start: int
    began: float
    before: int | None = None
    after: int | None = None
    end: int | None = None
    pictures: int = 0
    _last: int | None = None
    _recent: dict[int, int | None] = field(default_factory=dict)
    _looked: list[_Looked] = field(default_factory=list)

    @property
    def period(self) -> int:
        """From one picture to the next, as the stream's rate has it."""
        return round(1 / (rate_of(self.begin) * TIME_BASE))

    @property
    def extent(self) -> int:
        """Until when its last picture is shown."""
        if self.end is not None:
            return self.end
        return self.start if self._last is None else self._last + self.period

    @property
    def last_look(self) -> int | None:
        """When that was; of the one before it began if there is none in it."""
        return self._looked[-1].pts if self._looked else self.before

    def picture(self, pts: int) -> None:
        """There is another picture, later than those before it."""
        if self._last is not None:
            self._recent[self._last] = pts
            if self._looked and self._looked[-1].pts == self._last:
                self._looked[-1].end = pts
        self._last = pts
        self._recent[pts] = None
        self.pictures += 1
        oldest = pts - round(_LATEST_SECONDS / TIME_BASE)
        while (first := next(iter(self._recent))) < oldest:
            del self._recent[first]

    def sight(self, sight: Sight) -> bool:
        """What was seen in a picture; False if there is no such picture, or it makes no sense."""
        if sight.pts not in self._recent:
            return False
        try:
            predictions = predictions_of(sight, self.begin.size)
        except ValueError:
            return False
        place = bisect_left(self._looked, sight.pts, key=lambda row: row.pts)
        if place < len(self._looked) and self._looked[place].pts == sight.pts:
            return False
        self._looked.insert(place, _Looked(sight.pts, predictions, self._recent[sight.pts]))
        return True

    def timeline(self, facts: Facts, *, finished: bool) -> Timeline:
        """The document, of what is known so far."""
        extent = Span(0, self._in_file(self.extent))
        coverage = tuple(account(extent, self._known(), (), 0, FILE_BASE))
        samples = tuple(self._samples())
        stream = StreamScan(0, "video", _video(self.begin), coverage, samples, self._ledger(len(samples)))
        whole = finished and bool(samples) and all(row.state == "analysed" for row in coverage)
        status: Status = "complete" if whole else "partial"
        segments = find_segments([stream], self.policy)
        return Timeline(
            source=self._source(facts, to_seconds(int(extent.end), FILE_BASE)),
            status=status,
            verdict=verdict_of(segments, status),
            notes=(COVERED_NOTE, *(() if finished else (_GOING_ON,))),
            coverage=coverage,
            segments=segments,
            streams=(stream,),
            provenance=self._provenance(),
        )

    def _in_file(self, pts: int) -> int:
        return in_file(pts - self.start)

    def _known(self) -> Iterator[Span]:
        """What was looked at, or lies between two looks that speak for it, in the file's time."""
        # As in `vidmod.live.filtering.gate`: whatever vouches for a picture there does so here.
        most = int(Fraction(self.settings.max_gap_seconds) / TIME_BASE)
        rows = [(row.pts, self._end_of(row)) for row in self._looked]
        rows = [*_around(self.before), *rows, *_around(self.after)]
        for place, (pts, end) in enumerate(rows):
            following = rows[place + 1][0] if place + 1 < len(rows) else None
            if following is not None and following - pts <= most:
                end = following
            yield Span(self._in_file(pts), self._in_file(end))

    def _end_of(self, row: _Looked) -> int:
        return self.extent if row.end is None else row.end

    def _samples(self) -> Iterator[Sample]:
        for row in self._looked:
            start, end = self._in_file(row.pts), self._in_file(self._end_of(row))
            yield Sample(start, to_seconds(start, FILE_BASE), to_seconds(end - start, FILE_BASE), row.predictions)

    def _ledger(self, looked: int) -> Json:
        return Ledger(packets=self.pictures, frames=looked, skipped=self.pictures - looked).as_json()

    def _source(self, facts: Facts, seconds: float) -> Json:
        return {
            "name": facts.name,
            "sha256": facts.sha256,
            "size_bytes": facts.size_bytes,
            "format": FORMAT,
            "start_seconds": 0.0,
            "duration_seconds": seconds,
            "container_start_seconds": 0.0,
            "stream": 0,
            "kind": "video",
            "video": _video(self.begin),
            "audio": _audio(self.begin),
        }

    def _provenance(self) -> Json:
        began = datetime.fromtimestamp(self.began, UTC)
        return {
            "vidmod": __version__,
            "created": began.isoformat(timespec="seconds"),
            "models": self.settings.models,
            "sampling": {
                "mode": "live",
                "max_gap_seconds": self.settings.max_gap_seconds,
                "began": began.isoformat(timespec="milliseconds"),
                "stream_seconds": round(float(self.start * TIME_BASE) - self.settings.origin, 6),
            },
            "smoothing": self.policy.smoothing.as_dict(),
            "policy": self.policy.as_document(),
        }


def in_file(length: int) -> int:
    """From `TIME_BASE` to a recording's, to the nearest."""
    return math.floor(length * (TIME_BASE / FILE_BASE) + Fraction(1, 2))


def predictions_of(sight: Sight, size: tuple[int, int]) -> Predictions:
    """What was seen, its boxes in pixels of what leaves.

    Raises:
        ValueError: A score is no probability, or a box none.
    """
    return Predictions(
        scores=tuple(Scores(model, labels) for model, labels in sight.scores),
        detections=tuple(
            Detection(item.model, item.label, item.score, _box(item, sight.size, size)) for item in sight.found
        ),
    )


def cut_off(timeline: Timeline, facts: Facts, last: int) -> Timeline:
    """The document of a recording that was cut off, now that its file is known.

    Args:
        timeline: As it was when somebody last gave account of it.
        facts: Of the file.
        last: When its last picture begins, in the file's time base.
    """
    stream = timeline.streams[0]
    end = to_seconds(last + round(1 / (Fraction(stream.video["average_rate"]) * FILE_BASE)), FILE_BASE)
    coverage = [
        Covered(row.start_seconds, min(row.end_seconds, end), row.state)
        for row in timeline.coverage
        if row.start_seconds < end
    ]
    known = coverage[-1].end_seconds if coverage else 0.0
    if coverage and coverage[-1].state == "unsampled":
        coverage[-1] = dataclasses.replace(coverage[-1], end_seconds=end)
    elif known < end:
        coverage.append(Covered(known, end, "unsampled"))
    samples = tuple(row for row in stream.samples if row.pts <= last)
    stream = dataclasses.replace(stream, coverage=tuple(coverage), samples=samples)
    segments = find_segments([stream], Policy.from_document(timeline.provenance["policy"], "timeline"))
    notes = [note for note in timeline.notes if note not in (_GOING_ON, UNFINISHED_NOTE)]
    return dataclasses.replace(
        timeline,
        source={**timeline.source, **dataclasses.asdict(facts), "duration_seconds": end},
        status="partial",
        verdict=verdict_of(segments, "partial"),
        notes=(*notes, UNFINISHED_NOTE),
        coverage=tuple(coverage),
        segments=segments,
        streams=(stream,),
    )


def _around(pts: int | None) -> list[tuple[int, int]]:
    """A look at a picture that is not in the recording."""
    return [] if pts is None else [(pts, pts)]


def _box(item: Found, size: tuple[int, int], within: tuple[int, int]) -> Box:
    """Where something in a picture is once that is fitted into what leaves."""
    if not all(map(math.isfinite, item.box)) or min(size) < 1:
        raise ValueError(f"Invalid box ({item.box} of {size}).")
    left, top, width, height = placed(size, within)
    across, down = width / size[0], height / size[1]
    x1, y1, x2, y2 = item.box
    return (
        round(left + x1 * across, 2),
        round(top + y1 * down, 2),
        round(left + x2 * across, 2),
        round(top + y2 * down, 2),
    )


def rate_of(begin: Begin) -> Fraction:
    """Pictures a second of what leaves."""
    numerator, denominator = begin.rate
    return Fraction(numerator, denominator) if numerator > 0 and denominator > 0 else Fraction(30)


def _video(begin: Begin) -> Json:
    rate = rate_of(begin)
    return {
        "codec": "h264",
        "width": begin.size[0],
        "height": begin.size[1],
        "rotation": 0,
        "mirrored": False,
        "pixel_format": "yuv420p",
        "average_rate": f"{rate.numerator}/{rate.denominator}",
        "time_base": f"{FILE_BASE.numerator}/{FILE_BASE.denominator}",
    }


def _audio(begin: Begin) -> list[Json]:
    sound = begin.sound
    if sound is None:
        return []
    return [{"codec": sound.codec, "sample_rate": sound.sample_rate, "channels": channels_of(sound.layout)}]
