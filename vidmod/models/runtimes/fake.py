"""A runtime without a network, for the tests of those who build on vidmod."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vidmod.models.runtimes import SessionInfo


class FakeSession:
    """Answers with what a function makes of the images.

    Args:
        answer: N×H×W×3 uint8 images to a float32 output with N first.
    """

    def __init__(self, answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> None:
        self.info = SessionInfo("fake", "1", "cpu", "fp32")
        self.batches: list[int] = []
        self.closed = False
        self._answer = answer

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a batch."""
        self.batches.append(len(images))
        return self._answer(images)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
