"""What covering costs: milliseconds for each 1080p frame, by style, shape and format, beside an RGB round trip.

    python benchmarks/drawing.py
    python benchmarks/drawing.py --size 200 --rounds 50

Draws one square box in the middle of a frame of noise, over and over, by `vidmod.redaction.cover`, and measures what
a verifier pays (`deviation`) and a slate costs. The round trip is what drawing in RGB would cost before anything is
drawn: to rgb24 and back by FFmpeg's swscale, through PyAV, on one thread. Medians of all rounds, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from scan import machine, table, use_cores

from vidmod.redaction import SHAPES, STYLES, Plane, PlaneLayout, cover, deviation, slate

WIDTH, HEIGHT = 1920, 1080
FORMATS = ("yuv420p", "yuv420p10le", "nv12", "p010le", "yuv444p", "rgb24")
Work = Callable[[], object]


def make_frame(name: str) -> VideoFrame:
    """A picture of noise."""
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return VideoFrame.from_ndarray(noise, "rgb24").reformat(format=name)


def jobs(name: str, size: int) -> dict[str, Work]:
    """Everything that is measured on one format."""
    frame = make_frame(name)
    layout = PlaneLayout.of(name, WIDTH, HEIGHT, full_range=False)
    planes = layout.arrays([memoryview(plane) for plane in frame.planes], [plane.line_size for plane in frame.planes])
    left, top = (WIDTH - size) // 2 + 1, (HEIGHT - size) // 2 + 1
    box = (float(left), float(top), float(left + size), float(top + size))
    works: dict[str, Work] = {
        f"{style} {shape}": _cover(planes, layout, box, style, shape) for style in STYLES for shape in SHAPES
    }
    works["slate"] = lambda: slate(planes, layout)
    works["deviation"] = lambda: deviation(planes, layout, [box])
    works["RGB round trip"] = _round_trip(frame)
    return works


def _cover(planes: list[Plane], layout: PlaneLayout, box: tuple[float, float, float, float], *how: str) -> Work:
    style, shape = STYLES[how[0]], how[1]
    return lambda: cover(planes, layout, [box], style, shape)


def _round_trip(frame: VideoFrame) -> Work:
    there, back = VideoReformatter(), VideoReformatter()
    # From rgb24 there is no way round: to another order of the same bytes and back.
    middle = "bgr24" if frame.format.name == "rgb24" else "rgb24"

    def work() -> None:
        rgb = there.reformat(frame, format=middle, threads=1)
        back.reformat(rgb, format=frame.format.name, threads=1)

    return work


def measure(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, all in turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - start) * 1000)
    # The first round allocates and builds swscale's tables.
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    """Measure all formats and print the table."""
    parser = argparse.ArgumentParser(description="Measure what covering costs for each 1080p frame.")
    parser.add_argument("--size", type=int, default=400, help="pixels of a side of the box (default: 400)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    args = parser.parse_args()
    use_cores(args.cores)
    results = {name: measure(jobs(name, args.size), args.rounds) for name in FORMATS}
    rows = [[what, *(f"{results[name][what]:.2f}" for name in FORMATS)] for what in results[FORMATS[0]]]
    print(f"{machine()}.\n")
    print(f"Milliseconds for each {WIDTH}x{HEIGHT} frame, a box of {args.size}x{args.size} pixels:\n")
    print(table(["", *FORMATS], rows))


if __name__ == "__main__":
    main()
