"""The page of one timeline."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape

from vidmod.pages.shots import Shot
from vidmod.timeline import Timeline


def report_html(
    timeline: Timeline,
    *,
    shots: Mapping[str, Sequence[Shot]],
    video: str | None,
    warnings: Sequence[str] = (),
    public: bool = False,
    now: datetime,
) -> str:
    """The whole page.

    Args:
        timeline: What it is about.
        shots: Segment id to its pictures.
        video: What its player is given as `src`.
        warnings: What is to be said first.
        public: The version for the person whose video it is.
        now: When it is made.
    """
    document = base64.b64encode(gzip.compress("".join(timeline.dumps(compact=True)).encode(), mtime=0)).decode()
    parts = ["<!doctype html>", '<html lang="en"><meta charset="utf-8">']
    parts.append(f"<title>{escape(timeline.source['name'])}</title><h1>{escape(timeline.verdict)}</h1>")
    parts += [f"<p>{escape(text)}</p>" for text in (*warnings, *timeline.notes, now.isoformat())]
    if any(shot.is_clear for rows in shots.values() for shot in rows):
        parts.append("<p>The pictures on this page are clear, as was asked for.</p>")
    if video is not None:
        parts.append(f'<video controls muted src="{escape(video)}"></video>')
    for segment in timeline.segments:
        parts.append(f"<h2>{escape(segment.id)}</h2>")
        for shot in shots.get(segment.id, ()):
            data = base64.b64encode(shot.data).decode()
            parts.append(
                f'<img width="{shot.width}" height="{shot.height}" src="data:{shot.media_type};base64,{data}">'
            )
    if not public:
        parts.append(f'<script type="application/octet-stream" id="timeline">{document}</script>')
    return "\n".join((*parts, "</html>", ""))
