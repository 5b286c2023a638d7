"""The scan job: files in, timelines out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidmod._version import __version__
from vidmod.closing import Closing
from vidmod.crew import Crew
from vidmod.describing import thresholds_of
from vidmod.errors import SourceError
from vidmod.jobs import FileJob
from vidmod.models import Manifest, Model, find
from vidmod.policy import Policy
from vidmod.recall import Recall
from vidmod.settings import DEFAULT_MODELS, ScanSettings
from vidmod.store import Store
from vidmod.timeline import Timeline

__all__ = ["DEFAULT_MODELS", "Progress", "ScanSettings", "Scanner", "scan"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is.

    Attributes:
        path: The input.
        position_seconds: Up to where it was looked at.
        duration_seconds: How long it claims to be, None if unknown.
        elapsed_seconds: Since the scan of this input began.
        samples: Pictures looked at.
    """

    path: Path
    position_seconds: float
    duration_seconds: float | None
    elapsed_seconds: float
    samples: int

    @property
    def name(self) -> str:
        """The input's name without its folder."""
        return self.path.name

    @property
    def speed(self) -> float:
        """Multiples of real time."""
        return self.position_seconds / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


def scan(
    path: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    notify: Callable[[str], None] | None = None,
    **settings: Any,
) -> Timeline:
    """Look at one video or image and say what is in it.

    Args:
        path: A local file.
        progress: Called now and then while it runs.
        notify: Told when weights have to be pulled.
        settings: The fields of :class:`ScanSettings`.

    Returns:
        A timeline. One whose `status` is `unscannable` if the file can be read but not scanned.

    Raises:
        SourceError: There is no such file, or it cannot be read.
        UsageError: A setting, policy, manifest or weights file is wrong.

    Example:
        >>> timeline = vidmod.scan("movie.mp4", fps=Fraction(4))
        >>> timeline.verdict
        'review'
    """
    with Scanner(ScanSettings(**settings), notify=notify) as scanner:
        return scanner.scan(path, progress=progress)


