"""What was corrected in CVAT or Label Studio is what is covered: with real workers, encoders and a small detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.annotated import FORMATS, brought_back, opened, shown_of
from tests.networks import write_classifier, write_detector
from tests.test_redacting import BOX, COUNT, make_film, pictures
from vidmod.redacting.job import Redactor
from vidmod.redacting.settings import RedactSettings
from vidmod.reviewing import decisions
from vidmod.scanning import Scanner, ScanSettings
from vidmod.timeline import Timeline

FIRST, SECOND, DRAWN = range(30, 60), range(100, 130), range(70, 80)
SPOT = (slice(30, 50), slice(30, 50))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("models")
    return (str(write_classifier(folder)), str(write_detector(folder)))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", cast("range", {*FIRST, *SECOND}))


@pytest.fixture(scope="module")
def scanned(film: Path, models: tuple[str, ...]) -> Timeline:
    with Scanner(ScanSettings(models=models)) as scanner:
        return scanner.scan(film)


def redacted(film: Path, models: tuple[str, ...], timeline: Timeline, folder: Path) -> list[Any]:
    """The pictures of what is written by a timeline, which goes through a file."""
    timeline.write(folder / "reviewed.json")
    settings = RedactSettings(scan=ScanSettings(models=models), labels=("BRIGHT",))
    with Redactor(settings) as redactor:
        redactor.redact(film, folder / "safe.mp4", timeline=Timeline.read(folder / "reviewed.json"))
    shown = list(pictures(folder / "safe.mp4").values())
    assert len(shown) == COUNT
    return shown


@pytest.mark.parametrize("to", FORMATS)
class TestImported:
    def test_untouched_all_is_covered_that_was_found(
        self, film: Path, models: tuple[str, ...], scanned: Timeline, tmp_path: Path, to: str
    ) -> None:
        shown = redacted(film, models, brought_back(opened(scanned, to), scanned), tmp_path)
        assert all(shown[number][BOX].max() <= 30 for number in (*FIRST, *SECOND))
        assert shown[80][SPOT].min() > 20

    def test_what_was_rejected_is_left_and_what_was_drawn_is_covered(
        self, film: Path, models: tuple[str, ...], scanned: Timeline, tmp_path: Path, to: str
    ) -> None:
        first, second = scanned.segments
        hand = opened(scanned, to)
        hand.delete(second.id)
        hand.add_track("ADDED", {DRAWN.start: (200, 100, 240, 140)}, DRAWN.stop)
        after = brought_back(hand, scanned)
        assert decisions(after) == {first.id: "accepted", second.id: "rejected"}
        shown = redacted(film, models, after, tmp_path)
        for number in range(COUNT):
            assert (shown[number][104:136, 204:236].max() <= 30) == (number in DRAWN), number
        assert all(shown[number][BOX].max() <= 30 for number in FIRST)
        assert all(shown[number][SPOT].min() > 200 for number in SECOND)

    def test_an_end_that_was_moved_and_a_box_that_was_dismissed(
        self, film: Path, models: tuple[str, ...], scanned: Timeline, tmp_path: Path, to: str
    ) -> None:
        _, second = scanned.segments
        annotations = shown_of(scanned, to)
        item = next(item for item in annotations.segments if item.key == second.id)
        tracks = [track.key for track in annotations.tracks if track.runs[0].start < DRAWN.start]
        assert tracks
        hand = opened(scanned, to)
        for key in tracks:
            hand.delete(key)
        hand.set_span(second.id, item.start, 115)
        after = brought_back(hand, scanned)
        assert list(decisions(after).values()) == ["accepted", "changed"]
        shown = redacted(film, models, after, tmp_path)
        assert all(shown[number][SPOT].min() > 200 for number in FIRST)
        assert [number for number in SECOND if shown[number][BOX].max() <= 30] == list(range(100, 115))
