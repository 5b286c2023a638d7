"""Workers for files, one for each, asked one thing after the other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from types import TracebackType
from typing import Self

import msgspec

from vidmod.containment import Limits
from vidmod.containment.grants import NOTHING
from vidmod.errors import OutputError, SourceError, VidmodError
from vidmod.gpus import DESCRIPTORS
from vidmod.gpus import grants as gpu_grants
from vidmod.media import Probe, VideoTrack
from vidmod.messages import Failed, MediumSettings, Probed, ProbeTask, Working, decode, encode
from vidmod.redacting.messages import (
    ROWS,
    Covering,
    CoverTask,
    Cut,
    Formats,
    FormatTask,
    Heard,
    ImageTask,
    ListOthersTask,
    ListTask,
    Noted,
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
WARM = ("av", "numpy", "vidmod.redacting.worker")
_SLOTS = 8
_SLOT_BYTES = 1 << 20
_WAIT_SECONDS = 1.0


class Office:
    """The workers of a redaction. A context manager.

    Args:
        limits: What a worker may cost.
        on_gpu: Whether workers may reach the GPUs.
    """

    def __init__(self, limits: Limits, *, on_gpu: bool = False) -> None:
        self.limits = limits
        self._on_gpu = on_gpu
        self._pool = Pool(HANDLER, limits, warm=WARM)
        self._hired: set[Worker] = set()
        self._heard: deque[Message | Ended] = deque()

    def close(self) -> None:
        """End all workers; more than once is fine."""
        self._pool.close()
        self._hired.clear()
        self._heard.clear()

    def hire(self, descriptor: int, settings: MediumSettings) -> Worker:
        """Start a worker for a file.

        Raises:
            VidmodError: The system does not let it.
        """
        # An opening of its own: workers must not share a position in the file.
        try:
            source = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                worker = self._pool.fork(
                    source,
                    encode(settings),
                    slots=_SLOTS,
                    slot_bytes=_SLOT_BYTES,
                    grants=NOTHING if not self._on_gpu else gpu_grants(),
                    descriptors=2 if not self._on_gpu else DESCRIPTORS,
                )
            finally:
                os.close(source)
        except OSError as exc:
            raise VidmodError(f"{settings.name}: no process can be started to read it ({exc.strerror}).") from exc
        self._hired.add(worker)
        return worker

    def dismiss(self, worker: Worker) -> None:
        """End a worker."""
        worker.kill("its file is done")
        self._hired.discard(worker)
        self._heard = deque(event for event in self._heard if event.worker is not worker)

    def gather(
        self, asked: Sequence[tuple[Clerk, Task]], meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[int, Reply]]:
        """Ask several at once, no one twice.

        Args:
            asked: Who is to do what.
            meanwhile: Done here while they begin, which nobody is late for.

        Yields:
            Every reply with the place of its task in `asked`, as they come.

        Raises:
            SourceError: One of them cannot be done, or its worker did not survive it.
        """
        places: dict[Worker, tuple[int, Clerk]] = {}
        for place, (clerk, task) in enumerate(asked):
            clerk.worker.send(encode(task))
            places[clerk.worker] = (place, clerk)
        meanwhile()
        for worker in places:
            worker.expect(self.limits.chunk_seconds)
        while places:
            event = self._listen(places)
            place, clerk = places[event.worker]
            reply = clerk.understood(event)
            if isinstance(reply, Noted | Rewritten | Probed | Heard | Formats):
                event.worker.expect(None)
                del places[event.worker]
            else:
                # Whoever gets on is not late.
                event.worker.expect(self.limits.chunk_seconds)
            if not isinstance(reply, Working | Noted):
                yield place, reply

    def _listen(self, workers: Container[Worker]) -> Message | Ended:
        """Wait for what one of these says next; the end of any other is kept for when it is asked."""
        while True:
            for place, event in enumerate(self._heard):
                if event.worker in workers:
                    del self._heard[place]
                    return event
            self._heard += [event for event in self._pool.poll(_WAIT_SECONDS) if event.worker in self._hired]


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
        settings = MediumSettings(name=name, max_pixels=limits.max_pixels, max_streams=limits.max_streams)
        self.worker = office.hire(descriptor, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._office.dismiss(self.worker)

    def probe(self, meanwhile: Callable[[], None] = lambda: None) -> Probe:
        """What the headers claim; see :meth:`Office.gather`.

        Raises:
            SourceError: It cannot be opened.
        """
        replies = self._office.gather([(self, ProbeTask())], meanwhile)
        return next(reply.facts for _, reply in replies if isinstance(reply, Probed))

    def remember(self, rows: tuple[Covering, ...]) -> None:
        """Have it know what is covered."""
        for start in range(0, len(rows), ROWS):
            list(self._ask(CoverTask(list(rows[start : start + ROWS]))))

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
        """Pictures of a stream: pts, and how far each is from being covered where it is to be."""
        for reply in self._ask(task):
            if isinstance(reply, Pictures):
                yield from reply.rows

    def formats(self, track: VideoTrack) -> Formats:
        """As what the file can be written.

        Raises:
            SourceError: It cannot be written at all.
        """
        return next(reply for reply in self._ask(FormatTask(track)) if isinstance(reply, Formats))

    def rewrite(self, task: RewriteTask | ImageTask, descriptor: int, max_bytes: int) -> Iterator[Rewritten]:
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
                data = self.worker.image(reply.slot)
                if reply.size > len(data) or reply.at + reply.size > max_bytes:
                    raise SourceError(f"{self._name}: the process that rewrites it wants to write too much.")
                _write(descriptor, data[: reply.size], reply.at)
                self.worker.release(reply.slot)
            elif isinstance(reply, Cut):
                os.ftruncate(descriptor, min(max(reply.at, 0), os.fstat(descriptor).st_size))
            elif isinstance(reply, Rewritten):
                yield reply

    def understood(self, event: Message | Ended) -> Reply:
        """What it said.

        Raises:
            SourceError: That it cannot do it, or nonsense, or nothing more, ever.
            OutputError: Nothing can be written.
        """
        if isinstance(event, Ended):
            raise SourceError(f"{self._name}: the process that was at work on it was {event.detail}.")
        try:
            reply: Reply = decode(event.payload, ReplyType)
        except (ValueError, msgspec.ValidationError) as exc:
            raise SourceError(f"{self._name}: the process that was at work on it said what makes no sense.") from exc
        if isinstance(reply, Failed):
            self.worker.expect(None)
            raise (OutputError if reply.kind == OutputError.__name__ else SourceError)(reply.message)
        return reply

    def _ask(self, task: Task) -> Iterator[Reply]:
        """Every reply to one task; see :meth:`Office.gather`."""
        return (reply for _, reply in self._office.gather([(self, task)]))


def _write(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written
