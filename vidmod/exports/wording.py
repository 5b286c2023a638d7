"""Words for other tools: a timeline's terms for people, and strangers' text made harmless.

A category, a label, an id or a file's name can hold anything. :func:`legible` leaves one line of it that can be read,
with nothing in it that moves a cursor, turns the direction of writing, or ends a string in another program. What else
a format has a meaning for is escaped by the module of that format.
"""

from __future__ import annotations

import unicodedata

from vidmod.coverage import State
from vidmod.policy import Verdict
from vidmod.timeline import Segment

MAX_CHARACTERS = 200
VERDICT_WORDS: dict[Verdict, str] = {"pass": "Pass", "review": "Review", "block": "Block"}
STATE_WORDS: dict[State, str] = {
    "analysed": "Looked at",
    "unsampled": "Not looked at",
    "undecodable": "Could not be decoded",
}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# What joins letters of some scripts, and parts of emoji.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
# Controls, formatting (directions of writing among it), halves of surrogate pairs, and what is no character.
_UNSAFE = ("Cc", "Cf", "Cs", "Cn")
_MAX_LABELS = 4


def legible(text: str, limit: int = MAX_CHARACTERS) -> str:
    r"""One line of readable text, in `limit` characters at most.

    >>> legible("Hello\r\n\r\n\tthere")
    'Hello there'
    """
    # Not all of a long text is looked at: of a run of spaces only one is kept.
    line = " ".join("".join(map(_harmless, text[: 4 * limit])).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 1]}…"


def stream_name(number: int | None, kind: str | None) -> str:
    """What a stream is called, if it is not the first."""
    return f"Stream {number}" + (f" ({kind})" if kind not in (None, "video") else "")


def title(segment: Segment) -> str:
    """A segment in a few words: `Block: explicit`, and the stream if it is not the first."""
    where = "" if segment.stream is None else f", {stream_name(segment.stream, segment.kind).lower()}"
    return f"{VERDICT_WORDS[segment.verdict]}: {legible(segment.category, 60) or 'unnamed'}{where}"


def summary(segment: Segment) -> str:
    """A segment in a line: its title, its peak, and its foremost labels."""
    return f"{title(segment)}, peak {segment.peak:.2f}" + (f" [{labels(segment)}]" if segment.labels else "")


def labels(segment: Segment) -> str:
    """A segment's foremost labels and their peaks."""
    rows = sorted(segment.labels.items(), key=lambda item: -item[1])
    text = ", ".join(f"{legible(name, 60)} {score:.2f}" for name, score in rows[:_MAX_LABELS])
    return text + (f", and {len(rows) - _MAX_LABELS} more" if len(rows) > _MAX_LABELS else "")


def _harmless(character: str) -> str:
    if character.isprintable():
        return character
    # Line ends and odd spaces are spaces.
    if character.isspace():
        return " "
    return _REPLACEMENT if unicodedata.category(character) in _UNSAFE and character not in _JOINERS else character
