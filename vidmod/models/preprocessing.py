"""Frames to model-ready images, exactly as each network was fed when it was trained."""

from __future__ import annotations

import cv2
import numpy as np

from vidmod.errors import UndecodableError
from vidmod.media.frame import Frame
from vidmod.models.images import Geometry, Image, ModelInput
from vidmod.models.manifest import ChannelOrder, Preparation, Step


def prepare(frame: Frame, preparation: Preparation) -> ModelInput:
    """Scale, crop and recode a frame as the steps say.

    The steps end before the arithmetic on floats (mean, scale, layout), which runtimes do, so
    that what crosses threads and processes is small.

    Raises:
        UndecodableError: The picture cannot be scaled.
    """
    first, *rest = preparation.steps
    geometry, (width, height) = placed(frame.size, first)
    image = frame.image(width, height, preparation.channels, first.interpolation)
    if (width, height) != (first.width, first.height):
        canvas = np.zeros((first.height, first.width, 3), np.uint8)
        canvas[:height, :width] = image
        image = canvas
    for step in rest:
        image = _crop(image, step) if step.step == "crop" else _jpeg(image, step, preparation.channels)
    return ModelInput(image, geometry)


def placed(size: tuple[int, int], step: Step) -> tuple[Geometry, tuple[int, int]]:
    """How the first step scales displayed pixels, and to which (width, height).

    A letterbox fits the picture in at the top left, black right and below.
    """
    width, height = size
    if step.step == "resize":
        return Geometry((width / step.width, height / step.height), size), (step.width, step.height)
    factor = max(width / step.width, height / step.height)
    return Geometry((factor, factor), size), (max(1, round(width / factor)), max(1, round(height / factor)))


def _crop(image: Image, step: Step) -> Image:
    """The centre."""
    top = (image.shape[0] - step.height) // 2
    left = (image.shape[1] - step.width) // 2
    return np.ascontiguousarray(image[top : top + step.height, left : left + step.width])


def _jpeg(image: Image, step: Step, channels: ChannelOrder) -> Image:
    """Through JPEG (4:2:0) and back; OpenCV codes BGR."""
    bgr = image if channels == "bgr" else image[..., ::-1]
    coded, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, step.quality))
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if coded else None
    if decoded is None:
        raise UndecodableError("A picture could not be recoded as JPEG.")
    result: Image = decoded.astype(np.uint8, copy=False)
    return result if channels == "bgr" else np.ascontiguousarray(result[..., ::-1])
