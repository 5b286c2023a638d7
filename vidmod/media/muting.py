"""Muting: all sound streams on their way from a source into its copy, with some spans silent.

Packets of codecs that allow for it are replaced one by one, around what is to be silent (:mod:`vidmod.media.splicing`);
other streams are encoded anew (:mod:`vidmod.media.recoding`); what neither can be done with is left out. Sound is never
left in because something failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from av.audio.stream import AudioStream
from av.packet import Packet

from vidmod.media.muxer import Dropped, Muxer
from vidmod.media.recoding import Recoder
from vidmod.media.silence import NotMutableError
from vidmod.media.splicing import PcmSplicer, Splicer
from vidmod.timebase import Span

_PCM_WITH_HEADERS = ("pcm_bluray", "pcm_dvd")


@dataclass(frozen=True, slots=True)
class Muted:
    """What became of a sound stream.

    Attributes:
        index: Its number in the source.
        codec: FFmpeg's name.
        way: `spliced`: packets in and around silence were replaced, all others copied; `encoded`: all of it was;
            `dropped`: it is not in the output.
        encoder: FFmpeg's name; None if it was dropped.
        replaced: How many packets were replaced; 0 if it was not spliced.
        why: Why it was not spliced; None if it was.
    """

    index: int
    codec: str
    way: Literal["spliced", "encoded", "dropped"]
    encoder: str | None
    replaced: int
    why: str | None


class Muting:
    """The way of sound into a muxer.

    Args:
        spans: When it is to be silent, in seconds of presentation time, sorted and disjoint.
        failed: What an earlier try could not do, by the stream's index.
    """

    def __init__(self, spans: tuple[Span, ...], failed: Mapping[int, NotMutableError]) -> None:
        self._spans, self._failed = spans, failed
        self._ways: dict[int, Splicer | PcmSplicer | Recoder] = {}
        self._rows: dict[int, Muted] = {}

    def add(self, stream: AudioStream, muxer: Muxer) -> None:
        """Give a stream of the source its place in the output, or note that it has none."""
        codec = "unknown" if stream.codec_context is None else stream.codec_context.codec.canonical_name
        failure = self._failed.get(stream.index)
        if failure is None:
            try:
                splicer = self._splicer(stream, codec)
                muxer.copy_stream(stream)
            except NotMutableError as exc:
                failure = exc
            except ValueError:
                failure = NotMutableError(stream.index, f"{muxer.format_name} cannot hold it as it is")
            else:
                self._ways[stream.index] = splicer
                self._rows[stream.index] = Muted(stream.index, codec, "spliced", splicer.encoder_name, 0, None)
                return
        if not failure.encoded:
            try:
                recoder = Recoder(stream, self._spans, muxer)
            except NotMutableError as exc:
                failure = NotMutableError(stream.index, f"{failure}, and {exc}", encoded=True)
            else:
                self._ways[stream.index] = recoder
                name = recoder.encoder_name
                self._rows[stream.index] = Muted(stream.index, codec, "encoded", name, 0, str(failure))
                return
        self._rows[stream.index] = Muted(stream.index, codec, "dropped", None, 0, str(failure))
        muxer.dropped.append(Dropped(stream.index, "audio", f"it cannot be muted: {failure}"))

    def _splicer(self, stream: AudioStream, codec: str) -> Splicer | PcmSplicer:
        if codec.startswith("pcm_") and codec not in _PCM_WITH_HEADERS:
            return PcmSplicer(stream, self._spans)
        return Splicer(stream, self._spans)

    def holds(self, index: int) -> bool:
        """Whether a stream's packets are to be pushed here."""
        return index in self._ways

    def push(self, packet: Packet[Any], muxer: Muxer) -> None:
        """Take a packet of the source, and write those that are ready.

        Raises:
            NotMutableError: The stream cannot be muted in this way; what was written is of no use.
            OutputError: It cannot be written.
        """
        index = packet.stream_index
        self._write(index, self._ways[index].push(packet), muxer)

    def finish(self, muxer: Muxer) -> None:
        """Write what is left.

        Raises:
            NotMutableError, OutputError: As for `push`.
        """
        for index, way in self._ways.items():
            self._write(index, way.flush(), muxer)

    def _write(self, index: int, packets: list[Packet[Any]], muxer: Muxer) -> None:
        for packet in packets:
            if isinstance(self._ways[index], Recoder):
                muxer.write(packet, index)
            else:
                muxer.copy(packet)

    def rows(self) -> tuple[Muted, ...]:
        """What became of each stream, by index."""
        return tuple(self._counted(self._rows[index]) for index in sorted(self._rows))

    def _counted(self, row: Muted) -> Muted:
        way = self._ways.get(row.index)
        replaced = 0 if way is None or isinstance(way, Recoder) else way.replaced
        return Muted(row.index, row.codec, row.way, row.encoder, replaced, row.why)
