"""The commands for reviewers and their tools: `vidmod report`, `vidmod export` and `vidmod import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vidmod.allocation import return_large_blocks
from vidmod.cli.options import (
    DONE,
    UNSCANNED,
    limit_options,
    limits_of,
    print_bytes,
    print_text,
    quiet_option,
    workers_option,
)
from vidmod.errors import TimelineError, UsageError
from vidmod.reporting import TerminalReport


@click.command()
@click.argument("timeline_path", metavar="TIMELINE", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write it here; - is standard output.  [default: NAME.report.html beside the timeline]",
)
@click.option("--video", type=click.Path(path_type=Path), help="The timeline's video: pictures of it, and a player.")
@click.option("--clear-thumbnails", is_flag=True, help="Pictures in colour and sharp, not grey and blurred.")
@click.option("--public", is_flag=True, help="For the person whose video it is: reasons and times.")
@click.option("--force", is_flag=True, help="Take a video that is not the timeline's; the page warns of it.")
@workers_option
@limit_options
@quiet_option
def report(
    timeline_path: Path,
    output: Path | None,
    video: Path | None,
    clear_thumbnails: bool,
    public: bool,
    force: bool,
    workers: int | None,
    quiet: bool,
    **limits: Any,
) -> None:
    """Make a page about a timeline, for a reviewer: one file that needs no network and opens from disk.

    TIMELINE is what `vidmod scan` wrote, or a reviewer left of it; - is standard input. Of a folder, every timeline in
    it and below gets a page, and index.html lists them, worst first; -o then names a folder or the index. One that
    cannot be read is told of there, and the exit status is 4.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"Invalid workers ({workers}). Use 1 or more.")
    return_large_blocks()
    settings = limits_of(limits)
    told = TerminalReport(quiet=quiet)
    if timeline_path.is_dir():
        if video is not None or clear_thumbnails:
            raise UsageError(f"{timeline_path}: is a folder, and --video goes with one timeline. Name that.")
        sys.exit(_report_folder(timeline_path, output, told, public=public, quiet=quiet))
    from vidmod.pages.report import check_output
    from vidmod.pages.report import report as report_timeline
    from vidmod.timeline import Timeline

    path = _report_path(timeline_path, output)
    if path is not None:
        check_output(path, {timeline_path: "the timeline"})
    timeline = Timeline.read(timeline_path)
    with told.job(timeline_path.name) as progress:
        page = report_timeline(
            timeline,
            path,
            video=video,
            clear_thumbnails=clear_thumbnails,
            public=public,
            force=force,
            limits=settings,
            workers=workers,
            progress=progress,
        )
    if path is None:
        print_text([page])
    else:
        _tell(f"{path}: {_count(len(timeline.segments), 'segment')}, {len(page.encode()) / 1e6:.2f} MB", quiet=quiet)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _report_path(timeline_path: Path, output: Path | None) -> Path | None:
    """Where a report goes; None for standard output.

    Raises:
        UsageError: Nobody has said where.
    """
    from vidmod.pages.folders import stem
    from vidmod.pages.report import SUFFIX

    if str(output) == "-":
        return None
    if str(timeline_path) == "-":
        if output is not None or not sys.stdout.isatty():
            return output
        raise UsageError("A report is not for a terminal. Name a file with -o.")
    name = stem(timeline_path.name) + SUFFIX
    if output is None:
        return timeline_path.with_name(name)
    return output / name if output.is_dir() else output


def _tell(message: str, *, quiet: bool) -> None:
    """Say something on stderr, in one line however long it is."""
    if not quiet:
        click.echo(message, err=True)


def _report_folder(folder: Path, output: Path | None, told: TerminalReport, *, public: bool, quiet: bool) -> int:
    from vidmod.pages.folders import report_folder

    if str(output) == "-":
        raise UsageError("-: pages about a folder cannot go to standard output. Name a folder.")
    with told.job(folder.name or str(folder)) as progress:
        done = report_folder(folder, output, public=public, progress=progress)
    for row in done.problems:
        told.error(row.path, TimelineError(f"{folder / row.path}: {row.problem}"))
    _tell(f"{done.index}: {_count(len(done.rows), 'timeline')}", quiet=quiet)
    return UNSCANNED if done.problems else DONE


@click.command()
@click.argument("timeline_path", metavar="TIMELINE", type=click.Path(path_type=Path))
@click.option("--to", metavar="FORMAT", required=True, help="See the list below.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write it here; - is standard output, as without."
)
@quiet_option
def export(timeline_path: Path, to: str, output: Path | None, quiet: bool) -> None:
    """Write a timeline in another tool's format.

    TIMELINE is what `vidmod scan` wrote, or a reviewer left of it; - is standard input.
    """
    from vidmod.exports import FORMATS
    from vidmod.exports import export as export_timeline
    from vidmod.timeline import Timeline

    timeline = Timeline.read(timeline_path)
    data = export_timeline(timeline, to)
    if not quiet and timeline.status != "complete" and not FORMATS[to].tells_unknown:
        click.echo(
            f"{timeline_path}: is {timeline.status}, and {to} has no place for what was not looked at: "
            "what it does not mention is not known to be clean.",
            err=True,
        )
    if output is not None and str(output) != "-":
        from vidmod.outputs import write_whole

        write_whole(output, [data])
    elif FORMATS[to].is_binary and sys.stdout.isatty():
        raise UsageError(f"{to} is not for a terminal. Name a file with -o.")
    else:
        print_bytes(data)


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--timeline",
    "timeline_path",
    required=True,
    type=click.Path(path_type=Path),
    help="That was exported; what a scan found in it stays untouched.",
)
@click.option("--from", "source", metavar="cvat|labelstudio", help="What FILE is, if not to be told from its content.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the timeline here; - is standard output, as without."
)
@click.option("--reviewer", metavar="NAME", help="Who decided.  [default: whom FILE names]")
@click.option("--note", default="", metavar="TEXT", help="What to say about it all.")
@click.option("--force", is_flag=True, help="Take it though it says that it belongs to something else, or nothing.")
@quiet_option
def import_(
    path: Path,
    timeline_path: Path,
    source: str | None,
    output: Path | None,
    reviewer: str | None,
    note: str,
    force: bool,
    quiet: bool,
) -> None:
    """Take back what a person did in CVAT or Label Studio, as a reviewed timeline.

    FILE is what the tool exports of a task that `vidmod export` made: CVAT for video 1.1, or Label Studio's JSON. What
    was deleted is rejected, what was moved is changed, what is new is added; `vidmod redact --timeline` takes the
    result.
    """
    from vidmod.imports import import_review, read_file, summary
    from vidmod.timeline import Timeline

    if str(path) == str(timeline_path) == "-":
        raise UsageError("-: FILE and the timeline cannot both come from standard input. Name one of them.")
    if output is not None and output.exists() and path.exists() and output.samefile(path):
        raise UsageError(f"{output}: is the file to import. Name another one for the timeline.")
    before = Timeline.read(timeline_path)
    after = import_review(
        read_file(path), before, origin=str(path), source=source, reviewer=reviewer, note=note, force=force
    )
    if output is not None and str(output) != "-":
        after.write(output)
    else:
        print_text(after.dumps())
    if not quiet:
        click.echo(summary(after), err=True)


def _list_formats() -> str:
    from vidmod.exports import FORMATS

    return "\b\nFormats:\n" + "\n".join(f"  {name:<26} {row.says}" for name, row in FORMATS.items())


export.epilog = _list_formats()
