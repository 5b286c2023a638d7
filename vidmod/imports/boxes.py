"""The tracks and the dismissed boxes of a reviewed timeline.

A detector's boxes are in the samples, and redaction finds them again in every picture, better than any line between
two keyframes. So they stay as they are, and only the frames that a person has touched are told apart: there, the
detector's boxes are dismissed, and the person's are drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from vidmod.annotations import ADDED_LABEL, Annotations, Key, Run, TrackItem
from vidmod.annotations.exported import inside
from vidmod.annotations.shapes import differing, part
from vidmod.imports.returned import ReturnedTrack
from vidmod.predictions import Box
from vidmod.reviewing import dismissed, machine_tracks
from vidmod.timeline import Json, Timeline


class Boxes:
    """Gathers both.

    Attributes:
        tracks: That are to be covered.
        dismissed: Of what is not.
    """

    def __init__(self, timeline: Timeline, shown: Annotations) -> None:
        video = timeline.source["video"] or {}
        self._shown = shown
        self._time_base = _fraction(video.get("time_base"))
        self._machine = machine_tracks(timeline)
        # What has no box cannot be shown.
        self.tracks: list[Json] = [row for row in timeline.tracks if not row["boxes"]]
        self.dismissed: list[Json] = [row for row in dismissed(timeline) if not row["boxes"]]
        self._taken = {row["id"] for row in (*timeline.tracks, *dismissed(timeline))}

    def take(self, item: TrackItem, row: ReturnedTrack | None) -> None:
        """What came back of an exported track; None if nothing did."""
        decision = "rejected" if row is None else row.decision or item.judgement
        returned = [] if row is None else _timed(row.runs, item.runs)
        runs = [] if decision == "rejected" else returned
        is_same = row is not None and row.label == item.label and not differing(item.runs, row.runs)
        if item.origin == "detected":
            self._correct(item, runs, row)
        elif item.origin == "drawn":
            self._redraw(item, runs, row, is_same=is_same)
        elif decision == "rejected":
            rows = [item.row] if row is None or is_same else self._rows(item, returned, row, is_drawn=False)
            self.dismissed += [known for known in rows if known is not None]
        else:
            # It is to be covered after all: what of it the person has moved is drawn.
            self._correct(item, runs, row)

    def add(self, row: ReturnedTrack) -> None:
        """A track that a person has drawn."""
        if row.decision != "rejected":
            self.tracks += self._rows(None, row.runs, row, is_drawn=True)

    def _correct(self, item: TrackItem, runs: Sequence[Run], row: ReturnedTrack | None) -> None:
        stretches = differing(item.runs, runs)
        if row is not None and row.label != item.label:
            stretches = [(min(run.start for run in (*item.runs, *runs)), None)]
        for start, end in stretches:
            self.dismissed += self._rows(item, part(item.runs, start, end), None, is_drawn=False)
            self.tracks += self._rows(item, part(runs, start, end), row, is_drawn=True)

    def _redraw(self, item: TrackItem, runs: Sequence[Run], row: ReturnedTrack | None, *, is_same: bool) -> None:
        assert item.row is not None
        if runs and is_same:
            self.tracks.append(item.row)
            return
        if item.row in self._machine:
            self.dismissed.append(item.row)
        self.tracks += self._rows(item, runs, row, is_drawn=True)

    def _rows(
        self, item: TrackItem | None, runs: Sequence[Run], row: ReturnedTrack | None, *, is_drawn: bool
    ) -> list[Json]:
        """A timeline's tracks of some runs, with the exact times of an exported track's keyframes."""
        shown = item.label if row is None and item is not None else None if row is None else row.label
        label = ADDED_LABEL if shown is None else self._shown.labels.original(shown) or ADDED_LABEL
        clock = _Clock(() if item is None else item.runs, self._shown, self._time_base)
        return [
            {
                "id": self._id(),
                "label": label,
                "start_seconds": clock.start(run, is_drawn=is_drawn),
                "end_seconds": clock.end(run),
                "boxes": [clock.box(key) for key in run.keys],
            }
            for run in runs
        ]

    def _id(self) -> str:
        number = len(self._taken) + 1
        while f"r{number}" in self._taken:
            number += 1
        self._taken.add(f"r{number}")
        return f"r{number}"


def _timed(runs: Sequence[Run], known: Sequence[Run]) -> list[Run]:
    """The runs with the exact times of those that begin or end in the same frames."""
    starts = {run.start: run.start_seconds for run in known}
    ends = {run.end: run.end_seconds for run in known}
    return [
        dataclasses.replace(run, start_seconds=starts.get(run.start), end_seconds=ends.get(run.end)) for run in runs
    ]


class _Clock:
    """The times of frames: exactly what they were if they are an exported track's, else on the grid."""

    def __init__(self, runs: Sequence[Run], shown: Annotations, time_base: Fraction) -> None:
        self._frames, self._size, self._time_base = shown.frames, shown.size, time_base
        self._known = {key.frame: key for run in runs for key in run.keys if key.time_seconds is not None}

    def start(self, run: Run, *, is_drawn: bool) -> float:
        """When a run begins; what is drawn, half a frame early where the time is not known to the last digit."""
        if run.start_seconds is not None:
            return run.start_seconds
        known = self._known.get(run.start)
        if known is not None and known.time_seconds is not None:
            return known.time_seconds
        seconds = self._frames.seconds(run.start)
        return round(seconds - self._frames.half_seconds, 6) if is_drawn else seconds

    def end(self, run: Run) -> float:
        """When a run ends."""
        if run.end_seconds is not None:
            return run.end_seconds
        if run.end is None:
            return max(self._frames.end_seconds, self._frames.seconds(run.keys[-1].frame + 1))
        known = self._known.get(run.end)
        return self._frames.seconds(run.end) if known is None or known.time_seconds is None else known.time_seconds

    def box(self, key: Key) -> Json:
        """A box of a timeline's track."""
        known = self._known.get(key.frame)
        seconds = self._frames.seconds(key.frame)
        pts = round(Fraction(seconds) / self._time_base)
        if known is not None and known.time_seconds is not None and known.pts is not None:
            seconds, pts = known.time_seconds, known.pts
        return {"pts": pts, "time_seconds": seconds, "box": list(self._exact(key, known))}

    def _exact(self, key: Key, known: Key | None) -> Box:
        """The box as it was exported, if it is the same but for the tool's rounding."""
        if known is not None and not differing([Run((known,), key.frame + 1)], [Run((key,), key.frame + 1)]):
            return known.box if known.exact is None else known.exact
        x1, y1, x2, y2 = (round(value, 3) for value in inside(key.box, self._size))
        return (x1, y1, x2, y2)


def _fraction(text: str | None) -> Fraction:
    """A time base; microseconds where there is none that could be."""
    numerator, _, denominator = (text or "0/0").partition("/")
    return Fraction(int(numerator), int(denominator)) if int(numerator) and int(denominator) else Fraction(1, 10**6)
