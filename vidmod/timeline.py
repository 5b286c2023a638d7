"""The timeline: what is in a video, when, where, how sure, and what was looked at.

A scan writes it, a policy judges it, reports and redaction read it. The format is published as
`vidmod/schemas/timeline.json`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from vidmod import schema
from vidmod.coverage import Covered, State
from vidmod.errors import TimelineError
from vidmod.outputs import write_whole
from vidmod.policy import Verdict
from vidmod.predictions import Box, Detection, Predictions, Scores

SCHEMA = "vidmod.timeline/1"
Status = Literal["complete", "partial", "unscannable"]
StreamKind = Literal["video", "cover", "view", "hidden"]
Json = dict[str, Any]
# How JSON writes half of a character, which nothing can write out again unless the other half is beside it.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Of 64 bits, with a sign.
_MOST_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture that was looked at.

    Attributes:
        pts: Presentation time in the stream's time base.
        time_seconds: The same in seconds.
        duration_seconds: How long the picture is shown.
    """

    pts: int
    time_seconds: float
    duration_seconds: float
    predictions: Predictions

    @property
    def end_seconds(self) -> float:
        """When the next picture is shown."""
        return self.time_seconds + self.duration_seconds


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which a category was found, half open.

    Attributes:
        peak, mean: Of the category's raw score over the segment's samples.
        labels: Label to its peak.
        stream, kind: Where it is, if it is not in the stream of `source.video`.
    """

    id: str
    category: str
    verdict: Verdict
    action: str
    start_seconds: float
    end_seconds: float
    peak: float
    mean: float
    labels: Mapping[str, float]
    stream: int | None = None
    kind: StreamKind | None = None


@dataclass(frozen=True, slots=True)
class StreamScan:
    """One picture stream: its facts, its account and its samples.

    Attributes:
        video: The JSON object `video` of the schema.
        ledger: What became of its packets, see :class:`vidmod.media.Ledger`.
    """

    stream: int
    kind: StreamKind
    video: Json
    coverage: tuple[Covered, ...]
    samples: tuple[Sample, ...]
    ledger: Json


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole document.

    Attributes:
        source: The JSON object `source` of the schema.
        notes: In words, why the status is not complete and what else should be known.
        streams: The stream of `source.video` first, then the others; none if nothing could be
            scanned.
        coverage: Of the first stream, or of what is claimed where nothing could be scanned.
        provenance: The JSON object `provenance` of the schema.
        review: The JSON object `review` of the schema, if a person has decided: see :mod:`vidmod.reviewing`.
    """

    source: Json
    status: Status
    verdict: Verdict
    notes: tuple[str, ...]
    coverage: tuple[Covered, ...]
    segments: tuple[Segment, ...]
    streams: tuple[StreamScan, ...]
    provenance: Json
    tracks: tuple[Json, ...] = ()
    review: Json | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples of the first stream."""
        return self.streams[0].samples if self.streams else ()

    @property
    def sample_count(self) -> int:
        """Pictures that were looked at, in all streams."""
        return sum(len(stream.samples) for stream in self.streams)

    def as_document(self) -> Json:
        """The JSON document."""
        document = self._head()
        document["samples"] = [_sample_json(sample) for sample in self.samples]
        document["other_streams"] = [
            {**_stream_json(stream), "samples": [_sample_json(sample) for sample in stream.samples]}
            for stream in self.streams[1:]
        ]
        return document

    def dumps(self, *, compact: bool = False) -> Iterator[str]:
        """The JSON text in parts: indented, but a sample is one line. `compact` is one line in all."""
        if compact:
            yield json.dumps(self.as_document(), ensure_ascii=False, separators=(",", ":")) + "\n"
            return
        head = self._head()
        yield "{\n"
        for key, value in head.items():
            if key == "samples":
                yield f'  "samples": [{_lines(self.samples, 4)}],\n'
            elif key == "other_streams":
                yield f'  "other_streams": [{", ".join(_stream_text(stream) for stream in self.streams[1:])}],\n'
            else:
                comma = "" if key == "provenance" else ","
                yield f'  "{key}": {_indented(value, 2)}{comma}\n'
        yield "}\n"

    def write(self, path: Path) -> None:
        """Write the document; `path` holds what it held before until it is whole.

        Raises:
            OutputError: It cannot be written.
        """
        write_whole(path, self.dumps())

    def _head(self) -> Json:
        return {
            "schema": SCHEMA,
            "source": self.source,
            "status": self.status,
            "verdict": self.verdict,
            "notes": list(self.notes),
            "coverage": [dataclasses.asdict(span) for span in self.coverage],
            "segments": [segment_json(segment) for segment in self.segments],
            "samples": [],
            "tracks": list(self.tracks),
            **({} if self.review is None else {"review": self.review}),
            "ledger": self.streams[0].ledger if self.streams else {},
            "other_streams": [],
            "provenance": self.provenance,
        }

    @classmethod
    def read(cls, path: Path) -> Timeline:
        """Read and check a document; `-` is standard input.

        Raises:
            TimelineError: It is missing, damaged, of another version, or a field of it is wrong.
        """
        try:
            text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
            document = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
            if _SURROGATE.search(text):
                json.dumps(document, ensure_ascii=False).encode()
        except FileNotFoundError as exc:
            raise TimelineError(f"{path}: there is no such timeline. Check the path.") from exc
        except OSError as exc:
            raise TimelineError(f"{path}: cannot be read ({exc.strerror}).") from exc
        except UnicodeError as exc:
            hint = "A timeline is what this writes: vidmod scan VIDEO -o FILE."
            raise TimelineError(f"{path}: cannot be read as text ({exc}). {hint}") from exc
        except json.JSONDecodeError as exc:
            raise TimelineError(f"{path}: is not whole JSON ({exc}). Scan the video again.") from exc
        except (ValueError, RecursionError) as exc:
            raise TimelineError(f"{path}: is JSON, but no timeline ({exc}). Scan the video again.") from exc
        return cls.from_document(document, str(path))

    @classmethod
    def from_document(cls, document: object, origin: str = "timeline") -> Timeline:
        """Check a parsed document; `origin` names it in messages.

        Raises:
            TimelineError: It is of another version, or a field of it is wrong.
        """
        if isinstance(document, dict) and document.get("schema", SCHEMA) != SCHEMA:
            raise TimelineError(f"{origin}: schema: is {document['schema']!r}; this vidmod reads {SCHEMA!r}.")
        schema.check(document, "timeline", origin, TimelineError)
        try:
            return _from_json(cast("Json", document))
        except ValueError as exc:
            raise TimelineError(f"{origin}: {exc}") from exc


def _whole(text: str) -> int:
    """A whole number of the document.

    Raises:
        ValueError: It is larger than any time or size.
    """
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:20]}… is too large")
    return int(text)


def _finite(text: str) -> float:
    """A number of the document.

    Raises:
        ValueError: It is infinite or none: JSON has no such numbers, and no time or score is one.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number")
    return value


