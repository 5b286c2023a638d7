from __future__ import annotations

import base64
import json
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidmod.errors import OutputError
from vidmod.live.telling import events
from vidmod.live.telling.events import EVENTS, Hit, HitBegan, HitEnded, Note, Scribe, encode
from vidmod.live.telling.writing import DescriptorSink, EventLog, FileSink, LineWriter
from vidmod.urls import without_secrets

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
FIELDS = {
    "started": ["source", "server", "policy", "delay_seconds", "shadow", "vidmod", "process"],
    "stopped": [
        "reason",
        "exit_status",
        "uptime_seconds",
        "frames_in",
        "frames_analysed",
        "frames_out",
        "frames_covered",
        "frames_dropped",
    ],
    "source_connected": ["width", "height", "rate", "video_codec", "audio_codec"],
    "source_lost": ["reason"],
    "source_back": ["gone_seconds"],
    "source_changed": ["what", "before", "after"],
    "server_lost": ["reason"],
    "server_back": ["gone_seconds"],
    "overload": ["level", "action"],
    "cover_on": ["reason", "at_seconds"],
    "cover_off": ["reason", "at_seconds", "covered_seconds"],
    "hit_began": ["hit"],
    "hit_blocked": ["hit", "at_seconds"],
    "hit_ended": ["hit"],
    "process_restarted": ["process", "reason", "count"],
    "controlled": ["command", "seconds", "user", "process"],
    "events_lost": ["where", "reason", "count"],
    "note": ["message"],
}


def hit(number: int = 1, **changes: Any) -> Hit:
    values: dict[str, Any] = {
        "id": f"run1-{number}",
        "category": "explicit",
        "verdict": "block",
        "labels": {"FEMALE_BREAST_EXPOSED": 0.83},
        "start_seconds": 12.3456789,
        "peak": 0.83,
        "thumbnail": JPEG,
    }
    return Hit(**{**values, **changes})


class Collected:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.gate.wait()
        if self.broken:
            raise OSError(28, "No space left on device")
        self.lines.append(data)

    def close(self) -> None:
        self.closed = True


def test_the_events_and_their_fields_are_those_of_version_1() -> None:
    assert events.SCHEMA == "vidmod.event/1"
    assert {name: list(kind.__struct_fields__) for name, kind in EVENTS.items()} == FIELDS
    kinds = [value for value in vars(events).values() if isinstance(value, type) and issubclass(value, events.Event)]
    assert set(EVENTS.values()) == set(kinds) - {events.Event}


def test_a_line_of_the_log() -> None:
    scribe = Scribe("stage", wall_clock=lambda: 1_700_000_000.25)
    first, second = scribe.line(Note(message="Ünïcode\n")), scribe.line(HitBegan(hit=hit()))
    assert first.count(b"\n") == second.count(b"\n") == 1
    assert json.loads(first) == {
        "schema": "vidmod.event/1",
        "event": "note",
        "time": "2023-11-14T22:13:20.250000Z",
        "stream": "stage",
        "sequence": 1,
        "message": "Ünïcode\n",
    }
    row = json.loads(second)
    assert row["sequence"] == 2
    assert row["hit"] == {
        "id": "run1-1",
        "category": "explicit",
        "verdict": "block",
        "labels": {"FEMALE_BREAST_EXPOSED": 0.83},
        "start_seconds": 12.345679,
        "end_seconds": None,
        "peak": 0.83,
    }


def test_a_thumbnail_goes_where_it_is_asked_for() -> None:
    values = events.fields(HitBegan(hit=hit()), thumbnail=True)["hit"]["thumbnail"]
    assert values["media_type"] == "image/jpeg"
    assert base64.b64decode(values["base64"]) == JPEG
    assert hit(thumbnail=None).as_json(thumbnail=True)["thumbnail"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "a b"},
        {"id": "a\nVidmod-Event-Id: b"},
        {"id": "é"},
        {"id": "x" * 101},
        {"peak": 1.01},
        {"peak": float("nan")},
        {"labels": {"a": -0.1}},
        {"labels": {str(number): 0.5 for number in range(101)}},
        {"start_seconds": float("inf")},
        {"start_seconds": 3.0, "end_seconds": 2.9},
        {"end_seconds": float("nan")},
        {"thumbnail": b"GIF89a"},
        {"thumbnail": b"\xff\xd8\xff" + bytes(events.MAX_THUMBNAIL_BYTES)},
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_hit_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Invalid"):
        hit(**changes)


