"""The process that records: what leaves with its timeline, and what comes, sealed.

Both are cut into pieces at key pictures; see `vidmod.live.recording.pieces` for their names. A timeline is written anew
every quarter of a minute while its piece goes on, and for the last time, with size and hash, when that is whole. What
cannot be written is told and tried again: nobody waits for this process, and of what it does not take in time it is
given no more.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from vidmod.live.messages import (
    Beat,
    Begin,
    Finish,
    FromReader,
    Heard,
    Leave,
    Lost,
    Picture,
    RecorderSettings,
    Sight,
    Source,
    ToPublisher,
)
from vidmod.live.processes.station import BEAT_SECONDS, Station
from vidmod.live.recording.clean import CleanRecording
from vidmod.live.recording.sealed import SealedRecording

CLEAN, SIGHTS, SEALED = "clean", "sights", "sealed"
KINDS = {CLEAN: ToPublisher, SIGHTS: Sight, SEALED: FromReader}
# After that what has not ended stays as it is.
_FINISH_SECONDS = 20.0


def run(station: Station[RecorderSettings], settings: RecorderSettings) -> None:
    """Record until the process that watches has gone, or says that it is enough."""
    # A service manager tells all processes at once that it is over; when it is, the one that watches says.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    recorder = _Recorder(station, settings)
    try:
        recorder.run()
    finally:
        recorder.close()


class _Recorder:
    def __init__(self, station: Station[RecorderSettings], settings: RecorderSettings) -> None:
        self._station = station
        self._clean = None if settings.folder is None else CleanRecording(settings, Path(settings.folder))
        self._sealed = (
            None if settings.sealed_folder is None else SealedRecording(settings, Path(settings.sealed_folder))
        )
        self._parts = [part for part in (self._clean, self._sealed) if part is not None]
        self._finishing: float | None = None
        self._is_finished = False

    def run(self) -> None:
        while True:
            for name, message in self._station.poll(BEAT_SECONDS):
                if name == "parent" and isinstance(message, Finish):
                    self._finish()
                elif self._finishing is None:
                    self._hear(message, time.monotonic())
            self._tick()
            if self._finishing is not None and not self._is_finished and not self._is_ending:
                self._is_finished = True
                self._station.tell(self._beat())
            self._station.beat(self._beat())

    def close(self) -> None:
        """Close what is open, whether or not anybody hears of it; more than once is fine."""
        self._finish()
        while self._is_ending:
            time.sleep(0.01)
            self._tick()
        for part in self._parts:
            part.close()

    def _hear(self, message: object, now: float) -> None:
        if self._clean is not None:
            match message:
                case Begin():
                    self._clean.begin(message, now)
                case Leave():
                    self._clean.leave(message, now)
                case Sight():
                    self._clean.sight(message)
        if self._sealed is not None:
            match message:
                case Source():
                    self._sealed.begin(message)
                case Picture():
                    self._sealed.picture(message, now)
                case Heard():
                    self._sealed.heard(message, now)
                case Lost():
                    self._sealed.lose()

    def _tick(self) -> None:
        now = time.monotonic()
        for part in self._parts:
            part.tick(now)

    def _finish(self) -> None:
        if self._finishing is None:
            self._finishing = time.monotonic()
            for part in self._parts:
                part.finish()

    @property
    def _is_ending(self) -> bool:
        assert self._finishing is not None
        return time.monotonic() - self._finishing < _FINISH_SECONDS and any(part.is_ending for part in self._parts)

    def _beat(self) -> Beat:
        doing = "recording" if any(part.is_recording for part in self._parts) else "waiting"
        if self._finishing is not None:
            doing = "finished" if self._is_finished else "finishing"
        troubles = [text for part in self._parts for text in part.troubles]
        return Beat(doing, packets=sum(part.packets for part in self._parts), trouble=" ".join(troubles))
