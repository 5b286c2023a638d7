"""Where a thing is at any time, and how sure that is: Kalman filter and Rauch-Tung-Striebel smoother.

A box is four numbers, the centre's x and y, the width and the height, and each moves on its own with a nearly
constant velocity: what is not constant is white acceleration (Bar-Shalom, Li & Kirubarajan, "Estimation with
applications to tracking and navigation" (2001), 6.2.2). So every matrix below is a stack of four. All noise is
relative to the box's size, and time may pass in steps of any length, backward too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vidmod.predictions import Box
from vidmod.tracking.settings import Tracking

Floats = npt.NDArray[np.float64]

_LEAST_SIZE: Final = 2.0  # pixels: a thinner box would have no noise at all
# A detection with a score near 0 errs three times as much as one with 1.
_NOISE_OF_DOUBT: Final = 2.0
# Things change their size less than their place: for centre x and y, width, height.
_LIVELINESS: Final = np.array([1.0, 1.0, 0.7, 0.7])


@dataclass(frozen=True, slots=True)
class State:
    """What is believed of a box at one time.

    Attributes:
        mean: float64[4, 2, 1], value and velocity (pixels, pixels per second) of centre x, centre y, width,
            height.
        cov: float64[4, 2, 2], their covariances.
    """

    mean: Floats
    cov: Floats

    def box(self) -> Box:
        """The box of the means; one that has shrunk to nothing is a point."""
        x, y, width, height = self.mean[:, 0, 0].tolist()
        width, height = max(width, 0.0), max(height, 0.0)
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2

    def speed(self) -> float:
        """How fast the centre moves, in pixels per second."""
        x, y = self.mean[:2, 1, 0].tolist()
        return math.hypot(x, y)

    def centre_sigmas(self) -> tuple[float, float]:
        """Standard errors of the centre along x and y, in pixels."""
        x, y = self.cov[:2, 0, 0].tolist()
        return math.sqrt(x), math.sqrt(y)

    def side_sigmas(self) -> tuple[float, float]:
        """Standard errors of a vertical and of a horizontal side, in pixels: a side is centre ± size / 2."""
        x, y, width, height = self.cov[:, 0, 0].tolist()
        return math.sqrt(x + width / 4), math.sqrt(y + height / 4)


@dataclass(slots=True)
class Step:
    """One frame of a track, from the forward pass.

    Attributes:
        predicted: Before this frame's detection; None in a track's first frame.
        filtered: After it.
        gain: float64[4, 2, 2], the smoother's gain from this frame to the one before; None in the first.
    """

    predicted: State | None
    filtered: State
    gain: Floats | None


def first_state(box: Box, score: float, settings: Tracking, speed: float = 0.0) -> State:
    """Return what is believed after a single look: a standing box, of unknown velocity.

    Args:
        box: What was found.
        score: Its probability.
        settings: Noise, and how fast things are.
        speed: In pixels per second, if the thing is known to be faster than most (standard deviation).
    """
    values = _values(box)
    mean = np.zeros((4, 2, 1))
    mean[:, 0, 0] = values
    cov = np.zeros((4, 2, 2))
    cov[:, 0, 0] = _measurement_variances(values, score, settings)
    cov[:, 1, 1] = (settings.first_speed * _size(mean) * _LIVELINESS) ** 2
    cov[:2, 1, 1] = np.maximum(cov[:2, 1, 1], speed**2)
    return State(mean, cov)


def predict(state: State, seconds: float, settings: Tracking) -> State:
    """Return what is believed `seconds` later, or earlier where it is negative."""
    forward = _transition(seconds)
    mean, cov = forward @ state.mean, forward @ state.cov @ forward.T + _process_noise(state.mean, seconds, settings)
    return State(mean, cov)


def correct(state: State, box: Box, score: float, settings: Tracking) -> State:
    """Return what is believed after a look at `box`: the Kalman update."""
    values = _values(box)
    innovation = values - state.mean[:, 0, 0]
    variance = state.cov[:, 0, 0] + _measurement_variances(values, score, settings)
    gain = state.cov[:, :, :1] / variance[:, None, None]
    cov = state.cov - gain @ state.cov[:, :1, :]
    return State(state.mean + gain * innovation[:, None, None], cov)


def advance(before: State, seconds: float, settings: Tracking, kick: float = 0.0) -> Step:
    """Return the next frame's step, without a look at it.

    Args:
        before: What was believed in the frame before.
        seconds: Between the two.
        settings: How much speeds change.
        kick: By how much more the speed has changed at once, in pixels per second (standard deviation).
    """
    predicted = predict(before, seconds, settings)
    if kick:
        cov = predicted.cov.copy()
        cov[:2] += kick**2 * np.array([[seconds**2, seconds], [seconds, 1.0]])
        predicted = State(predicted.mean, cov)
    gain = before.cov @ _transition(seconds).T @ _inverse(predicted.cov)
    return Step(predicted, predicted, gain)


def unshrinking(state: State, seconds: float) -> State:
    """Return the state without the part of its velocity by which it would shrink within `seconds`.

    Where nothing was seen, a box that shrinks is more often noise, or cut by the border of the picture.
    """
    mean = state.mean.copy()
    mean[2:, 1] = np.where(mean[2:, 1] * seconds > 0, mean[2:, 1], 0.0)
    return State(mean, state.cov)


def smooth(steps: Sequence[Step]) -> list[State]:
    """Return what is believed of every step in the light of all of them.

    Rauch, Tung & Striebel, "Maximum likelihood estimates of linear dynamic systems", AIAA Journal 3 (1965).
    """
    states = [steps[-1].filtered]
    for step, after in zip(steps[-2::-1], steps[:0:-1], strict=True):
        if after.predicted is None or after.gain is None:
            raise ValueError("Only the first step of a track has no prediction.")
        mean = step.filtered.mean + after.gain @ (states[-1].mean - after.predicted.mean)
        change = states[-1].cov - after.predicted.cov
        cov = step.filtered.cov + after.gain @ change @ after.gain.transpose(0, 2, 1)
        states.append(State(mean, cov))
    return states[::-1]


def errors(box: Box, score: float, state: State, settings: Tracking) -> Floats:
    """How far the sides of a detection are from a state's, over the standard errors of a detection with its score.

    Returns:
        float64[4], 0 or more.
    """
    values = _values(box)
    sides = np.sqrt(_measurement_variances(values, score, settings)[[2, 3, 2, 3]] / 2)
    return np.asarray(np.abs(np.array(box) - np.array(state.box())) / sides, dtype=np.float64)


def _values(box: Box) -> Floats:
    x1, y1, x2, y2 = box
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def _size(mean: Floats) -> float:
    width, height = mean[2:, 0, 0].tolist()
    return math.sqrt(max(width, _LEAST_SIZE) * max(height, _LEAST_SIZE))


def _measurement_variances(values: Floats, score: float, settings: Tracking) -> Floats:
    # Boxes with low scores are worse (NSA Kalman: Du et al., "GIAOTracker", ICCV workshops 2021).
    errors = np.maximum(values[2:], _LEAST_SIZE) * settings.noise * (1 + _NOISE_OF_DOUBT * (1 - score))
    # Two sides with independent errors e: their mean, the centre, has e/√2 and their difference e√2.
    return np.concatenate([errors**2, 4 * errors**2])


def _transition(seconds: float) -> Floats:
    return np.array([[1.0, seconds], [0.0, 1.0]])


def _process_noise(mean: Floats, seconds: float, settings: Tracking) -> Floats:
    # |t|: variance grows in both directions of time; value and velocity err together forward, apart backward.
    density = (settings.manoeuvre * _size(mean) * _LIVELINESS) ** 2 * abs(seconds)
    unit = np.array([[seconds**2 / 3, seconds / 2], [seconds / 2, 1.0]])
    return np.asarray(density[:, None, None] * unit, dtype=np.float64)


def _inverse(matrices: Floats) -> Floats:
    """Invert a stack of 2 by 2 matrices; np.linalg.inv takes ten times as long for so small ones."""
    a, b, d = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 1]
    determinant = a * d - b * b
    flat = np.array([d, -b, -b, a]) / determinant
    return flat.T.reshape(-1, 2, 2)
