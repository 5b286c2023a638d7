"""What the person whose video it is gets to see: reasons in everyday words, and times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from vidmod.pages import chart, words
from vidmod.pages.model import Fact, scale_of
from vidmod.timeline import Segment, Timeline

_VERDICTS = {
    "pass": ("No objection", "Nothing in this video needs a decision."),
    "review": ("Needs a look", "A person has to look at this video before a decision is made."),
    "block": ("Not to be shown as it is", "Parts of this video are not to be shown."),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, and when."""

    start: str
    end: str
    length: str
    what: str
    seen: str
    verdict: str
    outcome: str
    where: str


@dataclass(frozen=True, slots=True)
class PublicReport:
    """The page for the person whose video it is."""

    name: str
    verdict: str
    title: str
    says: str
    facts: Sequence[Fact]
    reasons: Sequence[Reason]
    unknown: Sequence[str]
    bars: Sequence[chart.Bar]
    gaps: Sequence[chart.Bar]
    ticks: Sequence[tuple[float, str]]
    reference: str
    made: str


def public_of(timeline: Timeline, *, digest: str, now: datetime) -> PublicReport:
    """The page about one timeline, as a person has corrected it if one has."""
    title, says = _VERDICTS[timeline.verdict]
    scale = scale_of(timeline)
    marks = words.ticks(scale.start, scale.end)
    return PublicReport(
        name=str(timeline.source["name"]),
        verdict=timeline.verdict,
        title=title,
        says=says,
        facts=_facts(timeline),
        reasons=[_reason(row, timeline) for row in timeline.segments],
        unknown=_unknown(timeline),
        bars=_bars(timeline, scale),
        gaps=chart.gaps(timeline.coverage, scale),
        ticks=[(scale.percent(mark), words.tick_words(mark, marks)) for mark in marks],
        reference=digest[:12],
        made=now.date().isoformat(),
    )


def _facts(timeline: Timeline) -> list[Fact]:
    who = "a program, and then a person" if timeline.review is not None else "a program; no person has looked yet"
    coverage = words.coverage_words(timeline.status, timeline.coverage, timeline.samples)
    return [
        Fact("Length", words.short_clock(timeline.source["duration_seconds"])),
        Fact("Looked at by", who),
        Fact("How much", coverage),
    ]


def _reason(row: Segment, timeline: Timeline) -> Reason:
    models = _models(timeline)
    what = words.everyday(row.category, models)
    seen = dict.fromkeys(words.everyday(label, models) for label in row.labels)
    return Reason(
        start=words.short_clock(row.start_seconds),
        end=words.short_clock(row.end_seconds),
        length=words.seconds_words(row.end_seconds - row.start_seconds),
        what=what[:1].upper() + what[1:],
        # A classifier's only label says nothing that its category does not.
        seen=words.listed([name for name in seen if name != what]),
        verdict=row.verdict,
        outcome="not to be shown" if row.verdict == "block" else "a person has to look",
        where="" if row.stream is None else "not in the main picture",
    )


def _models(timeline: Timeline) -> Iterable[str]:
    return [str(row["name"]) for row in timeline.provenance["models"]]


def _unknown(timeline: Timeline) -> list[str]:
    lines = words.gap_lines(timeline.coverage)
    if timeline.status == "unscannable":
        return ["This file could not be read as a video, so nothing is known about what it shows.", *lines]
    if timeline.status == "partial" and not lines:
        return ["Some of this file could not be looked at."]
    return lines


def _bars(timeline: Timeline, scale: chart.Scale) -> list[chart.Bar]:
    return [
        chart.Bar(
            x := scale.percent(row.start_seconds),
            round(max(0.3, scale.percent(row.end_seconds) - x), 3),
            row.verdict,
            f"{words.short_clock(row.start_seconds)} to {words.short_clock(row.end_seconds)}",
        )
        for row in timeline.segments
        if row.stream is None
    ]
