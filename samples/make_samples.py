"""Make small harmless videos, each with a JSON file that says exactly what is in it.

    python samples/make_samples.py OUTDIR                    every short sample
    python samples/make_samples.py OUTDIR --only cuts        one of them
    python samples/make_samples.py OUTDIR --only long --seconds 3600
    python samples/make_samples.py --list

The same arguments and library versions give the same bytes: a fixed number of encoder threads, no clock, no chance.
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

if not __package__:  # started as a script: the repository is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samples.film import make_long
from samples.plans import PLANS, TICKS, Plan, paint
from samples.truths import truth, truth_path, write_truth

if TYPE_CHECKING:
    from samples.things import Shown

__all__ = ["make_long", "make_sample", "truth_path", "write_plan"]

TONE_RATE = 44_100
TONE_FRAME = 1024  # samples in one AAC frame


def _add_video(output: av.container.OutputContainer, plan: Plan, size: tuple[int, int], crf: int) -> Any:
    stream = output.add_stream("libx264", rate=plan.fps)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS)
    stream.codec_context.gop_size = 2 * plan.fps
    stream.codec_context.thread_count = 1
    # Tagged, so that no reader has to guess the matrix from the height.
    stream.codec_context.colorspace = Colorspace.ITU601
    stream.codec_context.color_range = ColorRange.MPEG
    stream.options = {"preset": "medium", "crf": str(crf)}
    return stream


def _tone(number: int) -> av.AudioFrame:
    """One AAC frame's worth of a quiet tone that swells and falls, far below speech level."""
    at = (np.arange(TONE_FRAME) + number * TONE_FRAME) / TONE_RATE
    wave = 0.02 * np.sin(2 * np.pi * 220 * at) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.25 * at))
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None, :], format="fltp", layout="mono")
    frame.sample_rate = TONE_RATE
    frame.pts = number * TONE_FRAME
    frame.time_base = Fraction(1, TONE_RATE)
    return frame


def _mux_tone(output: av.container.OutputContainer, stream: Any, done: int, until: float) -> int:
    """Write the tone up to a time in seconds; returns the number of AAC frames written in all."""
    while done * TONE_FRAME < until * TONE_RATE:
        output.mux(stream.encode(_tone(done)))
        done += 1
    return done


def write_plan(plan: Plan, path: Path, *, width: int = 640, height: int = 360, crf: int = 23) -> dict[str, Any]:
    """Paint and encode a plan, H.264 in MP4, and write the truth beside it.

    Args:
        plan: What to show.
        path: The .mp4 file to write.
        width: Pixels, even.
        height: Pixels, even.
        crf: x264's quality, lower is better.

    Returns:
        The truth.
    """
    times = plan.ticks()
    shown: list[list[Shown]] = []
    reformatter, tones = VideoReformatter(), 0
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as output:
        video = _add_video(output, plan, (width, height), crf)
        audio = output.add_stream("aac", rate=TONE_RATE, layout="mono") if plan.tone else None
        if audio is not None:
            audio.bit_rate = 24_000
        for number, (start, end) in enumerate(pairwise(times)):
            seconds = (start - times[0]) / TICKS
            picture, seen = paint(plan, number, seconds, width, height)
            shown.append(seen)
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(picture, format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.duration, frame.time_base = start, end - start, Fraction(1, TICKS)
            output.mux(video.encode(frame))
            if audio is not None:
                tones = _mux_tone(output, audio, tones, end / TICKS)
        for stream in filter(None, (video, audio)):
            output.mux(stream.encode(None))
    found = truth(plan, shown, (width, height))
    write_truth(path, found)
    return found


def make_sample(
    name: str, folder: Path, *, width: int = 640, height: int = 360, fps: int = 25, seconds: float = 30.0
) -> Path:
    """Make one of the short samples.

    Args:
        name: One of `PLANS`.
        folder: Where to write; made if it is missing.
        width: Pixels, even.
        height: Pixels, even.
        fps: Frames a second.
        seconds: How long `calm` lasts; the others last as long as their content.

    Returns:
        The video's path; its truth lies at `truth_path(path)`.

    Raises:
        ValueError: The name is unknown, or a size cannot be encoded.
    """
    if name not in PLANS:
        raise ValueError(f"Invalid sample ({name!r}). Use one of {', '.join(PLANS)}.")
    if width % 2 or height % 2 or TICKS % fps:
        raise ValueError(f"Invalid format ({width}x{height} at {fps}). Use even sizes and a divisor of {TICKS}.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.mp4"
    write_plan(PLANS[name](fps, seconds), path, width=width, height=height)
    return path


def describe() -> str:
    """One line for each sample."""
    texts = {name: (plan.__doc__ or "").splitlines()[0] for name, plan in PLANS.items()}
    texts["long"] = "A textured film of any length, 1920x1080 at 30 unless told otherwise; only made when named."
    return "\n".join(f"{name:8} {text}" for name, text in texts.items())


def main() -> None:
    """Parse, make, print what was made."""
    parser = argparse.ArgumentParser(description="Make small harmless videos with known truth.")
    parser.add_argument("outdir", type=Path, nargs="?")
    parser.add_argument("--only", choices=(*PLANS, "long"))
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--width", type=int, help="default: 640, long 1920")
    parser.add_argument("--height", type=int, help="default: 360, long 1080")
    parser.add_argument("--fps", type=int, help="default: 25, long 30")
    parser.add_argument("--seconds", type=float, help="for calm and long; default: 30, long 60")
    args = parser.parse_args()
    if args.list:
        print(describe())
        return
    if args.outdir is None:
        parser.error("OUTDIR is missing; --list says what can be made")
    asked = {key: getattr(args, key) for key in ("width", "height", "fps", "seconds")}
    given = {key: value for key, value in asked.items() if value is not None}
    args.outdir.mkdir(parents=True, exist_ok=True)
    if args.only == "long":
        print(make_long(args.outdir / "long.mp4", **{"seconds": 60, **given}))
        return
    for name in [args.only] if args.only else PLANS:
        print(make_sample(name, args.outdir, **given))


if __name__ == "__main__":
    main()
