"""The commands of live filters: `vidmod live`, and `vidmod live-control`, which steers one that runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from vidmod.cli.options import (
    Command,
    Rate,
    json_log_option,
    model_options,
    policy_of,
    print_text,
    quiet_option,
    weights_of,
)
from vidmod.errors import UsageError, choose

_UNITS = {"": 1, "k": 1000, "m": 1_000_000}
# Which options stand under which heading; the rest are the command's own.
_SECTIONS = {
    "What is covered": (
        "policy_path",
        "labels",
        "hold",
        "on_block",
        "margin",
        "shadow",
    ),
    "Time": ("delay", "max_gap", "min_analysis_fps"),
    "Both ends": ("wait", "timeout", "tls_ca", "tls_verify", "size", "fps", "bitrate", "preset"),
    "Models": ("models", "runtime", "device", "precision", "weights", "spares"),
    "Recordings": ("record", "record_minutes", "seal", "seal_to"),
    "Who is told": (
        "name",
        "events",
        "webhook",
        "webhook_secret",
        "webhook_spool",
        "metrics",
        "quiet",
        "json_log",
    ),
}


class _Sections(click.Command):
    """A command whose options are listed under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        records = {
            str(item.name): row
            for item in self.get_params(ctx)
            if isinstance(item, click.Option) and (row := item.get_help_record(ctx))
        }
        named = {name for names in _SECTIONS.values() for name in names}
        sections = {**_SECTIONS, "Other": tuple(name for name in records if name not in named)}
        for title, names in sections.items():
            if rows := [records[name] for name in names if name in records]:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=24)


class _Size(click.ParamType[tuple[int, int]]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        sides = str(value).lower().split("x")
        if len(sides) != 2 or not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
            self.fail(f"{value!r} is not WIDTHxHEIGHT, such as 1280x720.", param, ctx)
        return int(sides[0]), int(sides[1])


class _Bits(click.ParamType[int]):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).lower()
        digits = text.rstrip("km")
        try:
            return round(Fraction(digits) * _UNITS[text[len(digits) :]])
        except (ValueError, ZeroDivisionError, KeyError):
            self.fail(f"{value!r} is no number of bits a second, such as 3M or 800k.", param, ctx)


def _path(name: str, metavar: str, says: str) -> Callable[[Command], Command]:
    return click.option(name, type=click.Path(path_type=Path), metavar=metavar, help=says)


