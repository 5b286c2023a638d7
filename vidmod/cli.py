"""The command line: parse, one library call, print.

A person reads stderr; a program reads stdout or the file named by `-o`. Imports that take time
are made where they are needed, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from vidmod._version import __version__
from vidmod.allocation import return_large_blocks
from vidmod.cli_engines import engines
from vidmod.cli_live import live, live_control
from vidmod.errors import (
    NotVideoError,
    OutputError,
    SourceError,
    TimelineError,
    UsageError,
    VidmodError,
)
from vidmod.options import (
    Command,
    Rate,
    forget_stdout,
    model_options,
    policy_of,
    print_bytes,
    print_text,
    weights_of,
)
from vidmod.reporting import JsonLogReport, Report, TerminalReport
from vidmod.timebase import parse_time

if TYPE_CHECKING:
    from vidmod.containment import Limits
    from vidmod.inputs import Input
    from vidmod.scanning import Scanner
    from vidmod.settings import ScanSettings
    from vidmod.timeline import Timeline

DONE, INTERNAL, USAGE, FLAGGED, UNSCANNED, INTERRUPTED = 0, 1, 2, 3, 4, 130
_SUFFIX = ".timeline.json"


class _Time(click.ParamType[Fraction]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        return value if isinstance(value, Fraction) else parse_time(value)


def _judging_options(command: Command) -> Command:
    for option in (
        click.option("--fail-on", type=click.Choice(["review", "block"]), help="Exit with 3 from this verdict on."),
        click.option(
            "--smoothing",
            type=click.Choice(["hmm", "ema", "median", "none"]),
            help="How scores become segments, if not as the policy says.",
        ),
        click.option("--policy", "policy_path", type=click.Path(path_type=Path), help="What to look for (TOML)."),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), help="Write the timeline here; - is standard output."
        ),
    ):
        command = option(command)
    return command


def _limit_options(command: Command) -> Command:
    for option in (
        click.option("--max-packets", type=int, metavar="N", help="Packets of one stream.  [default: 10000000]"),
        click.option("--max-streams", type=int, metavar="N", help="Streams of one input.  [default: 200]"),
        click.option("--max-pixels", type=int, metavar="N", help="Pixels of one picture.  [default: 268435456]"),
        click.option("--file-timeout", type=float, metavar="SECONDS", help="Time for one input.  [default: 21600]"),
        click.option(
            "--chunk-timeout", type=float, metavar="SECONDS", help="Time for a worker to get on.  [default: 60]"
        ),
        click.option(
            "--worker-memory", type=int, metavar="MIB", help="Memory for a process that reads.  [default: 2048]"
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vidmod")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Find what is in a video, when, where and how sure.

    Exit status: 0 done; 1 internal error; 2 wrong usage; 3 the verdict is at or above --fail-on;
    4 an input could not be scanned, or only partly; 130 interrupted.
    """


@cli.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@_judging_options
@click.option(
    "--sampling",
    default="uniform",
    show_default=True,
    metavar="uniform|adaptive|keyframes|all",
    help="Which frames are looked at.",
)
@click.option("--fps", type=Rate(), default="2", show_default=True, help="Samples per second, for uniform.")
@click.option(
    "--max-gap",
    type=Rate(),
    metavar="SECONDS",
    help="Leave no more than this unseen between samples.  [default: 1/fps; 2 for adaptive and keyframes]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For what adaptive looks at by chance.")
