"""The reviewer's page in a real Chromium, by keyboard, up to the video that `vidmod redact` makes of the decisions."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.networks import write_classifier, write_detector
from tests.test_page import HOSTILE, hostile, page
from tests.test_redacting import COUNT, make_film, pictures
from tests.timelines import sample, stream, timeline
from vidmod import judge
from vidmod.coverage import Covered
from vidmod.judging import verdict_of
from vidmod.pages.shots import Shot
from vidmod.policy import Category, Policy
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.reviewing import decisions, dismissed, reviewed
from vidmod.scanning import Scanner, ScanSettings
from vidmod.timeline import Json, Sample, Segment, Timeline

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FACE = ("FACE_FEMALE", 0.8)
POLICY = Policy(
    "tests", (Category("nsfw", ("open_nsfw.nsfw",), 0.2, 0.8), Category("faces", ("FACE_FEMALE",), 0.4, 0.95))
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of the system; none is downloaded."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not on this machine: apt-get install chromium")
    # Chromium's own sandbox refuses root.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()


class Opened:
    """A page from disk, with all that it did and should not have done."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"accept_downloads": True, **options})
        self.context.set_default_timeout(15_000)
        self.page: Page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("dialog", lambda dialog: self._dialog(dialog))
        self.page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self._request(request.url))
        self.path = path
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True) and "<script>" in path.read_text("utf-8"):
            self.page.wait_for_selector("html[data-ready]", timeout=60_000)

    def _dialog(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(f"console: {message.text}")

    def _request(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self.trouble.append(f"request: {url}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def words(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def focused(self) -> str:
        """The segment whose card has the focus."""
        return str(self.page.evaluate("document.activeElement.closest('.card')?.dataset.segment ?? ''"))

    def save(self, reviewer: str = "Ada") -> Timeline:
        """Save by keyboard, and read the file as any other command does."""
        self.press("w")
        if self.page.evaluate("document.activeElement.id") == "reviewer":
            self.page.keyboard.type(reviewer)
            with self.page.expect_download() as download:
                self.press("Control+s")
        else:
            raise AssertionError("it asks for a name only where it has none: give one first")
        path = self.path.with_name(download.value.suggested_filename)
        download.value.save_as(path)
        return Timeline.read(path)


Open = Callable[..., contextlib.AbstractContextManager[Opened]]


@pytest.fixture
def opened(chromium: Browser, tmp_path: Path) -> Open:
    @contextlib.contextmanager
    def run(given: Timeline | str, *, options: Mapping[str, Any] | None = None, **more: Any) -> Iterator[Opened]:
        path = tmp_path / "report.html"
        path.write_text(given if isinstance(given, str) else page(given, **more), "utf-8")
        found = Opened(chromium, path, **(options or {}))
        try:
            yield found
            assert found.trouble == []
        finally:
            found.context.close()

    return run


def picture_of(number: int) -> Shot:
    """A grey picture for a page."""
    data = io.BytesIO()
    Image.fromarray(np.full((18, 32), number % 256, np.uint8)).save(data, "PNG")
    return Shot(number * 500, number / 2, data.getvalue(), "image/png", 32, 18)


@pytest.fixture(scope="module")
def scanned() -> Timeline:
    """A face that goes from left to right, and later what a classifier blocks."""
    rows = []
    for number in range(40):
        row = sample(number / 2, 0.99 if number >= 26 else 0.01, shown=0.5)
        if 4 <= number < 12:
            left = 40.0 * (number - 4)
            face = Detection("nudenet", "FACE_FEMALE", 0.8, (left, 100.0, left + 120, 220.0))
            row = dataclasses.replace(row, predictions=Predictions(row.predictions.scores, (face,)))
        rows.append(row)
    found = judge(timeline(stream(rows)), POLICY)
    assert [row.category for row in found.segments] == ["faces", "nsfw"]
    return found


def as_in_python(saved: Timeline, given: Timeline, segments: Sequence[Segment], **more: Any) -> None:
    """The file is what `reviewed` makes of the same decisions."""
    assert saved.review is not None
    at = datetime.fromisoformat(saved.review["reviewed"])
    assert at.tzinfo is not None
    expected = reviewed(given, segments, reviewer="Ada", at=at, tool=saved.review["tool"], **more)
    assert saved.as_document() == expected.as_document()


def redacted(film: Path, decided: Path, models: Sequence[str]) -> Path:
    """What the command line makes of a film and a saved file."""
    output = film.with_name("safe.mp4")
    command = ["redact", str(film), str(output), "--timeline", str(decided), "--models", ",".join(models)]
    result = subprocess.run([sys.executable, "-m", "vidmod", *command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return output


class TestDeciding:
    def test_with_keys_alone_up_to_the_redacted_video(self, opened: Open, tmp_path: Path) -> None:
        shown = [range(20, 30), range(65, 75), range(115, 125)]
        film = make_film(tmp_path / "film.mp4", [number for row in shown for number in row])  # type: ignore[arg-type]
        models = (str(write_classifier(tmp_path)), str(write_detector(tmp_path)))
        with Scanner(ScanSettings(models=models, sampling="all")) as scanner:
            given = scanner.scan(film)
        _, second, third = given.segments
        with opened(given, video=film.as_uri()) as found:
            found.press("j")
            assert found.focused() == "s1"
            found.press("x", "j", "a", "j", "<", "<", "z", "<")
            assert found.focused() == "s3"
            assert "Rejected" in found.words("[data-segment=s1]")
            assert "Changed" in found.words("[data-segment=s3]")
            saved = found.save()
        changed = dataclasses.replace(third, end_seconds=4.8)
        as_in_python(saved, given, [second, changed])
        assert decisions(saved) == {"s1": "rejected", "s2": "accepted", "s3": "changed"}
        output = redacted(film, tmp_path / "film.mp4.reviewed.timeline.json", models)
        before, after = list(pictures(film).values()), list(pictures(output).values())
        assert len(after) == COUNT
        spots = [picture[25:55, 25:55] for picture in after]
        for number in (*shown[1], *range(115, 120)):
            assert spots[number].max() <= 30, number
        for number in (*shown[0], *range(120, 125)):
            assert spots[number].min() >= 200, number
        # Around a border that is still the scan's, redaction covers some pictures more; one that was moved is exact.
        touched = {*range(65 - 8, 75 + 8), *range(115 - 8, 120)}
        for number in {*range(COUNT)} - touched:
            assert np.abs(before[number].astype(int) - after[number]).max() <= 16, number

    def test_times_by_typing_and_by_frames(self, opened: Open, scanned: Timeline) -> None:
        first, second = scanned.segments
        with opened(scanned) as found:
            found.press("j", "k", "t")
            found.page.keyboard.type("2.125")
            found.press("Tab", "Escape", "j", "]", "]", "[", ".", "}")
            saved = found.save()
        moved = dataclasses.replace(
            second,
            start_seconds=round(second.start_seconds + 0.04 + 0.1, 6),
            end_seconds=round(second.end_seconds + 0.04, 6),
        )
        as_in_python(saved, scanned, [dataclasses.replace(first, start_seconds=2.125), moved])

    def test_an_end_before_the_start_changes_nothing(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned) as found:
            found.press("j", "t")
            found.page.keyboard.type("900")
            found.press("Tab")
            assert "The end must come after the start" in found.words(".problem >> nth=0")
            assert "0 of 2 decided" in found.words("#bar")

    def test_notes_a_segment_of_ones_own_and_a_verdict(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned) as found:
            found.press("j", "k", "x", "n")
            found.page.keyboard.type('marble </script> "quoted"')
            found.press("Escape", "j", "x", "i")
            found.page.keyboard.press("Control+a")
            found.page.keyboard.type("8.5")
            found.press("Tab")
            found.page.keyboard.press("Control+a")
            found.page.keyboard.type("9.25")
            found.page.locator("#new-category").select_option("faces")
            found.page.locator("#new-verdict").select_option("review")
            found.page.locator("#new-start").press("Enter")
            assert found.focused() == "r1"
            assert "The verdict is then review (" in found.words("#summary")
            found.page.locator("#note").fill("All of it is marble.")
            found.press("Tab")
            found.page.locator("#segments").focus()
            saved = found.save()
        own = Segment("r1", "faces", "review", "cover", 8.5, 9.25, 1.0, 1.0, {})
        notes = {"s1": 'marble </script> "quoted"'}
        as_in_python(saved, scanned, [own], notes=notes, note="All of it is marble.")
        assert saved.verdict == "review"

    def test_nothing_decided_is_nothing_changed(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned) as found:
            saved = found.save()
        as_in_python(saved, scanned, scanned.segments, undecided=["s1", "s2"])

    def test_undo_redo_and_what_the_browser_keeps(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned) as found:
            found.press("j", "k", "x", "j", "a", "z")
            assert "1 of 2 decided" in found.words("#bar")
            found.press("Z")
            assert "2 of 2 decided" in found.words("#bar")
            found.press("Control+z", "Control+z", "Control+y")
            assert "1 of 2 decided" in found.words("#bar")
            found.page.reload()
            found.page.wait_for_selector("html[data-ready]")
            assert "1 of 2 decided" in found.words("#bar")
            assert "Rejected" in found.words("[data-segment=s1]")
            saved = found.save()
        as_in_python(saved, scanned, scanned.segments[1:], undecided=["s2"])

    def test_it_goes_on_from_an_earlier_review(self, opened: Open, scanned: Timeline) -> None:
        track = {"id": "b1", "label": "ARM", "start_seconds": 1.0, "end_seconds": 2.0, "boxes": []}
        own = Segment("r1", "nsfw", "block", "cover", 9.0, 9.5, 1.0, 1.0, {})
        changed = dataclasses.replace(scanned.segments[1], end_seconds=15.5)
        once = reviewed(
            scanned,
            [changed, own],
            reviewer="Eve",
            at=AT,
            tool="a",
            tracks=[track],
            dismissed=[track],
            notes={"s1": "no"},
        )
        with opened(once) as found:
            assert "2 of 2 decided" in found.words("#bar")
            found.page.locator("[data-segment=s1]").focus()
            found.press("a")
            saved = found.save()
        more: Json = {"tracks": [track], "dismissed": [track], "notes": {"s1": "no"}}
        as_in_python(saved, once, [scanned.segments[0], changed, own], **more)

    def test_numbers_survive_that_a_browser_cannot_hold(self, opened: Open, scanned: Timeline) -> None:
        rows = list(scanned.streams[0].samples)
        rows[0] = dataclasses.replace(rows[0], pts=-(2**63) + 1)
        far = dataclasses.replace(scanned, streams=(dataclasses.replace(scanned.streams[0], samples=tuple(rows)),))
        with opened(far) as found:
            found.press("j", "x")
            saved = found.save()
        assert saved.samples == far.samples
        assert saved.provenance == far.provenance

    def test_the_verdict_is_the_librarys(self, opened: Open, scanned: Timeline) -> None:
        segment = scanned.segments[0]
        with opened(scanned) as found:
            for status in ("complete", "partial", "unscannable"):
                for verdicts in ([], ["review"], ["block"], ["review", "block", "review"]):
                    rows = [dataclasses.replace(segment, verdict=verdict) for verdict in verdicts]  # type: ignore[arg-type]
                    said = found.page.evaluate(
                        "([rows, status]) => verdictOf(rows, status)", [[{"verdict": v} for v in verdicts], status]
                    )
                    assert said == verdict_of(rows, status)

    @pytest.mark.parametrize("kept", ["{", "null", '{"version": 1, "state": {"segments": {}}}', '{"version": 1}'])
    def test_what_it_did_not_keep_itself_is_left_aside(self, opened: Open, scanned: Timeline, kept: str) -> None:
        with opened(scanned) as found:
            found.press("j", "x")
            found.page.evaluate(
                "(kept) => Object.keys(localStorage).forEach((key) => localStorage.setItem(key, kept))", kept
            )
            found.page.reload()
            found.page.wait_for_selector("html[data-ready]")
            assert "0 of 2 decided" in found.words("#bar")

    def test_a_page_that_may_keep_nothing_says_so(self, chromium: Browser, tmp_path: Path, scanned: Timeline) -> None:
        path = tmp_path / "report.html"
        path.write_text(page(scanned), "utf-8")
        context = chromium.new_context()
        context.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})")
        tab = context.new_page()
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]")
        tab.keyboard.press("j")
        tab.keyboard.press("x")
        assert "save before you close" in tab.locator("#trouble").inner_text()
        assert "1 of 2 decided" in tab.locator("#bar").inner_text()
        context.close()


class TestBoxes:
    def test_one_is_removed_everywhere_in_a_segment(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned) as found:
            found.press("j", "k", "t")
            found.page.get_by_role("button", name="Remove in this segment").press("Enter")
            assert "1 box removed." in found.words("[data-segment=s1]")
            found.page.locator("[data-segment=s1]").focus()
            found.press("a")
            saved = found.save()
        (track,) = dismissed(saved)
        seen = [row for row in scanned.samples if row.predictions.detections]
        # A second beyond the first and the last: redaction looks at the pictures around.
        assert (track["start_seconds"], track["end_seconds"]) == (2.0 - 1, 5.5 + 1)
        assert [row["pts"] for row in track["boxes"]] == [row.pts for row in seen]
        assert [tuple(row["box"]) for row in track["boxes"]] == [row.predictions.detections[0].box for row in seen]
        as_in_python(saved, scanned, scanned.segments, dismissed=[track], undecided=["s2"])

    def test_one_is_removed_from_one_picture_and_put_back(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned, shots={"s1": [picture_of(number) for number in (5, 6)]}) as found:
            found.press("j", "k", "t")
            found.page.get_by_text("In one picture").press("Enter")
            found.page.get_by_role("button", name="Remove at 0:02.500").press("Enter")
            assert found.page.locator("[data-segment=s1] .box.dismissed").count() == 1
            found.page.get_by_text("In one picture").press("Enter")
            found.page.get_by_role("button", name="Remove at 0:03.000").press("Enter")
            found.page.get_by_role("button", name="Put back").first.press("Enter")
            found.page.locator("[data-segment=s1]").focus()
            saved = found.save()
        (track,) = dismissed(saved)
        assert (track["start_seconds"], track["end_seconds"]) == (2.75, 3.25)
        assert [row["time_seconds"] for row in track["boxes"]] == [3.0]

    def test_one_is_added_by_numbers_and_one_by_drawing(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned, shots={"s2": [picture_of(28)]}) as found:
            found.press("j", "j", "b")
            found.page.keyboard.type("TATTOO")
            for name, value in {"x1": "10", "y1": "20", "x2": "110.5", "y2": "220", "from": "13.5", "to": "14"}.items():
                found.page.locator(f"#edit-{name}").fill(value)
            found.page.get_by_role("button", name="Add the box").press("Enter")
            found.page.get_by_role("button", name="Draw it").press("Enter")
            found.page.locator("[data-segment=s2] .shot-frame").scroll_into_view_if_needed()
            shot = found.page.locator("[data-segment=s2] .shot-frame").bounding_box()
            assert shot is not None
            found.page.mouse.move(shot["x"] + shot["width"] / 4, shot["y"] + shot["height"] / 4)
            found.page.mouse.down()
            found.page.mouse.move(shot["x"] + shot["width"] / 2, shot["y"] + shot["height"] / 2, steps=4)
            found.page.mouse.up()
            assert "2 boxes drawn." in found.words("[data-segment=s2]")
            found.page.locator("[data-segment=s2]").focus()
            saved = found.save()
        typed, drawn = saved.tracks
        row = {"pts": 13_500, "time_seconds": 13.5, "box": [10, 20, 110.5, 220]}
        assert typed == {"id": "b1", "label": "TATTOO", "start_seconds": 13.5, "end_seconds": 14, "boxes": [row]}
        assert drawn["boxes"][0]["box"] == pytest.approx([160, 90, 320, 180], abs=4)

    def test_what_was_removed_shows_and_what_was_added_does_not(self, opened: Open, tmp_path: Path) -> None:
        film = make_film(tmp_path / "film.mp4", [*range(20, 30), *range(65, 75), *range(115, 125)])  # type: ignore[arg-type]
        models = (str(write_classifier(tmp_path)), str(write_detector(tmp_path)))
        with Scanner(ScanSettings(models=models, sampling="all")) as scanner:
            given = scanner.scan(film)
        with opened(given, video=film.as_uri()) as found:
            found.press("j", "a", "t")
            found.page.get_by_role("button", name="Remove in this segment").press("Enter")
            for decision in ("a", "x"):
                found.press("Escape", "j", decision, "b")
                for name, value in {"x1": "200", "y1": "100", "x2": "280", "y2": "160"}.items():
                    found.page.locator(f"#edit-{name}").fill(value)
                found.page.get_by_role("button", name="Add the box").press("Enter")
            assert "1 box drawn here will still be covered" in found.words("[data-segment=s3]")
            found.press("Escape")
            found.save()
        output = redacted(film, tmp_path / "film.mp4.reviewed.timeline.json", models)
        after = list(pictures(output).values())
        for number in range(20, 30):
            assert after[number][25:55, 25:55].min() >= 200, number
        for number in range(65, 75):
            assert after[number][25:55, 25:55].max() <= 30, number
            assert after[number][104:156, 204:276].max() <= 5, number
        for number in range(115, 125):
            assert after[number][25:55, 25:55].min() >= 200, number
            assert after[number][104:156, 204:276].max() <= 5, number

    def test_one_that_makes_no_sense_is_not_added(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned) as found:
            found.press("j", "j", "b")
            found.page.locator("#edit-x2").fill("4000")
            found.page.get_by_role("button", name="Add the box").press("Enter")
            assert "left < right ≤ 640" in found.words(".new-box .problem")
            assert not found.save().tracks


class TestPlaying:
    def test_a_segment_plays_to_its_end_veiled_and_muted(self, opened: Open, tmp_path: Path, scanned: Timeline) -> None:
        film = make_film(tmp_path / "film.mp4")
        first = dataclasses.replace(scanned.segments[0], start_seconds=1.0, end_seconds=1.6)
        given = dataclasses.replace(scanned, segments=(first, scanned.segments[1]))
        with opened(given, video=film.as_uri()) as found:
            look = "[video.paused, video.muted, video.classList.contains('veiled'), video.currentTime]"
            assert found.page.evaluate(look) == [True, True, True, 0]
            found.page.locator("[data-segment=s1]").focus()
            found.press("v", "Enter")
            found.page.get_by_text("Stopped at the segment").wait_for(timeout=30_000)
            paused, muted, veiled, seconds = found.page.evaluate(look)
            assert (paused, muted, veiled) == (True, True, False)
            assert seconds == pytest.approx(1.6, abs=0.001)
            found.press("j")
            assert found.page.evaluate(look)[2] is True
            found.press("k", "s")  # start at the player's time, which is its end: refused
            assert "0 of 2 decided" in found.words("#bar")
            found.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
            found.page.wait_for_timeout(300)
            found.press("e")
            saved = found.save()
        assert saved.segments[0].end_seconds == pytest.approx(1.48, abs=0.001)

    def test_what_it_cannot_play_it_says(self, chromium: Browser, tmp_path: Path, scanned: Timeline) -> None:
        (tmp_path / "film.mp4").write_bytes(b"not a film")
        path = tmp_path / "report.html"
        path.write_text(page(scanned, video="film.mp4"), "utf-8")
        found = Opened(chromium, path)
        found.page.get_by_text("This browser cannot play the video").wait_for()
        found.press("j", "x")
        assert "1 of 2 decided" in found.words("#bar")
        found.context.close()


class TestChart:
    def test_the_cursor_tells_time_and_scores(self, opened: Open, scanned: Timeline) -> None:
        coverage = (Covered(0, 8, "analysed"), Covered(8, 10, "unsampled"), Covered(10, 20, "analysed"))
        streams = (dataclasses.replace(scanned.streams[0], coverage=coverage),)
        with opened(dataclasses.replace(scanned, coverage=coverage, streams=streams, status="partial")) as found:
            surface = found.page.locator("#surface")
            surface.focus()
            found.press("End")
            assert found.words("#readout") == "0:20.000 nsfw 0.99, faces 0.00"
            found.press("Home", *["ArrowRight"] * 5)
            assert found.words("#readout") == "0:02.500 nsfw 0.01, faces 0.80; in s1 (review, undecided)"
            assert surface.get_attribute("aria-valuetext") == "0:02.500"
            found.page.wait_for_timeout(600)
            assert "faces 0.80" in found.words("#announcer")
            found.press("Shift+ArrowRight", "ArrowRight", "ArrowRight")
            assert found.words("#readout") == "0:08.500 not looked at"
            box = surface.bounding_box()
            assert box is not None
            found.page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 20)
            assert found.words("#readout").startswith("0:15.0")

    def test_zoom_shows_less_and_pans(self, opened: Open, scanned: Timeline) -> None:
        with opened(scanned) as found:
            labels = "[...document.querySelectorAll('#chart [data-axis] text')].map((row) => row.textContent)"
            whole = found.page.evaluate(labels)
            found.press("j", "+", "+")
            near = found.page.evaluate(labels)
            assert near != whole
            assert found.page.locator("#overview").is_visible()
            found.press(")")
            assert found.page.evaluate(labels) != near
            found.press("0")
            assert found.page.evaluate(labels) == whole
            assert not found.page.locator("#overview").is_visible()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_runs_nothing(opened: Open, scanned: Timeline, text: str) -> None:
    given = dataclasses.replace(hostile(scanned, text), review=None)
    with opened(given, shots={text: [picture_of(4)]}, warnings=[text]) as found:
        found.press("j", "k", "b", "Escape", "Escape", "?", "Escape", "x", "z", "x")
        assert "1 of 2 decided" in found.words("#bar")
        found.page.locator("#surface").hover()
        found.page.locator(".box-list").wait_for(state="detached")
        found.press("a", "n")
        found.page.keyboard.type(text.replace("\x00", ""))
        found.press("Escape", "i")
        found.page.locator("#new-start").press("Enter")
        assert found.page.evaluate("document.querySelectorAll('main script, main img[src=x]').length") == 0
        found.page.wait_for_timeout(100)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["plain", "video", "reviewed", "public", "unscannable"])
