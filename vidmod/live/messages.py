"""What the processes of a live filter say to each other.

::

    reader ──Packets, Source──▶ filter ──Leaving──▶ publisher
                                  ▲ │
                             Seen │ ▼ Look
                                analyst

and each to the process that watches: a `Beat` several times a second.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vidmod.live.pipe import Counts
from vidmod.models.manifest import Preparation
from vidmod.predictions import Box


class Sound(msgspec.Struct, array_like=True):
    """Sound of a stream; `codec` as FFmpeg names it, `extradata` as its container has it."""

    codec: str
    sample_rate: int
    layout: str
    extradata: bytes


class Source(msgspec.Struct, tag="source", array_like=True):
    """The reader has connected; `rate` is 0 where the source does not say it."""

    codec: str
    extradata: bytes
    size: tuple[int, int]
    rate: tuple[int, int]
    time_base: tuple[int, int]
    bits: int
    sound: Sound | None


class Picture(msgspec.Struct, tag="picture", array_like=True):
    """A packet of pictures; times in the source's time base."""

    pts: int | None
    dts: int | None
    key: bool
    data: bytes


class Heard(msgspec.Struct, tag="heard", array_like=True):
    """A packet of sound."""

    seconds: float
    data: bytes


class Lost(msgspec.Struct, tag="lost", array_like=True):
    """The source is gone, and why."""

    why: str


class Begin(msgspec.Struct, tag="begin", array_like=True):
    """What leaves, for the publisher: it begins with this, and it never changes."""

    size: tuple[int, int]
    rate: tuple[int, int]
    bits: int
    preset: str
    parameter_sets: bytes
    sound: Sound | None


class Leave(msgspec.Struct, tag="leave", array_like=True):
    """A packet that leaves now; `pts` in 1/90000 s of the clock that all processes of a machine share."""

    is_sound: bool
    pts: int
    key: bool
    data: bytes


class Input(msgspec.Struct, array_like=True):
    """A picture as one model wants it, uint8, height × width × 3."""

    pixels: bytes
    factors: tuple[float, float]
    size: tuple[int, int]


class Look(msgspec.Struct, tag="look", array_like=True):
    """A picture to look at."""

    pts: int
    inputs: list[Input]


class Found(msgspec.Struct, array_like=True):
    """A detection."""

    model: str
    label: str
    score: float
    box: Box


class Seen(msgspec.Struct, tag="seen", array_like=True):
    """What models saw in a picture."""

    pts: int
    scores: list[tuple[str, dict[str, float]]]
    found: list[Found]


class WantKey(msgspec.Struct, tag="want_key", array_like=True):
    """The publisher has a new connection, which begins with a key picture."""


class Hold(msgspec.Struct, tag="hold", array_like=True):
    """Cover everything until then, on the shared clock; None for no longer."""

    until: float | None


class Beat(msgspec.Struct, tag="beat", array_like=True):
    """A process is alive, and what it has to tell.

    Attributes:
        doing: In a word.
        counts: Of the filter.
        packets: That have gone through, of a reader or publisher.
        connections: That were made.
        trouble: Why there is no connection now; empty if there is.
        waiting: Bytes that wait to be sent.
    """

    doing: str
    counts: Counts | None = None
    packets: int = 0
    connections: int = 0
    trouble: str = ""
    waiting: int = 0


class ReaderSettings(msgspec.Struct):
    """For the reader."""

    url: str
    timeout_seconds: float
    max_pixels: int


class FilterSettings(msgspec.Struct):
    """For the filter.

    Attributes:
        policy: As a document.
        labels: Covered instead of what the policy has covered; none for the policy's.
        preparations: What models want to see.
        begin: What has left before, which is never to change; None at first.
    """

    policy: dict[str, Any]
    labels: list[str]
    preparations: list[Preparation]
    delay_seconds: float
    max_gap_seconds: float
    hold_seconds: float
    margin: float
    max_pixels: int
    preset: str
    threads: int
    begin: Begin | None


class AnalystSettings(msgspec.Struct):
    """For the analyst."""

    models: list[str]
    runtime: str
    device: str
    precision: str
    weights: dict[str, str]


class PublisherSettings(msgspec.Struct):
    """For the publisher."""

    url: str
    timeout_seconds: float


FromReader = Source | Picture | Heard | Lost
FromAnalyst = Seen
ToAnalyst = Look
ToPublisher = Begin | Leave
FromPublisher = WantKey
ToParent = Beat | Begin
FromParent = Hold
