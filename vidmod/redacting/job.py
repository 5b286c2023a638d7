"""The redact job: find, look closely, cover, write aside, verify, rename."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from vidmod.cuts import Cuts
from vidmod.digest import Digest
from vidmod.errors import (
    OutputError,
    SourceError,
    SourceUnreadableError,
    TimelineError,
    UsageError,
)
from vidmod.jobs import shown_name
from vidmod.media import Probe, VideoTrack, open_readable
from vidmod.outputs import Aside, followed, is_special
from vidmod.redacting.clerk import Clerk, Office
from vidmod.redacting.covering import Covered, combined, cover, end_pts, joined, merged, still_tracked, still_visible
from vidmod.redacting.messages import (
    Covering,
    Heard,
    ImageTask,
    ListenTask,
    ListTask,
    Packets,
    Pictures,
    RewriteTask,
    Rewritten,
    Task,
    VerifyTask,
)
from vidmod.redacting.naming import format_for
from vidmod.redacting.result import Redaction
from vidmod.redacting.settings import RedactSettings
from vidmod.redacting.stills import verify_image
from vidmod.redacting.verifying import (
    CopyError,
    Sent,
    check_cuts,
    check_others,
    check_packets,
    check_silence,
    check_times,
    cuts_of,
    tolerance_of,
)
from vidmod.redacting.wanted import Wanted, exactly
from vidmod.scanning import Progress, Scanner
from vidmod.targets import Targets
from vidmod.timebase import Span, complement, format_time, to_pts, to_seconds, union
from vidmod.timeline import Sample, Timeline

DOCUMENT_SUFFIX = ".redaction.json"
# Where what was found goes on, it is followed so far, then twice as far, and so on.
_AHEAD_SECONDS = 0.75
# What still shows is covered once more, and then given up.
_MOST_ROUNDS = 2
# Beside what was covered, models look again.
_BESIDE_SECONDS = 0.2
# Shorter parts of it are not worth a worker's start.
_LEAST_PART_SECONDS = 5
# A redacted file that is so much larger than its source is none.
_MOST_TIMES, _MOST_MORE_BYTES = 8, 256 << 20


class Redactor:
    """Redacts one file after the other with the same settings. A context manager, for use by one thread.

    Raises:
        UsageError: A setting is wrong, or nothing is to be covered.
    """

    def __init__(self, settings: RedactSettings, *, notify: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self._scanner = Scanner(settings.scan, notify=notify)
        self._lookers: dict[tuple[str, ...], Scanner] = {}
        self._office = Office(settings.scan.limits, on_gpu=settings.gpu is not None)

    def __enter__(self) -> Redactor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and release the models; more than once is fine."""
        self._office.close()
        while self._lookers:
            self._lookers.popitem()[1].close()
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
            output: Where to write; what was there is replaced when the new file is whole and verified, and so is the
                document beside it that says what was done, `OUTPUT.redaction.json`. Of a link that is the file
                that it leads to.
            timeline: What is in the source, as a reviewer left it; None to scan it first.
            progress: Told what is being done, and how far that is, from 0 to 1.

        Raises:
            SourceError: The source cannot be redacted, or it changed meanwhile.
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

    def models_for(self, targets: Sequence[Targets]) -> tuple[str, ...]:
        """Those models of which anything that they say matters; all if it is none."""
        named = zip(self.settings.scan.models, self._scanner.manifests, strict=True)
        found = [
            name for name, item in named if any(targets_.wants(item.name, item.output.report) for targets_ in targets)
        ]
        return tuple(found or self.settings.scan.models)

    def looker(self, models: tuple[str, ...]) -> Scanner:
        """What looks at every picture of some spans, by these models."""
        if models not in self._lookers:
            settings = dataclasses.replace(
                self.settings.scan,
                models=models,
                policy=self._scanner.policy,
                sampling="all",
                store=None,
                stop_at=None,
                start=None,
                end=None,
            )
            self._lookers[models] = Scanner(settings, models_of=self._scanner)
        return self._lookers[models]

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
        output: Where to write; `OUTPUT.redaction.json` says what was done.
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


