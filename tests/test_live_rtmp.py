"""`vidmod live` between a real nginx, a real publisher and a real player, for some seconds each, in small.

What `benchmarks/live.py` does for long and in any size. A slow machine may cover more, and analyse less; what is to be
covered is covered on any.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from live_faults import Saboteur, broken_connections, recovery
from live_measuring import Shown, flow, offsets, safety
from live_running import Usage, covering, rig
from live_sources import Film, Plan, made, variants

from tests.rtmp import CONNECTED, PICTURE, SOUND, Nginx, Player, Publisher, missing, records, sent
from vidmod.models import find
from vidmod.models.weights import obtain

SIZE, FPS = (320, 180), 30
DELAY = 1.0
# Of models on a machine that is busy.
STARTING_SECONDS = 90.0
SEED = 6
FAULTS = (
    "publisher: killed",
    "source: killed",
    "filter: killed",
    "source: swapped",
    "analyst: killed",
    "source: garbage",
    "server: stopped",
    "source: clock ahead",
    "reader: killed",
    "source: clock back",
    "analyst: stalled",
    "server: killed",
)

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.slow,
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def film(films: Path) -> Film:
    """A target that appears at once, comes in from a side, and appears at once again."""
    return made(Plan(size=SIZE, fps=FPS, seconds=16, entries=3, seed=5), films)


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    for name in ("open_nsfw", "nudenet"):
        obtain(find(name))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def told(leaks: tuple[Shown, ...]) -> str:
    return "\n".join(
        f"{frame.seconds:.3f} s: film {frame.film}, frame {frame.number}: {frame.leaks}" for frame in leaks
    )


# -- the rig itself ------------------------------------------------------------------------------------------


def test_what_is_published_is_played(film: Film, tmp_path: Path) -> None:
    """Without any filter between: server, publisher and player are what they should be."""
    with (
        Nginx(tmp_path / "nginx") as server,
        Publisher(server.url("in"), film.path, tmp_path / "sent") as publisher,
        Player(server.url("in"), tmp_path / "played") as player,
    ):
        wait(lambda: count(player.record, PICTURE) >= 45)
        publisher.order("jump", 5)
        wait(lambda: leaps(player.record) >= 1)
        publisher.kill()
        before = count(player.record, PICTURE)
        publisher.start()
        wait(lambda: count(player.record, PICTURE) >= before + 15)
        assert count(player.record, CONNECTED) == 1
        assert count(player.record, SOUND) > 50
        server.kill()
        server.start()
        publisher.kill()
        publisher.start()
        wait(lambda: count(player.record, CONNECTED) == 2)
    rows = list(sent(publisher.log))
    assert [row.number for row in rows[:30]] == list(range(30))
    steps = np.diff([row.time for row in rows[5:30]])
    assert np.median(steps) == pytest.approx(1 / FPS, abs=0.01)


def wait(until: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def count(record: Path, kind: bytes) -> int:
    if not record.exists():
        return 0
    with record.open("rb") as file:
        return sum(row.kind == kind for row in records(file))


def leaps(record: Path) -> int:
    with record.open("rb") as file:
        times = [row.pts for row in records(file) if row.kind == PICTURE]
    return int((np.diff(times) > 3000).sum())


# -- the filter ----------------------------------------------------------------------------------------------


def test_a_stream_goes_through_as_it_was(films: Path, folder: Path) -> None:
    """Nothing is to be covered: rate, delay, sound beside the picture."""
    flashing = made(Plan(size=SIZE, fps=FPS, seconds=8, flashes=True), films)
    usage = Usage()
    with rig(folder, [flashing], options=covering("--delay", str(DELAY))) as run:
        run.wait_for_clear(STARTING_SECONDS)
        run.wait(3)
        start = time.monotonic()
        run.wait(20, usage=usage)
        end = time.monotonic()
        run.wait(DELAY + 1)
        roles = set(run.live.processes())
    watched = run.watched()
    through = flow(watched.frames, run.log(), start, end)
    assert {"parent", "reader", "filter", "analyst", "publisher"} <= roles
    assert len(watched.connected) == 1
    assert watched.gone == []
    assert watched.damaged == 0
    assert through.fps == pytest.approx(FPS, abs=1.5)
    # What is seldom enough looked at is covered; what comes at all is on time.
    assert through.clear >= 0.3 * through.sent
    assert through.unknown == 0
    assert np.median(through.delays) == pytest.approx(DELAY + 0.5, abs=0.1)
    late = [offset for _, offset in offsets(watched)]
    assert len(late) >= 3
    assert max(map(abs, late)) <= 0.045


def test_the_target_is_never_seen(film: Film, folder: Path) -> None:
    with rig(folder, [film], options=covering("--delay", str(DELAY))) as run:
        run.wait_for_clear(STARTING_SECONDS)
        run.wait(32)
    found = safety(run.watched().frames, run.log(), [film])
    assert found.frames > 28 * FPS
    assert found.sent_targets > 10 * FPS
    assert found.clear_others > 2 * FPS
    assert not found.leaks, told(found.leaks)


def test_what_is_not_to_be_covered_is_seen(film: Film, folder: Path) -> None:
    """The same, but for what is looked for: without it the tests around this one would show nothing."""
    with rig(folder, [film], options=["--labels", "FEET_EXPOSED"]) as run:
        run.wait_for_clear(STARTING_SECONDS)
        run.wait(8)
    found = safety(run.watched().frames, run.log(), [film])
    assert len(found.leaks) > FPS
    assert len(found.leaks) == found.targets


def test_the_target_is_never_seen_whatever_breaks(film: Film, folder: Path) -> None:
    chance = random.Random(SEED)
    others = [plan for plan in variants(film.plan) if plan.ident in (1, 3)]
    every = [film, *(made(plan, film.path.parent) for plan in others)]
    with rig(folder, every, options=covering("--delay", str(DELAY))) as run:
        run.wait_for_clear(STARTING_SECONDS)
        saboteur = Saboteur(run, chance)
        for kind in FAULTS:
            saboteur.bring_about(kind)
            run.wait(chance.uniform(1.0, 4.0))
        run.wait(12)
    watched, log = run.watched(), run.log()
    found = safety(watched.frames, log, every)
    assert [fault.kind for fault in saboteur.faults] == list(FAULTS)
    assert found.sent_targets > 10 * FPS
    assert not found.leaks, told(found.leaks)
    assert broken_connections(watched.gone, saboteur.faults) == []
    assert len(watched.connected) <= 1 + sum(fault.is_server for fault in saboteur.faults)
    last = recovery(saboteur.faults[-1], watched.frames, log)
    assert last is not None, "It never came back."
