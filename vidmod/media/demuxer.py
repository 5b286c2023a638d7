"""The packets of one stream, numbered, and the way back to any of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard

from vidmod.closing import Closing
from vidmod.errors import SourceUnreadableError
from vidmod.media.facts import Medium, VideoTrack
from vidmod.media.parts import Part
from vidmod.media.source import open_container
from vidmod.timebase import to_pts

# So many read errors in a row mean that nothing more will come.
_MAX_READ_ERRORS = 16
# Formats with an index that seeking can be held to; in the others one reads on from the start.
_INDEXED = ("mov", "matroska")
# Reading on over fewer packets is quicker than seeking.
_FAR_PACKETS = 300
_MAX_PEEKED_PACKETS = 600


class Demuxer(Closing):
    """Gives one stream's packets with data, each with its number.

    A demuxer gives the same packets in the same order every time, so a number names a packet: what
    a seek finds is held against what was found before, and where it is another, reading begins at
    the start of the file again.

    Use it as a context manager, and from one thread.

    Args:
        source: A local file.
        track: Which stream.
        edit_lists: Whether an MP4's edit lists are honoured.
        others: Read the other streams too, to know when they end.

    Raises:
        SourceError: The file cannot be opened, or is another one by now.
    """

    def __init__(
        self,
        source: Path | Medium,
        track: VideoTrack,
        *,
        edit_lists: bool = True,
        others: bool = False,
    ) -> None:
        self.medium = Medium.of(source)
        self.track = track
        self.read_errors = 0
        self.other_end_pts = 0
        self.number = 0
        self._edit_lists = edit_lists
        self._others = others
        self._held: Packet[Any] | None = None
        self._open()
        self._indexed = self.container.format.name.startswith(_INDEXED)

    def _open(self) -> None:
        """The file and its stream, with a decoder that has seen nothing yet."""
        self.container = open_container(self.medium, edit_lists=self._edit_lists)
        index = self.track.index
        stream = next((item for item in self.container.streams.video if item.index == index), None)
        if stream is None:
            self.close()
            raise SourceUnreadableError(f"{self.medium}: changed while it was read; stream {index} is gone.")
        self.stream = stream
        self.number = 0
        self._held = None
        if not self._others:
            for other in self.container.streams:
                if other.index != index:
                    other.discard = Discard.all

    def close(self) -> None:
        """Release the file and its decoder; more than once is fine."""
        self.container.close()

    def reopen(self) -> None:
        """Begin again at the start of the file, with a decoder that has seen nothing."""
        self.close()
        self._open()

    def packets(self) -> Iterator[Packet[Any]]:
        """The packets from here on; read errors are counted, and reading goes on past them."""
        held, self._held = self._held, None
        if held is not None:
            self.number += 1
            yield held
        errors = 0
        while errors < _MAX_READ_ERRORS:
            try:
                for packet in self.container.demux(*(self.container.streams if self._others else (self.stream,))):
                    errors = 0
                    if not packet.size:
                        continue
                    if packet.stream_index == self.track.index:
                        self.number += 1
                        yield packet
                    else:
                        self._note_other(packet)
                return
            except FFmpegError:
                errors += 1
                self.read_errors += 1

    def _note_other(self, packet: Packet[Any]) -> None:
        if packet.pts is not None and packet.time_base:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self.other_end_pts = max(self.other_end_pts, to_pts(end, self.track.time_base))

    def part(self, part: Part) -> Iterator[Packet[Any]]:
        """The packets of a part, wherever one was before.

        Raises:
            SourceUnreadableError: They are not where they were; the file was changed.
        """
        self.go_to(part)
        return islice(self.packets(), part.count if part.count >= 0 else None)

    def go_to(self, part: Part) -> None:
        """Have the part's first packet come next."""
        ahead = part.first - self.number
        if (ahead < 0 or ahead > _FAR_PACKETS) and self._indexed:
            self._seek(part)
        if self.number > part.first:
            self.reopen()
        if self.number < part.first:
            packets = self.packets()
            while self.number < part.first and next(packets, None) is not None:
                pass
        if part.position is not None and self._held is None:
            self._held = next(self.packets(), None)
            self.number = part.first
            if self._held is None or position_of(self._held) != part.position:
                raise SourceUnreadableError(f"{self.medium}: changed while it was read.")

    def _seek(self, part: Part) -> None:
        position = part.position
        if position is None or position[0] is None:
            return
        try:
            self.container.seek(position[0], stream=self.stream, backward=True)
            self._held = None
            for packet in islice(self.packets(), _MAX_PEEKED_PACKETS):
                if position_of(packet) == position:
                    self._held = packet
                    self.number = part.first
                    return
        except FFmpegError:
            pass
        # Where the index leads elsewhere, it is not asked again.
        self._indexed = False
        self.reopen()


def position_of(packet: Packet[Any]) -> tuple[int | None, int | None, int | None, int]:
    """What tells a packet from the others: pts, dts, byte position, size."""
    return packet.pts, packet.dts, packet.pos, packet.size
