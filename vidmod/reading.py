"""What a worker does with its file: probe it, cut it into parts, decode, prepare and hand over pictures.

This runs in a process of its own, for one file only, enclosed by :mod:`vidmod.containment`. It is told
what to do by :mod:`vidmod.messages`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from vidmod import sampling
from vidmod.allocation import return_free_memory
from vidmod.errors import RuntimeUnavailableError, SourceError, UndecodableError
from vidmod.media import Ledger, Medium, VideoTrack
from vidmod.media import loaded as _loaded  # noqa: F401
from vidmod.media.demuxer import Demuxer
from vidmod.media.frame import Frame
from vidmod.media.hardware import stored_format
from vidmod.media.parts import Part
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.media.sparse import NotSparseError, SparseReader
from vidmod.media.survey import Survey
from vidmod.messages import (
    Failed,
    Found,
    LookDone,
    LookTask,
    Picture,
    Probed,
    ProbeTask,
    ReadingSettings,
    Seen,
    SurveyDone,
    SurveyTask,
    TaskType,
    TrialTask,
    Tried,
    Working,
    decode,
    encode,
)
from vidmod.models.preprocessing import prepare
from vidmod.sampling import Sampler
from vidmod.timebase import to_pts

if TYPE_CHECKING:
    from vidmod.models.cuda.preparing import GpuPreparer
    from vidmod.models.images import ModelInput
    from vidmod.workers import Json, Link

__all__ = ["serve"]


def serve(link: Link, settings: Json) -> None:
    """Do one task after the other until the other side closes."""
    _Reading(link, decode(settings, ReadingSettings)).run()


class _Reading:
    def __init__(self, link: Link, settings: ReadingSettings) -> None:
        self._link = link
        self._settings = settings
        self._medium = settings.medium(link.source)
        self._gpu: GpuPreparer | None = None
        self._codec = ""
        self._picture: Picture | None = None
        self._sparse: tuple[VideoTrack, Demuxer, SparseReader] | None = None

    def run(self) -> None:
        try:
            self._serve()
        finally:
            self._release()
            if self._gpu is not None:
                self._gpu.close()

    def _serve(self) -> None:
        while (payload := self._link.receive()) is not None:
            task = decode(payload, TaskType)
            try:
                match task:
                    case TrialTask():
                        self._send(self._tried())
                    case ProbeTask():
                        self._send(Probed(probe(self._medium, lambda: self._send(Working()))))
                    case SurveyTask():
                        self._survey(task)
                    case LookTask():
                        self._look(task)
                        # Packets of all sizes leave holes among what stays; over a film they add up.
                        return_free_memory()
            except (SourceError, RuntimeUnavailableError) as exc:
                self._send(Failed(type(exc).__name__, str(exc)[:1000]))

    def _send(self, message: msgspec.Struct) -> None:
        self._link.send(encode(message))

    def _survey(self, task: SurveyTask) -> None:
        self._release()
        for item in Survey(self._medium, task.track, until=task.until, max_packets=task.max_packets).run():
            if item is None:
                self._send(Working())
            else:
                self._send(Found(item) if isinstance(item, Part) else SurveyDone(item))
        return_free_memory()

    def _look(self, task: LookTask) -> None:
        self._picture = None
        self._codec = task.track.codec
        if task.part.sound and task.wanted is not None:
            try:
                for frame in self._sparse_reader(task.track).frames(task.part, task.wanted):
                    self._give(frame)
            except NotSparseError:
                pass
            else:
                self._send(LookDone(ledger=None, picture=self._picture))
                return
        self._send(LookDone(ledger=self._look_whole(task), picture=self._picture))

    def _sparse_reader(self, track: VideoTrack) -> SparseReader:
        if self._sparse is None or self._sparse[0] != track:
            self._release()
            demuxer = Demuxer(self._decoding(track), track)
            # What FFmpeg reads an index from is twice as large as the index.
            return_free_memory()
            self._sparse = (track, demuxer, SparseReader(demuxer))
        return self._sparse[2]

    def _release(self) -> None:
        """Close what reads through the descriptor, so that another can."""
        if self._sparse is not None:
            self._sparse[1].close()
            self._sparse = None

    def _decoding(self, track: VideoTrack) -> Medium:
        """What a stream's packets are read from, by a decoder on the GPU where that is to decode it."""
        gpu = self._settings.gpu
        # Attached pictures are not worth a decoder there, and what is hidden or another eye's it does not give.
        if gpu is None or track.kind != "video":
            return self._medium
        return dataclasses.replace(self._medium, gpu=gpu.number)

    def _prepared(self, frame: Frame) -> list[ModelInput]:
        """A picture's images, one for each model, made where it lies."""
        picture = frame.on_gpu
        if picture is None:
            return [prepare(frame, preparation) for preparation in self._settings.preparations]
        return self._preparer().prepare(picture, self._codec)

    def _preparer(self) -> GpuPreparer:
        if self._gpu is None:
            gpu = self._settings.gpu
            assert gpu is not None
            from vidmod.models.cuda.preparing import GpuPreparer

            self._gpu = GpuPreparer(gpu.number, gpu.kernels, self._settings.preparations)
        return self._gpu

    def _tried(self) -> Tried:
        from vidmod.models.cuda.trial import differences

        preparer = self._preparer()
        assert self._settings.gpu is not None
        mean, most = differences(preparer, self._settings.gpu.number, self._settings.preparations)
        return Tried(mean=mean, most=most)

    def _look_whole(self, task: LookTask) -> Ledger:
        """Decode every picture of a part, or of the stream, and look at those that `mode` chooses."""
        self._release()
        track, part = task.track, task.part
        whole = part.count < 0
        start = None if task.start is None else to_pts(task.start, track.time_base)
        end = None if task.end is None else to_pts(task.end, track.time_base)
        sampler: Sampler[Frame] = sampling.create(task.mode, task.interval, origin=task.origin)
        with (
            Reader(
                self._decoding(track), track, start=task.start if whole else None, part=None if whole else part
            ) as reader,
            contextlib.closing(reader.frames(end)) as frames,
        ):
            for sample in _chosen(frames, sampler, start):
                try:
                    self._give(sample)
                except UndecodableError:
                    reader.ledger.unusable += 1
                    reader.ledger.add_hole(sample.pts, sample.end_pts)
        return reader.ledger

    def _give(self, frame: Frame) -> None:
        """Prepare a frame for every model, and hand it over.

        Raises:
            UndecodableError: It cannot be scaled.
        """
        inputs = self._prepared(frame)
        if self._picture is None:
            self._picture = _picture_of(frame)
        slot, memory = self._link.acquire()
        place = 0
        pixels = np.frombuffer(memory, np.uint8)
        for item in inputs:
            pixels[place : place + item.image.size] = item.image.reshape(-1)
            place += item.image.size
        geometries = [item.geometry for item in inputs]
        times = {"pts": frame.pts, "end_pts": frame.end_pts}
        self._send(Seen(slot=slot, **times, geometries=geometries, on_gpu=frame.is_on_gpu))
        # PyAV ties a frame and its planes and side data into a cycle, so each would stay, with megabytes of pixels,
        # until Python has reason to look. There is little to look through: the zygote froze what was there before.
        gc.collect()


def _chosen(frames: Iterator[Frame], sampler: Sampler[Frame], start: int | None) -> Iterator[Frame]:
    for frame in frames:
        if start is None or frame.end_pts > start:
            yield from sampler.update(frame)
    yield from sampler.finish()


def _picture_of(frame: Frame) -> Picture:
    orientation = frame.orientation
    size = (frame.picture.width, frame.picture.height)
    return Picture(size, stored_format(frame.picture), orientation.rotation, orientation.mirrored)
