"""Amazon Rekognition: the answer of GetContentModeration, aggregated by SEGMENTS; see `aws_rekognition`."""

from __future__ import annotations

from vidmod.exports import answers
from vidmod.exports.aws_rekognition import answer
from vidmod.timeline import Timeline


def write(timeline: Timeline) -> bytes:
    """The answer; times in milliseconds from the start of the video."""
    return answers.document(answer(timeline, "SEGMENTS"))
