"""Reports: what is in a page, what is refused, folders of them, and that no clear picture is hidden anywhere."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import av
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import vidmod
from tests import timelines
from tests.footage import scan_of, segment, timeline_of
from tests.recipes import Video, make, make_with_cover
from tests.spectrum import detail
from vidmod.blurring import GRID
from vidmod.cli import cli
from vidmod.coverage import Covered
from vidmod.errors import OutputError, SourceError, TimelineError, UsageError
from vidmod.pages import thumbnails
from vidmod.pages.addresses import address
from vidmod.pages.choosing import MOST_OF_A_SEGMENT, MOST_OF_ALL
from vidmod.pages.folders import report_folder
from vidmod.pages.index import Row, index_html, share_of
from vidmod.reviewing import reviewed
from vidmod.timeline import Timeline

DEMO = Path(__file__).resolve().parent.parent / "samples" / "demo.mp4"
MB = 1_000_000


def run(*arguments: str | Path) -> int:
    """The command line in this process; its exit status."""
    try:
        cli.main([os.fspath(item) for item in arguments], standalone_mode=False)
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def pictures(page: _Page) -> list[bytes]:
    return [base64.b64decode(row["src"].partition(",")[2]) for row in page.all("img")]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clip") / "clip.mp4", Video(count=50, size=(160, 90)))


@pytest.fixture
def film(clip: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A timeline of a video, and the video, in one folder."""
    video = tmp_path / "film.mp4"
    shutil.copyfile(clip, video)
    path = tmp_path / "film.mp4.timeline.json"
    rows = [segment(0.2, 0.6), segment(1.0, 1.8, name="s2")]
    timeline_of(video, rows, scan_of(video, every=2)).write(path)
    return path, video


class TestAddresses:
    @settings(max_examples=300)
    @given(
        st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
    )
    def test_any_name_is_found_again(self, name: bytes) -> None:
        for folder, page in (("/a", "/a/p.html"), ("/a", "/a/b/c/p.html"), ("/x y#z", "/a/p.html")):
            video = Path(folder, os.fsdecode(name))
            url = address(video, Path(page).parent)
            assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", url)
            found = urlsplit(urljoin(f"file://{page}", url))
            assert (found.scheme, found.netloc, found.query, found.fragment) == ("file", "", "", "")
            assert os.path.normpath(unquote_to_bytes(found.path)) == os.path.normpath(os.fsencode(video))

    def test_without_a_page_it_is_absolute(self) -> None:
        assert address(Path("/a b/c:d?.mp4"), None) == "file:///a%20b/c%3Ad%3F.mp4"

    def test_a_name_is_never_a_scheme(self) -> None:
        assert address(Path("/a/javascript:alert(1).mp4"), Path("/a")) == "javascript%3Aalert%281%29.mp4"


