"""Workers of a redaction that die while nobody asks them, or beside others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes import Video, make
from vidmod.containment import Limits
from vidmod.errors import SourceError
from vidmod.redacting.clerk import Clerk, Office
from vidmod.redacting.messages import ListTask, Packets


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("film") / "film.mp4", Video("libx264", count=60))


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office(Limits())
    yield office
    office.close()


@pytest.fixture
def descriptor(film: Path) -> Iterator[int]:
    number = os.open(film, os.O_RDONLY)
    yield number
    os.close(number)


def test_several_are_asked_at_once(office: Office, descriptor: int) -> None:
    with Clerk(office, descriptor, "one") as one, Clerk(office, descriptor, "two") as two:
        track = one.probe().tracks[0]
        counts = [0, 0]
        for place, reply in office.gather([(one, ListTask(track)), (two, ListTask(track))]):
            assert isinstance(reply, Packets)
            counts[place] += len(reply.rows)
        assert counts == [60, 60]


def test_one_that_died_while_another_was_asked_is_not_waited_for(office: Office, descriptor: int) -> None:
    with Clerk(office, descriptor, "one") as one, Clerk(office, descriptor, "two") as two:
        track = one.probe().tracks[0]
        two.probe()
        assert two.worker.pid is not None
        os.kill(two.worker.pid, signal.SIGKILL)
        for _ in range(20):
            list(office.gather([(one, ListTask(track))]))
        with pytest.raises(SourceError, match="two: the process that was at work on it"):
            list(office.gather([(one, ListTask(track)), (two, ListTask(track))]))
