"""How much an image loses outside of what is covered: PSNR and size of what is written against what was decoded.

python benchmarks/stills.py CLIP...
"""

from __future__ import annotations

import io
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidmod.media import Medium
from vidmod.media.source import probe
from vidmod.media.still import rewrite_image

FRAME = 40
KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG, quality 75, 4:2:0", "jpeg", {"quality": 75, "subsampling": 2}),
    ("JPEG, quality 90, 4:2:0", "jpeg", {"quality": 90, "subsampling": 2}),
    ("JPEG, quality 95, 4:4:4", "jpeg", {"quality": 95, "subsampling": 0}),
    ("WebP, quality 90", "webp", {"quality": 90}),
    ("AVIF, quality 85", "avif", {"quality": 85}),
    ("PNG", "png", {}),
)


def frame_of(clip: Path) -> Image.Image:
    """A picture from the middle of things."""
    with av.open(str(clip), "r") as container:
        frame = next(islice(container.decode(video=0), FRAME, None))
    return Image.fromarray(frame.to_ndarray(format="rgb24"))


def decoded(data: bytes) -> NDArray[np.float64]:
    """As FFmpeg shows it, so that only what lies in between differs."""
    with av.open(io.BytesIO(data), "r") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)


def measure(image: Image.Image, name: str, options: dict[str, Any], folder: Path) -> tuple[float, float]:
    """PSNR in dB (99 if nothing differs), and how many times as large the new file is."""
    source = folder / f"source.{name}"
    image.save(source, **options)
    written = io.BytesIO()
    with source.open("rb") as file:
        # By its descriptor, as a worker has it: by its name FFmpeg takes it for the first of a row of images.
        medium = Medium(str(source), descriptor=file.fileno())
        rewrite_image(medium, probe(medium).tracks[0], written, name, lambda _picture, _pts: False)
    before, after = decoded(source.read_bytes()), decoded(written.getvalue())
    error = float(((before - after) ** 2).mean())
    psnr = 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))
    return psnr, len(written.getvalue()) / source.stat().st_size


def main() -> None:
    """Print a row for each kind: the lowest and the highest of all clips."""
    images = [frame_of(Path(name)) for name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        for title, name, options in KINDS:
            rows = [measure(image, name, options, Path(folder)) for image in images]
            levels, sizes = [row[0] for row in rows], [row[1] for row in rows]
            print(
                f"{title:26} PSNR {min(levels):.1f} to {max(levels):.1f} dB, "
                f"{min(sizes):.2f} to {max(sizes):.2f} times as large"
            )


if __name__ == "__main__":
    main()
