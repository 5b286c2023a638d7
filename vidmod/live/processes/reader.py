"""The process that reads the source: connects, takes it apart into packets, connects again.

It keeps what came since the last key picture, so that a filter that was replaced need not wait for the next one.
"""

from __future__ import annotations

import dataclasses
import time

import msgspec

from vidmod.errors import SourceUnreadableError
from vidmod.live.backoff import Backoff
from vidmod.live.messages import Beat, Heard, Lost, Picture, ReaderSettings, Sound, Source
from vidmod.live.processes.station import BEAT_SECONDS, Station
from vidmod.media.network import Incoming, NetworkReader, NoPicturesError, StreamFacts
from vidmod.media.places import scheme_of

PACKETS, SEALED = "packets", "sealed"
KINDS: dict[str, type] = {PACKETS: int, SEALED: int}  # nothing comes on them
_MOST_KEPT_BYTES = 8 << 20


def run(station: Station[ReaderSettings], settings: ReaderSettings) -> None:
    """Read until the process that watches has gone; of a file, until its end."""
    _Reader(station, settings).run()


class _Recent:
    """What came since the last key picture; nothing, once that is too much."""

    def __init__(self) -> None:
        self._rows: list[Picture | Heard] = []
        self._bytes = 0

    def clear(self) -> None:
        self._rows, self._bytes = [], 0

    def add(self, row: Picture | Heard) -> None:
        if isinstance(row, Picture) and row.key:
            self.clear()
        elif not self._rows:
            return
        self._rows.append(row)
        self._bytes += len(row.data)
        if self._bytes > _MOST_KEPT_BYTES:
            self.clear()

    def again(self) -> list[Picture | Heard]:
        return [msgspec.structs.replace(row, again=True) if isinstance(row, Picture) else row for row in self._rows]


class _Reader:
    def __init__(self, station: Station[ReaderSettings], settings: ReaderSettings) -> None:
        self._station, self._settings = station, settings
        self._beat = Beat("connecting")
        self._facts: StreamFacts | None = None
        # Whether the filter, and the recorder, know of this source; False if what it knows has a hole.
        self._told = {PACKETS: False, SEALED: False}
        self._recent = _Recent()

    def run(self) -> None:
        backoff = Backoff(growth=1.5, reset_after=5.0)
        expects_sound = True
        while True:
            self._beat.doing = "connecting"
            self._listen(0.0)
            try:
                settings = self._settings
                with NetworkReader(
                    settings.url,
                    timeout_seconds=settings.timeout_seconds,
                    max_pixels=settings.max_pixels,
                    trusted=settings.trusted,
                    expects_sound=expects_sound,
                    meanwhile=lambda: self._listen(0.0),
                ) as reader:
                    expects_sound = reader.facts.sound is not None
                    self._connect(reader.facts)
                    self._beat.connections += 1
                    self._beat.doing, self._beat.trouble = "reading", ""
                    for incoming in reader.packets():
                        self._listen(0.0)
                        self._pass_on(incoming)
                        backoff.succeeded()
            except SourceUnreadableError as exc:
                # Another source may stand there by now, with sound, and pictures that take their time.
                expects_sound = expects_sound or isinstance(exc, NoPicturesError)
                self._beat.trouble = str(exc)
                for name in self._told:
                    self._station.send(name, Lost(str(exc)))
            self._facts = None
            is_over = scheme_of(self._settings.url) == "file" and self._beat.connections > 0
            self._beat.doing = "ended" if is_over else "waiting"
            self._idle(float("inf") if is_over else backoff.failed())

    def _idle(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._listen(min(left, BEAT_SECONDS))

    def _listen(self, seconds: float) -> None:
        for name, message in self._station.poll(seconds):
            if message is None and name in self._told:
                self._tell(name)
        self._beat.waiting = self._station.waiting(PACKETS)
        self._station.beat(self._beat)

    def _connect(self, facts: StreamFacts) -> None:
        self._facts = facts
        self._recent.clear()
        self._told = dict.fromkeys(self._told, False)

    def _tell(self, name: str) -> None:
        """Tell one that has just come what this source is, and what it needs to go on from here."""
        self._told[name] = False
        if self._facts is not None and self._station.has(name):
            rows = [_source(self._facts), *self._recent.again()]
            self._told[name] = all(self._station.send(name, row) for row in rows)

    def _pass_on(self, incoming: Incoming) -> None:
        facts = self._facts
        if facts is None:
            return
        if incoming.extradata is not None:
            changed = _changed(facts, incoming.extradata, is_sound=incoming.is_sound)
            if changed != facts:  # some servers say it again and again
                self._connect(changed)
        self._beat.packets += 1
        now = time.monotonic()
        row: Picture | Heard
        if incoming.is_sound:
            row = Heard(incoming.seconds, incoming.data, now)
        else:
            row = Picture(incoming.pts, incoming.dts, incoming.key, incoming.data, now)
        self._recent.add(row)
        for name, told in self._told.items():
            if not self._station.has(name):
                continue
            if told:
                # What is dropped because the other side stands still leaves a hole up to the next key picture.
                self._told[name] = self._station.send(name, row)
            elif isinstance(row, Picture) and row.key:
                self._tell_key(name, row)

    def _tell_key(self, name: str, row: Picture) -> None:
        assert self._facts is not None
        sent = self._station.send(name, _source(self._facts))
        self._told[name] = sent and self._station.send(name, row)


def _changed(facts: StreamFacts, extradata: bytes, *, is_sound: bool) -> StreamFacts:
    """What the source is from here on."""
    if not is_sound:
        return dataclasses.replace(facts, extradata=extradata)
    sound = None if facts.sound is None else dataclasses.replace(facts.sound, extradata=extradata)
    return dataclasses.replace(facts, sound=sound)


def _source(facts: StreamFacts) -> Source:
    sound = facts.sound
    return Source(
        codec=facts.codec,
        extradata=facts.extradata,
        size=facts.size,
        rate=(facts.rate.numerator, facts.rate.denominator),
        time_base=(facts.time_base.numerator, facts.time_base.denominator),
        bits=facts.bits,
        sound=None if sound is None else Sound(sound.codec, sound.sample_rate, sound.layout, sound.extradata),
        aspect=(facts.aspect.numerator, facts.aspect.denominator),
        colours=facts.colours,
    )
