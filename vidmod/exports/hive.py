"""Hive: the answer of its visual moderation (API v2, `/task/sync`), with the boxes of a visual detection beside it.

The shape is that of https://docs.thehive.ai/reference/classification and https://docs.thehive.ai/reference/detection:
`status` has one entry per model. The first is the classification, a head's scores adding up to 1; the second, if there
are boxes, is a detection in pixels of the displayed picture, whose classes are vidmod's own labels.

* Every sample is an entry of `output`. Heads are those that vidmod's models can judge: a head of which they see nothing
  (guns, smoking, swimwear) is not there, rather than said to be clean. The `no_` class is what remains.
* Covered body parts, bellies, feet, armpits and faces have no class of their own that means the same; they are in the
  detection alone.
* What was not looked at is in `metadata`, which Hive sends back as it was given, as are segments that no class stands
  for. If nothing could be scanned, `code` is 400 and the message of the entry says why; Hive documents no code of an
  entry but 0, SUCCESS.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from vidmod.exports import answers
from vidmod.predictions import Detection
from vidmod.timeline import Json, Timeline

_BREAST, _GENITALS_F, _GENITALS_M = "FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED"
_BUTTOCKS, _ANUS, _CHEST = "BUTTOCKS_EXPOSED", "ANUS_EXPOSED", "MALE_BREAST_EXPOSED"
# Each head: its classes, the most serious first, with vidmod's labels (and the categories of the default policy, for
# segments that a person added without a label), and the class that is left.
_Head = tuple[tuple[tuple[str, tuple[str, ...]], ...], str]
_HEADS: tuple[_Head, ...] = (
    (
        (
            ("general_nsfw", ("nsfw", "explicit", _BREAST, _GENITALS_F, _GENITALS_M, _BUTTOCKS, _ANUS)),
            ("general_suggestive", ("suggestive", _CHEST)),
        ),
        "general_not_nsfw_not_suggestive",
    ),
    ((("yes_female_nudity", (_BREAST, _GENITALS_F)),), "no_female_nudity"),
    ((("yes_male_nudity", (_GENITALS_M,)),), "no_male_nudity"),
    ((("yes_breast", (_BREAST,)),), "no_breast"),
    ((("yes_genitals", (_GENITALS_F, _GENITALS_M)),), "no_genitals"),
    ((("yes_butt", (_BUTTOCKS, _ANUS)),), "no_butt"),
    ((("yes_male_shirtless", (_CHEST,)),), "no_male_shirtless"),
)
_KNOWN = frozenset(label for classes, _ in _HEADS for _, labels in classes for label in labels)
_DIGITS = 6
_OK, _BAD_REQUEST = 200, 400


def write(timeline: Timeline) -> bytes:
    """The answer; times in seconds from the start of the video."""
    failed = timeline.status == "unscannable"
    unknown = answers.unknown(timeline)
    metadata = " ".join(filter(None, (unknown, answers.unnamed(timeline, _KNOWN))))
    status = {"code": "1", "message": unknown} if failed else {"code": "0", "message": "SUCCESS"}
    found = answers.boxes(timeline)
    entries = [
        {"status": status, "response": {"input": _input(timeline, "CATEGORIZATION"), "output": _classes(timeline)}}
    ]
    if found:
        output = [_boxes(time, rows) for time, rows in found.items()]
        entries.append({"status": status, "response": {"input": _input(timeline, "DETECTION"), "output": output}})
    return answers.document(
        {
            "id": _id(timeline),
            "code": _BAD_REQUEST if failed else _OK,
            "project_id": 0,
            "user_id": 0,
            "created_on": timeline.provenance["created"],
            "status": entries,
            "from_cache": False,
            "metadata": metadata or None,
        }
    )


def _id(timeline: Timeline) -> str:
    return str(uuid.UUID(timeline.source["sha256"][:32]))


def _input(timeline: Timeline, kind: str) -> Json:
    size = answers.shown_size(timeline)
    return {
        "id": _id(timeline),
        "charge": 0,
        "model": f"vidmod {timeline.provenance['vidmod']}",
        "model_version": 1,
        "model_type": kind,
        "created_on": timeline.provenance["created"],
        "media": {
            "url": None,
            "filename": timeline.source["name"],
            "type": "VIDEO",
            "mimetype": None,
            "duration": answers.length(timeline) / 1e6,
            "width": None if size is None else size[0],
            "height": None if size is None else size[1],
        },
        "user_id": 0,
        "project_id": 0,
    }


def _classes(timeline: Timeline) -> list[Json]:
    able = answers.able(timeline)
    heads = [head for head in _HEADS if any(able.intersection(labels) for _, labels in head[0])]
    return [
        {
            "time": moment.microseconds / 1e6,
            "classes": [row for head in heads for row in _head(head, moment.scores)],
        }
        for moment in answers.seen(timeline)
    ]


def _head(head: _Head, scores: Mapping[str, float]) -> list[Json]:
    """A head's classes with scores that add up to 1: what is more serious comes first."""
    classes, rest = head
    rows, left = [], 1.0
    for name, labels in classes:
        score = min(left, answers.best(scores, labels))
        left = round(left - score, _DIGITS)
        rows.append({"class": name, "score": round(score, _DIGITS)})
    return [*rows, {"class": rest, "score": left}]


def _boxes(time: int, found: list[Detection]) -> Json:
    return {"time": time / 1e6, "bounding_poly": [_box(item) for item in found]}


def _box(item: Detection) -> Json:
    left, top, right, bottom = item.box
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return {
        "vertices": [{"x": x, "y": y} for x, y in corners],
        "dimensions": {"top": top, "bottom": bottom, "left": left, "right": right},
        "classes": [{"class": item.label, "score": item.score}],
    }
