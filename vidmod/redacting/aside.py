"""A file that is written aside, and becomes the output when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from vidmod.errors import OutputError, VidmodError
from vidmod.timeline import Json


class Aside:
    """A file beside the output, that becomes it when it is whole. A context manager.

    Raises:
        OutputError: It cannot be made, or not renamed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name: Path | None = None
        self.descriptor = -1
        self._reading = -1

    def __enter__(self) -> Aside:
        try:
            self.descriptor, name = tempfile.mkstemp(
                prefix=f".{self._path.name}.", suffix=f".part{self._path.suffix}", dir=self._path.parent
            )
        except OSError as exc:
            raise OutputError(f"{self._path}: cannot be written ({exc.strerror}).") from exc
        self._name = Path(name)
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        for descriptor in (self.descriptor, self._reading):
            if descriptor >= 0:
                os.close(descriptor)
        if self._name is not None:
            with contextlib.suppress(OSError):
                self._name.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, VidmodError):
            reason = error.strerror or str(error)
            raise OutputError(f"{self._path}: cannot be written ({reason}). What was there is untouched.") from error

    @property
    def path(self) -> Path:
        """Where it lies."""
        assert self._name is not None
        return self._name

    def descriptor_for_reading(self) -> int:
        """A descriptor that cannot write."""
        if self._reading < 0:
            self._reading = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._reading

    def facts(self) -> Json:
        """Its `sha256` and `size_bytes`."""
        with self.path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size_bytes": self.path.stat().st_size}

    def empty(self) -> None:
        """Begin anew."""
        os.ftruncate(self.descriptor, 0)

    def finish(self) -> None:
        """It is whole: give it its name."""
        os.fsync(self.descriptor)
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(self.descriptor, self._path.stat().st_mode & 0o777 if self._path.exists() else 0o666 & ~mask)
        self.path.replace(self._path)
        self._name = None
