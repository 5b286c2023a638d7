"""Policies: labels of any model into categories, with thresholds and what is to be done."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from vidmod import schema
from vidmod.errors import PolicyError, UsageError
from vidmod.predictions import Predictions
from vidmod.smoothing import Smoothing

Verdict = Literal["pass", "review", "block"]
VERDICTS: tuple[Verdict, ...] = ("pass", "review", "block")


def worst(verdicts: list[Verdict]) -> Verdict:
    """The most serious of them; `pass` if there are none."""
    return max(verdicts, key=VERDICTS.index, default="pass")


@dataclass(frozen=True, slots=True)
class Live:
    """What a live filter does about a category; what is None is left to the category and the command line.

    Attributes:
        boxes: Score from which it is covered where it is; the category's `review` without.
        everything: Score from which the whole picture is covered; the category's `block` without.
        hold_seconds: How long everything stays covered after the last look that demanded it.
    """

    boxes: float | None = None
    everything: float | Literal["never"] | None = None
    hold_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of thing that is looked for.

    Attributes:
        labels: `LABEL` or `MODEL.LABEL`.
        review: Probability from which a person should look.
        block: Probability from which it should not be shown.
        min_duration: Shorter segments are dropped, in seconds.
        action: What redaction does about it.
        live: What a live filter does about it.
    """

    name: str
    labels: tuple[str, ...]
    review: float
    block: float
    min_duration: float = 0.0
    action: str = "cover"
    live: Live = field(default_factory=Live)

    def best_label(self, predictions: Predictions) -> tuple[str | None, float]:
        """The label of this category with the highest score, and that score; (None, 0.0) without any."""
        found = self.label_scores(predictions)
        return max(found.items(), key=lambda item: item[1], default=(None, 0.0))

    def label_scores(self, predictions: Predictions) -> dict[str, float]:
        """Label to its best score in one picture, for the labels of this category."""
        best: dict[str, float] = {}
        for scores in predictions.scores:
            for label, score in scores.labels.items():
                if label in self.labels or f"{scores.model}.{label}" in self.labels:
                    best[label] = max(score, best.get(label, 0.0))
        for item in predictions.detections:
            if item.label in self.labels or f"{item.model}.{item.label}" in self.labels:
                best[item.label] = max(item.score, best.get(item.label, 0.0))
        return best


@dataclass(frozen=True, slots=True)
class Policy:
    """A checked policy.

    Attributes:
        lone_peaks: What becomes of a single sample at or above `block` that smoothing would drop.
        smoothing: How scores become segments.
    """

    name: str
    categories: tuple[Category, ...]
    lone_peaks: Literal["review", "ignore"] = "review"
    smoothing: Smoothing = field(default_factory=Smoothing)

    @classmethod
    def read(cls, path: Path) -> Policy:
        """Read and check a policy file.

        Raises:
            PolicyError: The file is missing, no TOML, or a field of it is wrong.
        """
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError as exc:
            raise PolicyError(f"{path}: there is no such policy file. Check the path.") from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise PolicyError(f"{path}: cannot be read ({exc}).") from exc
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, origin: str) -> Policy:
        """Check a policy's TOML text; `origin` names it in messages.

        Raises:
            PolicyError: It is no TOML, or a field of it is wrong.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            raise PolicyError(f"{origin}: is not TOML ({exc}).") from exc
        return cls.from_document(document, origin)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], origin: str) -> Policy:
        """Check a policy that was parsed already, from TOML or from a timeline's provenance.

        Raises:
            PolicyError: A field of it is wrong.
        """
        schema.check(document, "policy", origin, PolicyError)
        for name, row in document["categories"].items():
            if row["review"] > row["block"]:
                raise PolicyError(
                    f"{origin}: categories.{name}: review ({row['review']}) must not exceed block ({row['block']})."
                )
            live = row.get("live", {})
            boxes, everything = live.get("boxes", row["review"]), live.get("everything", row["block"])
            if everything != "never" and boxes > everything:
                raise PolicyError(
                    f"{origin}: categories.{name}.live: boxes ({boxes}) must not exceed everything ({everything})."
                )
        try:
            smoothing = Smoothing(**_whole_numbers(document.get("smoothing", {})))
        except (UsageError, TypeError) as exc:
            raise PolicyError(f"{origin}: smoothing: {exc}") from exc
        categories = tuple(
            Category(name, **{**row, "labels": tuple(row["labels"]), "live": Live(**row.get("live", {}))})
            for name, row in document["categories"].items()
        )
        return cls(document["name"], categories, document.get("lone_peaks", "review"), smoothing)

    @classmethod
    def default(cls) -> Policy:
        """The policy in the package; its comments give the reasons."""
        text = resources.files("vidmod").joinpath("policies", "default.toml").read_text("utf-8")
        return cls.parse(text, "vidmod's default policy")

    def with_models(self, thresholds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Policy:
        """Add a category for every model of whose labels this policy says nothing at all.

        So that a user's own model is judged by the thresholds of its manifest.

        Args:
            thresholds: Model to label to `review` and `block`.
        """
        known = {label for category in self.categories for label in category.labels}
        added = tuple(
            Category(f"{model}_{label}", (f"{model}.{label}",), pair["review"], pair["block"])
            for model, labels in thresholds.items()
            if not any(label in known or f"{model}.{label}" in known for label in labels)
            for label, pair in labels.items()
        )
        return Policy(self.name, self.categories + added, self.lone_peaks, self.smoothing)

    def smoothed_by(self, method: str | None) -> Policy:
        """The same policy with another smoothing method; with its own if that is None.

        Raises:
            UsageError: No such method.
        """
        if method is None:
            return self
        return dataclasses.replace(self, smoothing=dataclasses.replace(self.smoothing, method=method))

    def as_document(self) -> dict[str, Any]:
        """What `from_document` takes."""
        return {
            "schema": "vidmod.policy/1",
            "name": self.name,
            "lone_peaks": self.lone_peaks,
            "smoothing": self.smoothing.as_dict(),
            "categories": {
                category.name: {
                    "labels": list(category.labels),
                    "review": category.review,
                    "block": category.block,
                    "min_duration": category.min_duration,
                    "action": category.action,
                    **_said(category.live),
                }
                for category in self.categories
            },
        }


def _said(live: Live) -> dict[str, Any]:
    fields = {key: value for key, value in dataclasses.asdict(live).items() if value is not None}
    return {"live": fields} if fields else {}


def _whole_numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows one kind of number: 5.0 is the 5 that a window of samples wants."""
    return {key: int(value) if key.endswith("_samples") else value for key, value in fields.items()}
