"""When hits begin, become worse and end, by looks alone."""

from __future__ import annotations

import io
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vidmod.blurring import blurred
from vidmod.live.messages import Found, Sight
from vidmod.live.telling.events import MAX_LABELS, HitBegan, HitBlocked, HitEnded, Scribe
from vidmod.live.telling.hits import HitEvent, Hits
from vidmod.live.times import stream_seconds
from vidmod.policy import Category, Live

ORIGIN = 1000.0
EXPLICIT = Category("explicit", ("open_nsfw.nsfw", "BREAST"), 0.5, 0.8)
FACES = Category("faces", ("FACE",), 0.4, 0.9)


def sight(seconds: float, /, nsfw: float | None = None, grid: bytes | None = None, **found: float) -> Sight:
    scores = [] if nsfw is None else [("open_nsfw", {"nsfw": nsfw, "sfw": 1 - nsfw})]
    rows = [Found("nudenet", label, score, (0, 0, 10, 10)) for label, score in found.items()]
    return Sight(round((ORIGIN + seconds) * 90_000), (320, 180), scores, rows, grid)


def hits(*categories: Category, hold: float = 2.0) -> Hits:
    numbers = itertools.count(1)
    return Hits(categories or (EXPLICIT, FACES), hold_seconds=hold, origin=ORIGIN, new_id=lambda: f"h{next(numbers)}")


def told(events: list[HitEvent]) -> list[tuple[str, str]]:
    return [(event.name, event.hit.category) for event in events]


def test_it_begins_goes_on_and_ends() -> None:
    found = hits()
    assert found.see(sight(0.0, nsfw=0.49)) == []
    (began,) = found.see(sight(0.5, nsfw=0.6))
    assert isinstance(began, HitBegan)
    assert (began.hit.id, began.hit.category, began.hit.verdict) == ("h1", "explicit", "review")
    assert (began.hit.start_seconds, began.hit.end_seconds, began.hit.peak) == (0.5, None, 0.6)
    assert found.see(sight(1.5, nsfw=0.7)) == []
    assert found.see(sight(2.5, nsfw=0.1)) == []
    assert len(found) == 1
    assert found.expire(3.5) == []
    (ended,) = found.expire(3.51)
    assert isinstance(ended, HitEnded)
    assert (ended.hit.id, ended.hit.start_seconds, ended.hit.end_seconds) == ("h1", 0.5, 1.5)
    assert (ended.hit.verdict, ended.hit.peak, ended.hit.labels) == ("review", 0.7, {"nsfw": 0.7})
    assert len(found) == 0
    assert found.began == {"explicit": 1}


def test_looks_within_the_hold_time_are_one_hit_and_others_are_another() -> None:
    found = hits()
    found.see(sight(0.0, nsfw=0.6))
    assert found.see(sight(2.0, nsfw=0.6)) == []
    ended, began = found.see(sight(4.1, nsfw=0.6))
    assert (ended.name, ended.hit.end_seconds) == ("hit_ended", 2.0)
    assert (began.name, began.hit.start_seconds, began.hit.id) == ("hit_began", 4.1, "h2")
    assert found.began == {"explicit": 2}


def test_what_becomes_block_is_told_at_once_under_the_same_id() -> None:
    found = hits()
    (began,) = found.see(sight(0.0, nsfw=0.6))
    (blocked,) = found.see(sight(0.5, nsfw=0.8))
    assert isinstance(blocked, HitBlocked)
    assert (blocked.hit.id, blocked.hit.verdict, blocked.at_seconds) == (began.hit.id, "block", 0.5)
    assert blocked.hit.start_seconds == 0.0
    assert found.see(sight(0.6, nsfw=0.9)) == [], "only once"
    assert found.see(sight(0.7, nsfw=0.6)) == []
    (ended,) = found.end()
    assert (ended.hit.verdict, ended.hit.peak) == ("block", 0.9)


def test_what_is_block_from_its_first_look_on_begins_as_that() -> None:
    found = hits()
    (began,) = found.see(sight(0.0, nsfw=0.95))
    assert (began.name, began.hit.verdict) == ("hit_began", "block")
    assert found.see(sight(0.1, nsfw=0.97)) == []


def test_categories_are_apart() -> None:
    found = hits()
    assert told(found.see(sight(0.0, nsfw=0.6, FACE=0.5))) == [("hit_began", "explicit"), ("hit_began", "faces")]
    assert told(found.see(sight(1.5, FACE=0.95))) == [("hit_blocked", "faces")]
    assert told(found.see(sight(2.5, FACE=0.5))) == [("hit_ended", "explicit")]
    assert told(found.end()) == [("hit_ended", "faces")]
    assert found.end() == []


def test_a_category_may_have_a_hold_time_of_its_own() -> None:
    found = hits(Category("faces", ("FACE",), 0.4, 0.9, live=Live(hold_seconds=10.0)), hold=1.0)
    found.see(sight(0.0, FACE=0.5))
    assert found.expire(9.9) == []
    assert told(found.expire(10.1)) == [("hit_ended", "faces")]


def test_labels_have_their_best_scores_and_only_the_categorys() -> None:
    found = hits()
    found.see(sight(0.0, nsfw=0.6, BREAST=0.3, FACE=0.1))
    found.see(sight(0.5, nsfw=0.55, BREAST=0.7))
    (ended,) = found.end()
    assert ended.hit.labels == {"BREAST": 0.7, "nsfw": 0.6}
    assert list(ended.hit.labels) == ["BREAST", "nsfw"], "the best first"


