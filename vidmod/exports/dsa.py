"""EU Digital Services Act: what a machine knows of a statement of reasons (Articles 17 and 24(5)).

A payload of the Transparency Database's API in version 2, of July 2025, for its endpoint `statement`:
https://transparency.dsa.ec.europa.eu/page/api-documentation. It is not ready to be sent, and the database refuses it as
it is: what is null is for a person to decide or for the platform to fill in.

| field | |
|---|---|
| content_type | video; image for a picture |
| category, category_specification | from what was found: nudity and adult material break a platform's terms; that they are illegal, or of minors, only a person can say |
| decision_facts | what was found, when, how sure, by which models, what was not looked at, whether a person decided |
| automated_detection | Yes if a machine found any of it; null if there is nothing |
| automated_decision | PARTIALLY or NOT_AUTOMATED if a person reviewed it; else null: what a platform does next is not known |
| decision_visibility, _monetary, _provision, _account | null: at least one is needed |
| decision_ground | null; with it goes either `illegal_content_legal_ground` and `illegal_content_explanation`, or `incompatible_content_ground` and `incompatible_content_explanation` |
| territorial_scope, content_date, application_date, source_type, puid | null: the platform knows them |

Nothing in it may be personal data, so neither the file's name nor the reviewer's, and no notes.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator

from vidmod.exports import answers
from vidmod.exports.answers import Stretch
from vidmod.reviewing import decisions
from vidmod.timeline import Timeline

_MAX_FACTS_CHARACTERS = 5000
# Names are strangers' text, and the list of what was found comes after everything else.
_MAX_NAMES_CHARACTERS = 500
_MAX_LIST_CHARACTERS = 3500
_CATEGORY = "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
# vidmod's labels, and the categories of the default policy for segments that a person added without a label.
_KEYWORDS = {
    "nsfw": "KEYWORD_ADULT_SEXUAL_MATERIAL",
    "explicit": "KEYWORD_NUDITY",
    "FEMALE_BREAST_EXPOSED": "KEYWORD_NUDITY",
    "FEMALE_GENITALIA_EXPOSED": "KEYWORD_NUDITY",
    "MALE_GENITALIA_EXPOSED": "KEYWORD_NUDITY",
    "BUTTOCKS_EXPOSED": "KEYWORD_NUDITY",
    "ANUS_EXPOSED": "KEYWORD_NUDITY",
}
_IMAGES = ("avif", "gif", "apng", "webp")


def write(timeline: Timeline) -> bytes:
    """The statement."""
    rows = answers.stretches(timeline)
    keywords = sorted({_KEYWORDS[label] for row in rows for label in row.scores if label in _KEYWORDS})
    detection = _detection(timeline)
    return answers.document(
        {
            "decision_visibility": None,
            "decision_monetary": None,
            "decision_provision": None,
            "decision_account": None,
            "decision_ground": None,
            "content_type": [_content_type(timeline)],
            "category": _CATEGORY if keywords else None,
            "category_specification": keywords,
            "territorial_scope": None,
            "content_date": None,
            "application_date": None,
            "decision_facts": _facts(timeline, rows),
            "source_type": None,
            "automated_detection": detection,
            "automated_decision": _decision(timeline, detection),
            "puid": None,
        }
    )


def _content_type(timeline: Timeline) -> str:
    form = timeline.source["format"] or ""
    is_image = form in _IMAGES or (form.endswith("_pipe") and form != "yuv4mpegpipe")
    return "CONTENT_TYPE_IMAGE" if is_image or timeline.source.get("kind") == "cover" else "CONTENT_TYPE_VIDEO"


def _detection(timeline: Timeline) -> str | None:
    if not timeline.segments:
        return None
    decided = decisions(timeline)
    return "No" if all(decided.get(row.id) == "added" for row in timeline.segments) else "Yes"


def _decision(timeline: Timeline, detection: str | None) -> str | None:
    if timeline.review is None or detection is None:
        return None
    return "AUTOMATED_DECISION_PARTIALLY" if detection == "Yes" else "AUTOMATED_DECISION_NOT_AUTOMATED"


def _facts(timeline: Timeline, rows: list[Stretch]) -> str:
    models = ", ".join(f"{row['name']} {row['version']}" for row in timeline.provenance["models"])
    parts = [
        f"{timeline.sample_count} pictures of {answers.clock(answers.length(timeline))} were looked at"
        + (f" with {answers.clipped(models, _MAX_NAMES_CHARACTERS)}." if models else "."),
        "" if answers.is_whole(timeline) else _missing(timeline),
        "" if timeline.review is None else _reviewed(timeline),
        _found(rows) if rows else "Nothing was found.",
    ]
    return answers.clipped(" ".join(filter(None, parts)), _MAX_FACTS_CHARACTERS)


def _found(rows: list[Stretch]) -> str:
    """What was found, as many segments as there is room for."""
    told: list[str] = []
    size = 0
    for text in _sentences(rows):
        size += len(text) + 2
        if size > _MAX_LIST_CHARACTERS:
            break
        told.append(text)
    more = f" and {len(rows) - len(told)} more" if len(told) < len(rows) else ""
    return f"Found: {'; '.join(told)}{more}."


def _sentences(rows: list[Stretch]) -> Iterator[str]:
    for row in rows:
        name, peak = answers.clipped(row.category, _MAX_NAMES_CHARACTERS), max(row.scores.values())
        yield f"{name} from {answers.clock(row.start)} to {answers.clock(row.end)}, probability {peak:.2f}"


def _missing(timeline: Timeline) -> str:
    if timeline.status == "unscannable":
        return "Nothing could be looked at."
    return f"Not everything was looked at: {answers.percent(timeline)} % of the time."


def _reviewed(timeline: Timeline) -> str:
    made = list(decisions(timeline).values())
    counts = ", ".join(f"{made.count(name)} {name}" for name in ("accepted", "changed", "rejected", "added"))
    return f"A person reviewed it: {counts}."
