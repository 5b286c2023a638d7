"""What is in a film of the sampling benchmark, exact to the frame, and which scores count as seeing it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidmod.policy import Policy

Bytes = NDArray[np.uint8]

FPS = 30
LENGTHS = (0.25, 0.5, 1.0, 2.0, 5.0)
ENTRIES = ("cut", "fade")
KINDS = ("nsfw", "face")

MODEL_OF = {"nsfw": "open_nsfw", "face": "nudenet"}
# The thresholds of the default policy's `nsfw` and `explicit`, so that lone samples fare as they do in earnest.
POLICY = {
    "schema": "vidmod.policy/1",
    "name": "benchmark",
    "categories": {
        "nsfw": {"labels": ["open_nsfw.nsfw"], "review": 0.2, "block": 0.8},
        "face": {"labels": ["nudenet.FACE_FEMALE", "nudenet.FACE_MALE"], "review": 0.4, "block": 0.6},
    },
}


@dataclass(frozen=True, slots=True)
class Overlay:
    """Something laid over the film: an event, or something that is to be mistaken for one's border.

    Attributes:
        first: First frame with at least half of the opacity.
        last: The frame after the last such.
        ramp: Frames of a fade, even, half of them outside of [first, last); 0 for a cut.
        kind: One of `KINDS`, or `flash`, `insert` or `card`.
        seed: How it looks.
        seconds: For an event, the nominal length.
    """

    first: int
    last: int
    ramp: int
    kind: str
    seed: int
    seconds: float = 0.0

    @property
    def entry(self) -> str:
        """`cut` or `fade`."""
        return "fade" if self.ramp else "cut"

    @property
    def visible(self) -> range:
        """All frames that it changes."""
        return range(self.first - self.ramp // 2, self.last + self.ramp // 2)

    @property
    def full(self) -> range:
        """The frames that show it and nothing else."""
        return range(self.first + self.ramp // 2, self.last - self.ramp // 2)

    def opacity(self, number: int) -> float:
        """How much of it shows in a frame, 0 to 1; never exactly half."""
        shown = self.visible
        if number not in shown:
            return 0.0
        steps = min(number - shown.start, shown.stop - 1 - number) + 0.5
        return min(1.0, steps / self.ramp) if self.ramp else 1.0


@dataclass(frozen=True, slots=True)
class Shot:
    """A stretch of background from `first` to the next shot's.

    Attributes:
        kind: `textured`, one of `samples.scenes.CALM_KINDS`, or the path of a clip.
    """

    first: int
    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of film."""

    width: int
    height: int
    gop: int
    scenecut: bool
    media: str = ""

    def __str__(self) -> str:
        return f"gop{self.gop}-{'cuts' if self.scenecut else 'grid'}{'-media' if self.media else ''}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole film."""

    setting: Setting
    frames: int
    shots: tuple[Shot, ...]
    events: tuple[Overlay, ...]
    distractors: tuple[Overlay, ...]

    def shot_at(self, number: int) -> int:
        """Index of a frame's shot."""
        return max(index for index, shot in enumerate(self.shots) if shot.first <= number)


def benchmark_policy() -> Policy:
    """Which scores count."""
    return Policy.from_document(POLICY, "the benchmark's policy")
