"""How a file is redacted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vidmod.errors import UsageError, choose
from vidmod.redaction import SHAPES, STYLES
from vidmod.settings import ScanSettings

SEGMENT_MODES = ("boxes", "slate", "cut")
ENCODING = ("auto", "cpu", "nvenc")
AUDIO_MODES = ("keep", "mute")
# As in `vidmod.media.muxer`, which is for workers alone.
KEEPABLE = ("subtitles", "chapters", "metadata", "data", "attachments")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")
_WORST_CRF = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactSettings:
    """How a file is redacted.

    Attributes:
        scan: How it is looked through, where no timeline says what is in it.
        labels: What to cover; none for what the policy has covered.
        style: `fill`, `mosaic` or `blur`. Only `fill` cannot be undone.
        shape: `box` or `ellipse`.
        margin: How much wider and higher than what was found a covered region is, as a share of its size.
        segments: `boxes` covers what was found where it was found; `slate` the whole picture all the while; `cut`
            removes that while, sound and all.
        audio: `keep` copies all sound; `mute` silences it while anything is covered, and during accepted segments.
        keep: Which of `KEEPABLE` are kept beside pictures and sound. Other picture streams and cover art never are:
            nothing would be covered in them.
        crf, preset: Of the encoder; None for what fits the source.
        full_reencode: Encode every picture, not only groups that have changed.
        encoder: `cpu` or `nvenc`; `auto` is the CPU. NVENC encodes whole streams, not groups, and where it does not
            open the CPU does, and the result says so.
        verify: Decode the output, compare it with the source, and look at it again.
    """

    scan: ScanSettings = field(default_factory=ScanSettings)
    labels: Sequence[str] = ()
    style: str = "fill"
    shape: str = "box"
    margin: float = 0.2
    segments: str = "boxes"
    audio: str = "keep"
    keep: Sequence[str] = ()
    crf: int | None = None
    preset: str | None = None
    full_reencode: bool = False
    encoder: str = "auto"
    verify: bool = True

    @property
    def gpu(self) -> int | None:
        """Which GPU encodes whole streams; None for the CPU."""
        if self.encoder != "nvenc":
            return None
        number = self.scan.device.removeprefix("cuda:")
        return int(number) if number.isdigit() else 0

    def __post_init__(self) -> None:
        choose("style", self.style, STYLES)
        choose("encoder", self.encoder, ENCODING)
        choose("shape", self.shape, SHAPES)
        choose("segments", self.segments, SEGMENT_MODES)
        choose("audio", self.audio, AUDIO_MODES)
        for name in self.keep:
            choose("keep", name, KEEPABLE)
        if self.preset is not None:
            choose("preset", self.preset, PRESETS)
        if self.crf is not None and not 0 <= self.crf <= _WORST_CRF:
            raise UsageError(f"Invalid crf ({self.crf}). Use 0 (best) to {_WORST_CRF}.")
        if not 0 <= self.margin <= 10:
            raise UsageError(f"Invalid margin ({self.margin:g}). Use a share from 0 to 10, such as 0.2.")
