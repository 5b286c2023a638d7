"""Files as the operating system sees them, before anything parses what is in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vidmod.errors import NotVideoError, SourceNotFoundError, SourceUnreadableError


def open_readable(path: Path) -> int:
    """A descriptor of a regular file, to be read.

    Raises:
        SourceNotFoundError, SourceUnreadableError, NotVideoError: Each names the file.
    """
    try:
        # Before it is opened, which does something to some devices; and after, when it can no longer be exchanged.
        _check_regular(path, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_regular(path, os.fstat(descriptor))
        except NotVideoError:
            os.close(descriptor)
            raise
    except FileNotFoundError as exc:
        raise SourceNotFoundError(f"{path}: there is no such file. Check the path.") from exc
    except OSError as exc:
        raise SourceUnreadableError(f"{path}: cannot be read ({exc.strerror}). Check its permissions.") from exc
    except ValueError as exc:  # a null character in the name
        raise SourceNotFoundError(f"{path}: there is no such file ({exc}). Check the path.") from exc
    return descriptor


def check_readable(path: Path) -> os.stat_result:
    """The file's stat, if it is a regular file that can be read.

    Raises:
        SourceNotFoundError, SourceUnreadableError, NotVideoError: Each names the file.
    """
    descriptor = open_readable(path)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise NotVideoError(f"{path}: is a folder, not a video. Name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise NotVideoError(f"{path}: is a pipe or a device, not a file. Copy what it gives into a file.")
