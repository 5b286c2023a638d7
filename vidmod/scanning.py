"""The scan job: a file in, a timeline out."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vidmod import sampling
from vidmod._version import __version__
from vidmod.coverage import Covered, account
from vidmod.errors import SourceError, SourceUnreadableError, UsageError, choose
from vidmod.feed import Feed, Picture, Prepared
from vidmod.judging import find_segments, verdict_of
from vidmod.media import Ledger, Probe, VideoTrack, check_readable, probe
from vidmod.models import Manifest, Model, find
from vidmod.policy import VERDICTS, Policy
from vidmod.predictions import Predictions
from vidmod.timebase import Span, to_pts, to_seconds
from vidmod.timeline import Json, Sample, Status, StreamScan, Timeline

DEFAULT_MODELS = ("open_nsfw", "nudenet")
# Enough that neither side waits for the other, few enough that memory stays flat.
_QUEUED_BATCHES = 3
_HASH_CHUNK_BYTES = 1 << 20
# What --stop-at looks back on; far longer than smoothing reaches.
_STOP_WINDOW_SAMPLES = 240


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is.

    Attributes:
        name: The input.
        position_seconds: Up to where it was looked at.
        duration_seconds: How long it claims to be, None if unknown.
        elapsed_seconds: Since the scan of this input began.
        samples: Pictures looked at.
    """

    name: str
    position_seconds: float
    duration_seconds: float | None
    elapsed_seconds: float
    samples: int

    @property
    def speed(self) -> float:
        """Multiples of real time."""
        return self.position_seconds / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """What to look for and how.

    Attributes:
        models: Names of shipped manifests, or paths of others.
        policy: None for the default policy, and the manifests' thresholds for models of whose labels
            that says nothing.
        smoothing: A method, if not the policy's.
        sampling: `uniform` or `all`.
        fps: Samples per second, for `uniform`.
        start, end: The part to look at, in seconds of presentation time; the rest is unsampled.
        stop_at: `review` or `block`: stop as soon as that verdict is reached.
        weights: Model name to a weights file to use instead.
        max_gap: The longest presentation time that may stay unseen between two samples, in seconds,
            if that is less than `fps` leaves; None for what `fps` leaves.
        workers: Decoding threads; None for two a core.
    """

    models: Sequence[str] = DEFAULT_MODELS
    policy: Policy | None = None
    smoothing: str | None = None
    sampling: str = "uniform"
    fps: Fraction = Fraction(2)
    start: Fraction | None = None
    end: Fraction | None = None
    stop_at: str | None = None
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    max_gap: Fraction | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        choose("sampling", self.sampling, sampling.MODES)
        if self.stop_at is not None:
            choose("stop-at", self.stop_at, VERDICTS[1:])
        if self.fps <= 0:
            raise UsageError(f"Invalid fps ({float(self.fps):g}). Use a number above 0, such as 2.")
        if self.max_gap is not None and self.max_gap <= 0:
            raise UsageError(f"Invalid max-gap ({float(self.max_gap):g}). Use seconds above 0, such as 0.5.")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"Invalid workers ({self.workers}). Use 1 or more.")
        if not self.models:
            raise UsageError("Invalid models (none). Name at least one.")
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and value < 0:
                raise UsageError(f"Invalid {name} ({float(value):g}). Use 0 or more.")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError(f"Invalid end ({float(self.end):g}). It must lie after start ({float(self.start):g}).")

    @property
    def interval(self) -> Fraction:
        """The longest presentation time left unseen between two samples, in seconds."""
        if self.sampling == "all":
            return Fraction(0)
        return 1 / self.fps if self.max_gap is None else min(1 / self.fps, self.max_gap)


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


