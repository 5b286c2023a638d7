"""The report job: a timeline, and pictures of its video, in one page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from vidmod.containment import Limits
from vidmod.digest import Digest
from vidmod.errors import OutputError, SourceUnreadableError, TimelineError, UsageError
from vidmod.media import open_readable
from vidmod.outputs import Aside, is_special, write_whole
from vidmod.pages.addresses import address
from vidmod.pages.choosing import MOST_OF_A_SEGMENT, MOST_OF_ALL, Choice, choose
from vidmod.pages.page import report_html
from vidmod.pages.shots import Shot
from vidmod.pages.thumbnails import MEDIA_TYPE, Taker, Thumbnail, Wanted
from vidmod.timeline import Timeline

SUFFIX = ".report.html"

Progress = Callable[[str, float], None]


def report(
    timeline: Timeline,
    output: str | Path | None = None,
    *,
    video: str | Path | None = None,
    clear_thumbnails: bool = False,
    public: bool = False,
    force: bool = False,
    limits: Limits | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Make a page about a timeline, for a reviewer: one HTML file that needs no network and opens from disk.

    Args:
        timeline: What a scan found, or a reviewer left of it.
        output: Where to write the page; None to write nothing.
        video: The timeline's video, a local file: the page plays it from where it is, and holds small pictures of what
            was found. It is read by enclosed processes only. Without it there are no pictures.
        clear_thumbnails: The pictures are in colour and sharp; without it, grey and blurred beyond recovery. The page
            says so.
        public: The version for the person whose video it is: reasons and times, no thresholds or names of models, no
            pictures and no player.
        force: Take another file for the video than the one that the timeline is of; the page warns of it.
        limits: What reading the video may cost.
        workers: Processes that read it; None for one a core.
        progress: Told what is being done, and how far that is, from 0 to 1.

    Returns:
        The page.

    Raises:
        UsageError: The video is another one, or the output is the video.
        SourceError: The video cannot be read, or it changed meanwhile.
        OutputError: The page cannot be written.

    Example:
        >>> timeline = vidmod.scan("movie.mp4")
        >>> page = vidmod.report(timeline, "movie.report.html", video="movie.mp4")
    """
    path = None if output is None else Path(output)
    source = None if video is None else Path(video)
    if clear_thumbnails and (source is None or public):
        why = "There is no video to take them from." if source is None else "A public page has no pictures."
        raise UsageError(f"Invalid clear thumbnails. {why}")
    if path is not None:
        check_output(path, {} if source is None else {source: "the video"})
    footage = _Footage({}, ())
    if source is not None:
        asked = _Asked(clear_thumbnails, public, force, limits or Limits(), workers, progress or _silent)
        footage = _footage(timeline, source, asked)
    page = report_html(
        timeline,
        shots=footage.shots,
        video=None if source is None or public else address(source, None if path is None else path.parent),
        warnings=footage.warnings,
        public=public,
        now=datetime.now(UTC),
    )
    if path is not None:
        write_whole(path, [page])
    return page


def check_output(output: Path, inputs: Mapping[Path, str]) -> None:
    """Find out before work that takes long what would go wrong after it.

    Args:
        output: What is to be written.
        inputs: What must not be replaced, each with what it is.

    Raises:
        UsageError: It is one of the inputs.
        OutputError: It cannot be written.
    """
    if not output.parent.is_dir():
        raise OutputError(f"{output}: there is no folder {output.parent}. Make it first.")
    for path, what in inputs.items():
        with contextlib.suppress(OSError):
            if output.is_file() and output.samefile(path):
                raise UsageError(f"{output}: is {what}, and cannot be replaced. Name another file for the report.")
    if not is_special(output):
        with Aside(output):
            pass


@dataclass(frozen=True, slots=True)
class _Asked:
    """How pictures are to be taken; see :func:`report`."""

    clear: bool
    public: bool
    force: bool
    limits: Limits
    workers: int | None
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Footage:
    """What a video gives to a page.

    Attributes:
        shots: Segment id to its pictures; none where they could not be had. A segment for which none was to be made is
            not in it.
        warnings: What a reader has to know of them.
    """

    shots: Mapping[str, Sequence[Shot]]
    warnings: Sequence[str]


def _silent(_what: str, _share: float) -> None: ...


