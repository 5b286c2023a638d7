"""The process that publishes, without its neighbours: what of theirs it passes on, and what stands in."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import pytest

from vidmod.live.messages import Begin, Leave, PublisherSettings, WantKey
from vidmod.live.processes import publisher
from vidmod.live.processes.station import Station
from vidmod.media.live import TIME_BASE, PictureEncoder, Shape

RATE, SIZE = 25, (160, 96)
SHAPE = Shape.like(SIZE, Fraction(RATE))
PERIOD = round(1 / RATE / TIME_BASE)


class Written:
    """What would go to a server: pts of pictures, and whether they are key pictures."""

    rows: list[tuple[int, bool, bytes]]

    def __init__(self, *_: Any, **__: Any) -> None:
        Written.rows = []

    def write(self, data: bytes, pts: int, *, is_sound: bool, key: bool) -> None:
        assert not is_sound
        Written.rows.append((pts, key, data))

    def close(self) -> None:
        pass


class Neighbours:
    """A station at which a test says what comes."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, _: str, message: object) -> bool:
        self.sent.append(message)
        return True

    def has(self, _: str) -> bool:
        return True

    def wanted(self) -> int:
        found = sum(isinstance(row, WantKey) for row in self.sent)
        self.sent.clear()
        return found


class Filter:
    """Encodes pictures as the filter does."""

    def __init__(self) -> None:
        self._encoder = PictureEncoder(SHAPE)
        self.data: set[bytes] = set()

    def picture(self, pts: int, *, key: bool = False) -> Leave:
        noise = np.random.default_rng(pts).integers(60, 120, (SIZE[1] * 3 // 2, SIZE[0]), np.uint8)
        frame = av.VideoFrame.from_ndarray(noise, "yuv420p")
        (item,) = self._encoder.picture(frame, (), pts, key=key)
        self.data.add(item.data)
        return Leave(False, item.pts, item.key, item.data)


class Publisher:
    def __init__(self) -> None:
        self.neighbours = Neighbours()
        settings = PublisherSettings("rtmp://host/out", 5.0, origin=0.0)
        self._it = publisher._Publisher(cast(Station[PublisherSettings], self.neighbours), settings)
        self._it._hear("leaving", Begin(SIZE, (RATE, 1), SHAPE.bits, SHAPE.preset, b"", None))
        self._it._connect()

    def hear(self, *rows: Leave) -> None:
        for row in rows:
            self._it._hear("leaving", row)

    def stand_in(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._it._stand_in()
            time.sleep(0.02)

    @property
    def last(self) -> int:
        return self._it._last[False]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> tuple[Publisher, Filter]:
    monkeypatch.setattr(publisher, "NetworkWriter", Written)
    return Publisher(), Filter()


def now() -> int:
    return round(time.monotonic() / TIME_BASE)


def joined(found: Filter) -> list[bool]:
    """Of every picture of the filter's that does not follow another one of its: whether it is a key picture."""
    theirs = [data in found.data for _, _, data in Written.rows]
    rows = zip(Written.rows, theirs, [False, *theirs], strict=False)
    return [key for (_, key, _), is_theirs, was_theirs in rows if is_theirs and not was_theirs]


def test_what_comes_is_passed_on_from_a_key_picture_on(made: tuple[Publisher, Filter]) -> None:
    it, found = made
    start = now()
    rows = [found.picture(start + step * PERIOD, key=step == 5) for step in range(1, 10)]
    assert rows[0].key
    it.hear(*rows[1:])
    assert [row[2] for row in Written.rows] == [row.data for row in rows[4:]]


def test_after_what_stood_in_pictures_are_joined_by_a_key_picture_only(made: tuple[Publisher, Filter]) -> None:
    """Stopped for a while it stands in first, and then hears what had come meanwhile, of before that."""
    it, found = made
    start = now()
    it.hear(*(found.picture(start + step * PERIOD, key=step == 0) for step in range(3)))
    backlog = [found.picture(start + step * PERIOD, key=step == 4) for step in range(3, 40)]
    it.stand_in(1.2)
    assert backlog[1].pts <= it.last < backlog[-1].pts
    it.neighbours.wanted()
    it.hear(*backlog)
    assert not any(data == backlog[-1].data for _, _, data in Written.rows)
    assert it.neighbours.wanted() == 1
    fresh = [found.picture(backlog[-1].pts + step * PERIOD, key=step == 1) for step in range(1, 5)]
    it.hear(*fresh)
    assert [row[2] for row in Written.rows[-4:]] == [row.data for row in fresh]
    assert joined(found) == [True, True]
    assert all(b > a for (a, _, _), (b, _, _) in zip(Written.rows, Written.rows[1:], strict=False))


def test_pictures_that_go_back_are_joined_by_a_key_picture_only(made: tuple[Publisher, Filter]) -> None:
    it, found = made
    start = now()
    it.hear(*(found.picture(start + step * PERIOD, key=step == 0) for step in range(5)))
    back, *rest = (found.picture(start + step * PERIOD, key=step == 7) for step in (4, 5, 6, 7, 8))
    it.neighbours.wanted()
    it.hear(back, *rest)
    assert it.neighbours.wanted() == 1
    assert [row[2] for row in Written.rows[5:]] == [row.data for row in rest[2:]]
