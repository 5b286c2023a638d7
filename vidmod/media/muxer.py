"""Writing a container: its format as the source's, its streams copied or encoded, nothing else in it.

The index of an MP4 is written at its end: FFmpeg moves it to the front (`faststart`) only in files
that it can open again by name, and a worker has none.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vidmod.cuts import Cuts
from vidmod.errors import OutputError, SourceUnreadableError
from vidmod.media.facts import Medium
from vidmod.media.frame import side_data

if TYPE_CHECKING:
    from av.container.core import Chapter

# Formats that descend from QuickTime.
MOV_FAMILY = ("mp4", "mov", "3gp", "3g2")
# What is left out of a copy unless it is asked for.
KEEPABLE = ("subtitles", "chapters", "metadata", "data", "attachments")
_STREAMS_KEPT = {"subtitle": "subtitles", "data": "data", "attachment": "attachments"}
_HEAD_BYTES = 256
_LEAST_TIMESCALE = 90_000
# What is said of each stream by the program that wrote it, not by its author.
_FORMAT_TAGS = ("handler_name", "vendor_id", "encoder", "timecode")
_STATISTICS = ("_STATISTICS_", "BPS", "NUMBER_OF_")
# What each container says of itself, and what the new one says anew.
_OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER", "DURATION")
_TEMPLATE_TAGS = ("language",)
# Without these there is no attachment.
_ATTACHMENT_TAGS = ("filename", "mimetype")
_MOST_TAGS, _MOST_TAG_CHARACTERS = 8, 40
# FFmpeg does not say what MPEG-TS holds; anything else it writes as private data.
_TS_CODECS = ("h264", "hevc", "mpeg2video", "mpeg1video", "mpeg4")
# Times are milliseconds in these, too coarse for the packets of some codecs.
_IN_MILLISECONDS = ("matroska", "webm")
_SHAPELESS = ("vp9", "av1")
_MP4_CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg")


class RefusedError(OutputError):
    """The format cannot hold a packet; the file itself can be written to."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A stream of the source that is not in the output, or something else that is not.

    Attributes:
        index: Its number in the source; None if it is no stream.
        type: `video`, `audio`, `subtitle`, `data`, `attachment` or `unknown`; `chapters` or `metadata` if it is none.
        why: For people.
    """

    index: int | None
    type: str
    why: str


def output_format(medium: Medium, container: InputContainer, stream: VideoStream, codec: str) -> tuple[str, str | None]:
    """The format to write, as FFmpeg names its muxer, and why it is not the source's if it is not."""
    name = container.format.name
    if name.startswith("mov"):
        # Old QuickTime files name no brand at all.
        brand = container.metadata.get("major_brand", "qt")[:3]
        return ("mov" if brand.startswith("qt") else brand if brand in ("3gp", "3g2") else "mp4"), None
    if name.startswith("matroska"):
        # PyAV has no way to set what Matroska says of it; of these codecs nothing else does.
        if codec in _SHAPELESS and (stream.sample_aspect_ratio or 1) != 1:
            return "mp4", "Matroska's sample aspect cannot be written, so it is MP4 now"
        return ("webm" if b"webm" in _head(medium) else "matroska"), None
    if name == "mpegts":
        return name, None
    other = "mp4" if codec in _MP4_CODECS else "matroska"
    return other, f"{name.partition(',')[0]} is written as {'MP4' if other == 'mp4' else 'Matroska'}"


def _head(medium: Medium) -> bytes:
    """The first bytes of a file, its position left where it is."""
    try:
        if medium.descriptor is not None:
            return os.pread(medium.descriptor, _HEAD_BYTES, 0)
        with Path(medium.name).open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as exc:
        raise SourceUnreadableError(f"{medium}: cannot be read ({exc.strerror}).") from exc


