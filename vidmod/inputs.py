"""What the user named: files, folders, standard input."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vidmod.errors import OutputError, SourceNotFoundError

# A file of such a name that nothing can open is a broken video, not something else.
_VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".avi",
        ".avif",
        ".flv",
        ".gif",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    ]
)


# What file systems take, and room for what a name is written aside under.
_MAX_NAME_BYTES, _ROOM_BYTES = 255, 20


@dataclass(frozen=True, slots=True)
class Input:
    """One file to scan.

    Attributes:
        path: Where it is.
        name: What its timeline is named after: relative to the folder that was named, if one was.
        unsure: It may well be something else than a video.
    """

    path: Path
    name: Path
    unsure: bool = False


def expand(named: Path) -> Iterator[Input]:
    """The file itself, or every file in the folder and below, sorted.

    Files of a folder are `unsure` unless their name says that they are video: what they are shows
    when they are scanned. Links to folders are not followed.

    Raises:
        SourceNotFoundError: There is nothing at the path.
    """
    if not named.exists():
        raise SourceNotFoundError(f"{named}: there is no such file or folder. Check the path.")
    if not named.is_dir():
        yield Input(named, Path(named.name))
        return
    for folder, folders, files in os.walk(named):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file():
                yield Input(path, path.relative_to(named), unsure=path.suffix.lower() not in _VIDEO_SUFFIXES)


@contextmanager
def spooled_stdin() -> Iterator[Path]:
    """Standard input as a file, which seeking and a whitelist of protocols want.

    What is at the path is only a link to a file without a name, for this process: a kill leaves nothing of the video.

    Raises:
        OutputError: There is no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="vidmod-") as folder, tempfile.TemporaryFile(dir=folder) as file:
        path = Path(folder, "stdin")
        try:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
            file.flush()
            path.symlink_to(f"/proc/self/fd/{file.fileno()}")
        except OSError as exc:
            raise OutputError(f"{folder}: standard input cannot be kept there ({exc.strerror}). Set TMPDIR.") from exc
        yield path


def _shortened(name: str, limit: int) -> str:
    """A file name of so many bytes at most; what is cut off is stood for by its hash."""
    data = os.fsencode(name)
    if len(data) <= limit:
        return name
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{os.fsdecode(data[: limit - len(digest) - 1])}~{digest}"


def output_names(inputs: Sequence[Input], suffix: str) -> dict[Path, Path]:
    """Input path to a result's relative name; two inputs of one name get different ones."""
    taken: set[Path] = set()
    names: dict[Path, Path] = {}
    for item in inputs:
        stem = _shortened(item.name.name, _MAX_NAME_BYTES - len(suffix) - _ROOM_BYTES)
        name = item.name.with_name(stem + suffix)
        number = 2
        while name in taken:
            name = item.name.with_name(f"{stem}-{number}{suffix}")
            number += 1
        taken.add(name)
        names[item.path] = name
    return names