def test_axe_finds_nothing_serious(opened: Open, tmp_path: Path, scanned: Timeline, scheme: str, kind: str) -> None:
    pictures: Mapping[str, Sequence[Shot]] = {"s1": [picture_of(4), picture_of(5)]}
    more: dict[str, Any] = {"shots": pictures, "warnings": ["Something."]}
    given = scanned
    if kind == "video":
        more["video"] = make_film(tmp_path / "film.mp4").as_uri()
    elif kind == "reviewed":
        own = Segment("r1", "nsfw", "block", "cover", 9.0, 9.5, 1.0, 1.0, {})
        given = reviewed(scanned, [scanned.segments[0], own], reviewer="Eve", at=AT, tool="a", notes={"s2": "no"})
    elif kind == "public":
        more["public"] = True
    elif kind == "unscannable":
        given = dataclasses.replace(
            scanned, status="unscannable", verdict="review", segments=(), streams=(), coverage=()
        )
        given = dataclasses.replace(given, source={**given.source, "video": None})
    with opened(given, options={"color_scheme": scheme}, **more) as found:
        states: list[list[str]] = [[]]
        if kind in ("plain", "video"):
            states += [["j", "a", "k", "x", "b"], ["Escape", "Escape", "i"], ["Escape", "?"]]
        for keys in states:
            found.press(*keys)
            result = Axe().run(found.page)
            rows = [row for row in result.response["violations"] if row["impact"] in ("serious", "critical")]
            assert not [(row["id"], row["nodes"][0]["html"]) for row in rows], keys


