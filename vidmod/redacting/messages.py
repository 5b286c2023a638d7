"""What a redaction and the workers that rewrite and verify for it say to each other.

As in :mod:`vidmod.messages`, replies come from a process that parsed an untrusted file, and are checked, not believed.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

import msgspec

from vidmod.media import VideoTrack
from vidmod.messages import Failed, Probed, ProbeTask, Working
from vidmod.predictions import Box

# Rows of one message: some ten kilobytes.
ROWS = 500


class Covering(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is to be covered of one picture.

    Attributes:
        pts: When it is shown, in the time base of its stream.
        whole: All of it.
        boxes: In displayed pixels.
    """

    pts: int
    whole: bool
    boxes: list[Box]


class CoverTask(msgspec.Struct, frozen=True, tag="cover"):
    """Remember what is to be covered. Answered by `Noted`."""

    rows: list[Covering]


class RewriteTask(msgspec.Struct, frozen=True, tag="rewrite", kw_only=True):
    """Write the file anew, its pictures covered. Answered by every `Written`, then `Rewritten`; or `Failed`.

    Attributes:
        track: The stream that is covered; other picture streams are left out.
        touched: When pictures change, [start, end) in its time base.
        slated: When all of every picture is covered, whatever it shows, [start, end) in its time base.
        muted: When all sound is silent, [start, end) in its time base; none to copy it as it is.
        keep: Kinds of what is kept beside pictures and sound, see `vidmod.media.muxer.KEEPABLE`.
        style, shape: See :mod:`vidmod.redaction`.
        crf, preset: Of the encoder; None for what fits the source.
        full: Encode every picture.
        threads: Of the encoder.
        gpu: Which NVIDIA GPU encodes a whole stream, if it can; None for the CPU.
        cuts: What is removed instead, [start, end) in its time base.
    """

    track: VideoTrack
    touched: list[tuple[int, int]]
    slated: list[tuple[int, int]]
    muted: list[tuple[int, int]]
    keep: list[str]
    style: str
    shape: str
    crf: int | None
    preset: str | None
    full: bool
    threads: int
    gpu: int | None = None
    cuts: list[tuple[int, int]] = []


class FormatTask(msgspec.Struct, frozen=True, tag="format"):
    """Say as what the file can be written. Answered by `Formats`; or `Failed`."""

    track: VideoTrack


class ImageTask(msgspec.Struct, frozen=True, tag="image", kw_only=True):
    """Write an image anew. Answered by every `Written`, then `Rewritten`; or `Failed`.

    Attributes:
        track: Its picture.
        format: One of those that `Formats` named.
        touched, slated, style, shape, crf: As in `RewriteTask`.
    """

    track: VideoTrack
    format: str
    touched: list[tuple[int, int]]
    slated: list[tuple[int, int]]
    style: str
    shape: str
    crf: int | None


class ListTask(msgspec.Struct, frozen=True, tag="list"):
    """Say what packets there are. Answered by every `Packets`, then `Noted`; or `Failed`."""

    track: VideoTrack


class ListOthersTask(msgspec.Struct, frozen=True, tag="list-others"):
    """Say what packets of no picture stream there are. Answered by every `OtherPackets`, then `Noted`; or `Failed`."""


class VerifyTask(msgspec.Struct, frozen=True, tag="verify", kw_only=True):
    """Decode pictures, and look whether they are covered. Answered by every `Pictures`, then `Noted`; or `Failed`.

    Attributes:
        start, end: Of pictures that begin from the one on and before the other, pts; None for no bound.
    """

    track: VideoTrack
    start: int | None
    end: int | None
    slated: list[tuple[int, int]]
    style: str
    shape: str


class ListenTask(msgspec.Struct, frozen=True, tag="listen", kw_only=True):
    """Decode all sound, and measure it. Answered by `Heard`; or `Failed`.

    Attributes:
        time_base: Seconds per unit of `muted`.
        muted: When it should be silent, [start, end).
    """

    time_base: str
    muted: list[tuple[int, int]]


Task = (
    ProbeTask | CoverTask | FormatTask | RewriteTask | ImageTask | ListTask | ListOthersTask | VerifyTask | ListenTask
)


