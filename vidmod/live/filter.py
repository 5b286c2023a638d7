"""The process between: decodes, has pictures looked at, covers, encodes. It reaches nothing but its neighbours."""

from __future__ import annotations

import time
from fractions import Fraction

from vidmod.errors import OutputError, UndecodableError
from vidmod.live.gate import CoverAll, Gate
from vidmod.live.messages import (
    Beat,
    Begin,
    FilterSettings,
    FromReader,
    Heard,
    Hold,
    Input,
    Leave,
    Look,
    Lost,
    Picture,
    Seen,
    Source,
    WantKey,
)
from vidmod.live.pipe import PictureSource, Pipe, PipeSettings
from vidmod.live.sound import SoundLine
from vidmod.live.station import BEAT_SECONDS, Station
from vidmod.media.live import TIME_BASE, Shape, silent_packet
from vidmod.media.network import packet_seconds
from vidmod.policy import Policy
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.targets import Targets
from vidmod.tracking import Tracking

PACKETS, LOOKS, LEAVING = "packets", "looks", "leaving"
KINDS = {PACKETS: FromReader, LOOKS: Seen, LEAVING: WantKey}
# Sound that is coded so is copied; other sound is left out.
_SOUND = ("aac",)


def run(station: Station[FilterSettings], settings: FilterSettings) -> None:
    """Filter until the process that watches has gone."""
    _Filter(station, settings).run()


class _Filter:
    def __init__(self, station: Station[FilterSettings], settings: FilterSettings) -> None:
        self._station, self._settings = station, settings
        policy = Policy.from_document(settings.policy, "policy")
        self._targets = Targets.of_labels(settings.labels, policy) if settings.labels else Targets.of_policy(policy)
        self._cover_all = tuple(CoverAll(row, row.block) for row in self._targets.categories)
        self._begin = settings.begin
        self._pipe: Pipe | None = None
        self._held: float | None = None
        self._is_open = False  # whether the publisher has a key picture to go on from
        if self._begin is not None:
            self._pipe = self._piped(self._begin)

    def run(self) -> None:
        while True:
            now = time.monotonic()
            due = now + BEAT_SECONDS if self._pipe is None else self._pipe.due
            for name, message in self._station.poll(min(BEAT_SECONDS, due - now)):
                self._hear(name, message)
            self._work()
            counts = None if self._pipe is None else self._pipe.counts
            self._station.beat(Beat("filtering", counts, waiting=self._station.waiting(LEAVING)))

    def _work(self) -> None:
        pipe = self._pipe
        if pipe is None:
            return
        if self._station.has(LOOKS) and (wanted := pipe.wanted_look()) is not None:
            inputs = [Input(item.image.tobytes(), item.geometry.scale, item.geometry.size) for item in wanted.inputs]
            if not self._station.send(LOOKS, Look(wanted.pts, inputs)):
                pipe.lose_looks()
        for row in pipe.leave(time.monotonic()):
            is_sound = row.kind == "sound"
            if not is_sound and not (self._is_open or row.key):
                pipe.want_key()
                continue
            sent = self._station.send(LEAVING, Leave(is_sound, row.pts, row.key, row.data))
            if not is_sound:
                self._is_open = sent

    def _hear(self, name: str, message: object) -> None:
        match message:
            case None if name == LEAVING:
                self._is_open = False
                if self._begin is not None and self._pipe is not None:
                    self._station.send(LEAVING, self._begin)
                    self._pipe.want_key()
            case None if name == LOOKS and self._pipe is not None:
                self._pipe.lose_looks()
            case Source():
                self._connect(message)
            case Lost() if self._pipe is not None:
                self._pipe.lose()
            case Picture() if self._pipe is not None:
                now = time.monotonic()
                self._pipe.picture(message.data, message.pts, message.dts, key=message.key, now=now)
            case Heard() if self._pipe is not None:
                self._pipe.sound(message.data, message.seconds, time.monotonic())
            case Seen() if self._pipe is not None:
                self._pipe.looked(message.pts, _predictions(message))
            case WantKey() if self._pipe is not None:
                self._pipe.want_key()
            case Hold():
                self._held = message.until
                if self._pipe is not None:
                    self._pipe.hold(message.until)
            case _:
                pass

    def _connect(self, source: Source) -> None:
        if self._pipe is None or self._begin is None:
            shape = Shape.like(source.size, Fraction(*source.rate), preset=self._settings.preset)
            sound = source.sound if source.sound is not None and source.sound.codec in _SOUND else None
            begin = Begin(shape.size, source.rate, shape.bits, shape.preset, b"", sound)
            self._pipe = self._piped(begin)
            begin.parameter_sets = self._pipe.parameter_sets
            self._begin = begin
            self._station.tell(begin)
            self._station.send(LEAVING, begin)
        try:
            self._pipe.begin(PictureSource(source.codec, source.extradata or None, Fraction(*source.time_base)))
        except UndecodableError:
            self._pipe.lose()

    def _piped(self, begin: Begin) -> Pipe:
        settings, now = self._settings, time.monotonic()
        pipe = Pipe(
            PipeSettings(settings.delay_seconds, settings.max_pixels, 1, settings.threads),
            self._gate,
            settings.preparations,
            shape_of(begin),
            sound_line(begin, now),
            now,
        )
        pipe.hold(self._held)
        return pipe

    def _gate(self, size: tuple[int, int]) -> Gate:
        return Gate(
            self._targets,
            self._cover_all,
            Tracking(margin=self._settings.margin),
            size=size,
            time_base=TIME_BASE,
            max_gap_seconds=self._settings.max_gap_seconds,
            hold_seconds=self._settings.hold_seconds,
        )


def shape_of(begin: Begin) -> Shape:
    """What the pictures that leave are like."""
    return Shape(begin.size, Fraction(*begin.rate), begin.bits, begin.preset)


def sound_line(begin: Begin, now: float) -> SoundLine | None:
    """What the sound that leaves goes through; None without, or where there is no silence like it."""
    if begin.sound is None:
        return None
    try:
        silence = silent_packet(begin.sound.sample_rate, begin.sound.layout)
    except OutputError:
        return None
    return SoundLine(silence, packet_seconds(begin.sound.sample_rate), now)


def _predictions(seen: Seen) -> Predictions:
    return Predictions(
        scores=tuple(Scores(model, labels) for model, labels in seen.scores),
        detections=tuple(Detection(item.model, item.label, item.score, item.box) for item in seen.found),
    )