def two_hours() -> Timeline:
    """Two hours at two pictures a second, with faces in every other one and some dozens of segments."""
    chance = random.Random(7)
    rows = []
    for number in range(14_400):
        is_in = number % 400 < 12
        nsfw = round(chance.uniform(0.9, 1.0) if is_in else chance.uniform(0.0, 0.15), 4)
        faces = []
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            x, y = round(chance.uniform(0, 500), 1), round(chance.uniform(0, 200), 1)
            faces.append(
                Detection("nudenet", "FACE_FEMALE", round(chance.uniform(0.3, 0.9), 4), (x, y, x + 90, y + 90))
            )
        predictions = Predictions((Scores("open_nsfw", {"nsfw": nsfw}),), tuple(faces))
        rows.append(Sample(number * 500, number / 2, 0.04, predictions))
    return judge(timeline(stream(rows)))


def test_two_hours_open_quickly_and_are_small(opened: Open, record_property: Callable[[str, object], None]) -> None:
    given = two_hours()
    assert len(given.segments) == 36
    text = page(given)
    started = time.monotonic()
    with opened(text) as found:
        loading = found.page.evaluate("performance.now()")
        found.press("j", "j")
        assert found.focused() == "s2"
        seconds = time.monotonic() - started
    print(f"two hours: {len(text) / 1e6:.2f} MB, interactive after {loading / 1000:.2f} s, {seconds:.2f} s in all")
    record_property("interactive_seconds", loading / 1000)
    assert len(text.encode()) < 3_000_000
    # 2 s on an idle machine; others share this one.
    assert loading / 1000 < 8


