"""The reviewer's page as markup: what it says, what it leaves out, and that no text of strangers breaks out of it."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from tests.timelines import VIDEO, sample, stream, timeline
from vidmod import judge
from vidmod.coverage import Covered
from vidmod.errors import PolicyError
from vidmod.pages import words
from vidmod.pages.page import report_html
from vidmod.pages.shots import Shot
from vidmod.policy import Category, Policy
from vidmod.predictions import Detection, Predictions
from vidmod.reviewing import reviewed
from vidmod.timeline import Sample, Segment, Timeline

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BREAST = ("FEMALE_BREAST_EXPOSED", 0.9)
VOID = {"meta", "input", "img", "br", "link", "hr"}
HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); '\u2028alert(1)\u2029",
    "{{ 7 * 7 }}{% raw %}<!--",
    "\u202egpj.exe\u2066 <b>&amp;",
    "javascript:alert(1)",
    "a\x00b\x1b[31m",
    "__proto__",
    "constructor",
)


class Markup(HTMLParser):
    """Every element with its attributes, the text, and what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def shot(pts: int, *, is_clear: bool = False) -> Shot:
    return Shot(pts, pts / 1000, b"\x89PNG not really", "image/png", 32, 18, is_clear)


def page(given: Timeline, **more: object) -> str:
    return report_html(given, **{"shots": {}, "video": None, "now": AT, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scanned() -> Timeline:
    rows = [sample(t / 2, 0.99 if t >= 20 else 0.01, *([BREAST] if 4 <= t < 10 else []), shown=0.5) for t in range(40)]
    return judge(timeline(stream(rows)))


def with_source(given: Timeline, **fields: object) -> Timeline:
    return dataclasses.replace(given, source={**given.source, **fields})


def unscannable(given: Timeline) -> Timeline:
    bare = with_source(given, video=None, audio=[], format=None)
    return dataclasses.replace(
        bare, status="unscannable", verdict="review", segments=(), streams=(), coverage=(), notes=("Nothing opens it.",)
    )


def test_it_says_what_was_found_and_how_much_was_looked_at(scanned: Timeline) -> None:
    markup = Markup(page(scanned))
    assert markup.open == []
    assert "Block" in markup.text
    assert "2 segments: 2 to block." in markup.text
    assert "All 20.0 s looked at, no picture left out." in markup.text
    assert [row["data-segment"] for row in markup.all("article")] == ["s1", "s2"]
    for segment in scanned.segments:
        assert words.clock(segment.start_seconds) in markup.text
    assert scanned.source["sha256"] in markup.text


def test_gaps_are_told_and_hatched(scanned: Timeline) -> None:
    coverage = (Covered(0, 8, "analysed"), Covered(8, 10.5, "unsampled"), Covered(10.5, 19, "analysed"))
    partial = dataclasses.replace(
        scanned,
        status="partial",
        coverage=(*coverage, Covered(19, 20, "undecodable")),
        notes=("Two packets are damaged.",),
        streams=(dataclasses.replace(scanned.streams[0], coverage=(*coverage, Covered(19, 20, "undecodable"))),),
    )
    markup = Markup(page(partial))
    assert "16.5 of 20.0 s looked at, 2.5 s not looked at, 1.0 s could not be decoded" in markup.text
    for text in ("0:08.000 to 0:10.500 (2.5 s) was not looked at", "0:19.000 to 0:20.000", "Two packets are damaged."):
        assert text in markup.text
    kinds = [row.get("class", "") for row in markup.all("rect")]
    assert kinds.count("gap unsampled") == kinds.count("gap undecodable") == 2  # once in each lane


def test_the_longest_gap_is_what_nobody_saw() -> None:
    rows = [sample(t, 0.1, shown=0.04) for t in (0.0, 0.5, 1.7, 9.0)]
    covered = (Covered(0, 1.74, "analysed"), Covered(1.74, 9, "unsampled"), Covered(9, 10, "analysed"))
    assert words.longest_gap(rows, covered) == pytest.approx(1.16)
    assert words.longest_gap(rows[:1], covered) is None
    assert words.coverage_words("complete", (Covered(0, 1.74, "analysed"),), rows[:3]) == (
        "all 1.7 s looked at, longest gap 1.2 s"
    )


def test_uncertainty_has_its_place(scanned: Timeline) -> None:
    lone = dataclasses.replace(scanned.segments[0], verdict="review", peak=0.9)
    audits = [{"pictures": 60, "hits": 0, "unseen_seconds": 250.0, "upper_bound": 0.0487, "confidence": 0.95}]
    sampling = {"mode": "adaptive", "max_gap_seconds": 2.0, "audits": audits}
    found = dataclasses.replace(
        scanned, segments=(lone, scanned.segments[1]), provenance={**scanned.provenance, "sampling": sampling}
    )
    text = Markup(page(found, shots={"s1": [shot(2000, is_clear=True)]}, warnings=["The hash is another."])).text
    assert "Lone peaks (s1)" in text
    assert "at most 4.9% may show something (95% sure, by 60 pictures at random, 0 hits)" in text
    assert "The pictures on this page are clear" in text
    assert "Warning: The hash is another." in text
    calm = Markup(page(scanned, shots={"s1": [shot(2000)]})).text
    assert "Lone peaks" not in calm
    assert "are clear" not in calm


def test_pictures_have_boxes_in_pixels_of_the_displayed_video(scanned: Timeline) -> None:
    turned = {**VIDEO, "rotation": -90}
    streams = (dataclasses.replace(scanned.streams[0], video=turned),)
    found = dataclasses.replace(with_source(scanned, video=turned), streams=streams)
    markup = Markup(page(found, shots={"s1": [shot(2000)]}))
    (image,) = markup.all("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == b"\x89PNG not really"
    assert (image["loading"], image["width"], image["height"]) == ("lazy", "32", "18")
    (boxes,) = [row for row in markup.all("svg") if row.get("class") == "boxes"]
    assert boxes["viewbox"] == "0 0 360 640"
    (box,) = [row for row in markup.all("rect") if row.get("class") == "box"]
    assert [box[name] for name in ("x", "y", "width", "height")] == ["1.0", "2.0", "29.0", "38.5"]


def test_the_whole_timeline_is_in_it(scanned: Timeline) -> None:
    text = page(scanned)
    (payload,) = re.findall(r'<script type="text/plain" id="document">([^<]*)</script>', text)
    document = gzip.decompress(base64.b64decode(payload))
    assert Timeline.from_document(json.loads(document)) == scanned
    assert hashlib.sha256(document).hexdigest() in text


def test_nothing_but_its_own_script_style_and_video_is_allowed(scanned: Timeline) -> None:
    for public in (False, True):
        text = page(scanned, public=public)
        (policy,) = [row["content"] for row in Markup(text).all("meta") if "http-equiv" in row]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert ("script-src" in rules) != public
        assert "media-src" not in rules
        blocks = {"script-src": re.findall(r"<script>(.*?)</script>", text, re.S)}
        blocks["style-src"] = re.findall(r"<style>(.*?)</style>", text, re.S)
        for name, (block,) in ((name, rows) for name, rows in blocks.items() if rows):
            digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
            assert rules[name] == f"'sha256-{digest}'"
        assert not [row for _, row in Markup(text).elements if "style" in row]
    (policy,) = [row["content"] for row in Markup(page(scanned, video="film.mp4")).all("meta") if "http-equiv" in row]
    assert "media-src 'self' file:" in policy


def hostile(given: Timeline, text: str) -> Timeline:
    """Wherever a document has room for text, that text."""
    segment = Segment(text, text, "block", text, 1.0, 3.0, 0.9, 0.5, {text: 0.9}, stream=None)
    other = dataclasses.replace(segment, id=f"{text}2", stream=7, kind="cover")
    found = Sample(2000, 2.0, 0.5, Predictions(detections=(Detection(text, text, 0.9, (1.0, 2.0, 3.0, 4.0)),)))
    first = dataclasses.replace(given.streams[0], samples=(found,))
    # What a policy calls its categories is checked by its schema.
    policy = Policy(text, (Category("kind", (text,), 0.2, 0.8),))
    model = dict.fromkeys(("name", "version", "sha256", "licence", "runtime", "precision", "device"), text)
    return dataclasses.replace(
        given,
        source={**given.source, "name": text, "format": text},
        notes=(text,),
        segments=(segment, other),
        streams=(first, dataclasses.replace(first, stream=7, kind="cover")),
        tracks=({"id": text, "label": text, "start_seconds": 1.0, "end_seconds": 2.0, "boxes": []},),
        provenance={
            "vidmod": text,
            "created": text,
            "models": [model],
            "sampling": {"mode": text, text: text, "audits": [{"pictures": text}]},
            "smoothing": {text: text},
            "policy": policy.as_document(),
        },
        review={
            "reviewer": text,
            "reviewed": text,
            "note": text,
            "tool": text,
            "decisions": [{"segment": text, "decision": "accepted", "note": text}],
            "machine": {"verdict": "block", "segments": [], "tracks": []},
        },
    )


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("public", [False, True])
def test_a_strangers_text_stays_text(scanned: Timeline, text: str, public: bool) -> None:
    pictures: Mapping[str, Sequence[Shot]] = {text: [shot(2000)]}
    made = page(hostile(scanned, text), shots=pictures, video=None, warnings=[text], public=public)
    made.encode("utf-8")
    calm = page(hostile(scanned, "calm"), shots={"calm": [shot(2000)]}, warnings=["calm"], public=public)
    shape = [(tag, sorted(row)) for tag, row in Markup(made).elements]
    assert shape == [(tag, sorted(row)) for tag, row in Markup(calm).elements]
    assert not [name for _, row in Markup(made).elements for name in row if name.startswith("on")]
    for _, row in Markup(made).elements:
        for name, value in row.items():
            if name not in ("data-segment", "content"):
                assert not re.search("[\u202a-\u202e\u2066-\u2069]", value), name


def test_text_that_is_not_unicode_can_be_written_all_the_same(scanned: Timeline) -> None:
    found = with_source(scanned, name="half \ud83d of a pair")
    for public in (False, True):
        page(found, public=public).encode("utf-8")
    with pytest.raises(PolicyError, match="holds half a surrogate pair"):
        Policy.from_document({**Policy.default().as_document(), "lone_peaks": "half \ud83d"}, "policy")


def test_text_that_could_turn_around_is_isolated(scanned: Timeline) -> None:
    text = page(hostile(scanned, "\u202eabc"))
    body = re.sub(r"<(script|style|title)[^>]*>.*?</\1>", "", text, flags=re.S)
    shown = re.findall(r"(<\w+)[^<>]*>[^<]*\u202eabc", body)
    assert shown
    assert set(shown) == {"<bdi"}


def test_public_tells_reasons_and_times_and_not_how(scanned: Timeline) -> None:
    model = {**dict.fromkeys(("version", "licence", "runtime", "precision", "device"), "?"), "name": "weapons3"}
    own = dataclasses.replace(scanned.segments[0], category="weapons3_LONG_KNIFE", labels={"LONG_KNIFE": 0.71})
    found = dataclasses.replace(
        scanned,
        segments=(*scanned.segments, dataclasses.replace(own, id="s3")),
        provenance={**scanned.provenance, "models": [{**model, "sha256": "f" * 64}]},
    )
    text = page(found, public=True, shots={"s1": [shot(2000)]}, video="film.mp4")
    markup = Markup(text)
    for said in ("Sexual content", "Nudity: a bare breast", "Long knife", "0:02.0", "Not to be shown as it is"):
        assert said in markup.text, said
    for hidden in ("FEMALE_BREAST", "open_nsfw", "weapons3", "0.9", "0.71", "f" * 64, "hmm", "threshold", "nsfw"):
        assert hidden not in re.sub(r"<style>.*?</style>", "", text, flags=re.S), hidden
    assert not [tag for tag, _ in markup.elements if tag in ("script", "video", "img", "button", "input")]


def test_public_of_a_reviewed_timeline_shows_what_is_left_and_no_name(scanned: Timeline) -> None:
    after = reviewed(scanned, scanned.segments[1:], reviewer="Ada", at=AT, tool="a test", note="secret")
    markup = Markup(page(after, public=True))
    assert "a program, and then a person" in markup.text
    assert "Sexual content" in markup.text
    assert "Nudity" not in markup.text
    assert "Ada" not in markup.text
    assert "secret" not in markup.text


def test_a_reviewed_timeline_shows_who_decided_what(scanned: Timeline) -> None:
    kept = dataclasses.replace(scanned.segments[1], end_seconds=15.0)
    added = Segment("r1", "nsfw", "block", "cover", 6.0, 7.0, 1.0, 1.0, {})
    after = reviewed(scanned, [kept, added], reviewer="Ada", at=AT, tool="a test", notes={"s1": "marble"})
    markup = Markup(page(after))
    assert [row["data-segment"] for row in markup.all("article")] == ["s1", "r1", "s2"]
    for said in ("Reviewed by Ada on 2026-11-21 12:00 UTC, with a test", "Rejected", "Added", "Changed", "marble"):
        assert said in markup.text, said


def test_what_cannot_be_told_apart_is_not_decided(scanned: Timeline) -> None:
    twice = dataclasses.replace(scanned, segments=(scanned.segments[0], scanned.segments[0]))
    text = page(twice)
    assert "Two segments have the same id" in Markup(text).text
    assert '"decides": false' in text


@pytest.mark.parametrize("public", [False, True])
def test_odd_timelines_have_a_page(scanned: Timeline, public: bool) -> None:
    nothing = dataclasses.replace(scanned, segments=(), verdict="pass")
    lost = unscannable(scanned)
    claimed = dataclasses.replace(lost, coverage=(Covered(0, 5, "undecodable"),))
    unread = dataclasses.replace(scanned, provenance={**scanned.provenance, "policy": {}})
    still = with_source(scanned, video={**VIDEO, "average_rate": None, "pixel_format": None})
    early = dataclasses.replace(scanned, coverage=(Covered(-3, 20, "analysed"),))
    for given in (nothing, lost, claimed, unread, still, early):
        markup = Markup(page(given, public=public))
        assert markup.open == []
    assert "Nothing was found" in Markup(page(nothing, public=public)).text
    assert "Nothing opens it." in Markup(page(lost)).text
    assert "policy cannot be read" in Markup(page(unread)).text


def test_a_long_film_makes_a_small_page_that_loses_no_peak() -> None:
    rows = [sample(t / 2, 0.01, shown=0.04) for t in range(14_400)]
    rows[7_001] = sample(3500.5, 0.97, shown=0.04)
    found = judge(timeline(stream(rows)))
    text = page(found)
    assert len(text) < 1_000_000
    (line,) = [row["d"] for row in Markup(text).all("path") if row.get("class") == "line"][:1]
    assert line.count(" ") <= 1_001
    heights = [float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", line)]
    assert min(heights) == pytest.approx(3.0)
    assert "0.97" in Markup(text).text


def test_everyday_words_cover_every_label_that_ships() -> None:
    from vidmod.models import Manifest, shipped

    labels = {label for path in shipped().values() for label in Manifest.read(path).output.report}
    assert labels <= set(words.EVERYDAY)
    assert {row.name for row in Policy.default().categories} <= set(words.EVERYDAY)
    assert words.everyday("mine_TALL_HAT", ["mine"]) == "tall hat"