def test_ids_are_unique_over_runs() -> None:
    ids = set()
    for _ in range(50):
        found = Hits([EXPLICIT], hold_seconds=1.0, origin=ORIGIN)
        ids |= {event.hit.id for event in found.see(sight(0.0, nsfw=0.9))}
    assert len(ids) == 50


def picture(level: int) -> bytes:
    return blurred(np.full((180, 320, 3), level, np.uint8)).tobytes()


def brightness(thumbnail: bytes | None) -> float:
    assert thumbnail is not None
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert image.size == (240, 135)
        assert image.mode == "L"
        return float(np.asarray(image).mean())


def test_the_thumbnail_is_of_the_best_look_that_has_one() -> None:
    found = hits()
    (began,) = found.see(sight(0.0, nsfw=0.6, grid=picture(50)))
    assert brightness(began.hit.thumbnail) == pytest.approx(50, abs=2)
    found.see(sight(0.5, nsfw=0.7, grid=picture(200)))
    found.see(sight(0.6, nsfw=0.65, grid=picture(20)))
    found.see(sight(0.7, nsfw=0.75))
    (ended,) = found.end()
    assert brightness(ended.hit.thumbnail) == pytest.approx(200, abs=2)


def test_a_picture_that_comes_later_is_better_than_none() -> None:
    found = hits()
    (began,) = found.see(sight(0.0, nsfw=0.7))
    assert began.hit.thumbnail is None
    found.see(sight(0.5, nsfw=0.6, grid=picture(90)))
    (ended,) = found.end()
    assert brightness(ended.hit.thumbnail) == pytest.approx(90, abs=2)


@pytest.mark.parametrize(
    ("grid", "size"), [(b"", (320, 180)), (b"x", (320, 180)), (bytes(4096), (0, 0)), (b"x" * 99, (1, -5))]
)
def test_a_grid_that_is_none_costs_the_picture_only(grid: bytes, size: tuple[int, int]) -> None:
    look = sight(0.0, nsfw=0.7)
    look.grid, look.size = grid, size
    (began,) = hits().see(look)
    assert began.name == "hit_began"


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan"), float("inf")])
def test_scores_that_are_none_are_refused_and_change_nothing(score: float) -> None:
    found = hits()
    found.see(sight(0.0, nsfw=0.6))
    with pytest.raises(ValueError, match="probability"):
        found.see(sight(0.1, FACE=score))
    assert len(found) == 1
    assert found.began == {"explicit": 1}


def test_looks_out_of_order_are_of_the_same_hit() -> None:
    found = hits()
    found.see(sight(5.0, nsfw=0.6))
    assert found.see(sight(4.0, nsfw=0.7)) == []
    (ended,) = found.end()
    assert (ended.hit.start_seconds, ended.hit.end_seconds, ended.hit.peak) == (5.0, 5.0, 0.7)


def test_a_category_of_many_labels_fits_an_event() -> None:
    labels = tuple(f"L{number}" for number in range(150))
    found = hits(Category("many", labels, 0.5, 0.9))
    look = sight(0.0)
    look.found = [Found("m", label, 0.5 + number / 1000, (0, 0, 1, 1)) for number, label in enumerate(labels)]
    (began,) = found.see(look)
    assert len(began.hit.labels) == MAX_LABELS
    assert max(began.hit.labels.values()) == began.hit.labels["L149"]


def test_every_event_can_be_written() -> None:
    scribe = Scribe("live")
    found = hits()
    events = found.see(sight(0.0, nsfw=0.6)) + found.see(sight(0.1, nsfw=0.9)) + found.end()
    names = [json.loads(scribe.line(event))["event"] for event in events]
    assert names == ["hit_began", "hit_blocked", "hit_ended"]


looks = st.lists(
    st.tuples(st.floats(0.0, 3.0), st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.8, 1.0]), st.sampled_from([0.0, 0.4, 0.95])),
    max_size=40,
)


@given(looks)
def test_hits_are_what_looks_make_them(rows: list[tuple[float, float, float]]) -> None:
    """Every hit begins once, ends once, holds every look that is one, and no two of a category meet."""
    found, events, now = hits(), [], 0.0
    seen: dict[str, list[tuple[float, float]]] = {"explicit": [], "faces": []}
    for step, nsfw, face in rows:
        look = sight(now + step, nsfw=nsfw, FACE=face)
        now = stream_seconds(look.pts, ORIGIN)
        events += found.see(look)
        for name, score, least in (("explicit", nsfw, 0.5), ("faces", face, 0.4)):
            if score >= least:
                seen[name].append((now, score))
    events += found.end()
    for name, block in (("explicit", 0.8), ("faces", 0.9)):
        ended = [event.hit for event in events if isinstance(event, HitEnded) and event.hit.category == name]
        assert found.began.get(name, 0) == len(ended)
        groups: list[list[tuple[float, float]]] = []
        for row in seen[name]:
            if groups and row[0] - groups[-1][-1][0] <= 2.0:
                groups[-1].append(row)
            else:
                groups.append([row])
        wanted = [(group[0][0], group[-1][0], max(score for _, score in group)) for group in groups]
        assert [(row.start_seconds, row.end_seconds, row.peak) for row in ended] == wanted
        assert [row.verdict == "block" for row in ended] == [peak >= block for _, _, peak in wanted]
        by_id = {row.id: [event.name for event in events if event.hit.id == row.id] for row in ended}
        assert all(names[0] == "hit_began" and names[-1] == "hit_ended" for names in by_id.values())
        assert all(names[1:-1] in ([], ["hit_blocked"]) for names in by_id.values())
