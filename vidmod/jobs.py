"""One input's scan: from opening it to its timeline, as a state machine.

It is told what its workers say, and says what they should do next. It opens the file and hashes it, but never parses
it: what is in it, it learns from workers.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from vidmod._version import __version__
from vidmod.describing import gpu_notes, is_whole, model_json, notes_of, start_of, stream_name, unseen, video_json
from vidmod.digest import Digest
from vidmod.errors import NotVideoError, SourceError, SourceUnreadableError
from vidmod.judging import find_segments, judge, verdict_of
from vidmod.media import Probe, VideoTrack, open_readable
from vidmod.messages import (
    Failed,
    Found,
    GpuSettings,
    LookDone,
    Probed,
    ProbeTask,
    ReadingSettings,
    Reply,
    Seen,
    SurveyDone,
    SurveyTask,
    Task,
    Working,
)
from vidmod.models import Manifest, Model
from vidmod.policy import VERDICTS, Policy
from vidmod.predictions import Predictions
from vidmod.recall import Piece, Recall
from vidmod.settings import ScanSettings
from vidmod.streams import Errand, StreamJob
from vidmod.timeline import Json, Segment, Status, StreamScan, Timeline

# What --stop-at looks back on; far longer than smoothing reaches.
_STOP_WINDOW_SAMPLES = 240


class FileJob:
    """One input's scan.

    Args:
        path: A local file.
        settings: Of the scan.
        manifests: Of the models.
        policy: By which is judged.

        unsure: Whether the file may well be something else than a video, and is then passed over.
        recall: Gives, for a source of a size in bytes, the earlier results.

    Attributes:
        position_seconds, samples: How far it is.

    Raises:
        SourceError: There is no such file, or it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        settings: ScanSettings,
        manifests: Sequence[Manifest],
        policy: Policy,
        *,
        unsure: bool = False,
        recall: Callable[[int], Recall] | None = None,
    ) -> None:
        self.path = path
        self.unsure = unsure
        self.began = time.monotonic()
        self.samples = 0
        self.descriptor = -1
        self._settings = settings
        self._manifests = manifests
        self._policy = policy
        self.descriptor = open_readable(path)
        self._before = os.fstat(self.descriptor)
        self._digest = Digest(path, self.descriptor)
        self._digest.start()
        self._recall = None if recall is None else recall(self._before.st_size)
        self._found: Timeline | None = None
        self._probe_state = "hash" if self._recall is not None and self._recall.is_promising else "due"
        self._probe_attempts = 0
        self._survey_due = False
        self._facts: Probe | None = None
        self._problem: SourceError | None = None
        self._refusal: SourceError | None = None
        self._tracks: deque[VideoTrack] = deque()
        self._stream: StreamJob | None = None
        self._streams: list[StreamScan] = []
        self._notes: list[str] = []
        self._audits: list[Json] = []
        # What this scan has decoded itself, and what of that a GPU has.
        self._seen = 0
        self._on_gpu = 0
        self._stopped = False
        self._failures = 0
        self._given_up: str | None = None

    def close(self) -> None:
        """Let go of the file; more than once is fine."""
        self._digest.close()
        if self._recall is not None:
            self._recall.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def reading_settings(self, gpu: GpuSettings | None = None) -> ReadingSettings:
        """What its workers are started with."""
        limits = self._settings.limits
        return ReadingSettings(
            name=shown_name(self.path),
            max_pixels=limits.max_pixels,
            max_streams=limits.max_streams,
            preparations=[manifest.preparation for manifest in self._manifests],
            gpu=gpu,
        )

    # What to do ---------------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be done."""
        if self._found is not None:
            return True
        return self._problem is not None or (self._facts is not None and self._stream is None and not self._tracks)

    @property
    def has_work(self) -> bool:
        """Whether :meth:`next_task` has something."""
        return self._probe_state == "due" or self._survey_due or (self._stream is not None and self._stream.has_queued)

    def next_task(self) -> tuple[Task, Errand | None] | None:
        """What a worker of this file should do next; None if there is nothing, or not yet."""
        if self._probe_state == "due":
            self._probe_state = "under way"
            return ProbeTask(), None
        stream = self._stream
        if stream is None:
            return None
        if self._survey_due:
            self._survey_due = False
            return stream.survey_task(), None
        while (errand := stream.next_errand()) is not None:
            piece = None if self._recall is None else self._recall.piece(self._key(errand))
            if piece is None:
                return stream.task(errand), errand
            self._take_over(stream, errand, piece)
        return None

    def _key(self, errand: Errand) -> str:
        track = self._current.track
        return f"{track.index}/{track.kind}/{errand.key}"

    def _take_over(self, stream: StreamJob, errand: Errand, piece: Piece) -> None:
        """An interrupted scan has done this already."""
        errand.ledger, errand.picture, errand.answered = piece.ledger, piece.picture, True
        for sample, end_pts in piece.results():
            stream.keep(errand, sample, end_pts)
            self.samples += 1
        stream.looked(errand)

    def put_back(self, task: Task, errand: Errand | None) -> None:
        """A worker ended before it began with a task."""
        if errand is not None and self._stream is not None:
            self._stream.give_back(errand)
        elif isinstance(task, SurveyTask):
            self._survey_due = True
        elif isinstance(task, ProbeTask):
            self._probe_state = "due"

    # What workers say ---------------------------------------------------------------------------

    def heard(self, reply: Reply, task: Task, errand: Errand | None) -> bool:
        """Take a reply to a task; whether the task is over.

        Raises:
            ValueError: It makes no sense; the worker is not to be believed any more.
        """
        match reply:
            case Probed() if isinstance(task, ProbeTask):
                self._probed(reply.facts)
            case Found() if isinstance(task, SurveyTask):
                self._current.found(reply.part)
                return False
            case SurveyDone() if isinstance(task, SurveyTask):
                self._current.surveyed(reply.known)
            case Working():
                return False
            case Seen() if errand is not None:
                if len(reply.geometries) != len(self._manifests):
                    raise ValueError("Another number of images than there are models.")
                self._current.seen(errand, reply.pts, reply.end_pts)
                return False
            case LookDone() if errand is not None:
                errand.ledger, errand.picture, errand.answered = reply.ledger, reply.picture, True
                self._settle(errand)
            case Failed():
                self._failed(reply, task, errand)
            case _:
                raise ValueError(f"{type(reply).__name__} does not answer {type(task).__name__}.")
        return True

    def _failed(self, reply: Failed, task: Task, errand: Errand | None) -> None:
        if errand is not None:
            self._current.failed(errand, reply.message, retry=False)
        elif isinstance(task, SurveyTask):
            self._current.survey_failed(reply.message)
        else:
            kind = NotVideoError if reply.kind == "NotVideoError" else SourceError
            self._problem = kind(reply.message)

    def judged(self, errand: Errand, seen: Seen, predictions: Predictions) -> None:
        """The models have spoken of a picture."""
        self.samples += 1
        self._on_gpu += seen.on_gpu
        self._seen += 1
        self._current.judged(errand, seen.pts, seen.end_pts, predictions)
        self._settle(errand)

    def _settle(self, errand: Errand) -> None:
        if errand.is_done:
            if self._recall is not None and errand.attempt == 0:
                self._recall.record(self._key(errand), Piece.of(errand.samples, errand.ledger, errand.picture))
            self._current.looked(errand)

    def lost(self, task: Task, errand: Errand | None, reason: str) -> None:
        """A worker did not survive a task."""
        self._failures += 1
        if errand is not None:
            self._current.failed(errand, reason, retry=self._given_up is None)
        elif isinstance(task, SurveyTask):
            if self._given_up is None and self._current.survey_again():
                self._survey_due = True
            else:
                self._current.survey_failed(reason)
        elif self._probe_attempts == 0 and self._given_up is None:
            self._probe_attempts = 1
            self._probe_state = "due"
        else:
            name = shown_name(self.path)
            self._problem = SourceError(f"{name}: the process that opened it did not survive that: it was {reason}.")
        if self._failures > self._settings.limits.max_failures:
            self.give_up(f"more than {self._settings.limits.max_failures} workers did not survive it")

    def give_up(self, reason: str) -> None:
        """Do no more for this input; what was not looked at is reported."""
        if self._given_up is None:
            self._given_up = reason
            self._notes.append(f"Given up: {reason}.")
        if self._stream is not None:
            self._stream.abandon()
            if self._survey_due:
                self._survey_due = False
                self._stream.survey_failed("given up before")
        if self._facts is None and self._problem is None:
            self._problem = SourceError(f"{shown_name(self.path)}: {reason}.")

    @property
    def is_given_up(self) -> bool:
        """Whether :meth:`give_up` was called."""
        return self._given_up is not None

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() - self.began > self._settings.limits.file_seconds

    # From stream to stream ----------------------------------------------------------------------

    @property
    def _current(self) -> StreamJob:
        if self._stream is None:
            raise ValueError("No stream is being read.")
        return self._stream

    def _probed(self, facts: Probe) -> None:
        if self._facts is not None or not facts.tracks or len(facts.tracks) > 2 * self._settings.limits.max_streams:
            raise ValueError("Facts that make no sense.")
        self._probe_state = "done"
        self._facts = facts
        self._notes += [f"Not looked at: {text}." for text in facts.unlisted]
        start, length = self._settings.start, facts.duration_seconds
        if start is not None and length is not None and start >= (facts.start_seconds or 0) + length:
            end = float((facts.start_seconds or 0) + length)
            name = shown_name(self.path)
            self._refusal = SourceError(f"{name}: ends at {end:g} s, before the start asked for ({float(start):g} s).")
            return
        self._tracks.extend(facts.tracks)
        self._next_stream()

    def _next_stream(self) -> None:
        self._stream = None
        while self._tracks and self._stream is None:
            track = self._tracks.popleft()
            if self._stopped or self._given_up is not None:
                why = "stopped before" if self._stopped else "given up before"
                self._notes.append(f"{stream_name(track)} was not looked at: {why}.")
                if not self._stopped:
                    self._streams.append(unseen(track))
                continue
            assert self._facts is not None
            limit = self._settings.limits.max_packets
            self._stream = StreamJob(track, self._facts, self._settings, self._suspicion, limit)
            self._survey_due = True

    def _suspicion(self, predictions: Predictions) -> tuple[float, ...]:
        """How suspicious a picture is, by category: 1 is enough for a reviewer."""
        return tuple(
            category.best_label(predictions)[1] / max(category.review, 1e-6) for category in self._policy.categories
        )

    def advance(self) -> None:
        """Go on with what can be gone on with; to be called when something has changed."""
        if self._recall is not None and self._digest.is_done and not self._recall.was_asked:
            found = self._recall.find(self._digest.hexdigest())
            if self._probe_state == "hash":
                self._probe_state, self._found = "due", found
        stream = self._stream
        if stream is None:
            return
        while self._settings.stop_at is not None and not stream.stopped and stream.settle():
            recent = stream.settled()
            recent = dataclasses.replace(recent, samples=recent.samples[-_STOP_WINDOW_SAMPLES:])
            if _reaches(find_segments([recent], self._policy), self._settings.stop_at):
                stream.stop()
                self._stopped = True
        if stream.advance():
            self._finish(stream)
            self._next_stream()

    def _finish(self, stream: StreamJob) -> None:
        track = stream.track
        result, ledger = stream.result(video_json)
        if self._streams and not ledger.packets and not ledger.truncated and not stream.troubles:
            self._notes.append(f"{stream_name(track)} is empty.")
            return
        self._notes += notes_of(ledger, track)
        self._notes += [f"{stream_name(track)}: {trouble}." for trouble in stream.troubles]
        self._streams.append(result)
        if stream.audit is not None:
            self._audits.append({"stream": track.index, "kind": track.kind, **msgspec.structs.asdict(stream.audit)})
        if ledger.hidden and track.kind == "video":
            self._tracks.appendleft(dataclasses.replace(track, kind="hidden", frames=ledger.hidden))

    @property
    def position_seconds(self) -> float:
        """Up to where the present stream was looked at."""
        return 0.0 if self._stream is None else self._stream.seen_seconds

    @property
    def duration_seconds(self) -> float | None:
        """Up to where it claims to go, None if unknown."""
        if self._settings.end is not None:
            return float(self._settings.end)
        if self._facts is None or self._facts.duration_seconds is None:
            return None
        return float(self._facts.duration_seconds + (self._facts.start_seconds or 0))

    # The result ---------------------------------------------------------------------------------

    def timeline(self, models: Sequence[Model]) -> Timeline | None:
        """What came of it; None for a file that is to be passed over.

        Raises:
            SourceError: The file was changed meanwhile, or has no such part.
        """
        if self._problem is not None and self.unsure and isinstance(self._problem, NotVideoError):
            return None
        if self._refusal is not None:
            raise self._refusal
        sha256 = self._digest.hexdigest()
        after = os.fstat(self.descriptor)
        before = self._before
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceUnreadableError(f"{self.path}: changed while it was scanned. Scan it again when it is whole.")
        if self._found is not None:
            return self._judged_again(self._found)
        timeline = self._assembled(sha256, models)
        if self._recall is not None:
            if not self._recall.was_asked:
                self._recall.find(sha256)
            # What a worker did not survive may go well on another day.
            self._recall.finish(timeline, keep=bool(self._streams) and not self._failures and not self.is_given_up)
        return timeline

    def _judged_again(self, found: Timeline) -> Timeline:
        note = f"Judged again from the scan of {found.provenance['created']}; --fresh scans again."
        notes = (*(text for text in found.notes if not text.startswith("Judged again from")), note)
        source = {**found.source, "name": self._name}
        return judge(dataclasses.replace(found, source=source, notes=notes), self._policy)

    def _assembled(self, sha256: str, models: Sequence[Model]) -> Timeline:
        if self._problem is not None:
            return self._unscannable(str(self._problem), sha256, models)
        if not any(stream.samples for stream in self._streams):
            reason = f"{self.path}: no frame of it can be decoded. Get the file again from where it came."
            return self._unscannable(reason, sha256, models)
        whole = all(is_whole(stream) for stream in self._streams) and not self._stopped and not self.is_given_up
        whole = whole and not (self._facts and self._facts.unlisted)
        status: Status = "complete" if whole else "partial"
        found = find_segments(self._streams, self._policy)
        if self._settings.gpu is not None:
            self._notes += gpu_notes(self._seen, self._on_gpu)
        if self._stopped:
            self._notes.insert(0, f"Stopped when the verdict reached {self._settings.stop_at}, as asked.")
        return Timeline(
            source=self._source(sha256),
            status=status,
            verdict=verdict_of(found, status),
            notes=(*self._notes, *dict.fromkeys(model.info.note for model in models if model.info.note)),
            coverage=self._streams[0].coverage,
            segments=found,
            streams=tuple(self._streams),
            provenance=self._provenance(models),
        )

    def _unscannable(self, reason: str, sha256: str, models: Sequence[Model]) -> Timeline:
        return Timeline(
            source=self._source(sha256),
            status="unscannable",
            verdict="review",
            notes=(reason, *self._notes),
            coverage=self._streams[0].coverage if self._streams else (),
            segments=(),
            streams=tuple(self._streams),
            provenance=self._provenance(models),
        )

    @property
    def _name(self) -> str:
        """The file's name as text that any JSON can hold."""
        return os.fsencode(self.path.name).decode("utf-8", "replace")

    def _source(self, sha256: str) -> Json:
        first = self._streams[0] if self._streams else None
        coverage = first.coverage if first is not None else ()
        start = coverage[0].start_seconds if coverage else 0.0
        end = coverage[-1].end_seconds if coverage else start
        facts = self._facts
        return {
            "name": self._name,
            "sha256": sha256,
            "size_bytes": self._before.st_size,
            "format": None if facts is None else facts.format,
            "start_seconds": start,
            "duration_seconds": round(end - start, 6),
            "container_start_seconds": start_of(facts),
            "stream": 0 if first is None else first.stream,
            "kind": "video" if first is None else first.kind,
            "video": None if first is None else first.video,
            "audio": [] if facts is None else [dataclasses.asdict(track) for track in facts.audio],
        }

    def _decoding(self) -> Json:
        """Where pictures were decoded, of those that were not taken over from an earlier scan."""
        if self._settings.gpu is None:
            return {"device": "cpu"}
        counts = {"pictures_on_gpu": self._on_gpu, "pictures_on_cpu": self._seen - self._on_gpu}
        return {"device": f"cuda:{self._settings.gpu}", **counts}

    def _provenance(self, models: Sequence[Model]) -> Json:
        settings, policy = self._settings, self._policy
        return {
            "vidmod": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "models": [model_json(model) for model in models],
            "sampling": {
                "mode": settings.sampling,
                **({"fps": float(settings.fps)} if settings.sampling == "uniform" else {}),
                "max_gap_seconds": round(float(settings.interval), 6),
                "start_seconds": None if settings.start is None else float(settings.start),
                "end_seconds": None if settings.end is None else float(settings.end),
                "stop_at": settings.stop_at,
                **({"seed": settings.seed, "audits": self._audits} if settings.sampling == "adaptive" else {}),
            },
            "decoding": self._decoding(),
            "smoothing": policy.smoothing.as_dict(),
            "policy": policy.as_document(),
        }


def shown_name(path: Path) -> str:
    """A file's path as text that can be printed on one line."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _reaches(found: Sequence[Segment], verdict: str) -> bool:
    return any(VERDICTS.index(segment.verdict) >= VERDICTS.index(verdict) for segment in found)
