"""The command line's entry: which commands there are, how they end, and with which status."""

from __future__ import annotations

import contextlib
import signal
import sys
from types import FrameType
from typing import Any

import click

from vidmod._version import __version__
from vidmod.cli.engines import engines
from vidmod.cli.live import live, live_control
from vidmod.cli.models import doctor, models
from vidmod.cli.options import DONE, INTERNAL, INTERRUPTED, USAGE, forget_stdout
from vidmod.cli.redact import redact
from vidmod.cli.review import export, import_, report
from vidmod.cli.scan import judge, scan
from vidmod.errors import VidmodError
from vidmod.reporting import JsonLogReport


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vidmod")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Find what is in a video, when, where and how sure.

    Exit status: 0 done; 1 internal error; 2 wrong usage; 3 the verdict is at or above --fail-on;
    4 an input could not be scanned, or only partly; 130 interrupted.
    """


for command in (doctor, engines, export, import_, judge, live, live_control, models, redact, report, scan):
    cli.add_command(command)


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
