"""Scans mutations and keeps account of what becomes of them."""

from __future__ import annotations

import collections
import faulthandler
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

import vidmod
from tests.fuzzing.demands import problems
from tests.fuzzing.mutations import Mutation, mutate
from tests.fuzzing.sources import Source
from vidmod.containment import Limits
from vidmod.errors import SourceError
from vidmod.timeline import Timeline

# A whole scan of any source here takes a tenth of a second.
FILE_SECONDS = 20.0
_GRACE_SECONDS = 2.0
# By then everything is loaded that a scan loads once.
_WARM_JOBS = 200


@dataclass(frozen=True)
class Offence:
    """An input, and what it broke."""

    mutation: Mutation
    texts: tuple[str, ...]


@dataclass
class Tally:
    """What became of all jobs.

    Attributes:
        outcomes: How often each status and verdict, or error, was the answer.
        grown_bytes: By how much this process grew after it was warm.
    """

    jobs: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    offences: list[Offence] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    seconds: float = 0.0
    grown_bytes: int = 0


def settings(model: Path, workers: int | None, **limits: Any) -> vidmod.ScanSettings:
    """Settings with a tiny model, and these limits."""
    return vidmod.ScanSettings(models=(str(model),), workers=workers, limits=Limits(**limits))


class Run:
    """Scans mutations through one Scanner, and keeps account.

    Args:
        folder: Where inputs are while they are scanned; those that break something stay.
        watchdog: End the process where a job never ends; for the command, not for tests.
    """

    def __init__(self, sources: Sequence[Source], seed: int, folder: Path, *, watchdog: bool = False) -> None:
        self.tally = Tally()
        self._sources = sources
        self._seed = seed
        self._folder = folder
        self._watchdog = watchdog
        self._pending: dict[Path, tuple[Mutation, float]] = {}
        self._process = psutil.Process()
        self._warm_bytes = 0

    def run(
        self, scanner: vidmod.Scanner, numbers: Iterable[int], report: Callable[[Tally], None] | None = None
    ) -> Tally:
        """Scan these mutations."""
        began = time.monotonic()
        left = iter(numbers)
        ended = False
        while not ended:
            try:
                for path, result in scanner.scan_many(self._inputs(left)):
                    self._note(path, result)
                    self.tally.seconds = time.monotonic() - began
                    if report is not None:
                        report(self.tally)
                ended = True
            except Exception:  # noqa: BLE001 -- whatever it is, it is what is looked for
                # Which of those that were side by side it was is told by each on its own.
                for path in list(self._pending):
                    self._pending[path] = (self._pending[path][0], time.monotonic())
                    self._note(path, _alone(scanner, path))
        if self._warm_bytes:
            self.tally.grown_bytes = self._process.memory_info().rss - self._warm_bytes
        return self.tally

    def _inputs(self, numbers: Iterator[int]) -> Iterator[Path]:
        for number in numbers:
            mutation = mutate(self._sources, self._seed, number)
            path = self._folder / mutation.file_name
            path.write_bytes(mutation.data)
            self._pending[path] = (mutation, time.monotonic())
            if self._watchdog:
                faulthandler.dump_traceback_later(5 * FILE_SECONDS, exit=True)
            yield path

    def _note(self, path: Path, result: object) -> None:
        mutation, began = self._pending.pop(path)
        elapsed = time.monotonic() - began
        outcome, texts = _judged(result)
        # Side by side, an input that was taken in may have to wait for a worker.
        allowed = FILE_SECONDS + _GRACE_SECONDS if len(self._pending) == 0 else 2 * FILE_SECONDS + _GRACE_SECONDS
        if elapsed > allowed:
            texts.append(f"took {elapsed:.1f} s")
        self.tally.jobs += 1
        self.tally.outcomes[outcome] += 1
        self.tally.slowest = max(self.tally.slowest, (elapsed, path.name))
        if texts:
            self.tally.offences.append(Offence(mutation, tuple(texts)))
        else:
            path.unlink()
        if self.tally.jobs == _WARM_JOBS:
            self._warm_bytes = self._process.memory_info().rss


def _judged(result: object) -> tuple[str, list[str]]:
    """A name for the outcome, and what is wrong with it."""
    if isinstance(result, Timeline):
        return f"{result.status}, {result.verdict}", problems(result)
    if result is None:
        return "passed over", ["passed over, which nobody asked for"]
    name = type(result).__name__
    return name, [] if isinstance(result, SourceError) else [f"{name}: {result}"]


def _alone(scanner: vidmod.Scanner, path: Path) -> object:
    try:
        return scanner.scan(path)
    except Exception as exc:  # noqa: BLE001 -- an answer like any other; `_judged` tells good from bad
        return exc


def describe(tally: Tally) -> str:
    """The account in words."""
    rows = [f"{tally.jobs} jobs in {tally.seconds:.1f} s, slowest {tally.slowest[0]:.2f} s ({tally.slowest[1]}), "
            f"grown by {tally.grown_bytes / 1e6:.1f} MB"]  # fmt: skip
    rows += [f"  {count:7d} {outcome}" for outcome, count in tally.outcomes.most_common()]
    for offence in tally.offences:
        steps = ", ".join(offence.mutation.steps)
        rows.append(f"  {offence.mutation.file_name} ({steps}): {'; '.join(offence.texts)}")
    return "\n".join(rows)
