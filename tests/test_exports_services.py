"""Exports as the answers of moderation services: held to the services' own models where those are published."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import jsonschema_rs
import pytest
from botocore import parsers
from botocore.loaders import Loader
from botocore.model import ListShape, ServiceModel, Shape, StructureShape
from google.cloud import videointelligence_v1 as video_intelligence
from google.longrunning import operations_pb2
from google.protobuf import json_format

from tests.timelines import VIDEO, sample, stream, timeline
from vidmod import export, judge
from vidmod.coverage import Covered
from vidmod.exports import FORMATS, answers
from vidmod.models import find
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.reviewing import reviewed
from vidmod.timeline import Json, Sample, Segment, StreamScan, Timeline

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BREAST = ("FEMALE_BREAST_EXPOSED", 0.9)
SERVICES = (
    "aws-rekognition",
    "aws-rekognition-segments",
    "google-video-intelligence",
    "azure-video-indexer",
    "hive",
    "sightengine",
    "dsa",
)
MODELS = [
    {"name": name, "version": "1", "sha256": "", "licence": "", "runtime": "", "precision": "", "device": ""}
    for name in ("open_nsfw", "nudenet")
]
HOSTILE = "</script><script>alert(1)</script>\"'\\\x00\n\u202e=cmd|{{7*7}} ${jndi:x}; DROP TABLE"


def read(to: str, of: Timeline) -> Json:
    answer = json.loads(export(of, to))
    CHECKS[to](answer)
    return cast("Json", answer)


def scanned(*streams: StreamScan, start: float = 0.0, **more: Any) -> Timeline:
    """A judged timeline of the two models."""
    made = timeline(*streams)
    provenance = {**made.provenance, "models": MODELS}
    source = {**made.source, "start_seconds": start, **more.pop("source", {})}
    return judge(dataclasses.replace(made, source=source, provenance=provenance, **more))


def moved(of: Timeline, seconds: float) -> Timeline:
    """The same video, but its clock starts elsewhere."""
    document = of.as_document()

    def move(value: object) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                if name in ("start_seconds", "end_seconds", "time_seconds") and isinstance(item, float):
                    value[name] = round(item + seconds, 6)
                move(item)
        elif isinstance(value, list):
            for item in value:
                move(item)

    document = copy.deepcopy(document)
    for name in ("source", "coverage", "segments", "samples", "tracks", "other_streams", "review"):
        move(document.get(name))
    return Timeline.from_document(document)


@pytest.fixture
def film() -> Timeline:
    """Half a minute at two samples a second: something explicit from 4 to 10 s, something else from 20 s on."""
    rows = [sample(t / 2, 0.97 if t >= 40 else 0.015, *([BREAST] if 8 <= t < 20 else []), shown=0.5) for t in range(60)]
    found = scanned(stream(rows), source={"duration_seconds": 30.0})
    assert [(row.id, row.category, row.verdict) for row in found.segments] == [
        ("s1", "explicit", "block"),
        ("s2", "nsfw", "block"),
    ]
    return found


def decide(before: Timeline, *segments: Segment, **more: Any) -> Timeline:
    return reviewed(before, segments, reviewer="Ada Lovelace", at=AT, tool="a test", **more)


def with_document(of: Timeline, change: Callable[[Json], object]) -> Timeline:
    document = copy.deepcopy(of.as_document())
    change(document)
    return Timeline.from_document(document)


# --- Amazon Rekognition: botocore's model of the service ---


@functools.cache
def rekognition() -> StructureShape:
    service = ServiceModel(Loader().load_service_model("rekognition", "service-2"))
    return service.operation_model("GetContentModeration").output_shape


def fit(shape: Shape, value: object, where: str = "") -> None:
    """Check a value against a shape of botocore's: members, types, enumerations, patterns, lengths, ranges."""
    limits = shape.metadata
    if isinstance(shape, StructureShape):
        assert isinstance(value, dict), where
        assert set(value) <= set(shape.members), f"{where}: {set(value) - set(shape.members)}"
        assert set(shape.required_members) <= set(value), where
        for name, item in value.items():
            fit(shape.members[name], item, f"{where}.{name}")
    elif isinstance(shape, ListShape):
        assert isinstance(value, list), where
        assert len(value) <= limits.get("max", len(value)), where
        for item in value:
            fit(shape.member, item, f"{where}[]")
    elif shape.type_name == "string":
        assert isinstance(value, str), where
        assert value in (shape.enum or [value]), where
        assert limits.get("min", 0) <= len(value) <= limits.get("max", len(value)), where
        assert "pattern" not in limits or re.search(limits["pattern"], value), where
    else:
        assert shape.type_name in ("integer", "long", "float"), where
        assert isinstance(value, int) or (isinstance(value, float) and shape.type_name == "float"), where
        assert not isinstance(value, bool), where
        assert limits.get("min", -(2**63)) <= value <= limits.get("max", 2**63 - 1), where


def check_rekognition(answer: Json) -> None:
    fit(rekognition(), answer)
    body = json.dumps(answer).encode()
    parser = parsers.create_parser("json")
    parsed = parser.parse({"body": body, "headers": {}, "status_code": 200}, rekognition())
    assert parsed.pop("ResponseMetadata") is not None
    assert parsed == answer, "botocore's own parser dropped or changed something"
    for row in answer["ModerationLabels"]:
        label = row["ModerationLabel"]
        assert TAXONOMY[label["Name"]] == (label["ParentName"], label["TaxonomyLevel"])


# Of https://docs.aws.amazon.com/rekognition/latest/dg/moderation-api.html, the branches about nudity.
TAXONOMY = {
    "Explicit": ("", 1),
    "Explicit Nudity": ("Explicit", 2),
    "Exposed Male Genitalia": ("Explicit Nudity", 3),
    "Exposed Female Genitalia": ("Explicit Nudity", 3),
    "Exposed Buttocks or Anus": ("Explicit Nudity", 3),
    "Exposed Female Nipple": ("Explicit Nudity", 3),
    "Explicit Sexual Activity": ("Explicit", 2),
    "Sex Toys": ("Explicit", 2),
    "Non-Explicit Nudity of Intimate parts and Kissing": ("", 1),
    "Non-Explicit Nudity": ("Non-Explicit Nudity of Intimate parts and Kissing", 2),
    "Bare Back": ("Non-Explicit Nudity", 3),
    "Exposed Male Nipple": ("Non-Explicit Nudity", 3),
}


# --- Google Video Intelligence: its protobuf messages ---


def check_google(answer: Json) -> None:
    operation = json_format.ParseDict(answer, operations_pb2.Operation())
    progress = video_intelligence.AnnotateVideoProgress.pb()()
    assert operation.metadata.Unpack(progress)
    assert operation.done
    if operation.WhichOneof("result") == "response":
        assert operation.response.Unpack(video_intelligence.AnnotateVideoResponse.pb()())


def google_result(answer: Json) -> Any:
    """The one video's result, as the client library has it."""
    operation = json_format.ParseDict(answer, operations_pb2.Operation())
    message = video_intelligence.AnnotateVideoResponse()
    assert operation.response.Unpack(video_intelligence.AnnotateVideoResponse.pb(message))
    (result,) = message.annotation_results
    return result


