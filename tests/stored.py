"""What the tests of the store put into it: films, pieces of journals, damage."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

from tests.timelines import sample, stream, timeline
from vidmod.store import Store
from vidmod.timeline import Json, Timeline

SHA = "ab" * 32
OTHER_SHA = "cd" * 32
SIZE = 1000
SETTINGS = "12" * 32
OTHER_SETTINGS = "34" * 32
DAY = 86_400


def film(sha256: str = SHA, size: int = SIZE, length: int = 20) -> Timeline:
    """A scanned film; `length` is the number of its samples."""
    bare = timeline(stream([sample(t / 2, 0.9 if 4 < t < 9 else 0.01, ("FACE_FEMALE", 0.8)) for t in range(length)]))
    return dataclasses.replace(bare, source={**bare.source, "sha256": sha256, "size_bytes": size})


def piece(number: int) -> Json:
    return {"number": number, "scores": [number / 7, 0.25], "text": "ä\n" * (number % 5)}


def record(folder: Path, numbers: range) -> None:
    with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
        for number in numbers:
            journal.record(str(number), piece(number))


def recovered(folder: Path) -> Mapping[str, Json]:
    with Store(folder).journal(SHA, SIZE, SETTINGS) as journal:
        return journal.pieces


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir()) if folder.exists() else []


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def set_age(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """The content with one byte altered, cut short, or with a stretch missing."""
    position = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "hole"]))
    if kind == "cut":
        return content[:position]
    if kind == "hole":
        return content[:position] + content[position + data.draw(st.integers(1, 200)) :]
    return content[:position] + bytes([content[position] ^ data.draw(st.integers(1, 255))]) + content[position + 1 :]


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True, cwd=root
    )
