"""What is wanted of a redaction: what to look for, where to look, and what to cover without a look.

Decided on values alone: settings, a policy, models' labels, and the timeline that a reviewer left, if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from vidmod.errors import TimelineError, UsageError
from vidmod.judging import judge
from vidmod.media import VideoTrack
from vidmod.models import Manifest
from vidmod.policy import Category, Policy
from vidmod.redacting.covering import Covered, Rules, joined
from vidmod.redacting.settings import RedactSettings
from vidmod.reviewing import dismissed, machine_segments
from vidmod.targets import Targets
from vidmod.timebase import Span, complement, to_pts, union
from vidmod.timeline import Segment, Timeline
from vidmod.tracking import Tracking

# What a reviewer's segment may be off by, beyond what lies between two samples.
_MARGIN_SECONDS = 0.25
# Longer than any video.
_EVER_SECONDS = 10**8
_ROUNDING_SECONDS = 2e-6


class Wanted:
    """What is wanted of one file's redaction.

    Args:
        source: What messages call the file.
        settings: As it was asked for.
        policy: Of the scan.
        manifests: Of its models.
        given: The timeline that a reviewer left, if there is one.

    Attributes:
        reviewed: What that timeline decides about.
        beyond: What is looked for beyond; None if nothing is.

    Raises:
        UsageError: There is a label that no model gives.
        TimelineError: There is one that neither the timeline judges nor a model of it gives.
    """

    def __init__(
        self,
        source: Path,
        settings: RedactSettings,
        policy: Policy,
        manifests: Sequence[Manifest],
        given: Timeline | None,
    ) -> None:
        self._source, self._settings, self._policy, self._manifests = source, settings, policy, manifests
        self._given = given
        self._tracking = Tracking(margin=settings.margin)
        self.reviewed, self.beyond = self._chosen()
        # What the scan made of the samples that the reviewer saw.
        self._scanned = () if given is None else _scanned(given)
        self._dismissed = () if given is None else dismissed(given)

    @property
    def _is_cut(self) -> bool:
        return self._settings.segments == "cut"

    def _chosen(self) -> tuple[Targets, Targets | None]:
        policy = self._policy
        labels, nothing = self._settings.labels, Targets((), policy)
        if self._given is None:
            if unknown := self._ungiven(labels, None):
                raise UsageError(f"Invalid labels ({', '.join(unknown)}): no model of {self._model_names} gives them.")
            return nothing, Targets.of_labels(labels, policy) if labels else Targets.of_policy(policy)
        if not labels:
            return Targets.of_policy(policy), None
        judged = Targets.judged(labels, _policy_of(self._given))
        beyond = [label for label in labels if label not in judged]
        if unknown := self._ungiven(beyond, self._given):
            names = ", ".join(unknown)
            raise TimelineError(
                f"{self._source}: the timeline knows nothing of {names}. Scan again, with such a model."
            )
        return (
            Targets.of_labels(judged, policy) if judged else nothing,
            Targets.of_labels(beyond, policy) if beyond else None,
        )

    def _ungiven(self, labels: Sequence[str], timeline: Timeline | None) -> list[str]:
        """Those labels that no model gives, or none that a timeline was made with."""
        known: set[str] = set()
        ran = None if timeline is None else {row["name"] for row in timeline.provenance["models"]}
        for manifest in self._manifests:
            if ran is None or manifest.name in ran:
                known |= {*manifest.output.report, *(f"{manifest.name}.{label}" for label in manifest.output.report)}
        return [label for label in labels if label not in known]

    @property
    def _model_names(self) -> str:
        return " and ".join(manifest.name for manifest in self._manifests)

    def rules(self) -> list[Rules]:
        """By which it is decided: those of a reviewer's timeline, and those for what only models have seen."""
        slate = self._settings.segments != "boxes"
        rows = []
        if self._given is not None:
            truth = tuple(self.accepted())
            drawn = self._given.tracks
            rows.append(
                Rules(self.reviewed, self._tracking, slate, truth, drawn, self._scanned, self._dismissed, self._reach)
            )
        if self.beyond is not None:
            rows.append(Rules(self.beyond, self._tracking, slate))
        return rows

    def looked_for(self) -> list[Targets]:
        """What a close look is for: of what a reviewer left only how it goes on, so nothing that is not in it."""
        accepted = self.accepted()
        goes_on = [
            row
            for row in self.reviewed.categories
            if any(found.category == row.name or _bare(row) & set(found.labels) for found in accepted)
        ]
        rows = [Targets(tuple(goes_on), self._policy)] if goes_on else []
        return rows if self.beyond is None else [*rows, self.beyond]

    def stretches(self, timeline: Timeline) -> list[Span]:
        """Where every picture is to be looked at, in seconds; `timeline` is the scan's, or the one given."""
        spans = [] if self.beyond is None else self.beyond.stretches(timeline)
        if self._given is None:
            return spans
        reach = self._reach
        for row in self.accepted():
            before, after = row.start_seconds - reach, row.end_seconds + reach
            if self._has_boxes(row):
                spans.append(Span(before, after))
            else:  # its inside is covered anyway
                spans += [Span(before, row.start_seconds), Span(row.end_seconds, after)]
        spans += [Span(row["start_seconds"], row["end_seconds"]) for row in timeline.tracks]
        return union(spans)

    @property
    def _reach(self) -> float:
        """How far to look beyond a segment, in seconds: a scan's border lies midway between two samples."""
        sampling = {} if self._given is None else self._given.provenance.get("sampling", {})
        return float(sampling.get("max_gap_seconds") or 0.0) / 2 + _MARGIN_SECONDS

    def accepted(self) -> list[Segment]:
        """A reviewer's segments that are to be covered; of a category that the policy does not know, by its action."""
        names = {category.name for category in self.reviewed.categories}
        segments = [row for row in (() if self._given is None else self._given.segments) if row.stream is None]
        if self._settings.labels:
            labels = {name.rpartition(".")[2] for name in names}
            return [row for row in segments if row.category in names or labels & set(row.labels)]
        known = {category.name for category in self._policy.categories}
        return [
            row for row in segments if row.category in names or (row.category not in known and row.action == "cover")
        ]

    def _has_boxes(self, segment: Segment) -> bool:
        """Whether a scan found something in a segment that can be covered where it is."""
        assert self._given is not None
        return any(
            self.reviewed.boxes(sample.predictions)
            for sample in self._given.samples
            if sample.time_seconds < segment.end_seconds and segment.start_seconds < sample.end_seconds
        )

    def slated(self, timeline: Timeline) -> list[Span]:
        """When the whole picture is covered, whatever it shows, in seconds, disjoint.

        What nobody has seen, and a reviewer's segments in which there is no box to cover: nobody needs to look there.
        """
        extent = Span(timeline.coverage[0].start_seconds, timeline.coverage[-1].end_seconds)
        seen = [Span(row.start_seconds, row.end_seconds) for row in timeline.coverage if row.state == "analysed"]
        spans = [Span(row.start_seconds, row.end_seconds) for row in self.accepted() if not self._has_boxes(row)]
        return union([*complement(union(seen, gap=_ROUNDING_SECONDS), extent), *spans])

    def beyond_account(self, track: VideoTrack, extent: Span) -> list[tuple[int, int]]:
        """Before and after all that the timeline speaks of, in the track's time base; pictures there are slated.

        What is cut there is what the track claims to have there.
        """
        base = track.time_base
        # Seconds are rounded to the microsecond, and the end of the last picture is a guess at times.
        slack = Fraction(track.frame_duration_pts, 2) * base
        first, last = exactly(extent.start) - slack, exactly(extent.end) + slack
        ever = to_pts(Fraction(_EVER_SECONDS), base)
        low, high = -ever, ever
        if self._is_cut:
            low, high = track.start_pts or 0, track.declared_end_pts or 0
        ends = (low, to_pts(first, base)), (int(last // base), high)
        return [(start, end) for start, end in ends if start < end]

    def muted(self, covered: Covered, slated: Sequence[tuple[int, int]], time_base: Fraction) -> list[tuple[int, int]]:
        """When it is silent, [start, end) in the track's time base: while anything is covered, and in segments."""
        if self._settings.audio != "mute" or self._is_cut:
            return []
        accepted = [
            (int(exactly(row.start_seconds) // time_base), to_pts(exactly(row.end_seconds), time_base))
            for row in self.accepted()
        ]
        return joined(sorted((*covered.touched, *slated, *accepted)))


def _scanned(timeline: Timeline) -> tuple[Segment, ...]:
    """What a scan found; of a timeline that was edited without saying so, what its samples give again."""
    return judge(timeline, _policy_of(timeline)).segments if timeline.review is None else machine_segments(timeline)


def _policy_of(timeline: Timeline) -> Policy:
    return Policy.from_document(timeline.provenance["policy"], "timeline")


def _bare(category: Category) -> set[str]:
    """A category's labels without their models' names."""
    return {label.rpartition(".")[2] for label in category.labels}


def exactly(seconds: float) -> Fraction:
    """Seconds that were rounded to the microsecond."""
    return Fraction(round(seconds * 1_000_000), 1_000_000)
