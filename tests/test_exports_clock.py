"""What exports say of time and in words: a player's clock, and strangers' text."""

from __future__ import annotations

import dataclasses
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.drawn import HOSTILE, timelines
from tests.timelines import sample, segment, stream, timeline
from vidmod.coverage import Covered
from vidmod.exports.clock import elsewhere, found, length, not_seen, timestamp, unseen
from vidmod.exports.wording import labels, legible, summary
from vidmod.timeline import StreamScan, Timeline

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def film(
    *spans: Covered, start: float = 0.0, seconds: float = 20.0, others: tuple[StreamScan, ...] = (), **source: object
) -> Timeline:
    first = dataclasses.replace(stream([sample(start, 0.0)]), coverage=spans)
    made = timeline(
        dataclasses.replace(first, coverage=spans or (Covered(start, start + seconds, "analysed"),)), *others
    )
    changed = {**made.source, "start_seconds": start, "duration_seconds": seconds, **source}
    return dataclasses.replace(made, source=changed, coverage=spans)


class TestClock:
    def test_it_counts_from_the_earliest_moment_of_the_file(self) -> None:
        late = film(Covered(10.5, 30.5, "analysed"), start=10.5, container_start_seconds=10.0)
        late = dataclasses.replace(late, segments=(segment(12.0, 13.5),))
        (row,) = found(late)
        assert (row.start, row.end) == (2000, 3500)
        assert length(late) == 20_500

    @pytest.mark.parametrize("known", [{}, {"container_start_seconds": None}])
    def test_without_that_moment_it_counts_from_the_first_picture(self, known: dict[str, Any]) -> None:
        early = film(Covered(-0.08, 19.92, "analysed"), start=-0.08, **known)
        early = dataclasses.replace(early, segments=(segment(-0.08, 1.0),))
        (row,) = found(early)
        assert (row.start, row.end, length(early)) == (0, 1080, 20_000)

    def test_whole_milliseconds_stay_and_others_move_outward(self) -> None:
        whole = [n / 1000 for n in range(1, 20_000, 7)]
        rows = found(dataclasses.replace(film(), segments=tuple(segment(t, 20.0) for t in whole)))
        assert [row.start for row in rows] == list(range(1, 20_000, 7))
        (row,) = found(dataclasses.replace(film(), segments=(segment(1.000001, 1.000999),)))
        assert (row.start, row.end) == (1000, 1001)

    def test_a_segment_without_length_or_before_the_film_is_a_millisecond(self) -> None:
        rows = found(
            dataclasses.replace(film(), segments=(segment(-5.0, -4.0), segment(2.0, 2.0), segment(1e308, 1e308)))
        )
        assert [(row.start, row.end) for row in rows] == [(0, 1), (2000, 2001), (10**12, 10**12 + 1)]

    def test_what_no_account_speaks_of_was_not_looked_at(self) -> None:
        made = film(Covered(0.0, 4.0, "analysed"), Covered(6.0, 8.0, "undecodable"), Covered(8.0, 15.0, "analysed"))
        assert [(row.start, row.end, row.state) for row in unseen(made)] == [
            (4000, 6000, "unsampled"),
            (6000, 8000, "undecodable"),
            (15_000, 20_000, "unsampled"),
        ]
        assert [row.state for row in unseen(film())] == ["unsampled"]

    def test_an_account_that_contradicts_itself_saw_nothing_there(self) -> None:
        made = film(Covered(0.0, 20.0, "analysed"), Covered(5.0, 6.0, "unsampled"), Covered(5.5, 7.0, "undecodable"))
        assert [(row.start, row.end, row.state) for row in unseen(made)] == [
            (5000, 5500, "unsampled"),
            (5500, 7000, "undecodable"),
        ]

    def test_rounding_opens_no_gap(self) -> None:
        made = film(Covered(0.1, 0.3, "analysed"), Covered(0.300001, 0.7, "analysed"), start=0.1, seconds=0.600001)
        assert unseen(made) == []

    def test_further_video_tracks_are_on_the_clock_and_covers_are_not(self) -> None:
        other = dataclasses.replace(
            stream([], 1), coverage=(Covered(0.0, 3.0, "unsampled"), Covered(3.0, 20.0, "analysed"))
        )
        cover = dataclasses.replace(stream([], 2, "cover"), coverage=())
        segments = (segment(1.0, 2.0, stream=1, kind="video"), segment(0.0, 1.0, stream=2, kind="cover"))
        made = film(Covered(0.0, 20.0, "analysed"), others=(other, cover))
        made = dataclasses.replace(made, segments=segments)
        assert [row.segment.stream for row in found(made)] == [1]
        assert [(row.start, row.end, row.title) for row in unseen(made)] == [(0, 3000, "Not looked at, stream 1")]
        assert elsewhere(made) == [
            "Block: explicit, stream 2 (cover), peak 0.91 [FEMALE_BREAST_EXPOSED 0.91]",
            "Stream 2 (cover): not looked at",
        ]
        assert [(span.state, where and where.stream) for span, where in not_seen(made)] == [
            ("unsampled", 1),
            ("unsampled", 2),
        ]

    def test_a_stream_that_nobody_looked_at_is_unseen_from_end_to_end(self) -> None:
        other = dataclasses.replace(stream([], 1), coverage=())
        (row,) = unseen(film(Covered(0.0, 20.0, "analysed"), others=(other,)))
        assert (row.start, row.end, row.stream) == (0, 20_000, other)

    @pytest.mark.parametrize(
        ("milliseconds", "text"),
        [(0, "00:00:00.000"), (3_599_999, "00:59:59.999"), (360_000_001, "100:00:00.001")],
    )
    def test_timestamps(self, milliseconds: int, text: str) -> None:
        assert timestamp(milliseconds) == text

    @given(timelines())
    @settings(deadline=None, max_examples=60, suppress_health_check=SLOW)
    def test_every_moment_is_accounted_for(self, made: Timeline) -> None:
        analysed = [row for row in made.coverage if row.state == "analysed"]
        gaps = [span for span, stream_of in not_seen(made) if stream_of is None]
        start, end = made.source["start_seconds"], made.source["start_seconds"] + made.source["duration_seconds"]
        for k in range(41):
            at = start + (end - start) * k / 41
            seen = any(row.start_seconds <= at < row.end_seconds for row in analysed)
            missed = any(row.start_seconds <= at < row.end_seconds for row in gaps)
            near = any(
                abs(at - edge) < 5e-6 for row in (*analysed, *gaps) for edge in (row.start_seconds, row.end_seconds)
            )
            assert seen != missed or near or end - start < 1e-5


