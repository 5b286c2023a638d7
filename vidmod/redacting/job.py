"""The redact job: find, look closely, cover, write aside, verify, rename."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from vidmod._version import __version__
from vidmod.digest import Digest
from vidmod.errors import (
    OutputError,
    SourceError,
    SourceUnreadableError,
    TimelineError,
    UsageError,
    choose,
)
from vidmod.jobs import shown_name
from vidmod.judging import judge
from vidmod.media import Probe, VideoTrack, open_readable
from vidmod.policy import Policy
from vidmod.redacting.aside import Aside
from vidmod.redacting.clerk import Clerk, Office
from vidmod.redacting.covering import Covered, Rules, cover, end_pts, joined, merged, still_visible
from vidmod.redacting.messages import Covering, RewriteTask, Rewritten, VerifyTask
from vidmod.redacting.verifying import CopyError, Sent, check_packets, check_times, tolerance_of
from vidmod.redaction import SHAPES, STYLES
from vidmod.scanning import Progress, Scanner
from vidmod.settings import ScanSettings
from vidmod.targets import Targets
from vidmod.timebase import Span, format_time, to_pts, to_seconds, union
from vidmod.timeline import Json, Sample, Segment, Timeline
from vidmod.tracking import Tracking

SEGMENT_MODES = ("boxes", "slate")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")
_WORST_CRF = 63
# What a reviewer's segment may be off by, beyond what lies between two samples.
_MARGIN_SECONDS = 0.25
# What still shows is covered once more, and then given up.
_MOST_ROUNDS = 2
# Beside what was covered, models look again.
_BESIDE_SECONDS = 0.2
# A redacted file that is so much larger than its source is none.
_MOST_TIMES, _MOST_MORE_BYTES = 8, 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactSettings:
    """How a file is redacted.

    Attributes:
        scan: How it is looked through, where no timeline says what is in it.
        labels: What to cover; none for what the policy has covered.
        style: `fill`, `mosaic` or `blur`. Only `fill` cannot be undone.
        shape: `box` or `ellipse`.
        margin: How much wider and higher than what was found a covered region is, as a share of its size.
        segments: `boxes` covers what was found where it was found; `slate` the whole picture all the while.
        crf, preset: Of the encoder; None for what fits the source.
        full_reencode: Encode every picture, not only groups that have changed.
        verify: Decode the output, compare it with the source, and look at it again.
    """

    scan: ScanSettings = field(default_factory=ScanSettings)
    labels: Sequence[str] = ()
    style: str = "fill"
    shape: str = "box"
    margin: float = 0.2
    segments: str = "boxes"
    crf: int | None = None
    preset: str | None = None
    full_reencode: bool = False
    verify: bool = True

    def __post_init__(self) -> None:
        choose("style", self.style, STYLES)
        choose("shape", self.shape, SHAPES)
        choose("segments", self.segments, SEGMENT_MODES)
        if self.preset is not None:
            choose("preset", self.preset, PRESETS)
        if self.crf is not None and not 0 <= self.crf <= _WORST_CRF:
            raise UsageError(f"Invalid crf ({self.crf}). Use 0 (best) to {_WORST_CRF}.")
        if not 0 <= self.margin <= 10:
            raise UsageError(f"Invalid margin ({self.margin:g}). Use a share from 0 to 10, such as 0.2.")


@dataclass(frozen=True, slots=True)
class Redaction:
    """What was done.

    Attributes:
        timeline: Of the source, with the tracks that were covered.
        covered_pictures: Pictures of which something is covered.
        written: How the file was written.
        spans: When something is covered, in seconds.
        checks: In words, what was verified; none if nothing was.
        settings: How it was asked for.
        output: The new file's `name`, `sha256` and `size_bytes`.
    """

    timeline: Timeline
    covered_pictures: int
    written: Rewritten
    spans: tuple[Span, ...]
    checks: tuple[str, ...]
    settings: RedactSettings
    output: Json

    def as_document(self) -> Json:
        """The JSON document that lies beside the output."""
        source, settings, written = self.timeline.source, self.settings, self.written
        text = "".join(self.timeline.dumps(compact=True))
        policy = self.timeline.provenance["policy"]
        return {
            "schema": "vidmod.redaction/1",
            "vidmod": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "input": {key: source[key] for key in ("name", "sha256", "size_bytes")},
            "output": self.output,
            "timeline_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "policy_sha256": hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest(),
            "labels": list(settings.labels),
            "style": settings.style,
            "shape": settings.shape,
            "margin": settings.margin,
            "segments": settings.segments,
            "covered_pictures": self.covered_pictures,
            "covered": [{"start_seconds": span.start, "end_seconds": span.end} for span in self.spans],
            "written": {
                "format": written.format,
                "encoder": written.encoder,
                "copied_packets": written.copied,
                "encoded_pictures": written.encoded,
                "fully_encoded_because": written.full,
                "undecodable_pictures": written.lost,
            },
            "notes": list(written.notes),
            "verified": list(self.checks),
        }


class Redactor:
    """Redacts one file after the other with the same settings. A context manager, for use by one thread.

    Raises:
        UsageError: A setting is wrong, or nothing is to be covered.
    """

    def __init__(self, settings: RedactSettings, *, notify: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self._scanner = Scanner(settings.scan, notify=notify)
        self._office = Office(settings.scan.limits)

    def __enter__(self) -> Redactor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and release the models; more than once is fine."""
        self._office.close()
        self._scanner.close()

    def redact(
        self,
        source: Path,
        output: Path,
        *,
        timeline: Timeline | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> Redaction:
        """Write a file in which nothing shows that is to be covered.

        Args:
            source: A local file.
            output: Where to write; what was there is replaced when the new file is whole and verified.
            timeline: What is in the source, as a reviewer left it; None to scan it first.
            progress: Told what is being done, and how far that is, from 0 to 1.

        Raises:
            SourceError: The source cannot be redacted.
            OutputError: The output cannot be written, or something still shows in it.
            TimelineError: The timeline is of another file.
        """
        job = _Job(self, source, output, timeline, progress or _silent)
        try:
            return job.run()
        finally:
            job.close()

    @property
    def scanner(self) -> Scanner:
        """What looks at whole files."""
        return self._scanner

    @property
    def office(self) -> Office:
        """What starts workers."""
        return self._office


def redact(
    source: str | Path,
    output: str | Path,
    *,
    timeline: Timeline | None = None,
    progress: Callable[[str, float], None] | None = None,
    notify: Callable[[str], None] | None = None,
    **settings: Any,
) -> Redaction:
    """Write a video in which nothing shows that is to be covered; see :meth:`Redactor.redact`.

    Args:
        source: A local file.
        output: Where to write; what was there is replaced when the new file is whole and verified.
        timeline: What is in the source, as a reviewer left it; None to scan it first.
        progress: Told what is being done, and how far that is, from 0 to 1.
        notify: Told when weights have to be pulled.
        settings: The fields of :class:`RedactSettings`.

    Example:
        >>> vidmod.redact("upload.mp4", "safe.mp4", labels=["FACE_FEMALE", "FACE_MALE"]).covered_pictures
        311
    """
    with Redactor(RedactSettings(**settings), notify=notify) as redactor:
        return redactor.redact(Path(source), Path(output), timeline=timeline, progress=progress)


def _silent(_what: str, _share: float) -> None: ...


class _Job:
    """One file's redaction."""

    def __init__(
        self,
        redactor: Redactor,
        source: Path,
        output: Path,
        timeline: Timeline | None,
        progress: Callable[[str, float], None],
    ) -> None:
        self._redactor = redactor
        self._settings = redactor.settings
        self._source = source
        self._output = output
        self._given = timeline
        self._progress = progress
        self._targets = self._chosen()
        self._tracking = Tracking(margin=self._settings.margin)
        self._descriptor = open_readable(source)
        self._digest = Digest(source, self._descriptor)
        self._digest.start()
        self._base = Fraction(1)
        self._format: str | None = None
        self._unseen: list[Span] = []

    def close(self) -> None:
        self._digest.close()
        os.close(self._descriptor)

    def run(self) -> Redaction:
        self._check_output()
        timeline = self._looked_through()
        covered, timeline = self._looked_closely(timeline)
        with (
            Aside(self._output) as aside,
            Clerk(self._office, self._descriptor, shown_name(self._source)) as clerk,
        ):
            track = _track_of(clerk.probe(), timeline)
            slated = self._slated(timeline, track)
            covered, written, checks = self._written(clerk, track, covered, slated, aside)
            output = {"name": self._output.name, **aside.facts()}
            aside.finish()
        base = track.time_base
        spans = [Span(to_seconds(start, base), to_seconds(end, base)) for start, end in (*covered.touched, *slated)]
        return Redaction(timeline, written.drawn, written, tuple(union(spans)), checks, self._settings, output)

    def _written(
        self, clerk: Clerk, track: VideoTrack, covered: Covered, slated: Sequence[tuple[int, int]], aside: Aside
    ) -> tuple[Covered, Rewritten, tuple[str, ...]]:
        """Write and verify; once more if anything still shows.

        Raises:
            OutputError: Something shows even then.
        """
        full: str | None = "asked for" if self._settings.full_reencode else None
        rounds = 0
        while True:
            written = self._write(clerk, track, covered, slated, aside, full)
            if not self._settings.verify:
                return covered, written, ()
            try:
                checks = self._verified(clerk, track, covered, slated, written, aside)
            except CopyError as exc:
                if written.full is not None:
                    raise
                full = str(exc).partition(": ")[2].rstrip(".")
                aside.empty()
                continue
            more = self._looked_again(covered, slated, track, aside)
            rounds += 1
            if not more.rows:
                return covered, written, (*checks, f"models find nothing more in what was covered (round {rounds})")
            if rounds == _MOST_ROUNDS:
                seen = format_time(float(more.rows[0].pts * track.time_base))
                raise OutputError(
                    f"{self._output}: something still shows at {seen} after a second round. Try a wider --margin."
                )
            covered = dataclasses.replace(
                covered,
                rows=merged(covered.rows, more.rows),
                touched=tuple(joined(sorted((*covered.touched, *more.touched)))),
            )
            aside.empty()

    def _looked_again(
        self, covered: Covered, slated: Sequence[tuple[int, int]], track: VideoTrack, aside: Aside
    ) -> Covered:
        """What models still find in the output, around what was covered."""
        base = track.time_base
        spans = [
            Span(to_seconds(start, base) - _BESIDE_SECONDS, to_seconds(end, base) + _BESIDE_SECONDS)
            for start, end in (*covered.touched, *slated)
        ]
        samples = self._dense(union(spans), aside.path, "looking again") if spans else {}
        rules = self._rules()
        found = still_visible([samples[pts] for pts in sorted(samples)], covered.rows, rules)
        touched = [(row.pts, end_pts(samples[row.pts], base)) for row in found]
        return Covered(tuple(found), tuple(joined(touched)), (), ())

    @property
    def _office(self) -> Office:
        return self._redactor.office

    def _chosen(self) -> Targets:
        policy = self._redactor.scanner.policy
        labels = self._settings.labels
        return Targets.of_labels(labels, policy) if labels else Targets.of_policy(policy)

    def _check_output(self) -> None:
        if not self._output.parent.is_dir():
            raise OutputError(f"{self._output}: there is no folder {self._output.parent}. Make it first.")
        if self._output.exists() and (not self._output.is_file() or self._output.samefile(self._source)):
            raise UsageError(f"{self._output}: cannot be replaced. Name another file than the source.")

    # Finding ------------------------------------------------------------------------------------

    def _looked_through(self) -> Timeline:
        timeline = self._given
        if timeline is None:
            timeline = self._redactor.scanner.scan(self._source, progress=self._scanning("looking through"))
        if timeline.status == "unscannable" or not timeline.streams:
            raise SourceError(timeline.notes[0] if timeline.notes else f"{self._source}: cannot be scanned.")
        if timeline.source["sha256"] != self._digest.hexdigest():
            raise TimelineError(f"{self._source}: the timeline is of another file. Scan this one.")
        labels = self._settings.labels
        if self._given is not None and (unjudged := Targets.unjudged(labels, _policy_of(timeline))):
            names = ", ".join(unjudged)
            raise TimelineError(f"{self._source}: the timeline does not judge {names}. Leave it out, or judge it anew.")
        if timeline.streams[0].kind != "video":
            raise SourceError(f"{self._source}: holds no video stream, only {timeline.streams[0].kind}.")
        return timeline

    def _scanning(self, what: str) -> Callable[[Progress], None]:
        def tell(state: Progress) -> None:
            whole = state.duration_seconds
            self._progress(what, min(1.0, state.position_seconds / whole) if whole else 0.0)

        return tell

    def _looked_closely(self, timeline: Timeline) -> tuple[Covered, Timeline]:
        """Look at every picture around what was found, and further while it goes on; what is covered."""
        extent = Span(timeline.coverage[0].start_seconds, timeline.coverage[-1].end_seconds)
        video = timeline.streams[0].video
        base = self._base = Fraction(video["time_base"])
        self._format = timeline.source["format"]
        turned = video["rotation"] in (90, -90)
        size = (video["height"], video["width"]) if turned else (video["width"], video["height"])
        rules = self._rules()
        samples: dict[int, Sample] = {}
        further = tuple(self._stretches(timeline))
        covered = Covered((), (), (), ())
        # It ends: every round sees pictures that none before it has seen.
        while wanted := _clipped(further, extent):
            known = len(samples)
            samples.update(self._dense(wanted, self._source, "looking closely"))
            if len(samples) == known:
                break
            covered = cover([samples[pts] for pts in sorted(samples)], size, base, extent, rules)
            further = covered.further
        return covered, dataclasses.replace(timeline, tracks=covered.tracks)

    def _rules(self) -> Rules:
        return Rules(
            targets=self._targets,
            tracking=self._tracking,
            slate=self._settings.segments == "slate",
            truth=None if self._given is None else tuple(self._accepted()),
            drawn=() if self._given is None else self._given.tracks,
            scanned=() if self._given is None else judge(self._given, _policy_of(self._given)).segments,
            reach=self._reach,
        )

    def _stretches(self, timeline: Timeline) -> list[Span]:
        if self._given is None:
            return self._targets.stretches(timeline)
        spans, reach = [], self._reach
        for row in self._accepted():
            before, after = row.start_seconds - reach, row.end_seconds + reach
            if self._has_boxes(row):
                spans.append(Span(before, after))
            else:  # its inside is covered anyway
                spans += [Span(before, row.start_seconds), Span(row.end_seconds, after)]
        spans += [Span(row["start_seconds"], row["end_seconds"]) for row in timeline.tracks]
        return union(spans)

    @property
    def _reach(self) -> float:
        """How far a scan's borders may be off, in seconds."""
        sampling = {} if self._given is None else self._given.provenance.get("sampling", {})
        return float(sampling.get("max_gap_seconds") or 0.0) + _MARGIN_SECONDS

    def _accepted(self) -> list[Segment]:
        """A reviewer's segments that are to be covered."""
        names = {category.name for category in self._targets.categories}
        segments = () if self._given is None else self._given.segments
        labels = {name.rpartition(".")[2] for name in self._settings.labels}
        return [row for row in segments if row.stream is None and (row.category in names or labels & set(row.labels))]

    def _has_boxes(self, segment: Segment) -> bool:
        """Whether a scan found something in a segment that can be covered where it is."""
        assert self._given is not None
        return any(
            self._targets.boxes(sample.predictions)
            for sample in self._given.samples
            if sample.time_seconds < segment.end_seconds and segment.start_seconds < sample.end_seconds
        )

    def _slated(self, timeline: Timeline, track: VideoTrack) -> list[tuple[int, int]]:
        """When the whole picture is covered, whatever it shows, [start, end) in the track's time base.

        What nobody has seen, and a reviewer's segments in which there is no box to cover: nobody needs to look there.
        """
        spans = [Span(row.start_seconds, row.end_seconds) for row in timeline.coverage if row.state != "analysed"]
        spans += [Span(row.start_seconds, row.end_seconds) for row in self._accepted() if not self._has_boxes(row)]
        spans += self._unseen
        base = track.time_base
        return [(int(_fraction(span.start) // base), to_pts(_fraction(span.end), base)) for span in union(spans)]

    def _dense(self, spans: Sequence[Span], path: Path, what: str) -> dict[int, Sample]:
        """Every picture that is shown in some spans, in seconds, by its pts in the source's time base."""
        wanted = tuple((_fraction(span.start), _fraction(span.end)) for span in spans)
        settings = dataclasses.replace(
            self._settings.scan, sampling="all", spans=wanted, store=None, stop_at=None, start=None, end=None
        )
        with Scanner(settings, models_of=self._redactor.scanner) as scanner:
            found = scanner.scan(path, progress=self._scanning(what))
        if not found.streams:
            raise OutputError(f"{path}: cannot be looked at again. {' '.join(found.notes)}")
        self._unseen += [
            Span(row.start_seconds, row.end_seconds) for row in found.coverage if row.state == "undecodable"
        ]
        factor = Fraction(found.streams[0].video["time_base"]) / self._base
        return {
            round(sample.pts * factor): dataclasses.replace(sample, pts=round(sample.pts * factor))
            for sample in found.samples
        }

    # Writing ------------------------------------------------------------------------------------

    def _write(
        self,
        clerk: Clerk,
        track: VideoTrack,
        covered: Covered,
        slated: Sequence[tuple[int, int]],
        aside: Aside,
        full: str | None,
    ) -> Rewritten:
        clerk.remember(covered.rows)
        task = RewriteTask(
            track=track,
            touched=list(covered.touched),
            slated=list(slated),
            style=self._settings.style,
            shape=self._settings.shape,
            crf=self._settings.crf,
            preset=self._settings.preset,
            full=full is not None,
            threads=self._settings.scan.workers or len(os.sched_getaffinity(0)),
        )
        most = os.fstat(self._descriptor).st_size * _MOST_TIMES + _MOST_MORE_BYTES
        self._progress("writing", 0.0)
        written = next(iter(clerk.rewrite(task, aside.descriptor, most)))
        return written if full is None else msgspec.structs.replace(written, full=full)

    # Verifying ----------------------------------------------------------------------------------

    def _verified(
        self,
        clerk: Clerk,
        track: VideoTrack,
        covered: Covered,
        slated: Sequence[tuple[int, int]],
        written: Rewritten,
        aside: Aside,
    ) -> tuple[str, ...]:
        """Read the output back.

        Raises:
            OutputError: It is not what it should be.
        """
        self._progress("verifying", 0.0)
        with Clerk(self._office, aside.descriptor_for_reading(), f"{shown_name(self._output)} (redacted)") as reader:
            facts = reader.probe()
            mine = next((row for row in facts.tracks if row.kind == "video"), None)
            if mine is None or len(facts.tracks) != 1:
                raise OutputError(f"{self._output}: {len(facts.tracks)} picture streams were written, not one.")
            reader.remember(_rebased(covered.rows, track, mine))
            factor = track.time_base / mine.time_base
            whole = [(round(start * factor), round(end * factor)) for start, end in slated]
            task = VerifyTask(track=mine, slated=whole, style=self._settings.style, shape=self._settings.shape)
            deviations = {pts * mine.time_base: level for pts, level in reader.pictures(task)}
            theirs = [Sent(track.time_base, *row) for row in clerk.packets(track) if row[0] is not None]
            ours = [Sent(mine.time_base, *row) for row in reader.packets(mine) if row[0] is not None]
        worst = max(deviations.values(), default=0.0)
        if worst > tolerance_of(written.encoder, self._settings.crf):
            at = next(time for time, level in deviations.items() if level == worst)
            raise OutputError(f"{self._output}: what is to be covered shows at {format_time(float(at))}.")
        checks = [f"{len(deviations)} pictures decoded, covered to {worst:.1f} of 255 levels"]
        name = str(self._output)
        checks.append(check_times(name, theirs, set(deviations), written, timed=self._format != "avi"))
        checks.append(check_packets(name, theirs, ours, track.time_base, written))
        return tuple(checks)


def _track_of(facts: Probe, timeline: Timeline) -> VideoTrack:
    stream = timeline.streams[0].stream
    track = next((row for row in facts.tracks if row.index == stream and row.kind == "video"), None)
    if track is None:
        raise SourceUnreadableError("The file is not what it was when it was scanned. Scan it again.")
    return track


def _policy_of(timeline: Timeline) -> Policy:
    return Policy.from_document(timeline.provenance["policy"], "timeline")


def _rebased(rows: Sequence[Covering], theirs: VideoTrack, mine: VideoTrack) -> tuple[Covering, ...]:
    factor = theirs.time_base / mine.time_base
    return tuple(Covering(pts=round(row.pts * factor), whole=row.whole, boxes=row.boxes) for row in rows)


def _clipped(spans: Sequence[Span], extent: Span) -> list[Span]:
    rows = [
        Span(max(span.start, extent.start), min(span.end, extent.end))
        for span in spans
        if span.end > extent.start and span.start < extent.end
    ]
    return union(rows)


def _fraction(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1_000_000), 1_000_000)
