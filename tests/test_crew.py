"""Real workers and a small model: who reads what, who dies and who is late changes nothing in a timeline."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests import recipes
from tests.networks import write_classifier
from tests.recipes import RATE, Video
from vidmod.containment import Limits
from vidmod.errors import SourceNotFoundError
from vidmod.scanning import Progress, Scanner, ScanSettings
from vidmod.timeline import Timeline

MODES = ("uniform", "adaptive", "keyframes", "all")
LONG = 14 * RATE
X264 = Video(count=LONG, gop=25, b_frames=3)
X265 = Video(
    codec="libx265", count=LONG, gop=25, b_frames=3, options={"x265-params": "log-level=0:keyint=25:min-keyint=25"}
)
SOUND = {
    "h264.mp4": X264,
    "h264.mkv": X264,
    "h264.ts": X264,
    "hevc.mp4": X265,
    "vp9.webm": Video(codec="libvpx-vp9", count=LONG, gop=25),
    "mpeg4.avi": Video(codec="mpeg4", count=LONG),
}
# What a test may wait for a process to be gone.
_PATIENCE_SECONDS = 5.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_classifier(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sound")
    return [recipes.make(folder / name, video) for name, video in SOUND.items()]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("damaged")
    early = {"movflags": "faststart"}
    cut = recipes.make(folder / "cut.mp4", X264, options=early)
    recipes.cut(cut, int(cut.stat().st_size * 0.6))
    return [
        recipes.zero_packets(recipes.make(folder / "zeros.mp4", X264), [70, 200]),
        recipes.scramble_packets(recipes.make(folder / "noise.mp4", X264), [30, 31, 160, 161, 162, 300]),
        cut,
    ]


@pytest.fixture(scope="module")
def damaged_hevc(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("hevc")
    places = ([70, 72, 160, 161], [100, 140, 141], [19, 42, 43, 172, 206], [33, 44, 45, 194, 212])
    return [
        recipes.scramble_packets(recipes.make(folder / f"noise{number}.mp4", X265), row)
        for number, row in enumerate(places)
    ]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five parts, with a picture in red now and then."""
    return recipes.make(tmp_path_factory.mktemp("film") / "film.mp4", Video(count=30 * RATE, gop=25, b_frames=2))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("small")
    return [recipes.make(folder / f"{number}.mp4", Video(count=5, first=number)) for number in range(20)]


def document(result: object) -> Any:
    """A timeline as JSON, without the time of the scan."""
    assert isinstance(result, Timeline), result
    found = result.as_document()
    return {**found, "provenance": {**found["provenance"], "created": ""}}


def scans(paths: list[Path], **settings: Any) -> dict[str, Any]:
    with Scanner(ScanSettings(**settings)) as scanner:
        return {path.name: document(result) for path, result in scanner.scan_many(paths)}


