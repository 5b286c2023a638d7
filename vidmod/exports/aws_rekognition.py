"""Amazon Rekognition: the answer of GetContentModeration, aggregated by TIMESTAMPS, which is what AWS does unasked.

`aws-rekognition-segments` is the same aggregated by SEGMENTS. The shape is that of the service model of the API of
2016-06-27 (botocore's `GetContentModerationResponse`), the labels are those of taxonomy 7
(https://docs.aws.amazon.com/rekognition/latest/dg/moderation-api.html). All is in one answer: there is no `NextToken`.

* A label comes with all that it belongs to: `Exposed Female Nipple` with `Explicit Nudity` and `Explicit`, each with
  the highest confidence below it. `Confidence` is vidmod's probability times 100.
* TIMESTAMPS lists every sample with every label at 50 or above, AWS's default `MinConfidence`, and below it what a
  segment stands for there, since vidmod's policy may ask for less. SEGMENTS lists of a segment the labels whose peak is
  at 50 or above, and always the best; times of one label that overlap or touch are one entry.
* What was not looked at is in `StatusMessage`, and so are segments that the taxonomy has no label for: faces, feet,
  bellies, armpits, what is covered, and labels of other models. `JobStatus` is FAILED if nothing could be scanned.
* `VideoMetadata` is of the picture as displayed; it has no `ColorRange` where the pixel format does not tell.
* `JobId` is the SHA-256 of the source, and `Video.S3Object.Name` its file name, since there is no bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from vidmod.exports import answers
from vidmod.timeline import Json, Timeline

_MODEL_VERSION = "7.0"
_MIN_CONFIDENCE = 50.0
_MAX_NAME_CHARACTERS = 1024
# A label and all that it belongs to, the most general first.
_Path = tuple[str, ...]
_EXPLICIT: _Path = ("Explicit",)
_NUDITY: _Path = (*_EXPLICIT, "Explicit Nudity")
_PARTLY: _Path = ("Non-Explicit Nudity of Intimate parts and Kissing", "Non-Explicit Nudity")
# vidmod's labels, and the categories of the default policy for segments that a person added without a label.
_PATHS: Mapping[str, _Path] = {
    # "Not safe for work" is nudity, acts or toys: what all of them belong to.
    "nsfw": _EXPLICIT,
    "explicit": _NUDITY,
    "FEMALE_BREAST_EXPOSED": (*_NUDITY, "Exposed Female Nipple"),
    "FEMALE_GENITALIA_EXPOSED": (*_NUDITY, "Exposed Female Genitalia"),
    "MALE_GENITALIA_EXPOSED": (*_NUDITY, "Exposed Male Genitalia"),
    "BUTTOCKS_EXPOSED": (*_NUDITY, "Exposed Buttocks or Anus"),
    "ANUS_EXPOSED": (*_NUDITY, "Exposed Buttocks or Anus"),
    "MALE_BREAST_EXPOSED": (*_PARTLY, "Exposed Male Nipple"),
}
# What Rekognition calls FFmpeg's demuxers: their long names.
_FORMATS: Mapping[str, str] = {
    "mov,mp4,m4a,3gp,3g2,mj2": "QuickTime / MOV",
    "avi": "AVI (Audio Video Interleaved)",
    "matroska,webm": "Matroska / WebM",
    "mpegts": "MPEG-TS (MPEG-2 Transport Stream)",
}
# Pixel formats that have only one range of values.
_FULL_RANGE = ("yuvj", "rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "mono")


def write(timeline: Timeline) -> bytes:
    """The answer, aggregated by TIMESTAMPS; times in milliseconds from the start of the video."""
    return answers.document(answer(timeline, "TIMESTAMPS"))


def answer(timeline: Timeline, aggregate_by: Literal["TIMESTAMPS", "SEGMENTS"]) -> Json:
    """The answer as AWS sends it."""
    name = answers.clipped(timeline.source["name"], _MAX_NAME_CHARACTERS)
    message = " ".join(filter(None, (answers.unknown(timeline), answers.unnamed(timeline, _PATHS))))
    metadata = _metadata(timeline)
    return {
        "JobStatus": "FAILED" if timeline.status == "unscannable" else "SUCCEEDED",
        **({"StatusMessage": message} if message else {}),
        **({"VideoMetadata": metadata} if metadata else {}),
        "ModerationLabels": _at_times(timeline) if aggregate_by == "TIMESTAMPS" else _in_segments(timeline),
        "ModerationModelVersion": _MODEL_VERSION,
        "JobId": timeline.source["sha256"],
        **({"Video": {"S3Object": {"Name": name}}} if name else {}),
        "GetRequestMetadata": {"SortBy": "TIMESTAMP", "AggregateBy": aggregate_by},
    }


def _metadata(timeline: Timeline) -> Json:
    video, size = timeline.source["video"], answers.shown_size(timeline)
    if video is None or size is None:
        return {}
    rate, form, pixels = answers.frame_rate(timeline), timeline.source["format"], video["pixel_format"] or ""
    return {
        "Codec": video["codec"],
        "DurationMillis": answers.milliseconds(answers.length(timeline)),
        **({} if form is None else {"Format": _FORMATS.get(form, form)}),
        **({} if rate is None else {"FrameRate": rate}),
        "FrameHeight": size[1],
        "FrameWidth": size[0],
        **({"ColorRange": "FULL"} if pixels.startswith(_FULL_RANGE) else {}),
    }


def _at_times(timeline: Timeline) -> list[Json]:
    found: dict[tuple[int, _Path], float] = {}
    for moment in answers.seen(timeline):
        told = {
            label: score
            for label, score in moment.scores.items()
            if _confidence(score) >= _MIN_CONFIDENCE or label in moment.held
        }
        for path, confidence in _with_parents(told).items():
            key = (answers.milliseconds(moment.microseconds), path)
            found[key] = max(confidence, found.get(key, 0.0))
    return [
        {"Timestamp": time, "ModerationLabel": _label(path, confidence), "ContentTypes": []}
        for (time, path), confidence in sorted(found.items(), key=lambda row: (row[0][0], -len(row[0][1]), row[0][1]))
    ]


def _in_segments(timeline: Timeline) -> list[Json]:
    found: dict[_Path, list[tuple[int, int, float]]] = {}
    for row in answers.stretches(timeline):
        for path, confidence in _with_parents(_told(row.scores)).items():
            spans = found.setdefault(path, [])
            start, end = answers.milliseconds(row.start), answers.milliseconds(row.end)
            if spans and start <= spans[-1][1]:
                first, last, highest = spans.pop()
                start, end, confidence = first, max(last, end), max(highest, confidence)
            spans.append((start, end, confidence))
    rows = [(start, -len(path), path, end, confidence) for path in found for start, end, confidence in found[path]]
    return [
        {
            "Timestamp": start,
            "ModerationLabel": _label(path, confidence),
            "StartTimestampMillis": start,
            "EndTimestampMillis": end,
            "DurationMillis": end - start,
            "ContentTypes": [],
        }
        for start, _, path, end, confidence in sorted(rows)
    ]


def _told(scores: Mapping[str, float]) -> dict[str, float]:
    """Of a segment's labels those that are told."""
    known = {label: score for label, score in scores.items() if label in _PATHS}
    highest = max(known, key=lambda label: known[label], default=None)
    return {label: score for label, score in known.items() if _confidence(score) >= _MIN_CONFIDENCE or label == highest}


def _with_parents(scores: Mapping[str, float]) -> dict[_Path, float]:
    """Confidence of each label and of all that it belongs to."""
    found: dict[_Path, float] = {}
    for label, score in scores.items():
        path = _PATHS.get(label, ())
        for depth in range(1, len(path) + 1):
            found[path[:depth]] = max(_confidence(score), found.get(path[:depth], 0.0))
    return found


def _confidence(score: float) -> float:
    return round(100.0 * score, 4)


def _label(path: _Path, confidence: float) -> Json:
    return {
        "Confidence": confidence,
        "Name": path[-1],
        "ParentName": path[-2] if len(path) > 1 else "",
        "TaxonomyLevel": len(path),
    }
