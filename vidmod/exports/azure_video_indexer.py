"""Azure AI Video Indexer: the index of a video with the insight `visualContentModeration`, as Get Video Index gives it.

The shape is that of https://learn.microsoft.com/azure/azure-video-indexer/video-indexer-output-json-v2.

* A segment is one entry with one instance. `adultScore` is the best peak of what is explicit, `racyScore` of that and
  of what is suggestive: body parts that are covered, or bare without being explicit. They are in a segment only if the
  policy judges them. Times are .NET's, with seven digits of a second.
* Segments of anything else (faces, feet, labels of other models) are not moderation here, and `failureMessage` says so.
* `state` is Failed if nothing could be scanned. What was not looked at is in `failureMessage`, and
  `processingProgress` is how much was: 100% only for all of it.
* `isAdult` says what a reviewer found: true if one left a segment that blocks.
* Accounts, users, thumbnails, addresses and languages are left out, or empty where the documentation has no null; `id`
  is the beginning of the source's SHA-256. `summarizedInsights` is null, as without `includeSummarizedInsights`.
"""

from __future__ import annotations

from collections.abc import Mapping

from vidmod.exports import answers
from vidmod.exports.answers import Stretch
from vidmod.timeline import Json, Timeline

_NO_ACCOUNT = "00000000-0000-0000-0000-000000000000"
_ID_CHARACTERS = 10
_INSIGHTS_VERSION = "1.0.0.0"
# vidmod's labels, and the categories of the default policy for segments that a person added without a label.
_ADULT = (
    "nsfw",
    "explicit",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "ANUS_EXPOSED",
)
_RACY = (
    *_ADULT,
    "suggestive",
    "FEMALE_BREAST_COVERED",
    "FEMALE_GENITALIA_COVERED",
    "BUTTOCKS_COVERED",
    "ANUS_COVERED",
    "MALE_BREAST_EXPOSED",
    "BELLY_EXPOSED",
)
_TICKS_PER_MICROSECOND = 10


def write(timeline: Timeline) -> bytes:
    """The index; times from the start of the video."""
    source, length = timeline.source, answers.length(timeline)
    name = source["sha256"][:_ID_CHARACTERS]
    state = "Failed" if timeline.status == "unscannable" else "Processed"
    shared: Json = {"accountId": _NO_ACCOUNT, "id": name, "name": source["name"]}
    return answers.document(
        {
            **shared,
            "description": None,
            "userName": "",
            "created": timeline.provenance["created"],
            "privacyMode": "Private",
            "state": state,
            "isOwned": True,
            "isEditable": False,
            "isBase": True,
            "durationInSeconds": length // 1_000_000,
            "duration": _time(length),
            "summarizedInsights": None,
            "videos": [{**shared, "state": state, **_video(timeline, length)}],
            "videosRanges": [{"videoId": name, "range": {"start": _time(0), "end": _time(length)}}],
        }
    )


def _video(timeline: Timeline, length: int) -> Json:
    size = answers.shown_size(timeline)
    message = " ".join(filter(None, (answers.unknown(timeline), answers.unnamed(timeline, _RACY))))
    return {
        "privacyMode": "Private",
        "processingProgress": f"{answers.percent(timeline)}%",
        "failureCode": "General" if message else "None",
        "failureMessage": message,
        "externalId": timeline.source["sha256"],
        "externalUrl": None,
        "metadata": None,
        "isAdult": timeline.review is not None and any(row.verdict == "block" for row in timeline.segments),
        "insights": {
            "version": _INSIGHTS_VERSION,
            "duration": _time(length),
            "visualContentModeration": _moderation(answers.stretches(timeline)),
        },
        **({} if size is None else {"width": size[0], "height": size[1]}),
    }


def _moderation(rows: list[Stretch]) -> list[Json]:
    known = [row for row in rows if _has_any(row.scores)]
    return [
        {
            "id": number,
            "adultScore": answers.best(row.scores, _ADULT),
            "racyScore": answers.best(row.scores, _RACY),
            "instances": [
                {
                    "adjustedStart": _time(row.start),
                    "adjustedEnd": _time(row.end),
                    "start": _time(row.start),
                    "end": _time(row.end),
                }
            ],
        }
        for number, row in enumerate(known)
    ]


def _has_any(scores: Mapping[str, float]) -> bool:
    return any(label in scores for label in _RACY)


def _time(micros: int) -> str:
    """.NET's TimeSpan: `H:MM:SS.fffffff`, from a day on `D.HH:MM:SS.fffffff`, the only way it can be parsed."""
    seconds, rest = divmod(micros, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    head = f"{days}.{hours:02d}" if days else f"{hours}"
    return f"{head}:{minutes:02d}:{seconds:02d}.{rest * _TICKS_PER_MICROSECOND:07d}"
