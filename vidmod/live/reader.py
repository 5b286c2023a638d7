"""The process that reads the source: connects, takes it apart into packets, connects again."""

from __future__ import annotations

import dataclasses
import time

from vidmod.errors import SourceUnreadableError
from vidmod.live.backoff import Backoff
from vidmod.live.messages import Beat, Heard, Lost, Picture, ReaderSettings, Sound, Source
from vidmod.live.station import BEAT_SECONDS, Station
from vidmod.media.network import Incoming, NetworkReader, StreamFacts, scheme_of

PACKETS, SEALED = "packets", "sealed"
KINDS: dict[str, type] = {PACKETS: int, SEALED: int}  # nothing comes on them


def run(station: Station[ReaderSettings], settings: ReaderSettings) -> None:
    """Read until the process that watches has gone; of a file, until its end."""
    _Reader(station, settings).run()


class _Reader:
    def __init__(self, station: Station[ReaderSettings], settings: ReaderSettings) -> None:
        self._station, self._settings = station, settings
        self._beat = Beat("connecting")
        self._facts: StreamFacts | None = None
        self._told = False  # whether the filter knows of this source
        self._told_recorder = False
        self._needs_key = True

    def run(self) -> None:
        backoff = Backoff()
        while True:
            self._beat.doing = "connecting"
            self._listen(0.0)
            try:
                settings = self._settings
                with NetworkReader(
                    settings.url, timeout_seconds=settings.timeout_seconds, max_pixels=settings.max_pixels
                ) as reader:
                    self._facts = reader.facts
                    self._told = self._told_recorder = False
                    self._beat.connections += 1
                    self._beat.doing, self._beat.trouble = "reading", ""
                    for incoming in reader.packets():
                        self._listen(0.0)
                        self._pass_on(incoming)
                        backoff.succeeded()
            except SourceUnreadableError as exc:
                self._beat.trouble = str(exc)
                for name in (PACKETS, SEALED):
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
        for name, _ in self._station.poll(seconds):
            if name == PACKETS:
                self._told = False
            elif name == SEALED:
                self._told_recorder = False
        self._beat.waiting = self._station.waiting(PACKETS)
        self._station.beat(self._beat)

    def _pass_on(self, incoming: Incoming) -> None:
        facts = self._facts
        if facts is None:
            return
        if incoming.extradata is not None:
            self._facts = facts = _changed(facts, incoming.extradata, is_sound=incoming.is_sound)
            self._told = self._told_recorder = False
        if self._station.has(SEALED):
            self._record(facts, incoming)
        if not self._station.has(PACKETS):
            return
        if not self._told:
            self._told = self._station.send(PACKETS, _source(facts))
            self._needs_key = True
        self._beat.packets += 1
        if incoming.is_sound:
            self._station.send(PACKETS, Heard(incoming.seconds, incoming.data))
        elif incoming.key or not self._needs_key:
            # Of what is dropped because the filter stands still, nothing is of use up to the next key picture.
            self._needs_key = not self._station.send(PACKETS, _picture(incoming))

    def _record(self, facts: StreamFacts, incoming: Incoming) -> None:
        """Pass it on to be sealed; what is dropped makes it tell the source anew, and so to wait for a key picture."""
        if not self._told_recorder:
            self._told_recorder = self._station.send(SEALED, _source(facts))
        if self._told_recorder:
            row = Heard(incoming.seconds, incoming.data) if incoming.is_sound else _picture(incoming)
            self._told_recorder = self._station.send(SEALED, row)


def _picture(incoming: Incoming) -> Picture:
    return Picture(incoming.pts, incoming.dts, incoming.key, incoming.data)


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
    )
