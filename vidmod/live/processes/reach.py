"""What each process of a live filter may reach, once it has begun; everything else it gives up for ever.

========= ================================= ============================= ==========================================
role      network                           reads                         writes
========= ================================= ============================= ==========================================
reader    only to a source that is a URL    libraries, names and          nothing
                                            certificates, or the file
filter    none                              nothing                       nothing
analyst   none                              libraries, weights            nothing
publisher only to a server                  libraries, names and          nothing, or the folder of its file
                                            certificates
recorder  none                              libraries                     its two folders
========= ================================= ============================= ==========================================

What joins them to their neighbours is no part of this: sockets that they were started with, and that are handed to them
over one of these. Only the filter and the recorder take apart what a stranger's packets hold, and neither has a
network; the reader, which has one, takes apart containers and protocols. See :mod:`vidmod.containment` for how it is
held.

An analyst that computes on a GPU has only its limits: the driver starts programs, writes, and talks to devices as it
likes. What it is given are pictures that the filter has decoded, in a size that never changes.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vidmod
from vidmod.containment import Grants, Limits, libraries, name_resolution
from vidmod.live.messages import AnalystSettings, FilterSettings, PublisherSettings, ReaderSettings, RecorderSettings

_GIB = 1 << 30
_THREAD_BYTES = 160 << 20
_ADDRESSES = 1 << 47
_PLAYLISTS = (".m3u8", ".m3u")


@dataclass(frozen=True, slots=True)
class Reach:
    """What is left to a process.

    Attributes:
        grants: Of network and files.
        memory_bytes: That it may map on top of what it has when it begins.
        descriptors: That it may have open on top of those two.
        layers: Of containment, that are put on; None for all.
    """

    grants: Grants
    memory_bytes: int
    descriptors: int = 64
    layers: tuple[str, ...] | None = None

    @property
    def limits(self) -> Limits:
        """As `enclose` takes them."""
        return Limits(memory_bytes=self.memory_bytes)


def reach_of(role: str, settings: Any) -> Reach:
    """What a process may reach. The analyst's weights are found, and pulled if they must be, by this.

    Raises:
        ManifestError, WeightsError: A model is not there.
    """
    return _REACHES[role](settings)


def _reader(settings: ReaderSettings) -> Reach:
    name = settings.url.removeprefix("file:")
    if "://" in name:
        return _networked(4 * _GIB, settings.trusted)
    path = Path(os.path.abspath(name))  # noqa: PTH100 - links stay as they are
    # A playlist names files beside it.
    source = path.parent if path.suffix.lower() in _PLAYLISTS else path
    return Reach(Grants(readable=(*_own(), source), lasting=True), 4 * _GIB)


def _filter(_: FilterSettings) -> Reach:
    # Pictures that wait to leave are most of what it holds: a second of 4K at 60 a second takes 750 MB.
    return Reach(Grants(lasting=True), _share(8 * _GIB), descriptors=16)


def _analyst(settings: AnalystSettings) -> Reach:
    from vidmod.models import find
    from vidmod.models.manifest import engines_folder
    from vidmod.models.weights import obtain

    manifests = [find(name) for name in settings.models]
    given = {name: Path(path) for name, path in settings.weights.items()}
    files = [obtain(manifest, given).path for manifest in manifests]
    files += [Path(name) for name in settings.models if name.endswith(".toml")]
    readable = (*_own(), engines_folder(), *(path.absolute() for path in files))
    grants = Grants(readable=readable, lasting=True)
    if _is_gpu(settings):
        # It reserves addresses for all memory that there is.
        return Reach(grants, _ADDRESSES, descriptors=1024, layers=("limits",))
    # Each thread has a stack and a heap of its own.
    return Reach(grants, 16 * _GIB + (os.cpu_count() or 1) * _THREAD_BYTES, descriptors=256)


def _is_gpu(settings: AnalystSettings) -> bool:
    from vidmod.models import nvidia
    from vidmod.models.runtimes import select

    if settings.device != "auto":
        return settings.device != "cpu"
    name = select(settings.runtime, settings.device).name
    if name == "onnxruntime":
        # It is not imported to be asked: it starts a thread, and a process with threads cannot be enclosed.
        return _is_installed("onnxruntime-gpu") and bool(nvidia.look().gpus)
    return name == "tensorrt"


def _is_installed(distribution: str) -> bool:
    try:
        return bool(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False


def _publisher(settings: PublisherSettings) -> Reach:
    if "://" in settings.url:
        return _networked(4 * _GIB, settings.trusted)
    folder = Path(os.path.abspath(settings.url)).parent  # noqa: PTH100 - links stay as they are
    return Reach(Grants(readable=_own(), writable=(folder,), lasting=True), 4 * _GIB)


def _recorder(settings: RecorderSettings) -> Reach:
    folders = [Path(name).absolute() for name in (settings.folder, settings.sealed_folder) if name is not None]
    return Reach(Grants(readable=_own(), writable=tuple(folders), lasting=True), 4 * _GIB)


def _networked(memory_bytes: int, trusted: str | None) -> Reach:
    certificates = () if trusted is None else (Path(trusted),)
    readable = (*_own(), *name_resolution(), *certificates)
    return Reach(Grants(network=True, readable=readable, lasting=True), memory_bytes)


def _own() -> tuple[Path, ...]:
    """Where this program's own modules and libraries are, and the system's."""
    package = Path(vidmod.__file__).parent
    # Beside the package in a checkout lie things that are no modules.
    is_checkout = package.parent.name not in ("site-packages", "dist-packages")
    return libraries(package if is_checkout and Path(entry) == package.parent else entry for entry in sys.path)


def _share(most: int) -> int:
    """Not more than half of the machine's memory: others have to live, too."""
    return max(_GIB, min(most, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2))


_REACHES: dict[str, Callable[[Any], Reach]] = {
    "reader": _reader,
    "filter": _filter,
    "analyst": _analyst,
    "publisher": _publisher,
    "recorder": _recorder,
}