# --- the others publish examples: schemas by hand ---


def shaped(required: Json, optional: Json | None = None) -> Json:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def many(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number"}
SCORE: Json = {"type": "number", "minimum": 0, "maximum": 1}
NULL: Json = {"type": "null"}
SPAN: Json = {"type": "string", "pattern": r"^(\d+\.)?\d{1,2}:\d{2}:\d{2}\.\d{7}$"}
# https://learn.microsoft.com/azure/azure-video-indexer/video-indexer-output-json-v2
AZURE_STATES = {"enum": ["Uploaded", "Processing", "Processed", "Failed", "Quarantined"]}
AZURE_INSTANCE = shaped({"adjustedStart": SPAN, "adjustedEnd": SPAN, "start": SPAN, "end": SPAN})
AZURE = shaped(
    {
        "accountId": TEXT,
        "id": TEXT,
        "name": TEXT,
        "description": {"type": ["string", "null"]},
        "userName": TEXT,
        "created": TEXT,
        "privacyMode": {"enum": ["Private", "Public"]},
        "state": AZURE_STATES,
        "isOwned": {"type": "boolean"},
        "isEditable": {"type": "boolean"},
        "isBase": {"type": "boolean"},
        "durationInSeconds": WHOLE,
        "duration": SPAN,
        "summarizedInsights": NULL,
        "videos": many(
            shaped(
                {
                    "accountId": TEXT,
                    "id": TEXT,
                    "name": TEXT,
                    "state": AZURE_STATES,
                    "privacyMode": {"enum": ["Private", "Public"]},
                    "processingProgress": {"type": "string", "pattern": r"^\d{1,3}%$"},
                    "failureCode": TEXT,
                    "failureMessage": TEXT,
                    "externalId": TEXT,
                    "externalUrl": NULL,
                    "metadata": NULL,
                    "isAdult": {"type": "boolean"},
                    "insights": shaped(
                        {
                            "version": TEXT,
                            "duration": SPAN,
                            "visualContentModeration": many(
                                shaped(
                                    {
                                        "id": WHOLE,
                                        "adultScore": SCORE,
                                        "racyScore": SCORE,
                                        "instances": many(AZURE_INSTANCE, minItems=1),
                                    }
                                )
                            ),
                        }
                    ),
                },
                {"width": WHOLE, "height": WHOLE},
            ),
            minItems=1,
            maxItems=1,
        ),
        "videosRanges": many(shaped({"videoId": TEXT, "range": shaped({"start": SPAN, "end": SPAN})})),
    }
)
# https://docs.thehive.ai/reference/classification, https://docs.thehive.ai/reference/detection and the classes of
# https://docs.thehive.ai/docs/visual-content-moderation
HIVE_CLASSES = {
    "enum": [
        "general_nsfw",
        "general_suggestive",
        "general_not_nsfw_not_suggestive",
        "yes_female_nudity",
        "no_female_nudity",
        "yes_male_nudity",
        "no_male_nudity",
        "yes_breast",
        "no_breast",
        "yes_genitals",
        "no_genitals",
        "yes_butt",
        "no_butt",
        "yes_male_shirtless",
        "no_male_shirtless",
    ]
}


def hive_entry(kind: str, output: Json) -> Json:
    media = {
        "url": NULL,
        "filename": TEXT,
        "type": {"const": "VIDEO"},
        "mimetype": NULL,
        "duration": {"type": "number", "minimum": 0},
        "width": {"type": ["integer", "null"]},
        "height": {"type": ["integer", "null"]},
    }
    given = {
        "id": TEXT,
        "charge": NUMBER,
        "model": TEXT,
        "model_version": WHOLE,
        "model_type": {"const": kind},
        "created_on": TEXT,
        "media": shaped(media),
        "user_id": WHOLE,
        "project_id": WHOLE,
    }
    status = shaped({"code": {"type": "string", "pattern": "^[0-9]+$"}, "message": TEXT})
    return shaped({"status": status, "response": shaped({"input": shaped(given), "output": many(output)})})


POINT = shaped({"x": NUMBER, "y": NUMBER})
HIVE = shaped(
    {
        "id": {"type": "string", "pattern": "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"},
        "code": {"enum": [200, 400]},
        "project_id": WHOLE,
        "user_id": WHOLE,
        "created_on": TEXT,
        "status": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "prefixItems": [
                hive_entry(
                    "CATEGORIZATION",
                    shaped({"time": NUMBER, "classes": many(shaped({"class": HIVE_CLASSES, "score": SCORE}))}),
                ),
                hive_entry(
                    "DETECTION",
                    shaped(
                        {
                            "time": NUMBER,
                            "bounding_poly": many(
                                shaped(
                                    {
                                        "vertices": many(POINT, minItems=4, maxItems=4),
                                        "dimensions": shaped(
                                            {"top": NUMBER, "bottom": NUMBER, "left": NUMBER, "right": NUMBER}
                                        ),
                                        "classes": many(shaped({"class": TEXT, "score": SCORE}), minItems=1),
                                    }
                                )
                            ),
                        }
                    ),
                ),
            ],
        },
        "from_cache": {"type": "boolean"},
        "metadata": {"type": ["string", "null"]},
    }
)
# https://sightengine.com/docs/moderate-stored-video, https://sightengine.com/docs/advanced-nudity-detection-model-2.1,
# https://sightengine.com/docs/api-error-codes-and-responses
SIGHTENGINE_REQUEST = shaped({"id": TEXT, "operations": WHOLE}, {"timestamp": NUMBER})
SIGHTENGINE_INTENSITIES = (
    "sexual_activity",
    "sexual_display",
    "erotica",
    "very_suggestive",
    "suggestive",
    "mildly_suggestive",
)
SIGHTENGINE_NUDITY = shaped(
    {"suggestive_classes": shaped({}, {"male_chest": SCORE})},
    dict.fromkeys([*SIGHTENGINE_INTENSITIES, "none"], SCORE),
)
SIGHTENGINE = {
    "anyOf": [
        shaped(
            {
                "status": {"const": "success"},
                "request": SIGHTENGINE_REQUEST,
                "data": shaped(
                    {
                        "status": {"enum": ["finished", "stopped"]},
                        "frames": many(
                            shaped({"info": shaped({"id": TEXT, "position": WHOLE}), "nudity": SIGHTENGINE_NUDITY})
                        ),
                    }
                ),
                "media": shaped({"id": TEXT, "uri": TEXT}),
            }
        ),
        shaped(
            {
                "status": {"const": "failure"},
                "request": SIGHTENGINE_REQUEST,
                "error": shaped({"type": {"const": "media_error"}, "code": {"type": "integer"}, "message": TEXT}),
            }
        ),
    ]
}
# https://transparency.dsa.ec.europa.eu/page/api-documentation, version 2. Null is what a person fills in; of
# `category_specification` only the keywords that a nudity model can speak of.
DSA = shaped(
    {
        **dict.fromkeys(["decision_visibility", "decision_monetary", "decision_provision", "decision_account"], NULL),
        "decision_ground": NULL,
        "content_type": many({"enum": ["CONTENT_TYPE_VIDEO", "CONTENT_TYPE_IMAGE"]}, minItems=1),
        "category": {"enum": ["STATEMENT_CATEGORY_OTHER_VIOLATION_TC", None]},
        "category_specification": many({"enum": ["KEYWORD_NUDITY", "KEYWORD_ADULT_SEXUAL_MATERIAL"]}, uniqueItems=True),
        **dict.fromkeys(["territorial_scope", "content_date", "application_date", "source_type", "puid"], NULL),
        "decision_facts": {"type": "string", "minLength": 1, "maxLength": 5000},
        "automated_detection": {"enum": ["Yes", "No", None]},
        "automated_decision": {
            "enum": [
                "AUTOMATED_DECISION_FULLY",
                "AUTOMATED_DECISION_PARTIALLY",
                "AUTOMATED_DECISION_NOT_AUTOMATED",
                None,
            ]
        },
    }
)


