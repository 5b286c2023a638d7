"""The commands for engines: `vidmod engines build`, `list` and `prune`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidmod.cli.options import weights_of

if TYPE_CHECKING:
    from vidmod.models.engines.building import Built
    from vidmod.models.engines.compiling import Step

_REDRAW_SECONDS = 0.1


@click.group()
def engines() -> None:
    """Build networks for TensorRT, and keep what was built.

    An engine is good for one GPU and one version of TensorRT; it is built once, checked against the golden outputs,
    and kept in the cache. Nobody has run TensorRT with this release yet: tell us how it went.
    """


@engines.command()
@click.argument("names", nargs=-1)
@click.option("--device", default="auto", metavar="cuda:N", help="The GPU.  [default: cuda:0]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp16", "fp32"]),
    default="auto",
    show_default=True,
    help="auto is fp16: half precision up to the last heavy layer.",
)
@click.option("--weights", multiple=True, metavar="NAME=PATH", help="Use this file as a model's weights.")
@click.option("--force", is_flag=True, help="Build it even if there is one.")
def build(names: tuple[str, ...], device: str, precision: str, weights: tuple[str, ...], force: bool) -> None:
    """Build the engines of models, unless they are there; all models without a name.

    NAMES are models that ship with vidmod, or paths of manifests (TOML).
    """
    from vidmod.models import find, shipped
    from vidmod.models.engines.building import Builder

    overrides = weights_of(weights)
    manifests = [find(name) for name in names or tuple(shipped())]
    line = _Line()
    builder = Builder(device, notify=line.note, progress=line.show if sys.stderr.isatty() else None)
    for manifest in manifests:
        try:
            built = builder.build(manifest, precision=precision, weights=overrides, force=force)
        finally:
            line.clear()
        click.echo(f"{manifest.name}: {_described(built)}")


def _described(built: Built) -> str:
    size = f"{built.plan_bytes / 1e6:.1f} MB"
    when = f"built in {built.seconds:.0f} s" if built.is_new else "is there already"
    return f"{when}, {built.key.precision}, {size}, {built.check}: {built.path}"


class _Line:
    """A line of the terminal's that shows how far a build is. TensorRT tells that from any of its threads."""

    def __init__(self) -> None:
        self._began = self._drawn = 0.0
        self._is_shown = False

    def note(self, text: str) -> None:
        """Say something that stays."""
        self.clear()
        click.echo(text, err=True)
        self._began = time.monotonic()

    def show(self, step: Step) -> None:
        """Show how far it is."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW_SECONDS and step.done < step.total:
            return
        self._drawn, self._is_shown = now, True
        width = _width()
        text = f"  {step.phase} {step.done} of {step.total}, {now - self._began:.0f} s"
        sys.stderr.write(f"\r{text[:width]:<{width}}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._is_shown:
            sys.stderr.write("\r" + " " * _width() + "\r")
            sys.stderr.flush()
        self._is_shown = False


def _width() -> int:
    """How much of a line can be written without a new one."""
    import shutil

    return shutil.get_terminal_size().columns - 1


@engines.command("list")
def list_engines() -> None:
    """Show the engines that are kept, and whether they would be loaded here."""
    from rich.console import Console

    from vidmod import inventory

    table = inventory.engines_table()
    if table.row_count:
        Console(highlight=False).print(table)
    else:
        click.echo("There are none. Run: vidmod engines build")


@engines.command()
@click.option("--all", "everything", is_flag=True, help="Remove all of them.")
def prune(everything: bool) -> None:
    """Remove engines that are damaged, not yours, or of another TensorRT, and what killed builds have left.

    Those for other GPUs stay, since several machines may share a home folder, and so does what is just being built.
    """
    from vidmod.models.engines import Cache
    from vidmod.models.engines.keeping import here
    from vidmod.models.engines.keeping import prune as prune_cache

    removed, size = prune_cache(Cache(), here(), everything=everything)
    for path in removed:
        click.echo(f"removed {_shown(path)}")
    click.echo(f"{len(removed)} files removed, {size / 1e6:.1f} MB freed")


def _shown(path: Path) -> str:
    # Whoever can write there can give a file any name.
    text = str(path)
    return text if text.isprintable() else repr(text)
