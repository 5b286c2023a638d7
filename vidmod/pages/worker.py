"""What a worker does for a report: decode pictures at given times and hand them over small, blurred unless told not to.

This runs in a process of its own, for one file only, enclosed by :mod:`vidmod.containment`. A clear picture leaves it
only where the task says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from vidmod.allocation import return_free_memory
from vidmod.blurring import SIDE, blurred, fitted
from vidmod.errors import SourceError, SourceUnreadableError, UndecodableError
from vidmod.media import Part, Probe, VideoTrack
from vidmod.media import loaded as _loaded  # noqa: F401
from vidmod.media.demuxer import Demuxer
from vidmod.media.frame import Frame
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.media.sparse import NotSparseError, SparseReader
from vidmod.media.survey import Survey
from vidmod.messages import Failed, Working, decode, encode
from vidmod.pages.messages import TakeDone, Taken, TakeSettings, TakeTask

if TYPE_CHECKING:
    from vidmod.workers import Json, Link

_SILENCE_SECONDS = 1.0
_MOST_HIDDEN = 1 << 31

__all__ = ["serve"]


def serve(link: Link, settings: Json) -> None:
    """Do one task after the other until the other side closes."""
    _Taking(link, decode(settings, TakeSettings)).run()


class _Taking:
    """Finds pictures as a scan does: what an index or a flag promises of a place in the file is not believed."""

    def __init__(self, link: Link, settings: TakeSettings) -> None:
        self._link = link
        self._settings = settings
        self._medium = settings.medium(link.source)
        self._facts: Probe | None = None
        self._spoke = 0.0

    def run(self) -> None:
        while (payload := self._link.receive()) is not None:
            task = decode(payload, TakeTask)
            try:
                self._take(task)
            except SourceError as exc:
                self._send(Failed(type(exc).__name__, str(exc)[:1000]))
            else:
                self._send(TakeDone())
            return_free_memory()

    def _send(self, message: msgspec.Struct) -> None:
        self._link.send(encode(message))

    def _show_life(self) -> None:
        now = time.monotonic()
        if now - self._spoke > _SILENCE_SECONDS:
            self._spoke = now
            self._send(Working())

    def _take(self, task: TakeTask) -> None:
        track = self._track(task)
        # In the stream's own time base, which is the task's unless it is of another file.
        times = {place: wanted * task.time_base / track.time_base for place, wanted in enumerate(task.wanted)}
        parts = list(self._parts(track, times.values()))
        with contextlib.ExitStack() as stack:
            reader: SparseReader | None = None
            for part in parts:
                here = {place: time for place, time in times.items() if _may_show(part, time)}
                if part.sound:
                    if reader is None:
                        reader = SparseReader(stack.enter_context(Demuxer(self._medium, track)))
                    with contextlib.suppress(NotSparseError):
                        for place in self._take_sparsely(reader, part, here):
                            del times[place], here[place]
                        continue
                # Only one can read through the descriptor.
                stack.close()
                reader = None
                for place in self._take_whole(track, part, here):
                    del times[place]

    def _parts(self, track: VideoTrack, times: Collection[Fraction]) -> Iterator[Part]:
        """The parts of a stream that are shown at one of these times."""
        survey = Survey(self._medium, track, until=int(max(times)) + 1, max_packets=self._settings.max_packets)
        for item in survey.run():
            self._show_life()
            if isinstance(item, Part) and any(_may_show(item, time) for time in times):
                yield item

    def _take_sparsely(self, reader: SparseReader, part: Part, times: Mapping[int, Fraction]) -> Iterator[int]:
        """Take pictures of a sound part; their places."""
        places: dict[int, list[int]] = {}
        for shown in part.pictures():
            here = [place for place, time in times.items() if shown.pts <= time < shown.end_pts]
            if here:
                places[shown.pts] = here
        for frame in reader.frames(part, places.keys()):
            yield from self._give(frame, places[frame.pts])

    def _take_whole(self, track: VideoTrack, part: Part, times: Mapping[int, Fraction]) -> Iterator[int]:
        """Take pictures of a part, or of the whole stream, that has to be decoded whole; their places."""
        if not times:
            return
        whole = part.count < 0
        with (
            Reader(self._medium, track, part=None if whole else part) as reader,
            contextlib.closing(reader.frames(int(max(times.values())) + 1)) as frames,
        ):
            for frame in frames:
                self._show_life()
                here = [place for place, time in times.items() if frame.pts <= time < frame.end_pts]
                yield from self._give(frame, here)

    def _track(self, task: TakeTask) -> VideoTrack:
        """The stream as its headers claim it.

        Raises:
            SourceError: It is not there.
        """
        if self._facts is None:
            self._facts = probe(self._medium, self._show_life)
        for track in self._facts.tracks:
            if track.index == task.stream and track.kind == task.kind:
                return track
            if track.index == task.stream and task.kind == "hidden" and track.kind == "video":
                return dataclasses.replace(track, kind="hidden", frames=task.hidden or _MOST_HIDDEN)
        raise SourceUnreadableError(f"{self._medium}: has no stream {task.stream} with pictures ({task.kind}).")

    def _give(self, frame: Frame, places: Collection[int]) -> Iterator[int]:
        """Hand over a picture; the places at which it was wanted, none if it cannot be scaled."""
        for place in places:
            width, height = frame.size
            try:
                image = frame.image(*fitted((width, height), SIDE), "rgb", "area")
            except UndecodableError:
                return
            shown = image if self._settings.clear else blurred(image)
            slot, memory = self._link.acquire()
            np.frombuffer(memory, np.uint8)[: shown.size] = shown.reshape(-1)
            self._send(Taken(slot=slot, place=place, width=width, height=height))
            yield place
        # As in :mod:`vidmod.reading`: PyAV ties a frame and its planes into a cycle.
        gc.collect()


def _may_show(part: Part, time: Fraction) -> bool:
    """Whether a picture of a part may be shown at a time; of some it is not known when they are shown."""
    begins = part.start_pts is None or part.start_pts <= time
    return begins and (part.end_pts is None or time < part.end_pts)