def check_schema(schema: Json) -> Callable[[Json], None]:
    validator = jsonschema_rs.validator_for(schema)

    def check(answer: Json) -> None:
        problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(answer)]
        assert not problems

    return check


CHECKS: dict[str, Callable[[Json], None]] = {
    "aws-rekognition": check_rekognition,
    "aws-rekognition-segments": check_rekognition,
    "google-video-intelligence": check_google,
    "azure-video-indexer": check_schema(AZURE),
    "hive": check_schema(HIVE),
    "sightengine": check_schema(SIGHTENGINE),
    "dsa": check_schema(DSA),
}


# --- times of what each answer tells ---


def hive_scores(answer: Json, name: str) -> dict[float, float]:
    return {
        row["time"]: item["score"]
        for row in answer["status"][0]["response"]["output"]
        for item in row["classes"]
        if item["class"] == name
    }


def aws_times(answer: Json, name: str) -> dict[int, float]:
    return {
        row["Timestamp"]: row["ModerationLabel"]["Confidence"]
        for row in answer["ModerationLabels"]
        if row["ModerationLabel"]["Name"] == name
    }


def aws_spans(answer: Json, name: str) -> list[tuple[int, int, float]]:
    rows = [row for row in answer["ModerationLabels"] if row["ModerationLabel"]["Name"] == name]
    for row in rows:
        assert row["Timestamp"] == row["StartTimestampMillis"]
        assert row["DurationMillis"] == row["EndTimestampMillis"] - row["StartTimestampMillis"]
    return [
        (row["StartTimestampMillis"], row["EndTimestampMillis"], row["ModerationLabel"]["Confidence"]) for row in rows
    ]


def google_frames(answer: Json) -> dict[timedelta, str]:
    frames = google_result(answer).explicit_annotation.frames
    return {frame.time_offset: frame.pornography_likelihood.name for frame in frames}


def azure_rows(answer: Json) -> list[Json]:
    return cast("list[Json]", answer["videos"][0]["insights"]["visualContentModeration"])


def azure_seconds(text: str) -> float:
    """What .NET's TimeSpan.Parse makes of it."""
    found = re.fullmatch(r"(?:(\d+)\.)?(\d+):(\d\d):(\d\d)\.(\d{7})", text)
    assert found is not None
    days, hours, minutes, seconds, ticks = (int(part or 0) for part in found.groups())
    assert hours < 24
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + ticks / 1e7


def sightengine_scores(answer: Json, name: str) -> dict[int, float]:
    return {frame["info"]["position"]: frame["nudity"][name] for frame in answer["data"]["frames"]}


def test_all_are_in_the_table() -> None:
    assert set(SERVICES) <= set(FORMATS)
    assert all(FORMATS[name].tells_unknown and not FORMATS[name].is_binary for name in SERVICES)


def test_the_labels_of_nudenet_are_its_manifests() -> None:
    assert frozenset(find("nudenet").output.labels) == answers.PARTS


