"""What of every frame may be seen, decided on values alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidmod.live.filtering.gate import Decision, Gate
from vidmod.live.filtering.rules import CoverAll, Rules
from vidmod.policy import Category, Policy
from vidmod.predictions import Box, Detection, Predictions, Scores
from vidmod.targets import Targets
from vidmod.tracking import Tracking

RATE, SIZE = 30, (640, 360)
FACE = Category("faces", ("FACE",), 0.4, 0.4)
NSFW = Category("nsfw", ("net.nsfw",), 0.2, 0.8)
NOTHING = Predictions()
BAD = Predictions(scores=(Scores("net", {"nsfw": 0.9}),))
GAP, HOLD = 0.25, 0.5


def make_gate(**changes: float) -> Gate:
    hold = changes.pop("hold_seconds", HOLD)
    settings = {"max_gap_seconds": GAP, **changes}
    return Gate(
        Rules(Targets((FACE,), Policy.default()), (CoverAll(NSFW, NSFW.block, hold),), (FACE, NSFW)),
        Tracking(),
        size=SIZE,
        time_base=Fraction(1, RATE),
        **settings,
    )


def seen(*boxes: Box, score: float = 0.9) -> Predictions:
    return Predictions(detections=tuple(Detection("net", "FACE", score, box) for box in boxes))


def run(looks: dict[int, Predictions], count: int, *, ahead: int = 20, late: int = 3) -> list[Decision]:
    """Decisions when every frame leaves `ahead` frames after it came, and looks take `late` frames."""
    gate = make_gate()
    decisions = []
    for now in range(count + ahead):
        if now < count:
            gate.frame(now, now + 1)
        if now - late in looks:
            gate.look(now - late, looks[now - late])
        if now >= ahead:
            decisions.append(gate.decide(now - ahead, now - ahead + 1))
    return decisions


def hides(decision: Decision, thing: Box) -> bool:
    """Whether all of a thing that is in the picture is covered."""
    x1, y1, x2, y2 = max(0.0, thing[0]), max(0.0, thing[1]), min(SIZE[0], thing[2]), min(SIZE[1], thing[3])
    return decision.whole or any(
        box[0] <= x1 and box[1] <= y1 and box[2] >= x2 and box[3] >= y2 for box in decision.boxes
    )


def reasons(decisions: Iterable[Decision]) -> str:
    """A letter a frame."""
    letters = {"clear": ".", "boxes": "b", "found": "F", "unclear": "~", "unseen": "?"}
    return "".join(letters[row.reason] for row in decisions)


def test_what_lies_between_looks_that_saw_nothing_is_clear() -> None:
    assert reasons(run(dict.fromkeys(range(0, 31, 5), NOTHING), 40)) == "." * 31 + "?" * 9


def test_nothing_looked_at_is_nothing_clear() -> None:
    assert reasons(run({}, 10)) == "?" * 10


def test_looks_too_far_apart_speak_for_themselves_only() -> None:
    decisions = run({0: NOTHING, 7: NOTHING, 15: NOTHING}, 16)
    assert GAP * RATE == 7.5
    assert reasons(decisions) == "." * 8 + "?" * 7 + "."


def test_a_look_that_comes_too_late_counts_for_nothing() -> None:
    assert reasons(run({0: NOTHING, 5: NOTHING}, 6, ahead=2, late=3)) == "?" * 6


def test_a_hit_covers_all_since_the_look_before_and_for_a_while_after() -> None:
    looks = {**dict.fromkeys(range(0, 61, 5), NOTHING), 20: BAD}
    assert reasons(run(looks, 61)) == "." * 16 + "F" * (5 + int(HOLD * RATE)) + "." * (61 - 36)


def test_a_thing_is_covered_before_it_is_first_seen_and_between_looks() -> None:
    looks = {t: seen((100.0 + 2 * t, 100.0, 160.0 + 2 * t, 180.0)) if t >= 20 else NOTHING for t in range(0, 61, 5)}
    decisions = run(looks, 61)
    letters = reasons(decisions)
    # When it came in, between the look at 15 and that at 20, nobody knows.
    assert letters[10:] == "bbbbbb~~~~" + "b" * 41
    assert letters[:3] == "." * 3
    for number in [15, *range(20, 61)]:
        x = 100.0 + 2 * number
        assert any(box[0] <= x and box[2] >= x + 60 for box in decisions[number].boxes)


def test_a_cut_forgets_all() -> None:
    gate = make_gate()
    for number in range(6):
        gate.frame(number, number + 1)
    gate.look(0, NOTHING)
    gate.look(5, NOTHING)
    assert gate.decide(0, 1).reason == "clear"
    gate.cut()
    assert gate.decide(1, 2).reason == "unseen"
    gate.frame(3, 4)
    gate.look(3, NOTHING)
    assert gate.decide(3, 4).reason == "clear"


def test_a_look_at_what_has_long_left_is_left_out() -> None:
    gate = make_gate()
    for number in range(100):
        gate.frame(number, number + 1)
        gate.decide(number, number + 1)
    gate.look(10, BAD)
    gate.look(90, NOTHING)
    gate.frame(100, 101)
    gate.look(95, NOTHING)
    gate.look(100, NOTHING)
    assert gate.decide(100, 101).reason == "clear"


def test_what_makes_no_sense_is_refused() -> None:
    gate = make_gate()
    gate.frame(0, 1)
    with pytest.raises(ValueError, match="Invalid frame"):
        gate.frame(0, 1)
    with pytest.raises(ValueError, match="Invalid frame"):
        gate.frame(5, 5)
    with pytest.raises(ValueError, match="Invalid look"):
        gate.look(7, NOTHING)
    gate.look(0, NOTHING)
    with pytest.raises(ValueError, match="Invalid look"):
        gate.look(0, NOTHING)


def is_sure(predictions: Predictions) -> bool:
    return any(item.score >= FACE.review for item in predictions.detections)


def test_a_thing_that_is_missed_once_is_covered_where_it_was() -> None:
    looks = {t: seen((100.0 + t, 100.0, 160.0 + t, 180.0)) if t != 30 else NOTHING for t in range(0, 61, 5)}
    decisions = run(looks, 61)
    assert reasons(decisions) == "b" * 61
    for number in range(61):
        x = 100.0 + number
        assert any(box[0] <= x and box[2] >= x + 60 for box in decisions[number].boxes)


def test_where_a_thing_was_seen_last_all_is_covered_up_to_the_next_look() -> None:
    looks = {t: seen((100.0, 100.0, 160.0, 180.0)) if t <= 30 else NOTHING for t in range(0, 81, 5)}
    letters = reasons(run(looks, 81))
    assert letters[:36] == "b" * 31 + "~" * 4 + "b"
    assert letters[60:] == "." * 21


def test_what_comes_in_at_a_border_was_there_before_it_was_known() -> None:
    # A head that slides in from above, and is found once most of it is in, at 30.
    def head(t: int) -> tuple[float, float, float, float]:
        return (300.0, -150.0 + 5 * t, 400.0, 5.0 * t)

    looks = {t: seen(head(t)) if t >= 30 else NOTHING for t in range(0, 61, 5)}
    decisions = run(looks, 61, ahead=30, late=3)
    for number in range(6, 61):
        assert hides(decisions[number], head(number)), number
    # And the rest of the picture is seen.
    assert decisions[10].reason == "boxes"


def test_what_is_unsure_while_it_comes_in_leaves_no_hole() -> None:
    # Found by its chin, then hardly and by another part, and then for sure: it is one thing that comes from above.
    def head(t: int) -> tuple[float, float, float, float]:
        return (300.0, -120.0 + 3 * t, 400.0, 3.0 * t)

    looks: dict[int, Predictions] = dict.fromkeys(range(0, 81, 4), NOTHING)
    for t in range(16, 81, 4):
        x1, _, x2, y2 = head(t)
        part = (x1 + 20, 0.0, x2 - 20, y2) if t < 20 else (x1 - 30, 0.0, x2 - 60, y2 - 10) if t < 28 else head(t)
        looks[t] = seen(part, score=0.9 if t < 20 or t >= 28 else 0.26)
    decisions = run(looks, 81, ahead=30, late=3)
    for number in range(3, 60):
        assert hides(decisions[number], head(number)), number


def test_what_goes_out_at_a_border_is_there_after_it_was_known() -> None:
    def body(t: int) -> tuple[float, float, float, float]:
        return (440.0 + 5 * t, 100.0, 540.0 + 5 * t, 300.0)

    looks = {t: seen(body(t)) if t <= 25 else NOTHING for t in range(0, 81, 5)}
    decisions = run(looks, 81, ahead=30, late=3)
    for number in range(40):
        assert hides(decisions[number], body(number)), number
    assert reasons(decisions)[70:] == "." * 11


LOOKS = st.dictionaries(
    st.integers(0, 80),
    st.one_of(
        st.just(NOTHING),
        st.just(BAD),
        st.builds(
            lambda x, y, score: seen((x, y, x + 50.0, y + 60.0), score=score),
            st.floats(0, 590),
            st.floats(0, 300),
            st.floats(0.3, 1.0),
        ),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(LOOKS, st.integers(1, 40), st.integers(0, 20))
def test_no_frame_shows_what_nobody_vouched_for(looks: dict[int, Predictions], ahead: int, late: int) -> None:
    for number, decision in enumerate(run(looks, 81, ahead=ahead, late=late)):
        known = {at for at in looks if at + late <= number + ahead}
        before = max((at for at in known if at <= number), default=None)
        after = min((at for at in known if at >= number), default=None)
        if before is None or after is None or after - before > GAP * RATE:
            assert decision.reason == "unseen"
            continue
        bad = [at for at in known if looks[at] == BAD and before < at]
        if after in bad or (before in known and looks[before] == BAD):
            assert decision.reason == "found"
        earlier = [at for at in known if at <= before]
        if number not in known and not any(looks[at].detections for at in earlier) and is_sure(looks[after]):
            assert decision.whole
        if decision.reason in ("clear", "boxes") and number in looks and number in known:
            for item in looks[number].detections:
                if item.score >= FACE.review:
                    x1, y1, x2, y2 = item.box
                    holds = [b[0] <= x1 and b[1] <= y1 and b[2] >= x2 and b[3] >= y2 for b in decision.boxes]
                    assert any(holds)


def test_what_leaves_before_enough_of_what_follows_is_known_is_covered() -> None:
    gate = make_gate(foresight_seconds=0.5)
    letters = []
    for now in range(80):
        gate.frame(now, now + 1)
        # Looks take 3 frames, and from 30 on 12: of what follows a frame 15 of 20, and then 8, are known.
        late = 3 if now < 30 else 12
        if now == 30:
            continue
        if now >= late and (now < 30 or now - late > 26):
            gate.look(now - late, NOTHING)
        if now >= 20:
            letters.append(gate.decide(now - 20, now - 19).reason)
    assert letters[:10] == ["clear"] * 10
    assert set(letters[20:]) == {"unseen"}


def test_of_a_slow_source_every_frame_is_looked_at_and_nothing_is_waited_for() -> None:
    gate = make_gate(foresight_seconds=0.5)
    letters = []
    for now in range(0, 300, RATE):  # one a second, and a delay of as much
        gate.frame(now, now + RATE)
        if now >= RATE:
            letters.append(gate.decide(now - RATE, now).reason)
        gate.look(now, NOTHING)
    # That it is a slow one, and has not broken off, is known with its third.
    assert set(letters[2:]) == {"clear"}


def test_decisions_are_values() -> None:
    assert dataclasses.asdict(Decision("clear")) == {"reason": "clear", "boxes": ()}
    assert Decision("found").whole
    assert not Decision("boxes", ((0.0, 0.0, 1.0, 1.0),)).whole


EDGE = 0.8
EDGES = {"edge_seconds": EDGE, "foresight_seconds": EDGE, "reach_seconds": 1.5}


def broken_off(
    frames: Iterable[int], *, late: int = 3, ahead: int = 30, unlooked: Iterable[int] = ()
) -> dict[int, str]:
    """Letters of frames at these times, each looked at and nothing seen, that leave a second after they came."""
    gate, came = make_gate(**EDGES, max_gap_seconds=0.4), list(frames)
    found = {}
    for now in range(max(came) + ahead + 1):
        if now in came:
            gate.frame(now, now + 1)
        if now - late in came and now - late not in set(unlooked):
            gate.look(now - late, NOTHING)
        if now - ahead in came:
            found[now - ahead] = reasons([gate.decide(now - ahead, now - ahead + 1)])
    return found


def clear(found: dict[int, str]) -> list[int]:
    return [pts for pts, letter in found.items() if letter == "."]


def test_where_a_source_breaks_off_and_where_it_begins_nothing_leaves_in_clear() -> None:
    """What is partly in the picture there is known by the rest of its way, of which nothing came."""
    found = broken_off([*range(120), *range(150, 250)])
    edge = round(EDGE * RATE)
    assert clear(found) == [*range(edge, 121 - edge), *range(150 + edge, 251 - edge)]


def test_a_break_that_is_over_before_its_frames_leave_is_one() -> None:
    found = broken_off([*range(120), *range(135, 250)])
    assert not set(clear(found)) & {*range(120 - 23, 120), *range(135, 135 + 24)}
    assert 90 in clear(found)
    assert 165 in clear(found)


def test_frames_that_nobody_looked_at_are_no_break() -> None:
    """A look that is late costs the pictures that it is late for, and those that leave before it; no more."""
    found = broken_off(range(300), unlooked=range(120, 140))
    assert not set(clear(found)) & {*range(120 - 24, 120 - 7), *range(120, 140)}
    assert {90, *range(140, 250)} <= set(clear(found))


def test_after_a_long_time_without_a_look_nothing_leaves_in_clear_for_a_while() -> None:
    """What goes out then was seen by no look, and is known by none any more."""
    found = broken_off(range(300), unlooked=range(120, 150))
    edge = round(EDGE * RATE)
    assert clear(found) == [*range(edge, 120 - edge), *range(150 + edge, 301 - edge)]


def test_a_first_look_that_comes_late_is_a_beginning() -> None:
    found = broken_off(range(200), unlooked=range(40))
    edge = round(EDGE * RATE)
    assert clear(found) == [*range(40 + edge, 201 - edge)]


def test_a_pause_that_is_no_break_covers_nothing() -> None:
    found = broken_off([*range(120), *range(126, 250)])
    assert {*range(40, 120), *range(126, 220)} <= set(clear(found))


@pytest.mark.parametrize("apart", [6, 15, 40])
def test_a_slow_source_is_not_broken_all_the_time(apart: int) -> None:
    came = range(0, 600, apart)
    assert {pts for pts in came if 24 + 3 * apart <= pts <= came[-1] - 24} <= set(clear(broken_off(came)))


def test_a_pause_of_a_slow_source_is_a_break() -> None:
    came = [*range(0, 300, 6), *range(360, 700, 6)]
    found = broken_off(came)
    assert not set(clear(found)) & {*range(300 - 17, 300), *range(360, 360 + 24)}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(10, 70), st.integers(1, 3)), min_size=1, max_size=5),
    st.integers(20, 60),
    st.integers(0, 12),
)
def test_no_frame_near_a_break_leaves_in_clear(runs: list[tuple[int, int]], pause: int, late: int) -> None:
    came: list[int] = []
    near: set[int] = set()
    for count, step in runs:
        first = came[-1] + pause if came else 0
        run = range(first, first + count * step, step)
        came += run
        # What follows the last frame for as long as frames are apart is its own time.
        near |= {pts for pts in run if pts < first + EDGE * RATE or pts + EDGE * RATE > run[-1] + step}
    assert not set(clear(broken_off(came, late=late))) & near