def test_an_event_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="end_seconds"):
        HitEnded(hit=hit())
    with pytest.raises(ValueError, match="Invalid reason"):
        events.CoverOn(reason="mood", at_seconds=None)
    with pytest.raises(ValueError, match="Invalid reason"):
        events.CoverOff(reason="mood", at_seconds=None, covered_seconds=1.0)


@given(text=st.text(alphabet=st.characters(codec=None), max_size=600), number=st.floats(allow_nan=False))
def test_whatever_a_stranger_says_is_one_line_of_json(text: str, number: float) -> None:
    line = encode({"text": text, "nested": {text: text}, "number": number})
    assert b"\n" not in line
    row = json.loads(line.decode("utf-8"))
    assert len(row["text"]) <= 501
    assert text.isascii() is False or len(text) > 500 or row["text"] == text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("rtmps://user:word@example.org/live/key?token=1", "rtmps://example.org/live/…"),
        ("rtmp://example.org:1935/live/key", "rtmp://example.org:1935/live/…"),
        ("rtmp://[::1]:1935/live/key", "rtmp://[::1]:1935/live/…"),
        ("https://example.org/?secret", "https://example.org/…"),
        ("https://example.org", "https://example.org"),
        ("https://hooks.example.org/services/T0/B0/word#x", "https://hooks.example.org/services/T0/B0/…"),
        ("udp://239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("rtmp://example.org:port/live/key", "rtmp://…"),
        ("http://[bad/key", "http://…"),
        ("/var/films/a.mp4", "/var/films/a.mp4"),
        ("file:///var/a.mp4", "file:///var/a.mp4"),
    ],
)
def test_what_is_told_of_a_url_has_no_secret(url: str, told: str) -> None:
    assert without_secrets(url) == told


def test_a_writer_keeps_the_order_and_ends_with_its_sink(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(Scribe("stage"), LineWriter(FileSink(path))) as log:
        for number in range(500):
            log.tell(Note(message=str(number)))
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["sequence"] for row in rows] == list(range(1, 501))
    assert [row["message"] for row in rows] == [str(number) for number in range(500)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_whoever_writes_never_waits_for_a_reader_that_stands_still() -> None:
    reading, writing = os.pipe()
    try:
        writer = LineWriter(DescriptorSink(writing), capacity=50)
        began = time.monotonic()
        taken = sum(writer.write(b"x" * 1000 + b"\n") for _ in range(2000))
        assert time.monotonic() - began < 2
        assert 50 <= taken < 500
        assert writer.lost == 2000 - taken
        began = time.monotonic()
        writer.close(0.1)
        assert time.monotonic() - began < 2
    finally:
        os.close(reading)
        # The thread's write fails now, and it ends.
        writer._thread.join(5)
        os.close(writing)
    assert not writer._thread.is_alive()


def test_lines_that_a_full_disk_lost_are_told_once_it_has_room() -> None:
    sink = Collected()
    writer = LineWriter(sink)
    log = EventLog(Scribe("stage"), writer)
    sink.broken = True
    for _ in range(3):
        log.tell(Note(message="lost"))
    assert writer.flush(5)
    assert log.lost == 3
    sink.broken = False
    log.tell(Note(message="after"))
    log.tell(Note(message="and after"))
    log.close()
    rows = [json.loads(line) for line in sink.lines]
    assert [(row["event"], row.get("count")) for row in rows] == [("events_lost", 3), ("note", None), ("note", None)]
    assert rows[0]["sequence"] == 4
    assert sink.closed


def test_a_full_file_is_turned_and_two_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = FileSink(path, max_bytes=1000)
    for number in range(100):
        sink.write(f"{number:099}\n".encode())
    sink.close()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    lines = (tmp_path / "events.jsonl.1").read_text().split() + path.read_text().split()
    assert [int(line) for line in lines] == list(range(80, 100))


def test_a_file_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for number in range(2):
        sink = FileSink(path)
        sink.write(b"%d\n" % number)
        sink.close()
    assert path.read_bytes() == b"0\n1\n"


def test_a_device_is_not_given_another_name() -> None:
    sink = FileSink(Path(os.devnull), max_bytes=10)
    for _ in range(5):
        sink.write(b"0123456789")
    sink.close()
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this machine")
def test_a_line_that_a_full_disk_refuses_is_counted() -> None:
    writer = LineWriter(FileSink(Path("/dev/full")))
    writer.write(b"x\n")
    assert writer.flush(5)
    assert writer.lost == 1
    writer.close()


def test_a_log_in_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "no" / "log"))):
        FileSink(tmp_path / "no" / "log")