def document_path(output: Path) -> Path:
    """Where it says what was done to an output."""
    return output.with_name(output.name + DOCUMENT_SUFFIX)


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
        self._output = followed(output)
        self._document = document_path(self._output)
        self._given = timeline
        self._progress = progress
        scanner = redactor.scanner
        self._wanted = Wanted(source, redactor.settings, scanner.policy, scanner.manifests, timeline)
        self._descriptor = open_readable(source)
        self._before = os.fstat(self._descriptor)
        self._digest = Digest(source, self._descriptor)
        self._digest.start()
        self._base = Fraction(1)
        self._extent = Span(0.0, 0.0)
        self._format: str | None = None
        self._slates: list[Span] = []
        self._written_as = ""
        self._image = False
        self._unlisted: tuple[str, ...] = ()
        self._size = (0, 0)
        self._unseen: list[Span] = []

    def close(self) -> None:
        self._digest.close()
        os.close(self._descriptor)

    def run(self) -> Redaction:
        self._check_output()
        with Clerk(self._office, self._descriptor, shown_name(self._source)) as clerk:
            facts = clerk.probe(self._warm_up)
            self._choose_format(clerk, facts)
            timeline = self._looked_through()
            self._slates = self._wanted.slated(timeline)
            covered, timeline = self._looked_closely(timeline)
            return self._finished(clerk, facts, covered, timeline)

    def _warm_up(self) -> None:
        """Start what is needed, whatever a probe says: its worker takes as long to start as models take to load."""
        if self._given is not None and self._wanted.stretches(self._given):
            self._redactor.looker(self._models).warm_up()

    def _finished(self, clerk: Clerk, facts: Probe, covered: Covered, timeline: Timeline) -> Redaction:
        """Write aside, verify, rename."""
        with Aside(self._output) as aside:
            track = _track_of(facts, timeline)
            base = track.time_base
            slated = [
                (int(exactly(span.start) // base), to_pts(exactly(span.end), base))
                for span in union([*self._slates, *self._unseen])
            ]
            covered, written, checks = self._written(clerk, track, covered, slated, aside)
            spans, muted = (
                tuple(union(Span(to_seconds(start, base), to_seconds(end, base)) for start, end in rows))
                for rows in ((*covered.touched, *slated), self._wanted.muted(covered, slated, base))
            )
            shown, cuts = () if self._cutting else spans, cuts_of(written, base)
            name = os.fsencode(self._output.name).decode("utf-8", "replace")
            output = {"name": name, **aside.facts()}
            done = Redaction(timeline, written.drawn, written, shown, muted, checks, self._settings, output, cuts)
            self._finish(aside, done)
        return done

    def _finish(self, aside: Aside, done: Redaction) -> None:
        self._check_unchanged()
        with Aside(self._document) as document:
            document.write([json.dumps(done.as_document(), ensure_ascii=False, indent=2), "\n"])
            aside.finish_with(document)

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
            more = self._looked_again(covered, slated, track, written, aside)
            rounds += 1
            if not more.rows:
                where = "beside what was cut" if self._cutting else "in what was covered"
                return covered, written, (*checks, f"models find nothing more {where} (round {rounds})")
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
        self,
        covered: Covered,
        slated: Sequence[tuple[int, int]],
        track: VideoTrack,
        written: Rewritten,
        aside: Aside,
    ) -> Covered:
        """What models still find in the output, around what was covered, or on both sides of what was cut."""
        base = track.time_base
        cuts = cuts_of(written, base)
        shown = [
            Span(*(to_seconds(cuts.shifted(pts * base), Fraction(1)) for pts in row))
            for row in (*covered.touched, *slated)
        ]
        spans = [Span(row.start - _BESIDE_SECONDS, row.end + _BESIDE_SECONDS) for row in shown]
        try:
            models = self._redactor.models_for([rules.targets for rules in self._wanted.rules()])
            samples = self._dense(union(spans), aside.path, "looking again", models) if spans else {}
        except SourceError as exc:
            raise OutputError(f"{self._output}: cannot be looked at again ({exc}).") from exc
        samples = dict(_restored(sample, cuts, base) for sample in samples.values())
        known = () if self._cutting else covered.rows
        run = [samples[pts] for pts in sorted(samples)]
        found: tuple[Covering, ...] = ()
        for rules in self._wanted.rules():
            if seen := still_visible(run, known, rules):
                found = merged(merged(found, seen), still_tracked(run, known, self._size, base, rules))
        touched = [(row.pts, end_pts(samples[row.pts], base)) for row in found]
        return Covered(found, tuple(joined(touched)), (), ())

    @property
    def _cutting(self) -> bool:
        return self._settings.segments == "cut"

    @property
    def _office(self) -> Office:
        return self._redactor.office

    def _check_output(self) -> None:
        """Find out before hours of work what would go wrong after them."""
        if not self._output.parent.is_dir():
            raise OutputError(f"{self._output}: there is no folder {self._output.parent}. Make it first.")
        for path in (self._output, self._document):
            if is_special(path):
                raise UsageError(f"{path}: is a folder, a pipe or a device, and cannot be replaced. Name a file.")
            with Aside(path):
                pass
            if path.exists() and os.path.samestat(path.stat(), self._before):
                raise UsageError(f"{path}: is the source, and cannot be replaced. Name another file than the source.")

    def _check_unchanged(self) -> None:
        """What was looked at is what was written.

        Raises:
            SourceUnreadableError: It may not be.
        """
        after, before = os.fstat(self._descriptor), self._before
        named = after
        # What was removed meanwhile cannot be mistaken for another file.
        with contextlib.suppress(OSError):
            named = self._source.stat()
        unchanged = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        if not unchanged or not os.path.samestat(named, before):
            raise self._changed()

    def _changed(self) -> SourceUnreadableError:
        return SourceUnreadableError(
            f"{self._source}: changed while it was read; nothing was written. Redact it again when it is whole."
        )

    def _choose_format(self, clerk: Clerk, facts: Probe) -> None:
        """As what to write, before any work that takes long.

        Raises:
            UsageError: The output's suffix promises something else.
        """
        track = next((row for row in facts.tracks if row.kind == "video"), None)
        if track is None:
            return
        found = clerk.formats(track)
        self._image, self._unlisted = found.image, facts.unlisted
        if self._image and self._cutting:
            raise UsageError("Invalid segments (cut). An image has nothing to cut; use boxes or slate.")
        self._written_as = format_for(self._output, found.names, self._source)

    # Finding ------------------------------------------------------------------------------------

    def _looked_through(self) -> Timeline:
        timeline = self._given
        if timeline is None:
            timeline = self._redactor.scanner.scan(self._source, progress=self._scanning("looking through"))
        if timeline.status == "unscannable" or not timeline.streams:
            raise SourceError(timeline.notes[0] if timeline.notes else f"{self._source}: cannot be scanned.")
        if timeline.source["sha256"] != self._digest.hexdigest():
            if self._given is None:
                raise self._changed()
            raise TimelineError(f"{self._source}: the timeline is of another file. Scan this one.")
        if not timeline.coverage:
            raise TimelineError(f"{self._source}: the timeline does not say what was looked at. Scan again.")
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
        extent = self._extent = Span(timeline.coverage[0].start_seconds, timeline.coverage[-1].end_seconds)
        video = timeline.streams[0].video
        base = self._base = Fraction(video["time_base"])
        self._format = timeline.source["format"]
        turned = video["rotation"] in (90, -90)
        size = self._size = (video["height"], video["width"]) if turned else (video["width"], video["height"])
        samples: dict[int, Sample] = {}
        further = tuple(self._wanted.stretches(timeline))
        covered, ahead = Covered((), (), (), ()), _AHEAD_SECONDS
        # It ends: every round sees pictures that none before it has seen.
        while wanted := [part for span in _clipped(further, extent) for part in complement(self._slates, span)]:
            known = len(samples)
            samples.update(self._dense(wanted, self._source, "looking closely", self._models))
            if len(samples) == known:
                break
            run = [samples[pts] for pts in sorted(samples)]
            covered = combined([cover(run, size, base, extent, rules, ahead) for rules in self._wanted.rules()])
            further, ahead = covered.further, 2 * ahead
        return covered, dataclasses.replace(timeline, tracks=covered.tracks)

    @property
    def _models(self) -> tuple[str, ...]:
        """Those that look closely."""
        return self._redactor.models_for(self._wanted.looked_for())

    def _dense(self, spans: Sequence[Span], path: Path, what: str, models: tuple[str, ...]) -> dict[int, Sample]:
        """Every picture that is shown in some spans, in seconds, by its pts in the source's time base."""
        wanted = tuple((exactly(span.start), exactly(span.end)) for span in spans)
        found = self._redactor.looker(models).scan(path, spans=wanted, progress=self._scanning(what))
        if path == self._source and found.source["sha256"] != self._digest.hexdigest():
            raise self._changed()
        if not found.streams:
            shown = self._source if path == self._source else self._output
            raise OutputError(f"{shown}: cannot be looked at again. {' '.join(found.notes)}")
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
        if self._image:
            return self._write_image(clerk, track, covered, slated, aside)
        beyond = self._wanted.beyond_account(track, self._extent)
        task = RewriteTask(
            track=track,
            touched=[] if self._cutting else [*covered.touched, *beyond],
            slated=[] if self._cutting else list(slated),
            cuts=_all_of(covered, slated, beyond) if self._cutting else [],
            muted=self._wanted.muted(covered, slated, track.time_base),
            keep=sorted(self._settings.keep),
            style=self._settings.style,
            shape=self._settings.shape,
            crf=self._settings.crf,
            preset=self._settings.preset,
            full=full is not None,
            threads=self._workers,
            gpu=self._settings.gpu,
        )
        self._progress("writing", 0.0)
        written = next(iter(clerk.rewrite(task, aside.descriptor, self._most_bytes)))
        # Where a packet did not fit, it is another format after all.
        format_for(self._output, [written.format], self._source)
        return written if full is None else msgspec.structs.replace(written, full=full)

    def _write_image(
        self, clerk: Clerk, track: VideoTrack, covered: Covered, slated: Sequence[tuple[int, int]], aside: Aside
    ) -> Rewritten:
        task = ImageTask(
            track=track,
            format=self._written_as,
            touched=list(covered.touched),
            slated=list(slated),
            style=self._settings.style,
            shape=self._settings.shape,
            crf=self._settings.crf,
        )
        self._progress("writing", 0.0)
        written = next(iter(clerk.rewrite(task, aside.descriptor, self._most_bytes)))
        left_out = [f"left out: {what}" for what in self._unlisted]
        return msgspec.structs.replace(written, notes=[*written.notes, *left_out])

    @property
    def _most_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size * _MOST_TIMES + _MOST_MORE_BYTES

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
        with contextlib.ExitStack() as stack:
            descriptor, readers_name = aside.descriptor_for_reading(), f"{shown_name(self._output)} (redacted)"
            readers = [
                stack.enter_context(Clerk(self._office, descriptor, readers_name)) for _ in range(self._workers + 1)
            ]
            if self._image:
                clerks = clerk, readers[0]
                return verify_image(self._output, clerks, track, covered, slated, written, self._size, self._settings)
            facts = readers[0].probe()
            mine = next((row for row in facts.tracks if row.kind == "video"), None)
            if mine is None or len(facts.tracks) != 1:
                raise OutputError(f"{self._output}: {len(facts.tracks)} picture streams were written, not one.")
            rows = () if self._cutting else _rebased(covered.rows, track, mine)
            factor = track.time_base / mine.time_base
            whole = [(round(start * factor), round(end * factor)) for start, end in slated if not self._cutting]
            asked: list[tuple[Clerk, Task]] = [(clerk, ListTask(track)), (readers[-1], ListTask(mine))]
            ends = self._parts(mine)
            for reader, start, end in zip(readers, [None, *ends], [*ends, None], strict=False):
                reader.remember(rows)
                task = VerifyTask(
                    track=mine,
                    start=start,
                    end=end,
                    slated=whole,
                    style=self._settings.style,
                    shape=self._settings.shape,
                )
                asked.append((reader, task))
            muted = self._wanted.muted(covered, slated, track.time_base)
            if muted:
                listener = stack.enter_context(Clerk(self._office, descriptor, readers_name))
                asked.append((listener, ListenTask(time_base=str(track.time_base), muted=muted)))
            heard: list[tuple[int, float, float, int]] = []
            listed: tuple[list[Sent], list[Sent]] = ([], [])
            deviations: dict[Fraction, float] = {}
            for place, reply in self._office.gather(asked):
                if isinstance(reply, Packets):
                    base = (track, mine)[place].time_base
                    listed[place].extend(Sent(base, *row) for row in reply.rows if row[0] is not None)
                elif isinstance(reply, Heard):
                    heard = reply.rows
                elif isinstance(reply, Pictures):
                    deviations.update((pts * mine.time_base, level) for pts, level in reply.rows)
            theirs, ours = listed
            if self._cutting:
                cuts, sent = _all_of(covered, slated, self._wanted.beyond_account(track, self._extent)), (theirs, ours)
                return self._verified_cut(clerk, readers[0], track, cuts, written, sent, set(deviations))
        unmet = {row.pts * mine.time_base for row in rows} - deviations.keys()
        if len(unmet) > written.lost and self._format != "avi":
            lost_at = format_time(float(min(unmet)))
            raise OutputError(f"{self._output}: {len(unmet)} pictures to be covered are not in it ({lost_at}).")
        worst = max(deviations.values(), default=0.0)
        if worst > tolerance_of(written.encoder, self._settings.crf):
            at = next(time for time, level in deviations.items() if level == worst)
            raise OutputError(f"{self._output}: what is to be covered shows at {format_time(float(at))}.")
        checks = [f"{len(deviations)} pictures decoded, covered to {worst:.1f} of 255 levels"]
        name = str(self._output)
        checks.append(check_times(name, theirs, set(deviations), written, timed=self._format != "avi"))
        checks.append(check_packets(name, theirs, ours, track.time_base, written))
        if muted:
            seconds = float(sum(end - start for start, end in muted) * track.time_base)
            checks.append(check_silence(name, heard, seconds))
        return tuple(checks)

    @property
    def _workers(self) -> int:
        return self._settings.scan.workers or len(os.sched_getaffinity(0))

    def _parts(self, track: VideoTrack) -> list[int]:
        """Where to part a stream so that each worker has as much to decode, in pts."""
        length = (track.declared_end_pts or 0) * track.time_base
        count = min(self._workers, int(length / _LEAST_PART_SECONDS))
        return [to_pts(length * place / count, track.time_base) for place in range(1, count)]

    def _verified_cut(
        self,
        clerk: Clerk,
        reader: Clerk,
        track: VideoTrack,
        asked: Sequence[tuple[int, int]],
        written: Rewritten,
        sent: tuple[Sequence[Sent], Sequence[Sent]],
        shown: Collection[Fraction],
    ) -> tuple[str, ...]:
        """Hold a file of which something was cut against its source.

        Raises:
            OutputError: It is not what remains of it.
        """
        name, (theirs, ours) = str(self._output), sent
        cuts = check_cuts(name, theirs, asked, track.time_base, written)
        return (
            f"{len(shown)} pictures decoded, {len(cuts.spans)} cuts of {float(cuts.length):.3f} s in all",
            check_times(name, theirs, shown, written, timed=self._format != "avi", cuts=cuts),
            check_packets(name, theirs, ours, track.time_base, written, cuts),
            check_others(name, clerk.other_packets(), reader.other_packets(), written, cuts),
        )


def _all_of(
    covered: Covered, slated: Sequence[tuple[int, int]], beyond: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """When anything is to be covered at all."""
    return joined(sorted((*covered.touched, *slated, *beyond)))


def _restored(sample: Sample, cuts: Cuts, base: Fraction) -> tuple[int, Sample]:
    """A sample of the output, at its picture's time in the source."""
    pts = round(cuts.restored(sample.pts * base) / base)
    return pts, dataclasses.replace(sample, pts=pts, time_seconds=to_seconds(pts, base))


def _track_of(facts: Probe, timeline: Timeline) -> VideoTrack:
    stream = timeline.streams[0].stream
    track = next((row for row in facts.tracks if row.index == stream and row.kind == "video"), None)
    if track is None:
        raise SourceUnreadableError("The file is not what it was when it was scanned. Scan it again.")
    return track


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