@click.option("--models", default="open_nsfw,nudenet", show_default=True, help="Names, or paths of manifests (TOML).")
@model_options
@click.option("--start", type=_Time(), help="Look from here on (90.5 or 00:01:30.500).")
@click.option("--end", type=_Time(), help="Look up to here.")
@click.option("--stop-at", type=click.Choice(["review", "block"]), help="Stop as soon as this verdict is reached.")
@click.option("--decoder", default="auto", metavar="auto|cpu|cuda", help="Where pictures are decoded; auto: the CPU.")
@click.option("--workers", type=int, metavar="N", help="Processes that read and decode.  [default: one a core]")
@_limit_options
@click.option("--fresh", is_flag=True, help="Scan again what was scanned before with the same models and sampling.")
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--json-log", is_flag=True, help="One JSON object per line on stderr instead of text.")
def scan(
    inputs: tuple[Path, ...],
    output: Path | None,
    policy_path: Path | None,
    smoothing: str | None,
    fail_on: str | None,
    models: str,
    weights: tuple[str, ...],
    quiet: bool,
    json_log: bool,
    **settings: Any,
) -> None:
    """Look at videos, images and folders of them, and write what is in them as timelines.

    INPUT is a file, a folder (searched through, by content) or - for standard input. Several are
    scanned side by side, and reported as they end. With several inputs -o names a folder, and gets
    a timeline each; without -o they are written to standard output, one a line, unless that is a
    terminal.
    """
    from vidmod.scanning import Scanner

    return_large_blocks()
    scan_settings = _scan_settings(
        policy_path, {**settings, "models": models, "weights": weights, "smoothing": smoothing}
    )
    report = JsonLogReport() if json_log else TerminalReport(quiet=quiet)
    with Scanner(scan_settings, notify=report.note) as scanner, contextlib.ExitStack() as stack:
        found, failures = _found(inputs, stack, report)
        several = len(found) > 1 or any(path.is_dir() for path in inputs)
        batch = _Batch(scanner, report, _Results(output, found, several=several), fail_on)
        batch.rows += [(name, "failed", "", 0) for name in failures]
        with report:
            statuses = [UNSCANNED] * len(failures) + batch.scan(found)
        for named in inputs:
            if named.is_dir() and not any(item.path.is_relative_to(named) for item in batch.scanned):
                report.error(str(named), NotVideoError(f"{named}: there is no video in this folder."))
                statuses.append(UNSCANNED)
        if len(batch.rows) > 1:
            report.batch(batch.rows)
    sys.exit(max(statuses))


def _found(inputs: tuple[Path, ...], stack: contextlib.ExitStack, report: Report) -> tuple[list[Input], list[str]]:
    """The files to scan, and the names of what there was nothing to find at."""
    from vidmod.inputs import Input, expand, spooled_stdin

    found: list[Input] = []
    failures: list[str] = []
    for named in inputs:
        if str(named) == "-":
            found.append(Input(stack.enter_context(spooled_stdin()), Path("stdin")))
            continue
        try:
            found += expand(named)
        except SourceError as exc:
            failures.append(str(named))
            report.error(str(named), exc)
    return found, failures


class _Results:
    """Where timelines go: a file, a folder, standard output, or nowhere."""

    def __init__(self, output: Path | None, inputs: list[Input], *, several: bool) -> None:
        from vidmod.inputs import output_names

        self._to_stdout = str(output) == "-" or (output is None and not sys.stdout.isatty())
        self._several = several
        self._folder = None if output is None or self._to_stdout or not (several or output.is_dir()) else output
        self._file = None if self._to_stdout or self._folder is not None else output
        self._names = output_names(inputs, _SUFFIX)
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise UsageError(f"{output}: is a file. With several inputs -o names a folder.")
        for path in (self._file, self._folder):
            if path is not None and not path.parent.is_dir():
                raise UsageError(f"{path}: there is no folder {path.parent}. Make it first.")

    def write(self, item: Input, timeline: Timeline) -> None:
        """Write one timeline."""
        if self._to_stdout:
            print_text(timeline.dumps(compact=self._several))
        elif self._folder is not None:
            path = self._folder / self._names[item.path]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise OutputError(f"{path.parent}: cannot be made ({exc.strerror}).") from exc
            timeline.write(path)
        elif self._file is not None:
            timeline.write(self._file)


