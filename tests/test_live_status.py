from __future__ import annotations

import json
import os
import pty
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidmod.live.telling.events import Note, Scribe
from vidmod.live.telling.state import COVER_REASONS, Backlog, Health, LiveState, Queue, health
from vidmod.live.telling.status import StatusLine, choose_style, columns_of, status_line
from vidmod.live.telling.writing import LineWriter


def running(**changes: Any) -> LiveState:
    values: dict[str, Any] = {
        "name": "stage",
        "phase": "running",
        "source_connected": True,
        "server_connected": True,
        "cover_reasons": (),
        "fps_in": 30.0,
        "fps_analysed": 8.23,
        "fps_out": 29.97,
        "delay_seconds": 1.0234,
        "analysis_age_seconds": 0.1,
        "covered_share": 0.031,
        "reconnects": {"source": 1},
    }
    return LiveState(**{**values, **changes})


class Lines:
    def __init__(self) -> None:
        self.data: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.data.append(data)

    def close(self) -> None: ...


class Clock:
    now = 1.0

    def __call__(self) -> float:
        return self.now


def test_a_line_of_status() -> None:
    line = status_line(running(), 100)
    assert line == "in 30.0 analysed 8.2 out 30.0 fps  delay 1.02 s  covered 3%  drops 0  reconnects 1+0"
    assert len(status_line(running())) <= 80


def test_all_of_it_fits_80_columns_in_trouble() -> None:
    line = status_line(
        running(
            cover_reasons=("analysis_lost",),
            server_connected=False,
            fps_in=60.0,
            fps_analysed=12.5,
            fps_out=60.0,
            covered_share=1.0,
            frames_dropped={"source": 12_345},
            reconnects={"source": 12, "server": 3},
        )
    )
    assert line == "NO SERVER COVER: no analysis 60.0/12.5/60.0 1.02s cov 100% drop 12k rec 12+3"
    assert len(line) < 80


@given(
    columns=st.integers(1, 200),
    reasons=st.sets(st.sampled_from(COVER_REASONS)),
    fps=st.floats(0, 1e9),
    delay=st.none() | st.floats(0, 1e9),
    share=st.floats(0, 1),
    counts=st.integers(0, 10**9),
    connected=st.booleans(),
    shadow=st.booleans(),
    phase=st.sampled_from(["starting", "running", "stopping"]),
)
def test_a_line_fits_whatever_happens(
    columns: int,
    reasons: set[str],
    fps: float,
    delay: float | None,
    share: float,
    counts: int,
    connected: bool,
    shadow: bool,
    phase: str,
) -> None:
    state = running(
        cover_reasons=tuple(reasons),
        fps_in=fps,
        delay_seconds=delay,
        covered_share=share,
        frames_dropped={"output": counts},
        reconnects={"server": counts},
        server_connected=connected,
        shadow=shadow,
        phase=phase,
    )
    line = status_line(state, columns)
    assert 0 < len(line) <= columns
    assert line.isascii()
    assert line.isprintable()
    if reasons and connected and columns >= 20:
        assert "COVER" in line


@pytest.mark.parametrize(
    ("share", "told"), [(0.0, "0%"), (0.0001, "<1%"), (0.5, "50%"), (0.9999, "99%"), (0.994, "99%"), (1.0, "100%")]
)
def test_a_share_is_neither_none_nor_all_unless_it_is(share: float, told: str) -> None:
    assert f"covered {told} " in status_line(running(covered_share=share), 200)


def shown(style: str, steps: int = 100, step_seconds: float = 0.25) -> bytes:
    lines, clock = Lines(), Clock()
    status = StatusLine(LineWriter(lines), style, Scribe("stage"), clock=clock)
    for _ in range(steps):
        status.update(running())
        clock.now += step_seconds
    status.event(Note(message="an event"))
    status.note("a note\x1b[2J")
    status.note("an error", error=True)
    status.close()
    return b"".join(lines.data)


def test_on_a_terminal_the_line_is_rewritten_and_notes_stand_above() -> None:
    text = shown("rewrite").decode()
    line = status_line(running(), 79)
    assert text.count("\r\x1b[K") == 52
    assert text.endswith(f"\r\x1b[K'a note\\x1b[2J'\n{line}\r\x1b[Kan error\n{line}\n")
    assert "an event" not in text


def test_elsewhere_a_line_comes_every_ten_seconds() -> None:
    lines = shown("lines").decode().splitlines()
    assert lines == [status_line(running())] * 3 + ["'a note\\x1b[2J'", "an error"]


