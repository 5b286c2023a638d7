"""A scan that is killed goes on where it stopped, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import recipes
from tests.networks import write_classifier
from tests.recipes import RATE, Video

_PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_classifier(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    video = Video(count=240 * RATE, gop=25, b_frames=2)
    sound = recipes.make(folder / "sound.mp4", video)
    damaged = recipes.make(folder / "damaged.mp4", video)
    recipes.scramble_packets(damaged, [70, 800, 801, 2000, 4100])
    return [sound, damaged]


def start(film: Path, output: Path, model: str, cache: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vidmod", "scan", str(film), "-o", str(output), "--models", model]
    environment = {**os.environ, "VIDMOD_CACHE": str(cache)}
    return subprocess.Popen([*command, "--sampling", "all", "--quiet", *more], env=environment)


def journaled(cache: Path) -> int:
    """Bytes in journals."""
    return sum(path.stat().st_size for path in (cache / "scans").glob("*") if path.suffix != ".json")


def document(path: Path) -> Any:
    found = json.loads(path.read_text("utf-8"))
    return {**found, "provenance": {**found["provenance"], "created": ""}}


@pytest.mark.parametrize("place", [0, 1], ids=["sound", "damaged"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_killed_and_gone_on_with(tmp_path: Path, films: list[Path], model: str, place: int, share: float) -> None:
    film, whole, resumed = films[place], tmp_path / "whole.json", tmp_path / "resumed.json"
    assert start(film, whole, model, tmp_path / "one").wait(_PATIENCE_SECONDS) in (0, 4)
    # How much a whole scan journals is not known, as it clears up behind itself: a line for every part.
    wanted = share * whole.stat().st_size / 4
    cache = tmp_path / "two"
    with start(film, resumed, model, cache) as running:
        end = time.monotonic() + _PATIENCE_SECONDS
        while journaled(cache) < wanted and running.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert not resumed.exists(), "it was over before it was killed"
    before = journaled(cache)
    assert before >= wanted
    began = time.monotonic()
    assert start(film, resumed, model, cache).wait(_PATIENCE_SECONDS) in (0, 4)
    assert time.monotonic() - began < _PATIENCE_SECONDS
    assert document(resumed) == document(whole)
    assert journaled(cache) == 0