class _Batch:
    """Scans inputs side by side; what one of them breaks does not stop the others."""

    def __init__(self, scanner: Scanner, report: Report, results: _Results, fail_on: str | None) -> None:
        self._scanner = scanner
        self._report = report
        self._results = results
        self._fail_on = fail_on
        self.scanned: list[Input] = []
        self.rows: list[tuple[str, str, str, int]] = []

    def scan(self, found: list[Input]) -> list[int]:
        """Scan and write all inputs; their exit statuses."""
        items = {item.path: item for item in found}
        unsure = frozenset(item.path for item in found if item.unsure)
        statuses = []
        results = self._scanner.scan_many(list(items), unsure=unsure, progress=self._report.progress)
        with contextlib.closing(results):
            for path, result in results:
                self._report.ended(path)
                if result is not None:
                    statuses.append(self._take(items[path], result))
        return statuses

    def _take(self, item: Input, result: Timeline | SourceError) -> int:
        self.scanned.append(item)
        try:
            if isinstance(result, SourceError):
                raise result
            self._report.finished(result, str(item.path))
            self._results.write(item, result)
        except (SourceError, OutputError) as exc:
            self._report.error(str(item.path), exc)
            self.rows.append((str(item.name), "failed", "", 0))
            return exc.exit_status
        self.rows.append((str(item.name), result.status, result.verdict, len(result.segments)))
        return _exit_status(result, self._fail_on)


def _exit_status(timeline: Timeline, fail_on: str | None) -> int:
    """3 if what was found is enough for --fail-on; else 4 if the account is not complete."""
    from vidmod.policy import VERDICTS, worst

    found = worst([segment.verdict for segment in timeline.segments])
    if fail_on is not None and VERDICTS.index(found) >= VERDICTS.index(fail_on):
        return FLAGGED
    return DONE if timeline.status == "complete" else UNSCANNED


@cli.command()
@click.argument("timeline_path", metavar="TIMELINE", type=click.Path(path_type=Path))
@_judging_options
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
def judge(
    timeline_path: Path,
    output: Path | None,
    policy_path: Path | None,
    smoothing: str | None,
    fail_on: str | None,
    quiet: bool,
) -> None:
    """Judge a stored timeline by another policy, without the video.

    TIMELINE is what `vidmod scan` wrote; - is standard input.
    """
    from vidmod.judging import judge as judge_timeline
    from vidmod.timeline import Timeline

    timeline = judge_timeline(Timeline.read(timeline_path), policy_of(policy_path), smoothing)
    to_stdout = str(output) == "-" or (output is None and not sys.stdout.isatty())
    if to_stdout:
        print_text(timeline.dumps())
    elif output is not None:
        timeline.write(output)
    if not quiet and sys.stderr.isatty():
        from vidmod import terminal

        terminal.console().print(terminal.summary(timeline))
    sys.exit(_exit_status(timeline, fail_on))


