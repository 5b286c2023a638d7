"""Writing results: aside first, renamed when whole, so that a failure loses nothing."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from vidmod.errors import OutputError


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write text to `path`, which holds either what it held before or all of the new text.

    A device or pipe (`/dev/null`, a named pipe) is written to, never replaced by a file.

    Raises:
        OutputError: The folder is missing, not writable or full.
    """
    if path.exists() and not path.is_file():
        _write_through(path, parts)
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror}). Check that its folder exists.") from exc
    aside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(_mode(path))
        aside.replace(path)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror}). What was there before is untouched.") from exc
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _write_through(path: Path, parts: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(parts)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror}).") from exc


def _mode(path: Path) -> int:
    """The permissions that the file has, or that a new file would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
