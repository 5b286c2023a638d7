"""The commands about what this machine has: `vidmod models` and `vidmod doctor`."""

from __future__ import annotations

import click

from vidmod.cli.options import weights_of
from vidmod.errors import VidmodError


@click.group()
def models() -> None:
    """The models: where they are, pull their weights, check them."""


@models.command("list")
def models_list() -> None:
    """Show the models that ship with vidmod, and where their weights are."""
    from rich.console import Console

    from vidmod import inventory

    Console(highlight=False).print(inventory.models_table())


@models.command("pull")
@click.argument("names", nargs=-1)
def models_pull(names: tuple[str, ...]) -> None:
    """Download weights into the cache; all models without a name."""
    from vidmod.models import find, shipped
    from vidmod.models.weights import pull

    for name in names or tuple(shipped()):
        weights = pull(find(name), click.echo)
        click.echo(f"{name}: {weights.path}")


@models.command("check")
@click.argument("names", nargs=-1)
@click.option("--weights", multiple=True, metavar="NAME=PATH", help="Use this file as a model's weights.")
def models_check(names: tuple[str, ...], weights: tuple[str, ...]) -> None:
    """Run golden inputs through every installed runtime, and refuse drift."""
    from vidmod.models import find, shipped
    from vidmod.models.check import check

    overrides = weights_of(weights)
    drifted = False
    for name in names or tuple(shipped()):
        for row in check(find(name), overrides, click.echo):
            drifted |= not row.passed
            click.echo(f"{'ok   ' if row.passed else 'DRIFT'} {row.describe()}")
    if drifted:
        raise VidmodError("A runtime does not give the golden outputs. Do not scan with it; choose another --runtime.")


@click.command()
def doctor() -> None:
    """Show versions, runtimes, devices, CPU features, codecs and caches."""
    from rich.console import Console

    from vidmod import inventory

    Console(highlight=False).print(inventory.doctor_table())
