"""Writing results: aside first, renamed when whole, so that a failure loses nothing.

**An output and the document about it.** Two files cannot be renamed at once, so :meth:`Aside.finish_with` does it in an
order after which whatever a kill or a power cut leaves is true: the old document goes, then the new output takes its
name, then the new document. In between an output has no document, which claims nothing; never one that speaks of
another file. Both are on the disk before that, so a full disk is met while all is as it was.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vidmod.errors import OutputError, VidmodError

# What file systems take.
_MAX_NAME_BYTES = 255
_RANDOM_BYTES = 8
_PART = re.compile(rf"[0-9a-f]{{{2 * _RANDOM_BYTES}}}\.part")
_PRIVATE = 0o600
_UNTOUCHED = "What was there before is untouched."
_LOCK_SECONDS, _POLL_SECONDS = 2.0, 0.01
_FOLDER_HINT, _PERMISSION_HINT = "Check that its folder exists.", "Check the permissions of its folder."
_HINTS = {
    errno.ENOENT: _FOLDER_HINT,
    errno.ENOTDIR: _FOLDER_HINT,
    errno.EACCES: _PERMISSION_HINT,
    errno.EPERM: _PERMISSION_HINT,
    errno.EROFS: "Name a folder that can be written.",
    errno.ELOOP: "Name the file that the link is to lead to.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class Aside:
    """A file that becomes the output when it is whole. A context manager.

    Where the file system can, it has no name until then (`O_TMPFILE`): nothing is left of it, however the process
    ends. Elsewhere it lies beside the output as `.NAME.`, 16 hexadecimal digits and `.part`, and what a killed
    process has left there is removed by the next one that writes the same output.

    An output that is a link stays one: the file that it leads to is replaced.

    Args:
        path: The output. A file that is there keeps its permissions.

    Attributes:
        descriptor: To write by.

    Raises:
        OutputError: It cannot be made, written or renamed. Any OSError in the block becomes one.
    """

    def __init__(self, path: Path) -> None:
        self._shown = path
        self._path = path
        self._name: Path | None = None
        # Noted before anything is called so: an interrupt comes at any moment.
        self._names: list[Path] = []
        self._reading = -1
        self.descriptor = -1

    def __enter__(self) -> Aside:
        try:
            self._path = followed(self._shown)
            self._remove_abandoned()
            if not self._make_nameless():
                self._make_named()
        except VidmodError:
            raise
        except OSError as exc:
            raise _impossible(self._shown, exc) from exc
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._discard()
        if isinstance(error, OSError) and not isinstance(error, VidmodError):
            raise self._refusal(error) from error

    @property
    def path(self) -> Path:
        """Where this process, and no other, can open it, named or not."""
        return Path(f"/proc/self/fd/{self.descriptor}")

    def descriptor_for_reading(self) -> int:
        """A descriptor that cannot write."""
        if self._reading < 0:
            self._reading = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._reading

    def facts(self) -> dict[str, Any]:
        """Its `sha256` and `size_bytes`."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return {"sha256": digest.hexdigest(), "size_bytes": os.fstat(self.descriptor).st_size}

    def write(self, parts: Iterable[str | bytes]) -> None:
        """Write text, as UTF-8, or bytes."""
        with open(self.descriptor, "wb", closefd=False) as file:
            file.writelines(_encoded(parts))

    def empty(self) -> None:
        """Begin anew."""
        os.ftruncate(self.descriptor, 0)

    def finish(self) -> None:
        """It is whole: give it its name."""
        self._sync()
        with _folder(self._path) as folder:
            self._take_name(folder)
            _sync_names(folder)

    def finish_with(self, document: Aside) -> None:
        """It is whole, and so is the document about it in the same folder: give both their names; see the module.

        Raises:
            OutputError: Nothing has changed; or the output has its name and no document, as the message says.
        """
        with self._refusals():
            self._sync()
        with document._refusals():
            document._sync()
        with self._refusals(), _folder(self._path) as folder:
            _lock_briefly(folder)
            with document._withdrawn(folder):
                self._take_name(folder)
            _sync_names(folder)
            try:
                document._take_name(folder)
            except OSError as exc:
                raise OutputError(
                    f"{document._shown}: cannot be written ({exc.strerror}). {self._shown} is whole, but nothing says "
                    "what was done to it."
                ) from exc
            _sync_names(folder)

    # Its name -----------------------------------------------------------------------------------

    def _sync(self) -> None:
        """Have the disk hold all of it but its name."""
        os.fsync(self.descriptor)
        # Some file systems know no permissions.
        with contextlib.suppress(PermissionError):
            os.fchmod(self.descriptor, self._mode())

    def _mode(self) -> int:
        """The permissions that the file has, or that a new file would get."""
        with contextlib.suppress(FileNotFoundError):
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EEXIST, "what is there is no file any more")
            return status.st_mode & 0o777
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask

    def _take_name(self, folder: int) -> None:
        if self._name is None:
            # Only what has a name can replace something.
            self._name = self._new_name()
            _give_name(self.path, folder, self._name.name)
        os.replace(self._name.name, self._path.name, src_dir_fd=folder, dst_dir_fd=folder)
        self._name = None

    @contextlib.contextmanager
    def _withdrawn(self, folder: int) -> Iterator[None]:
        """Take away what has the output's name; it is put back if the block fails with an OSError."""
        aside, name = self._new_name().name, self._path.name
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
            _sync_names(folder)
        try:
            yield
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
            raise

    # Making it ----------------------------------------------------------------------------------

    def _make_nameless(self) -> bool:
        """Make a file without a name, if the system has such, and lets one get a name: a first one tries that."""
        trial = self._new_name()
        try:
            self._open(self._path.parent, os.O_TMPFILE)
            with _folder(trial) as folder:
                _give_name(self.path, folder, trial.name)
            trial.unlink()
            # What had a name and lost it cannot get another.
            os.close(self.descriptor)
            self._open(self._path.parent, os.O_TMPFILE)
        except OSError:
            self._discard()
            return False
        return True

    def _make_named(self) -> None:
        while True:
            self._name = self._new_name()
            self._open(self._name, os.O_CREAT | os.O_EXCL)
            if self._name.exists():
                return
            # Another process took it for abandoned just before it was locked.
            os.close(self.descriptor)

    def _open(self, path: Path, flags: int) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, _PRIVATE)
        # It tells others that it is in use. Where there are no locks, nothing is taken for abandoned.
        with contextlib.suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def _discard(self) -> None:
        try:
            for name in self._names:
                with contextlib.suppress(OSError):
                    name.unlink()
        except BaseException:
            # Interrupted: all the same.
            self._discard()
            raise
        for descriptor in (self.descriptor, self._reading):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._reading = -1

    def _new_name(self) -> Path:
        name = self._path.with_name(self._prefix + secrets.token_hex(_RANDOM_BYTES) + ".part")
        self._names.append(name)
        return name

    @property
    def _prefix(self) -> str:
        room = _MAX_NAME_BYTES - 2 * _RANDOM_BYTES - len("...part")
        return f".{os.fsdecode(os.fsencode(self._path.name)[:room])}."

    def _remove_abandoned(self) -> None:
        """Remove what killed processes left of the same output."""
        prefix = self._prefix
        with contextlib.suppress(OSError), os.scandir(self._path.parent) as entries:
            for entry in entries:
                if entry.name.startswith(prefix) and _PART.fullmatch(entry.name, len(prefix)):
                    _remove_unless_used(Path(entry.path))

    # Errors -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except VidmodError:
            raise
        except OSError as exc:
            raise self._refusal(exc) from exc

    def _refusal(self, error: OSError) -> OutputError:
        return OutputError(f"{self._shown}: cannot be written ({error.strerror or error}). {_UNTOUCHED}")


