"""The command `vidmod redact`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from vidmod.allocation import return_large_blocks
from vidmod.cli.options import (
    Rate,
    json_log_option,
    limit_options,
    model_options,
    names_option,
    quiet_option,
    scan_settings,
    workers_option,
)
from vidmod.errors import UsageError
from vidmod.reporting import JsonLogReport, TerminalReport


@click.command()
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
@names_option
@model_options
@workers_option
@limit_options
@click.option("--fresh", is_flag=True, help="Scan it again, even if that was done before.")
@quiet_option
@json_log_option
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
        scan=scan_settings(policy_path, scanning),
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
