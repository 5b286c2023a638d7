"""Pictures that a GPU keeps to model-ready images, as :func:`vidmod.models.preprocessing.prepare` makes them.

Not run on a GPU so far by those who wrote it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidmod.closing import Closing
from vidmod.media.frame import GpuPicture
from vidmod.models.cuda.driver import Buffer, Device
from vidmod.models.cuda.launching import Plan, Planes, source
from vidmod.models.cuda.scaling import Layout, siting_of
from vidmod.models.images import ModelInput
from vidmod.models.manifest import Preparation

# Kinds of pictures that a stream may change between without anything being planned anew.
_KEPT_KINDS = 4


def kernels_for(number: int) -> bytes:
    """The kernels, compiled for a GPU.

    Raises:
        RuntimeUnavailableError: There is no such GPU here, or what compiles for it is missing.
    """
    with Device(number) as device:
        return device.compile(source())


@dataclass(frozen=True, slots=True)
class _Kind:
    """All that pictures of one layout need: a plan for each model, its tables on the GPU, and room to work in."""

    plans: tuple[tuple[Plan, Buffer], ...]
    scratch: Buffer

    def close(self) -> None:
        for _, tables in self.plans:
            tables.close()
        self.scratch.close()


class GpuPreparer(Closing):
    """Makes the images of one picture after the other. A context manager, for use by the thread that opened it.

    Args:
        number: Which GPU, from 0.
        kernels: From :func:`kernels_for`.
        preparations: One for each model.

    Raises:
        RuntimeUnavailableError: The GPU cannot be used.
    """

    def __init__(self, number: int, kernels: bytes, preparations: Sequence[Preparation]) -> None:
        self._preparations = tuple(preparations)
        self._kinds: OrderedDict[Layout, _Kind] = OrderedDict()
        self._device = Device(number)
        try:
            self._stream = self._device.stream()
            self._module = self._device.module(kernels)
            size = sum(preparation.image_bytes for preparation in self._preparations)
            self._images = self._device.buffer(size)
            self._fetched = self._device.pinned(size, "uint8")
            self._staging: NDArray[np.uint8] = np.empty(0, np.uint8)
        except BaseException:
            self._device.close()
            raise

    def prepare(self, picture: GpuPicture, codec: str) -> list[ModelInput]:
        """The images of a picture, in host memory, one for each model; they are overwritten by the next call.

        Args:
            codec: Of the picture's stream, which says where its chroma lies.

        Raises:
            InferenceError: The GPU failed.
        """
        luma, chroma = picture.planes
        planes = Planes(luma.address, luma.line_size, chroma.address, chroma.line_size)
        kind = self._kind(_layout_of(picture, codec))
        # The decoder works on a stream of its own, of which nobody tells.
        self._device.wait()
        place = self._images.address
        for plan, tables in kind.plans:
            for launch in plan.launches(planes, tables.address, kind.scratch.address, place):
                self._stream.launch(self._module.kernel(launch.kernel), launch.grid, launch.block, launch.arguments)
            place += plan.image_bytes
        self._stream.download(self._fetched, self._images)
        self._stream.synchronize()
        return self._inputs([plan for plan, _ in kind.plans])

    def _inputs(self, plans: Sequence[Plan]) -> list[ModelInput]:
        found, place = [], 0
        for plan in plans:
            shape = plan.preparation
            pixels = self._fetched[place : place + plan.image_bytes]
            found.append(ModelInput(pixels.reshape(shape.height, shape.width, 3), plan.geometry))
            place += plan.image_bytes
        return found

    def _kind(self, layout: Layout) -> _Kind:
        known = self._kinds.get(layout)
        if known is None:
            while len(self._kinds) >= _KEPT_KINDS:
                self._kinds.popitem(last=False)[1].close()
            known = self._kinds[layout] = self._planned(layout)
        self._kinds.move_to_end(layout)
        return known

    def _planned(self, layout: Layout) -> _Kind:
        plans = [Plan.of(layout, preparation) for preparation in self._preparations]
        rows = []
        for plan in plans:
            tables = self._device.buffer(plan.tables.nbytes)
            self._stream.upload(tables, self._staged(plan.tables))
            # Before the next tables lie in the same place.
            self._stream.synchronize()
            rows.append((plan, tables))
        return _Kind(tuple(rows), self._device.buffer(max(plan.scratch_bytes for plan in plans)))

    def _staged(self, tables: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy that a stream can read. Such memory is only freed with the device, so it is used again."""
        if self._staging.size < tables.size:
            self._staging = self._device.pinned(2 * tables.size, "uint8")
        staged = self._staging[: tables.size]
        staged[:] = tables
        return staged

    def close(self) -> None:
        """Free what it holds on the GPU; more than once is fine."""
        self._device.close()


def _layout_of(picture: GpuPicture, codec: str) -> Layout:
    return Layout(
        picture.width,
        picture.height,
        picture.sample_bytes,
        picture.matrix,
        picture.full_range,
        picture.orientation,
        siting_of(codec),
        picture.interlaced,
    )
