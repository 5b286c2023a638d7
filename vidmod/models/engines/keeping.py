"""What is in the cache, what of it is good here, and what is to go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidmod.errors import VidmodError
from vidmod.models.engines.cache import Cache, Entry
from vidmod.models.engines.finding import FLAGS, key_of
from vidmod.models.engines.key import CONVERSION, FORMAT, Gpu, Key, NetworkKey, PlanKey, TimingKey

State = Literal[
    "usable here",
    "for another GPU",
    "for another TensorRT",
    "TensorRT is not here",
    "of another vidmod",
    "damaged",
    "not yours",
]


@dataclass(frozen=True, slots=True)
class Here:
    """What engines would run on.

    Attributes:
        tensorrt: Its version, None if it is not here.
        gpus: Those that CUDA sees.
    """

    tensorrt: str | None
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """An engine and what it is good for.

    Attributes:
        key: None if it cannot be read.
        state: Whether it would be loaded, or why not.
    """

    entry: Entry
    key: PlanKey | None
    state: State

    @property
    def model(self) -> str:
        """The model's name."""
        return str((self.entry.facts or {}).get("model") or self.entry.path.stem.rpartition("-")[0])


def here() -> Here:
    """What is on this machine. GPUs are opened for it, one after another."""
    from vidmod.models.cuda.driver import Device, device_count
    from vidmod.models.runtimes.tensorrt_cuda import library

    try:
        version = str(library().__version__)
    except VidmodError:
        return Here(None)
    gpus = []
    for number in range(device_count()):
        try:
            with Device(number) as device:
                gpus.append(device.facts)
        except VidmodError:
            continue
    return Here(version, tuple(gpus))


def engines(cache: Cache, machine: Here) -> list[Standing]:
    """All engines, by name.

    Raises:
        RuntimeUnavailableError: The cache is not this user's alone.
    """
    plans = [entry for entry in cache.entries() if entry.path.suffix == ".plan"]
    return [Standing(entry, key_of(entry), _state(entry, machine)) for entry in plans]


def _state(entry: Entry, machine: Here) -> State:
    key = key_of(entry)
    if entry.state != "whole":
        return entry.state
    if key is None or (key.format, key.flags) != (FORMAT, FLAGS):
        return "of another vidmod"
    if machine.tensorrt is None:
        return "TensorRT is not here"
    if key.tensorrt != machine.tensorrt:
        return "for another TensorRT"
    return "usable here" if any(key.is_for(gpu) for gpu in machine.gpus) else "for another GPU"


def prune(cache: Cache, machine: Here, *, everything: bool = False) -> tuple[list[Path], int]:
    """Remove what is damaged, not this user's, or of no use any more, and what killed processes have left.

    Engines for another TensorRT go if TensorRT is here. Those for another GPU stay: several machines may share a home.

    Args:
        everything: Remove all that nobody is just making.

    Returns:
        What was removed, and how many bytes that has freed.

    Raises:
        RuntimeUnavailableError: The cache is not this user's alone.
        OutputError: Something cannot be removed.
    """
    kept = {standing.key.network for standing in engines(cache, machine) if standing.key and _stays(standing.state)}
    return cache.prune(lambda entry: everything or not _is_wanted(entry, machine, kept))


def _stays(state: State) -> bool:
    return state in ("usable here", "for another GPU", "TensorRT is not here")


def _is_wanted(entry: Entry, machine: Here, networks: set[str]) -> bool:
    if entry.state != "whole" or entry.path.suffix == ".plan":
        return _stays(_state(entry, machine))
    kind: type[Key] = NetworkKey if entry.path.suffix == ".network" else TimingKey
    try:
        key = kind.read(entry.key or {})
    except ValueError:
        return False
    if isinstance(key, NetworkKey):
        used = (entry.facts or {}).get("network") in networks
        return used and (key.format, key.conversion) == (FORMAT, CONVERSION)
    return isinstance(key, TimingKey) and key.format == FORMAT and machine.tensorrt in (None, key.tensorrt)