@cli.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--timeline", "timeline_path", type=click.Path(path_type=Path), help="What a scan found, or a reviewer left of it."
)
@click.option("--policy", "policy_path", type=click.Path(path_type=Path), help="What to look for (TOML).")
@click.option("--labels", default="", metavar="A,B", help="Cover these instead, such as FACE_FEMALE,FACE_MALE.")
@click.option(
    "--style",
    type=click.Choice(["fill", "mosaic", "blur"]),
    default="fill",
    show_default=True,
    help="Only fill cannot be undone.",
)
@click.option(
    "--shape", type=click.Choice(["box", "ellipse"]), default="box", show_default=True, help="Of what is covered."
)
@click.option(
    "--margin", type=float, default=0.2, show_default=True, help="How much wider and higher than what was found."
)
@click.option(
    "--segments",
    type=click.Choice(["boxes", "slate", "cut"]),
    default="boxes",
    show_default=True,
    help="Cover what was found, or the whole picture all the while, or cut that while out, with its sound.",
)
@click.option(
    "--audio",
    type=click.Choice(["keep", "mute"]),
    default="keep",
    show_default=True,
    help="Whether sound is silenced while anything is covered.",
)
@click.option(
    "--keep",
    default="",
    metavar="A,B",
    help="Of subtitles, chapters, metadata, data, attachments.  [default: none is kept]",
)
@click.option("--crf", type=int, help="Quality of what is encoded; lower is better.  [default: fits the codec]")
@click.option("--preset", help="Speed of the encoder, in x264's words.  [default: veryfast]")
@click.option("--full-reencode", is_flag=True, help="Encode every picture, not only groups that have changed.")
@click.option("--encoder", default="auto", metavar="auto|cpu|nvenc", help="For a full re-encoding; auto: the CPU.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Decode the output and look at it again.")
@click.option(
    "--sampling",
    default="uniform",
    show_default=True,
    metavar="uniform|adaptive|keyframes|all",
    help="Which frames are looked at first, without a timeline; all misses nothing that is short.",
)
@click.option("--fps", type=Rate(), default="2", show_default=True, help="Samples per second, for uniform.")
@click.option("--models", default="open_nsfw,nudenet", show_default=True, help="Names, or paths of manifests (TOML).")
@model_options
@click.option("--workers", type=int, metavar="N", help="Processes that read and decode.  [default: one a core]")
@_limit_options
@click.option("--fresh", is_flag=True, help="Scan it again, even if that was done before.")
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--json-log", is_flag=True, help="One JSON object per line on stderr instead of text.")
def redact(
    source: Path,
    output: Path,
    timeline_path: Path | None,
    policy_path: Path | None,
    labels: str,
    style: str,
    shape: str,
    margin: float,
    segments: str,
    audio: str,
    keep: str,
    crf: int | None,
    preset: str | None,
    full_reencode: bool,
    encoder: str,
    verify: bool,
    quiet: bool,
    json_log: bool,
    **scanning: Any,
) -> None:
    """Write INPUT to OUTPUT with all that is to be covered covered, and the rest as it was.

    INPUT is a file, or - for standard input. Without --timeline, it is scanned first. OUTPUT is written aside,
    verified, and only then given its name; OUTPUT.redaction.json says what was done.
    """
    from vidmod.inputs import spooled_stdin
    from vidmod.redacting.job import Redactor
    from vidmod.redacting.settings import RedactSettings
    from vidmod.timeline import Timeline

    return_large_blocks()
    settings = RedactSettings(
        scan=_scan_settings(policy_path, scanning),
        labels=tuple(label for label in labels.split(",") if label),
        style=style,
        shape=shape,
        margin=margin,
        segments=segments,
        audio=audio,
        keep=tuple(name for name in keep.split(",") if name),
        crf=crf,
        preset=preset,
        full_reencode=full_reencode,
        encoder=encoder,
        verify=verify,
    )
    if str(output) == "-":
        raise UsageError("-: a redacted video cannot go to standard output, since it is verified first. Name a file.")
    timeline = None if timeline_path is None else Timeline.read(timeline_path)
    if timeline_path is not None and output.exists() and output.samefile(timeline_path):
        raise UsageError(f"{output}: is the timeline. Name another file for the video.")
    report = JsonLogReport() if json_log else TerminalReport(quiet=quiet)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(spooled_stdin()) if str(source) == "-" else source
        redactor = stack.enter_context(Redactor(settings, notify=report.note))
        with report.job(path.name) as progress:
            done = redactor.redact(path, output, timeline=timeline, progress=progress)
    report.redacted(done, output)


@cli.command()
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
@click.option("--workers", type=int, metavar="N", help="Processes that read and decode.  [default: one a core]")
@_limit_options
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
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
    settings = _limits_of(limits)
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


@cli.command()
@click.argument("timeline_path", metavar="TIMELINE", type=click.Path(path_type=Path))
@click.option("--to", metavar="FORMAT", required=True, help="See the list below.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write it here; - is standard output, as without."
)
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
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


@cli.command("import")
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
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
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


cli.add_command(engines)
cli.add_command(live)
cli.add_command(live_control)


@cli.group()
def models() -> None:
    """The models: where they are, pull their weights, check them."""


@models.command("list")
def models_list() -> None:
    """Show the models that ship with vidmod, and where their weights are."""
    from rich.console import Console

    from vidmod import inventory

    Console(highlight=False).print(inventory.models_table())


@models.command("pull")
@click.argument("names", nargs=-1)
def models_pull(names: tuple[str, ...]) -> None:
    """Download weights into the cache; all models without a name."""
    from vidmod.models import find, shipped
    from vidmod.models.weights import pull

    for name in names or tuple(shipped()):
        weights = pull(find(name), click.echo)
        click.echo(f"{name}: {weights.path}")