@pytest.mark.parametrize("to", SERVICES)
def test_the_checks_refuse_what_is_not_the_services(to: str, film: Timeline) -> None:
    """Whatever is added, taken away or made another type in any object of an answer, the check notices."""
    whole = read(to, film)
    refused = 0
    for path in places(whole):
        broken = copy.deepcopy(whole)
        target = functools.reduce(lambda value, key: value[key], path, cast("Any", broken))
        target["vidmodsOwn"] = 1
        with pytest.raises((AssertionError, json_format.ParseError)):
            CHECKS[to](broken)
        for name in list(target):
            target[name], kept = {"not": ["this"]}, target[name]
            if isinstance(kept, dict):
                target[name] = kept
                continue
            with pytest.raises((AssertionError, AttributeError, KeyError, json_format.ParseError)):
                CHECKS[to](broken)
            target[name] = kept
            refused += 1
    assert refused >= 10


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths to the objects in a document, the first of each list."""
    if isinstance(value, dict):
        yield path
        for name, item in value.items():
            yield from places(item, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


class TestTimes:
    @pytest.mark.parametrize("start", [0.0, 10.0, -2.5, 1234.567891])
    def test_count_from_the_start_of_the_video(self, film: Timeline, start: float) -> None:
        there = moved(film, start)
        assert there.source["start_seconds"] == start
        for to in SERVICES:
            assert export(there, to) == export(film, to), to

    def test_survive_to_the_millisecond(self) -> None:
        rate = 30000 / 1001
        times = [round(number * 15 / rate, 6) for number in range(40)]
        rows = [sample(time, 0.93, BREAST, shown=0.5005) for time in times]
        of = scanned(stream(rows))
        expected = [round(time * 1000) for time in times]
        assert list(aws_times(read("aws-rekognition", of), "Explicit")) == expected
        frames = google_frames(read("google-video-intelligence", of))
        assert [round(time.total_seconds() * 1000) for time in frames] == expected
        assert [round(time * 1000) for time in hive_scores(read("hive", of), "general_nsfw")] == expected
        assert list(sightengine_scores(read("sightengine", of), "none")) == expected

    def test_of_segments_survive_to_the_millisecond(self, film: Timeline) -> None:
        cut = dataclasses.replace(film.segments[0], start_seconds=4.0406, end_seconds=9.999)
        far = dataclasses.replace(film.segments[1], start_seconds=93_784.25, end_seconds=93_785.75)
        of = dataclasses.replace(film, segments=(cut, far))
        spans = aws_spans(read("aws-rekognition-segments", of), "Explicit")
        assert spans == [(4041, 9999, 90.0), (93_784_250, 93_785_750, 97.0)]
        azure = [row["instances"][0] for row in azure_rows(read("azure-video-indexer", of))]
        assert azure[0]["start"] == azure[0]["adjustedStart"] == "0:00:04.0406000"
        assert [azure_seconds(row["end"]) for row in azure] == [9.999, 93_785.75]
        assert azure[1]["start"] == "1.02:03:04.2500000"


class TestRekognition:
    def test_a_label_comes_with_all_that_it_belongs_to(self, film: Timeline) -> None:
        answer = read("aws-rekognition", film)
        times = dict.fromkeys(range(4000, 10000, 500), 90.0)
        assert aws_times(answer, "Exposed Female Nipple") == times
        assert aws_times(answer, "Explicit Nudity") == times
        assert aws_times(answer, "Explicit") == times | dict.fromkeys(range(20000, 30000, 500), 97.0)
        stamps = [row["Timestamp"] for row in answer["ModerationLabels"]]
        assert stamps == sorted(stamps)
        assert answer["GetRequestMetadata"] == {"SortBy": "TIMESTAMP", "AggregateBy": "TIMESTAMPS"}
        assert answer["ModerationModelVersion"] == "7.0"
        assert "NextToken" not in answer
        assert "StatusMessage" not in answer

    def test_segments_of_a_label_that_touch_are_one(self, film: Timeline) -> None:
        first, second = film.segments
        answer = read("aws-rekognition-segments", film)
        assert aws_spans(answer, "Exposed Female Nipple") == [(4000, 10000, 90.0)]
        assert aws_spans(answer, "Explicit") == [(4000, 10000, 90.0), (20000, 30000, 97.0)]
        near = dataclasses.replace(second, start_seconds=9.5)
        answer = read("aws-rekognition-segments", dataclasses.replace(film, segments=(first, near)))
        assert aws_spans(answer, "Explicit") == [(4000, 30000, 97.0)]
        assert aws_spans(answer, "Explicit Nudity") == [(4000, 10000, 90.0)]
        within = dataclasses.replace(second, start_seconds=5.0, end_seconds=6.0)
        inner = read("aws-rekognition-segments", dataclasses.replace(film, segments=(first, within)))
        assert aws_spans(inner, "Explicit") == [(4000, 10000, 97.0)]
        assert answer["GetRequestMetadata"]["AggregateBy"] == "SEGMENTS"

    def test_the_policy_asks_for_less_than_50(self) -> None:
        rows = [sample(t / 2, 0.3 if 10 <= t < 20 else 0.01, shown=0.5) for t in range(40)]
        of = scanned(stream(rows))
        assert [(row.verdict, row.peak) for row in of.segments] == [("review", 0.3)]
        assert aws_times(read("aws-rekognition", of), "Explicit") == dict.fromkeys(range(5000, 10000, 500), 30.0)
        assert aws_spans(read("aws-rekognition-segments", of), "Explicit") == [(5000, 10000, 30.0)]

    def test_what_the_policy_does_not_judge_is_listed_from_50_on(self) -> None:
        of = scanned(stream([sample(t, 0.01, ("MALE_BREAST_EXPOSED", score)) for t, score in ((0, 0.49), (1, 0.51))]))
        assert of.segments == ()
        answer = read("aws-rekognition", of)
        assert aws_times(answer, "Exposed Male Nipple") == {1000: 51.0}
        assert {row["ModerationLabel"]["Name"] for row in answer["ModerationLabels"]} == {
            "Exposed Male Nipple",
            "Non-Explicit Nudity",
            "Non-Explicit Nudity of Intimate parts and Kissing",
        }

    @pytest.mark.parametrize(
        ("rotation", "shown"), [(0, (640, 360)), (90, (360, 640)), (-90, (360, 640)), (180, (640, 360))]
    )
    def test_the_video_is_as_displayed(self, film: Timeline, rotation: int, shown: tuple[int, int]) -> None:
        video = {**VIDEO, "rotation": rotation, "average_rate": "30000/1001"}
        of = dataclasses.replace(film, source={**film.source, "video": video})
        metadata = read("aws-rekognition", of)["VideoMetadata"]
        assert (metadata["FrameWidth"], metadata["FrameHeight"]) == shown
        assert metadata["FrameRate"] == pytest.approx(29.97003, abs=1e-5)
        assert metadata["Codec"] == "h264"
        assert metadata["Format"] == "QuickTime / MOV"
        assert metadata["DurationMillis"] == 30000
        assert "ColorRange" not in metadata
        index = read("azure-video-indexer", of)["videos"][0]
        media = read("hive", of)["status"][0]["response"]["input"]["media"]
        assert (index["width"], index["height"]) == (media["width"], media["height"]) == shown

    def test_a_pixel_format_that_is_full_range_says_so(self, film: Timeline) -> None:
        of = dataclasses.replace(film, source={**film.source, "video": {**VIDEO, "pixel_format": "yuvj420p"}})
        assert read("aws-rekognition", of)["VideoMetadata"]["ColorRange"] == "FULL"

    def test_what_has_no_label_is_told(self, film: Timeline) -> None:
        faces = dataclasses.replace(film.segments[0], id="f", category="faces", labels={"FACE_FEMALE": 0.99})
        of = dataclasses.replace(film, segments=(faces,))
        assert "faces (1)" in read("aws-rekognition-segments", of)["StatusMessage"]
        assert read("aws-rekognition-segments", of)["ModerationLabels"] == []
        assert "faces (1)" in read("azure-video-indexer", of)["videos"][0]["failureMessage"]
        assert "faces (1)" in read("hive", of)["metadata"]
        assert read("dsa", of)["category"] is None


class TestGoogle:
    @pytest.mark.parametrize(
        ("score", "likelihood"),
        [
            (0.0, "VERY_UNLIKELY"),
            (0.1999, "VERY_UNLIKELY"),
            (0.2, "UNLIKELY"),
            (0.4, "POSSIBLE"),
            (0.6, "LIKELY"),
            (0.7999, "LIKELY"),
            (0.8, "VERY_LIKELY"),
            (1.0, "VERY_LIKELY"),
        ],
    )
    def test_fifths(self, score: float, likelihood: str) -> None:
        of = dataclasses.replace(scanned(stream([sample(0.0, score)])), segments=())
        assert google_frames(read("google-video-intelligence", of)) == {timedelta(0): likelihood}

    def test_a_segment_is_at_least_what_was_decided(self) -> None:
        rows = [sample(t / 2, 0.25 if 10 <= t < 20 else 0.01, shown=0.5) for t in range(40)]
        of = scanned(stream(rows))
        assert [row.verdict for row in of.segments] == ["review"]
        frames = google_frames(read("google-video-intelligence", of))
        start, end = of.segments[0].start_seconds, of.segments[0].end_seconds
        assert end - start > 3
        assert {time.total_seconds() for time, name in frames.items() if name == "POSSIBLE"} == {
            t / 2 for t in range(40) if start <= t / 2 < end
        }
        blocked = dataclasses.replace(of, segments=(dataclasses.replace(of.segments[0], verdict="block"),))
        frames = google_frames(read("google-video-intelligence", blocked))
        assert frames[timedelta(seconds=7)] == "LIKELY"
        assert frames[timedelta(seconds=1)] == "VERY_UNLIKELY"

    def test_what_nobody_looked_for_is_not_unlikely(self) -> None:
        predictions = Predictions(scores=(Scores("mine", {"weapon": 0.99}),))
        made = timeline(stream([Sample(0, 0.0, 1.0, predictions)]))
        frames = google_frames(read("google-video-intelligence", made))
        assert frames == {timedelta(0): "LIKELIHOOD_UNSPECIFIED"}
        assert hive_scores(read("hive", made), "general_not_nsfw_not_suggestive") == {}
        assert read("sightengine", made)["data"]["frames"][0]["nudity"] == {"suggestive_classes": {}}

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.0, "0s"), (1.5, "1.500s"), (0.002, "0.002s"), (3.000501, "3.000501s")]
    )
    def test_offsets_are_as_rest_writes_them(self, seconds: float, text: str) -> None:
        answer = read("google-video-intelligence", scanned(stream([sample(seconds, 0.01)])))
        (frame,) = answer["response"]["annotationResults"][0]["explicitAnnotation"]["frames"]
        assert frame["timeOffset"] == text
        assert list(google_frames(answer)) == [timedelta(seconds=seconds)]


class TestHive:
    def test_heads_add_up(self, film: Timeline) -> None:
        answer = read("hive", film)
        for name, rest in (("general_nsfw", "general_not_nsfw_not_suggestive"), ("yes_breast", "no_breast")):
            yes, no = hive_scores(answer, name), hive_scores(answer, rest)
            assert yes[5.0] == 0.9
            assert {time: round(1 - score, 6) for time, score in yes.items()} == no
        assert hive_scores(answer, "yes_genitals")[5.0] == 0.0

    def test_the_most_serious_class_of_a_head_comes_first(self) -> None:
        of = scanned(stream([sample(0.0, 0.7, ("MALE_BREAST_EXPOSED", 0.8))]))
        (row,) = read("hive", of)["status"][0]["response"]["output"]
        scores = {item["class"]: item["score"] for item in row["classes"]}
        assert (scores["general_nsfw"], scores["general_suggestive"]) == (0.7, 0.3)
        assert scores["general_not_nsfw_not_suggestive"] == 0.0
        assert scores["yes_male_shirtless"] == 0.8

    def test_boxes_survive_to_the_pixel(self, film: Timeline) -> None:
        entry = read("hive", film)["status"][1]["response"]
        assert [row["time"] for row in entry["output"]] == [t / 2 for t in range(8, 20)]
        (box,) = entry["output"][0]["bounding_poly"]
        assert box["dimensions"] == {"left": 1.0, "top": 2.0, "right": 30.0, "bottom": 40.5}
        assert [(row["x"], row["y"]) for row in box["vertices"]] == [(1.0, 2.0), (30.0, 2.0), (30.0, 40.5), (1.0, 40.5)]
        assert box["classes"] == [{"class": "FEMALE_BREAST_EXPOSED", "score": 0.9}]

    def test_a_head_of_a_model_that_did_not_run_is_not_there(self, film: Timeline) -> None:
        rows = [sample(0.0, 0.01)]
        made = timeline(stream(rows))
        (row,) = read("hive", made)["status"][0]["response"]["output"]
        assert {item["class"] for item in row["classes"]} == {
            "general_nsfw",
            "general_suggestive",
            "general_not_nsfw_not_suggestive",
        }
        nudity = read("sightengine", made)["data"]["frames"][0]["nudity"]
        assert nudity["suggestive_classes"] == {}
        assert nudity["none"] == 0.99


class TestSightengine:
    def test_what_is_explicit_is_all_that_is_less_so(self, film: Timeline) -> None:
        frames = read("sightengine", film)["data"]["frames"]
        for frame in frames:
            scores = [frame["nudity"][name] for name in SIGHTENGINE_INTENSITIES]
            assert scores == sorted(scores)
            assert frame["nudity"]["none"] == pytest.approx(1 - scores[-1])
        at = {frame["info"]["position"]: frame["nudity"] for frame in frames}
        assert (at[5000]["sexual_activity"], at[5000]["sexual_display"], at[5000]["erotica"]) == (0.015, 0.015, 0.9)
        assert at[25000]["sexual_activity"] == 0.97
        assert len({frame["info"]["id"] for frame in frames}) == len(frames)

    def test_acts_are_unknown_without_open_nsfw(self) -> None:
        predictions = Predictions(detections=(Detection("nudenet", "ANUS_EXPOSED", 0.7, (0.0, 0.0, 1.0, 1.0)),))
        made = timeline(stream([Sample(0, 0.0, 1.0, predictions)]))
        nudity = read("sightengine", made)["data"]["frames"][0]["nudity"]
        assert "sexual_activity" not in nudity
        assert nudity["sexual_display"] == 0.7


class TestAzure:
    def test_explicit_is_also_racy(self, film: Timeline) -> None:
        rows = azure_rows(read("azure-video-indexer", film))
        assert [(row["id"], row["adultScore"], row["racyScore"]) for row in rows] == [(0, 0.9, 0.9), (1, 0.97, 0.97)]

    def test_what_is_covered_is_racy_alone(self, film: Timeline) -> None:
        labels = {"FEMALE_BREAST_COVERED": 0.8}
        racy = dataclasses.replace(film.segments[0], category="suggestive", labels=labels, peak=0.8)
        (row,) = azure_rows(read("azure-video-indexer", dataclasses.replace(film, segments=(racy,))))
        assert (row["adultScore"], row["racyScore"]) == (0.0, 0.8)

    def test_only_a_person_says_that_it_is_adult(self, film: Timeline) -> None:
        assert read("azure-video-indexer", film)["videos"][0]["isAdult"] is False
        assert read("azure-video-indexer", decide(film, *film.segments))["videos"][0]["isAdult"] is True
        assert read("azure-video-indexer", decide(film))["videos"][0]["isAdult"] is False


class TestDsa:
    def test_says_what_a_machine_knows(self, film: Timeline) -> None:
        answer = read("dsa", film)
        assert answer["content_type"] == ["CONTENT_TYPE_VIDEO"]
        assert answer["category"] == "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
        assert answer["category_specification"] == ["KEYWORD_ADULT_SEXUAL_MATERIAL", "KEYWORD_NUDITY"]
        assert answer["automated_detection"] == "Yes"
        assert answer["automated_decision"] is None
        facts = answer["decision_facts"]
        assert "60 pictures of 0:30.000 were looked at with open_nsfw 1, nudenet 1." in facts
        assert "explicit from 0:04.000 to 0:10.000, probability 0.90; nsfw from 0:20.000" in facts

    def test_has_no_personal_data(self, film: Timeline) -> None:
        of = decide(film, *film.segments, note="call Mrs. Smith", notes={"s1": "her neighbour"})
        of = dataclasses.replace(of, source={**of.source, "name": "Jane Doe.mp4"}, notes=("/home/jane/Jane Doe.mp4",))
        text = export(dataclasses.replace(of, status="partial"), "dsa").decode()
        for word in ("Jane", "Ada", "Smith", "neighbour", "/home"):
            assert word not in text

    def test_a_persons_decision_is_partly_automated(self, film: Timeline) -> None:
        answer = read("dsa", decide(film, film.segments[0]))
        assert (answer["automated_detection"], answer["automated_decision"]) == ("Yes", "AUTOMATED_DECISION_PARTIALLY")
        assert "A person reviewed it: 1 accepted, 0 changed, 1 rejected, 0 added." in answer["decision_facts"]
        added = dataclasses.replace(film.segments[0], id="mine")
        answer = read("dsa", decide(film, added))
        assert (answer["automated_detection"], answer["automated_decision"]) == (
            "No",
            "AUTOMATED_DECISION_NOT_AUTOMATED",
        )
        answer = read("dsa", decide(film))
        assert (answer["category"], answer["automated_detection"], answer["automated_decision"]) == (None, None, None)

    def test_facts_fit(self, film: Timeline) -> None:
        rows = tuple(
            dataclasses.replace(
                film.segments[0], id=f"x{number}", category=f"{HOSTILE}{number}", start_seconds=number / 9
            )
            for number in range(500)
        )
        facts = read("dsa", dataclasses.replace(film, segments=rows))["decision_facts"]
        assert re.search(r" and \d+ more\.$", facts)

    def test_a_picture_is_an_image(self, film: Timeline) -> None:
        of = dataclasses.replace(film, source={**film.source, "format": "png_pipe"})
        assert read("dsa", of)["content_type"] == ["CONTENT_TYPE_IMAGE"]


class TestReviewed:
    def test_what_was_rejected_is_not_told(self, film: Timeline) -> None:
        of = decide(film, film.segments[1])
        assert set(aws_times(read("aws-rekognition", of), "Explicit")) == set(range(20000, 30000, 500))
        assert aws_times(read("aws-rekognition", of), "Exposed Female Nipple") == {}
        assert aws_spans(read("aws-rekognition-segments", of), "Explicit") == [(20000, 30000, 97.0)]
        frames = google_frames(read("google-video-intelligence", of))
        assert len(frames) == 60
        assert frames[timedelta(seconds=5)] == "VERY_UNLIKELY"
        assert len(azure_rows(read("azure-video-indexer", of))) == 1
        answer = read("hive", of)
        assert hive_scores(answer, "yes_breast")[5.0] == 0.0
        assert len(answer["status"]) == 1, "no box is left"
        assert sightengine_scores(read("sightengine", of), "erotica")[5000] == 0.015

    def test_what_was_cut_off_is_not_told(self, film: Timeline) -> None:
        of = decide(film, dataclasses.replace(film.segments[0], end_seconds=7.25), film.segments[1])
        assert list(aws_times(read("aws-rekognition", of), "Exposed Female Nipple")) == list(range(4000, 7500, 500))
        assert aws_spans(read("aws-rekognition-segments", of), "Exposed Female Nipple") == [(4000, 7250, 90.0)]
        boxes = read("hive", of)["status"][1]["response"]["output"]
        assert [row["time"] for row in boxes] == [t / 2 for t in range(8, 15)]

    def test_another_category_at_the_same_time_stays(self) -> None:
        rows = [sample(t / 2, 0.97, BREAST, shown=0.5) for t in range(20)]
        both = scanned(stream(rows))
        left = [row for row in both.segments if row.category == "nsfw"]
        of = decide(both, *left)
        answer = read("aws-rekognition", of)
        assert aws_times(answer, "Exposed Female Nipple") == {}
        assert len(aws_times(answer, "Explicit")) == 20

    def test_what_a_person_added_is_told_at_every_sample(self, film: Timeline) -> None:
        added = Segment("mine", "explicit", "block", "cover", 12.0, 14.0, 1.0, 1.0, {})
        of = decide(film, *film.segments, added)
        answer = read("aws-rekognition", of)
        assert {time for time, score in aws_times(answer, "Explicit Nudity").items() if score == 100.0} == {
            12000,
            12500,
            13000,
            13500,
        }
        frames = google_frames(read("google-video-intelligence", of))
        assert frames[timedelta(seconds=12)] == frames[timedelta(seconds=13.5)] == "VERY_LIKELY"
        assert frames[timedelta(seconds=14)] == "VERY_UNLIKELY"
        assert hive_scores(read("hive", of), "general_nsfw")[13.0] == 1.0
        assert sightengine_scores(read("sightengine", of), "sexual_display")[13000] == 1.0

    def test_a_segment_without_a_sample_is_told_at_its_start(self, film: Timeline) -> None:
        added = Segment("mine", "explicit", "review", "cover", 12.125, 12.25, 0.75, 0.75, {})
        of = decide(film, *film.segments, added)
        assert aws_times(read("aws-rekognition", of), "Explicit Nudity")[12125] == 75.0
        assert google_frames(read("google-video-intelligence", of))[timedelta(seconds=12.125)] == "LIKELY"
        assert hive_scores(read("hive", of), "general_nsfw")[12.125] == 0.75
        assert sightengine_scores(read("sightengine", of), "sexual_display")[12125] == 0.75

    def test_dismissed_boxes_go_and_drawn_ones_come(self, film: Timeline) -> None:
        box = {"pts": 5000, "time_seconds": 5.0, "box": [2.0, 2.0, 30.0, 41.0]}
        track: Json = {"id": "d", "label": BREAST[0], "start_seconds": 5.0, "end_seconds": 5.5, "boxes": [box]}
        other = {**track, "id": "e", "label": "FACE_MALE"}
        drawn = {**track, "id": "n", "label": "ADDED", "boxes": [{**box, "time_seconds": 12.0, "box": [5, 6, 7, 8.5]}]}
        of = decide(film, *film.segments, tracks=[drawn], dismissed=[track, other])
        rows = {row["time"]: row["bounding_poly"] for row in read("hive", of)["status"][1]["response"]["output"]}
        assert 5.0 not in rows
        assert set(rows) == {t / 2 for t in range(8, 20)} - {5.0} | {12.0}
        (found,) = rows[12.0]
        assert found["dimensions"] == {"left": 5.0, "top": 6.0, "right": 7.0, "bottom": 8.5}
        assert found["classes"] == [{"class": "ADDED", "score": 1.0}]

    def test_a_dismissed_box_of_another_label_or_place_changes_nothing(self, film: Timeline) -> None:
        box = {"pts": 5000, "time_seconds": 5.0, "box": [1.0, 2.0, 30.0, 40.5]}
        far = {**box, "box": [20.0, 2.0, 60.0, 40.5]}
        track: Json = {"id": "d", "label": "FACE_MALE", "start_seconds": 5.0, "end_seconds": 5.5, "boxes": [box]}
        of = decide(film, *film.segments, dismissed=[track, {**track, "label": BREAST[0], "boxes": [far]}])
        assert 5.0 in {row["time"] for row in read("hive", of)["status"][1]["response"]["output"]}

    def test_a_segment_of_the_same_category_keeps_what_the_machine_saw(self, film: Timeline) -> None:
        instead = Segment("mine", "explicit", "block", "cover", 5.0, 7.0, 1.0, 1.0, {})
        of = decide(film, film.segments[1], instead)
        boxes = read("hive", of)["status"][1]["response"]["output"]
        assert [row["time"] for row in boxes] == [5.0, 5.5, 6.0, 6.5]

    def test_a_machines_tracks_are_no_boxes_of_a_person(self, film: Timeline) -> None:
        box = {"pts": 5000, "time_seconds": 5.125, "box": [2.0, 2.0, 30.0, 41.0]}
        track: Json = {"id": "t1", "label": "X", "start_seconds": 5.0, "end_seconds": 5.5, "boxes": [box]}
        of = dataclasses.replace(film, tracks=(track,))
        for timeline_ in (of, decide(of, *of.segments)):
            assert 5.125 not in {row["time"] for row in read("hive", timeline_)["status"][1]["response"]["output"]}


class TestUnknown:
    @pytest.fixture
    def part(self, film: Timeline) -> Timeline:
        spans = (Covered(0.0, 24.0, "analysed"), Covered(24.0, 27.5, "undecodable"), Covered(27.5, 30.0, "unsampled"))
        return dataclasses.replace(film, coverage=spans, status="partial", notes=("Stream 0: 7 of 9 gave no picture.",))

    def test_part_is_told_wherever_there_is_a_place(self, part: Timeline) -> None:
        words = "Not everything was looked at. 0:24.000 to 0:27.500 is undecodable, 0:27.500 to 0:30.000 is unsampled."
        for to in ("aws-rekognition", "aws-rekognition-segments"):
            answer = read(to, part)
            assert answer["JobStatus"] == "SUCCEEDED"
            assert answer["StatusMessage"] == f"{words} Stream 0: 7 of 9 gave no picture."
        answer = read("google-video-intelligence", part)
        result = google_result(answer)
        assert words in result.error.message
        assert result.error.code == 15
        assert len(result.explicit_annotation.frames) == 60
        assert answer["metadata"]["annotationProgress"][0]["progressPercent"] == 80
        video = read("azure-video-indexer", part)["videos"][0]
        assert (video["state"], video["processingProgress"]) == ("Processed", "80%")
        assert words in video["failureMessage"]
        assert words in read("hive", part)["metadata"]
        assert read("sightengine", part)["data"]["status"] == "stopped"
        assert "Not everything was looked at: 80 % of the time." in read("dsa", part)["decision_facts"]

    def test_a_part_that_was_asked_for_is_cancelled(self, part: Timeline) -> None:
        of = dataclasses.replace(part, coverage=(Covered(0.0, 24.0, "analysed"), Covered(24.0, 30.0, "unsampled")))
        assert google_result(read("google-video-intelligence", of)).error.code == 1

    def test_partial_is_never_100_percent(self, part: Timeline) -> None:
        of = dataclasses.replace(part, coverage=(Covered(0.0, 30.0, "analysed"),))
        assert read("azure-video-indexer", of)["videos"][0]["processingProgress"] == "99%"

    def test_gaps_of_another_stream_count(self, film: Timeline) -> None:
        other = dataclasses.replace(stream([sample(1.0, 0.0)], 3), coverage=(Covered(0.0, 2.0, "unsampled"),))
        of = dataclasses.replace(film, streams=(*film.streams, other))
        assert "0:00.000 to 0:02.000 of stream 3 is unsampled" in read("aws-rekognition", of)["StatusMessage"]

    def test_many_gaps_are_counted(self, film: Timeline) -> None:
        spans = tuple(Covered(number / 2, number / 2 + 0.25, "undecodable") for number in range(60))
        text = read("aws-rekognition", dataclasses.replace(film, coverage=spans))["StatusMessage"]
        assert "and 40 more." in text

    def test_complete_says_nothing_of_it(self, film: Timeline) -> None:
        of = dataclasses.replace(film, notes=("Judged again.",))
        assert "StatusMessage" not in read("aws-rekognition", of)
        assert "error" not in read("google-video-intelligence", of)["response"]["annotationResults"][0]
        assert read("azure-video-indexer", of)["videos"][0]["failureMessage"] == ""
        assert read("hive", of)["metadata"] is None
        assert read("sightengine", of)["data"]["status"] == "finished"

    @pytest.mark.parametrize("video", [VIDEO, None])
    def test_unscannable_is_a_failure(self, film: Timeline, video: Json | None) -> None:
        reason = "film.mp4: no frame of it can be decoded."
        of = dataclasses.replace(
            film,
            source={**film.source, "video": video, "format": None},
            status="unscannable",
            verdict="review",
            segments=(),
            streams=(),
            coverage=(),
            notes=(reason,),
        )
        for to in ("aws-rekognition", "aws-rekognition-segments"):
            answer = read(to, of)
            assert answer["JobStatus"] == "FAILED"
            assert reason in answer["StatusMessage"]
            assert answer["ModerationLabels"] == []
            assert ("VideoMetadata" in answer) is (video is not None)
        operation = json_format.ParseDict(read("google-video-intelligence", of), operations_pb2.Operation())
        assert operation.WhichOneof("result") == "error"
        assert reason in operation.error.message
        index = read("azure-video-indexer", of)
        assert (index["state"], index["videos"][0]["state"]) == ("Failed", "Failed")
        assert index["videos"][0]["processingProgress"] == "0%"
        assert reason in index["videos"][0]["failureMessage"]
        hive = read("hive", of)
        assert hive["code"] == 400
        assert reason in hive["status"][0]["status"]["message"]
        assert read("sightengine", of)["error"]["type"] == "media_error"
        assert "Nothing could be looked at." in read("dsa", of)["decision_facts"]


class TestOtherStreams:
    def test_a_hit_in_any_stream_is_a_hit(self, film: Timeline) -> None:
        second = stream([sample(t / 2, 0.9 if t >= 30 else 0.01, shown=0.5) for t in range(40)], 1)
        quiet = [row.predictions for row in film.samples[:40]]
        assert all(not row.detections or row.detections[0].score == 0.9 for row in quiet)
        of = scanned(film.streams[0], second)
        assert [row.stream for row in of.segments] == [None, 1, None]
        assert aws_times(read("aws-rekognition", of), "Explicit")[15500] == 90.0
        assert (15000, 30000, 97.0) in aws_spans(read("aws-rekognition-segments", of), "Explicit")
        frames = google_frames(read("google-video-intelligence", of))
        assert len(frames) == 60, "two pictures of one moment are one frame"
        assert frames[timedelta(seconds=15.5)] == "VERY_LIKELY"
        assert azure_rows(read("azure-video-indexer", of))[1]["instances"][0]["start"] == "0:00:15.0000000"
        assert hive_scores(read("hive", of), "general_nsfw")[15.5] == 0.9

    @pytest.mark.parametrize("start", [0.0, 10.0, -2.5])
    def test_cover_art_is_at_the_start(self, start: float) -> None:
        clean = stream([sample(start + t, 0.01) for t in range(10)])
        of = scanned(clean, stream([sample(0.0, 0.95, BREAST)], 2, "cover"), start=start)
        assert {row.kind for row in of.segments} == {"cover"}
        assert aws_times(read("aws-rekognition", of), "Explicit") == {0: 95.0}
        assert aws_spans(read("aws-rekognition-segments", of), "Explicit") == [(0, 0, 95.0)]
        assert google_frames(read("google-video-intelligence", of))[timedelta(0)] == "VERY_LIKELY"
        assert sightengine_scores(read("sightengine", of), "sexual_activity")[0] == 0.95
        assert azure_rows(read("azure-video-indexer", of))[0]["instances"][0]["end"] == "0:00:00.0000000"
        assert len(read("hive", of)["status"]) == 1, "boxes are of the video's own picture"
        unseen = dataclasses.replace(of, streams=of.streams[:1])
        assert aws_times(read("aws-rekognition", unseen), "Explicit") == {0: 95.0}

    def test_what_is_hidden_before_the_start_is_at_the_start(self) -> None:
        clean = stream([sample(float(t), 0.01) for t in range(10)])
        of = scanned(clean, stream([sample(-1.0, 0.95), sample(-0.5, 0.95)], 0, "hidden"))
        assert aws_times(read("aws-rekognition", of), "Explicit") == {0: 95.0}


class TestOdd:
    @pytest.mark.parametrize("to", SERVICES)
    def test_nothing_found(self, to: str) -> None:
        of = scanned(stream([sample(float(t), 0.0) for t in range(3)]))
        assert of.segments == ()
        answer = read(to, of)
        assert answer.get("ModerationLabels", []) == []

    @pytest.mark.parametrize("to", SERVICES)
    def test_no_sample_at_all(self, to: str, film: Timeline) -> None:
        empty = dataclasses.replace(film, streams=(dataclasses.replace(film.streams[0], samples=()),))
        assert read(to, dataclasses.replace(empty, segments=()))
        told = json.dumps(read(to, empty))
        assert to == "dsa" or "4" in told

    @pytest.mark.parametrize("to", SERVICES)
    def test_segments_without_a_video(self, to: str, film: Timeline) -> None:
        of = dataclasses.replace(film, streams=(), source={**film.source, "video": None})
        read(to, of)
        assert aws_times(read("aws-rekognition", of), "Explicit") == {4000: 90.0, 20000: 97.0}

    @pytest.mark.parametrize("to", SERVICES)
    def test_strangers_text(self, to: str, film: Timeline) -> None:
        """It is text in the right place, and nothing else: the checks know every other key and value."""

        def change(document: Json) -> None:
            document["source"]["name"] = HOSTILE
            document["source"]["format"] = HOSTILE
            document["source"]["video"]["codec"] = HOSTILE
            document["source"]["video"]["average_rate"] = "1/0"
            document["source"]["video"]["pixel_format"] = HOSTILE
            document["status"] = "partial"
            document["notes"] = [HOSTILE]
            document["provenance"]["created"] = HOSTILE
            document["provenance"]["vidmod"] = HOSTILE
            document["provenance"]["models"][0]["name"] = HOSTILE
            for row in document["segments"]:
                row.update(id=f"{HOSTILE}{row['id']}", category=HOSTILE, labels={HOSTILE: 0.5})
            document["samples"][9]["scores"][HOSTILE] = {HOSTILE: 1.0}
            document["samples"][9]["detections"][0]["label"] = HOSTILE

        raw = export(with_document(film, change), to)
        assert raw.decode("utf-8")
        answer = json.loads(raw)
        CHECKS[to](answer)
        where: dict[str, tuple[str | int, ...]] = {
            "aws-rekognition": ("Video", "S3Object", "Name"),
            "aws-rekognition-segments": ("VideoMetadata", "Codec"),
            "google-video-intelligence": ("response", "annotationResults", 0, "inputUri"),
            "azure-video-indexer": ("name",),
            "hive": ("status", 0, "response", "input", "media", "filename"),
            "sightengine": ("media", "uri"),
            "dsa": ("decision_facts",),
        }
        text = functools.reduce(lambda value, key: value[key], where[to], cast("Any", answer))
        assert text == HOSTILE if to != "dsa" else HOSTILE in text

    @pytest.mark.parametrize("to", SERVICES)
    def test_half_a_surrogate_pair_is_a_question_mark(self, to: str, film: Timeline) -> None:
        names = json.dumps(read(to, dataclasses.replace(film, source={**film.source, "name": "a\ud800b"})))
        assert "a?b" in names or to == "dsa"

    @pytest.mark.parametrize("to", SERVICES)
    def test_500_segments(self, to: str, film: Timeline) -> None:
        rows = tuple(
            dataclasses.replace(
                film.segments[0], id=f"x{number}", start_seconds=number * 10.0, end_seconds=number * 10.0 + 1
            )
            for number in range(500)
        )
        of = dataclasses.replace(film, segments=rows, source={**film.source, "duration_seconds": 5000.0})
        answer = read(to, of)
        if to == "aws-rekognition-segments":
            assert aws_spans(answer, "Exposed Female Nipple") == [
                (t * 10000, t * 10000 + 1000, 90.0) for t in range(500)
            ]
        elif to == "azure-video-indexer":
            assert len(azure_rows(answer)) == 500
        elif to == "google-video-intelligence":
            frames = google_frames(answer)
            assert {frames[timedelta(seconds=t * 10)] for t in range(2)} == {"LIKELY"}, "there is a sample, of 0.015"
            assert {frames[timedelta(seconds=t * 10)] for t in range(2, 500)} == {"VERY_LIKELY"}

    @pytest.mark.parametrize("to", SERVICES)
    @pytest.mark.parametrize("number", [10**400, -(10**400), 1e308, -1e308, 10**17])
    def test_numbers_of_any_size(self, to: str, film: Timeline, number: float) -> None:
        def change(document: Json) -> None:
            document["source"]["duration_seconds"] = abs(number)
            document["source"]["video"]["width"] = abs(int(number))
            document["coverage"][0]["end_seconds"] = number
            document["segments"][0]["start_seconds"] = number
            document["segments"][1]["end_seconds"] = number
            document["samples"][9]["time_seconds"] = number
            document["samples"][9]["detections"][0]["box"] = [0, 0, abs(number), abs(number)]

        read(to, with_document(film, change))
        read(to, with_document(film, lambda document: document["source"].update(start_seconds=number)))

    @pytest.mark.parametrize("to", SERVICES)
    @pytest.mark.parametrize("score", [0.0, 1.0])
    def test_scores_at_their_ends(self, to: str, score: float) -> None:
        labels = [(label, score) for label in sorted(answers.PARTS)]
        read(to, scanned(stream([sample(t / 2, score, *labels, shown=0.5) for t in range(10)])))

    def test_a_long_film_takes_seconds_at_most(self) -> None:
        """Two hours at two a second with 500 segments, reviewed: no work that grows with the product."""
        rows = [sample(t / 2, 0.01, BREAST, shown=0.5) for t in range(14_400)]
        of = scanned(stream(rows), source={"duration_seconds": 7200.0})
        one = of.segments[0]
        many_rows = [
            dataclasses.replace(one, id=f"x{t}", start_seconds=t * 14.0, end_seconds=t * 14.0 + 7) for t in range(500)
        ]
        of = decide(of, *many_rows)
        answer = read("aws-rekognition", of)
        assert len(aws_times(answer, "Exposed Female Nipple")) == 500 * 14
        for to in SERVICES:
            export(of, to)