class TestWords:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_becomes_one_line_that_can_be_read(self, text: str) -> None:
        line = legible(text)
        assert len(line) <= 200
        assert len(line.splitlines()) <= 1
        assert all(unicodedata.category(letter) not in ("Cc", "Cs", "Cn", "Zl", "Zp") for letter in line)
        assert not set(line) & {"\u202e", "\u2066", "\ufeff", "\U000e0041"}
        assert line.encode() or text.isspace()

    def test_what_can_be_read_stays(self) -> None:
        for text in ("FEMALE_BREAST_EXPOSED", "日本語 العربية", "<b> & $x$ = 1; #2 \\", "👩‍👩‍👧 é"):
            assert legible(text) == text

    def test_a_long_text_is_cut_where_that_shows(self) -> None:
        assert legible("a" * 200) == "a" * 200
        assert legible("a" * 201) == "a" * 199 + "…"
        assert legible(" " * 10_000 + "a").endswith("…")

    def test_half_a_surrogate_pair_is_no_text(self) -> None:
        assert legible("a\ud800b") == "a\ufffdb"

    def test_the_foremost_labels_come_first_and_the_rest_are_counted(self) -> None:
        row = dataclasses.replace(segment(0.0, 1.0), labels={f"L{k}": k / 10 for k in range(7)})
        assert labels(row) == "L6 0.60, L5 0.50, L4 0.40, L3 0.30, and 3 more"
        assert summary(row).startswith("Block: explicit, peak 0.91 [L6")
