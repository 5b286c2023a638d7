"""Workers for files, one for each, asked one thing after the other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import msgspec

from vidmod.containment import Limits
from vidmod.errors import OutputError, SourceError
from vidmod.media import Probe, VideoTrack
from vidmod.messages import Failed, Probed, ProbeTask, Working, decode, encode
from vidmod.redacting.messages import (
    Covering,
    CoverTask,
    Cut,
    ListOthersTask,
    ListTask,
    Noted,
    OpenSettings,
    OtherPacket,
    OtherPackets,
    Packets,
    Pictures,
    Reply,
    ReplyType,
    RewriteTask,
    Rewritten,
    Task,
    VerifyTask,
    Written,
)
from vidmod.workers import Ended, Message, Pool, Worker

HANDLER = "vidmod.redacting.worker:serve"
# What a worker cannot load any more once it is enclosed.
WARM = ("av", "cv2", "numpy", "vidmod.redacting.worker")
_SLOTS = 8
_SLOT_BYTES = 1 << 20
_WAIT_SECONDS = 1.0
_ROWS = 500


class Office:
    """The workers of a redaction. A context manager.

    Args:
        limits: What a worker may cost.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._pool = Pool(HANDLER, limits, warm=WARM)
        self._heard: dict[Worker, deque[Message | Ended]] = {}

    def close(self) -> None:
        """End all workers; more than once is fine."""
        self._pool.close()
        self._heard.clear()

    def hire(self, descriptor: int, settings: OpenSettings) -> Worker:
        """Start a worker for a file."""
        # An opening of its own: workers must not share a position in the file.
        source = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            worker = self._pool.fork(source, encode(settings), slots=_SLOTS, slot_bytes=_SLOT_BYTES)
        finally:
            os.close(source)
        self._heard[worker] = deque()
        return worker

    def dismiss(self, worker: Worker) -> None:
        """End a worker."""
        worker.kill("its file is done")
        self._heard.pop(worker, None)

    def listen(self, worker: Worker) -> Message | Ended:
        """Wait for what a worker says next; what others say meanwhile is kept."""
        while not self._heard[worker]:
            for event in self._pool.poll(_WAIT_SECONDS):
                if event.worker in self._heard:
                    self._heard[event.worker].append(event)
        return self._heard[worker].popleft()


class Clerk:
    """A worker that has one file, and answers. A context manager.

    Args:
        office: Starts it.
        descriptor: Of the file, open for reading.
        name: What messages call the file.
    """

    def __init__(self, office: Office, descriptor: int, name: str) -> None:
        self._office = office
        self._name = name
        self._limits = limits = office.limits
        settings = OpenSettings(name=name, max_pixels=limits.max_pixels, max_streams=limits.max_streams)
        self._worker = office.hire(descriptor, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._office.dismiss(self._worker)

    def probe(self) -> Probe:
        """What the headers claim.

        Raises:
            SourceError: It cannot be opened.
        """
        return next(reply.facts for reply in self._ask(ProbeTask()) if isinstance(reply, Probed))

    def remember(self, rows: tuple[Covering, ...]) -> None:
        """Have it know what is covered."""
        for start in range(0, len(rows), _ROWS):
            list(self._ask(CoverTask(list(rows[start : start + _ROWS]))))

    def packets(self, track: VideoTrack) -> Iterator[tuple[int | None, int, str, bool]]:
        """Every packet of a stream: pts, bytes, the beginning of its SHA-256, and whether it gives a picture."""
        for reply in self._ask(ListTask(track)):
            if isinstance(reply, Packets):
                yield from reply.rows

    def other_packets(self) -> Iterator[OtherPacket]:
        """Every packet of the streams that are no pictures."""
        for reply in self._ask(ListOthersTask()):
            if isinstance(reply, OtherPackets):
                yield from reply.rows

    def pictures(self, task: VerifyTask) -> Iterator[tuple[int, float]]:
        """Every picture of a stream: pts, and how far it is from being covered where it is to be."""
        for reply in self._ask(task):
            if isinstance(reply, Pictures):
                yield from reply.rows

    def rewrite(self, task: RewriteTask, descriptor: int, max_bytes: int) -> Iterator[Rewritten]:
        """Have the file written anew.

        Args:
            task: How.
            descriptor: Of the file to write.
            max_bytes: More than this is not written.

        Yields:
            At last what was done.
        """
        for reply in self._ask(task):
            if isinstance(reply, Written):
                data = self._worker.image(reply.slot)
                if reply.size > len(data) or reply.at + reply.size > max_bytes:
                    raise SourceError(f"{self._name}: the process that rewrites it wants to write too much.")
                _write(descriptor, data[: reply.size], reply.at)
                self._worker.release(reply.slot)
            elif isinstance(reply, Cut):
                os.ftruncate(descriptor, min(max(reply.at, 0), os.fstat(descriptor).st_size))
            elif isinstance(reply, Rewritten):
                yield reply

    def _ask(self, task: Task) -> Iterator[Reply]:
        """Every reply to a task.

        Raises:
            SourceError: It cannot be done, or the worker did not survive it.
            OutputError: Nothing can be written.
        """
        self._worker.send(encode(task))
        while True:
            # Whoever gets on is not late.
            self._worker.expect(self._limits.chunk_seconds)
            event = self._office.listen(self._worker)
            if isinstance(event, Ended):
                raise SourceError(f"{self._name}: the process that was at work on it was {event.detail}.")
            reply = self._understood(event.payload)
            if isinstance(reply, Noted | Rewritten | Probed | Failed):
                self._worker.expect(None)
            if isinstance(reply, Failed):
                raise (OutputError if reply.kind == OutputError.__name__ else SourceError)(reply.message)
            if not isinstance(reply, Working | Noted):
                yield reply
            if isinstance(reply, Noted | Rewritten | Probed):
                return

    def _understood(self, payload: dict[str, Any]) -> Reply:
        try:
            reply: Reply = decode(payload, ReplyType)
        except (ValueError, msgspec.ValidationError) as exc:
            raise SourceError(f"{self._name}: the process that was at work on it said what makes no sense.") from exc
        return reply


def _write(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written
