"""Options that several commands have, what is made of them, how results are printed, and exit statuses."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vidmod.errors import OutputError, UsageError

if TYPE_CHECKING:
    from vidmod.containment import Limits
    from vidmod.policy import Policy
    from vidmod.settings import ScanSettings

DONE, INTERNAL, USAGE, FLAGGED, UNSCANNED, INTERRUPTED = 0, 1, 2, 3, 4, 130

Command = TypeVar("Command", bound=Callable[..., Any])


class Rate(click.ParamType[Fraction]):
    """A number, exact: 2, 0.5 or 30000/1001."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        """What was given, as a number."""
        try:
            return Fraction(value)
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is not a number.", param, ctx)


names_option = click.option(
    "--models", default="open_nsfw,nudenet", show_default=True, help="Names, or paths of manifests (TOML)."
)
workers_option = click.option(
    "--workers", type=int, metavar="N", help="Processes that read and decode.  [default: one a core]"
)
quiet_option = click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
json_log_option = click.option("--json-log", is_flag=True, help="One JSON object per line on stderr instead of text.")


def model_options(command: Command) -> Command:
    """What runs the networks, where and how precisely, and whose weights."""
    for option in (
        click.option("--weights", multiple=True, metavar="NAME=PATH", help="Use this file as a model's weights."),
        click.option("--precision", default="auto", metavar="auto|fp32|bf16|fp16", help="Arithmetic of the networks."),
        click.option("--device", default="auto", metavar="auto|cpu|cuda:N", help="Where the networks run."),
        click.option(
            "--runtime", default="auto", metavar="auto|openvino|onnxruntime|tensorrt", help="What runs the networks."
        ),
    ):
        command = option(command)
    return command


def judging_options(command: Command) -> Command:
    """How scores become segments and verdicts, and where the timeline goes."""
    for option in (
        click.option("--fail-on", type=click.Choice(["review", "block"]), help="Exit with 3 from this verdict on."),
        click.option(
            "--smoothing",
            type=click.Choice(["hmm", "ema", "median", "none"]),
            help="How scores become segments, if not as the policy says.",
        ),
        click.option("--policy", "policy_path", type=click.Path(path_type=Path), help="What to look for (TOML)."),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), help="Write the timeline here; - is standard output."
        ),
    ):
        command = option(command)
    return command


def limit_options(command: Command) -> Command:
    """What an input may take; see :func:`limits_of`."""
    for option in (
        click.option("--max-packets", type=int, metavar="N", help="Packets of one stream.  [default: 10000000]"),
        click.option("--max-streams", type=int, metavar="N", help="Streams of one input.  [default: 200]"),
        click.option("--max-pixels", type=int, metavar="N", help="Pixels of one picture.  [default: 268435456]"),
        click.option("--file-timeout", type=float, metavar="SECONDS", help="Time for one input.  [default: 21600]"),
        click.option(
            "--chunk-timeout", type=float, metavar="SECONDS", help="Time for a worker to get on.  [default: 60]"
        ),
        click.option(
            "--worker-memory", type=int, metavar="MIB", help="Memory for a process that reads.  [default: 2048]"
        ),
    ):
        command = option(command)
    return command


def policy_of(path: Path | None) -> Policy | None:
    """The policy in a file; None for the default one."""
    from vidmod.policy import Policy

    return None if path is None else Policy.read(path)


def weights_of(pairs: tuple[str, ...]) -> dict[str, Path]:
    """Model to weights, of what `--weights` says.

    Raises:
        UsageError: It is not NAME=PATH.
    """
    weights = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not (name and separator and path):
            raise UsageError(f"Invalid weights ({pair!r}). Use NAME=PATH, such as nudenet=320n.onnx.")
        weights[name] = Path(path)
    return weights


def scan_settings(policy_path: Path | None, options: dict[str, Any]) -> ScanSettings:
    """The settings of a scan from the command line's options, by their names there."""
    from vidmod.models.weights import cache_folder
    from vidmod.scanning import ScanSettings

    limits = limits_of(options)
    return ScanSettings(
        models=tuple(name for name in options.pop("models").split(",") if name),
        policy=policy_of(policy_path),
        weights=weights_of(options.pop("weights")),
        limits=limits,
        store=cache_folder() / "scans",
        **options,
    )


def limits_of(options: dict[str, Any]) -> Limits:
    """The limits from the options of `limit_options`, which are taken out."""
    memory = options.pop("worker_memory")
    return _limits(
        memory_bytes=None if memory is None else memory << 20,
        chunk_seconds=options.pop("chunk_timeout"),
        file_seconds=options.pop("file_timeout"),
        **{name: options.pop(name) for name in ("max_pixels", "max_streams", "max_packets")},
    )


def _limits(**values: float | None) -> Limits:
    from vidmod.containment import Limits

    return Limits(**{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]


def print_text(parts: Iterable[str]) -> None:
    """Write to standard output.

    Raises:
        OutputError: It is a file on a full disk, say.
    """
    with _telling_of_stdout():
        sys.stdout.writelines(parts)
        sys.stdout.flush()


def print_bytes(data: bytes) -> None:
    """Write to standard output; see :func:`print_text`."""
    with _telling_of_stdout():
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


@contextlib.contextmanager
def _telling_of_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        forget_stdout()
        raise OutputError(f"Standard output cannot be written ({exc.strerror}).") from exc


def forget_stdout() -> None:
    """Whoever read standard output has gone, or it is full: nothing more is said there."""
    # Python would try to write what is left once more at exit, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
