"""CSV (RFC 4180): a row per segment, and one per stretch of time that was not looked at or could not be.

Spreadsheets take a cell that begins with `=`, `+`, `-` or `@` for a formula: such text gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
import json

from vidmod.reviewing import decisions
from vidmod.timeline import Timeline

_COLUMNS = (
    "id",
    "category",
    "verdict",
    "start_seconds",
    "end_seconds",
    "duration_seconds",
    "peak",
    "mean",
    "labels",
    "stream",
    "decision",
)
# What a spreadsheet reads as the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(timeline: Timeline) -> bytes:
    """The table; times in seconds, as the timeline has them."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    decided = decisions(timeline)
    for row in timeline.segments:
        length = round(row.end_seconds - row.start_seconds, 6)
        table.writerow(
            [
                _plain(row.id),
                _plain(row.category),
                row.verdict,
                row.start_seconds,
                row.end_seconds,
                length,
                row.peak,
                row.mean,
                json.dumps(dict(row.labels), ensure_ascii=False),
                "" if row.stream is None else f"{row.stream} ({row.kind})",
                decided.get(row.id, ""),
            ]
        )
    for span in timeline.coverage:
        if span.state != "analysed":
            length = round(span.end_seconds - span.start_seconds, 6)
            row_of_span = ["", "", span.state, span.start_seconds, span.end_seconds, length, "", "", "", "", ""]
            table.writerow(row_of_span)
    return text.getvalue().encode()


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
