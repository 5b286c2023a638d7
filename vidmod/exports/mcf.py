"""MovieContentFilter 1.1.0 (https://www.moviecontentfilter.com/specification): what a player is to skip, for whom.

A WebVTT file whose cues say `CATEGORY=SEVERITY=CHANNEL # comment`; each viewer chooses from which severity of a
category on something is filtered. The words are the specification's:

- Category: by the labels that were seen (bare breasts are `toplessness`), else by the name of the policy's category,
  where that is one of the specification's words or means one; else `dispensable`, the only general one that claims
  nothing. The comment says what it is called here.
- Severity: `high` for `block`, `medium` for `review`.
- Channel: `video` for what is covered or reported, `audio` for what is muted, `both` for what is cut.

A file of this format has no cue for what was not looked at: a COMMENT says so, at its beginning, and what a player is
not told to filter need not be harmless. TITLE is the file's name. Times count from the start of the file, see
:mod:`vidmod.exports.clock`; START and END are the film's, titles and credits included.
"""

from __future__ import annotations

from collections.abc import Iterator

from vidmod.exports.clock import elsewhere, found, length, timestamp, unseen
from vidmod.exports.wording import legible
from vidmod.policy import Verdict
from vidmod.timeline import Segment, Timeline

VERSION = "1.1.0"
_SEVERITIES: dict[Verdict, str] = {"review": "medium", "block": "high"}
_CHANNELS = {"cut": "both", "mute": "audio"}
_OTHER = "dispensable"
_TOPICS = {
    "commercial": "advertBreak consumerism productPlacement",
    "discrimination": (
        "adultism antisemitism genderism homophobia misandry misogyny racism sexism supremacism transphobia xenophobia"
    ),
    "dispensable": "idiocy tedious",
    "drugs": "alcohol antipsychotics cigarettes depressants gambling hallucinogens stimulants",
    "fear": (
        "accident acrophobia aliens arachnophobia astraphobia aviophobia chemophobia claustrophobia coulrophobia "
        "cynophobia death dentophobia emetophobia enochlophobia explosion fire gerascophobia ghosts grave hemophobia "
        "hylophobia melissophobia misophonia musophobia mysophobia nosocomephobia nyctophobia siderodromophobia "
        "thalassophobia vampires"
    ),
    "language": "blasphemy nameCalling sexualDialogue swearing vulgarity",
    "nudity": "bareButtocks exposedGenitalia fullNudity toplessness",
    "sex": (
        "adultery analSex coitus kissing masturbation objectification oralSex premaritalSex promiscuity prostitution"
    ),
    "violence": (
        "choking crueltyToAnimals culturalViolence desecration emotionalViolence kicking massacre murder punching rape "
        "slapping slavery stabbing torture warfare weapons"
    ),
}
CATEGORIES = frozenset({*_TOPICS, *(word for words in _TOPICS.values() for word in words.split())})
_BY_LABEL = {
    "FEMALE_BREAST_EXPOSED": "toplessness",
    "FEMALE_GENITALIA_EXPOSED": "exposedGenitalia",
    "MALE_GENITALIA_EXPOSED": "exposedGenitalia",
    "BUTTOCKS_EXPOSED": "bareButtocks",
    "ANUS_EXPOSED": "bareButtocks",
}
# Other names of policies' categories.
_BY_NAME = {
    **{word.lower(): word for word in CATEGORIES},
    **dict.fromkeys(("nsfw", "explicit", "suggestive", "nude"), "nudity"),
    **dict.fromkeys(("porn", "pornography", "sexual", "hentai"), "sex"),
    **dict.fromkeys(("gore", "blood", "violent"), "violence"),
    **dict.fromkeys(("weapon", "gun", "knife"), "weapons"),
    **dict.fromkeys(("hate", "hatesymbols"), "discrimination"),
    **dict.fromkeys(("drug",), "drugs"),
    **dict.fromkeys(("smoking", "tobacco"), "cigarettes"),
    **dict.fromkeys(("drinking",), "alcohol"),
    **dict.fromkeys(("advertisement", "ads"), "advertBreak"),
}
_MOST_GAPS = 20
_UNMARKED = str.maketrans("<>&", "()+")


def write(timeline: Timeline) -> bytes:
    """The filter, in UTF-8."""
    head = [f"WEBVTT MovieContentFilter {VERSION}", "", "NOTE"]
    if name := _line(timeline.source["name"]):
        head.append(f"TITLE {name}")
    head += [f"COMMENT {_comment(timeline)}", "", "NOTE", f"START {timestamp(0)}", f"END {timestamp(_end(timeline))}"]
    blocks = ["\n".join(head)]
    for row in found(timeline):
        cues = "\n".join(_contents(row.segment))
        blocks.append(f"{timestamp(row.start)} --> {timestamp(row.end)}\n{cues}")
    return ("\n\n".join(blocks) + "\n").encode()


def categories_of(segment: Segment) -> list[str]:
    """What a segment is in the specification's words, one at least."""
    by_label = dict.fromkeys(_BY_LABEL[label] for label in segment.labels if label in _BY_LABEL)
    if by_label:
        return list(by_label)
    return [_BY_NAME.get("".join(filter(str.isalpha, segment.category)).lower(), _OTHER)]


def _contents(segment: Segment) -> Iterator[str]:
    tail = f"{_SEVERITIES[segment.verdict]}={_CHANNELS.get(segment.action, 'video')}"
    comment = _line(f"{legible(segment.category, 60)} {segment.peak:.2f}")
    for category in categories_of(segment):
        yield f"{category}={tail} # {comment}"


def _end(timeline: Timeline) -> int:
    return max([length(timeline), 1, *(row.end for row in found(timeline))])


def _comment(timeline: Timeline) -> str:
    words = [f"Found by vidmod: {timeline.verdict}, {timeline.status}"]
    gaps = [f"{row.title.lower()} {timestamp(row.start)} to {timestamp(row.end)}" for row in unseen(timeline)]
    if len(gaps) > _MOST_GAPS:
        gaps = [*gaps[:_MOST_GAPS], f"and {len(gaps) - _MOST_GAPS} stretches more"]
    notes = timeline.notes if timeline.status != "complete" else ()
    return "; ".join(map(_line, [*words, *gaps, *elsewhere(timeline), *notes]))


def _line(text: str) -> str:
    """Without what WebVTT takes for markup or an arrow: readers of this format know no way to escape it."""
    return legible(text).translate(_UNMARKED)