class Scanner:
    """Scans one input after another with the same settings; models are loaded once.

    Use it as a context manager, and from one thread.

    Raises:
        UsageError: A setting or manifest is wrong.
    """

    def __init__(self, settings: ScanSettings, *, notify: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.manifests = [find(name) for name in settings.models]
        self._notify = notify
        self._models: list[Model] = []
        policy = settings.policy
        if policy is None:
            policy = Policy.default().with_models({item.name: _thresholds(item) for item in self.manifests})
        self.policy = policy.smoothed_by(settings.smoothing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the models; more than once is fine."""
        while self._models:
            self._models.pop().close()

    @property
    def models(self) -> list[Model]:
        """The models, loaded when they are first wanted: reading goes on meanwhile."""
        if not self._models:
            settings = self.settings
            for manifest in self.manifests:
                self._models.append(
                    Model.load(
                        manifest,
                        runtime=settings.runtime,
                        device=settings.device,
                        precision=settings.precision,
                        weights=settings.weights,
                        notify=self._notify,
                    )
                )
        return self._models

    def scan(self, path: str | Path, *, progress: Callable[[Progress], None] | None = None) -> Timeline:
        """Look at one input; see :func:`scan`."""
        return _Scan(self, Path(path), progress).run()


_Tick = Callable[[float, float | None, int], None]


class _Scan:
    """One input's scan, from opening it to its timeline."""

    def __init__(self, scanner: Scanner, path: Path, progress: Callable[[Progress], None] | None) -> None:
        self._scanner = scanner
        self._settings = scanner.settings
        self._path = path
        self._progress = progress
        self._began = time.monotonic()
        self._samples = 0
        self._stopped = False
        self._notes: list[str] = []

    def run(self) -> Timeline:
        before = check_readable(self._path)
        with _Hash(self._path) as digest:
            try:
                facts = probe(self._path)
            except SourceError as exc:
                return self._unscannable(str(exc), digest.hexdigest(), before.st_size, None)
            self._check_range(facts)
            streams = self._streams(facts)
            sha256 = digest.hexdigest()
        after = self._path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceUnreadableError(f"{self._path}: changed while it was scanned. Scan it again when it is whole.")
        if not any(stream.samples for stream in streams):
            reason = f"{self._path}: no frame of it can be decoded. Get the file again from where it came."
            return self._unscannable(reason, sha256, before.st_size, facts, streams)
        return self._timeline(facts, streams, sha256, before.st_size)

    def _check_range(self, facts: Probe) -> None:
        start, length = self._settings.start, facts.duration_seconds
        if start is not None and length is not None and start >= (facts.start_seconds or 0) + length:
            end = float((facts.start_seconds or 0) + length)
            raise SourceError(f"{self._path}: ends at {end:g} s, before the start asked for ({float(start):g} s).")

    def _streams(self, facts: Probe) -> list[StreamScan]:
        """Every picture stream that has anything in it, the main one first."""
        streams: list[StreamScan] = []
        tracks = collections.deque(facts.tracks)
        while tracks:
            track = tracks.popleft()
            if self._stopped:
                self._notes.append(f"{_stream_name(track)} was not looked at: stopped before.")
                continue
            stream = _StreamScan(self._scanner, self._path, track, facts, self._tick)
            result = stream.run()
            self._stopped = stream.stopped
            if streams and not stream.ledger.packets and not stream.ledger.truncated:
                self._notes.append(f"{_stream_name(track)} is empty.")
                continue
            self._notes += _notes(stream.ledger, track)
            streams.append(result)
            if stream.ledger.hidden and track.kind == "video":
                tracks.appendleft(dataclasses.replace(track, kind="hidden", frames=stream.ledger.hidden))
        return streams

    def _tick(self, position_seconds: float, duration_seconds: float | None, samples: int) -> None:
        self._samples += samples
        if self._progress is not None:
            elapsed = time.monotonic() - self._began
            self._progress(Progress(self._path.name, position_seconds, duration_seconds, elapsed, self._samples))

    def _timeline(self, facts: Probe, streams: list[StreamScan], sha256: str, size: int) -> Timeline:
        whole = all(_is_whole(stream) for stream in streams) and not self._stopped
        status: Status = "complete" if whole else "partial"
        found = find_segments(streams, self._scanner.policy)
        if self._stopped:
            self._notes.insert(0, f"Stopped when the verdict reached {self._settings.stop_at}, as asked.")
        return Timeline(
            source=self._source(facts, streams, sha256, size),
            status=status,
            verdict=verdict_of(found, status),
            notes=tuple(self._notes),
            coverage=streams[0].coverage,
            segments=found,
            streams=tuple(streams),
            provenance=self._provenance(),
        )

    def _unscannable(
        self,
        reason: str,
        sha256: str,
        size: int,
        facts: Probe | None,
        streams: Sequence[StreamScan] = (),
    ) -> Timeline:
        coverage = streams[0].coverage if streams else ()
        source = self._source(facts, streams, sha256, size)
        return Timeline(
            source=source,
            status="unscannable",
            verdict="review",
            notes=(reason, *self._notes),
            coverage=coverage,
            segments=(),
            streams=tuple(streams),
            provenance=self._provenance(),
        )

    def _source(self, facts: Probe | None, streams: Sequence[StreamScan], sha256: str, size: int) -> Json:
        coverage = streams[0].coverage if streams else ()
        start = coverage[0].start_seconds if coverage else 0.0
        end = coverage[-1].end_seconds if coverage else start
        return {
            "name": self._path.name,
            "sha256": sha256,
            "size_bytes": size,
            "format": None if facts is None else facts.format,
            "start_seconds": start,
            "duration_seconds": round(end - start, 6),
            "stream": streams[0].stream if streams else 0,
            "video": streams[0].video if streams else None,
            "audio": [] if facts is None else [dataclasses.asdict(track) for track in facts.audio],
        }

    def _provenance(self) -> Json:
        settings = self._settings
        policy = self._scanner.policy
        return {
            "vidmod": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "models": [_model_json(model) for model in self._scanner.models],
            "sampling": {
                "mode": settings.sampling,
                **({"fps": float(settings.fps)} if settings.sampling == "uniform" else {}),
                "max_gap_seconds": round(float(settings.interval), 6),
                "start_seconds": None if settings.start is None else float(settings.start),
                "end_seconds": None if settings.end is None else float(settings.end),
                "stop_at": settings.stop_at,
            },
            "smoothing": policy.smoothing.as_dict(),
            "policy": policy.as_document(),
        }


class _StreamScan:
    """One picture stream's scan: a thread reads and prepares, the caller's thread infers."""

    def __init__(self, scanner: Scanner, path: Path, track: VideoTrack, facts: Probe, tick: _Tick) -> None:
        self.stopped = False
        self._scanner = scanner
        self._settings = scanner.settings
        self._path = path
        self._track = track
        self._facts = facts
        self._tick = tick
        self._samples: list[Sample] = []
        self._spans: list[Span] = []
        self.ledger = Ledger()

    def run(self) -> StreamScan:
        size = max(manifest.batch.best for manifest in self._scanner.manifests)
        with self._feed(ahead=size * _QUEUED_BATCHES) as feed:
            for batch in _batches(feed, size):
                self._infer(batch)
                self._tick(self._samples[-1].end_seconds, self._claimed_seconds(), len(batch))
                if self._reached(self._settings.stop_at):
                    self.stopped = True
                    break
        self.ledger = feed.ledger
        return StreamScan(
            stream=self._track.index,
            kind=self._track.kind,
            video=_video_json(self._track, feed.picture),
            coverage=tuple(self._coverage()),
            samples=tuple(self._samples),
            ledger=_ledger_json(self.ledger),
        )

    def _feed(self, ahead: int) -> Feed:
        settings = self._settings
        return Feed(
            self._path,
            self._track,
            self._scanner.manifests,
            mode=settings.sampling,
            interval=settings.interval,
            start=settings.start,
            end=settings.end,
            threads=1 if self._facts.still or self._track.kind == "cover" else settings.workers,
            ahead=ahead,
        )

    def _infer(self, batch: list[Prepared]) -> None:
        columns = zip(*(item.inputs for item in batch), strict=True)
        rows = [model.predict(column) for model, column in zip(self._scanner.models, columns, strict=True)]
        time_base = self._track.time_base
        for item, predictions in zip(batch, zip(*rows, strict=True), strict=True):
            start = to_seconds(item.pts, time_base)
            duration = round(to_seconds(item.end_pts, time_base) - start, 6)
            self._samples.append(Sample(item.pts, start, duration, _together(predictions)))
            self._spans.append(Span(item.pts, item.end_pts))

    def _claimed_seconds(self) -> float | None:
        if self._settings.end is not None:
            return float(self._settings.end)
        claim = self._facts.duration_seconds
        return None if claim is None else float(claim + (self._facts.start_seconds or 0))

    def _reached(self, verdict: str | None) -> bool:
        if verdict is None:
            return False
        recent = tuple(self._samples[-_STOP_WINDOW_SAMPLES:])
        window = StreamScan(self._track.index, self._track.kind, {}, (), recent, {})
        found = find_segments([window], self._scanner.policy)
        return any(VERDICTS.index(segment.verdict) >= VERDICTS.index(verdict) for segment in found)

    def _coverage(self) -> list[Covered]:
        extent = self._extent()
        if extent is None:
            return []
        gap = int(self._settings.interval / self._track.time_base)
        return account(extent, self._spans, self.ledger.holes, gap, self._track.time_base)

    def _extent(self) -> Span | None:
        """All presentation time of the stream: what was met, and what is claimed of the rest."""
        settings, track, ledger = self._settings, self._track, self.ledger
        start, end = ledger.first_pts, ledger.end_pts
        claimed_start = track.start_pts or 0
        claimed_end = None if track.duration_pts is None else claimed_start + track.duration_pts
        if claimed_end is None and self._facts.duration_seconds is not None and track.kind != "cover":
            claimed_end = to_pts((self._facts.start_seconds or 0) + self._facts.duration_seconds, track.time_base)
        if start is None or end is None:
            return None if claimed_end is None or claimed_end <= claimed_start else Span(claimed_start, claimed_end)
        if settings.start is not None:
            start = min(start, claimed_start)
        if (settings.end is not None or self.stopped) and claimed_end is not None:
            end = max(end, claimed_end)
        return Span(start, max(start, end))


class _Hash:
    """SHA-256 of a file, computed in a thread while the file is scanned."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name=f"hash {path.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._path.open("rb", buffering=0) as file:
                while not self._stop.is_set() and (chunk := file.read(_HASH_CHUNK_BYTES)):
                    self._digest.update(chunk)
        except OSError as exc:
            self._error = exc

    def hexdigest(self) -> str:
        """Wait for the end of the file."""
        self._thread.join()
        if self._error is not None:
            raise SourceUnreadableError(f"{self._path}: cannot be read ({self._error.strerror}).") from self._error
        return self._digest.hexdigest()


def _batches(feed: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    batch: list[Prepared] = []
    for item in feed:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _together(predictions: Iterable[Predictions]) -> Predictions:
    rows = tuple(predictions)
    return Predictions(
        scores=tuple(scores for row in rows for scores in row.scores),
        detections=tuple(item for row in rows for item in row.detections),
    )


def _is_whole(stream: StreamScan) -> bool:
    """Whether every span was analysed and the account of packets has no loss."""
    ledger = stream.ledger
    lossless = not (ledger["lost"] or ledger["unusable"] or ledger["read_errors"] or ledger["truncated"])
    return lossless and bool(stream.samples) and all(span.state == "analysed" for span in stream.coverage)


def _notes(ledger: Ledger, track: VideoTrack) -> list[str]:
    """What a reader should know of a stream, in words."""
    rows = (
        (ledger.lost, "{} of {} packets gave no picture"),
        (ledger.unusable, "{} pictures have a size or format that cannot be scaled"),
        (ledger.read_errors, "reading failed {} times"),
        (ledger.truncated, "the file ends before the stream does"),
        (ledger.hidden if track.kind == "video" else 0, "{} packets are hidden by an edit list, and looked at apart"),
        (ledger.damaged, "{} pictures were patched by the decoder"),
        (ledger.size_changes, "the picture size changes {} times"),
        (
            ledger.missing_pts + ledger.backward_pts if track.kind != "cover" else 0,
            "{} pictures had no usable time; theirs was inferred",
        ),
    )
    return [f"{_stream_name(track)}: {text.format(count, ledger.packets)}." for count, text in rows if count]


def _stream_name(track: VideoTrack) -> str:
    return f"Stream {track.index}" + ("" if track.kind == "video" else f" ({track.kind})")


def _ledger_json(ledger: Ledger) -> Json:
    left_out = ("first_pts", "end_pts", "holes")
    return {
        field.name: getattr(ledger, field.name) for field in dataclasses.fields(ledger) if field.name not in left_out
    }


def _video_json(track: VideoTrack, picture: Picture | None) -> Json:
    """The schema's `video`: what was decoded, or what is claimed where nothing was."""
    width, height = track.size if picture is None else picture.size
    rate = track.average_rate
    return {
        "codec": track.codec,
        "width": width,
        "height": height,
        "rotation": 0 if picture is None else picture.rotation,
        "mirrored": False if picture is None else picture.mirrored,
        "pixel_format": track.pixel_format if picture is None else picture.pixel_format,
        "average_rate": None if rate is None else f"{rate.numerator}/{rate.denominator}",
        "time_base": f"{track.time_base.numerator}/{track.time_base.denominator}",
    }


def _model_json(model: Model) -> Json:
    manifest, info = model.manifest, model.info
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": model.weights.sha256,
        "licence": manifest.licence,
        "runtime": info.runtime,
        "runtime_version": info.version,
        "precision": info.precision,
        "device": info.device,
        "thresholds": _thresholds(manifest),
    }


def _thresholds(manifest: Manifest) -> dict[str, dict[str, float]]:
    return {label: dataclasses.asdict(pair) for label, pair in manifest.thresholds.items()}
