"""Which pictures are looked at: contracts that hold for any stream and any scores, without media or models."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import given as _given
from hypothesis import strategies as st

from vidmod import plans
from vidmod.media import Part
from vidmod.media.parts import ANEW, PICTURE, REFERENCE, Shown
from vidmod.plans import AdaptivePictures, Audit, Look, Plan, Scores, UniformPictures, adaptive
from vidmod.plans.plan import EveryPicture, KeyPictures, SpanPictures
from vidmod.sampling import Uniform
from vidmod.timebase import Span

MILLISECONDS = Fraction(1, 1000)
RATE = 25
FRAME = 1000 // RATE
GAP, CLOSE = Fraction(2000), Fraction(500)

# A picture is how long it is shown, and whether others refer to it; a run begins with a key picture; None is a part
# that is not sound.
Row = tuple[int, bool]
Run = list[Row]
Film = list[list[Run] | None]
Judge = Callable[[int], tuple[float, ...]]


def given(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Hypothesis without its deadline, since other work on the machine is no failure, and the same every time."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        return settings(deadline=None, max_examples=60, derandomize=True)(_given(*strategies)(test))

    return decorate


lengths = st.one_of(st.just(40), st.integers(1, 90), st.integers(400, 3000))
runs = st.lists(st.tuples(lengths, st.booleans()), min_size=1, max_size=25)
sound_parts = st.lists(runs, min_size=1, max_size=4)
films = st.lists(sound_parts, min_size=1, max_size=4)
flawed_films = st.lists(st.one_of(sound_parts, sound_parts, st.none()), min_size=1, max_size=6)
intervals = st.fractions(min_value=Fraction(1, 3), max_value=5000, max_denominator=6)


def parts_of(film: Film, start: int = 0, *, sizes: Mapping[int, int] | None = None, shuffle: int = 0) -> list[Part]:
    """The parts of a film; of every run all packets but the first in some decoding order."""
    chance = random.Random(shuffle)
    found: list[Part] = []
    first, time = 0, start
    for number, rows in enumerate(film):
        last = number == len(film) - 1
        if rows is None:
            end = time + 5000
            found.append(Part(number=number, first=first, count=9, last=last, sound=False, start_pts=time, end_pts=end))
            first, time = first + 9, time + 5000
            continue
        begin, packets = time, []
        for run in rows:
            packets_of_run = []
            for place, (length, reference) in enumerate(run):
                anew = place == 0
                mark = PICTURE | ANEW * anew | REFERENCE * (reference or anew)
                size = (sizes or {}).get(time, 1000 if anew else 100)
                packets_of_run.append((time, size, mark))
                time += length
            rest = packets_of_run[1:]
            chance.shuffle(rest)
            packets += [packets_of_run[0], *rest]
        times, bytes_, marks = ([row[column] for row in packets] for column in range(3))
        found.append(
            Part(
                number=number,
                first=first,
                count=len(packets),
                last=last,
                sound=True,
                start_pts=begin,
                end_pts=time,
                times=times,
                sizes=bytes_,
                marks=marks,
            )
        )
        first += len(packets)
    return found


def steady(seconds: float, *, keys_every: float = 2, part_every: float = 6) -> Film:
    """A film of 25 pictures a second."""
    pictures, key, cut = round(seconds * RATE), round(keys_every * RATE), round(part_every * RATE)
    film: Film = []
    for begin in range(0, pictures, cut):
        end = min(begin + cut, pictures)
        film.append([[(FRAME, True)] * (min(place + key, end) - place) for place in range(begin, end, key)])
    return film


def shown_in(parts: Sequence[Part]) -> list[Shown]:
    return [picture for part in parts for picture in part.pictures()]


@dataclass
class Watched:
    """What a plan ordered: at first, in which rounds, and all of it."""

    first: set[int] = field(default_factory=set)
    rounds: list[set[int]] = field(default_factory=list)
    all: set[int] = field(default_factory=set)


def enter(watched: Watched, looks: Sequence[Look]) -> set[int]:
    new: set[int] = set()
    for look in looks:
        for pts in look.wanted or ():
            assert pts in look.part.times
            assert pts not in watched.all | new, "what was seen is ordered again"
            new.add(pts)
        assert list(look.wanted or ()) == sorted(look.wanted or ())
    watched.all |= new
    return new


def watch(plan: Plan, parts: Sequence[Part], judge: Judge = lambda pts: (0.0,), most_rounds: int = 10_000) -> Watched:
    """Do what the plan says until it has nothing more to say."""
    watched = Watched()
    looks = [plan.found(part, part.pictures(), last=part.last) for part in parts]
    assert [look.wanted is None for look in looks] == [not part.sound for part in parts]
    watched.first = enter(watched, looks)
    while looks := plan.proceed({pts: judge(pts) for pts in watched.all}):
        watched.rounds.append(enter(watched, looks))
        assert watched.rounds[-1], "an order for nothing"
        assert len(watched.rounds) <= most_rounds
    return watched


def create_adaptive(seed: int = 0, interval: Fraction = GAP) -> AdaptivePictures:
    return AdaptivePictures(interval, CLOSE, MILLISECONDS, seed)


def unseen(shown: Sequence[Shown], seen: set[int]) -> list[int]:
    """How long each stretch is that lies between two pictures that were seen, or after the last."""
    times = [picture for picture in shown if picture.pts in seen]
    stretches = [other.pts - one.end_pts for one, other in pairwise(times)]
    return [*stretches, shown[-1].end_pts - times[-1].end_pts] if times else [1 << 62]


def stretches_of(parts: Sequence[Part]) -> list[list[Shown]]:
    """The pictures of sound parts between those that are not."""
    found: list[list[Shown]] = [[]]
    for part in parts:
        if part.sound:
            found[-1] += part.pictures()
        else:
            found.append([])
    return [stretch for stretch in found if stretch]


class TestUniform:
    @given(flawed_films, intervals, st.integers(-(10**6), 10**6), st.integers(0, 9))
    def test_no_more_than_the_interval_is_unseen(self, film: Film, interval: Fraction, start: int, order: int) -> None:
        parts = parts_of(film, start, shuffle=order)
        seen = watch(UniformPictures(interval), parts).all
        for stretch in stretches_of(parts):
            # After a part of which nobody knows yet what can be decoded it begins anew.
            assert stretch[0].pts in seen
            assert max(unseen(stretch, seen)) <= interval
        if parts[-1].sound:
            assert parts[-1].pictures()[-1].pts in seen

    @given(films, intervals, st.integers(0, 10**6))
    def test_parts_make_no_difference(self, film: Film, interval: Fraction, start: int) -> None:
        joined: Film = [[run for rows in film if rows is not None for run in rows]]
        parts = parts_of(film, start)
        # A part does not know of a reference picture close by in the next one, and looks at one of its own.
        origin = parts[0].pictures()[0].pts
        offsets = [(part.pictures()[0].pts - origin) % interval for part in parts[1:]]
        assume(not any(0 < min(offset, interval - offset) <= interval / 8 for offset in offsets))
        apart = watch(UniformPictures(interval), parts).all
        assert apart == watch(UniformPictures(interval), parts_of(joined, start)).all

    @given(st.integers(1, 50), st.integers(1, 300), st.integers(-9999, 9999), st.fractions(Fraction(1), 900))
    def test_at_a_constant_rate_it_is_the_sampler_s_grid(
        self, length: int, count: int, start: int, interval: Fraction
    ) -> None:
        """Where all pictures are references and none is nearly as long as the interval."""
        if length > interval * Fraction(7, 8):
            interval = length * Fraction(8, 7)
        parts = parts_of([[[(length, True)] * count]], start)
        sampler: Uniform[Shown] = Uniform(interval)
        expected = [picture.pts for item in parts[0].pictures() for picture in sampler.update(item)]
        expected += [picture.pts for picture in sampler.finish()]
        assert sorted(watch(UniformPictures(interval), parts).all) == expected

    @given(
        st.lists(st.lists(st.lists(st.booleans(), min_size=1, max_size=40), min_size=1, max_size=3), max_size=3),
        st.integers(1, 40),
        st.fractions(Fraction(40), 900),
    )
    def test_one_picture_a_grid_point_and_near_it(
        self, film: list[list[list[bool]]], length: int, interval: Fraction
    ) -> None:
        rows: Film = [[[(length, reference) for reference in run] for run in part] for part in film] or [
            [[(length, True)]]
        ]
        parts = parts_of(rows)
        end = shown_in(parts)[-1]
        seen = sorted(watch(UniformPictures(interval), parts).all)
        if seen[-1] == end.pts:
            del seen[-1]  # the last picture, for whichever reason
        tolerance = interval / 8
        # The grid point of a picture is the last one that is not more than the tolerance after it.
        grid = [(pts + tolerance) // interval for pts in seen]
        assert len(set(grid)) == len(grid)
        if length <= tolerance:
            assert grid == list(range(len(grid)))
            assert all(-tolerance <= pts - place * interval <= tolerance for pts, place in zip(seen, grid, strict=True))

    @given(films, intervals, st.integers(0, 9))
    def test_references_are_preferred(self, film: Film, interval: Fraction, order: int) -> None:
        """A picture that nothing refers to is taken only for want of a reference close to its grid point."""
        parts = parts_of(film, shuffle=order)
        shown = shown_in(parts)
        seen = watch(UniformPictures(interval), parts).all
        tolerance = interval / 8
        chosen = [picture for picture in shown if picture.pts in seen]
        for before, picture in pairwise(chosen[:-1]):
            grid = ((before.pts + tolerance) // interval + 1) * interval
            (pictures,) = (part.pictures() for part in parts if picture.pts in part.times)
            close = [
                item
                for item in pictures
                if item.reference
                and before.end_pts <= item.pts <= before.end_pts + interval
                and abs(item.pts - grid) <= tolerance
            ]
            assert picture.reference or not close

    def test_a_reference_close_by_serves(self) -> None:
        rows = [(FRAME, place % 4 == 0) for place in range(50)]
        (part,) = parts_of([[rows]])
        look = UniformPictures(Fraction(500)).found(part, part.pictures(), last=True)
        # 500 is 12.5 pictures: the thirteenth comes first, and the twelfth is a reference.
        assert look.wanted == (0, 480, 960, 1440, 1960)

    def test_what_is_not_sound_is_chosen_from_while_it_is_decoded(self) -> None:
        parts = parts_of([[[(FRAME, True)] * 10], None, [[(FRAME, True)] * 20]])
        plan = UniformPictures(Fraction(10**6))
        looks = [plan.found(part, part.pictures(), last=part.last) for part in parts]
        assert [look.wanted for look in looks] == [(0,), None, (5400, 6160)]
        assert plan.origin == 0

    def test_the_grid_begins_where_the_part_does_that_is_not_sound(self) -> None:
        parts = parts_of([None, [[(FRAME, True)] * 30]], start=70)
        plan = UniformPictures(Fraction(1000))
        looks = [plan.found(part, part.pictures(), last=False) for part in parts]
        assert plan.origin == 70
        assert looks[1].wanted == (5070, 6070)

    def test_a_part_without_pictures(self) -> None:
        part = Part(
            number=0, first=0, count=1, last=False, sound=True, end_pts=0, times=[0], sizes=[9], marks=[REFERENCE]
        )
        plan = UniformPictures(Fraction(100))
        assert plan.found(part, part.pictures(), last=False).wanted == ()
        assert plan.found(part, part.pictures(), last=True).wanted == ()


class TestOthers:
    @given(flawed_films)
    def test_key_pictures(self, film: Film) -> None:
        parts = parts_of(film)
        keys = {time for part in parts for time, mark in zip(part.times, part.marks, strict=True) if mark & ANEW}
        assert watch(KeyPictures(), parts).all == keys

    def test_key_pictures_out_of_range_are_left_out(self) -> None:
        (part,) = parts_of([[[(FRAME, True)] * 5] * 3])
        wanted = KeyPictures().found(part, part.pictures()[3:9], last=True).wanted
        assert wanted == (5 * FRAME,)

    @given(flawed_films)
    def test_every_picture(self, film: Film) -> None:
        parts = parts_of(film)
        watched = watch(EveryPicture(), parts)
        assert watched.all == {picture.pts for picture in shown_in(parts)}
        assert watched.rounds == []

    @pytest.mark.parametrize(
        ("mode", "interval", "kind"),
        [
            ("uniform", Fraction(500), UniformPictures),
            ("uniform", Fraction(0), EveryPicture),
            ("all", Fraction(0), EveryPicture),
            ("keyframes", Fraction(2000), KeyPictures),
            ("adaptive", Fraction(2000), AdaptivePictures),
        ],
    )
    def test_by_name(self, mode: str, interval: Fraction, kind: type) -> None:
        assert type(plans.create(mode, interval, MILLISECONDS, 0)) is kind


def chance_of(seed: int, categories: int = 1) -> Judge:
    """Scores that are random, but the same for the same picture."""

    def judge(pts: int) -> tuple[float, ...]:
        chance = random.Random(f"{seed}/{pts}")
        return tuple(chance.choice((0.0, 0.0, 0.0, 0.1, 0.29, 0.31, 0.9, 1.0, 1.7)) for _ in range(categories))

    return judge


# The last is a worst case for what follows borders: no two pictures are like each other.
judges: st.SearchStrategy[Judge] = st.one_of(
    st.just(lambda pts: (0.0,)),
    st.just(lambda pts: (1.0,)),
    st.just(lambda pts: ()),
    st.builds(chance_of, st.integers(0, 99), st.integers(1, 3)),
    st.builds(lambda limit: lambda pts: (float(pts >= limit),), st.integers(0, 20_000)),
    st.builds(lambda limit: lambda pts: (1.0 if pts < limit else 0.0, 0.5), st.integers(0, 20_000)),
    st.builds(lambda step: lambda pts: (float(pts // step % 2),), st.integers(1, 700)),
)


def is_suspicious(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return max((*one, *other), default=0) >= 0.3 or any(
        abs(near - far) >= 0.2 for near, far in zip(one, other, strict=True)
    )


class TestAdaptive:
    @given(films, judges, st.fractions(Fraction(1, 3), 5000, max_denominator=6), st.integers(0, 9))
    def test_no_more_than_the_gap_is_unseen(self, film: Film, judge: Judge, interval: Fraction, order: int) -> None:
        parts = parts_of(film, -500, shuffle=order)
        watched = watch(create_adaptive(interval=interval), parts, judge)
        shown = shown_in(parts)
        for seen in (watched.first, watched.all):
            assert shown[0].pts in seen
            assert shown[-1].pts in seen
            assert max(unseen(shown, seen)) <= interval

    @given(flawed_films, judges)
    def test_parts_that_are_not_sound_are_for_others(self, film: Film, judge: Judge) -> None:
        parts = parts_of(film)
        watched = watch(create_adaptive(), parts, judge)
        for stretch in stretches_of(parts):
            assert max(unseen(stretch, watched.all)) <= GAP

    @given(films, judges)
    def test_signals_only_add(self, film: Film, judge: Judge) -> None:
        parts = parts_of(film)
        calm, lively = watch(create_adaptive(), parts), watch(create_adaptive(), parts, judge)
        assert calm.first == lively.first
        assert lively.first <= lively.all
        assert {part.times[start] for part in parts for start, _ in part.runs()} <= lively.first

    @given(films, judges, st.integers(0, 99))
    def test_it_ends_for_any_scores(self, film: Film, judge: Judge, seed: int) -> None:
        parts = parts_of(film)
        watch(create_adaptive(seed), parts, judge, most_rounds=len(shown_in(parts)))

    @pytest.mark.parametrize(
        ("period", "phase"),
        [
            (40, 40),
            (80, 0),
            (80, 200),
            *((period, phase) for period in (160, 360, 520, 1000, 1960, 2040, 3000) for phase in (0, 40, 200)),
        ],
    )
    def test_a_minute_of_flashes_takes_few_rounds(self, period: int, phase: int) -> None:
        """Every round waits for the slowest worker, so their number must not grow with the borders."""
        watched = watch(create_adaptive(), parts_of(steady(60)), lambda pts: (float((pts + phase) // period % 2),))
        assert len(watched.rounds) <= 14

    @given(films, judges)
    def test_the_same_answers_for_the_same_scores(self, film: Film, judge: Judge) -> None:
        parts = parts_of(film)
        one, other = watch(create_adaptive(5), parts, judge), watch(create_adaptive(5), parts, judge)
        assert (one.first, one.rounds) == (other.first, other.rounds)

    @given(films, judges)
    def test_close_looks_within_a_part(self, film: Film, judge: Judge) -> None:
        parts = parts_of(film)
        seen = watch(create_adaptive(), parts, judge).all
        for part in parts:
            pictures = [picture for picture in part.pictures() if picture.pts in seen]
            for one, other in pairwise(pictures):
                if is_suspicious(judge(one.pts), judge(other.pts)):
                    assert other.pts - one.end_pts <= CLOSE

    @given(films, judges)
    def test_close_looks_from_part_to_part(self, film: Film, judge: Judge) -> None:
        parts = parts_of(film)
        seen = watch(create_adaptive(), parts, judge).all
        pictures = [picture for picture in shown_in(parts) if picture.pts in seen]
        for one, other in pairwise(pictures):
            if is_suspicious(judge(one.pts), judge(other.pts)):
                assert other.pts - one.end_pts <= CLOSE

    @given(st.integers(1, 150 - 1))
    def test_a_border_within_a_part_is_narrowed_down(self, border: int) -> None:
        """To two pictures of which one follows the other, and four that confirm it on each side."""
        parts = parts_of(steady(18))
        time = (150 + border) * FRAME
        seen = watch(create_adaptive(), parts, lambda pts: (float(pts >= time),)).all
        within = range(150, 300)
        places = [place for place in range(150 + border - 4, 150 + border + 4) if place in within]
        assert {place * FRAME for place in places} <= seen

    @given(st.integers(1, 450 - 1), st.booleans())
    def test_a_border_is_narrowed_down_wherever_it_is(self, border: int, falling: bool) -> None:
        parts = parts_of(steady(18))
        time = border * FRAME
        seen = watch(create_adaptive(), parts, lambda pts: (float((pts >= time) != falling),)).all
        places = range(max(0, border - 4), min(450, border + 4))
        assert {place * FRAME for place in places} <= seen

    def test_a_border_costs_little(self) -> None:
        parts = parts_of(steady(60))
        calm = watch(create_adaptive(), parts).all
        watched = watch(create_adaptive(), parts, lambda pts: (float(pts >= 31_000),))
        # Two seconds before the border closely, everything after it closely, and the border itself.
        assert len(watched.all - calm) <= 30 * 2 + 4 + 7 + 8 + 4
        assert len(watched.rounds) <= 5

    def test_a_glimpse_of_something_is_looked_at_closely(self) -> None:
        parts = parts_of(steady(12))
        calm = watch(create_adaptive(), parts).all
        seen = watch(create_adaptive(), parts, lambda pts: (0.35 if pts == 4000 else 0.0,)).all
        assert {pts for pts in seen - calm if not 2000 <= pts <= 6000} == set()
        near = [pts for pts in sorted(seen) if 2000 <= pts <= 6000]
        assert max(other - one for one, other in pairwise(near)) <= CLOSE + FRAME

    @pytest.mark.parametrize(
        ("scores", "closely"),
        [((0.0, 0.19), False), ((0.05, 0.26), True), ((0.29, 0.29), False), ((0.31, 0.31), True)],
    )
    def test_what_is_a_signal(self, scores: tuple[float, float], closely: bool) -> None:
        parts = parts_of(steady(6))
        seen = watch(create_adaptive(), parts, lambda pts: (scores[pts >= 2000],)).all
        assert (len([pts for pts in seen if pts < 2000]) > 2) == closely

    def test_every_category_counts(self) -> None:
        parts = parts_of(steady(6))
        seen = watch(create_adaptive(), parts, lambda pts: (0.0, 0.0, 1.0 if pts >= 2520 else 0.0)).all
        assert {2480, 2520} <= seen

    def test_a_cut_that_its_size_betrays_is_looked_at(self) -> None:
        cut = 77 * FRAME
        small = 53 * FRAME  # larger than its like, but not like a key picture
        parts = parts_of(steady(12), sizes={cut: 700, small: 250})
        watched = watch(create_adaptive(), parts)
        assert cut not in watched.first
        assert cut in watched.rounds[0]
        assert small not in watched.all

    def test_a_part_of_which_everything_is_a_key_picture_has_no_cuts(self) -> None:
        parts = parts_of(steady(6, keys_every=1 / RATE))
        assert watch(create_adaptive(), parts).rounds == []

    def test_pictures_that_could_not_be_decoded_end_nothing(self) -> None:
        """What was ordered and gave no picture has no scores; nobody waits for it."""
        parts = parts_of(steady(12))
        plan = create_adaptive()
        watched = Watched()
        enter(watched, [plan.found(part, part.pictures(), last=part.last) for part in parts])
        rounds = 0
        while looks := plan.proceed({pts: (float(pts >= 5000),) for pts in watched.all if pts % 3}):
            enter(watched, looks)
            rounds += 1
        assert rounds < 40

    @pytest.mark.parametrize("length", [1, 10**12, (1 << 62) // 8])
    def test_times_that_make_no_sense(self, length: int) -> None:
        parts = parts_of([[[(length, True)] * 3]], start=-(1 << 62))
        watch(create_adaptive(), parts, chance_of(1))
        watch(UniformPictures(Fraction(500)), parts)


class TestAudit:
    # Key pictures every second, so that nothing else is looked at when nothing speaks for it.
    CALM = parts_of(steady(600, keys_every=1))

    def audit(self, seed: int, judge: Judge = lambda pts: (0.0,)) -> tuple[Audit, Watched]:
        plan = create_adaptive(seed)
        watched = watch(plan, self.CALM, judge)
        assert plan.audit is not None
        return plan.audit, watched

    def test_a_calm_film(self) -> None:
        found, watched = self.audit(0)
        assert len(watched.rounds) == 1
        assert len(watched.rounds[0]) == found.pictures == round(found.unseen_seconds / 30)
        # All but one picture a second, and the last.
        assert found.unseen_seconds == pytest.approx(600 * 24 / 25 - FRAME / 1000)
        assert (found.hits, found.confidence) == (0, 0.95)
        assert found.upper_bound == pytest.approx(1 - 0.05 ** (1 / found.pictures), abs=1e-6)

    def test_the_seed_decides(self) -> None:
        one, other, another = (self.audit(seed)[1].rounds for seed in (3, 3, 4))
        assert one == other != another

    def test_every_picture_is_as_likely(self) -> None:
        halves = [0, 0]
        for seed in range(30):
            for pts in self.audit(seed)[1].rounds[0]:
                halves[pts >= 300_000] += 1
        assert abs(halves[0] - halves[1]) < 4 * math.sqrt(sum(halves))

    def test_a_hit_leads_to_a_close_look_everywhere(self) -> None:
        audited = self.audit(7)[1].rounds[0]
        hit = min(audited)
        found, watched = self.audit(7, lambda pts: (float(pts == hit),))
        assert found.hits == 1
        assert watched.rounds[0] == audited
        shown = shown_in(self.CALM)
        assert max(unseen(shown, watched.all)) <= CLOSE
        # One a second does, less where the audit itself has looked.
        assert 600 - len(audited) <= len(watched.rounds[1])

    def test_what_is_almost_enough_is_no_hit(self) -> None:
        audited = self.audit(7)[1].rounds[0]
        found, _ = self.audit(7, lambda pts: (0.99 if pts in audited else 0.0,))
        assert found.hits == 0

    def test_what_could_not_be_decoded_bounds_nothing(self) -> None:
        plan = create_adaptive(7)
        first = [pts for part in self.CALM for pts in plan.found(part, part.pictures(), last=part.last).wanted or ()]
        scores: Scores = dict.fromkeys(first, (0.0,))
        chosen = [pts for look in plan.proceed(scores) for pts in look.wanted or ()]
        plan.proceed({**scores, **dict.fromkeys(chosen[1:], (0.0,))})
        assert plan.audit is not None
        assert plan.audit.pictures == len(chosen) - 1
        assert plan.audit.upper_bound == pytest.approx(1 - 0.05 ** (1 / (len(chosen) - 1)), abs=1e-6)

    def test_what_will_be_looked_at_closely_is_not_audited(self) -> None:
        """It is for where nothing speaks: 200 to 400 s are looked at anyway."""
        found, _ = self.audit(1, lambda pts: (0.5 if 200_000 <= pts < 400_000 else 0.0,))
        assert found.unseen_seconds == pytest.approx(399 * 24 / 25, abs=2)

    def test_a_short_film_has_none(self) -> None:
        plan = create_adaptive()
        assert watch(plan, parts_of(steady(6))).rounds == []
        assert plan.audit == Audit(0, 0, 146 * FRAME / 1000, 1.0)

    def test_before_it_was_taken_there_is_none(self) -> None:
        assert create_adaptive().audit is None

    @pytest.mark.parametrize(
        ("hits", "pictures", "bound"),
        # From scipy.stats.beta.ppf(0.95, hits + 1, pictures - hits).
        [
            (0, 1, 0.95),
            (0, 10, 0.258866),
            (0, 59, 0.049507),
            (1, 10, 0.394163),
            (2, 10, 0.506901),
            (5, 20, 0.455582),
            (9, 10, 0.994884),
            (10, 10, 1.0),
            (0, 0, 1.0),
        ],
    )
    def test_known_bounds(self, hits: int, pictures: int, bound: float) -> None:
        assert adaptive._upper_bound(hits, pictures) == pytest.approx(bound, abs=1e-6)

    @given(st.integers(1, 5000))
    def test_without_a_hit_it_is_a_formula(self, pictures: int) -> None:
        assert adaptive._upper_bound(0, pictures) == pytest.approx(1 - 0.05 ** (1 / pictures), rel=1e-9)

    def test_a_long_film_with_many_hits(self) -> None:
        """A day of a camera: more ways to choose the hits than a float can hold."""
        assert adaptive._upper_bound(1440, 2880) == pytest.approx(0.515494, abs=1e-6)


class TestSpanPictures:
    @given(flawed_films, st.lists(st.tuples(st.integers(-500, 20_000), st.integers(1, 4000)), max_size=4))
    def test_everything_that_is_shown_in_a_span_is_wanted(self, film: Film, rows: list[tuple[int, int]]) -> None:
        spans = [Span(start, start + length) for start, length in rows]
        plan = SpanPictures(spans)
        for part in parts_of(film):
            look = plan.found(part, part.pictures(), last=part.last)
            if not part.sound:
                meets = any(span.start < (part.end_pts or 0) and (part.start_pts or 0) < span.end for span in spans)
                assert (look.wanted is None) == meets
                continue
            inside = [
                item.pts
                for item in part.pictures()
                if any(item.pts < span.end and span.start < item.end_pts for span in spans)
            ]
            assert look.wanted == tuple(inside)
        assert plan.proceed({}) == []

    def test_a_part_of_unknown_times_is_looked_at(self) -> None:
        part = Part(number=0, first=0, count=-1, last=True, sound=False)
        assert SpanPictures([Span(5, 6)]).found(part, [], last=True).wanted is None

    def test_create(self) -> None:
        plan = plans.create("all", Fraction(0), MILLISECONDS, 0, [(Fraction(1), Fraction(2))])
        (part,) = parts_of(steady(4))
        wanted = plan.found(part, part.pictures(), last=True).wanted
        assert wanted is not None
        assert (wanted[0], wanted[-1]) == (1000, 1960)
