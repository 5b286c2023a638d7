"""Workers and models at work on inputs: who reads what, and which pictures are inferred together.

One thread. Workers read ahead as far as their slots of shared memory go; pictures are inferred in full batches,
whatever file they are from, and in part-filled ones only when nobody could add to them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from vidmod.allocation import return_free_memory
from vidmod.containment.grants import NOTHING
from vidmod.errors import VidmodError
from vidmod.gpus import DESCRIPTORS, Gpu, modules, open_gpu
from vidmod.jobs import FileJob
from vidmod.messages import ReplyType, Seen, Task, decode, encode
from vidmod.models import Model, ModelInput
from vidmod.predictions import Predictions
from vidmod.settings import ScanSettings
from vidmod.streams import Errand
from vidmod.workers import Ended, Message, Pool, Worker

_HANDLER = "vidmod.reading:serve"
# What a worker cannot load any more once it is enclosed.
_WARM = ("av", "cv2", "numpy", "vidmod.reading")
# A worker that is done finds its next task at hand while models are at work here.
_TASKS_AHEAD = 2
# Pictures that a worker may be ahead, some ten megabytes with both models.
_SLOTS = 24
_WAIT_SECONDS = 1.0
# While an input is only hashed, say.
_IDLE_SECONDS = 0.02
_MAX_TEXT = 4000


@dataclass(slots=True, eq=False)
class _Hand:
    """A worker, whose file it reads, and what it was told to do, the present task first."""

    worker: Worker
    job: FileJob
    tasks: deque[tuple[Task, Errand | None]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A picture that waits for the models."""

    worker: Worker
    job: FileJob
    errand: Errand
    seen: Seen


