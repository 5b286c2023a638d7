"""What redaction is to cover: which detections, and which stretches of time.

Decided on values alone: a timeline, a policy, labels. Needs no video and no model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vidmod.errors import UsageError
from vidmod.judging import category_segments
from vidmod.policy import Category, Policy
from vidmod.predictions import Detection, Predictions
from vidmod.timebase import Span, union
from vidmod.timeline import Sample, Timeline

# What a label is covered from where no policy says it; NudeNet reports from 0.25 on.
_THRESHOLD = 0.4
# Of that threshold: a detection this weak goes on with a track, and never begins one.
_WEAK = 0.6
# A sight seldom begins where a sample found it.
_MARGIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be covered.

    Attributes:
        categories: Their labels are covered: of a detector where it found them, of a classifier the whole picture.
        policy: For how scores become segments.
    """

    categories: tuple[Category, ...]
    policy: Policy

    @classmethod
    def of_policy(cls, policy: Policy) -> Targets:
        """The categories of which the action is `cover`.

        Raises:
            UsageError: There is none.
        """
        found = tuple(category for category in policy.categories if category.action == "cover")
        if not found:
            raise UsageError(f"Invalid policy ({policy.name}): none of its categories has the action 'cover'.")
        return cls(found, policy)

    @classmethod
    def of_labels(cls, labels: Sequence[str], policy: Policy) -> Targets:
        """These labels, from the threshold that the policy has for each, or else from 0.4.

        Raises:
            UsageError: There is none.
        """
        if not labels:
            raise UsageError("Invalid labels (none). Name at least one, such as FACE_FEMALE.")
        rows = []
        for label in labels:
            known = next((row for row in policy.categories if _names(row, label)), None)
            review, block = (_THRESHOLD, _THRESHOLD) if known is None else (known.review, known.block)
            rows.append(Category(label, (label,), review, block))
        return cls(tuple(rows), policy)

    @staticmethod
    def judged(labels: Sequence[str], policy: Policy) -> list[str]:
        """Those labels of which a policy says something."""
        return [label for label in labels if any(_names(row, label) for row in policy.categories)]

    def wants(self, model: str, labels: Sequence[str]) -> bool:
        """Whether anything that a model of that name and those labels says matters."""
        return any(
            f"{model}.{label}" in row.labels or label in row.labels for label in labels for row in self.categories
        )

    def threshold(self, item: Detection) -> float | None:
        """The score from which a detection is covered; None for one that is not."""
        found = [row.review for row in self.categories if _is_of(row, item)]
        return min(found, default=None)

    def boxes(self, predictions: Predictions) -> tuple[Detection, ...]:
        """The detections of a picture that are to be covered, with those that are nearly sure enough."""
        rows = []
        for item in predictions.detections:
            threshold = self.threshold(item)
            if threshold is not None and item.score >= threshold * _WEAK:
                rows.append(item)
        return tuple(rows)

    def levelled(self, found: Iterable[Detection], high: float) -> tuple[Detection, ...]:
        """Detections to cover, with scores that are to a tracker's threshold `high` as theirs are to their label's."""
        rows = []
        for item in found:
            threshold = self.threshold(item)
            assert threshold is not None
            rows.append(dataclasses.replace(item, score=min(1.0, item.score * high / max(threshold, 1e-6))))
        return tuple(rows)

    def is_box_certain(self, item: Detection) -> bool:
        """Whether a detection is covered by itself."""
        threshold = self.threshold(item)
        return threshold is not None and item.score >= threshold

    def whole(self, samples: Sequence[Sample]) -> list[Span]:
        """When classifiers have the whole picture covered, in seconds: what they block, and each sure sample."""
        bare = [_without_detections(sample) for sample in samples]
        spans = []
        for category in self.categories:
            spans += [
                Span(found.start_seconds, found.end_seconds)
                for found in category_segments(bare, category, self.policy)
                if found.verdict == "block"
            ]
            spans += [
                Span(sample.time_seconds, sample.end_seconds)
                for sample in bare
                if category.best_label(sample.predictions)[1] >= category.block
            ]
        return union(spans)

    def stretches(self, timeline: Timeline) -> list[Span]:
        """Where to look at every picture, in seconds: around all that was found, up to the samples on both sides."""
        samples = timeline.samples
        spans = [
            Span(row.start_seconds - _MARGIN_SECONDS, row.end_seconds + _MARGIN_SECONDS)
            for row in timeline.segments
            if row.stream is None and any(row.category == known.name for known in self.categories)
        ]
        for place, sample in enumerate(samples):
            if self._is_found(sample.predictions):
                before = samples[place - 1].end_seconds if place else sample.time_seconds
                after = samples[place + 1].time_seconds if place + 1 < len(samples) else sample.end_seconds
                start = min(before, sample.time_seconds - _MARGIN_SECONDS)
                spans.append(Span(start, max(after, sample.end_seconds + _MARGIN_SECONDS)))
        return union(spans, gap=_MARGIN_SECONDS)

    def _is_found(self, predictions: Predictions) -> bool:
        if self.boxes(predictions):
            return True
        scores = dataclasses.replace(predictions, detections=())
        return any(category.best_label(scores)[1] >= category.review for category in self.categories)


def _names(category: Category, label: str) -> bool:
    return any(known == label or known.rpartition(".")[2] == label for known in category.labels)


def _is_of(category: Category, item: Detection) -> bool:
    return item.label in category.labels or f"{item.model}.{item.label}" in category.labels


def _without_detections(sample: Sample) -> Sample:
    return dataclasses.replace(sample, predictions=dataclasses.replace(sample.predictions, detections=()))
