"""The process that publishes: keeps the connection, and has cover and silence for it whenever nothing comes.

It never has a clear picture but those that the filter has let through. What it lets leave goes to the recorder, too,
whether there is a connection or not.
"""

from __future__ import annotations

import time

from vidmod.errors import OutputError
from vidmod.live.backoff import Backoff
from vidmod.live.filtering.gate import Gate
from vidmod.live.filtering.pipe import Pipe, PipeSettings
from vidmod.live.messages import Beat, Begin, Finish, Leave, PublisherSettings, ToPublisher, WantKey
from vidmod.live.processes.filter import shape_of, sound_line
from vidmod.live.processes.station import BEAT_SECONDS, Station
from vidmod.media.live import TIME_BASE
from vidmod.media.network import NetworkWriter

LEAVING, CLEAN = "leaving", "clean"
KINDS = {LEAVING: ToPublisher, CLEAN: int}  # nothing comes on the second
# With nothing from the filter for so long, covers are made here.
_PATIENCE_SECONDS = 0.6
# FLV counts milliseconds in 31 bits, which is 24.8 days: before that a new connection begins at 0.
_LONGEST_CONNECTION_SECONDS = 20 * 86_400.0


def run(station: Station[PublisherSettings], settings: PublisherSettings) -> None:
    """Publish until the process that watches has gone."""
    _Publisher(station, settings).run()


class _Publisher:
    def __init__(self, station: Station[PublisherSettings], settings: PublisherSettings) -> None:
        self._station, self._settings = station, settings
        self._begin: Begin | None = None
        self._writer: NetworkWriter | None = None
        self._substitute: Pipe | None = None
        self._beat = Beat("waiting")
        self._heard = time.monotonic()
        self._last = {False: -1, True: -1}
        # The filter's packets are joined, and a connection begun, with a key picture.
        self._joins = self._starts = True
        self._is_recorded = False
        self._zero = 0.0
        self._retry = 0.0
        self._backoff = Backoff(growth=1.5, reset_after=5.0)

    def run(self) -> None:
        while True:
            wait = BEAT_SECONDS
            if self._substitute is not None:
                wait = min(wait, self._substitute.due - time.monotonic())
            for name, message in self._station.poll(wait):
                self._hear(name, message)
            if self._beat.doing != "finished":
                self._connect()
                self._stand_in()
            self._beat.waiting = self._station.waiting(CLEAN)
            self._station.beat(self._beat)

    def _hear(self, name: str, message: object) -> None:
        match message:
            case None if name == CLEAN:
                self._is_recorded = False
                if self._begin is not None:
                    self._station.send(CLEAN, self._begin)
                    self._want_key()
            case Begin():
                self._begin = message
                self._station.send(CLEAN, message)
            case Leave() if self._beat.doing != "finished":
                self._take(message)
            case Finish():
                self._lose("")
                self._beat.doing = "finished"
            case _:
                pass

    def _take(self, message: Leave) -> None:
        # What stood in may have gone further than what now comes; without its key picture the rest would refer to that.
        if not message.is_sound and message.pts <= self._last[False]:
            if message.key or not self._joins:
                self._station.send(LEAVING, WantKey())
            self._joins = True
            return
        if self._joins:
            if message.is_sound or not message.key:
                return
            self._joins, self._substitute = False, None
        self._heard = time.monotonic()
        self._write(message)

    def _write(self, message: Leave) -> None:
        is_sound = message.is_sound
        if message.pts <= self._last[is_sound]:
            return
        self._last[is_sound] = message.pts
        self._record(message)
        if self._writer is None or (self._starts and (is_sound or not message.key)):
            self._beat.dropped += not is_sound
            return
        self._starts = False
        pts = message.pts - round(self._zero / TIME_BASE)
        try:
            self._writer.write(message.data, pts, is_sound=is_sound, key=message.key)
        except OutputError as exc:
            self._lose(str(exc))
            self._beat.dropped += not is_sound
            return
        self._beat.packets += 1
        self._beat.pictures += not is_sound
        self._backoff.succeeded()

    def _record(self, message: Leave) -> None:
        """Pass it on to be recorded, from a key picture on, and after a hole from the next one on."""
        if self._is_recorded or (message.key and not message.is_sound):
            self._is_recorded = self._station.send(CLEAN, message)

    def _connect(self) -> None:
        now = time.monotonic()
        if self._writer is not None and now - self._zero > _LONGEST_CONNECTION_SECONDS:
            self._lose("")
            self._retry = now
        if self._writer is not None or self._begin is None or now < self._retry:
            return
        sound = self._begin.sound
        lasted = now - self._settings.origin
        self._zero = now - lasted % _LONGEST_CONNECTION_SECONDS
        self._beat.doing = "connecting"
        try:
            self._writer = NetworkWriter(
                self._settings.url,
                shape_of(self._begin),
                None if sound is None else (sound.sample_rate, sound.layout),
                timeout_seconds=self._settings.timeout_seconds,
                number=self._settings.number + self._beat.connections,
                trusted=self._settings.trusted,
            )
        except OutputError as exc:
            self._lose(str(exc))
            return
        self._beat.connections += 1
        self._beat.doing, self._beat.trouble = "publishing", ""
        self._starts = True
        self._want_key()

    def _want_key(self) -> None:
        self._station.send(LEAVING, WantKey())
        if self._substitute is not None:
            self._substitute.want_key()

    def _lose(self, why: str) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OutputError as exc:
                why = why or str(exc)
        self._beat.doing, self._beat.trouble = "connecting", why
        self._retry = time.monotonic() + self._backoff.failed()

    def _stand_in(self) -> None:
        """Cover and silence while nothing comes."""
        now = time.monotonic()
        is_wanted = self._writer is not None or self._station.has(CLEAN)
        if self._begin is None or not is_wanted or now - self._heard < _PATIENCE_SECONDS:
            return
        if self._substitute is None:
            since = max(now - _PATIENCE_SECONDS, self._last[False] * float(TIME_BASE))
            self._substitute = Pipe(
                PipeSettings(), _no_gate, (), shape_of(self._begin), sound_line(self._begin, since), since
            )
            self._joins = True
            self._station.send(LEAVING, WantKey())
        for row in self._substitute.leave(now):
            self._beat.covers += row.kind == "picture"
            self._write(Leave(row.kind == "sound", row.pts, row.key, row.data))


def _no_gate(_size: tuple[int, int]) -> Gate:
    raise AssertionError("What stands in has no source.")
