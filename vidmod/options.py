"""Options that several commands have, what is made of them, and how results are printed."""

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
    from vidmod.policy import Policy

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
