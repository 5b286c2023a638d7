"""A timeline in other tools' formats: one file per format, and this table of them.

A module of a format has a function ``write(timeline) -> bytes``. It imports what it needs when it is itself
imported, and that is when its format is asked for. Text from strangers (names, labels, notes) is escaped by each.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from vidmod.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidmod.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Format:
    """A format that a timeline can be written in.

    Attributes:
        suffix: Of its files.
        says: What it is, for a list of formats.
        is_binary: Not for a terminal.
        tells_unknown: It has a place for what was not looked at. Where it has none, whoever reads it cannot tell an
            unseen stretch from a clean one.
    """

    suffix: str
    says: str
    is_binary: bool = False
    tells_unknown: bool = False


FORMATS: dict[str, Format] = {
    "csv": Format(".csv", "a row per segment and per stretch that was not looked at", tells_unknown=True),
    "webvtt": Format(".vtt", "subtitles for players and web pages that say what was found", tells_unknown=True),
    "ffmetadata": Format(".txt", "chapters, for FFmpeg to put into a file", tells_unknown=True),
    "edl": Format(".edl", "cuts, mutes and scene markers for Kodi and MPlayer", tells_unknown=True),
    "mcf": Format(".mcf", "MovieContentFilter 1.1.0: what a player is to skip"),
    "otio": Format(".otio", "OpenTimelineIO: markers, and gaps for what was not looked at", tells_unknown=True),
    "png": Format(".png", "a plot of scores, thresholds and segments over time", is_binary=True, tells_unknown=True),
    "cvat": Format(".xml", "CVAT for video 1.1: tracks; `vidmod import` reads them", tells_unknown=True),
    "cvat-labels": Format(".json", "the labels for the constructor of a task in CVAT", tells_unknown=True),
    "labelstudio": Format(".json", "a task for Label Studio; `vidmod import` reads it", tells_unknown=True),
    "labelstudio-config": Format(".xml", "the labeling configuration for that task", tells_unknown=True),
    "aws-rekognition": Format(
        ".json", "the answer of Rekognition's GetContentModeration, aggregated by TIMESTAMPS", tells_unknown=True
    ),
    "aws-rekognition-segments": Format(".json", "the same, aggregated by SEGMENTS", tells_unknown=True),
    "google-video-intelligence": Format(
        ".json", "the operation of Video Intelligence's EXPLICIT_CONTENT_DETECTION", tells_unknown=True
    ),
    "azure-video-indexer": Format(".json", "Video Indexer's index, with visualContentModeration", tells_unknown=True),
    "hive": Format(".json", "the answer of Hive's visual moderation, with boxes", tells_unknown=True),
    "sightengine": Format(".json", "the answer of Sightengine's video moderation (nudity-2.1)", tells_unknown=True),
    "dsa": Format(".json", "what a machine knows of an EU statement of reasons (API v2)", tells_unknown=True),
}


def export(timeline: Timeline, to: str) -> bytes:
    """The timeline in another tool's format.

    Args:
        to: A name of :data:`FORMATS`.

    Raises:
        UsageError: There is no such format, or this timeline cannot be put in it.
    """
    if to not in FORMATS:
        raise UsageError(f"Invalid format ({to!r}). Choose one of {', '.join(FORMATS)}.")
    module = importlib.import_module(f"vidmod.exports.{to.replace('-', '_')}")
    write = cast("Callable[[Timeline], bytes]", module.write)
    return write(timeline)
