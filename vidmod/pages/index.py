"""The index page over many timelines: what to open first."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

import jinja2
from markupsafe import Markup

from vidmod._version import __version__
from vidmod.coverage import seconds_of
from vidmod.timebase import format_time
from vidmod.timeline import Timeline

GENERATOR = '<meta name="generator" content="vidmod'
# What cannot be read may be anything.
_RANKS = {"block": 3, "unknown": 2, "review": 1, "pass": 0}
_STATUS_RANKS = {"damaged": 3, "unscannable": 2, "partial": 1, "complete": 0}
# A coverage shorter than its source by no more than times are rounded to is whole.
_WHOLE_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One timeline, as the index shows it.

    Attributes:
        name: Of its source; of its file if that cannot be read.
        path: Where the timeline is, relative to the folder that was named.
        url: Of its report, relative to the index; None if there is none.
        verdict: `unknown` if it cannot be read.
        status: `damaged` if it cannot be read.
        peak: The highest of its segments, None without any.
        length_seconds, segments, share: None if unknown; `share` is that of the stream of which least was looked at.
        reviewed: By whom and when; empty if nobody has.
        problem: Why it cannot be read; empty if it can.
    """

    name: str
    path: str
    url: str | None = None
    verdict: str = "unknown"
    status: str = "damaged"
    peak: float | None = None
    length_seconds: float | None = None
    segments: int | None = None
    share: float | None = None
    reviewed: str = ""
    problem: str = ""

    @classmethod
    def of(cls, timeline: Timeline, path: str, url: str) -> Row:
        """A timeline's row."""
        review = timeline.review
        return cls(
            name=timeline.source["name"],
            path=path,
            url=url,
            verdict=timeline.verdict,
            status=timeline.status,
            peak=max((segment.peak for segment in timeline.segments), default=None),
            length_seconds=timeline.source["duration_seconds"],
            segments=len(timeline.segments),
            share=share_of(timeline),
            reviewed="" if review is None else f"{review['reviewer']}, {review['reviewed'][:10]}",
        )

    @property
    def weight(self) -> tuple[int, int, float]:
        """More is worse."""
        return _RANKS[self.verdict], _STATUS_RANKS[self.status], -1.0 if self.peak is None else self.peak

    @property
    def rank(self) -> int:
        """Its verdict as a number, for sorting."""
        return _RANKS[self.verdict]

    @property
    def length(self) -> str:
        """In words."""
        return "" if self.length_seconds is None else format_time(self.length_seconds)

    @property
    def covered(self) -> str:
        """How much was looked at, in words; never rounded up to all."""
        if self.share is None:
            return ""
        return "all" if self.share >= 1 else f"{int(self.share * 1000) / 10:g} %"


def share_of(timeline: Timeline) -> float:
    """How much of the stream of which least was looked at was looked at, from 0 to 1."""
    coverages = [stream.coverage for stream in timeline.streams] or [timeline.coverage]
    shares = []
    for coverage in coverages:
        whole = sum(span.end_seconds - span.start_seconds for span in coverage)
        seen = seconds_of(coverage, "analysed")
        shares.append(1.0 if whole > 0 and whole - seen < _WHOLE_SECONDS else seen / whole if whole > 0 else 0.0)
    return min(shares)


def index_html(rows: Sequence[Row], title: str, *, public: bool, now: datetime) -> str:
    """The page, worst first; with JavaScript, its columns sort it.

    Args:
        rows: In any order.
        title: What was looked through.
        public: Without scores and without who reviewed.
        now: When it is made.
    """
    ordered = sorted(rows, key=lambda row: (*(-value for value in row.weight), row.name, row.path))
    counts = Counter(row.verdict for row in rows)
    style, script = (_part(f"index.{suffix}") for suffix in ("css", "js"))
    return (
        _environment()
        .get_template("index.html")
        .render(
            rows=ordered,
            title=title,
            public=public,
            counts=[(verdict, counts[verdict]) for verdict in _RANKS if counts[verdict]],
            now=now,
            version=__version__,
            style=Markup(style),  # noqa: S704 # our own file
            script=Markup(script),  # noqa: S704
            policy=_content_policy(style, script),
        )
    )


def _content_policy(style: str, script: str) -> str:
    """Nothing but this style and this script, by their hashes (CSP Level 3, 2.3.1); nothing from anywhere."""
    return (
        f"default-src 'none'; style-src {_hash_source(style)}; script-src {_hash_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return resources.files("vidmod.pages").joinpath("templates", name).read_text("utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("vidmod.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
