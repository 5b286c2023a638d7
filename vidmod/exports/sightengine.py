"""Sightengine: the answer of its video moderation with the model nudity-2.1.

The shape is that of https://sightengine.com/docs/moderate-stored-video, the classes are those of
https://sightengine.com/docs/advanced-nudity-detection-model-2.1, an error is that of
https://sightengine.com/docs/api-error-codes-and-responses.

* Every sample is a frame; `position` is in milliseconds. The intensity classes are as Sightengine has them: what is
  explicit is also all that is less so, hence each is at least as high as the one before, and `none` is what remains.
* open_nsfw does not tell acts from display, so it counts for the most serious, `sexual_activity`. A class that no model
  looked for is not there: without open_nsfw there is no `sexual_activity`. Of the suggestive classes only `male_chest`
  can be known (bikinis, lingerie, poses are not), and nothing of `context`.
* Covered body parts, bellies, feet, armpits, faces and labels of other models have no class.
* `data.status` is `finished`, or `stopped` if not everything was looked at, as in the callbacks of Sightengine's video
  jobs. If nothing could be scanned, `status` is `failure` with a `media_error`.
"""

from __future__ import annotations

from collections.abc import Mapping

from vidmod.exports import answers
from vidmod.timeline import Json, Timeline

_ID_CHARACTERS = 21
_DIGITS = 6
# From the most explicit on, with vidmod's labels and the categories of the default policy, for segments that a person
# added without a label.
_INTENSITIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sexual_activity", ("nsfw",)),
    ("sexual_display", ("explicit", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED", "ANUS_EXPOSED")),
    ("erotica", ("FEMALE_BREAST_EXPOSED", "BUTTOCKS_EXPOSED")),
    ("very_suggestive", ()),
    ("suggestive", ("suggestive", "MALE_BREAST_EXPOSED")),
    ("mildly_suggestive", ()),
)
_SUGGESTIVE: tuple[tuple[str, tuple[str, ...]], ...] = (("male_chest", ("MALE_BREAST_EXPOSED",)),)


def write(timeline: Timeline) -> bytes:
    """The answer; positions in milliseconds from the start of the video."""
    short = timeline.source["sha256"][:_ID_CHARACTERS]
    at = answers.created(timeline)
    able = answers.able(timeline)
    frames = [
        {
            "info": {"id": f"med_{short}_{number}", "position": answers.milliseconds(moment.microseconds)},
            "nudity": _nudity(moment.scores, able),
        }
        for number, moment in enumerate(answers.seen(timeline), 1)
    ]
    head: Json = {
        "status": "failure" if timeline.status == "unscannable" else "success",
        "request": {
            "id": f"req_{short}",
            **({} if at is None else {"timestamp": at.timestamp()}),
            "operations": len(frames),
        },
    }
    if timeline.status == "unscannable":
        error = {"type": "media_error", "code": 0, "message": answers.unknown(timeline)}
        return answers.document({**head, "error": error})
    status = "finished" if answers.is_whole(timeline) else "stopped"
    media = {"id": f"med_{short}", "uri": timeline.source["name"]}
    return answers.document({**head, "data": {"status": status, "frames": frames}, "media": media})


def _nudity(scores: Mapping[str, float], able: frozenset[str]) -> Json:
    found: Json = {}
    highest, is_known = 0.0, False
    for name, labels in _INTENSITIES:
        is_known = is_known or not able.isdisjoint(labels)
        highest = max(highest, answers.best(scores, labels))
        if is_known:
            found[name] = highest
    suggestive = {name: answers.best(scores, labels) for name, labels in _SUGGESTIVE if not able.isdisjoint(labels)}
    rest = {"none": round(1.0 - highest, _DIGITS)} if is_known else {}
    return {**found, "suggestive_classes": suggestive, **rest}
