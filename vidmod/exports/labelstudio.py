"""Label Studio: one task as JSON, with what was found as its prediction, that a person corrects.

It goes with the labeling configuration that `labelstudio-config` writes. Its results are those of
https://labelstud.io/tags/timelinelabels (segments, in ranges of frames) and https://labelstud.io/tags/videorectangle
(boxes: keyframes in percent of the picture), with `decision`, `verdict` and `note` for each region. What was not
looked at are ranges with the label `not analysed`; an import does not read them.

Frames count from 1, and are a player's time multiplied by the frame rate, which is in the task's `fps`. Both ends of a
range are in it. A keyframe that is not `enabled` is the last frame that shows the box. The picture is as a browser
shows it, turned as its metadata asks for.

A keyframe's `time`, and in the `meta` of a range `start_seconds` and `end_seconds`, are the exact times as they were
exported: nobody keeps them in step with an edit, so an import takes them from the timeline.

`data.video` is where Label Studio serves local files by the video's name: put your own URL there. `data.sha256` and
`data.digest` say to which video and timeline the task belongs, and stay in whatever Label Studio exports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from vidmod._version import __version__
from vidmod.annotations import Annotations, Frames, Key, Run, SegmentItem, TrackItem, clean
from vidmod.timeline import Json, Timeline

VIDEO, SEGMENTS, LABELS, BOXES = "video", "segments", "labels", "boxes"
DECISION, VERDICT, NOTE = "decision", "verdict", "note"
UNSEEN = "not analysed"
_MODEL = "vidmod"


def annotations_of(timeline: Timeline) -> Annotations:
    """What of a timeline is shown, as Label Studio counts frames."""
    return Annotations.of(timeline, Frames.of(timeline, as_played=True), (UNSEEN,))


def write(timeline: Timeline) -> bytes:
    """A list of one task."""
    shown = annotations_of(timeline)
    task = {
        "data": {
            "video": f"/data/local-files/?d={quote(clean(timeline.source['name']))}",
            "fps": float(shown.frames.rate),
            "name": clean(timeline.source["name"]),
            "sha256": timeline.source["sha256"],
            "digest": shown.digest,
            "about": shown.about,
        },
        "predictions": [{"model_version": f"{_MODEL} {__version__}", "result": list(_results(shown))}],
    }
    return (json.dumps([task], indent=1, allow_nan=False) + "\n").encode()


def _results(shown: Annotations) -> Iterator[Json]:
    for number, span in enumerate(shown.unseen, 1):
        ranges = _ranges(span.start, span.end, shown.frames)
        yield {
            **_region(f"unseen-{number}", SEGMENTS, "timelinelabels"),
            "value": {"ranges": ranges, "timelinelabels": [UNSEEN]},
            "meta": {"state": span.state},
        }
    for segment in shown.segments:
        yield from _of_segment(segment, shown.frames)
    for track in shown.tracks:
        yield from _of_track(track, shown)


def _region(key: str, control: str, kind: str) -> Json:
    return {"id": key, "from_name": control, "to_name": VIDEO, "type": kind}


def _ranges(start: int, end: int | None, frames: Frames) -> list[Json]:
    return [{"start": start + 1, "end": frames.count if end is None else end}]


def _of_segment(item: SegmentItem, frames: Frames) -> Iterator[Json]:
    yield {
        **_region(item.key, SEGMENTS, "timelinelabels"),
        "value": {"ranges": _ranges(item.start, item.end, frames), "timelinelabels": [item.category]},
        "score": item.segment.peak,
        "meta": {"start_seconds": item.segment.start_seconds, "end_seconds": item.segment.end_seconds},
    }
    yield {**_region(item.key, DECISION, "choices"), "value": {"choices": [item.judgement]}}
    yield {**_region(item.key, VERDICT, "choices"), "value": {"choices": [item.segment.verdict]}}
    if item.note:
        yield {**_region(item.key, NOTE, "textarea"), "value": {"text": [item.note]}}


def _of_track(item: TrackItem, shown: Annotations) -> Iterator[Json]:
    scores = [key.score for run in item.runs for key in run.keys if key.score is not None]
    frames = shown.frames
    yield {
        **_region(item.key, BOXES, "videorectangle"),
        "value": {
            "framesCount": frames.count,
            "duration": round(frames.count / float(frames.rate), 6),
            "sequence": [_keyframe(key, frames, shown.size, is_enabled=on) for key, on in _sequence(item.runs)],
            "labels": [item.label],
        },
        **({"score": max(scores)} if scores else {}),
    }
    if item.judgement != "accepted":
        yield {**_region(item.key, DECISION, "choices"), "value": {"choices": [item.judgement]}}


def _sequence(runs: Sequence[Run]) -> Iterator[tuple[Key, bool]]:
    """Keyframes, and whether the box goes on after each."""
    for run in runs:
        *before, last = run.keys
        for key in before:
            yield key, True
        if run.end is None:
            yield last, True
        elif last.frame == run.end - 1:
            yield last, False
        else:
            yield last, True
            yield Key(run.end - 1, last.box), False


def _keyframe(key: Key, frames: Frames, size: tuple[int, int], *, is_enabled: bool) -> Json:
    width, height = size
    x1, y1, x2, y2 = key.box
    seconds = frames.seconds(key.frame) if key.time_seconds is None else key.time_seconds
    return {
        "frame": key.frame + 1,
        "time": round(max(seconds - frames.first_seconds, 0.0), 6),
        "enabled": is_enabled,
        "rotation": 0,
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
    }