@models.command("check")
@click.argument("names", nargs=-1)
@click.option("--weights", multiple=True, metavar="NAME=PATH", help="Use this file as a model's weights.")
def models_check(names: tuple[str, ...], weights: tuple[str, ...]) -> None:
    """Run golden inputs through every installed runtime, and refuse drift."""
    from vidmod.models import find, shipped
    from vidmod.models.check import check

    overrides = weights_of(weights)
    drifted = False
    for name in names or tuple(shipped()):
        for row in check(find(name), overrides, click.echo):
            drifted |= not row.passed
            click.echo(f"{'ok   ' if row.passed else 'DRIFT'} {row.describe()}")
    if drifted:
        raise VidmodError("A runtime does not give the golden outputs. Do not scan with it; choose another --runtime.")


@cli.command()
def doctor() -> None:
    """Show versions, runtimes, devices, CPU features, codecs and caches."""
    from rich.console import Console

    from vidmod import inventory

    Console(highlight=False).print(inventory.doctor_table())


def _scan_settings(policy_path: Path | None, options: dict[str, Any]) -> ScanSettings:
    """The settings of a scan from the command line's options, by their names there."""
    from vidmod.models.weights import cache_folder
    from vidmod.scanning import ScanSettings

    limits = _limits_of(options)
    return ScanSettings(
        models=tuple(name for name in options.pop("models").split(",") if name),
        policy=policy_of(policy_path),
        weights=weights_of(options.pop("weights")),
        limits=limits,
        store=cache_folder() / "scans",
        **options,
    )


def _limits_of(options: dict[str, Any]) -> Limits:
    """The limits from the options of `_limit_options`, which are taken out."""
    memory = options.pop("worker_memory")
    return _limits(
        memory_bytes=None if memory is None else memory << 20,
        chunk_seconds=options.pop("chunk_timeout"),
        file_seconds=options.pop("file_timeout"),
        **{name: options.pop(name) for name in ("max_pixels", "max_streams", "max_packets")},
    )


def _limits(**values: float | None) -> Limits:
    from vidmod.containment import Limits

    return Limits(**{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]


class _Interrupted(BaseException):
    """Ctrl-C or SIGTERM, which is remembered: code that is just being imported may make another error of it.

    No KeyboardInterrupt: where compiled code has seen one, Python ends the process by SIGINT, without our status.
    """

    came = False


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _Interrupted.came = True
    raise _Interrupted


def main() -> None:
    """Run the command line and end the process with its exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Not where it is ignored, as for a command in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        cli(standalone_mode=False)
        status = DONE
    except (Exception, KeyboardInterrupt, _Interrupted) as exc:  # noqa: BLE001 # the last resort
        status = _told(exc)
    sys.exit(status)


def _told(exc: BaseException) -> int:
    """Say why it ended, and give the exit status. No traceback for users, but all of it with --debug."""
    if _Interrupted.came or isinstance(exc, KeyboardInterrupt | click.Abort):
        message = "Interrupted. Nothing half-written was left behind."
        # A terminal has shown ^C.
        _say(f"\n{message}", event="interrupted", message=message, exit_status=INTERRUPTED)
        return INTERRUPTED
    if isinstance(exc, click.exceptions.NoArgsIsHelpError) or (isinstance(exc, click.ClickException) and not _logs()):
        exc.show()
        return USAGE
    if isinstance(exc, BrokenPipeError):
        # The reader of our output has gone.
        forget_stdout()
        return INTERNAL
    if "--debug" in sys.argv[1:] and not isinstance(exc, click.ClickException):
        raise exc
    name, status, message = type(exc).__name__, INTERNAL, str(exc)
    if isinstance(exc, click.ClickException):
        name, status, message = "UsageError", USAGE, exc.format_message()
    elif isinstance(exc, VidmodError):
        status = exc.exit_status
    else:
        message = f"Internal error ({name}: {exc}). Run again with `vidmod --debug …` and report the traceback."
    text = message if message.startswith("Internal error") else f"Error: {message}"
    _say(text, event="error", error=name, message=message, exit_status=status)
    return status


def _logs() -> bool:
    return "--json-log" in sys.argv[1:]


def _say(text: str, **fields: Any) -> None:
    """Say a last thing on stderr: a line of text, or the `fields` as JSON where that was asked for."""
    with contextlib.suppress(OSError):
        if _logs():
            JsonLogReport().write(**fields)
        else:
            click.echo(text, err=True)