def test_five_hundred_segments_are_usable(opened: Open, scanned: Timeline) -> None:
    first = scanned.segments[0]
    rows = [dataclasses.replace(first, id=f"s{n}", start_seconds=n / 30, end_seconds=n / 30 + 0.5) for n in range(500)]
    given = dataclasses.replace(scanned, segments=tuple(rows))
    with opened(given, shots={row.id: [picture_of(4)] * 3 for row in rows}) as found:
        found.page.locator("[data-segment=s0]").focus()
        started = time.monotonic()
        found.press(*["X"] * 20)
        print(f"500 segments: {(time.monotonic() - started) / 20 * 1000:.0f} ms for a decision")
        assert time.monotonic() - started < 20
        assert found.focused() == "s20"
        assert "20 of 500 decided" in found.words("#bar")
        found.page.locator("#filter").select_option("rejected")
        assert found.page.locator(".cards > li:visible").count() == 21  # and the one that has the focus
        reached = found.page.evaluate("all('#cards button').filter((row) => row.tabIndex >= 0).length")
        assert reached <= 4


def clipped(tab: Page, width: int) -> list[str]:
    """Elements that reach beyond the page, or whose text is cut off."""
    found = tab.evaluate(
        """(width) => [...document.querySelectorAll('body *')].filter((row) => {
          const box = row.getBoundingClientRect();
          if (!box.width || !box.height || row.closest('svg, .visually-hidden, .skips, .bar-name')) return false;
          const style = getComputedStyle(row);
          const isCut = !['visible', 'auto'].includes(style.overflowX) && row.scrollWidth > row.clientWidth + 1;
          return box.right > width + 1 || box.left < -1 || isCut;
        }).map((row) => row.outerHTML.slice(0, 80))""",
        width,
    )
    return [str(row) for row in found]


