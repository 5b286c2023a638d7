"""Decoding only what is wanted of a sound part: the same pictures as decoding everything gives, for less.

What nothing refers to and nobody wants is not decoded (H.264's nal_ref_idc of 0), nor is what
follows the last wanted picture where the next run of packets begins anew (an IDR picture, ITU-T
H.264 and H.265, 3). What remains is decoded from the same references, so it is the same to the bit.

At the first sign of damage or doubt the part is given up with :class:`NotSparseError`, and
:class:`vidmod.media.reader.Reader` takes it whole, with a full account.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.video.frame import VideoFrame

from vidmod.media.demuxer import Demuxer
from vidmod.media.frame import Frame, Scaler
from vidmod.media.parts import Part, Shown
from vidmod.media.source import configure_decoder


class NotSparseError(Exception):
    """This part has to be decoded whole; nothing is wrong with the caller."""


class SparseReader:
    """Decodes wanted pictures of one part after another with one decoder.

    Args:
        demuxer: Of the stream; this takes over its decoder.
    """

    def __init__(self, demuxer: Demuxer) -> None:
        self._demuxer = demuxer
        self._scaler = Scaler()
        self._configured: object = None

    def frames(self, part: Part, wanted: Collection[int]) -> Iterator[Frame]:
        """The pictures of a sound part that are shown at the times `wanted`, in order.

        Raises:
            NotSparseError: From here on the part has to be decoded whole. What was given is right.
            SourceError: The packets are not where they were.
        """
        try:
            yield from self._frames(part, frozenset(wanted))
        except FFmpegError as exc:
            raise NotSparseError(f"Damage: {exc}.") from exc

    def _frames(self, part: Part, wanted: frozenset[int]) -> Iterator[Frame]:
        due = deque(shown for shown in part.pictures() if shown.pts in wanted)
        if not due:
            return
        needed = frozenset(part.needed(wanted))
        packets = islice(self._demuxer.part(part), max(needed) + 1)
        self._begin()
        for place, packet in enumerate(packets):
            if place not in needed:
                continue
            if packet.pts != part.times[place]:
                raise NotSparseError("Other packets than before.")
            pictures = self._demuxer.stream.codec_context.decode(packet)
            yield from self._given(pictures, due)
            if not due:
                return
        with contextlib.suppress(AvEOFError):
            yield from self._given(self._demuxer.stream.codec_context.decode(None), due)
        if due:
            raise NotSparseError("A wanted picture did not come out.")

    def _begin(self) -> None:
        """A decoder that remembers nothing."""
        stream = self._demuxer.stream
        if self._configured is not stream:
            configure_decoder(stream, self._demuxer.medium.max_pixels)
            self._configured = stream
        stream.codec_context.flush_buffers()

    def _given(self, pictures: Iterable[VideoFrame], due: deque[Shown]) -> Iterator[Frame]:
        for picture in pictures:
            if picture.is_corrupt:
                raise NotSparseError("The decoder patched a picture.")
            if not due or picture.pts is None or picture.pts < due[0].pts:
                continue
            if picture.pts > due[0].pts:
                raise NotSparseError("A wanted picture did not come out.")
            shown = due.popleft()
            yield Frame(shown.pts, shown.end_pts, self._demuxer.track.time_base, picture, self._scaler)
