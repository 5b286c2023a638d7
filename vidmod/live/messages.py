"""What the processes of a live filter say to each other.

::

    reader ──Source, Picture, Heard, Lost──▶ filter ──Begin, Leave──▶ publisher
      │                                      ▲ │ │                       │
      │                                 Seen │ ▼ Look                    │
      │                                  analyst │ Sight                 │
      └─────────────────────────────────────────▶ recorder ◀─────────────┘

and each to the process that watches: a `Beat` several times a second; the filter also what it sees and does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vidmod.live.counts import Counts
from vidmod.models.manifest import Preparation
from vidmod.predictions import Box, Detection, Predictions, Scores


class Sound(msgspec.Struct, array_like=True):
    """Sound of a stream; `codec` as FFmpeg names it, `extradata` as its container has it."""

    codec: str
    sample_rate: int
    layout: str
    extradata: bytes


class Source(msgspec.Struct, tag="source", array_like=True):
    """The reader has connected; `rate` is 0 where the source does not say it.

    Attributes:
        aspect: Of one pixel, its width and height.
        colours: Primaries, transfer and matrix, as H.273 numbers them.
    """

    codec: str
    extradata: bytes
    size: tuple[int, int]
    rate: tuple[int, int]
    time_base: tuple[int, int]
    bits: int
    sound: Sound | None
    aspect: tuple[int, int] = (1, 1)
    colours: tuple[int, int, int] = (2, 2, 2)


class Picture(msgspec.Struct, tag="picture", array_like=True):
    """A packet of pictures; times in the source's time base, `came` in seconds of the shared clock.

    Attributes:
        again: It came some time ago, and is told to one that has to know it to decode what follows.
    """

    pts: int | None
    dts: int | None
    key: bool
    data: bytes
    came: float
    again: bool = False


class Heard(msgspec.Struct, tag="heard", array_like=True):
    """A packet of sound."""

    seconds: float
    data: bytes
    came: float


class Lost(msgspec.Struct, tag="lost", array_like=True):
    """The source is gone, and why."""

    why: str


class Begin(msgspec.Struct, tag="begin", array_like=True):
    """What leaves, for the publisher: it begins with this, and it never changes.

    Attributes:
        aspect, colours: As of a :class:`Source`.
    """

    size: tuple[int, int]
    rate: tuple[int, int]
    bits: int
    preset: str
    parameter_sets: bytes
    sound: Sound | None
    aspect: tuple[int, int] = (1, 1)
    colours: tuple[int, int, int] = (2, 2, 2)


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


class Sight(msgspec.Struct, tag="sight", array_like=True):
    """What was seen in a picture that is to leave.

    Attributes:
        pts: When it leaves, in 1/90000 s of the shared clock.
        size: Displayed width and height, in which boxes are.
        grid: Of a picture in which something was found, what may be shown of it: see `vidmod.blurring.blurred`.
    """

    pts: int
    size: tuple[int, int]
    scores: list[tuple[str, dict[str, float]]]
    found: list[Found]
    grid: bytes | None = None


class Covering(msgspec.Struct, tag="covering", array_like=True):
    """From this picture on all is covered for this reason, of `COVER_REASONS` in `telling.state`; for none if empty."""

    reason: str
    pts: int


class Arrived(msgspec.Struct, tag="arrived", array_like=True):
    """The first picture of a connection, or of one that is another one than before."""

    size: tuple[int, int]
    rate: float
    codec: str
    sound: str | None


class Changed(msgspec.Struct, tag="changed", array_like=True):
    """The source is not what it was; `what` is `size`, `rate`, `codec`, `clock` or `sound`."""

    what: str
    before: str
    after: str


class Loaded(msgspec.Struct, tag="loaded", array_like=True):
    """The analyst has its models; each as a timeline's provenance has it."""

    models: list[dict[str, Any]]


class Unusable(msgspec.Struct, tag="unusable", array_like=True):
    """There is a source, and nothing can be made of it."""

    why: str


class Finish(msgspec.Struct, tag="finish", array_like=True):
    """Write what there is, close it well, and say `finished`."""


class WantKey(msgspec.Struct, tag="want_key", array_like=True):
    """The publisher has a new connection, which begins with a key picture."""


class Hold(msgspec.Struct, tag="hold", array_like=True):
    """Cover everything until then, on the shared clock; None for no longer."""

    until: float | None


