"""Google Cloud Video Intelligence: the operation that `videos:annotate` with EXPLICIT_CONTENT_DETECTION ends with.

The shape is the JSON of `google.longrunning.Operation` with an `AnnotateVideoResponse` of
google.cloud.videointelligence.v1 (https://cloud.google.com/video-intelligence/docs/analyze-safesearch), as REST gives
it; a client library's `AnnotateVideoResponse` is its field `response`.

* Every sample is a frame, with a likelihood of pornography: the best score of what below counts for it, in fifths.
  Within a segment of that it is at least POSSIBLE, and at least LIKELY in one that blocks, so that what vidmod's policy
  decided outlives the five words. A frame is LIKELIHOOD_UNSPECIFIED if no model looked for anything that counts.
* Google knows nothing but pornography here: segments of anything else (faces, men's chests, what is covered, labels of
  other models) are not in it.
* What was not looked at is in the `error` of the video's result, beside its frames, and `progressPercent` is how much
  was. If nothing could be scanned the operation has an `error` and no `response`.
"""

from __future__ import annotations

from vidmod.exports import answers
from vidmod.exports.answers import Seen
from vidmod.timeline import Json, Timeline

_TYPE = "type.googleapis.com/google.cloud.videointelligence.v1."
# vidmod's labels, and the categories of the default policy for segments that a person added without a label.
_COUNTS = (
    "nsfw",
    "explicit",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "ANUS_EXPOSED",
)
# Scores from which a likelihood holds. Google publishes none, so these are fifths.
_LIKELIHOODS = (
    (0.8, "VERY_LIKELY"),
    (0.6, "LIKELY"),
    (0.4, "POSSIBLE"),
    (0.2, "UNLIKELY"),
    (0.0, "VERY_UNLIKELY"),
)
# What a segment's verdict comes to at least.
_AT_LEAST = {"pass": 0.0, "review": 0.4, "block": 0.6}
# google.rpc.Code
_CANCELLED, _INVALID_ARGUMENT, _DATA_LOSS = 1, 3, 15


def write(timeline: Timeline) -> bytes:
    """The operation; times in seconds from the start of the video, to the microsecond."""
    name = timeline.source["name"]
    operation: Json = {
        "name": f"projects/vidmod/locations/local/operations/{timeline.source['sha256']}",
        "metadata": {"@type": f"{_TYPE}AnnotateVideoProgress", "annotationProgress": [_progress(timeline, name)]},
        "done": True,
    }
    if timeline.status == "unscannable":
        operation["error"] = {"code": _INVALID_ARGUMENT, "message": answers.unknown(timeline)}
    else:
        operation["response"] = {
            "@type": f"{_TYPE}AnnotateVideoResponse",
            "annotationResults": [_result(timeline, name)],
        }
    return answers.document(operation)


def _progress(timeline: Timeline, name: str) -> Json:
    at = answers.created(timeline)
    # protobuf's Timestamp, RFC 3339 with a Z.
    text = None if at is None else at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return {
        "inputUri": name,
        "progressPercent": answers.percent(timeline),
        **({} if text is None else {"startTime": text, "updateTime": text}),
        "feature": "EXPLICIT_CONTENT_DETECTION",
    }


def _result(timeline: Timeline, name: str) -> Json:
    able = answers.able(timeline).intersection(_COUNTS)
    frames = [
        {
            "timeOffset": _duration(moment.microseconds),
            "pornographyLikelihood": _likelihood(moment) if able else "LIKELIHOOD_UNSPECIFIED",
        }
        for moment in answers.seen(timeline)
    ]
    unknown = answers.unknown(timeline)
    return {
        "inputUri": name,
        "explicitAnnotation": {"frames": frames, "version": f"vidmod {timeline.provenance['vidmod']}"},
        **({"error": {"code": _code(timeline), "message": unknown}} if unknown else {}),
    }


def _likelihood(moment: Seen) -> str:
    verdicts = [moment.held[label] for label in _COUNTS if label in moment.held]
    least = max((_AT_LEAST[verdict] for verdict in verdicts), default=0.0)
    score = max(least, answers.best(moment.scores, _COUNTS))
    return next(name for threshold, name in _LIKELIHOODS if score >= threshold)


def _code(timeline: Timeline) -> int:
    """CANCELLED if a part was looked at because no more was asked for, else DATA_LOSS."""
    states = {span.state for span in timeline.coverage} - {"analysed"}
    return _CANCELLED if states == {"unsampled"} else _DATA_LOSS


def _duration(micros: int) -> str:
    """A Duration of protobuf as JSON, such as `1.500s`: 0, 3 or 6 digits."""
    seconds, rest = divmod(micros, 1_000_000)
    if not rest:
        return f"{seconds}s"
    return f"{seconds}.{rest // 1000:03d}s" if not rest % 1000 else f"{seconds}.{rest:06d}s"