class Scanner(Closing):
    """Scans one input after another, or many side by side, with the same settings; models are loaded once.

    Files are parsed in processes of their own, which may do nothing else: see
    :mod:`vidmod.containment` and :mod:`vidmod.workers`.

    Use it as a context manager, and from one thread.

    Args:
        settings: Of all of its scans.
        notify: Told when weights have to be pulled.
        models_of: Another scanner of which the models are used; it loads and releases them.

    Raises:
        UsageError: A setting or manifest is wrong.
    """

    def __init__(
        self,
        settings: ScanSettings,
        *,
        notify: Callable[[str], None] | None = None,
        models_of: Scanner | None = None,
    ) -> None:
        self.settings = settings
        self._lender = models_of
        self.manifests = [find(name) for name in settings.models]
        self._notify = notify
        self._models: dict[str, Model] = {}
        self._crew: Crew | None = None
        self._store = None if settings.store is None else Store(settings.store)
        policy = settings.policy
        if policy is None:
            policy = Policy.default().with_models({item.name: thresholds_of(item) for item in self.manifests})
        self.policy = policy.smoothed_by(settings.smoothing)

    def close(self) -> None:
        """End the workers and release the models; more than once is fine."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None
        while self._models:
            self._models.popitem()[1].close()

    @property
    def models(self) -> list[Model]:
        """The models, loaded when they are first wanted: reading goes on meanwhile."""
        owner = self._lender or self
        return [owner._loaded(manifest) for manifest in self.manifests]

    def _loaded(self, manifest: Manifest) -> Model:
        if manifest.name not in self._models:
            settings = self.settings
            self._models[manifest.name] = Model.load(
                manifest,
                runtime=settings.runtime,
                device=settings.device,
                precision=settings.precision,
                weights=settings.weights,
                notify=self._notify,
            )
        return self._models[manifest.name]

    def warm_up(self) -> None:
        """Load the models, and meanwhile let start what starts workers: what the first scan would have to wait for."""
        self._crew_at_work()
        _ = self.models

    def _crew_at_work(self) -> Crew:
        if self._crew is None:
            self._crew = Crew(self.settings, lambda: self.models)
        return self._crew

    def scan(
        self,
        path: str | Path,
        *,
        spans: Sequence[tuple[Fraction, Fraction]] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Timeline:
        """Look at one input; see :func:`scan`.

        Args:
            path: A local file.
            spans: Instead of the settings'.
            progress: Called now and then while it runs.
        """
        for _, result in self.scan_many([Path(path)], spans=spans, progress=progress):
            if isinstance(result, Timeline):
                return result
            if result is not None:
                raise result
        raise AssertionError("A scan has a result.")

    def scan_many(
        self,
        paths: Iterable[Path],
        *,
        unsure: Collection[Path] = (),
        spans: Sequence[tuple[Fraction, Fraction]] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Generator[tuple[Path, Timeline | SourceError | None], None, None]:
        """Look at many inputs side by side.

        Args:
            paths: Local files.
            unsure: Those of them that may be something else than video, and are then passed over.
            spans: Instead of the settings'.
            progress: Called now and then while it runs.

        Yields:
            Every path with its timeline, or why it cannot be read, as they end; None for what is
            passed over.
        """
        crew = self._crew_at_work()
        settings = self.settings if spans is None else dataclasses.replace(self.settings, spans=tuple(spans))
        waiting = iter(paths)
        jobs: list[FileJob] = []
        try:
            while True:
                while len(jobs) < crew.wanted_jobs and (path := next(waiting, None)) is not None:
                    try:
                        job = self._job(path, settings, unsure=path in unsure)
                    except SourceError as exc:
                        yield path, exc
                        continue
                    jobs.append(job)
                    if progress is not None:
                        progress(_progress_of(job))
                if not jobs:
                    return
                for job in crew.work(jobs):
                    if progress is not None:
                        progress(_progress_of(job))
                for job in [job for job in jobs if job.is_done and crew.is_free_of(job)]:
                    jobs.remove(job)
                    yield job.path, self._result(job)
        finally:
            for job in jobs:
                crew.forget(job)
                job.close()

    def _job(self, path: Path, settings: ScanSettings, *, unsure: bool) -> FileJob:
        # What is stored is of the settings as they are.
        store = self._store if settings is self.settings else None

        def recall(size_bytes: int) -> Recall:
            assert store is not None
            return Recall(store, self._digest, size_bytes, self.settings.fresh)

        return FileJob(
            path,
            settings,
            self.manifests,
            self.policy,
            unsure=unsure,
            recall=None if store is None else recall,
        )

    def _digest(self) -> str:
        """Of all that samples depend on but the source."""
        settings, limits = self.settings, self.settings.limits
        models = [(model.name, model.weights.sha256, dataclasses.asdict(model.info)) for model in self.models]
        preparations = [dataclasses.asdict(manifest.preparation) for manifest in self.manifests]
        outputs = [dataclasses.asdict(manifest.output) for manifest in self.manifests]
        part = (settings.start, settings.end, settings.spans, settings.stop_at)
        chosen = (settings.sampling, settings.interval, *part, settings.seed, settings.gpu is not None)
        bounds = (limits.max_pixels, limits.max_streams, limits.max_packets)
        # Where scores decide what is looked at, so does the policy.
        by_scores = settings.sampling == "adaptive" or settings.stop_at is not None
        policy = self.policy.as_document() if by_scores else None
        facts = (__version__, models, preparations, outputs, [str(item) for item in chosen], bounds, policy)
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def _result(self, job: FileJob) -> Timeline | SourceError | None:
        try:
            return job.timeline(self.models)
        except SourceError as exc:
            return exc
        finally:
            job.close()


def _progress_of(job: FileJob) -> Progress:
    elapsed = time.monotonic() - job.began
    return Progress(job.path, job.position_seconds, job.duration_seconds, elapsed, job.samples)
