"""Small pictures of a video, taken by enclosed workers; this process never opens the video.

Unless clear ones are asked for, all that leaves a worker of a picture is a grid of at most 32 × 32 brightnesses, see
:mod:`vidmod.blurring`; it is enlarged here. So no more than that is in a report, whatever a video does to the
worker that reads it.
"""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby

from PIL import Image

from vidmod.blurring import GRID, SIDE, Size, as_jpeg, fitted
from vidmod.containment import Limits
from vidmod.errors import VidmodError
from vidmod.media.facts import TrackKind
from vidmod.messages import Failed, Working, decode, encode
from vidmod.pages.messages import ReplyType, TakeDone, Taken, TakeSettings, TakeTask
from vidmod.workers import Ended, Message, Pool, Worker

MEDIA_TYPE = "image/jpeg"
_HANDLER = "vidmod.pages.worker:serve"
# What a worker cannot load any more once it is enclosed.
_WARM = ("av", "numpy", "vidmod.pages.worker")
_SLOTS = 4
_SLOT_BYTES = SIDE * SIDE * 3
_WAIT_SECONDS = 1.0
# What is lost with a worker: the picture that was next, and those as near to it as what is decoded at once.
_NEAR_SECONDS = 6
# Of JPEG, for pictures that are not blurred.
_QUALITY = 80
_LEAST_PTS, _MOST_PTS = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture of a video.

    Attributes:
        stream, kind: See :class:`vidmod.media.VideoTrack`.
        pts: When it is shown, in units of `time_base`.
        hidden: Of kind `hidden`, how many there are; 0 if unknown.
    """

    stream: int
    kind: TrackKind
    pts: int
    time_base: Fraction
    hidden: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Thumbnail:
    """A small picture, as a file of `MEDIA_TYPE`, and its size in pixels."""

    data: bytes
    width: int
    height: int


@dataclass(slots=True, eq=False)
class _Hand:
    """A worker, and what it is at."""

    worker: Worker
    task: TakeTask | None = None
    rows: list[Wanted] = field(default_factory=list)


class Taker:
    """Has workers take pictures of one video.

    Args:
        descriptor: Of the video, open for reading.
        name: What messages call it.
        limits: What it may cost.
        workers: Processes at once; None for one a core.
        clear: In colour and sharp.
        progress: Told the share that is done, from 0 to 1.

    Attributes:
        troubles: Why pictures are missing, in words, each once.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        limits: Limits,
        *,
        workers: int | None = None,
        clear: bool = False,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.troubles: list[str] = []
        self._descriptor = descriptor
        self._name = name
        self._limits = limits
        self._count = workers or len(os.sched_getaffinity(0))
        self._clear = clear
        self._progress = progress
        self._hands: dict[Worker, _Hand] = {}
        self._queue: deque[tuple[TakeTask, list[Wanted]]] = deque()
        self._found: dict[Wanted, Thumbnail] = {}
        self._given_up: set[Wanted] = set()
        self._failures = 0

    def take(self, wanted: Sequence[Wanted]) -> dict[Wanted, Thumbnail]:
        """Take pictures; those that cannot be had are left out.

        Raises:
            VidmodError: The system does not let workers be started.
        """
        rows = sorted(
            {row for row in wanted if _is_possible(row)},
            key=lambda row: (row.stream, row.kind, row.time_base, row.hidden, row.pts),
        )
        if not rows:
            return {}
        until = time.monotonic() + self._limits.file_seconds
        with Pool(_HANDLER, self._limits, warm=_WARM) as pool:
            try:
                for group in _shared_out(rows, self._count):
                    self._order(group)
                self._work(pool, rows, until)
            finally:
                self._hands.clear()
                self._queue.clear()
        return self._found

    def _order(self, rows: list[Wanted]) -> None:
        first = rows[0]
        task = TakeTask(
            stream=first.stream,
            kind=first.kind,
            hidden=first.hidden,
            time_base=first.time_base,
            wanted=[row.pts for row in rows],
        )
        self._queue.append((task, rows))

    def _work(self, pool: Pool, rows: Sequence[Wanted], until: float) -> None:
        while self._queue or any(hand.task is not None for hand in self._hands.values()):
            if time.monotonic() > until:
                self._stop(f"past the time limit of {self._limits.file_seconds:g} s")
                return
            if self._failures > self._limits.max_failures:
                self._stop(f"more than {self._limits.max_failures} workers did not survive it")
                return
            self._assign(pool)
            for event in pool.poll(_WAIT_SECONDS):
                hand = self._hands.get(event.worker)
                if hand is None:
                    continue
                if isinstance(event, Ended):
                    self._lose(hand, event.detail if event.reason != "finished" else "ended before it was done")
                    continue
                try:
                    self._hear(hand, event)
                except ValueError:
                    event.worker.kill("it said what makes no sense")
                    self._lose(hand, "ended because it said what makes no sense")
            self._progress(min(1.0, (len(self._found) + len(self._given_up)) / len(rows)))

    def _assign(self, pool: Pool) -> None:
        idle = [hand for hand in self._hands.values() if hand.task is None]
        while self._queue and (idle or len(self._hands) < self._count):
            hand = idle.pop() if idle else self._hire(pool)
            hand.task, hand.rows = self._queue.popleft()
            hand.worker.send(encode(hand.task))
            hand.worker.expect(self._limits.chunk_seconds)

    def _hire(self, pool: Pool) -> _Hand:
        limits = self._limits
        settings = TakeSettings(
            name=self._name,
            max_pixels=limits.max_pixels,
            max_streams=limits.max_streams,
            max_packets=limits.max_packets,
            clear=self._clear,
        )
        # An opening of its own: workers must not share a position in the file.
        try:
            source = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                worker = pool.fork(source, encode(settings), slots=_SLOTS, slot_bytes=_SLOT_BYTES)
            finally:
                os.close(source)
        except OSError as exc:
            raise VidmodError(f"{self._name}: no process can be started to read it ({exc.strerror}).") from exc
        hand = self._hands[worker] = _Hand(worker)
        return hand

    def _hear(self, hand: _Hand, event: Message) -> None:
        """Take in what a worker says.

        Raises:
            ValueError: It makes no sense.
        """
        reply = decode(event.payload, ReplyType)
        if hand.task is None:
            raise ValueError("It spoke without being asked.")
        match reply:
            case Taken():
                if reply.place >= len(hand.rows) or hand.rows[reply.place] in self._found:
                    raise ValueError("Not a picture that was asked for.")
                data = hand.worker.image(reply.slot)
                self._found[hand.rows[reply.place]] = _thumbnail(data, (reply.width, reply.height), clear=self._clear)
                hand.worker.release(reply.slot)
            case TakeDone():
                self._finish(hand)
            case Failed():
                self._note(reply.message)
                self._finish(hand)
            case Working():
                pass
        # Whoever gets on is not late.
        hand.worker.expect(None if hand.task is None else self._limits.chunk_seconds)

    def _finish(self, hand: _Hand) -> None:
        self._given_up.update(row for row in hand.rows if row not in self._found)
        hand.task, hand.rows = None, []

    def _lose(self, hand: _Hand, reason: str) -> None:
        """A worker is lost, and what it was at with it; the rest of its task is for another."""
        self._failures += 1
        self._note(f"a process that read {self._name} was {reason}")
        del self._hands[hand.worker]
        left = [row for row in hand.rows if row not in self._found]
        lost = [row for row in left if (row.pts - left[0].pts) * row.time_base <= _NEAR_SECONDS]
        self._given_up.update(lost)
        if rest := left[len(lost) :]:
            self._order(rest)

    def _stop(self, reason: str) -> None:
        self._note(f"given up: {reason}")
        left = [row for _, rows in self._queue for row in rows]
        for hand in self._hands.values():
            hand.worker.kill("its file was given up")
            left += hand.rows
        self._given_up.update(row for row in left if row not in self._found)
        self._hands.clear()
        self._queue.clear()

    def _note(self, reason: str) -> None:
        # What a worker says may have been written by the file's author.
        text = "".join(char if char.isprintable() else " " for char in reason[:1000])
        if text not in self.troubles:
            self.troubles.append(text)


def _is_possible(row: Wanted) -> bool:
    return _LEAST_PTS <= row.pts <= _MOST_PTS and 0 <= row.hidden <= _MOST_PTS and row.stream >= 0


def _shared_out(rows: Sequence[Wanted], count: int) -> Iterator[list[Wanted]]:
    """Rows, sorted, of one stream each, and those of a stream in as many stretches of time as there are workers."""
    for _, group in groupby(rows, key=lambda row: (row.stream, row.kind, row.time_base, row.hidden)):
        of_stream = list(group)
        size = -(-len(of_stream) // count)
        yield from (of_stream[start : start + size] for start in range(0, len(of_stream), size))


def _thumbnail(data: memoryview, size: Size, *, clear: bool) -> Thumbnail:
    """The file to show of a worker's bytes, of a picture of that size."""
    if not clear:
        file, (width, height) = as_jpeg(bytes(data[: GRID * GRID]), size)
        return Thumbnail(file, width, height)
    width, height = fitted(size, SIDE)
    image = Image.frombytes("RGB", (width, height), bytes(data[: width * height * 3]))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=_QUALITY)
    return Thumbnail(written.getvalue(), width, height)
