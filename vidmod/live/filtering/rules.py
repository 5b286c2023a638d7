"""What a live filter covers, and from when on: a policy and the command line in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from vidmod.policy import Category, Policy
from vidmod.predictions import Predictions
from vidmod.targets import Targets


@dataclass(frozen=True, slots=True)
class CoverAll:
    """From which score on a category has the whole picture covered.

    Attributes:
        hold_seconds: How long it stays so after the last look that has it.
        scores_only: Whether only what classifiers say counts, since what a detector found is covered where it is.
    """

    category: Category
    threshold: float
    hold_seconds: float
    scores_only: bool = False

    def is_met(self, predictions: Predictions) -> bool:
        """Whether a picture has it."""
        if self.scores_only:
            predictions = dataclasses.replace(predictions, detections=())
        return self.category.best_label(predictions)[1] >= self.threshold


@dataclass(frozen=True, slots=True)
class Rules:
    """What is covered.

    Attributes:
        targets: Where it is.
        cover_all: What has everything covered.
        categories: All that are looked for, those included that are only reported.
    """

    targets: Targets
    cover_all: tuple[CoverAll, ...]
    categories: tuple[Category, ...]

    @classmethod
    def of(cls, policy: Policy, labels: Sequence[str], hold_seconds: float) -> Self:
        """By a policy, or by labels in place of what the policy has covered.

        Args:
            hold_seconds: For categories that say nothing of it.

        Raises:
            UsageError: Nothing is to be covered.
        """
        if labels:
            targets = Targets.of_labels(labels, policy)
            named = tuple(CoverAll(row, row.block, hold_seconds, scores_only=True) for row in targets.categories)
            return cls(targets, named, policy.categories + targets.categories)
        targets = Targets.of_policy(policy)
        rows = []
        for row in targets.categories:
            live = row.live
            if live.everything == "never":
                continue
            threshold = row.block if live.everything is None else live.everything
            rows.append(CoverAll(row, threshold, hold_seconds if live.hold_seconds is None else live.hold_seconds))
        categories = tuple(
            row if row.live.boxes is None else dataclasses.replace(row, review=row.live.boxes)
            for row in targets.categories
        )
        return cls(Targets(categories, policy), tuple(rows), policy.categories)

    def is_hit(self, predictions: Predictions) -> bool:
        """Whether a picture has anything from the score on from which a person should look at it."""
        return any(row.best_label(predictions)[1] >= row.review for row in self.categories)
