"""Events that wait for delivery, on disk: they survive the end of the process, however it comes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidmod.closing import Closing
from vidmod.errors import OutputError, UsageError

DROP_REASONS = ("full", "expired", "receiver_removed")
# Ids of events that are done with, so that one that is told again is not sent again.
_REMEMBERED = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    target TEXT NOT NULL, seq INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, aside INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0, PRIMARY KEY (target, seq));
CREATE INDEX IF NOT EXISTS deliveries_of_event ON deliveries (seq);
CREATE TABLE IF NOT EXISTS known (id TEXT PRIMARY KEY, seq INTEGER NOT NULL);
"""
_ROW = "SELECT seq, id, body, attempts FROM deliveries JOIN events USING (seq) WHERE target = ? AND "
_NEXT_ASIDE = _ROW + "aside = 1 AND (due <= ? OR due > ?) ORDER BY due LIMIT 1"
_NEXT = _ROW + "aside = 0 ORDER BY seq LIMIT 1"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One delivery to make.

    Attributes:
        sequence: Of the event, over all runs that used this spool.
        attempts: That failed.
    """

    sequence: int
    event_id: str
    body: bytes
    attempts: int


class Spool(Closing):
    """What is to be delivered to whom; for any thread. Every change is on disk when the method returns.

    Events go to a receiver in the order in which they were added, but for those that it refused: they are set
    aside, and come again when they are due.

    Args:
        path: A file of SQLite, made if it is not there; None for memory. One that is damaged is renamed.
        targets: Keys of the receivers. What waits for others is dropped.
        max_events, max_bytes: Beyond, the oldest events are dropped.
        longest_wait_seconds: A due time further ahead is of a clock that was set back.
        wall_clock: Seconds since 1970.

    Attributes:
        renamed: What became of a damaged file; None if there was none.

    Raises:
        UsageError: Another process uses the file.
        OutputError: It cannot be made.
    """

    def __init__(
        self,
        path: Path | None,
        targets: Sequence[str],
        *,
        max_events: int = 10_000,
        max_bytes: int = 64 << 20,
        longest_wait_seconds: float = 300.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._targets = tuple(targets)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._longest_wait_seconds = longest_wait_seconds
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._closed = False
        self._waiting = self._bytes = 0
        self.renamed: Path | None = None
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self._database = self._open(path)
        with self._changing() as database:
            self._forget_others(database)

    @property
    def waiting(self) -> int:
        """Deliveries to make."""
        return self._waiting

    @property
    def waiting_bytes(self) -> int:
        """Bytes of all events that wait."""
        return self._bytes

    def add(self, event_id: str, body: Callable[[int], bytes]) -> bool:
        """Take in an event; False if it is known, from this run or an earlier one.

        Args:
            event_id: Unique.
            body: Makes the body from the event's number.

        Raises:
            OutputError: It cannot be written; nothing has changed.
        """
        with self._changing() as database:
            known = "SELECT 1 FROM events WHERE id = ? UNION ALL SELECT 1 FROM known WHERE id = ?"
            if database.execute(known, (event_id, event_id)).fetchone():
                return False
            sequence = database.execute(
                "INSERT INTO events (id, created, body) VALUES (?, ?, x'')", (event_id, self._wall_clock())
            ).lastrowid
            assert sequence is not None
            content = body(sequence)
            database.execute("UPDATE events SET body = ? WHERE seq = ?", (content, sequence))
            rows = [(target, sequence) for target in self._targets]
            database.executemany("INSERT INTO deliveries (target, seq) VALUES (?, ?)", rows)
            self._make_room(database)
        return True

    def next(self, target: str) -> Waiting | None:
        """The delivery to make now, if there is one.

        Raises:
            OutputError: The file cannot be read.
        """
        now = self._wall_clock()
        with self._changing() as database:
            row = database.execute(_NEXT_ASIDE, (target, now, now + self._longest_wait_seconds)).fetchone()
            row = row or database.execute(_NEXT, (target,)).fetchone()
            return None if row is None else Waiting(*row)

    def delivered(self, target: str, sequence: int) -> None:
        """The receiver has it.

        Raises:
            OutputError: That cannot be written; it will be delivered again.
        """
        with self._changing() as database:
            database.execute("DELETE FROM deliveries WHERE target = ? AND seq = ?", (target, sequence))
            _forget_done(database)

    def failed(self, target: str, sequence: int, *, set_aside_seconds: float | None) -> None:
        """The receiver has it not.

        Args:
            set_aside_seconds: Let others pass, and try again in so many seconds; None to keep the order.

        Raises:
            OutputError: That cannot be written.
        """
        with self._changing() as database:
            due = None if set_aside_seconds is None else self._wall_clock() + set_aside_seconds
            database.execute(
                "UPDATE deliveries SET attempts = attempts + 1, aside = aside OR ?, due = coalesce(?, due) "
                "WHERE target = ? AND seq = ?",
                (due is not None, due, target, sequence),
            )

    def expire(self, target: str, age_seconds: float) -> int:
        """Drop what is older, of one receiver; how many.

        Raises:
            OutputError: That cannot be written.
        """
        with self._changing() as database:
            count = database.execute(
                "DELETE FROM deliveries WHERE target = ? AND seq IN (SELECT seq FROM events WHERE created < ?)",
                (target, self._wall_clock() - age_seconds),
            ).rowcount
            self.dropped["expired"] += count
            _forget_done(database)
            return count

    def in_memory(self) -> Spool:
        """A copy that needs no disk, or one without events if this cannot be read; this is closed."""
        copy = Spool(
            None,
            self._targets,
            max_events=self._max_events,
            max_bytes=self._max_bytes,
            longest_wait_seconds=self._longest_wait_seconds,
            wall_clock=self._wall_clock,
        )
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._database.backup(copy._database)
        copy.dropped = self.dropped
        with copy._changing() as database:
            copy._make_room(database)
        self.close()
        return copy

    def close(self) -> None:
        """Close the file. What is asked of it later finds nothing and changes nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                with contextlib.suppress(sqlite3.Error):
                    self._database.close()
                self._database = _connect(None)

    def _open(self, path: Path | None) -> sqlite3.Connection:
        if path is None:
            return _connect(None)
        try:
            # SQLite would make it as the umask allows.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            try:
                return _connect(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self.renamed = path.with_name(f"{path.name}.damaged")
                path.replace(self.renamed)
                path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
                return _connect(path)
        except sqlite3.OperationalError as exc:
            if "locked" in str(exc):
                raise UsageError(f"{path}: another live filter uses it. Name another file.") from exc
            raise OutputError(f"{path}: cannot be used ({exc}).") from exc
        except sqlite3.Error as exc:
            raise OutputError(f"{path}: cannot be used ({exc}).") from exc
        except OSError as exc:
            raise OutputError(f"{path}: cannot be made ({exc.strerror}).") from exc

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """All of it happens, or nothing."""
        with self._lock:
            dropped = dict(self.dropped)
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._count()
                self._database.execute("COMMIT")
            except BaseException as exc:
                self.dropped = dropped
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                if isinstance(exc, sqlite3.Error):
                    raise OutputError(f"The spool of webhooks cannot be used ({exc}).") from exc
                raise

    def _count(self) -> None:
        self._waiting = int(self._database.execute("SELECT count(*) FROM deliveries").fetchone()[0])
        self._bytes = _size(self._database)[1]

    def _make_room(self, database: sqlite3.Connection) -> None:
        count, total = _size(database)
        while count > 1 and (count > self._max_events or total > self._max_bytes):
            sequence, size = database.execute("SELECT seq, length(body) FROM events ORDER BY seq LIMIT 1").fetchone()
            self.dropped["full"] += database.execute("DELETE FROM deliveries WHERE seq = ?", (sequence,)).rowcount
            _forget_done(database)
            count, total = count - 1, total - size

    def _forget_others(self, database: sqlite3.Connection) -> None:
        marks = ", ".join("?" * len(self._targets))
        removed = database.execute(f"DELETE FROM deliveries WHERE target NOT IN ({marks})", self._targets)  # noqa: S608
        self.dropped["receiver_removed"] += removed.rowcount
        _forget_done(database)


def _size(database: sqlite3.Connection) -> tuple[int, int]:
    """How many events there are, and their bytes."""
    count, total = database.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM events").fetchone()
    return int(count), int(total)


def _forget_done(database: sqlite3.Connection) -> None:
    """Remove events that nobody waits for any more; their ids are kept for a while."""
    database.execute(
        "INSERT OR IGNORE INTO known SELECT id, seq FROM events WHERE seq NOT IN (SELECT seq FROM deliveries)"
    )
    database.execute("DELETE FROM events WHERE seq NOT IN (SELECT seq FROM deliveries)")
    database.execute("DELETE FROM known WHERE seq <= (SELECT max(seq) FROM known) - ?", (_REMEMBERED,))


def _connect(path: Path | None) -> sqlite3.Connection:
    """A connection that no other process shares, made ready.

    Raises:
        sqlite3.Error: It is none, is locked, or cannot be written.
    """
    name = ":memory:" if path is None else str(path)
    database = sqlite3.connect(name, timeout=0.5, isolation_level=None, check_same_thread=False)
    try:
        # The lock is held until the end, and the kernel gives it back when the process is killed.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        # No second file for good, as write-ahead logging has; there are few events.
        database.execute("PRAGMA journal_mode = TRUNCATE")
        # Also a power cut leaves what was taken in.
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except BaseException:
        database.close()
        raise
    return database
