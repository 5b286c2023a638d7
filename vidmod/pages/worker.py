"""What a worker does for a report: decode pictures at given times and hand them over small, blurred unless told not to.

This runs in a process of its own, for one file only, enclosed by :mod:`vidmod.containment`. A clear picture leaves it
only where the task says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from vidmod.allocation import return_free_memory
from vidmod.errors import SourceError, SourceUnreadableError, UndecodableError
from vidmod.media import Probe, VideoTrack
from vidmod.media import loaded as _loaded  # noqa: F401
from vidmod.media.frame import Frame
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.messages import Failed, MediumSettings, Working, decode, encode
from vidmod.pages.blurring import SIDE, blurred, fitted
from vidmod.pages.messages import TakeDone, Taken, TakeTask

if TYPE_CHECKING:
    from vidmod.workers import Json, Link

_SILENCE_SECONDS = 1.0
_MOST_HIDDEN = 1 << 31

__all__ = ["serve"]


def serve(link: Link, settings: Json) -> None:
    """Do one task after the other until the other side closes."""
    _Taking(link, decode(settings, MediumSettings)).run()


class _Taking:
    def __init__(self, link: Link, settings: MediumSettings) -> None:
        self._link = link
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
        factor = task.time_base / track.time_base
        due = deque((place, wanted * factor) for place, wanted in enumerate(task.wanted))
        start = None if task.whole else due[0][1] * track.time_base
        with (
            Reader(self._medium, track, start=start) as reader,
            contextlib.closing(reader.frames(int(due[-1][1]) + 1)) as frames,
        ):
            for frame in frames:
                self._show_life()
                while due and due[0][1] < frame.pts:
                    due.popleft()
                while due and _is_it(frame, due[0][1], exactly=not task.whole):
                    with contextlib.suppress(UndecodableError):
                        self._give(frame, due[0][0], clear=task.clear)
                    due.popleft()
                if not due:
                    return

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

    def _give(self, frame: Frame, place: int, *, clear: bool) -> None:
        """Hand over a picture.

        Raises:
            UndecodableError: It cannot be scaled.
        """
        width, height = frame.size
        image = frame.image(*fitted((width, height), SIDE), "rgb", "area")
        shown = image if clear else blurred(image)
        slot, memory = self._link.acquire()
        np.frombuffer(memory, np.uint8)[: shown.size] = shown.reshape(-1)
        self._send(Taken(slot=slot, place=place, width=width, height=height))
        # As in :mod:`vidmod.reading`: PyAV ties a frame and its planes into a cycle.
        gc.collect()


def _is_it(frame: Frame, wanted: Fraction, *, exactly: bool) -> bool:
    return frame.pts == wanted if exactly else frame.pts <= wanted < frame.end_pts
