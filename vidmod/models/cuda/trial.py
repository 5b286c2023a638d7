"""Does this GPU decode and prepare pictures as the CPU does? Asked before the first file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidmod.errors import RuntimeUnavailableError
from vidmod.media.hardware_trial import pairs
from vidmod.models.cuda.preparing import GpuPreparer
from vidmod.models.manifest import Preparation
from vidmod.models.preprocessing import prepare


def differences(preparer: GpuPreparer, gpu: int, preparations: Sequence[Preparation]) -> tuple[float, float]:
    """How far apart the images of a drawn clip are, in levels of 255: on average, and the 99th percentile.

    Raises:
        RuntimeUnavailableError: The GPU does not decode.
    """
    found = []
    for there, here in pairs(gpu):
        picture = there.on_gpu
        if picture is None:
            raise RuntimeUnavailableError("It leaves pictures in a format for which there are no kernels.")
        for ours, preparation in zip(preparer.prepare(picture, "h264"), preparations, strict=True):
            wanted = prepare(here, preparation).image
            found.append(np.abs(ours.image.astype(np.int16) - wanted).ravel())
    apart = np.concatenate(found)
    return float(apart.mean()), float(np.percentile(apart, 99))
