"""What a person sees: the summary, the strip of scores over time, the progress bar. All on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vidmod.coverage import seconds_of
from vidmod.policy import Policy
from vidmod.redacting.result import Redaction
from vidmod.scanning import Progress as ScanProgress
from vidmod.timebase import format_time
from vidmod.timeline import Segment, Timeline

_STYLES = {"pass": "green", "review": "yellow", "block": "bold red"}
_BARS = "▁▂▃▄▅▆▇█"
_STRIP_COLUMNS = 60
_MAX_ROWS = 20
# Fewer pictures at random bound nothing that is worth a line; the timeline has them all the same.
_FEWEST_AUDITED = 5


def console(*, quiet: bool = False) -> Console:
    """The person's terminal."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=False)


def summary(timeline: Timeline) -> RenderableType:
    """Everything that a person wants to know first; fits 80 columns."""
    parts: list[RenderableType] = [_headline(timeline), Text(_looked_at(timeline), style="dim")]
    parts += [Text(f"  {line}", style="dim") for line in _audits(timeline)]
    if timeline.samples:
        parts.append(_strip(timeline))
    if timeline.segments:
        parts.append(_segment_table(timeline.segments))
    parts += [Text(f"  {note}", style="yellow" if timeline.status != "complete" else "dim") for note in timeline.notes]
    if timeline.provenance["models"]:
        parts.append(Text(_models_line(timeline), style="dim"))
    return Group(*parts)


def _headline(timeline: Timeline) -> Text:
    source = timeline.source
    text = Text()
    name = source["name"]
    # A file's name is a stranger's text: no escape sequence of it reaches the terminal.
    text.append(name if name.isprintable() else repr(name), style="bold")
    video = source["video"]
    if video is not None:
        turned = video["rotation"] in (-90, 90)
        width, height = (video["height"], video["width"]) if turned else (video["width"], video["height"])
        text.append(f"  {format_time(source['duration_seconds'])}  {width}x{height} {video['codec']}", style="dim")
    text.append("  ")
    if timeline.status != "complete":
        text.append(timeline.status.upper() + " ", style="bold magenta")
    text.append(timeline.verdict.upper(), style=_STYLES[timeline.verdict])
    return text


def _looked_at(timeline: Timeline) -> str:
    coverage = timeline.coverage
    whole = timeline.source["duration_seconds"]
    analysed = seconds_of(coverage, "analysed")
    gap = timeline.provenance["sampling"].get("max_gap_seconds")
    streams = f" in {len(timeline.streams)} streams" if len(timeline.streams) > 1 else ""
    parts = [f"  looked at {timeline.sample_count} pictures{streams}"]
    if gap:
        parts.append(f"none more than {gap:g} s apart")
    share = "all" if whole and abs(whole - analysed) < 1e-3 else f"{analysed:.1f} of"
    parts.append(f"{share} {whole:.1f} s accounted for")
    for state in ("unsampled", "undecodable"):
        seconds = seconds_of(coverage, state)
        if seconds:
            parts.append(f"{seconds:.1f} s {state}")
    return ", ".join(parts)


def _audits(timeline: Timeline) -> list[str]:
    """What adaptive sampling may have missed."""
    return [
        f"of the pictures in {row['unseen_seconds']:.0f} s that nothing spoke for, at most {row['upper_bound']:.1%} "
        f"may show something ({row['confidence']:.0%} sure, by {row['pictures']} pictures at random)"
        for row in timeline.provenance["sampling"].get("audits", [])
        if row["pictures"] >= _FEWEST_AUDITED
    ]


def _models_line(timeline: Timeline) -> str:
    models = timeline.provenance["models"]
    runs = {f"{row['runtime']} {row['precision']} on {row['device']}" for row in models}
    return f"  {', '.join(row['name'] for row in models)}: {', '.join(sorted(runs))}"


def _strip(timeline: Timeline) -> Table:
    """One row per category: the highest score of each slice of time."""
    policy = Policy.from_document(timeline.provenance["policy"], "timeline")
    start = timeline.source["start_seconds"]
    length = max(timeline.source["duration_seconds"], 1e-6)
    columns = min(_STRIP_COLUMNS, max(1, len(timeline.samples)))
    table = Table.grid(padding=(0, 1))
    for category in policy.categories:
        peaks: list[float | None] = [None] * columns
        for sample in timeline.samples:
            column = min(columns - 1, int((sample.time_seconds - start) / length * columns))
            score = category.best_label(sample.predictions)[1]
            peaks[column] = max(score, peaks[column] or 0.0)
        bars = Text()
        for peak in _held(peaks):
            bars.append(*_bar(peak, category.review, category.block))
        table.add_row(f"  {category.name}", bars)
    first, last = format_time(start), format_time(start + length)
    table.add_row("", Text(first + last.rjust(max(columns - len(first), len(last) + 2)), style="dim"))
    return table


def _held(peaks: Sequence[float | None]) -> Iterator[float]:
    """A slice without a sample shows the one before: nothing else was seen."""
    last = 0.0
    for peak in peaks:
        last = last if peak is None else peak
        yield last