def _footage(timeline: Timeline, video: Path, asked: _Asked) -> _Footage:
    with _opened(video) as descriptor:
        asked.progress("comparing", 0.0)
        warnings = list(_told_apart(timeline, video, descriptor, force=asked.force))
        if asked.public:
            return _Footage({}, warnings)
        chosen = choose(timeline, each=MOST_OF_A_SEGMENT, most=MOST_OF_ALL)
        wanted = {segment: [_wanted(timeline, choice) for choice in row] for segment, row in chosen.items()}
        asked.progress("taking pictures", 0.0)
        taker = Taker(
            descriptor,
            # Without its folders: a page may leave the house.
            video.name if video.name.isprintable() else repr(video.name),
            asked.limits,
            workers=asked.workers,
            clear=asked.clear,
            progress=lambda share: asked.progress("taking pictures", share),
        )
        found = taker.take([row for rows in wanted.values() for row in rows])
    shots = {
        segment: [
            _shot(choice, found[row], clear=asked.clear)
            for choice, row in zip(chosen[segment], rows, strict=True)
            if row in found
        ]
        for segment, rows in wanted.items()
    }
    return _Footage(shots, [*warnings, *_missing(timeline, wanted, found, taker.troubles)])


@contextlib.contextmanager
def _opened(video: Path) -> Iterator[int]:
    """A descriptor of the video.

    Raises:
        SourceError: It cannot be read, or it was another file at the end.
    """
    descriptor = open_readable(video)
    try:
        before = os.fstat(descriptor)
        yield descriptor
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceUnreadableError(f"{video}: changed while it was read. Make the report again when it is whole.")
    finally:
        os.close(descriptor)


def _told_apart(timeline: Timeline, video: Path, descriptor: int, *, force: bool) -> Iterator[str]:
    """What to warn of if the video is another than the timeline's.

    Raises:
        UsageError: It is, and that was not asked for.
    """
    digest = Digest(video, descriptor)
    digest.start()
    try:
        found, expected = digest.hexdigest(), timeline.source["sha256"]
    finally:
        digest.close()
    if found == expected:
        return
    if not force:
        raise UsageError(
            f"{video}: is not the video that the timeline is of: its sha256 is {found}, and the timeline's {expected}. "
            "Name the right file, or use --force for a report that warns of it."
        )
    yield (
        f"This may be another video than the one that was looked at: its sha256 is {found}, and the timeline's "
        f"{expected}. Pictures and times need not belong together. Shown all the same, since --force was asked for."
    )


def _wanted(timeline: Timeline, choice: Choice) -> Wanted:
    rows = {(row.stream, row.kind): row for row in timeline.streams}
    stream = rows[choice.stream, choice.kind]
    text = stream.video["time_base"]
    try:
        base = Fraction(text)
        if base <= 0 or max(base.numerator, base.denominator) >= 1 << 31:
            raise ValueError("out of range")
    except (ValueError, ZeroDivisionError) as exc:
        raise TimelineError(f"video.time_base: {text[:40]!r} is no time base. Scan the video again.") from exc
    shown = rows.get((choice.stream, "video"))
    hidden = shown.ledger.get("hidden", 0) if choice.kind == "hidden" and shown is not None else 0
    return Wanted(choice.stream, choice.kind, choice.sample.pts, base, hidden)


def _shot(choice: Choice, found: Thumbnail, *, clear: bool) -> Shot:
    sample = choice.sample
    return Shot(sample.pts, sample.time_seconds, found.data, MEDIA_TYPE, found.width, found.height, clear)


def _missing(
    timeline: Timeline,
    wanted: Mapping[str, Sequence[Wanted]],
    found: Mapping[Wanted, Thumbnail],
    troubles: Sequence[str],
) -> Iterator[str]:
    """Which pictures are not there, and why."""
    lost = len({row for rows in wanted.values() for row in rows} - found.keys())
    if lost:
        why = f" ({'; '.join(troubles)})" if troubles else ""
        yield f"{lost} of the pictures to show could not be had from the video{why}."
    count = len(timeline.segments)
    if count > MOST_OF_ALL:
        yield (
            f"{count - MOST_OF_ALL} of {count} segments are shown without a picture: a page has at most {MOST_OF_ALL}, "
            "and the worst segments come first."
        )
