"""The SHA-256 of a file, computed while it is scanned."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from vidmod.errors import SourceUnreadableError

_CHUNK_BYTES = 1 << 20


class Digest:
    """SHA-256 of an open file, computed in a thread."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name=f"hash {path.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, done or not."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_done(self) -> bool:
        """Whether :meth:`hexdigest` need not wait."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            position = 0
            chunk = memoryview(bytearray(_CHUNK_BYTES))
            # By position: others read through the same descriptor.
            while not self._stop.is_set() and (count := os.preadv(self._descriptor, [chunk], position)):
                self._digest.update(chunk[:count])
                position += count
        except OSError as exc:
            self._error = exc

    def hexdigest(self) -> str:
        """Wait for the end of the file."""
        self._thread.join()
        if self._error is not None:
            raise SourceUnreadableError(f"{self._path}: cannot be read ({self._error.strerror}).") from self._error
        return self._digest.hexdigest()
