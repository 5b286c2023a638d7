"""What models say of one picture: checked values, without arrays or time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Box = tuple[float, float, float, float]


def _check_probability(field: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"Invalid {field} ({value}). A score is a probability in [0, 1].")


@dataclass(frozen=True, slots=True)
class Scores:
    """A classifier's probabilities for one picture.

    Attributes:
        model: The classifier's name.
        labels: Label to probability in [0, 1].
    """

    model: str
    labels: Mapping[str, float]

    def __post_init__(self) -> None:
        for label, score in self.labels.items():
            _check_probability(f"{self.model} score of {label}", score)


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing that a detector found in one picture.

    Attributes:
        model: The detector's name.
        label: What it is.
        score: Probability in [0, 1].
        box: (x1, y1, x2, y2) in pixels of the displayed picture, x right, y down.
    """

    model: str
    label: str
    score: float
    box: Box

    def __post_init__(self) -> None:
        _check_probability(f"{self.model} score of {self.label}", self.score)
        x1, y1, x2, y2 = self.box
        if x2 < x1 or y2 < y1:
            raise ValueError(f"Invalid box ({self.box}). It is (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2.")


@dataclass(frozen=True, slots=True)
class Predictions:
    """Everything that all models say of one picture."""

    scores: tuple[Scores, ...] = ()
    detections: tuple[Detection, ...] = ()