@click.command(cls=_Sections)
@click.argument("source", metavar="INPUT_URL")
@click.argument("server", metavar="OUTPUT_URL")
@click.option(
    "--policy", "policy_path", type=click.Path(path_type=Path), metavar="FILE", help="What to look for (TOML)."
)
@click.option("--labels", default="", metavar="A,B", help="Cover these instead, such as FACE_FEMALE,FACE_MALE.")
@click.option(
    "--hold",
    type=float,
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long all stays covered after the last look that demanded it.",
)
@click.option(
    "--on-block",
    default="slate",
    show_default=True,
    metavar="slate|blur|end",
    help="What is seen where all is covered for what was found; end ends the filter, with status 3.",
)
@click.option(
    "--margin",
    type=float,
    default=0.2,
    show_default=True,
    metavar="SHARE",
    help="How much wider and higher than what was found a covered box is.",
)
@click.option("--shadow", is_flag=True, help="Cover nothing, and only tell.")
@click.option(
    "--delay",
    type=float,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How much of what follows a picture is looked at before it leaves; it leaves 0.45 s later than that.",
)
@click.option(
    "--max-gap",
    type=float,
    default=0.4,
    show_default=True,
    metavar="SECONDS",
    help="What lies between two looks that are further apart is covered.",
)
@click.option(
    "--min-analysis-fps",
    type=float,
    default=4.0,
    show_default=True,
    metavar="N",
    help="Fewer looks a second there never are, however much there is to do.",
)
@click.option("--wait", is_flag=True, help="Wait for a source or server that is not there at the start.")
@click.option(
    "--timeout",
    type=float,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For the source and the server to answer.",
)
@_path("--tls-ca", "FILE", "Whom to trust over TLS (PEM).  [default: this machine's authorities]")
@click.option(
    "--no-tls-verify",
    "tls_verify",
    flag_value=False,
    default=True,
    help="Take anybody's certificate, of https or rtmps.",
)
@click.option("--size", type=_Size(), metavar="WxH", help="Of what leaves.  [default: as the first source]")
@click.option("--fps", type=Rate(), metavar="N", help="Of what leaves.  [default: as the first source]")
@click.option("--bitrate", type=_Bits(), metavar="N", help="Of what leaves: 3M, 800k.  [default: by size and fps]")
@click.option("--preset", default="superfast", show_default=True, metavar="NAME", help="Of the encoder, x264's.")
@click.option(
    "--models", default="open_nsfw,nudenet", show_default=True, metavar="A,B", help="Names, or paths of manifests."
)
@model_options
@click.option(
    "--no-spares",
    "spares",
    flag_value=False,
    default=True,
    help="Keep no second process of each kind ready; less memory, and longer covers when one fails.",
)
@_path("--record", "DIR", "Record what leaves, with timelines that `vidmod report` reads.")
@click.option(
    "--record-minutes", type=float, default=10.0, show_default=True, metavar="N", help="How long each file is, about."
)
@_path("--seal", "DIR", "Record what comes in, sealed: this machine cannot read it.")
@click.option("--seal-to", multiple=True, metavar="RECIPIENT", help="Who can: a public key of age. Repeatable.")
@click.option(
    "--name", default="live", show_default=True, metavar="NAME", help="For live-control, events, metrics and files."
)
@_path("--events", "FILE", "Append what happens, one JSON object a line.")
@click.option("--webhook", multiple=True, metavar="URL", help="Tell of hits, signed. Repeatable.")
@click.option("--webhook-secret", metavar="env:NAME|file:PATH", help="The key that signs.")
@_path("--webhook-spool", "FILE", "Keep here what was not delivered.  [default: in memory]")
@click.option(
    "--metrics", default="off", metavar="[ADDRESS:]PORT|off", help="For Prometheus, with health.  [default: off]"
)
@quiet_option
@json_log_option
def live(source: str, server: str, quiet: bool, json_log: bool, **options: Any) -> None:
    """Filter a stream: what leaves shows nothing that was not looked at, or that is to be covered.

    INPUT_URL is of rtmp, rtmps, http, https (FLV, HLS), rtsp, tcp or udp (MPEG-TS), or a file, paced as if it were
    live. OUTPUT_URL is of rtmp, rtmps, tcp or udp (MPEG-TS), a playlist (.m3u8) or a file. Whatever breaks, viewers
    see the cover, and both ends are connected to again.

    Exit status: 0 a file has ended, or it was asked to end (live-control stop, SIGTERM); 3 --on-block end; 130 Ctrl-C.
    Before the first picture has left, and without --wait: 4 nothing can be made of the source, 1 the server cannot be
    written to.
    """
    from vidmod.live.job import run
    from vidmod.live.settings import LiveSettings

    renamed = {
        "delay": "delay_seconds",
        "max_gap": "max_gap_seconds",
        "hold": "hold_seconds",
        "timeout": "timeout_seconds",
        "fps": "rate",
        "bitrate": "bits",
        "webhook": "webhooks",
    }
    root = click.get_current_context().find_root()
    metrics = options.pop("metrics")
    settings = LiveSettings(
        source=source,
        server=server,
        policy=policy_of(options.pop("policy_path")),
        labels=_names(options.pop("labels")),
        models=_names(options.pop("models")),
        weights=weights_of(options.pop("weights")),
        metrics=None if metrics == "off" else _listen(metrics),
        **{renamed.get(name, name): value for name, value in options.items()},
    )
    sys.exit(run(settings, quiet=quiet, json_log=json_log, debug=bool(root.params.get("debug"))))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _listen(text: str) -> tuple[str, int]:
    from vidmod.live.telling.metrics import parse_listen

    return parse_listen(text)


@click.command("live-control")
@click.argument("name", required=False, metavar="[NAME|PATH]")
@click.argument("command", required=False, metavar="[cover|uncover|status|stop]")
@click.option("--seconds", type=float, help="Of cover, after which it ends by itself.  [default: until uncover]")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def live_control(name: str | None, command: str | None, seconds: float | None, as_json: bool) -> None:
    """Steer a live filter that runs on this machine, under the same user.

    cover shows viewers the cover until uncover; uncover takes away only that, and none that the filter put there.
    NAME may be left out if only one runs. Without anything, those that run are listed.
    """
    from vidmod.live.telling import control
    from vidmod.live.telling.control import COMMANDS

    if name in COMMANDS and command is None:
        name, command = None, name
    if name is None and command is None:
        for item in control.running():
            click.echo(item)
        return
    command = "status" if command is None else choose("command", command, COMMANDS)
    if name is None:
        names = control.running()
        if len(names) != 1:
            raise UsageError(f"Which live filter? {', '.join(names) or 'None'} {'run' if names else 'runs'}. Use NAME.")
        name = names[0]
    try:
        order = control.Order(command, seconds)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    answer = control.send(control.socket_path(name), order)
    if as_json:
        import json

        print_text([json.dumps(answer) + "\n"])
    else:
        for line in control.describe(answer):
            click.echo(line)