def _from_json(document: Json) -> Timeline:
    coverage = _coverage(document["coverage"])
    first = {
        "stream": document["source"].get("stream", 0),
        "kind": document["source"].get("kind", "video"),
        "video": document["source"]["video"],
        "coverage": document["coverage"],
        "samples": document["samples"],
        "ledger": document.get("ledger", {}),
    }
    rows = [first, *document.get("other_streams", [])] if document["source"]["video"] is not None else []
    return Timeline(
        source=document["source"],
        status=document["status"],
        verdict=document["verdict"],
        notes=tuple(document.get("notes", ())),
        coverage=coverage,
        segments=tuple(segment_from_json(row) for row in document["segments"]),
        streams=tuple(_stream(row) for row in rows),
        provenance=document["provenance"],
        tracks=tuple(document["tracks"]),
        review=document.get("review"),
    )


def _coverage(rows: Iterable[Json]) -> tuple[Covered, ...]:
    return tuple(Covered(row["start_seconds"], row["end_seconds"], cast("State", row["state"])) for row in rows)


def _stream(row: Json) -> StreamScan:
    return StreamScan(
        stream=row["stream"],
        kind=row["kind"],
        video=row["video"],
        coverage=_coverage(row["coverage"]),
        samples=tuple(_sample(sample) for sample in row["samples"]),
        ledger=row["ledger"],
    )


def _sample(row: Json) -> Sample:
    predictions = Predictions(
        scores=tuple(Scores(model, labels) for model, labels in row["scores"].items()),
        detections=tuple(
            Detection(item.get("model", ""), item["label"], item["score"], cast("Box", tuple(item["box"])))
            for item in row["detections"]
        ),
    )
    return Sample(row["pts"], row["time_seconds"], row.get("duration_seconds", 0.0), predictions)


_SEGMENT_FIELDS = frozenset(item.name for item in dataclasses.fields(Segment))


def segment_from_json(row: Json) -> Segment:
    """A segment of a document."""
    known = {key: value for key, value in row.items() if key in _SEGMENT_FIELDS}
    return Segment(**{"action": "cover", **known})


def segment_json(segment: Segment) -> Json:
    """As a document has it."""
    return {key: value for key, value in dataclasses.asdict(segment).items() if value is not None}


def _stream_json(stream: StreamScan) -> Json:
    return {
        "stream": stream.stream,
        "kind": stream.kind,
        "video": stream.video,
        "coverage": [dataclasses.asdict(span) for span in stream.coverage],
        "samples": [],
        "ledger": stream.ledger,
    }


def _sample_json(sample: Sample) -> Json:
    return {
        "pts": sample.pts,
        "time_seconds": sample.time_seconds,
        "duration_seconds": sample.duration_seconds,
        "scores": {scores.model: dict(scores.labels) for scores in sample.predictions.scores},
        "detections": [
            {"model": item.model, "label": item.label, "score": item.score, "box": list(item.box)}
            for item in sample.predictions.detections
        ],
    }


def _lines(samples: Iterable[Sample], indent: int) -> str:
    """Samples one to a line, then the closing bracket's indentation."""
    margin = "\n" + " " * indent
    rows = ",".join(margin + json.dumps(_sample_json(sample), ensure_ascii=False) for sample in samples)
    return rows + ("\n" + " " * (indent - 2) if rows else "")


def _stream_text(stream: StreamScan) -> str:
    text = _indented(_stream_json(stream), 2)
    return text.replace('"samples": []', f'"samples": [{_lines(stream.samples, 6)}]', 1)


def _indented(value: object, indent: int) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n" + " " * indent)