def _bar(peak: float, review: float, block: float) -> tuple[str, str]:
    style = _STYLES["block" if peak >= block else "review" if peak >= review else "pass"]
    return _BARS[min(len(_BARS) - 1, int(peak * len(_BARS)))], style


def _segment_table(segments: Sequence[Segment]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim", expand=True)
    for name in ("  verdict", "category"):
        table.add_column(name, no_wrap=True)
    for name in ("start", "end", "peak"):
        table.add_column(name, justify="right", no_wrap=True)
    # The one column that gives way on a narrow terminal.
    table.add_column("labels", overflow="ellipsis", no_wrap=True, ratio=1)
    for segment in segments[:_MAX_ROWS]:
        where = "" if segment.stream is None else f" (stream {segment.stream}, {segment.kind})"
        table.add_row(
            Text(f"  {segment.verdict}", style=_STYLES[segment.verdict]),
            segment.category,
            format_time(segment.start_seconds),
            format_time(segment.end_seconds),
            f"{segment.peak:.2f}",
            ", ".join(f"{label} {score:.2f}" for label, score in segment.labels.items()) + where,
        )
    if len(segments) > _MAX_ROWS:
        table.add_row(f"  … and {len(segments) - _MAX_ROWS} more in the timeline", "", "", "", "", "")
    return table


def batch_table(rows: Sequence[tuple[str, str, str, int]]) -> Table:
    """Several inputs: name, status, verdict, segments."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("input", overflow="ellipsis", no_wrap=True)
    table.add_column("status")
    table.add_column("verdict")
    table.add_column("segments", justify="right")
    for name, status, verdict, count in rows:
        table.add_row(name, status, Text(verdict, style=_STYLES.get(verdict, "")), str(count))
    return table


def redaction(done: Redaction, output: str) -> RenderableType:
    """What was covered, how the file was written, what was left out and what was verified; fits 80 columns."""
    written = done.written
    head = Text()
    head.append(output if output.isprintable() else repr(output), style="bold")
    seconds = sum(span.length for span in done.spans)
    spans = "1 span" if len(done.spans) == 1 else f"{len(done.spans)} spans"
    what = f"{done.covered_pictures} pictures covered in {spans}, {seconds:.1f} s"
    if done.cuts:
        cuts = "1 cut" if len(done.cuts.spans) == 1 else f"{len(done.cuts.spans)} cuts"
        what = f"{written.cut_pictures} pictures removed in {cuts}, {float(done.cuts.length):.1f} s"
    head.append(f"  {what}", style="dim")
    how = f"  {written.encoded} pictures encoded again ({written.encoder}), {written.copied} packets copied"
    if written.full is not None:
        how = f"  every picture encoded again ({written.encoder}): {written.full}"
    nothing = f"  nothing to {'encode' if done.cuts else 'cover'}: every packet copied"
    lines = [head, Text(how if written.encoded else nothing, style="dim")]
    if done.settings.audio == "mute":
        silent = sum(span.length for span in done.muted)
        ways = ", ".join(f"stream {row.index} {row.way}" for row in written.muted) or "there is no sound"
        how = f"sound muted in {len(done.muted)} spans, {silent:.1f} s: {ways}"
        lines.append(Text(f"  {how if done.muted else 'nothing to mute: all sound copied'}", style="dim"))
    lines += [Text(f"  {note}", style="yellow") for note in written.notes]
    sampling = done.timeline.provenance["sampling"]
    if sampling.get("mode") != "all" and (gap := sampling.get("max_gap_seconds")):
        # Closer looks are taken around what a first one found.
        lines.append(Text(f"  found by pictures {gap:g} s apart; --sampling all looks at every one", style="dim"))
    lines += [Text(f"  verified: {check}", style="dim") for check in done.checks]
    if not done.checks:
        lines.append(Text("  not verified", style="yellow"))
    return Group(*lines)


class ProgressBar:
    """A bar for every input under way, with speed and time left, if stderr is a terminal."""

    def __init__(self, out: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[position]}  {task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            console=out,
            transient=True,
            disable=not out.is_terminal or out.quiet,
        )
        self._tasks: dict[Path, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, state: ScanProgress) -> None:
        """Take in how far the scan of an input is; at first, that it began."""
        if state.path not in self._tasks:
            label = state.name if len(state.name) <= 24 else f"…{state.name[-23:]}"
            self._tasks[state.path] = self._progress.add_task(label, total=None, position="opening", speed="")
        if state.samples:
            self._progress.update(
                self._tasks[state.path],
                total=state.duration_seconds,
                completed=state.position_seconds,
                position=format_time(state.position_seconds).partition(".")[0],
                speed=f"{state.speed:.1f}x",
            )

    def show(self, name: str, what: str, share: float) -> None:
        """Take in what is being done to a file, and how far that is, from 0 to 1."""
        path = Path(name)
        if path not in self._tasks:
            label = name if len(name) <= 24 else f"…{name[-23:]}"
            self._tasks[path] = self._progress.add_task(label, total=1.0, position=what, speed="")
        self._progress.update(self._tasks[path], completed=share, position=what)

    def finished(self, path: Path) -> None:
        """Show an input no more."""
        task = self._tasks.pop(path, None)
        if task is not None:
            self._progress.remove_task(task)
