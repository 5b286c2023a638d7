"""The reading side of a job: one thread that decodes, samples and prepares model inputs."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from vidmod import sampling
from vidmod.errors import UndecodableError
from vidmod.media import Frame, Ledger, NotSparseError, Reader, Shown, SparseReader, VideoTrack
from vidmod.models import Manifest, ModelInput
from vidmod.models.preprocessing import prepare
from vidmod.sampling import Sampler
from vidmod.timebase import to_pts

_WAIT_SECONDS = 0.1
# With one a core the cores wait while a sample is prepared; a second has the next packet at hand.
_THREADS_PER_CORE = 2


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sampled frame as the models want it: small, and free of the decoder.

    Attributes:
        pts, end_pts: When it is shown, in the stream's time base.
        inputs: One per manifest.
    """

    pts: int
    end_pts: int
    inputs: tuple[ModelInput, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """What the first decoded frame showed the stream to be."""

    size: tuple[int, int]
    pixel_format: str
    rotation: int
    mirrored: bool

    @classmethod
    def of(cls, frame: Frame) -> Picture:
        """The facts of one frame."""
        orientation = frame.orientation
        size = (frame.picture.width, frame.picture.height)
        return cls(size, frame.picture.format.name, orientation.rotation, orientation.mirrored)


class Feed:
    """Iterates over the prepared samples of one stream while a thread reads ahead.

    Use it as a context manager. Errors of the thread are raised where it is iterated over. What is
    read ahead is bounded, so memory is flat.

    Args:
        path: A local file.
        track: Which stream.
        manifests: For which models to prepare.
        mode, interval: Which frames are looked at, see :func:`vidmod.sampling.create`.
        start, end: The part wanted, in seconds; None for the whole.
        threads: Decoding threads; None for two a core.
        ahead: How many samples may wait.
    """

    def __init__(
        self,
        path: Path,
        track: VideoTrack,
        manifests: Sequence[Manifest],
        *,
        mode: str,
        interval: Fraction,
        start: Fraction | None,
        end: Fraction | None,
        threads: int | None,
        ahead: int,
    ) -> None:
        self.ledger = Ledger()
        self.picture: Picture | None = None
        self._path = path
        self._track = track
        self._manifests = manifests
        self._mode = mode
        self._interval = interval
        self._start = start
        self._end = end
        self._given_until: int | None = None
        self._threads = threads or _THREADS_PER_CORE * len(os.sched_getaffinity(0))
        self._queue: queue.Queue[Prepared | BaseException | None] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"read {path.name}:{track.index}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Prepared]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self) -> None:
        try:
            if not self._read_sparsely():
                self._read_whole()
            self._put(None)
        except BaseException as exc:  # noqa: BLE001 -- it reaches the consumer, whatever it is
            self._put(exc)

    def _read_sparsely(self) -> bool:
        """Decode only what is sampled; False if the stream has to be read whole after all."""
        if self._mode != "uniform":
            return False
        chooser: Sampler[Shown] = sampling.create(self._mode, self._interval, self._track.time_base)
        try:
            with (
                SparseReader(
                    self._path, self._track, chooser, threads=self._threads, start=self._start, end=self._end
                ) as reader,
                contextlib.closing(reader.frames()) as frames,
            ):
                self.ledger = reader.ledger
                for frame in self._until_stopped(frames):
                    self._take(frame)
        except NotSparseError:
            return False
        return True

    def _read_whole(self) -> None:
        """Decode everything; what was given before is not given again."""
        sampler: Sampler[Frame] = sampling.create(self._mode, self._interval, self._track.time_base)
        end_pts = None if self._end is None else to_pts(self._end, self._track.time_base)
        with (
            Reader(self._path, self._track, threads=self._threads, start=self._start) as reader,
            contextlib.closing(reader.frames(end_pts)) as frames,
        ):
            self.ledger = reader.ledger
            for frame in self._until_stopped(frames):
                for sample in sampler.update(frame):
                    self._take(sample)
            for sample in sampler.finish():
                self._take(sample)

    def _until_stopped(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield frame
            if self._stop.is_set():
                return

    def _take(self, frame: Frame) -> None:
        if self.picture is None:
            self.picture = Picture.of(frame)
        if self._given_until is None or frame.pts > self._given_until:
            self._given_until = frame.pts
            self._prepare(frame)

    def _prepare(self, frame: Frame) -> None:
        try:
            inputs = tuple(prepare(frame, manifest) for manifest in self._manifests)
        except UndecodableError:
            self.ledger.unusable += 1
            self.ledger.add_hole(frame.pts, frame.end_pts)
            return
        self._put(Prepared(frame.pts, frame.end_pts, inputs))

    def _put(self, item: Prepared | BaseException | None) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_WAIT_SECONDS)
                return