class Crew:
    """The workers of a scan, and the queue of pictures before the models.

    Args:
        settings: Of the scan.
        models: Gives the models, loaded when first asked.
    """

    def __init__(self, settings: ScanSettings, models: Callable[[], list[Model]]) -> None:
        self._settings = settings
        self._models = models
        self._count = settings.workers or len(os.sched_getaffinity(0))
        warm = _WARM if settings.gpu is None else (*_WARM, *modules())
        self._pool = Pool(_HANDLER, settings.limits, warm=warm)
        self._hands: dict[Worker, _Hand] = {}
        self._waiting: deque[_Waiting] = deque()
        self._gpu: Gpu | None = None

    def close(self) -> None:
        """End all workers; more than once is fine."""
        self._pool.close()
        self._hands.clear()
        self._waiting.clear()

    @property
    def wanted_jobs(self) -> int:
        """How many inputs keep everybody busy: one more than there are workers, since one is always ending."""
        return self._count + 1

    def is_free_of(self, job: FileJob) -> bool:
        """Whether nobody is at work on an input any more."""
        busy = any(hand.job is job and hand.tasks for hand in self._hands.values())
        if not busy:
            self._dismiss(job)
        return not busy and not any(item.job is job for item in self._waiting)

    def forget(self, job: FileJob) -> None:
        """Stop all work on an input."""
        self._dismiss(job)
        self._waiting = deque(item for item in self._waiting if item.job is not job)

    def _dismiss(self, job: FileJob) -> None:
        for worker, hand in list(self._hands.items()):
            if hand.job is job:
                worker.kill("its file is done")
                del self._hands[worker]

    def work(self, jobs: Sequence[FileJob]) -> list[FileJob]:
        """Do a stretch of work, a batch at most; the inputs for which something was inferred.

        Raises:
            VidmodError: The models, or the process that starts workers, failed.
        """
        for job in jobs:
            if job.is_late and not job.is_given_up:
                self._stop_reading(job, f"past its time limit of {self._settings.limits.file_seconds:g} s")
            job.advance()
        self._assign(jobs)
        size = self._batch_size
        enough = len(self._waiting) >= size
        wait = _WAIT_SECONDS if self._is_anyone_busy else _IDLE_SECONDS
        if enough or any(job.is_done for job in jobs):
            wait = 0
        for event in self._pool.poll(wait):
            if isinstance(event, Message):
                self._hear(event)
            else:
                self._bury(event)
        if len(self._waiting) >= size or (self._waiting and not self._is_anyone_busy):
            return self._infer(size)
        return []

    @property
    def _batch_size(self) -> int:
        return max(model.manifest.batch.best for model in self._models())

    @property
    def _is_anyone_busy(self) -> bool:
        return any(hand.tasks for hand in self._hands.values())

    # Workers ------------------------------------------------------------------------------------

    def _assign(self, jobs: Sequence[FileJob]) -> None:
        """Give every worker something to do, and every input that waits a worker."""
        for hand in self._hands.values():
            while len(hand.tasks) < _TASKS_AHEAD and not hand.job.is_given_up and (row := hand.job.next_task()):
                self._tell(hand, *row)
        for job in jobs:
            while job.has_work and not job.is_given_up and self._has_room():
                row = job.next_task()
                if row is None:  # an interrupted scan has done all of it already
                    break
                self._tell(self._hire(job), *row)

    def _has_room(self) -> bool:
        """Whether another worker may start; one that has nothing to do makes room."""
        if len(self._hands) < self._count:
            return True
        idle = next((hand for hand in self._hands.values() if not hand.tasks and not hand.job.has_work), None)
        if idle is None:
            return False
        idle.worker.kill("another file waits")
        del self._hands[idle.worker]
        return True

    def _hire(self, job: FileJob) -> _Hand:
        gpu = self._gpu_for(job)
        settings = job.reading_settings(None if gpu is None else gpu.settings)
        slot_bytes = sum(preparation.image_bytes for preparation in settings.preparations)
        # An opening of its own: workers must not share a position in the file.
        try:
            source = os.open(f"/proc/self/fd/{job.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                worker = self._pool.fork(
                    source,
                    encode(settings),
                    slots=_SLOTS,
                    slot_bytes=slot_bytes,
                    grants=NOTHING if gpu is None else gpu.grants,
                    descriptors=2 if gpu is None else DESCRIPTORS,
                )
            finally:
                os.close(source)
        except OSError as exc:
            raise VidmodError(f"{job.path}: no process can be started to read it ({exc.strerror}).") from exc
        hand = self._hands[worker] = _Hand(worker, job)
        return hand

    def _gpu_for(self, job: FileJob) -> Gpu | None:
        """The GPU that decodes, tried when the first worker is needed."""
        number = self._settings.gpu
        if number is not None and self._gpu is None:
            self._gpu = open_gpu(number, self._pool, job.reading_settings().preparations)
        return self._gpu

    def _tell(self, hand: _Hand, task: Task, errand: Errand | None) -> None:
        hand.tasks.append((task, errand))
        hand.worker.send(encode(task))
        if len(hand.tasks) == 1:
            hand.worker.expect(self._settings.limits.chunk_seconds)

    def _hear(self, event: Message) -> None:
        hand = self._hands.get(event.worker)
        if hand is None:
            return
        try:
            _check_text(event.payload)
            if not hand.tasks:
                raise ValueError("It spoke without being asked.")
            task, errand = hand.tasks[0]
            reply = decode(event.payload, ReplyType)
            done = hand.job.heard(reply, task, errand)
        except ValueError as exc:
            self._end(hand, f"ended because it said what makes no sense: {exc}")
            return
        if isinstance(reply, Seen) and errand is not None:
            self._waiting.append(_Waiting(hand.worker, hand.job, errand, reply))
        if done:
            hand.tasks.popleft()
            # What is remembered of a film lies among messages that are gone; over hours the holes add up.
            return_free_memory()
        # Whoever gets on is not late.
        hand.worker.expect(self._settings.limits.chunk_seconds if hand.tasks else None)

    def _bury(self, event: Ended) -> None:
        hand = self._hands.get(event.worker)
        if hand is not None:
            self._end(hand, event.detail if event.reason != "finished" else "ended before it was done", kill=False)

    def _end(self, hand: _Hand, reason: str, *, kill: bool = True) -> None:
        """A worker is lost: the task that it was at has failed, the others are for somebody else."""
        if kill:
            hand.worker.kill(reason)
        del self._hands[hand.worker]
        for task, errand in reversed(list(islice(hand.tasks, 1, None))):
            hand.job.put_back(task, errand)
        if hand.tasks:
            hand.job.lost(*hand.tasks[0], reason)
        if hand.job.is_given_up:
            self._stop_reading(hand.job, "")

    def _stop_reading(self, job: FileJob, reason: str) -> None:
        job.give_up(reason)
        for hand in [hand for hand in self._hands.values() if hand.job is job]:
            self._end_given_up(hand)

    def _end_given_up(self, hand: _Hand) -> None:
        hand.worker.kill("its file was given up")
        del self._hands[hand.worker]
        for task, errand in hand.tasks:
            hand.job.lost(task, errand, "given up before")

    # Models -------------------------------------------------------------------------------------

    def _infer(self, size: int) -> list[FileJob]:
        """Run the models on the pictures that have waited longest."""
        batch = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
        rows = zip(*(self._inputs(item) for item in batch), strict=True)
        found = [model.predict(inputs) for model, inputs in zip(self._models(), rows, strict=True)]
        for item, predictions in zip(batch, zip(*found, strict=True), strict=True):
            item.job.judged(item.errand, item.seen, _together(predictions))
            item.worker.release(item.seen.slot)
        return list({id(item.job): item.job for item in batch}.values())

    def _inputs(self, item: _Waiting) -> list[ModelInput]:
        """A picture's images, one for each model; they lie in shared memory until the slot is released."""
        pixels = np.frombuffer(item.worker.image(item.seen.slot), np.uint8)
        inputs = []
        place = 0
        for model, geometry in zip(self._models(), item.seen.geometries, strict=True):
            shape = model.manifest.preparation
            image = pixels[place : place + shape.image_bytes].reshape(shape.height, shape.width, 3)
            inputs.append(ModelInput(image, geometry))
            place += shape.image_bytes
        return inputs


def _check_text(value: object) -> None:
    """Nothing that could not be printed: what a worker says may have been written by the file's author.

    Raises:
        ValueError: There is.
    """
    if isinstance(value, str):
        if len(value) > _MAX_TEXT or not value.isprintable():
            raise ValueError("Text that cannot be shown.")
    elif isinstance(value, dict):
        for item in value.values():
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            if not isinstance(item, int):
                _check_text(item)


def _together(predictions: Sequence[Predictions]) -> Predictions:
    return Predictions(
        scores=tuple(scores for row in predictions for scores in row.scores),
        detections=tuple(item for row in predictions for item in row.detections),
    )
