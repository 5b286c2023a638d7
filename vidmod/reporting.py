"""What is told while a job goes on: text for a person, or a JSON object a line for a program. On stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidmod.errors import VidmodError

if TYPE_CHECKING:
    from rich.console import Console

    from vidmod.redacting.result import Redaction
    from vidmod.scanning import Progress
    from vidmod.timeline import Timeline


class Report:
    """What is told while scanning goes on."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def note(self, message: str) -> None:
        """Something worth a line."""

    def progress(self, state: Progress) -> None:
        """How far an input is."""

    def ended(self, path: Path) -> None:
        """An input is no longer under way."""

    def finished(self, timeline: Timeline, path: str) -> None:
        """An input's timeline."""

    def error(self, path: str, exc: VidmodError) -> None:
        """An input that failed."""

    def batch(self, rows: list[tuple[str, str, str, int]]) -> None:
        """All inputs: name, status, verdict, segments."""

    @contextlib.contextmanager
    def job(self, name: str) -> Iterator[Callable[[str, float], None]]:
        """While something is done to one file: what tells what that is, and how far from 0 to 1."""
        yield lambda _what, _share: None

    def redacted(self, done: Redaction, output: Path) -> None:
        """What became of a file."""


class TerminalReport(Report):
    """Text for a person."""

    def __init__(self, *, quiet: bool) -> None:
        from vidmod import terminal

        self._terminal = terminal
        self._console: Console = terminal.console(quiet=quiet)
        self._errors: Console = terminal.console()
        self._bar = terminal.ProgressBar(self._console)

    def __enter__(self) -> None:
        self._bar.__enter__()

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__(None, None, None)

    def note(self, message: str) -> None:
        self._console.print(message, style="dim", markup=False)

    def progress(self, state: Progress) -> None:
        self._bar.update(state)

    def ended(self, path: Path) -> None:
        self._bar.finished(path)

    def finished(self, timeline: Timeline, path: str) -> None:
        if timeline.status == "unscannable":
            self._errors.print(f"Error: {timeline.notes[0]}", style="red", markup=False, soft_wrap=True)
        else:
            self._console.print(self._terminal.summary(timeline))

    def error(self, path: str, exc: VidmodError) -> None:
        self._errors.print(f"Error: {exc}", style="red", markup=False, soft_wrap=True)

    def batch(self, rows: list[tuple[str, str, str, int]]) -> None:
        self._console.print(self._terminal.batch_table(rows))

    @contextlib.contextmanager
    def job(self, name: str) -> Iterator[Callable[[str, float], None]]:
        with self._bar:
            yield lambda what, share: self._bar.show(name, what, share)

    def redacted(self, done: Redaction, output: Path) -> None:
        self._console.print(self._terminal.redaction(done, str(output)))


class JsonLogReport(Report):
    """One JSON object a line, for a program that watches."""

    def __init__(self) -> None:
        self._job = ""

    def write(self, event: str, **fields: Any) -> None:
        """Write one event."""
        sys.stderr.write(json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n")
        sys.stderr.flush()

    def note(self, message: str) -> None:
        self.write("note", message=message)

    def progress(self, state: Progress) -> None:
        if not state.samples:
            self.write("started", input=state.name)
            return
        self.write(
            "progress",
            input=state.name,
            position_seconds=round(state.position_seconds, 3),
            duration_seconds=state.duration_seconds,
            samples=state.samples,
            speed=round(state.speed, 2),
        )

    def finished(self, timeline: Timeline, path: str) -> None:
        self.write(
            "finished",
            input=path,
            status=timeline.status,
            verdict=timeline.verdict,
            segments=len(timeline.segments),
            samples=timeline.sample_count,
            notes=list(timeline.notes),
        )

    def error(self, path: str, exc: VidmodError) -> None:
        self.write("error", input=path, error=type(exc).__name__, message=str(exc), exit_status=exc.exit_status)

    @contextlib.contextmanager
    def job(self, name: str) -> Iterator[Callable[[str, float], None]]:
        self._job = name
        self.write("started", input=name)
        yield lambda what, share: self.write("progress", input=name, doing=what, share=round(share, 4))

    def redacted(self, done: Redaction, output: Path) -> None:
        written = done.written
        self.write(
            "finished",
            input=self._job,
            output=str(output),
            sha256=done.output["sha256"],
            size_bytes=done.output["size_bytes"],
            covered_pictures=done.covered_pictures,
            encoded_pictures=written.encoded,
            copied_packets=written.copied,
            fully_encoded_because=written.full,
            notes=list(written.notes),
            verified=list(done.checks),
        )
