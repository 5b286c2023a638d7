"""What a file's headers claim, as values; nothing here reads media."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

# 16384 × 16384, far above 8K; a decoder asks for some 12 bytes a pixel.
MAX_PIXELS = 1 << 28
# A film has one or two video tracks and some dozens of sound and subtitle tracks.
MAX_STREAMS = 200
# A claimed rate outside of these is damage, or a clock's rate and not the pictures'.
_SLOWEST_RATE, _FASTEST_RATE = Fraction(1, 60), 1000
_USUAL_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class Medium:
    """A file to read, and the limits that it is opened with.

    Attributes:
        name: What messages call it.
        descriptor: An open descriptor to read it through; None to open `name`, a path. The
            descriptor's position is shared by all that read through it, so only one container may
            read at a time.
        max_pixels: Larger pictures are not decoded.
        max_streams: Further streams are not looked for.
        gpu: Which NVIDIA GPU decodes what it can, and keeps the pictures; None for the CPU.
    """

    name: str
    descriptor: int | None = None
    max_pixels: int = MAX_PIXELS
    max_streams: int = MAX_STREAMS
    gpu: int | None = None

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, source: Path | Medium) -> Medium:
        """The medium itself, or that of a path."""
        return source if isinstance(source, Medium) else cls(str(source))


TrackKind = Literal["video", "cover", "view", "hidden"]


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """A picture stream as its headers claim it.

    Attributes:
        index: The stream's number in the file.
        kind: `video`; `cover` for attached pictures; `view` for the further views of a
            multiview stream (a second eye); `hidden` for what an edit list keeps from being shown
            by players that honour it.
        codec: FFmpeg's decoder name.
        size: Stored (width, height), before rotation.
        pixel_format: FFmpeg's name, None where no picture could be probed.
        average_rate: Frames per second.
        time_base: Seconds per pts unit.
        start_pts: First presentation time, None if unknown.
        duration_pts: Claimed length, None if the format makes no claim that can be held to.
        shares_duration: The claim is for the file as a whole; the sound may be what is that long.
        frames: Claimed number of packets, 0 if unknown; for `hidden`, how many of them there are.
    """

    index: int
    kind: TrackKind
    codec: str
    size: tuple[int, int]
    pixel_format: str | None
    average_rate: Fraction | None
    time_base: Fraction
    start_pts: int | None
    duration_pts: int | None
    shares_duration: bool
    frames: int

    def __post_init__(self) -> None:
        if self.time_base <= 0:
            raise ValueError(f"Invalid time base ({self.time_base}).")

    @property
    def frame_duration_pts(self) -> int:
        """How long one frame is shown at the average rate, if that is credible; at least one unit."""
        rate = self.average_rate
        if rate is None or not _SLOWEST_RATE <= rate <= _FASTEST_RATE:
            rate = _USUAL_RATE
        return max(1, round(1 / rate / self.time_base))

    @property
    def declared_end_pts(self) -> int | None:
        """Up to when it claims to go; None if it makes no claim that can be held to."""
        if self.duration_pts is None or self.kind == "hidden":
            return None
        return (self.start_pts or 0) + self.duration_pts

    def ends_early(self, end_pts: int, other_end_pts: int, packets: int) -> bool:
        """Whether the claimed end is so late that a picture is missing.

        Args:
            end_pts: When the last picture ends.
            other_end_pts: The same of the last packet of other streams, of those that share the claim.
            packets: How many there are from the stream's beginning to its end.
        """
        declared_end, usual = self.declared_end_pts, self.frame_duration_pts
        if declared_end is None:
            return False
        if self.shares_duration:
            return declared_end > max(end_pts, other_end_pts) + 2 * usual
        # With an edit list the track's claim can exceed what is shown; the index is then the judge.
        whole = self.frames > 0 and packets >= self.frames
        return declared_end >= end_pts + usual and not whole


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """A sound stream as its headers claim it."""

    codec: str
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file's headers claim.

    Attributes:
        tracks: Picture streams; the first is the one that a player would show.
        start_seconds, duration_seconds: Of the file as a whole, None if unknown.
        still: Whether the file is a single image.
        unlisted: In words, video that the file announces and that is in no stream.
    """

    format: str
    start_seconds: Fraction | None
    duration_seconds: Fraction | None
    tracks: tuple[VideoTrack, ...]
    audio: tuple[AudioTrack, ...]
    still: bool
    unlisted: tuple[str, ...] = ()
