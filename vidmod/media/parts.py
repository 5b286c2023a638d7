"""A stream cut into parts that can be decoded apart: what is known of each before anything is decoded."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

import msgspec

# What a packet is, as bits.
ANEW = 1  # nothing from here on refers to anything before
REFERENCE = 2  # other pictures may refer to it
PICTURE = 4  # it gives a picture
ELSEWHERE = 8  # another part accounts for it

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class Shown(msgspec.Struct, frozen=True):
    """When a picture is shown, half open, in the stream's time base.

    Attributes:
        reference: Whether other pictures may refer to it: what is decoded anyway costs nothing more.
    """

    pts: int
    end_pts: int
    reference: bool = True


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A run of one stream's packets that can be decoded by itself, in decoding order.

    The cuts depend on the file alone, so that who decodes what changes nothing.

    Attributes:
        number: From 0, in order.
        first, count: Its packets with data; a count of -1 is all the rest.
        position: Where to find the first packet again: (pts, dts, byte position, size).
        last: Nothing follows it.
        sound: Every packet looks as an encoder wrote it, with a time of its own, so that the pictures
            and their times are known. What is not sound is decoded whole, with a full account.
        start_pts: When its first picture is shown; None where the packets do not say.
        end_pts: When the next part's first picture is shown, or the last picture's end.
        times, sizes, marks: Of each packet: pts, bytes, and bits of `ANEW`, `REFERENCE`, `PICTURE`,
            `ELSEWHERE`. Empty where the part is not sound.
        borrowed: How many packets after the first the part before accounts for.

    Raises:
        ValueError: The fields contradict each other.
    """

    number: int
    first: int
    count: int
    last: bool
    sound: bool
    position: tuple[int | None, int | None, int | None, int] | None = None
    start_pts: int | None = None
    end_pts: int | None = None
    times: list[int] = []
    sizes: list[int] = []
    marks: list[int] = []
    borrowed: int = 0

    def __post_init__(self) -> None:
        listed = self.count if self.sound else 0
        if not len(self.times) == len(self.sizes) == len(self.marks) == listed:
            raise ValueError("A part has to list every packet if it is sound, and none if it is not.")
        if self.first < 0 or self.number < 0 or self.count < -1 or (self.sound and self.end_pts is None):
            raise ValueError("A part of which the numbers make no sense.")
        if not all(_LEAST <= value <= _MOST for value in (*self.times, self.start_pts or 0, self.end_pts or 0)):
            raise ValueError("A part of which the times make no sense.")

    def pictures(self) -> list[Shown]:
        """Its pictures in the order in which they are shown; only of a sound part."""
        rows = sorted(
            (pts, bool(mark & REFERENCE)) for pts, mark in zip(self.times, self.marks, strict=True) if mark & PICTURE
        )
        if not rows or self.end_pts is None:
            return []
        shown = [Shown(pts, following[0], reference) for (pts, reference), following in pairwise(rows)]
        return [*shown, Shown(rows[-1][0], self.end_pts, rows[-1][1])]

    def key_times(self) -> list[int]:
        """When the pictures are shown that can be decoded by themselves, in order."""
        return sorted(self.times[start] for start, _ in self.runs() if self.marks[start] & PICTURE)

    def needed(self, wanted: Collection[int]) -> Iterator[int]:
        """The places of the packets to decode so that the pictures at `wanted` come out.

        Of every run from one that starts anew to the next: what others may refer to, and what is
        wanted, up to the last that is wanted.
        """
        for start, end in self.runs():
            last = max((place for place in range(start, end) if self.times[place] in wanted), default=-1)
            for place in range(start, last + 1):
                if self.marks[place] & REFERENCE or self.times[place] in wanted:
                    yield place

    def runs(self) -> list[tuple[int, int]]:
        """The places [start, end) of its runs of packets, each decodable by itself."""
        starts = [place for place, mark in enumerate(self.marks) if mark & ANEW or place == 0]
        return list(pairwise([*starts, len(self.marks)])) if starts else []

    def pieces(self) -> list[Part]:
        """A sound part as one part for each of its runs, for another try at what could not be decoded."""
        runs = self.runs() if self.sound else []
        shown = self.pictures()
        rows = []
        for start, end in runs if len(runs) > 1 else []:
            rows_of_run = zip(self.times[start:end], self.marks[start:end], strict=True)
            times = [pts for pts, mark in rows_of_run if mark & PICTURE]
            if not times:
                return []
            rows.append(
                msgspec.structs.replace(
                    self,
                    first=self.first + start,
                    count=end - start,
                    position=self.position if start == 0 else None,
                    start_pts=min(times),
                    end_pts=next(item.end_pts for item in shown if item.pts == max(times)),
                    times=self.times[start:end],
                    sizes=self.sizes[start:end],
                    marks=self.marks[start:end],
                )
            )
        return rows


class Surveyed(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a stream once all of its packets were read, or as many as were asked for.

    Attributes:
        packets: With data.
        read_errors: Times that reading on failed.
        truncated: The file ends before the stream does.
        declared_end: Up to when the stream was to go, if it was truncated; in its time base.
        ended: Whether its end was reached.
    """

    packets: int
    read_errors: int = 0
    truncated: bool = False
    declared_end: int | None = None
    ended: bool = True
