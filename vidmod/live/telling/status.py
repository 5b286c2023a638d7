"""The one line of status: rewritten in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from vidmod.closing import Closing
from vidmod.live.telling.events import Event, Scribe
from vidmod.live.telling.state import LiveState
from vidmod.live.telling.writing import LineWriter

_COLUMNS = 80
# Back to the first column, and what was there is cleared to the end (ECMA-48: CR, EL).
_CLEAR = "\r\x1b[K"
_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 10.0
# The most serious first: only one is shown.
_REASONS = {
    "emergency": "EMERGENCY COVER",
    "error": "COVER: error",
    "source_lost": "COVER: no source",
    "analysis_lost": "COVER: no analysis",
    "starting": "COVER: starting",
    "source_changed": "COVER: new source",
    "overload": "COVER: overload",
    "hit": "COVER: hit",
    "not_analysed": "COVER: not analysed",
}


def status_line(state: LiveState, columns: int = _COLUMNS) -> str:
    """What a person wants to know, in ASCII.

    Why the picture is covered now comes first, being the most important; `reconnects` is of the source and of the
    server. Where there is no room words are shortened, and then the last ones left out.

    Args:
        state: How it is.
        columns: It may take at most, 1 or more.

    Example: `in 30.0 analysed 8.2 out 30.0 fps  delay 1.02 s  covered 3%  drops 0  reconnects 1+0`
    """
    rates = [_rate(fps) for fps in (state.fps_in, state.fps_analysed, state.fps_out)]
    delay = "-" if state.delay_seconds is None else f"{min(state.delay_seconds, 999.0):.2f}"
    share, drops = _share(state.covered_share), _count(state.dropped)
    back = "+".join(_count(state.reconnects.get(side, 0)) for side in ("source", "server"))
    alarms = ["NO SERVER"] if state.phase == "running" and not state.server_connected else []
    alarms += [text for reason, text in _REASONS.items() if reason in state.cover_reasons][:1]
    alarms += ["shadow"] if state.shadow else []
    alarms += ["stopping"] if state.phase == "stopping" else []
    forms = (
        ("in {} analysed {} out {} fps", "delay {} s", "covered {}", "drops {}", "reconnects {}"),
        ("in {} analysed {} out {} fps", "delay {} s", "cover {}", "drops {}", "rec {}"),
        ("{}/{}/{} fps", "{} s", "cov {}", "drop {}", "rec {}"),
        ("{}/{}/{}", "{}s", "cov {}", "drop {}", "rec {}"),
    )
    for form in forms:
        parts = [
            *alarms,
            form[0].format(*rates),
            form[1].format(delay),
            form[2].format(share),
            form[3].format(drops),
            form[4].format(back),
        ]
        for gap in ("  ", " "):
            if len(line := gap.join(parts)) <= columns:
                return line
    while len(parts) > 1 and len(" ".join(parts)) > columns:
        parts.pop()
    return " ".join(parts)[:columns]


class StatusLine(Closing):
    """Shows the state on stderr, one way or another. Never waits: a terminal may stand still (Ctrl-S).

    Args:
        writer: What goes to stderr; closed at the end, by this.
        style: `rewrite` for a terminal, `lines` for a line every 10 s, `json` for what a program reads, `quiet` for
            nothing but errors. See :func:`choose_style`.
        scribe: Makes the lines of `json`.
        columns: Of the terminal, asked every time.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        writer: LineWriter,
        style: str,
        scribe: Scribe | None = None,
        *,
        columns: Callable[[], int] = lambda: _COLUMNS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if style not in ("rewrite", "lines", "json", "quiet") or (style == "json" and scribe is None):
            raise ValueError(f"Invalid style ({style!r}). Use rewrite, lines, json with a scribe, or quiet.")
        self._writer = writer
        self._style = style
        self._scribe = scribe
        self._columns = columns
        self._clock = clock
        self._next = 0.0
        self._shown = ""

    def update(self, state: LiveState) -> None:
        """Take in how it is; shown as often as a person can read."""
        if self._style == "quiet" or self._clock() < self._next:
            return
        self._next = self._clock() + (_REFRESH_SECONDS if self._style == "rewrite" else _LINE_SECONDS)
        if self._style == "json":
            assert self._scribe is not None
            self._write(self._scribe.status(state))
        elif self._style == "lines":
            self._write(status_line(state).encode() + b"\n")
        else:
            # The last column stays free: some terminals begin a new line once it is filled.
            self._shown = status_line(state, max(1, self._columns() - 1))
            self._write(f"{_CLEAR}{self._shown}".encode())

    def event(self, event: Event) -> None:
        """Tell a program of an event; a person is told by :meth:`note`."""
        if self._style == "json":
            assert self._scribe is not None
            self._write(self._scribe.line(event))

    def note(self, text: str, *, error: bool = False) -> None:
        """Tell a person something, on a line of its own; errors also with `quiet`."""
        if self._style == "json" or (self._style == "quiet" and not error):
            return
        told = text if text.isprintable() else repr(text)
        clear = _CLEAR if self._style == "rewrite" else ""
        self._write(f"{clear}{told}\n{self._shown}".encode("utf-8", "replace"))

    def close(self) -> None:
        """Leave the last line standing, and end."""
        if self._shown:
            self._shown = ""
            self._write(b"\n")
        self._writer.close()

    def _write(self, data: bytes) -> None:
        self._writer.write(data)


def choose_style(*, quiet: bool, json_log: bool, descriptor: int = 2) -> str:
    """How a status is shown on a descriptor. `json_log` goes before `quiet`, which is for people."""
    if json_log:
        return "json"
    if quiet:
        return "quiet"
    return "rewrite" if os.isatty(descriptor) and os.environ.get("TERM", "dumb") != "dumb" else "lines"


def columns_of(descriptor: int = 2) -> int:
    """How wide a terminal is; 80 if it does not say."""
    try:
        return os.get_terminal_size(descriptor).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def _rate(fps: float) -> str:
    return f"{fps:.1f}" if fps < 99.95 else f"{min(fps, 9999.0):.0f}"


def _share(share: float) -> str:
    """Rounded so that neither none nor all is said of what is nearly so."""
    if 0 < share < 0.01:
        return "<1%"
    return "99%" if 0.99 < share < 1 else f"{share:.0%}"


def _count(count: int) -> str:
    for limit, divisor, unit in ((10_000, 1, ""), (10_000_000, 1000, "k")):
        if count < limit:
            return f"{count // divisor}{unit}"
    return f"{count // 1_000_000}M"