class TestOne:
    def test_beside_the_timeline_unless_told(self, film: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        path, video = film
        assert run("report", path, "--video", video) == 0
        page = path.with_name("film.mp4.report.html")
        assert str(page) in capsys.readouterr().err.replace("\n", "")
        parsed = _Page(page.read_text("utf-8"))
        assert len(pictures(parsed)) == 5 + 6
        assert [row["src"] for row in parsed.all("video")] == ["film.mp4"]

    @pytest.mark.parametrize(
        ("name", "report"),
        [
            ("a.json", "a.report.html"),
            ("a.mp4.timeline.json", "a.mp4.report.html"),
            ("a.JSON", "a.report.html"),
            ("timeline", "timeline.report.html"),
            (".json", ".json.report.html"),
        ],
    )
    def test_its_name(self, film: tuple[Path, Path], name: str, report: str) -> None:
        path = film[0].rename(film[0].with_name(name))
        assert run("report", path, "--quiet") == 0
        assert path.with_name(report).is_file()

    def test_where_it_is_told(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        path, video = film
        folder = tmp_path / "out"
        folder.mkdir()
        assert run("report", path, "-o", folder, "--video", video) == 0
        assert run("report", path, "-o", folder / "x.html", "--video", video) == 0
        page = (folder / "film.mp4.report.html").read_text("utf-8")
        assert _Page(page).all("video")[0]["src"] == "../film.mp4"
        assert (folder / "x.html").is_file()

    def test_through_pipes(
        self, film: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, video = film
        before = sorted(path.parent.iterdir())
        assert run("report", path, "-o", "-", "--video", video) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        assert _Page(shown.out).all("video")[0]["src"] == address(video, None)
        monkeypatch.setattr(sys, "stdin", io.StringIO(path.read_text("utf-8")))
        assert run("report", "-", "--quiet") == 0
        assert len(_Page(capsys.readouterr().out).all("img")) == 0
        assert sorted(path.parent.iterdir()) == before
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        with pytest.raises(UsageError, match="Name a file with -o"):
            run("report", "-")

    def test_without_a_video_there_are_no_pictures_and_no_player(self, film: tuple[Path, Path]) -> None:
        path, _ = film
        assert run("report", path) == 0
        parsed = _Page(path.with_name("film.mp4.report.html").read_text("utf-8"))
        assert parsed.all("img") == parsed.all("video") == []

    def test_quiet_says_nothing(self, film: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        assert run("report", film[0], "--quiet", "--video", film[1]) == 0
        assert capsys.readouterr() == ("", "")

    def test_the_library_gives_the_page_that_it_writes(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        timeline = Timeline.read(film[0])
        steps: list[tuple[str, float]] = []
        page = vidmod.report(
            timeline, tmp_path / "a.html", video=film[1], progress=lambda what, share: steps.append((what, share))
        )
        assert (tmp_path / "a.html").read_text("utf-8") == page
        assert steps[0] == ("comparing", 0.0)
        assert steps[-1] == ("taking pictures", 1.0)
        assert vidmod.report(timeline)

    def test_a_public_page_has_neither_pictures_nor_player(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        path, video = film
        assert run("report", path, "--public", "--video", video, "-o", tmp_path / "a.html") == 0
        text = (tmp_path / "a.html").read_text("utf-8")
        assert _Page(text).all("img") == _Page(text).all("video") == []
        assert not list(data_urls(text))
        with pytest.raises(UsageError, match="A public page has no pictures"):
            run("report", path, "--public", "--video", video, "--clear-thumbnails")

    def test_clear_pictures_are_asked_for_and_recorded(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        path, video = film
        assert run("report", path, "--video", video, "--clear-thumbnails", "-o", tmp_path / "a.html") == 0
        parsed = _Page((tmp_path / "a.html").read_text("utf-8"))
        assert "are clear" in parsed.text
        assert {Image.open(io.BytesIO(data)).mode for data in pictures(parsed)} == {"RGB"}
        with pytest.raises(UsageError, match="There is no video to take them from"):
            run("report", path, "--clear-thumbnails")

    def test_of_cover_art(self, tmp_path: Path) -> None:
        video = make_with_cover(tmp_path / "a.mp4")
        rows = scan_of(video, every=5), scan_of(video, stream=1, kind="cover")
        made = timeline_of(video, [segment(0, 0.04, stream=1, kind="cover")], *rows)
        page = _Page(vidmod.report(made, video=video))
        assert len(pictures(page)) == 1
        assert "could not be had" not in page.text

    def test_pictures_that_cannot_be_had_are_told_of(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        path, video = film
        made = Timeline.read(path)
        first = dataclasses.replace(made.samples[5], pts=1 << 50)
        rows = dataclasses.replace(made.streams[0], samples=(*made.samples[:5], first, *made.samples[6:]))
        page = _Page(vidmod.report(dataclasses.replace(made, streams=(rows,)), video=video))
        assert "1 of the pictures to show could not be had from the video" in page.text
        assert len(pictures(page)) == 5 + 6 - 1


class TestHash:
    def test_another_video_is_refused(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        path, video = film
        expected = hashlib.sha256(video.read_bytes()).hexdigest()
        other = make(tmp_path / "other.mp4", Video(count=30, first=100))
        found = hashlib.sha256(other.read_bytes()).hexdigest()
        page = tmp_path / "a.html"
        with pytest.raises(UsageError, match=rf"(?s){found}.*{expected}.*--force") as caught:
            run("report", path, "--video", other, "-o", page)
        assert caught.value.exit_status == 2
        assert str(caught.value).startswith(f"{other}: ")
        assert not page.exists()
        assert run("report", path, "--video", other, "-o", page, "--force") == 0
        parsed = _Page(page.read_text("utf-8"))
        assert found in parsed.text
        assert expected in parsed.text
        assert "--force" in parsed.text
        assert pictures(parsed), "those that the other video has at the same times"

    def test_one_that_changes_meanwhile(
        self, film: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, video = film

        def take(self: object, wanted: Sequence[object]) -> dict[object, object]:
            with video.open("ab") as file:
                file.write(b"more")
            return {}

        monkeypatch.setattr(thumbnails.Taker, "take", take)
        with pytest.raises(SourceError, match="changed while it was read"):
            vidmod.report(Timeline.read(path), tmp_path / "a.html", video=video)
        assert not (tmp_path / "a.html").exists()


class TestBadInput:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "is not whole JSON"),
            ("{", "is not whole JSON"),
            ('{"schema": "vidmod.timeline/2"}', "schema: is 'vidmod.timeline/2'; this vidmod reads"),
            ('{"schema": "vidmod.redaction/1"}', "schema: is 'vidmod.redaction/1'"),
            ("[]", "film.mp4.timeline.json: "),
        ],
    )
    def test_a_damaged_timeline(self, film: tuple[Path, Path], text: str, says: str) -> None:
        film[0].write_text(text, "utf-8")
        with pytest.raises(TimelineError) as caught:
            run("report", film[0])
        assert str(film[0]) in str(caught.value)
        assert says in str(caught.value)
        assert caught.value.exit_status == 2
        assert not list(film[0].parent.glob("*.html"))

    def test_a_wrong_field_has_its_path(self, film: tuple[Path, Path]) -> None:
        document = json.loads(film[0].read_text("utf-8"))
        document["segments"][1]["peak"] = "high"
        film[0].write_text(json.dumps(document), "utf-8")
        with pytest.raises(TimelineError, match=r"segments\[1\]\.peak: "):
            run("report", film[0])

    @pytest.mark.parametrize("base", ["1/0", "0/1", "1/" + "9" * 30, "9" * 5000 + "/1"])
    def test_a_time_base_that_is_none(self, film: tuple[Path, Path], base: str) -> None:
        document = json.loads(film[0].read_text("utf-8"))
        document["source"]["video"]["time_base"] = base
        film[0].write_text(json.dumps(document), "utf-8")
        with pytest.raises(TimelineError, match="time_base"):
            run("report", film[0], "--video", film[1])

    def test_a_video_that_cannot_be_opened(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        for video, says in ((tmp_path / "none.mp4", "no such file"), (tmp_path, "is a folder")):
            with pytest.raises(SourceError, match=says) as caught:
                run("report", film[0], "--video", video)
            assert caught.value.exit_status == 4

    def test_no_input_is_ever_replaced(self, film: tuple[Path, Path], tmp_path: Path) -> None:
        path, video = film
        before = path.read_bytes(), video.read_bytes()
        linked = tmp_path / "linked.html"
        linked.symlink_to(path)
        hard = tmp_path / "hard.html"
        hard.hardlink_to(video)
        for output, says in (
            (path, "is the timeline"),
            (linked, "is the timeline"),
            (video, "is the video"),
            (hard, "is the video"),
        ):
            with pytest.raises(UsageError, match=says):
                run("report", path, "--video", video, "-o", output)
        assert before == (path.read_bytes(), video.read_bytes())

    def test_an_output_that_cannot_be_is_refused_before_the_video_is_read(
        self, film: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vidmod.pages.report._footage", None)
        with pytest.raises(OutputError, match="there is no folder"):
            run("report", film[0], "--video", film[1], "-o", tmp_path / "none" / "a.html")
        with pytest.raises(UsageError, match="Invalid workers"):
            run("report", film[0], "--workers", "0")
        with pytest.raises(UsageError, match="Invalid chunk_seconds"):
            run("report", film[0], "--chunk-timeout", "0")

    def test_what_could_not_be_scanned_has_a_page(self, tmp_path: Path, clip: Path) -> None:
        made = timeline_of(clip, [])
        source = {**made.source, "video": None}
        made = dataclasses.replace(
            made, source=source, status="unscannable", verdict="review", streams=(), coverage=(), notes=("No <frame>.",)
        )
        made.write(tmp_path / "a.json")
        assert run("report", tmp_path / "a.json", "--video", clip) == 0
        assert "No <frame>." in _Page((tmp_path / "a.report.html").read_text("utf-8")).text

    def test_no_segments(self, tmp_path: Path, clip: Path) -> None:
        page = _Page(vidmod.report(timeline_of(clip, []), video=clip))
        assert page.all("img") == []

    def test_five_hundred_segments(self, tmp_path: Path, clip: Path) -> None:
        many = [segment(n / 300, n / 300 + 0.2, name=f"s{n}", peak=round(n / 500, 3)) for n in range(500)]
        text = vidmod.report(timeline_of(clip, many), video=clip)
        page = _Page(text)
        assert len(pictures(page)) == MOST_OF_ALL
        assert f"{500 - MOST_OF_ALL} of 500 segments are shown without a picture" in page.text
        assert len(text.encode()) < 3 * MB

    @pytest.mark.parametrize(
        "name", ["<script>alert(1)</script>", "\"'><img src=x onerror=y>", "\u202egpj.exe", "]]>--><!--"]
    )
    def test_hostile_text_stays_text(self, film: tuple[Path, Path], name: str) -> None:
        made = Timeline.read(film[0])
        rows = [
            dataclasses.replace(row, id=f"{name}{n}", category=name, labels={name: 0.5})
            for n, row in enumerate(made.segments)
        ]
        made = dataclasses.replace(made, source={**made.source, "name": name}, segments=tuple(rows), notes=(name,))
        plain, hostile = _Page(vidmod.report(Timeline.read(film[0]))), _Page(vidmod.report(made))
        assert len(hostile.all("script")) == len(plain.all("script"))
        assert not [row for row in hostile.all("img") if row.get("src") == "x"]
        assert not any(key.startswith("on") for _, attributes in hostile.elements for key in attributes)
        assert name in hostile.text

    @pytest.mark.parametrize(
        "name", [b"a b#c?d%20e&f'g\"h<i>.mp4", b"a:b\\c.mp4", b"\xff\xfe.mp4", "ä😀\n.mp4".encode()]
    )
    def test_names_of_files_are_text(self, film: tuple[Path, Path], name: bytes) -> None:
        path, video = film
        video = video.rename(video.with_name(os.fsdecode(name)))
        assert run("report", path, "--video", video) == 0
        (player,) = _Page(path.with_name("film.mp4.report.html").read_text("utf-8")).all("video")
        assert unquote_to_bytes(player["src"]) == name
        assert (
            run(
                "report",
                path,
                "--video",
                video,
                "--force",
                "-o",
                os.fsdecode(os.fsencode(path.parent) + b"/" + name + b".html"),
            )
            == 0
        )


def test_an_interrupt_leaves_nothing(film: tuple[Path, Path]) -> None:
    path, video = film
    code = (
        "import sys, vidmod.pages.thumbnails as t; t._HANDLER = 'tests.shot_handlers:hangs_at_first'; "
        "from vidmod.cli import main; sys.argv = ['vidmod', *sys.argv[1:]]; main()"
    )
    before = sorted(path.parent.iterdir())
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", code, "report", str(path), "--video", str(video)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(children) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2, "a zygote and a worker"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.strip() == "Interrupted. Nothing half-written was left behind."
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert sorted(path.parent.iterdir()) == before


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        root = tmp_path / "scans"
        (root / "below").mkdir(parents=True)
        rows = [timelines.sample(n / 2, 0.1, shown=0.5) for n in range(20)]
        clean = timelines.timeline(timelines.stream(rows))
        bad = dataclasses.replace(clean, verdict="block", segments=(segment(1, 2, peak=0.75), segment(3, 4, name="s2")))
        bad.write(root / "bad.mp4.timeline.json")
        clean.write(root / "below" / "clean.json")
        gap = (Covered(0.0, 5.0, "analysed"), Covered(5.0, 10.0, "unsampled"))
        rows_of = dataclasses.replace(clean.streams[0], coverage=gap)
        dataclasses.replace(clean, verdict="review", status="partial", coverage=gap, streams=(rows_of,)).write(
            root / "partial.json"
        )
        (root / "broken.timeline.json").write_text('{"schema": "vidmod.timeline/1", "sour', "utf-8")
        (root / "newer.json").write_text(json.dumps({"samples": [], "schema": "vidmod.timeline/9"}), "utf-8")
        (root / "other.json").write_text('{"about": "vidmod.timeline/1"}', "utf-8")
        (root / "empty.json").write_text("", "utf-8")
        (root / "list.json").write_text("[1, 2]", "utf-8")
        (root / "notes.txt").write_text('{"schema": "vidmod.timeline/1"}', "utf-8")
        return root

    def rows(self, index: Path) -> list[tuple[str, str]]:
        """Name and verdict of every row, as they stand in the file."""
        text = index.read_text("utf-8")
        rows = []
        for part in text.partition("<tbody")[2].split("<tr ")[1:]:
            verdict = re.search(r'class="verdict (\w+)"', part)
            assert verdict is not None
            head = part.partition("<td")[0].partition(">")[2]
            rows.append((" ".join(re.sub("<[^>]+>", " ", head).split()), verdict[1]))
        return rows

    def test_every_timeline_has_a_page_and_a_row(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("report", folder) == 4
        told = capsys.readouterr().err
        assert f"{folder / 'broken.timeline.json'}: is not whole JSON" in told.replace("\n", " ")
        assert "newer.json: schema: is 'vidmod.timeline/9'" in told.replace("\n", " ")
        pages = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))
        assert pages == ["bad.mp4.report.html", "below/clean.report.html", "index.html", "partial.report.html"]
        index = folder / "index.html"
        rows = self.rows(index)
        assert [verdict for _, verdict in rows] == ["block", "unknown", "unknown", "review", "pass"]
        assert rows[0][0].endswith("bad.mp4.timeline.json")
        assert "is not whole JSON" in rows[1][0]
        parsed = _Page(index.read_text("utf-8"))
        links = [unquote_to_bytes(row["href"]).decode() for row in parsed.all("a")]
        assert links == ["bad.mp4.report.html", "partial.report.html", "below/clean.report.html"]
        assert all((folder / link).is_file() for link in links)
        assert "50 %" in parsed.text
        assert "0.90" in parsed.text

    def test_where_it_is_told(self, folder: Path, tmp_path: Path) -> None:
        before = sorted(folder.rglob("*"))
        assert run("report", folder, "-o", tmp_path / "out", "--quiet") == 4
        assert (tmp_path / "out" / "below" / "clean.report.html").is_file()
        (tmp_path / "two").mkdir()
        assert run("report", folder, "-o", tmp_path / "two" / "all.html", "--quiet") == 4
        assert (tmp_path / "two" / "all.html").is_file()
        assert (tmp_path / "two" / "below" / "clean.report.html").is_file()
        assert sorted(folder.rglob("*")) == before

    def test_when_all_can_be_read_the_status_is_0(self, folder: Path) -> None:
        (folder / "broken.timeline.json").unlink()
        (folder / "newer.json").unlink()
        assert run("report", folder) == 0
        assert run("report", folder) == 0, "a second time, over its own index"

    def test_what_is_refused(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x", "utf-8")
        empty = tmp_path / "empty"
        empty.mkdir()
        for arguments, says in (
            ((empty,), "there is no timeline in this folder"),
            ((folder, "-o", tmp_path / "file"), "is a file"),
            ((folder, "-o", tmp_path / "none" / "x"), "there is no folder"),
            ((folder, "-o", tmp_path / "none" / "x.html"), "there is no folder"),
            ((folder, "-o", "-"), "cannot go to standard output"),
            ((folder, "--video", DEMO), "goes with one timeline"),
        ):
            with pytest.raises(UsageError, match=says):
                run("report", *arguments)
        assert not list(folder.rglob("*.html"))

    def test_an_index_that_is_not_ours_is_not_replaced_unless_named(self, folder: Path) -> None:
        index = folder / "index.html"
        index.write_text("<h1>My site</h1>", "utf-8")
        with pytest.raises(UsageError, match="was not made by vidmod"):
            run("report", folder)
        assert index.read_text("utf-8") == "<h1>My site</h1>"
        assert not list(folder.rglob("*.report.html"))
        assert run("report", folder, "-o", index) == 4
        assert "<h1>My site</h1>" not in index.read_text("utf-8")

    def test_no_timeline_is_ever_replaced(self, folder: Path) -> None:
        clean = folder / "below" / "clean.json"
        before = clean.read_bytes()
        (folder / "below" / "clean.report.html").symlink_to(clean)
        done = report_folder(folder)
        assert clean.read_bytes() == before
        assert any("is the timeline" in row.problem for row in done.problems)

    def test_two_of_one_name_have_a_page_each(self, folder: Path) -> None:
        shutil.copyfile(folder / "bad.mp4.timeline.json", folder / "bad.mp4.json")
        done = report_folder(folder)
        assert {row.url for row in done.rows} >= {"bad.mp4.report.html", "bad.mp4-2.report.html"}

    def test_a_folder_that_cannot_be_read_is_a_row(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.scandir

        def scandir(path: Any) -> Any:
            if os.fspath(path).endswith("below"):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
        done = report_folder(folder)
        (row,) = (row for row in done.rows if row.path == "below")
        assert row.problem == "this folder cannot be read (Permission denied)."

    def test_hostile_names_stay_text(self, folder: Path) -> None:
        made = Timeline.read(folder / "bad.mp4.timeline.json")
        name = "<script>alert(1)</script>\"'\u202e"
        dataclasses.replace(made, source={**made.source, "name": name}).write(folder / "x.json")
        (folder / "x.json").rename(folder / os.fsdecode(b'"><script>\xff.json'))
        assert run("report", folder) == 4
        parsed = _Page((folder / "index.html").read_text("utf-8"))
        assert len(parsed.all("script")) == 1
        assert name in parsed.text
        (link,) = (row["href"] for row in parsed.all("a") if "script" in row["href"])
        assert Path(os.fsdecode(os.fsencode(folder) + b"/" + unquote_to_bytes(link))).is_file()

    def test_a_public_index_tells_no_scores_and_no_paths(self, folder: Path) -> None:
        assert run("report", folder, "--public") == 4
        text = (folder / "index.html").read_text("utf-8")
        assert "Peak" not in text
        assert "0.90" not in text
        assert str(folder) not in text
        assert "timeline.json" not in text.replace("broken.timeline.json", "")

    def test_memory_does_not_grow_with_their_number(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = timelines.long_timeline(0.1)
        for number in range(12):
            made.write(tmp_path / f"{number}.timeline.json")
        seen: list[weakref.ref[Timeline]] = []
        alive: list[int] = []
        read = Timeline.read

        class Noted(Timeline):
            """One that can be looked for when nobody should hold it any more."""

        def noted(path: Path) -> Timeline:
            alive.append(sum(one() is not None for one in seen))
            found = read(path)
            fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
            again = Noted(**fields)
            seen.append(weakref.ref(again))
            return again

        monkeypatch.setattr(Timeline, "read", staticmethod(noted))
        report_folder(tmp_path)
        assert alive == [0] * 12


class TestIndex:
    NOW = datetime(2026, 11, 21, tzinfo=UTC)

    def test_it_reaches_for_nothing_and_runs_only_its_own(self) -> None:
        text = index_html(
            [Row(name="a", path="a", url="a.html", verdict="pass", status="complete")], "t", public=False, now=self.NOW
        )
        parsed = _Page(text)
        (policy,) = (row["content"] for row in parsed.all("meta") if row.get("http-equiv") == "Content-Security-Policy")
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        for kind in ("style", "script"):
            (inner,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
            assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
        assert not re.search(r"(src|href)=\"(https?:)?//|url\(|@import|style=", text)

    def test_worst_first(self) -> None:
        rows = [
            Row(name="pass", path="1", verdict="pass", status="complete"),
            Row(name="damaged", path="2", problem="x"),
            Row(name="low", path="3", verdict="block", status="complete", peak=0.2),
            Row(name="high", path="4", verdict="block", status="complete", peak=0.9),
            Row(name="complete", path="5", verdict="review", status="complete", peak=0.9),
            Row(name="unscannable", path="6", verdict="review", status="unscannable"),
            Row(name="partial", path="7", verdict="review", status="partial"),
        ]
        text = index_html(rows, "t", public=False, now=self.NOW)
        shown = re.findall(r'data-key="([a-z]+)"', text)
        assert shown == ["high", "low", "damaged", "unscannable", "partial", "complete", "pass"]

    @pytest.mark.parametrize(
        ("share", "says"), [(1.0, "all"), (0.99999, "99.9 %"), (0.5, "50 %"), (0.0, "0 %"), (None, "")]
    )
    def test_what_was_looked_at_is_never_rounded_up_to_all(self, share: float | None, says: str) -> None:
        assert Row(name="a", path="a", share=share).covered == says

    def test_the_share_is_that_of_the_worst_stream(self) -> None:
        rows = [timelines.sample(n / 2, 0.1, shown=0.5) for n in range(20)]
        whole = timelines.stream(rows)
        gap = (Covered(0.0, 2.5, "analysed"), Covered(2.5, 10.0, "undecodable"))
        half = dataclasses.replace(timelines.stream(rows, 1), coverage=gap)
        assert share_of(timelines.timeline(whole)) == 1.0
        assert share_of(timelines.timeline(whole, half)) == 0.25
        nothing = dataclasses.replace(timelines.timeline(whole), streams=(), coverage=())
        assert share_of(nothing) == 0.0

    def test_who_reviewed_is_told(self) -> None:
        made = timelines.timeline(timelines.stream([timelines.sample(0, 0.1)]))
        done = reviewed(made, [], reviewer="Ada <b>", at=self.NOW, tool="test")
        row = Row.of(done, "a.json", "a.html")
        assert row.reviewed == "Ada <b>, 2026-11-21"
        assert "Ada &lt;b&gt;, 2026-11-21" in index_html([row], "t", public=False, now=self.NOW)
        assert "Ada" not in index_html([row], "t", public=True, now=self.NOW)


def test_two_hours_are_quick_and_small(tmp_path: Path) -> None:
    made = timelines.long_timeline(2, 2)
    assert made.sample_count == 14_400
    made.write(tmp_path / "long.json")
    began = time.process_time()
    assert run("report", tmp_path / "long.json", "--quiet") == 0
    # Some two seconds; the rest is for busy machines.
    assert time.process_time() - began < 20
    assert (tmp_path / "long.report.html").stat().st_size < 3 * MB


# No clear picture --------------------------------------------------------------------------------

_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)((?:;[a-z0-9=-]+)*),([A-Za-z0-9+/=%_.~-]*)", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")
# What files of pictures and videos begin with.
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|RIFF....AVI |....ftyp[a-z]|\x1a\x45\xdf\xa3|II\*\0|MM\0\*"
    rb"|\0\0\x01\xba|\0\0\0\x01\x67|FLV\x01|\xff\x0a|\0\0\0\x0cJXL ",
    re.DOTALL,
)


def data_urls(text: str) -> Iterator[tuple[str, bytes]]:
    for match in _DATA_URL.finditer(text):
        assert match[2].endswith("base64")
        yield match[1], base64.b64decode(match[3], validate=True)


def layers(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """What can be unpacked of some bytes, by gzip, zlib and base64, and what of that, and so on."""
    yield data
    if depth == 0:
        return
    for unpack in (gzip.decompress, zlib.decompress, lambda raw: zlib.decompress(raw, -15)):
        try:
            inner = unpack(data)
        except (OSError, zlib.error, EOFError):
            continue
        yield from layers(inner, depth - 1)
        return
    for match in _BASE64.finditer(data):
        text = match[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        if len(text) % 4 != 1:
            yield from layers(base64.b64decode(text + b"=" * (-len(text) % 4)), depth - 1)


def frames(path: Path, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return {
            frame.pts: np.asarray(frame.to_ndarray(format="gray"), np.uint8)
            for frame in container.decode(video=0)
            if frame.pts is not None and frame.pts in wanted
        }


@pytest.fixture(scope="module")
def made() -> Timeline:
    rows = [segment(6.5, 8.0), segment(14.0, 17.5, name="s2"), segment(28.0, 33.0, name="s3")]
    return timeline_of(DEMO, rows, scan_of(DEMO, every=5, boxes=True))


@pytest.fixture(scope="module")
def text(made: Timeline) -> str:
    """A report as it is by default."""
    return vidmod.report(made, video=DEMO)


class TestNoClearPicture:
    def test_every_picture_is_grey_and_blurred(self, made: Timeline, text: str) -> None:
        parsed = _Page(text)
        found = list(data_urls(text))
        assert {kind for kind, _ in found if kind.startswith(("image", "video"))} == {"image/jpeg"}
        images = [data for kind, data in found if kind == "image/jpeg"]
        assert pictures(parsed) == images, "all are where a reader sees them"
        assert len(images) == 3 * MOST_OF_A_SEGMENT
        real = frames(DEMO, {sample.pts for sample in made.samples})
        for data in images:
            image = Image.open(io.BytesIO(data))
            assert (image.format, image.mode) == ("JPEG", "L")
            colours = np.asarray(image.convert("RGB"))
            assert np.ptp(colours, axis=2).max() == 0
            assert not image.getexif()
            assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            grey = np.asarray(image, float)
            clear = min(
                (
                    np.asarray(Image.fromarray(row).resize(image.size, Image.Resampling.BOX), float)
                    for row in real.values()
                ),
                key=lambda row: np.abs(coarse(row) - coarse(grey)).mean(),
            )
            assert np.abs(coarse(clear) - coarse(grey)).mean() < 8, "it is of a picture of the video"
            assert detail(grey, GRID / 2) < 1e-3 * detail(clear, 0)
            assert detail(clear, GRID / 2) > 5 * detail(grey, GRID / 2)

    def test_nothing_else_is_a_picture(self, text: str) -> None:
        known = {data for kind, data in data_urls(text) if kind == "image/jpeg"}
        inner = [data for data in layers(text.encode()) if data not in known]
        assert any(b'"vidmod.timeline/1"' in data for data in inner[1:]), "the timeline was unpacked"
        for data in inner:
            # A text is looked through; of what is packed or encoded, chance makes three bytes of anything.
            is_text = data.isascii() or _is_utf8(data)
            match = _MAGIC.search(data) if is_text else _MAGIC.match(data)
            assert match is None, f"{match and match[0]!r} in {data[:60]!r}"
        for data in known:
            assert _MAGIC.search(data, 3) is None, "nor is there one in a picture"

    def test_the_search_finds_what_is_hidden(self, text: str) -> None:
        """The two tests above would see it."""
        file = io.BytesIO()
        Image.new("RGB", (64, 64), (255, 0, 0)).save(file, "PNG")
        hidden = base64.b64encode(gzip.compress(base64.b64encode(file.getvalue()))).decode()
        layer = [
            data for data in layers((text + hidden).encode()) if _MAGIC.match(data) and data.startswith(b"\x89PNG")
        ]
        assert len(layer) == 1


def coarse(grey: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(Image.fromarray(grey.astype(np.float32)).resize((8, 5), Image.Resampling.BOX), float)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