def test_a_phone_needs_no_sideways_scrolling(opened: Open, scanned: Timeline) -> None:
    name = "a_very_long_name_without_any_space_" * 4 + ".mp4"
    given = dataclasses.replace(scanned, source={**scanned.source, "name": name})
    for public in (False, True):
        with opened(given, options={"viewport": {"width": 390, "height": 800}}, public=public) as found:
            if not public:
                found.press("j", "b")
            assert found.page.evaluate("document.documentElement.scrollWidth") <= 390
            assert clipped(found.page, 390) == []


def test_print_clips_nothing_and_has_no_tools(opened: Open, tmp_path: Path, scanned: Timeline) -> None:
    pictures = {row.id: [picture_of(4 + number) for number in range(4)] for row in scanned.segments}
    # A4 less its margins, in CSS pixels.
    with opened(scanned, shots=pictures, options={"viewport": {"width": 688, "height": 1000}}) as found:
        found.press("j", "j", "x", "t")
        found.page.emulate_media(media="print", color_scheme="dark")
        assert clipped(found.page, 688) == []
        for selector in ("#bar", ".card-tools", ".editor", "#finish", ".tools", "#surface"):
            assert not found.page.locator(selector).first.is_visible(), selector
        shown = found.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert shown == "rgb(255, 255, 255)"
        assert found.page.locator(".shot img:visible").count() == 8
        for card in found.page.locator(".cards > li").all():
            assert card.evaluate("(row) => getComputedStyle(row).breakInside") == "avoid"
        assert "Rejected" in found.words("[data-segment=s2]")
        data = found.page.pdf(format="A4")
        assert 1 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 4


