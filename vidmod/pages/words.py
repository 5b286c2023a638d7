"""What pages say in words: times, coverage, and everyday names for what models call it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np

from vidmod.coverage import Covered, seconds_of
from vidmod.timebase import format_time
from vidmod.timeline import Sample, Status

# What somebody calls it who has never heard of a model: labels of the models that ship with vidmod, and the default
# policy's categories with those that its comments suggest.
EVERYDAY = {
    "nsfw": "sexual content",
    "explicit": "nudity",
    "suggestive": "suggestive content",
    "faces": "faces",
    "FEMALE_BREAST_EXPOSED": "a bare breast",
    "FEMALE_BREAST_COVERED": "a covered breast",
    "FEMALE_GENITALIA_EXPOSED": "bare genitals",
    "FEMALE_GENITALIA_COVERED": "covered genitals",
    "MALE_GENITALIA_EXPOSED": "bare genitals",
    "MALE_BREAST_EXPOSED": "a bare chest",
    "BUTTOCKS_EXPOSED": "bare buttocks",
    "BUTTOCKS_COVERED": "covered buttocks",
    "ANUS_EXPOSED": "a bare anus",
    "ANUS_COVERED": "a covered anus",
    "BELLY_EXPOSED": "a bare belly",
    "BELLY_COVERED": "a covered belly",
    "ARMPITS_EXPOSED": "bare armpits",
    "ARMPITS_COVERED": "covered armpits",
    "FEET_EXPOSED": "bare feet",
    "FEET_COVERED": "covered feet",
    "FACE_FEMALE": "a face",
    "FACE_MALE": "a face",
}
_STATES = {"unsampled": "not looked at", "undecodable": "could not be decoded"}
# Seconds that were rounded to the microsecond.
_ROUNDING_SECONDS = 2e-6


def everyday(name: str, models: Iterable[str] = ()) -> str:
    """A label or category in everyday words; the name itself, made readable, if there are none.

    Args:
        models: Names that are left out where a category begins with one, as those do that a manifest brings along.
    """
    if name in EVERYDAY:
        return EVERYDAY[name]
    for model in models:
        name = name.removeprefix(f"{model}_")
    return EVERYDAY.get(name, name.replace("_", " ").lower())


def plain(text: str) -> str:
    """Text that cannot change the order or the look of what stands beside it: for attributes and titles.

    Where there are elements, `<bdi>` does the same and loses nothing.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_odd(letter) else letter for letter in text)


def _is_odd(letter: str) -> bool:
    """Whether it is a control character, half of a surrogate pair, or changes the direction of text."""
    joins = letter in "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{SOFT HYPHEN}"
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and not joins


def seconds_words(seconds: float) -> str:
    """Such as `294.8 s`, and `0.04 s` where tenths say too little."""
    return f"{seconds:.1f} s" if seconds >= 1 or seconds == 0 else f"{seconds:.2g} s"


def clock(seconds: float) -> str:
    """Such as `1:02:05.123`."""
    return format_time(seconds)


def coverage_words(status: Status, coverage: Sequence[Covered], samples: Sequence[Sample]) -> str:
    """How much was looked at and how closely, such as `all 294.8 s looked at, longest gap 0.5 s`."""
    whole = coverage[-1].end_seconds - coverage[0].start_seconds if coverage else 0.0
    analysed = seconds_of(coverage, "analysed")
    if not samples:
        return f"none of {seconds_words(whole)} looked at" if whole else "nothing was looked at"
    is_all = status != "unscannable" and abs(whole - analysed) < 1e-3
    parts = [
        f"all {seconds_words(whole)} looked at" if is_all else f"{analysed:.1f} of {seconds_words(whole)} looked at"
    ]
    parts += [
        f"{seconds_words(seconds)} {words}"
        for state, words in _STATES.items()
        if (seconds := seconds_of(coverage, "unsampled" if state == "unsampled" else "undecodable"))
    ]
    gap = longest_gap(samples, coverage)
    if gap is not None:
        parts.append(f"longest gap {gap:.1f} s" if gap >= 0.05 else "no picture left out")
    return ", ".join(parts)


def longest_gap(samples: Sequence[Sample], coverage: Sequence[Covered]) -> float | None:
    """The longest time unseen between two pictures that were looked at, where all of it is accounted for as analysed.

    None with fewer than two pictures.
    """
    if len(samples) < 2:
        return None
    ends = np.array([sample.end_seconds for sample in samples[:-1]])
    starts = np.array([sample.time_seconds for sample in samples[1:]])
    gaps = np.maximum(starts - ends, 0.0)
    for span in coverage:
        if span.state != "analysed":
            is_between = (ends < span.end_seconds - _ROUNDING_SECONDS) & (
                starts > span.start_seconds + _ROUNDING_SECONDS
            )
            gaps = np.where(is_between, 0.0, gaps)
    return float(gaps.max())


def gap_lines(coverage: Sequence[Covered], most: int = 8) -> list[str]:
    """A line for every stretch that was not looked at or could not be."""
    rows = [row for row in coverage if row.state != "analysed"]
    lines = [
        f"{clock(row.start_seconds)} to {clock(row.end_seconds)} "
        f"({seconds_words(row.end_seconds - row.start_seconds)}) {'was ' if row.state == 'unsampled' else ''}"
        f"{_STATES[row.state]}"
        for row in rows[:most]
    ]
    left = rows[most:]
    if left:
        seconds = sum(row.end_seconds - row.start_seconds for row in left)
        lines.append(f"and {count(len(left), 'more such stretch', 'more such stretches')} of {seconds_words(seconds)}")
    return lines


def count(number: int, one: str, many: str | None = None) -> str:
    """Such as `1 segment`, `2 segments`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """Such as `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def moment(text: str) -> str:
    """A date and time of ISO 8601 to the minute, such as `2026-11-21 12:00 UTC`; any other text as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").rstrip()
    except ValueError:
        return text


def short_clock(seconds: float) -> str:
    """A time to the tenth of a second, such as `1:02:05.1`."""
    return format_time(round(seconds, 1))[:-2]


def container_words(name: str, demuxer: str | None) -> str:
    """What kind of file it is: FFmpeg's demuxers are called by all that they open, such as `mov,mp4,m4a`."""
    if demuxer is None:
        return "unknown format"
    known = demuxer.split(",")
    suffix = name.rpartition(".")[2].lower()
    return suffix if suffix in known else known[0]


def bytes_words(size: int) -> str:
    """Such as `169.3 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return count(size, "byte")


def ticks(start: float, end: float, most: int = 8) -> list[float]:
    """Round times between two others, for an axis."""
    length = max(end - start, 1e-6)
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    step = next((step for step in steps if length / step <= most), length / most)
    first = int(np.ceil(start / step - 1e-9))
    last = int(np.floor(end / step + 1e-9))
    return [round(number * step, 6) for number in range(first, last + 1)]


def tick_words(seconds: float, ticks_shown: Sequence[float]) -> str:
    """A time on an axis: without the parts of a second where no tick has any."""
    text = clock(seconds)
    steps = [after - before for before, after in pairwise(ticks_shown)]
    return text if any(step < 1 for step in steps) else text.partition(".")[0]