class Beat(msgspec.Struct, tag="beat", array_like=True):
    """A process is alive, and what it has to tell.

    Attributes:
        doing: In a word; `failed` is the last that a process says.
        counts: Of the filter.
        packets: That have gone through, of a reader or publisher.
        connections: That were made.
        trouble: Why there is no connection now; empty if there is. Of what failed, why.
        waiting: Bytes that wait to be sent.
        delay: Of the filter: from when a picture should have come until it left, in seconds; None before the first.
        level: Of the filter's overload, 0 for none.
        layers: Of enclosure, those that hold; see `vidmod.containment`.
        pictures: Of a publisher, that were written; `packets` has sound, too.
        covers: Of a publisher, covers that it made itself, since nothing came.
        dropped: Of a publisher, pictures that could not be written.
    """

    doing: str
    counts: Counts | None = None
    packets: int = 0
    connections: int = 0
    trouble: str = ""
    waiting: int = 0
    delay: float | None = None
    level: int = 0
    layers: list[str] = msgspec.field(default_factory=list)
    pictures: int = 0
    covers: int = 0
    dropped: int = 0


class ReaderSettings(msgspec.Struct):
    """For the reader.

    Attributes:
        trusted: Whose certificates its server may show, as a file's path; None for anybody's.
    """

    url: str
    timeout_seconds: float
    max_pixels: int
    trusted: str | None = None


class FilterSettings(msgspec.Struct):
    """For the filter.

    Attributes:
        policy: As a document.
        labels: Covered instead of what the policy has covered; none for the policy's.
        preparations: What models want to see.
        min_analysis_fps: Overload never lowers it further.
        on_block: `slate` or `blur`: what is seen where all is covered for what was found.
        shadow: Whether nothing is covered, and only told.
        size, rate, bits: Of what leaves; None for the first source's.
        begin: What has left before, which is never to change; None at first.
    """

    policy: dict[str, Any]
    labels: list[str]
    preparations: list[Preparation]
    delay_seconds: float
    latency_seconds: float
    max_gap_seconds: float
    hold_seconds: float
    margin: float
    max_pixels: int
    preset: str
    threads: int
    begin: Begin | None
    min_analysis_fps: float = 4.0
    on_block: str = "slate"
    shadow: bool = False
    size: tuple[int, int] | None = None
    rate: tuple[int, int] | None = None
    bits: int | None = None


class AnalystSettings(msgspec.Struct):
    """For the analyst."""

    models: list[str]
    runtime: str
    device: str
    precision: str
    weights: dict[str, str]


class PublisherSettings(msgspec.Struct):
    """For the publisher.

    Attributes:
        origin: The shared clock when the stream began: its time 0.
        number: How often it was started before; a file that another one wrote stays.
        trusted: Whose certificates its server may show, as a file's path; None for anybody's.
    """

    url: str
    timeout_seconds: float
    origin: float = 0.0
    number: int = 0
    trusted: str | None = None


class RecorderSettings(msgspec.Struct):
    """For the recorder.

    Attributes:
        name: Of the filter, with which files' names begin.
        folder: For what leaves, and timelines; None for none.
        sealed_folder: For what comes, sealed; None for none.
        recipients: Who can open that: age's public keys.
        piece_seconds: How long each file is, about.
        policy: As a document.
        models: As a timeline's provenance has them.
        max_gap_seconds: Two looks no further apart than this speak for what is between them.
        origin: The shared clock when the stream began.
    """

    name: str
    folder: str | None
    sealed_folder: str | None
    recipients: list[str]
    piece_seconds: float
    policy: dict[str, Any]
    models: list[dict[str, Any]]
    max_gap_seconds: float
    origin: float


FromReader = Source | Picture | Heard | Lost
FromAnalyst = Seen
ToAnalyst = Look
ToPublisher = Begin | Leave
FromPublisher = WantKey
ToParent = Beat | Begin | Sight | Covering | Arrived | Changed | Unusable | Loaded
FromParent = Hold | Finish


def predictions_of(seen: Seen | Sight) -> Predictions:
    """What was seen, as checked values.

    Raises:
        ValueError: A score or a box is none.
    """
    return Predictions(
        scores=tuple(Scores(model, labels) for model, labels in seen.scores),
        detections=tuple(Detection(item.model, item.label, item.score, item.box) for item in seen.found),
    )
