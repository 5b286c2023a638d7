"""What a scan and the workers that read for it say to each other; a redaction begins alike.

Replies come from a process that parsed an untrusted file: they are checked against these types, and
nothing in them is believed that the asker could not check or that could do harm if it were wrong.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec

from vidmod.media import Ledger, Medium, Part, Probe, VideoTrack
from vidmod.media.parts import Surveyed
from vidmod.models.images import Geometry
from vidmod.models.manifest import Preparation

Json = dict[str, Any]


class MediumSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with.

    Attributes:
        name: What messages call the file.
    """

    name: str
    max_pixels: int
    max_streams: int

    def medium(self, descriptor: int) -> Medium:
        """The file, to be opened by a descriptor."""
        return Medium(self.name, descriptor=descriptor, max_pixels=self.max_pixels, max_streams=self.max_streams)


class GpuSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that decodes and prepares pictures.

    Attributes:
        number: Which, from 0.
        kernels: Compiled for it.
    """

    number: int
    kernels: bytes


class ReadingSettings(MediumSettings, frozen=True, kw_only=True):
    """What a worker that reads for a scan is started with.

    Attributes:
        preparations: One for each model.
        gpu: What decodes, if not the CPU.
    """

    preparations: list[Preparation]
    gpu: GpuSettings | None = None


class TrialTask(msgspec.Struct, frozen=True, tag="trial"):
    """Prepare drawn pictures on the GPU and on the CPU. Answered by `Tried` or `Failed`."""


class ProbeTask(msgspec.Struct, frozen=True, tag="probe"):
    """Say what the headers claim. Answered by `Probed` or `Failed`."""


class SurveyTask(msgspec.Struct, frozen=True, tag="survey", kw_only=True):
    """Cut a stream into parts. Answered by every `Found`, then `SurveyDone`; or `Failed`."""

    track: VideoTrack
    until: int | None
    max_packets: int


class LookTask(msgspec.Struct, frozen=True, tag="look", kw_only=True):
    """Decode pictures of a part. Answered by every `Seen`, then `LookDone`; or `Failed`.

    Attributes:
        wanted: When they are shown, of a sound part; None to choose by `mode`.
        mode, interval: See :mod:`vidmod.sampling`; `interval` in units of the time base.
        origin: Where the grid of `uniform` begins, None for the first picture.
        start, end: Only what is shown in between, in seconds.
    """

    track: VideoTrack
    part: Part
    wanted: list[int] | None
    mode: str
    interval: Fraction
    origin: int | None = None
    start: Fraction | None = None
    end: Fraction | None = None


Task = TrialTask | ProbeTask | SurveyTask | LookTask


class Tried(msgspec.Struct, frozen=True, tag="tried", kw_only=True):
    """How far apart the same pictures are, in levels of 255: on average, and at most in all but a hundredth of them."""

    mean: float
    most: float


class Probed(msgspec.Struct, frozen=True, tag="probed"):
    """The claims."""

    facts: Probe


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A task ended with an error of vidmod's: its class and its message."""

    kind: str
    message: str


class Found(msgspec.Struct, frozen=True, tag="found"):
    """One part."""

    part: Part


class SurveyDone(msgspec.Struct, frozen=True, tag="surveyed"):
    """All parts were found."""

    known: Surveyed


class Working(msgspec.Struct, frozen=True, tag="working"):
    """The task is getting on, though there is nothing to show."""


class Seen(msgspec.Struct, frozen=True, tag="seen", kw_only=True):
    """One prepared picture, its images one after the other in a slot of shared memory.

    Attributes:
        on_gpu: Whether a GPU has decoded it.
    """

    slot: int
    pts: int
    end_pts: int
    geometries: list[Geometry]
    on_gpu: bool = False

    def __post_init__(self) -> None:
        if not -(1 << 63) <= self.pts < self.end_pts < 1 << 63:
            raise ValueError("Invalid times.")


class Picture(msgspec.Struct, frozen=True):
    """What the first decoded frame showed the stream to be."""

    size: tuple[int, int]
    pixel_format: str
    rotation: int
    mirrored: bool


class LookDone(msgspec.Struct, frozen=True, tag="looked", kw_only=True):
    """A part was looked at.

    Attributes:
        ledger: Of a part that was decoded whole; None where only what was wanted was.
    """

    ledger: Ledger | None
    picture: Picture | None


Reply = Tried | Probed | Failed | Found | SurveyDone | Working | Seen | LookDone
TaskType: Any = Task
ReplyType: Any = Reply


def encode(message: msgspec.Struct) -> Json:
    """A message as JSON values."""
    values: Json = msgspec.to_builtins(message, enc_hook=_encode)
    return values


def decode(payload: Json, kind: Any) -> Any:
    """A message of that type.

    Raises:
        ValueError: It is none; the text says where it is wrong.
    """
    try:
        return msgspec.convert(payload, kind, dec_hook=_decode)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def _encode(value: object) -> object:
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    raise NotImplementedError(type(value))


def _decode(kind: type, value: object) -> object:
    if kind is Fraction and isinstance(value, str) and len(value) < 64:
        numerator, _, denominator = value.partition("/")
        if int(denominator) == 0:
            raise ValueError("A fraction by 0.")
        return Fraction(int(numerator), int(denominator))
    raise ValueError(f"{kind.__name__} expected.")
