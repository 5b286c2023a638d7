"""CSV (RFC 4180, UTF-8): a row per segment, and one per stretch of time that was not looked at or could not be.

Rows of segments are in the order of the timeline, those of stretches follow, with their state for a verdict; a timeline
that is not complete ends with a row of its status, whose note says why. Times are in seconds as the source has them: a
source that starts at 10 s has none below. What a reviewer rejected has no row.

Text is one line of readable characters, see :func:`vidmod.exports.wording.legible`. Spreadsheets take a cell that
begins with `=`, `+`, `-` or `@` for a formula: such text gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
import json

from vidmod.exports.clock import not_seen
from vidmod.exports.wording import legible
from vidmod.reviewing import decisions
from vidmod.timeline import Timeline

_COLUMNS = (
    "id",
    "category",
    "verdict",
    "action",
    "start_seconds",
    "end_seconds",
    "duration_seconds",
    "peak",
    "mean",
    "labels",
    "stream",
    "decision",
    "note",
)
# What a spreadsheet reads as the beginning of a formula, full width too.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_MAX_NOTE = 2000


def write(timeline: Timeline) -> bytes:
    """The table, with a line of names first."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS, restval="")
    table.writeheader()
    decided, notes = decisions(timeline), _notes(timeline)
    for row in timeline.segments:
        table.writerow(
            {
                "id": _plain(row.id),
                "category": _plain(row.category),
                "verdict": row.verdict,
                "action": _plain(row.action),
                **_times(row.start_seconds, row.end_seconds),
                "peak": row.peak,
                "mean": row.mean,
                "labels": json.dumps({legible(name): score for name, score in row.labels.items()}, ensure_ascii=False),
                "stream": _stream(row.stream, row.kind),
                "decision": decided.get(row.id, ""),
                "note": _plain(notes.get(row.id, "")),
            }
        )
    for span, stream in not_seen(timeline):
        where = "" if stream is None else _stream(stream.stream, stream.kind)
        table.writerow({"verdict": span.state, **_times(span.start_seconds, span.end_seconds), "stream": where})
    if timeline.status != "complete":
        table.writerow({"verdict": timeline.status, "note": _plain(" ".join(timeline.notes))})
    return text.getvalue().encode()


def _notes(timeline: Timeline) -> dict[str, str]:
    """What a reviewer wrote about segments."""
    return (
        {} if timeline.review is None else {row["segment"]: row.get("note", "") for row in timeline.review["decisions"]}
    )


def _times(start: float, end: float) -> dict[str, float]:
    return {"start_seconds": start, "end_seconds": end, "duration_seconds": round(end - start, 6)}


def _stream(number: int | None, kind: str | None) -> str:
    return "" if number is None else f"{number} ({kind or 'video'})"


def _plain(text: str) -> str:
    line = legible(text, _MAX_NOTE)
    return f"'{line}" if line.startswith(_FORMULA) else line
