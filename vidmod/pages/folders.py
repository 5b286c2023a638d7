"""The report job for a folder: a page for every timeline in it, and an index over them."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vidmod.errors import OutputError, TimelineError, UsageError
from vidmod.inputs import Input, output_names
from vidmod.outputs import write_whole
from vidmod.pages.addresses import address
from vidmod.pages.index import GENERATOR, Row, index_html
from vidmod.pages.report import SUFFIX, check_output, report
from vidmod.timeline import Timeline

INDEX = "index.html"
TIMELINE_SUFFIX = ".timeline.json"
_HTML_SUFFIXES = (".html", ".htm")
_HEAD_BYTES = 4096
# How a timeline begins that vidmod has written, and what any of them holds.
_BEGINNING = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"schema"\s*:\s*"vidmod\.timeline/')
_MARK = b"vidmod.timeline/"
_SCHEMA = "vidmod.timeline/"


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What was written.

    Attributes:
        index: Its index page.
        rows: One for each timeline, in the order of their paths.
    """

    index: Path
    rows: tuple[Row, ...]

    @property
    def problems(self) -> tuple[Row, ...]:
        """What could not be read."""
        return tuple(row for row in self.rows if row.problem)


def report_folder(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    public: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> FolderReport:
    """Make a page for every timeline in a folder and below, and an index over them.

    Timelines are read one after the other: memory does not grow with their number. One that cannot be read is a row of
    the index that says why.

    Args:
        folder: What to look through: files called `*.timeline.json`, and other `*.json` that say they are timelines.
        output: A folder for the pages, made if it is not there; or the index, an `.html`, with the pages beside it.
            None for pages beside their timelines, and `index.html` in the folder.
        public: As for :func:`vidmod.report`.
        progress: Told what is being done, and how far that is, from 0 to 1.

    Raises:
        UsageError: There is no timeline in it, or an output cannot be replaced.
        OutputError: A page cannot be written.
    """
    root = Path(folder)
    names, problems = _timelines(root)
    if not names and not problems:
        raise TimelineError(f"{root}: there is no timeline in this folder. Scan into it: vidmod scan VIDEO -o {root}")
    place, index = _places(root, None if output is None else Path(output))
    _make_folder(place)
    check_output(index, {root / name: "a timeline" for name in names})
    rows = list(problems)
    pages = output_names([Input(root / name, name.with_name(stem(name.name))) for name in names], SUFFIX)
    for number, name in enumerate(names):
        if progress is not None:
            progress("writing reports", number / len(names))
        rows.append(_row(root, name, place / pages[root / name], index, public=public))
    title = _text(root.resolve().name or str(root))
    write_whole(index, [index_html(rows, title, public=public, now=datetime.now(UTC))])
    return FolderReport(index, tuple(sorted(rows, key=lambda row: row.path)))


def _places(root: Path, output: Path | None) -> tuple[Path, Path]:
    """The folder for the pages, and the index.

    Raises:
        UsageError: They cannot be there.
    """
    if output is not None and output.suffix.lower() in _HTML_SUFFIXES and not output.is_dir():
        if not output.parent.is_dir():
            raise UsageError(f"{output}: there is no folder {output.parent}. Make it first.")
        return output.parent, output
    place = root if output is None else output
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place}: is a file. For a folder of timelines -o names a folder, or an .html for the index.")
    if not place.parent.is_dir():
        raise UsageError(f"{place}: there is no folder {place.parent}. Make it first.")
    index = place / INDEX
    # Nobody has named this file.
    if index.exists() and not _is_ours(index):
        raise UsageError(f"{index}: is there, and was not made by vidmod. Name another file for the index with -o.")
    return place, index


def _is_ours(index: Path) -> bool:
    try:
        with index.open("rb") as file:
            return GENERATOR.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _row(root: Path, name: Path, page: Path, index: Path, *, public: bool) -> Row:
    """Write one page; its row."""
    path = root / name
    try:
        timeline = Timeline.read(path)
        _make_folder(page.parent)
        check_output(page, {path: "the timeline"})
        report(timeline, page, public=public)
    except UsageError as exc:
        return Row(name=_text(name.name), path=_text(name), problem=_text(str(exc).removeprefix(f"{path}: ")))
    return Row.of(timeline, _text(name), address(page, index.parent))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be made ({exc.strerror}).") from exc


def stem(name: str) -> str:
    """What is left of the name of a timeline's file for that of its report."""
    for suffix in (TIMELINE_SUFFIX, ".json"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _timelines(root: Path) -> tuple[Sequence[Path], Sequence[Row]]:
    """The timelines in a folder and below, relative to it, in order; and a row for each folder that cannot be read."""
    problems: list[Row] = []

    def note(error: OSError) -> None:
        path = Path(error.filename)
        problem = f"this folder cannot be read ({error.strerror})."
        problems.append(Row(name=_text(path.name), path=_text(path.relative_to(root)), problem=problem))

    return list(_found(root, note)), problems


def _found(root: Path, note: Callable[[OSError], None]) -> Iterator[Path]:
    for folder, folders, files in os.walk(root, onerror=note):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if name.lower().endswith(TIMELINE_SUFFIX) or (name.lower().endswith(".json") and _says_so(path)):
                yield path.relative_to(root)


def _says_so(path: Path) -> bool:
    """Whether a JSON file says that it is a timeline, of whatever version."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            if _BEGINNING.match(file.read(_HEAD_BYTES)):
                return True
            if not file.seek(0, os.SEEK_END):
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(_MARK) < 0:
                    return False
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and str(document.get("schema", "")).startswith(_SCHEMA)


def _text(value: object) -> str:
    """Names of files as text that a page can hold."""
    return os.fsencode(str(value)).decode("utf-8", "replace")