class Muxer:
    """The output, and the way of each of the source's streams into it.

    Args:
        output: A binary file to write and seek in; its content is replaced, and it is not closed.
        format_name: FFmpeg's name of the muxer.
        time_base: Of the picture stream; MP4 keeps it if it is one over an integer.
        keep: Which of `KEEPABLE` are copied.

    Attributes:
        unfit: Streams that are never kept.

    Raises:
        OutputError: It cannot be written to.
    """

    def __init__(self, output: BinaryIO, format_name: str, time_base: Fraction, *, keep: frozenset[str]) -> None:
        self.format_name = format_name
        self.dropped: list[Dropped] = []
        self.unfit: frozenset[int] = frozenset()
        self.lost_packets = 0
        self._keep = keep
        self._streams: dict[int, Stream] = {}
        self._last: dict[int, int] = {}
        with _writing():
            output.seek(0)
            output.truncate()
            self.container: OutputContainer = av.open(
                output, "w", format=format_name, container_options=_options(format_name, time_base)
            )

    @property
    def is_mov(self) -> bool:
        """Whether it is one of the formats that descend from QuickTime."""
        return self.format_name in MOV_FAMILY

    def takes(self, encoder: str, codec: str) -> bool:
        """Whether the format holds what an encoder writes."""
        if self.format_name == "mpegts":
            return codec in _TS_CODECS
        return encoder in self.container.supported_codecs

    def describe(self, source: InputContainer, cuts: Cuts) -> None:
        """Take over what the source says of itself, if that was asked for; chapters as they are after `cuts`."""
        tags, chapters = _tags(source.metadata), source.chapters()
        if "metadata" in self._keep:
            self.container.metadata.update(tags)
        else:
            kinds = dict.fromkeys(name for item in source.streams for name in _said_of(item))
            if names := (*tags, *kinds):
                self.dropped.append(Dropped(None, "metadata", f"{_listed(names)}: {_unasked('metadata')}"))
        if chapters and "chapters" in self._keep:
            rows = [_moved(row, cuts) for row in chapters if row["time_base"]]
            self.container.set_chapters([row for row in rows if row["start"] < row["end"]])
        elif chapters:
            self.dropped.append(Dropped(None, "chapters", f"{len(chapters)} of them: {_unasked('chapters')}"))

    def copy_stream(self, stream: Stream) -> Stream:
        """A stream that is to get the source's packets as they are.

        Raises:
            ValueError: The format cannot hold it.
        """
        try:
            copy = self.container.add_stream_from_template(stream, opaque=True)
        except FFmpegError as exc:
            raise ValueError(str(exc)) from exc
        if isinstance(stream, VideoStream) and isinstance(copy, VideoStream) and stream.codec_context is not None:
            copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(0)
        self.adopt(stream, copy)
        return copy

    def adopt(self, source: Stream, stream: Stream) -> None:
        """Let a stream of the output stand for one of the source."""
        tags = _tags(source.metadata)
        names = (*_TEMPLATE_TAGS, *(_ATTACHMENT_TAGS if source.type == "attachment" else ()))
        kept = tags if "metadata" in self._keep else {key: tags[key] for key in names if key in tags}
        stream.metadata.clear()
        stream.metadata.update(kept)
        stream.disposition = source.disposition
        self._streams[source.index] = stream

    def keep(self, stream: Stream) -> None:
        """Copy a stream if it is sound or was asked for; else note it as dropped."""
        why = _why_dropped(stream)
        if stream.index in self.unfit:
            why = "its packets do not say when they are heard, so that it cannot be cut"
        elif stream.type == "audio" or _STREAMS_KEPT.get(stream.type) in self._keep:
            try:
                if stream.type != "audio":
                    self._try(stream)
                self.copy_stream(stream)
                return
            except ValueError:
                why = f"{self.format_name} cannot hold it"
        self.dropped.append(Dropped(stream.index, stream.type, why))

    def _try(self, stream: Stream) -> None:
        """Whether the format takes a stream: it says so only when its header is written.

        Raises:
            ValueError: It does not.
        """
        scratch = av.open(io.BytesIO(), "w", format=self.format_name)
        try:
            copy = scratch.add_stream_from_template(stream, opaque=True)
            copy.metadata.update({key: stream.metadata.get(key, "") for key in _ATTACHMENT_TAGS})
            scratch.start_encoding()
        except FFmpegError as exc:
            raise ValueError(str(exc)) from exc
        finally:
            with contextlib.suppress(FFmpegError, OSError, ValueError):
                scratch.close()

    @property
    def sources(self) -> tuple[int, ...]:
        """For every stream of the output, which one of the source it is."""
        return tuple(self._streams)

    def holds(self, index: int) -> bool:
        """Whether a stream of the source has a place in the output."""
        return index in self._streams

    def write(self, packet: Packet[Any], index: int) -> None:
        """Write a packet of the picture stream, which is stream `index` of the source.

        Raises:
            OutputError: It cannot be written, or is not in order.
        """
        packet.stream = self._streams[index]
        with _writing():
            self.container.mux_one(packet)

    def copy(self, packet: Packet[Any]) -> None:
        """Write a packet of another stream of the source; one that is out of order is counted as lost.

        Raises:
            OutputError: It cannot be written.
        """
        index = packet.stream_index
        if self._streams[index].disposition & Disposition.attached_pic:
            packet.pts = packet.dts = 0
        time = packet.dts if packet.dts is not None else packet.pts
        last = self._last.get(index)
        # Two subtitles may begin at the same time, and two packets of sound in the same millisecond.
        equal = self._streams[index].type in ("subtitle", "data") or self.format_name in _IN_MILLISECONDS
        if time is None or (last is not None and (time < last if equal else time <= last)):
            self.lost_packets += 1
            return
        self._last[index] = time
        self.write(packet, index)

    def close(self) -> None:
        """Write what is left, and the index.

        Raises:
            OutputError: It cannot be written.
        """
        with _writing():
            self.container.close()

    def abandon(self) -> None:
        """Stop, whatever that leaves in the file; not later, when memory is cleaned up."""
        with contextlib.suppress(FFmpegError, OSError, ValueError):
            self.container.close()


