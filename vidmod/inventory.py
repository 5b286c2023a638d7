"""What is on this machine: models and their weights, runtimes, devices, codecs, caches."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from vidmod import containment
from vidmod._version import __version__
from vidmod.errors import VidmodError
from vidmod.media import codecs, hardware
from vidmod.models import RUNTIMES, Manifest, nvidia_packages, shipped
from vidmod.models.engines import Cache
from vidmod.models.engines.keeping import engines, here
from vidmod.models.runtimes import Runtime
from vidmod.models.weights import cache_folder, locate

_DISTRIBUTIONS = ("av", "numpy", "opencv-python-headless", "openvino", "onnxruntime")
_DECODING = ("this FFmpeg was built without it (cuda)", "built into this FFmpeg (cuda); it needs the driver and a GPU")
_NEVER_RUN = (
    "never run by vidmod's makers on a GPU: ONNX Runtime on CUDA, TensorRT, NVDEC, NVENC, the CUDA kernels. "
    "Before you rely on it, run `vidmod models check` and benchmarks/gpu.py"
)
# What makes networks fast on a CPU, in Linux's names.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def models_table() -> Table:
    """Name, version, licence and weights of every model that ships with vidmod."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("model", "kind", "licence", "weights"):
        table.add_column(name, overflow="fold")
    for path in shipped().values():
        manifest = Manifest.read(path)
        kind = "detector" if manifest.is_detector else "classifier"
        table.add_row(*map(Text, (manifest.name, kind, manifest.licence, _weights_state(manifest))))
    return table


def _weights_state(manifest: Manifest) -> str:
    try:
        weights = locate(manifest)
    except VidmodError as exc:
        return str(exc)
    if weights is None:
        return f"not here; run: vidmod models pull {manifest.name}"
    return f"{weights.origin}: {weights.path}"


def engines_table() -> Table:
    """The engines that TensorRT has built, and whether they would be loaded here.

    Raises:
        RuntimeUnavailableError: Their folder is not this user's alone.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("engine", "for", "batches", "size", "built", "state"):
        table.add_column(name, overflow="fold", no_wrap=name in ("batches", "size", "built"))
    for row in engines(Cache(), here()):
        key, why = row.key, row.entry.why
        table.add_row(
            f"{row.model} {key.precision}" if key else row.model,
            f"{key.device}, TensorRT {key.tensorrt}" if key else "",
            "-".join(map(str, key.batches)) if key else "",
            f"{row.entry.size_bytes / 1e6:.1f} MB" if row.entry.size_bytes else "",
            str((row.entry.facts or {}).get("created", ""))[:10],
            f"{row.state}: {why}" if why else row.state,
        )
    return table


def doctor_table() -> Table:
    """Everything that a report of trouble should hold."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts():
        # Brackets are what is to be installed, and no markup.
        table.add_row(name, Text(value))
    return table


def _facts() -> Iterator[tuple[str, str]]:
    yield "vidmod", f"{__version__} on Python {platform.python_version()}, {platform.platform()}"
    for name in _DISTRIBUTIONS:
        yield name, _version(name)
    yield "FFmpeg", codecs.ffmpeg_versions()
    yield (
        "CPU",
        f"{len(os.sched_getaffinity(0))} cores usable; {', '.join(_cpu_flags()) or 'no fast instructions known'}",
    )
    for runtime in RUNTIMES.values():
        yield f"runtime {runtime.name}", _runtime_state(runtime)
    yield from nvidia_packages.states()
    yield "GPU decoding", _DECODING[hardware.is_built_in()]
    yield "GPU path", _NEVER_RUN
    for layer, state in containment.layers().items():
        yield f"containment {layer}", state
    yield "decoders", ", ".join(codecs.decoders())
    yield "encoders", ", ".join(codecs.encoders())
    yield "cache", _cache_state()
    for path in shipped().values():
        manifest = Manifest.read(path)
        yield f"model {manifest.name}", _weights_state(manifest)


def _runtime_state(runtime: Runtime) -> str:
    if not runtime.installed:
        return f"not installed. {runtime.install}"
    try:
        return f"devices: {', '.join(runtime.devices()) or 'none'}"
    except Exception as exc:  # noqa: BLE001 # a library that is half here may raise anything, and that is worth telling
        return f"cannot be used: {exc}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text("ascii", errors="replace")
    except OSError:
        return []
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    present = set(next(lines, "").split())
    return [flag for flag in _CPU_FLAGS if flag in present]


def _cache_state() -> str:
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    free = shutil.disk_usage(existing).free
    writable = "" if os.access(existing, os.W_OK) else ", not writable: set VIDMOD_CACHE"
    return f"{folder} ({size / 1e6:.0f} MB used, {free / 1e9:.0f} GB free{writable})"