def test_without_javascript_all_that_was_found_is_there(opened: Open, scanned: Timeline) -> None:
    with opened(scanned, options={"java_script_enabled": False}, shots={"s1": [picture_of(4)]}) as found:
        text = found.words("body")
        for said in ("Block", "2 segments", "All 20.0 s looked at", "0:02.000", "FACE_FEMALE", "0.99", "Provenance"):
            assert said in text, said
        assert "Without JavaScript" in text
        for selector in ("#bar", "#finish", "#surface", ".card-tools >> nth=0"):
            assert not found.page.locator(selector).is_visible()
        assert found.page.locator(".lane .line").first.get_attribute("d")
        assert found.page.locator(".lane .span").count() == 2
        found.page.locator("details.table summary").click()
        assert "looked at" in found.words("details.table")


def test_keys_of_one_letter_can_be_turned_off(opened: Open, scanned: Timeline) -> None:
    with opened(scanned) as found:
        found.press("?")
        found.page.locator("#keys-on").press("Space")
        found.press("Escape", "j", "x")
        assert "0 of 2 decided" in found.words("#bar")
        found.page.locator("[data-segment=s1]").focus()
        found.press("ArrowDown")
        assert found.focused() == "s2"


def test_the_embedded_document_is_json_as_it_was(opened: Open, scanned: Timeline) -> None:
    with opened(scanned) as found:
        text = found.page.evaluate("inflated(byId('document').textContent.trim())")
        assert text == "".join(scanned.dumps())
        assert found.page.evaluate("(text) => withEntries(text, {})", text) == text
        assert json.loads(text) == scanned.as_document()
