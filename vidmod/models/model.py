"""A model: frames in, Scores and Detections out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidmod.closing import Closing
from vidmod.errors import UsageError
from vidmod.models.decoding import decode
from vidmod.models.images import ModelInput
from vidmod.models.manifest import Manifest
from vidmod.models.runtimes import Session, SessionRequest, select
from vidmod.models.weights import Weights, obtain
from vidmod.predictions import Predictions


class Model(Closing):
    """A manifest, its weights and a session that runs them.

    `predict` belongs to the thread that opened the session. What it takes is made by
    :func:`vidmod.models.preprocessing.prepare`.
    """

    def __init__(self, manifest: Manifest, weights: Weights, session: Session, batch: int | None = None) -> None:
        self.manifest = manifest
        self._size = manifest.batch.best if batch is None else batch
        self.weights = weights
        self._session = session
        self.info = session.info
        # Kept, because fresh pages for every batch cost a twentieth of what the network does.
        self._batch: NDArray[np.uint8] | None = None

    @classmethod
    def load(
        cls,
        manifest: Manifest,
        *,
        runtime: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        weights: Mapping[str, Path] | None = None,
        notify: Callable[[str], None] | None = None,
        batch: int | None = None,
    ) -> Model:
        """Find or pull the weights, and compile them.

        Args:
            weights: Model name to a file that is to be used instead.
            notify: Told when weights have to be pulled.
            batch: Pictures that the network runs at once; None for the manifest's best. Where pictures come one by one,
                more than one of them would be empty.

        Raises:
            WeightsError, RuntimeUnavailableError, UsageError: See `obtain` and `select`; or the manifest does not allow
                that batch.
        """
        if batch is not None and not manifest.batch.min <= batch <= manifest.batch.max:
            raise UsageError(f"Invalid batch ({batch}) for {manifest.name}. Use {manifest.batch.min} or more.")
        chosen = select(runtime, device)
        found = obtain(manifest, weights, notify)
        request = SessionRequest(
            found.path, manifest.input, manifest.output, device, precision, manifest.name, manifest.batch
        )
        return cls(manifest, found, chosen.open(request), batch)

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self.manifest.name

    def predict(self, inputs: Sequence[ModelInput]) -> list[Predictions]:
        """What the network says of each input, in order.

        The network always runs batches of one size, filled up where there are fewer, so that a
        picture's scores do not depend on what it was batched with.

        Raises:
            InferenceError: The network failed.
        """
        size = self._size
        chunks = (inputs[start : start + size] for start in range(0, len(inputs), size))
        return [prediction for chunk in chunks for prediction in self._predict_batch(chunk, size)]

    def _predict_batch(self, chunk: Sequence[ModelInput], size: int) -> list[Predictions]:
        images = self._batch
        if images is None:
            images = self._batch = np.empty((size, *chunk[0].image.shape), np.uint8)
        for row, item in zip(images, chunk, strict=False):
            row[:] = item.image
        images[len(chunk) :] = 0
        output = self._session.infer(images)[: len(chunk)]
        return decode(output, self.manifest, [item.geometry for item in chunk])

    def close(self) -> None:
        """Release the session; more than once is fine."""
        self._session.close()