def followed(path: Path) -> Path:
    """The file that a path leads to if it is a link, whether it exists or not; the path itself if it is none.

    Raises:
        OutputError: The links go round in circles, or it could not exist.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    except OSError as exc:
        raise _impossible(path, exc) from exc


def is_special(path: Path) -> bool:
    """Whether something is there that is no file: a folder, a device, a pipe."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def write_whole(path: Path, parts: Iterable[str | bytes]) -> None:
    """Write text, as UTF-8, or bytes to `path`, which holds either what it held before or all of the new.

    A device or pipe (`/dev/null`, a named pipe) is written to, never replaced by a file.

    Raises:
        OutputError: The folder is missing, not writable or full.
    """
    if is_special(path):
        _write_through(path, parts)
        return
    with Aside(path) as aside:
        aside.write(parts)
        aside.finish()


def _encoded(parts: Iterable[str | bytes]) -> Iterator[bytes]:
    return (part if isinstance(part, bytes) else part.encode() for part in parts)


def _write_through(path: Path, parts: Iterable[str | bytes]) -> None:
    try:
        with path.open("wb") as file:
            file.writelines(_encoded(parts))
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror}).") from exc


def _impossible(path: Path, error: OSError) -> OutputError:
    hint = _HINTS.get(error.errno or 0, _UNTOUCHED)
    return OutputError(f"{path}: cannot be written ({error.strerror}). {hint}")


def _give_name(path: Path, folder: int, name: str) -> None:
    # Through the link in /proc, to the file without a name.
    os.link(path, name, dst_dir_fd=folder, follow_symlinks=True)


def _remove_unless_used(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Names are not used twice: what became an output meanwhile does not have this one any more.
                path.unlink()
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """A descriptor of the folder that a file is in."""
    flags = os.O_DIRECTORY | os.O_CLOEXEC
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | flags)
    except PermissionError:  # one may put files there without seeing what is there
        descriptor = os.open(path.parent, os.O_PATH | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync_names(folder: int) -> None:
    """Have the disk hold the folder's names, where the system can do that."""
    with contextlib.suppress(OSError):
        os.fsync(folder)


def _lock_briefly(folder: int) -> None:
    """Wait until no other process gives names here: its output and our document would not match.

    Not for long: what else holds the lock is no concern of ours. It ends with the descriptor.
    """
    end = time.monotonic() + _LOCK_SECONDS
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
