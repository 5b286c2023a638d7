"""What of a command line makes sense, and what is said of the rest."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vidmod.cli import cli
from vidmod.errors import UsageError
from vidmod.live.settings import LiveSettings

ENDS = {"source": "rtmp://in.example/live/key", "server": "rtmp://out.example/live/key"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": "gopher://x/y"}, r"Invalid source \(gopher://x/…\). Use a file, or a URL of rtmp"),
        ({"server": "rtsp://user:word@x/y"}, r"Invalid output \(rtsp://x/…\)"),
        ({"server": "film.avi"}, r"\.m3u8"),
        ({"server": ENDS["source"]}, "it is the source"),
        ({"name": "a b"}, "Invalid name"),
        ({"name": "a/b"}, "Use a name, not a path"),
        ({"models": ()}, "Name at least one"),
        ({"on_block": "explode"}, "slate, blur, end"),
        ({"preset": "warp"}, "ultrafast, superfast"),
        ({"delay_seconds": 0.1}, r"Invalid delay \(0.1\). Use 0.2 to 30."),
        ({"delay_seconds": float("nan")}, "Invalid delay"),
        ({"max_gap_seconds": 0.0}, "Invalid max-gap"),
        ({"max_gap_seconds": 1.0}, "It must be less than delay"),
        ({"min_analysis_fps": 2.0}, "use at least 2.5"),
        ({"hold_seconds": -1.0}, "Invalid hold"),
        ({"margin": 11.0}, "Invalid margin"),
        ({"timeout_seconds": 100.0}, "Invalid timeout"),
        ({"size": (1281, 720)}, "1281x720"),
        ({"size": (8, 8)}, "even numbers from 16"),
        ({"rate": Fraction(500)}, "Invalid fps"),
        ({"bits": 10}, "Invalid bitrate"),
        ({"seal": Path("x")}, "Give both"),
        ({"seal_to": ("age1x",)}, "Give both"),
        ({"webhooks": ("https://x/y",)}, "Give both"),
        ({"webhook_secret": "env:X"}, "Give both"),
        ({"webhook_spool": Path("x")}, "there is no --webhook"),
        ({"record_minutes": 0.0}, "Invalid record-minutes"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        LiveSettings(**{**ENDS, **changes})


def test_no_message_shows_a_stream_key() -> None:
    with pytest.raises(UsageError) as caught:
        LiveSettings(source="gopher://user:word@x/live/key?token=1", server=ENDS["server"])
    assert not any(secret in str(caught.value) for secret in ("word", "key", "token"))


def test_the_help_is_readable_and_complete() -> None:
    result = CliRunner().invoke(cli, ["live", "--help"], terminal_width=80)
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    titles = [line for line in lines if line and not line.startswith((" ", "Usage"))]
    assert titles == [
        "What is covered:",
        "Time:",
        "Both ends:",
        "Models:",
        "Recordings:",
        "Who is told:",
        "Other:",
    ]
    for option in cli.commands["live"].params:
        for name in option.opts:
            if name.startswith("--"):
                assert [line.split()[0] for line in lines if line.startswith("  -")].count(name) == 1, name


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--size", "big"), "1280x720"),
        (("--size", "1x"), "1280x720"),
        (("--bitrate", "fast"), "3M"),
        (("--bitrate", "3MM"), "3M"),
        (("--fps", "many"), "not a number"),
        (("--metrics", "everywhere"), "Use PORT or ADDRESS:PORT"),
        (("--policy", "/no/such/policy.toml"), "there is no such policy"),
        (("--weights", "nudenet"), "NAME=PATH"),
    ],
)
def test_a_command_line_says_what_it_wants(arguments: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(cli, ["live", ENDS["source"], ENDS["server"], *arguments])
    assert says in result.output + str(result.exception)
    assert result.exit_code != 0


def test_the_command_and_the_library_have_the_same_defaults() -> None:
    names = {
        "delay": "delay_seconds",
        "max_gap": "max_gap_seconds",
        "hold": "hold_seconds",
        "timeout": "timeout_seconds",
    }
    settings, compared = LiveSettings(source=ENDS["source"], server=ENDS["server"]), set()
    for option in cli.commands["live"].params:
        name = names.get(option.name or "", option.name or "")
        if isinstance(option.default, int | float | str) and isinstance(
            getattr(settings, name, None), int | float | str
        ):
            assert option.default == getattr(settings, name), name
            compared.add(name)
    assert {*names.values(), "min_analysis_fps", "margin", "on_block", "preset", "record_minutes", "name"} <= compared