def workers() -> list[psutil.Process]:
    """The children of the zygotes of this process."""
    found = []
    for zygote in psutil.Process().children():
        try:
            if any("zygote" in word for word in zygote.cmdline()):
                found += [one for one in zygote.children() if one.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert wait_for(lambda: workers() == [])


class TestAnyNumberOfWorkers:
    @pytest.mark.parametrize("mode", MODES)
    def test_gives_the_same(
        self, model: str, sound: list[Path], damaged: list[Path], damaged_hevc: list[Path], mode: str
    ) -> None:
        paths = [*sound, *damaged, *damaged_hevc]
        expected = scans(paths, models=[model], sampling=mode, workers=1)
        assert all(
            expected[name]["status"] == "complete" for name in SOUND if (mode, name) != ("keyframes", "hevc.mp4")
        )
        assert expected["cut.mp4"]["status"] == expected["zeros.mp4"]["status"] == "partial"
        for count in (2, 4):
            assert scans(paths, models=[model], sampling=mode, workers=count) == expected

    def test_gives_the_same_one_after_the_other(self, model: str, sound: list[Path], damaged: list[Path]) -> None:
        paths = [*sound, *damaged]
        together = scans(paths, models=[model])
        with Scanner(ScanSettings(models=[model], workers=1)) as scanner:
            assert {path.name: document(scanner.scan(path)) for path in paths} == together

    @pytest.mark.parametrize("mode", ["uniform", "all"])
    def test_accounts_for_every_packet(self, model: str, sound: list[Path], damaged: list[Path], mode: str) -> None:
        for name, found in scans([*sound, *damaged], models=[model], sampling=mode).items():
            check_account(found, LONG if name != "cut.mp4" else None)

    @pytest.mark.parametrize("mode", ["uniform", "all"])
    def test_accounts_for_every_packet_of_open_groups(self, model: str, damaged_hevc: list[Path], mode: str) -> None:
        for found in scans(damaged_hevc, models=[model], sampling=mode).values():
            check_account(found, LONG)


def check_account(found: Any, packets: int | None) -> None:
    (stream,) = Timeline.from_document(found).streams
    ledger = stream.ledger
    rest = ("frames", "lost", "hidden", "without_picture", "skipped")
    assert ledger["packets"] == sum(ledger[name] for name in rest)
    assert packets in (None, ledger["packets"])


class TestDeaths:
    def kill_now_and_then(self, seed: int, most: int) -> Callable[[Progress], None]:
        chance, killed = random.Random(seed), [0]

        def kill(_: Progress) -> None:
            found = workers()
            if found and killed[0] < most and chance.random() < 0.1:
                chance.choice(found).kill()
                killed[0] += 1

        return kill

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("seed", [1, 2])
    def test_cost_nothing_or_are_told(self, model: str, film: Path, mode: str, seed: int) -> None:
        settings: dict[str, Any] = {"models": [model], "sampling": mode, "workers": 2}
        expected = scans([film], **settings)[film.name]
        with Scanner(ScanSettings(**settings)) as scanner:
            found = document(scanner.scan(film, progress=self.kill_now_and_then(seed, 6)))
            if found != expected:
                # Both attempts at something were hit.
                assert (found["status"], found["verdict"] == "pass") == ("partial", False)
                assert any("could not be" in note for note in found["notes"])
                assert any(span["state"] == "undecodable" for span in found["coverage"])
            # And the next file knows nothing of it.
            assert document(scanner.scan(film)) == expected

    def test_whoever_stops_is_killed_when_its_time_is_over(self, model: str, film: Path) -> None:
        settings: dict[str, Any] = {"models": [model], "sampling": "all", "workers": 2}
        expected = scans([film], **settings)[film.name]
        stopped: list[int] = []

        def stop(state: Progress) -> None:
            if not stopped and state.samples > 50:
                for worker in workers()[:1]:
                    worker.send_signal(signal.SIGSTOP)
                    stopped.append(worker.pid)

        began = time.monotonic()
        with Scanner(ScanSettings(**settings, limits=Limits(chunk_seconds=1))) as scanner:
            found = document(scanner.scan(film, progress=stop))
            assert stopped
            assert not psutil.pid_exists(stopped[0])
        assert found == expected
        assert time.monotonic() - began < 15

    def test_too_many(self, model: str, film: Path) -> None:
        def kill(_: Progress) -> None:
            for worker in workers():
                worker.kill()

        limits = Limits(max_failures=2)
        with Scanner(ScanSettings(models=[model], sampling="all", workers=1, limits=limits)) as scanner:
            found = scanner.scan(film, progress=kill)
            assert found.status in ("partial", "unscannable")
            assert found.verdict == "review"
            assert any("more than 2 workers did not survive it" in note for note in found.notes)
            assert scanner.scan(film).status == "complete"

    def test_past_its_time(self, model: str, film: Path) -> None:
        slept: list[int] = []

        def sleep(state: Progress) -> None:
            if state.samples and not slept:
                slept.append(state.samples)
                time.sleep(1.2)

        limits = Limits(file_seconds=1)
        with Scanner(ScanSettings(models=[model], sampling="all", limits=limits)) as scanner:
            found = scanner.scan(film, progress=sleep)
        assert (found.status, found.verdict) == ("partial", "review")
        assert "Given up: past its time limit of 1 s." in found.notes
        assert 0 < len(found.samples) < 30 * RATE

    @pytest.mark.timeout(20)
    def test_past_its_time_at_once(self, model: str, film: Path) -> None:
        with Scanner(ScanSettings(models=[model], limits=Limits(file_seconds=1e-3))) as scanner:
            assert scanner.scan(film).status == "unscannable"


class TestStopping:
    def test_is_at_the_same_place(self, tmp_path: Path, model: str) -> None:
        """Every picture is red from the first on, so the first part is enough."""
        path = recipes.make(tmp_path / "red.mp4", Video(count=40 * RATE, gop=25, frames=red))
        settings: dict[str, Any] = {"models": [model], "stop_at": "block", "sampling": "keyframes"}
        rows = [scans([path], **settings, workers=count)[path.name] for count in (1, 2, 4)]
        assert rows[0]["verdict"] == "block"
        assert rows[1] == rows[0]
        assert rows[2] == rows[0]
        assert rows[0]["samples"][-1]["time_seconds"] < 7


def red(_: int) -> Any:
    frame = recipes.picture(0)
    for plane, value in zip(frame.planes, (81, 90, 240), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame


class TestManyFiles:
    def test_side_by_side(self, model: str, small: list[Path]) -> None:
        together = scans(small, models=[model], workers=4)
        with Scanner(ScanSettings(models=[model], workers=1)) as scanner:
            assert {path.name: document(scanner.scan(path)) for path in small} == together

    def test_what_is_no_video_in_between(self, tmp_path: Path, model: str, small: list[Path]) -> None:
        text, missing, empty = tmp_path / "letter.mp4", tmp_path / "missing.mp4", tmp_path / "empty.mp4"
        text.write_text("Dear reviewer, this is no film.\n" * 20, "utf-8")
        empty.touch()
        paths = [small[0], text, missing, small[1], empty, small[2]]
        with Scanner(ScanSettings(models=[model], workers=2)) as scanner:
            found = dict(scanner.scan_many(paths, unsure=[text]))
            sure = dict(scanner.scan_many([text]))
        assert set(found) == set(paths)
        assert found[text] is None
        assert document(sure[text])["status"] == "unscannable"
        assert isinstance(found[missing], SourceNotFoundError)
        assert document(found[empty])["status"] == "unscannable"
        assert [document(found[path])["status"] for path in small[:3]] == ["complete"] * 3

    def test_closing_early(self, model: str, small: list[Path], film: Path) -> None:
        with Scanner(ScanSettings(models=[model], workers=2)) as scanner:
            results = scanner.scan_many([small[0], film, *small[1:]])
            next(results)
            results.close()
            assert wait_for(lambda: workers() == [])
            assert scanner.scan(small[3]).status == "complete"
        before = psutil.Process().num_fds()
        with Scanner(ScanSettings(models=[model], workers=2)) as scanner:
            next(scanner.scan_many([film, *small]))
        assert psutil.Process().num_fds() == before
        assert [child for child in psutil.Process().children() if "zygote" in str(child.cmdline())] == []


class TestParent:
    def run(self, code: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *words], stdout=subprocess.PIPE, text=True, **options
        )

    def test_never_imports_what_parses(self, model: str, film: Path) -> None:
        process = self.run(
            """
            import sys, vidmod
            timeline = vidmod.scan(sys.argv[1], models=[sys.argv[2]])
            print(timeline.status, [name for name in sys.modules if name.split(".")[0] == "av"])
            """,
            str(film),
            model,
        )
        assert process.communicate(timeout=60)[0] == "complete []\n"

    def test_ctrl_c_leaves_nobody(self, model: str, film: Path) -> None:
        process = self.run(
            """
            import sys, vidmod
            tell = lambda state: print(state.samples, flush=True)
            for _ in range(1000):
                vidmod.scan(sys.argv[1], models=[sys.argv[2]], sampling="all", progress=tell)
            """,
            str(film),
            model,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        while int(process.stdout.readline()) < 20:
            pass
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        os.killpg(process.pid, signal.SIGINT)
        process.stdout.close()
        assert process.wait(10) != 0
        assert wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))


def test_a_part_of_a_film(model: str, film: Path) -> None:
    settings: dict[str, Any] = {"models": [model], "start": Fraction(7), "end": Fraction(20)}
    assert scans([film], **settings, workers=1) == scans([film], **settings, workers=4)