def test_for_a_program_everything_is_json() -> None:
    rows = [json.loads(line) for line in shown("json").splitlines()]
    assert [row["event"] for row in rows] == ["status", "status", "status", "note"]
    assert rows[0]["state"]["fps_analysed"] == 8.23
    assert rows[0]["state"]["covered"] is False
    assert [row["sequence"] for row in rows] == [1, 2, 3, 4]


def test_quiet_says_nothing_but_errors() -> None:
    assert shown("quiet") == b"an error\n"


def test_the_style_is_what_was_asked_for_and_what_stderr_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    leader, terminal = pty.openpty()
    reading, writing = os.pipe()
    try:
        assert choose_style(quiet=False, json_log=False, descriptor=terminal) == "rewrite"
        assert choose_style(quiet=False, json_log=False, descriptor=writing) == "lines"
        assert choose_style(quiet=True, json_log=False, descriptor=terminal) == "quiet"
        assert choose_style(quiet=True, json_log=True, descriptor=terminal) == "json"
        assert columns_of(writing) == 80
        assert columns_of(terminal) == 80
        monkeypatch.setenv("TERM", "dumb")
        assert choose_style(quiet=False, json_log=False, descriptor=terminal) == "lines"
    finally:
        for descriptor in (leader, terminal, reading, writing):
            os.close(descriptor)


def test_the_line_is_as_wide_as_the_terminal_less_one() -> None:
    lines, clock = Lines(), Clock()
    status = StatusLine(LineWriter(lines), "rewrite", columns=lambda: 40, clock=clock)
    status.update(running())
    status.close()
    assert len(lines.data[0].removeprefix(b"\r\x1b[K")) <= 39


@pytest.mark.parametrize("style", ["json", "loud"])
def test_a_style_that_cannot_be_is_refused(style: str) -> None:
    writer = LineWriter(Lines())
    with pytest.raises(ValueError, match="Invalid style"):
        StatusLine(writer, style)
    writer.close()


def test_a_state_cannot_be_changed_from_outside() -> None:
    hits = {"explicit": 1}
    state = running(hits=hits)
    hits["explicit"] = 5
    assert state.hits["explicit"] == 1
    with pytest.raises(TypeError):
        state.hits["explicit"] = 2  # type: ignore[index]
    with pytest.raises(AttributeError):
        state.frames_in = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"frames_in": -1},
        {"delay_seconds": float("nan")},
        {"covered_share": 1.1},
        {"cover_reasons": ("mood",)},
        {"reconnects": {"moon": 1}},
        {"queues": {"frames": Queue(-1, 5)}},
        {"heartbeats": {"reader": float("inf")}},
    ],
)
def test_a_state_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Invalid {next(iter(changes))}"):
        running(**changes)


def test_a_state_is_json() -> None:
    state = running(queues={"frames": Queue(3, 8)}, webhooks=Backlog(dropped={"full": 2}))
    row = json.loads(json.dumps(state.as_json()))
    assert row["queues"] == {"frames": {"depth": 3, "capacity": 8}}
    assert row["webhooks"]["dropped"] == {"full": 2}
    assert row["delay_seconds"] == 1.0234


def test_a_healthy_filter_is_live_and_ready() -> None:
    assert health(running(), 0.1) == Health(True, True, ())


def test_a_covered_picture_is_no_failure_by_itself() -> None:
    assert health(running(cover_reasons=("hit", "not_analysed")), 0.1).ready


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"phase": "starting"}, "starting"),
        ({"phase": "stopping"}, "stopping"),
        ({"source_connected": False, "source_gone_seconds": 3.21}, "the source is not connected for 3.2 s"),
        ({"server_connected": False}, "the server is not connected"),
        ({"analysis_age_seconds": None}, "nothing was analysed yet"),
        ({"analysis_age_seconds": 4.0, "min_analysis_fps": 2.0}, "nothing was analysed for 4.0 s"),
        ({"heartbeats": {"publisher": 6.0, "reader": 0.1}}, "publisher has said nothing for 6.0 s"),
        ({"cover_reasons": ("emergency",)}, "covered: emergency"),
    ],
)
def test_what_is_wrong_is_why_a_filter_is_not_ready(changes: dict[str, Any], reason: str) -> None:
    found = health(running(**changes), 0.1)
    assert found == Health(True, False, (reason,))


def test_a_filter_whose_parent_hangs_is_not_live() -> None:
    assert health(running(), 10.5) == Health(False, False, ("the watching process has said nothing for 10.5 s",))
    assert health(None, 0.5) == Health(True, False, ("starting",))
    assert not health(None, 10.5).live