class Noted(msgspec.Struct, frozen=True, tag="noted"):
    """That was all."""


class Written(msgspec.Struct, frozen=True, tag="written", kw_only=True):
    """Bytes of the output, in a slot of shared memory."""

    slot: int
    at: int
    size: int

    def __post_init__(self) -> None:
        if self.at < 0 or self.size < 1:
            raise ValueError("Invalid bytes.")


class Cut(msgspec.Struct, frozen=True, tag="cut"):
    """The output ends at this place, whatever was written behind it."""

    at: int


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """What is not in the output: a stream of the source, or its chapters or metadata, which have no index."""

    index: int | None
    type: str
    why: str


class MutedSound(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a sound stream; see `vidmod.media.muting.Muted`."""

    index: int
    codec: str
    way: Literal["spliced", "encoded", "dropped"]
    encoder: str | None
    replaced: int
    why: str | None


class Rewritten(msgspec.Struct, frozen=True, tag="rewritten", kw_only=True):
    """The output is whole.

    Attributes:
        format: FFmpeg's name of the container.
        encoder: FFmpeg's name; None if nothing was encoded.
        copied: Packets of the stream that are as they were.
        encoded: Pictures that were encoded again.
        drawn: Those of them of which something is covered.
        spans: When those are shown, [start, end) in the stream's time base.
        full: Why everything was encoded again; None where only groups were.
        lost: Pictures that could not be decoded, and are left out.
        notes: In words, what was left out, and what else should be known.
        dropped: What was left out.
        muted: What became of each sound stream, where any was to be muted.
        cuts: What was removed, in the stream's time base: spans, begin and end of :class:`vidmod.cuts.Cuts`.
        cut_pictures, cut_packets: How many pictures, and packets of other streams, were removed.
        streams: For every stream of the output, which one of the source it is.
    """

    format: str
    encoder: str | None
    copied: int
    encoded: int
    drawn: int
    spans: list[tuple[int, int]]
    full: str | None
    lost: int
    notes: list[str]
    dropped: list[LeftOut] = []
    muted: list[MutedSound] = []
    cuts: tuple[list[tuple[int, int]], int | None, int | None] = ([], None, None)
    cut_pictures: int = 0
    cut_packets: int = 0
    streams: list[int] = []


class Formats(msgspec.Struct, frozen=True, tag="formats", kw_only=True):
    """As what the file can be written.

    Attributes:
        names: Of formats, as in :mod:`vidmod.redacting.naming`. The first is what is written where nothing else is
            asked for; empty for an image that cannot be written as what it is.
        image: Whether it is an image, animated or not.
        reason: Why the first is not the source's; None if it is.
    """

    names: list[str]
    image: bool
    reason: str | None


class Packets(msgspec.Struct, frozen=True, tag="packets"):
    """Packets in order: pts, bytes, the beginning of their SHA-256, and whether they give a picture."""

    rows: list[tuple[int | None, int, str, bool]]


class OtherPacket(msgspec.Struct, frozen=True, array_like=True):
    """A packet of another stream than the pictures'.

    Attributes:
        stream: Its number in the file.
        time: Its presentation time, in seconds.
        start, end: From when to when it has to do with what is heard or seen, in seconds.
        unit: The stream's time base.
        size, digest: Of its bytes; the beginning of their SHA-256, empty where a container has samples and no packets
            (PCM), so that others may be read than were written.
    """

    stream: int
    time: Fraction
    start: Fraction
    end: Fraction
    unit: Fraction
    size: int
    digest: str


class OtherPackets(msgspec.Struct, frozen=True, tag="other-packets"):
    """Packets of other streams, in the file's order."""

    rows: list[OtherPacket]


class Pictures(msgspec.Struct, frozen=True, tag="pictures"):
    """Pictures in order: pts, and by how many of 255 levels what is covered differs from the cover at worst."""

    rows: list[tuple[int, float]]


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """Of every sound stream: index, peak while it should be silent (1 for full scale), when, packets not decoded."""

    rows: list[tuple[int, float, float, int]]


Reply = (
    Probed | Failed | Working | Noted | Formats | Written | Cut | Rewritten | Packets | OtherPackets | Pictures | Heard
)
TaskType: Any = Task
ReplyType: Any = Reply
