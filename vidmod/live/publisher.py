"""The process that publishes: keeps the connection, and has cover and silence for it whenever nothing comes.

It never has a clear picture but those that the filter has let through.
"""

from __future__ import annotations

import time

from vidmod.errors import OutputError
from vidmod.live.backoff import Backoff
from vidmod.live.filter import shape_of, sound_line
from vidmod.live.gate import Gate
from vidmod.live.messages import Beat, Begin, Leave, PublisherSettings, ToPublisher, WantKey
from vidmod.live.pipe import Pipe, PipeSettings
from vidmod.live.station import BEAT_SECONDS, Station
from vidmod.media.live import TIME_BASE
from vidmod.media.network import NetworkWriter

LEAVING = "leaving"
KINDS = {LEAVING: ToPublisher}
# With nothing from the filter for so long, covers are made here.
_PATIENCE_SECONDS = 0.6


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
        self._needs_key = True
        self._retry = 0.0
        self._backoff = Backoff()

    def run(self) -> None:
        while True:
            wait = BEAT_SECONDS
            if self._substitute is not None:
                wait = min(wait, self._substitute.due - time.monotonic())
            for name, message in self._station.poll(wait):
                if name == LEAVING and isinstance(message, Begin):
                    self._begin = message
                elif name == LEAVING and isinstance(message, Leave):
                    self._take(message)
            self._connect()
            self._stand_in()
            self._station.beat(self._beat)

    def _take(self, message: Leave) -> None:
        if self._needs_key or self._substitute is not None:
            if message.is_sound or not message.key:
                return
            self._substitute = None
            self._needs_key = False
        self._heard = time.monotonic()
        self._write(message.is_sound, message.pts, message.key, message.data)

    def _write(self, is_sound: bool, pts: int, key: bool, data: bytes) -> None:
        if self._writer is None or pts <= self._last[is_sound]:
            return
        try:
            self._writer.write(data, pts, is_sound=is_sound, key=key)
        except OutputError as exc:
            self._lose(str(exc))
            return
        self._last[is_sound] = pts
        self._beat.packets += 1
        self._backoff.succeeded()

    def _connect(self) -> None:
        if self._writer is not None or self._begin is None or time.monotonic() < self._retry:
            return
        sound = self._begin.sound
        try:
            self._writer = NetworkWriter(
                self._settings.url,
                shape_of(self._begin),
                None if sound is None else (sound.sample_rate, sound.layout),
                timeout_seconds=self._settings.timeout_seconds,
            )
        except OutputError as exc:
            self._lose(str(exc))
            return
        self._beat.connections += 1
        self._beat.doing, self._beat.trouble = "publishing", ""
        self._needs_key = True
        self._substitute = None
        self._heard = time.monotonic()
        self._station.send(LEAVING, WantKey())

    def _lose(self, why: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._beat.doing, self._beat.trouble = "connecting", why
        self._retry = time.monotonic() + self._backoff.failed()

    def _stand_in(self) -> None:
        """Cover and silence while nothing comes."""
        now = time.monotonic()
        if self._writer is None or self._begin is None or now - self._heard < _PATIENCE_SECONDS:
            return
        if self._substitute is None:
            since = max(now - _PATIENCE_SECONDS, self._last[False] * float(TIME_BASE))
            self._substitute = Pipe(
                PipeSettings(), _no_gate, (), shape_of(self._begin), sound_line(self._begin, since), since
            )
            self._station.send(LEAVING, WantKey())
        for row in self._substitute.leave(now):
            self._write(row.kind == "sound", row.pts, row.key, row.data)


def _no_gate(_size: tuple[int, int]) -> Gate:
    raise AssertionError("What stands in has no source.")