def _options(format_name: str, time_base: Fraction) -> dict[str, str]:
    # Nothing of the time and the versions of writing, so that the same input gives the same file.
    options = {"fflags": "+bitexact"}
    if format_name in MOV_FAMILY:
        options["write_tmcd"] = "0"
        if time_base.numerator == 1:
            options["video_track_timescale"] = str(time_base.denominator)
            # In this unit edit lists say when a track starts; the usual 1/1000 s moves it by up to half of that.
            options["movie_timescale"] = str(
                time_base.denominator * max(1, -(-_LEAST_TIMESCALE // time_base.denominator))
            )
    if format_name == "mpegts":
        options["mpegts_copyts"] = "1"
    return options


def _moved(row: Chapter, cuts: Cuts) -> Chapter:
    """A chapter, as much shorter and earlier as was cut of it and before it."""
    base = row["time_base"]
    assert base is not None
    moved = row.copy()
    moved["start"], moved["end"] = (cuts.shifted_pts(row[end], base) for end in ("start", "end"))
    return moved


def _tags(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key not in _OWN_TAGS}


def _why_dropped(stream: Stream) -> str:
    if stream.type == "video":
        cover = Disposition.attached_pic | Disposition.timed_thumbnails
        what = "cover art" if stream.disposition & cover else "another picture stream"
        return f"{what}, in which nothing would be covered"
    name = _STREAMS_KEPT.get(stream.type)
    return "of a kind that nobody knows" if name is None else _unasked(name)


def _unasked(name: str) -> str:
    return f"not asked for (--keep {name})"


def _said_of(stream: Stream) -> Iterator[str]:
    """The names of a stream's tags that are left out."""
    names = (*_TEMPLATE_TAGS, *_ATTACHMENT_TAGS, *_FORMAT_TAGS)
    return (name for name in _tags(stream.metadata) if name not in names and not name.startswith(_STATISTICS))


def _listed(names: tuple[str, ...]) -> str:
    shown = [name[:_MOST_TAG_CHARACTERS] for name in names[:_MOST_TAGS]]
    text = ", ".join(name if name.isprintable() else repr(name) for name in shown)
    return text if len(names) <= _MOST_TAGS else f"{text} and {len(names) - _MOST_TAGS} more"


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Translate what goes wrong while writing."""
    try:
        yield
    except FFmpegError as exc:
        # What the file object raises comes through as it is; this is the muxer's own.
        raise RefusedError(f"The output cannot be written ({exc.strerror}).") from exc
    except OSError as exc:
        raise OutputError(f"The output cannot be written ({exc.strerror or exc}).") from exc


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """A picture's display matrix, nine numbers (libavutil/display.h), None without one."""
    try:
        matrix = side_data(frame).get("DISPLAYMATRIX")
    except ValueError:
        return None
    return None if matrix is None else tuple(memoryview(cast(Any, matrix)).cast("B").cast("i"))
