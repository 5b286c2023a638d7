"""Files that come back damaged, from another video, or from somebody who means harm."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.annotated import LABELS, InCvat, InLabelStudio, brought_back, film
from tests.yardstick import yards
from vidmod import imports
from vidmod.errors import TimelineError, UsageError
from vidmod.exports import export
from vidmod.imports import guess, import_review, read_file
from vidmod.reviewing import decisions
from vidmod.timeline import Json, Timeline

CVAT, LABEL_STUDIO = export(film(), "cvat"), export(film(), "labelstudio")
SHA = "0" * 64
OTHER = "f" * 64


def refused(data: bytes, match: str, error: type[UsageError] = TimelineError, **more: Any) -> None:
    with pytest.raises(error, match=match) as caught:
        import_review(data, film(), origin="back.file", **more)
    assert str(caught.value).startswith("back.file: ")


def in_cvat(old: str, new: str, count: int = 1) -> bytes:
    assert old.encode() in CVAT
    return CVAT.replace(old.encode(), new.encode(), count)


def in_label_studio(change: Callable[[Json], None]) -> bytes:
    """Our own task, changed."""
    (task,) = json.loads(LABEL_STUDIO)
    change(task)
    return json.dumps([task]).encode()


def annotated(change: Callable[[Json], None]) -> bytes:
    """An export of Label Studio, changed."""
    (task,) = json.loads(InLabelStudio(LABEL_STUDIO).save())
    change(task)
    return json.dumps([task]).encode()


def result(task: Json, kind: str) -> Json:
    rows = task["predictions"][0]["result"] if "annotations" not in task else task["annotations"][0]["result"]
    return cast("Json", next(row for row in rows if row["type"] == kind))


class TestWhichFile:
    def test_it_is_guessed(self) -> None:
        assert guess(CVAT) == guess(b"\xef\xbb\xbf  <annotations/>") == guess("<a/>".encode("utf-16")) == "cvat"
        assert guess(LABEL_STUDIO) == guess(b'\n{"data": 1}') == "labelstudio"
        with pytest.raises(UsageError, match="neither XML nor JSON"):
            guess(b"frame,x,y\n", "a.csv")

    def test_a_format_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match=r"Invalid format \('coco'\)\. Choose one of cvat, labelstudio\."):
            import_review(CVAT, film(), source="coco")

    def test_the_other_format(self) -> None:
        refused(CVAT, "is not whole JSON", source="labelstudio")
        refused(LABEL_STUDIO, "is not whole XML", source="cvat")

    def test_it_is_read_no_further_than_its_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError, match="there is no such file"):
            read_file(tmp_path / "none.xml")
        with pytest.raises(UsageError, match="cannot be read"):
            read_file(tmp_path)
        (tmp_path / "big.xml").write_bytes(bytes(1 << 20 | 1))
        monkeypatch.setattr(imports, "MAX_BYTES", 1 << 20)
        with pytest.raises(UsageError, match="is larger than 1 MiB"):
            read_file(tmp_path / "big.xml")


@pytest.mark.parametrize("data", [CVAT, LABEL_STUDIO], ids=["cvat", "labelstudio"])
class TestWhose:
    def test_another_video(self, data: bytes) -> None:
        other = data.replace(SHA.encode(), OTHER.encode())
        refused(other, f"belongs to the video with the SHA-256 '{OTHER}'; the timeline is of {SHA}", UsageError)
        assert len(import_review(other, film(), force=True).segments) == 3

    def test_another_timeline_of_the_video(self, data: bytes) -> None:
        first, *rest = film().segments
        rejudged = dataclasses.replace(film(), segments=(dataclasses.replace(first, end_seconds=8.0), *rest))
        with pytest.raises(UsageError, match="exported from another timeline of this video"):
            import_review(data, rejudged)
        assert decisions(import_review(data, rejudged, force=True))["s1"] == "changed"

    def test_it_does_not_say(self, data: bytes) -> None:
        if data is CVAT:
            nameless = data.replace(b'<track id="0" label="timeline"', b'<track id="0" label="not analysed"')
        else:
            nameless = in_label_studio(lambda task: task["data"].pop("sha256"))
        refused(nameless, "does not say to which video it belongs", UsageError)
        assert len(import_review(nameless, film(), force=True).segments) == 3

    def test_a_hash_is_not_shown_at_any_length(self, data: bytes) -> None:
        long = data.replace(SHA.encode(), b"1" * 9000)
        with pytest.raises(UsageError) as caught:
            import_review(long, film())
        assert len(str(caught.value)) < 500


class TestXml:
    MORE = b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    LAUGHS = b'<!DOCTYPE annotations [<!ENTITY a "lol">%s]><annotations>&j;</annotations>' % MORE
    OUTSIDE = b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>"""
    REMOTE = b"""<!DOCTYPE annotations SYSTEM "http://127.0.0.1:9/x.dtd"><annotations/>"""
    PARAMETER = b"""<!DOCTYPE a [<!ENTITY %% p SYSTEM "file:///etc/passwd"> %%p;]><annotations/>"""

    @pytest.mark.parametrize("data", [LAUGHS, OUTSIDE, REMOTE, PARAMETER], ids=["laughs", "file", "url", "parameter"])
    def test_entities_are_refused(self, data: bytes) -> None:
        _, took = yards(lambda: refused(data, "document type"))
        assert took < 2  # measured: 0.03 to 0.3

    @pytest.mark.parametrize(
        ("old", "new", "match"),
        [
            ("</annotations>", "", "is not whole XML"),
            ("<annotations>", "<labels>", "is not whole XML|'labels' is its root"),
            ('frame="95"', 'frame="-1"', r"track\[1\]\.box\[0\]\.frame: '-1' is not one of the film's 0 to 499"),
            ('frame="95"', 'frame="1e30"', r"frame: '1e30' is not one of"),
            ('frame="95"', 'frame="nan"', r"track\[1\]\.box\[0\]\.frame: 'nan' is not a number"),
            ('frame="95"', 'frame="95.5"', r"frame: '95\.5' is not one of"),
            ('frame="95"', "", r"track\[1\]\.box\[0\]\.frame: is missing"),
            ('xbr="640"', 'xbr="inf"', r"track\[1\]\.box\[0\]\.xbr: 'inf' is not a number"),
            ('xbr="640"', 'xbr="-1"', r"track\[1\]\.box\[0\]: its right or lower side is before"),
            ('label="segment"', "", r"track\[1\]\.label: is missing"),
            (f'label="{LABELS[1]}"', 'label="car"', r"track\[\d\]\.label: 'car' is none of nsfw, FEMALE_BREAST"),
            ("<attribute name=\"category\">explicit", '<attribute name="category">strange', "'strange' is none of"),
            ('<attribute name="verdict">block', '<attribute name="verdict">pass', "'pass' is neither review nor"),
            ('<attribute name="decision">accepted', '<attribute name="decision">maybe', "decision: 'maybe' is none"),
            ('<attribute name="note" />', f'<attribute name="note">{"x" * 20_000}</attribute>', "note: has more than"),
            ('<attribute name="note" />', f'<attribute name="note">{"x" * 99_000}</attribute>', "more than 65536 char"),
            ("<width>640</width>", "<width>1280</width>", "of a picture of 1280x360; the video's is 640x360 as disp"),
        ],
    )  # fmt: skip
    def test_a_field_that_is_wrong_is_named(self, old: str, new: str, match: str) -> None:
        refused(in_cvat(old, new), match)

    def test_another_kind_of_xml(self) -> None:
        refused(b"<html/>", "'html' is its root, and not 'annotations'")
        refused(b"<annotations><image id='0' name='a.png'/></annotations>", "Export the task as 'CVAT for video 1.1'")
        refused(b"<annotations>" + b"<a>" * 5000, "too deeply")
        refused(b"<?xml version='1.0' encoding='x-none'?><annotations/>", "encoding|is not whole XML")
        refused(
            b"<annotations><track label='ADDED'><skeleton frame='1'/></track></annotations>",
            "Draw a rectangle",
            force=True,
        )

    def test_the_export_of_a_project(self) -> None:
        other = (
            f'<track label="timeline"><box frame="0" xtl="0" ytl="0" xbr="1" ybr="1"><attribute name="sha256">{OTHER}'
        )
        other += "</attribute></box></track></annotations>"
        refused(in_cvat("</annotations>", other), "tracks of several videos", force=True)

    def test_what_is_elsewhere_is_not_read(self) -> None:
        inside = b"<x><track label='car'><box/></track></x><track label='ADDED'></track></annotations>"
        assert len(import_review(CVAT.replace(b"</annotations>", inside), film()).tracks) == 0

    def test_polygons_ellipses_and_turned_boxes_are_the_box_around_them(self) -> None:
        shapes = [
            '<polygon frame="10" outside="0" keyframe="1" points="10,20;30.5,20;20,60"/>',
            '<ellipse frame="10" outside="0" keyframe="1" cx="50" cy="60" rx="10" ry="20"/>',
            '<box frame="10" outside="0" keyframe="1" xtl="100" ytl="100" xbr="140" ybr="120" rotation="90"/>',
        ]
        extra = "".join(f'<track label="ADDED">{row}</track>' for row in shapes)
        after = import_review(in_cvat("</annotations>", f"{extra}</annotations>"), film())
        found = [track["boxes"][0]["box"] for track in after.tracks]
        assert found == [[10, 20, 30.5, 60], [40, 40, 60, 80], [110, 90, 130, 130]]

    def test_a_box_beyond_the_picture_is_cut_off(self) -> None:
        box = '<box frame="10" outside="0" keyframe="1" xtl="-50" ytl="300" xbr="9999" ybr="9999"/>'
        after = import_review(in_cvat("</annotations>", f'<track label="ADDED">{box}</track></annotations>'), film())
        assert after.tracks[0]["boxes"][0]["box"] == [0, 300, 640, 360]
        assert after.tracks[0]["end_seconds"] == 20.0

    def test_the_archive_that_cvat_makes(self) -> None:
        def packed(**files: bytes) -> bytes:
            data = io.BytesIO()
            with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name.replace("_", "."), content)
            return data.getvalue()

        assert len(import_review(packed(annotations_xml=CVAT), film()).segments) == 3
        refused(packed(readme_txt=b""), "has 0 XML files")
        refused(packed(a_xml=CVAT, b_xml=CVAT), "has 2 XML files")
        refused(packed(annotations_xml=CVAT)[:-40], "damaged archive")
        damaged = bytearray(packed(annotations_xml=CVAT))
        damaged[200] ^= 0xFF
        refused(bytes(damaged), "damaged archive")

    @settings(max_examples=300, deadline=None)
    @given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
    def test_an_archive_with_other_bytes(self, places: list[tuple[int, int]]) -> None:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("annotations.xml", CVAT)
        damaged = bytearray(data.getvalue())
        for place, byte in places:  # the directory, at the end, as often as the rest
            damaged[place % len(damaged) if place % 2 else -1 - place // 2 % 100] = byte
        with contextlib.suppress(UsageError):
            assert import_review(bytes(damaged), film(), source="cvat", force=True).segments

    def test_an_archive_that_unpacks_to_more_than_its_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("annotations.xml", bytes(1 << 21))
        from vidmod.imports import cvat

        monkeypatch.setattr(cvat, "MAX_BYTES", 1 << 20)
        refused(data.getvalue(), "is larger than 1 MiB")


class TestJson:
    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"[", "is not whole JSON"),
            (b'[{"data": {}, "predictions": ' + b"[" * 100_000, "is not whole JSON"),
            (b'[{"data": {"x": ' + b"[" * 100_000, "is not whole JSON"),
            (b'[{"data": ' + b"[" * 100_000, r"`\$\[0\]\.data`"),
            (b"[1]", r"Expected `object`, got `int` - at `\$\[0\]`|Expected"),
            (b"[]", "has 0 tasks"),
            (b'{"video": "a.mp4"}', "Export as JSON, not JSON-MIN"),
            (b'[{"id": 1, "video": "a.mp4", "boxes": []}]', "Export as JSON, not JSON-MIN"),
            (b'[{"data": {}, "annotations": 3}]', r"`\$\[0\]\.annotations`"),
            (b'[{"data": {"sha256": 3}}]', r"`\$\[0\]\.data\.sha256`"),
            (b'[{"data": {}}]', r"\[0\] has no annotations and not one prediction"),
            (b'[{"data": {}, "predictions": [{"result": [{}]}]}]', r"\[0\]\.predictions\[0\]: .*`\$\.result\[0\]`"),
            (b'[{"data": {}, "annotations": []}]', "nobody has submitted an annotation"),
            (b"\xff\xfe[", "neither XML nor JSON|is not whole JSON"),
        ],
    )
    def test_another_shape(self, data: bytes, match: str) -> None:
        refused(data, match, UsageError, source="labelstudio")

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda task: result(task, "timelinelabels")["value"]["ranges"][0].update(start=0), r"\[0\].*: 0 to"),
            (lambda task: result(task, "timelinelabels")["value"]["ranges"][0].update(end=5), r"ranges\[0\]: 96 to 5"),
            (lambda task: result(task, "timelinelabels")["value"]["ranges"][0].update(end=10**7), r"from 1 to 500"),
            (lambda task: result(task, "timelinelabels")["value"]["ranges"][0].update(end=None), r"ranges\[0\]\.end"),
            (lambda task: result(task, "timelinelabels")["value"].update(timelinelabels=["a", "b"]), r"has 2 labels"),
            (lambda task: result(task, "timelinelabels")["value"].update(timelinelabels=["odd"]), r"'odd' is none of"),
            (lambda task: result(task, "videorectangle")["value"].update(labels=["car"]), r"label: 'car' is none of"),
            (lambda task: result(task, "videorectangle")["value"]["sequence"][0].update(frame=0), r"ce\[0\]\.frame"),
            (lambda task: result(task, "videorectangle")["value"]["sequence"][1].update(x="a"), r"sequence\[1\]\.x"),
            (lambda task: result(task, "videorectangle")["value"]["sequence"][1].update(x=1e300), r"ce\[1\]\.x: 1e"),
            (lambda task: result(task, "videorectangle")["value"]["sequence"][1].update(width=-1), r"is negative"),
            (lambda task: result(task, "choices")["value"].update(choices=["x"]), r"decision: 'x' is none of"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("where", [in_label_studio, annotated])
    def test_a_field_that_is_wrong_is_named(self, where: Any, change: Callable[[Json], None], match: str) -> None:
        refused(where(change), match)

    def test_not_a_number(self) -> None:
        refused(LABEL_STUDIO.replace(b'"rotation": 0', b'"rotation": NaN', 1), "is not whole JSON")

    def test_the_latest_annotation_that_was_not_cancelled_counts(self) -> None:
        def change(task: Json) -> None:
            (old,) = task["annotations"]
            new = json.loads(json.dumps(old))
            new["result"] = [row for row in new["result"] if row["id"] != "s1"]
            new["updated_at"] = "2026-11-22T12:00:00.000000Z"
            cancelled = {**old, "result": [], "was_cancelled": True, "updated_at": "2026-11-23T12:00:00.000000Z"}
            task["annotations"] = [new, old, cancelled]

        after = import_review(annotated(change), film())
        assert decisions(after) == {"s1": "rejected", "s2": "accepted", "s3": "accepted"}
        assert after.review is not None
        assert (after.review["reviewer"], after.review["reviewed"]) == ("Ada", "2026-11-22T12:00:00+00:00")

    def test_when_and_by_whom_can_be_said(self) -> None:
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        after = import_review(annotated(lambda _: None), film(), reviewer="Bob", at=at)
        assert after.review is not None
        assert (after.review["reviewer"], after.review["reviewed"]) == ("Bob", "2026-01-02T03:04:05+00:00")

    def test_of_several_tasks_the_videos(self) -> None:
        (mine,) = json.loads(LABEL_STUDIO)
        other = {"data": {"sha256": OTHER}, "annotations": []}
        assert len(import_review(json.dumps([other, mine]).encode(), film()).segments) == 3
        refused(
            json.dumps([other, other]).encode(),
            f"has 2 tasks, and none of the video with the SHA-256 {SHA}",
            UsageError,
        )

    def test_one_task_by_itself(self) -> None:
        assert len(import_review(json.dumps(json.loads(LABEL_STUDIO)[0]).encode(), film()).segments) == 3

    def test_all_were_cancelled(self) -> None:
        data = annotated(lambda task: task["annotations"][0].update(was_cancelled=True))
        refused(data, "nobody has submitted", UsageError)

    def test_a_turned_box_is_the_box_around_it(self) -> None:
        hand = InLabelStudio(LABEL_STUDIO)
        hand.add_track("ADDED", {10: (100.0, 100.0, 140.0, 120.0)}, 12)
        hand.results[-1]["value"]["sequence"][0]["rotation"] = 90
        after = brought_back(hand, film())
        assert after.tracks[0]["boxes"][0]["box"] == [80, 100, 100, 140]

    def test_a_box_without_a_label(self) -> None:
        hand = InLabelStudio(LABEL_STUDIO)
        hand.add_track("ADDED", {10: (100.0, 100.0, 140.0, 120.0)}, 12)
        del hand.results[-1]["value"]["labels"]
        assert brought_back(hand, film()).tracks[0]["label"] == "ADDED"

    def test_results_of_other_tags_are_left_alone(self) -> None:
        hand = InLabelStudio(LABEL_STUDIO)
        hand.results.append({"type": "relation", "from_id": "s1", "to_id": "s2", "direction": "right"})
        hand.results.append(
            {"id": "q", "type": "rating", "from_name": "stars", "to_name": "video", "value": {"rating": 3}}
        )
        assert brought_back(hand, film()).segments == film().segments


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_ends_in_an_error_or_a_timeline(data: st.DataObject) -> None:
    """Bytes cut out, doubled or changed: never another error, never a timeline that cannot be written."""
    whole = data.draw(st.sampled_from([CVAT, LABEL_STUDIO, InCvat(CVAT).save(), InLabelStudio(LABEL_STUDIO).save()]))
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start, min(start + 200, len(whole))))
    damaged = (
        whole[:start] + data.draw(st.sampled_from([b"", b"9" * 30, b'"', b"<", b"-", b"\x00", b"null"])) + whole[end:]
    )
    try:
        after = import_review(damaged, film(), source="cvat" if b"<annot" in whole else "labelstudio", force=True)
    except UsageError:
        return
    Timeline.from_document(json.loads("".join(after.dumps())))
