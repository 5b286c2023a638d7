"""The store: finds and keeps timelines and journals, and raises nothing if it cannot."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from pathlib import Path

from vidmod.errors import TimelineError
from vidmod.store.folder import Bounds, Folder
from vidmod.store.form import Subject, dumps, size_in
from vidmod.store.journal import Journal
from vidmod.timeline import Json, Timeline

_TIMELINE = "vidmod.stored/1"
_JOURNAL = "vidmod.journal/1"


class Store:
    """A folder with the timelines and journals of earlier scans.

    Several processes may use it at once. What goes wrong with it (damage, a full disk, missing rights)
    means that nothing is stored, and raises nothing.

    Args:
        folder: Made, with its parents, when something is first stored.
        max_bytes: Of all files together, 0 or more; the oldest go first. 0: nothing is read or stored.
        max_age_days: Since a file was last written, 0 or more. 0: nothing is read or stored.

    Attributes:
        trouble: The first thing that went wrong, in words, None if nothing did.

    Raises:
        ValueError: A limit is negative.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 256 << 20, max_age_days: int = 90) -> None:
        self.folder = folder
        self.trouble: str | None = None
        self._bounds = Bounds(max_bytes, max_age_days)

    def knows_size(self, size_bytes: int) -> bool:
        """Whether there is any file for a source of this size: only then is hashing the source worth while."""
        if self._bounds.allow_nothing:
            return False
        try:
            with Folder.open(self.folder, self._bounds) as folder:
                return any(size_in(name) == size_bytes for name in folder.names())
        except FileNotFoundError:
            return False
        except OSError as exc:
            self.note(exc)
            return False

    def find(self, sha256: str, size_bytes: int, settings: str) -> Timeline | None:
        """The timeline of an earlier scan.

        Args:
            sha256: Of the source, 64 hex digits.
            size_bytes: Of the source.
            settings: A hex digest, 16 digits or more, of all that a scan's samples depend on: models,
                weights, sampling, vidmod's version.

        Raises:
            ValueError: A digest is none.
        """
        subject = Subject(sha256, size_bytes, settings)
        if self._bounds.allow_nothing:
            return None
        try:
            with Folder.open(self.folder, self._bounds) as folder:
                return _find(folder, subject)
        except FileNotFoundError:
            return None
        except OSError as exc:
            self.note(exc)
            return None

    def keep(self, timeline: Timeline, settings: str) -> None:
        """Store a timeline in place of an earlier one of the same source and settings.

        Args:
            timeline: Of a scan of the whole source: hash and size are those of its `source`.
            settings: As for `find`.

        Raises:
            ValueError: A digest is none.
        """
        subject = Subject(timeline.source["sha256"], timeline.source["size_bytes"], settings)
        if self._bounds.allow_nothing:
            return
        document = timeline.as_document()
        text = dumps({**subject.header(_TIMELINE), "checksum": _checksum_of(document), "timeline": document})
        content = text.encode() + b"\n"
        try:
            if len(content) > self._bounds.max_bytes:
                raise OSError(errno.EFBIG, f"a timeline of {len(content)} bytes is above the limit of the store")
            with Folder.open(self.folder, self._bounds, make=True) as folder:
                folder.prune(room=len(content))
                folder.write(subject.name("timeline.json"), content)
        except OSError as exc:
            self.note(exc)

    def journal(self, sha256: str, size_bytes: int, settings: str) -> Journal:
        """The journal of a scan, with what an interrupted one left in it.

        It is locked until it is closed or finished. Whoever wants a locked one, or one that cannot be
        written, gets a journal that is empty and records nothing.

        Args:
            sha256, size_bytes, settings: As for `find`.

        Raises:
            ValueError: A digest is none.
        """
        subject = Subject(sha256, size_bytes, settings)
        if self._bounds.allow_nothing:
            return Journal()
        try:
            with Folder.open(self.folder, self._bounds, make=True) as folder:
                file = folder.lock(subject.name("journal"))
                if file is None:
                    return Journal()
                try:
                    # After locking, so that it is not this journal that makes room.
                    folder.prune()
                    return Journal.resume(file, subject.header(_JOURNAL), self._bounds.max_bytes, self.note)
                except BaseException:
                    file.close()
                    raise
        except OSError as exc:
            self.note(exc)
            return Journal()

    def note(self, error: OSError) -> None:
        """Remember the first trouble in words."""
        if self.trouble is None:
            self.trouble = (
                f"{self.folder}: scans are not stored, or not found again ({error.strerror or error}). "
                "Check the folder, or set VIDMOD_CACHE to a folder of yours."
            )


def _find(folder: Folder, subject: Subject) -> Timeline | None:
    name = subject.name("timeline.json")
    content = folder.read(name)
    timeline = None if content is None else _parse(content, subject)
    if timeline is None:
        # Others may have put a good one in its place since: that one is scanned again, no more.
        with contextlib.suppress(OSError):
            folder.remove(name)
    return timeline


def _parse(content: bytes, subject: Subject) -> Timeline | None:
    """The timeline in a stored file, None if it is damaged or of another source or other settings."""
    try:
        stored = json.loads(content)
        if not isinstance(stored, dict) or not isinstance(stored.get("timeline"), dict):
            return None
        document, checksum = stored.pop("timeline"), stored.pop("checksum", None)
        if stored != subject.header(_TIMELINE) or checksum != _checksum_of(document):
            return None
        timeline = Timeline.from_document(document)
    except (TimelineError, ValueError, RecursionError):
        return None
    source = timeline.source
    return timeline if (source["sha256"], source["size_bytes"]) == (subject.sha256, subject.size_bytes) else None


def _checksum_of(document: Json) -> str:
    return hashlib.sha256(dumps(document).encode()).hexdigest()
