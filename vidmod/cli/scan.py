"""The commands that find what is in a video: `vidmod scan`, and `vidmod judge` without the video."""

from __future__ import annotations

import contextlib
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidmod.allocation import return_large_blocks
from vidmod.cli.options import (
    DONE,
    FLAGGED,
    UNSCANNED,
    Rate,
    json_log_option,
    judging_options,
    limit_options,
    model_options,
    names_option,
    policy_of,
    print_text,
    quiet_option,
    scan_settings,
    workers_option,
)
from vidmod.errors import NotVideoError, OutputError, SourceError, UsageError
from vidmod.reporting import JsonLogReport, Report, TerminalReport
from vidmod.timebase import parse_time

if TYPE_CHECKING:
    from vidmod.inputs import Input
    from vidmod.scanning import Scanner
    from vidmod.timeline import Timeline

_SUFFIX = ".timeline.json"


class _Time(click.ParamType[Fraction]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        return value if isinstance(value, Fraction) else parse_time(value)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@judging_options
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
@names_option
@model_options
@click.option("--start", type=_Time(), help="Look from here on (90.5 or 00:01:30.500).")
@click.option("--end", type=_Time(), help="Look up to here.")
@click.option("--stop-at", type=click.Choice(["review", "block"]), help="Stop as soon as this verdict is reached.")
@click.option("--decoder", default="auto", metavar="auto|cpu|cuda", help="Where pictures are decoded; auto: the CPU.")
@workers_option
@limit_options
@click.option("--fresh", is_flag=True, help="Scan again what was scanned before with the same models and sampling.")
@quiet_option
@json_log_option
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
    options = {**settings, "models": models, "weights": weights, "smoothing": smoothing}
    report = JsonLogReport() if json_log else TerminalReport(quiet=quiet)
    with Scanner(scan_settings(policy_path, options), notify=report.note) as scanner, contextlib.ExitStack() as stack:
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


@click.command()
@click.argument("timeline_path", metavar="TIMELINE", type=click.Path(path_type=Path))
@judging_options
@quiet_option
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
