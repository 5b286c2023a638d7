"""The process between: decodes, has pictures looked at, covers, encodes. It reaches nothing but its neighbours."""

from __future__ import annotations

import gc
import time
from fractions import Fraction

from vidmod.errors import OutputError, UndecodableError
from vidmod.live.filtering.gate import Gate
from vidmod.live.filtering.hearing import Hearing
from vidmod.live.filtering.pipe import ArrivalNote, ChangeNote, CoverNote, PictureSource, Pipe, PipeSettings
from vidmod.live.filtering.rules import Rules
from vidmod.live.filtering.sound import SoundLine
from vidmod.live.messages import (
    Arrived,
    Beat,
    Begin,
    Changed,
    Covering,
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
    Sight,
    Sound,
    Source,
    Unusable,
    WantKey,
    predictions_of,
)
from vidmod.live.processes.station import BEAT_SECONDS, Station
from vidmod.media.live import TIME_BASE, Shape, silent_packet
from vidmod.media.network import packet_seconds
from vidmod.policy import Policy
from vidmod.tracking import Tracking

PACKETS, LOOKS, LEAVING, SIGHTS = "packets", "looks", "leaving", "sights"
KINDS = {PACKETS: FromReader, LOOKS: Seen, LEAVING: WantKey, SIGHTS: int}  # nothing comes on the last
# Of the delay: a face that slides out is known until six tenths of a second before its last pixels. Where a source
# begins some that are never known were to be seen for half a second.
_EDGE = 0.7
# PyAV's pictures and what it says of them refer to each other, and a picture takes megabytes.
_TIDY_SECONDS = 0.5
# A source's clock and this machine's are the same, so a packet cannot have come before this one was started.
_LONGEST_WAY_SECONDS = 5.0


def run(station: Station[FilterSettings], settings: FilterSettings) -> None:
    """Filter until the process that watches has gone."""
    _Filter(station, settings).run()


class _Filter:
    def __init__(self, station: Station[FilterSettings], settings: FilterSettings) -> None:
        self._station, self._settings = station, settings
        policy = Policy.from_document(settings.policy, "policy")
        self._rules = Rules.of(policy, settings.labels, settings.hold_seconds)
        self._begin = settings.begin
        self._source: Source | None = None
        self._hearing: Hearing | None = None
        self._pipe: Pipe | None = None
        self._held: float | None = None
        self._is_open = False  # whether the publisher has a key picture to go on from
        self._beat = Beat("filtering")
        if self._begin is not None:
            self._pipe = self._piped(self._begin)

    def run(self) -> None:
        # What is there now stays: only what comes is looked through for what nobody uses.
        gc.collect()
        gc.freeze()
        tidied = 0.0
        while True:
            now = time.monotonic()
            if now - tidied >= _TIDY_SECONDS:
                tidied = now
                gc.collect()
            due = now + BEAT_SECONDS if self._pipe is None else self._pipe.due
            for name, message in self._station.poll(min(BEAT_SECONDS, due - now)):
                self._hear(name, message)
                # Of a burst of packets each takes its time to decode: what is due does not wait for all of them.
                self._leave()
            self._look()
            self._leave()
            self._tell()

    def _look(self) -> None:
        pipe = self._pipe
        if pipe is not None and self._station.has(LOOKS) and (wanted := pipe.wanted_look()) is not None:
            inputs = [Input(item.image.tobytes(), item.geometry.scale, item.geometry.size) for item in wanted.inputs]
            if not self._station.send(LOOKS, Look(wanted.pts, inputs)):
                pipe.lose_looks()

    def _leave(self) -> None:
        pipe = self._pipe
        if pipe is None:
            return
        for row in pipe.leave(time.monotonic()):
            is_sound = row.kind == "sound"
            if not is_sound and not (self._is_open or row.key):
                pipe.want_key()
                continue
            sent = self._station.send(LEAVING, Leave(is_sound, row.pts, row.key, row.data))
            if not is_sound:
                self._is_open = sent

    def _tell(self) -> None:
        pipe, beat = self._pipe, self._beat
        if pipe is not None:
            for note in pipe.take_notes():
                match note:
                    case CoverNote():
                        self._station.tell(Covering(note.reason, note.pts))
                    case ChangeNote():
                        self._station.tell(Changed(note.what, note.before, note.after))
                    case ArrivalNote():
                        self._arrive(note.size)
            beat.counts, beat.delay, beat.level = pipe.counts, pipe.delay, pipe.level
        beat.waiting = self._station.waiting(LEAVING)
        self._station.beat(beat)

    def _arrive(self, size: tuple[int, int]) -> None:
        source = self._source
        if source is not None:
            sound = None if source.sound is None else source.sound.codec
            self._station.tell(Arrived(size, source.rate[0] / max(1, source.rate[1]), source.codec, sound))

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
                came = min(now, max(message.came, now - _LONGEST_WAY_SECONDS))
                self._pipe.picture(
                    message.data,
                    message.pts,
                    message.dts,
                    key=message.key,
                    now=now,
                    came=came,
                    is_needed=message.again,
                )
            case Heard() if self._pipe is not None and self._hearing is not None:
                now = time.monotonic()
                came = min(now, max(message.came, now - _LONGEST_WAY_SECONDS))
                for seconds, data in self._hearing.heard(message.data, message.seconds):
                    self._pipe.sound(data, seconds, came)
            case Seen() if self._pipe is not None:
                self._see(message)
            case WantKey() if self._pipe is not None:
                self._pipe.want_key()
            case Hold():
                self._held = message.until
                if self._pipe is not None:
                    self._pipe.hold(message.until)
            case _:
                pass

    def _see(self, seen: Seen) -> None:
        assert self._pipe is not None
        note = self._pipe.looked(seen.pts, predictions_of(seen), time.monotonic())
        if note is not None:
            sight = Sight(note.pts, note.size, seen.scores, seen.found, note.grid)
            self._station.tell(sight)
            self._station.send(SIGHTS, sight)

    def _connect(self, source: Source) -> None:
        try:
            pictures = PictureSource(source.codec, source.extradata or None, Fraction(*source.time_base))
            if self._pipe is None or self._begin is None:
                self._begin, self._pipe = self._begun(source)
                self._station.tell(self._begin)
                self._station.send(LEAVING, self._begin)
            self._pipe.begin(pictures)
        except (UndecodableError, OutputError, ValueError, ZeroDivisionError) as exc:
            self._station.tell(Unusable(str(exc)))
            if self._pipe is not None:
                self._pipe.lose()
            return
        self._compare(source)
        self._source = source
        sound = self._begin.sound
        self._hearing = None
        if source.sound is not None and sound is not None:
            try:
                self._hearing = Hearing(source.sound, sound)
            except (UndecodableError, OutputError) as exc:
                self._beat.trouble = f"The sound is left out: {exc}"

    def _compare(self, source: Source) -> None:
        """Say what of a source is not as it was; what becomes of its size is seen in its pictures."""
        if self._source is None:
            return
        before, after = (
            (row.codec, f"{row.rate[0] / max(1, row.rate[1]):.3g}", _named(row.sound)) for row in (self._source, source)
        )
        for what, old, new in zip(("codec", "rate", "sound"), before, after, strict=True):
            if old != new:
                self._station.tell(Changed(what, old, new))

    def _begun(self, source: Source) -> tuple[Begin, Pipe]:
        """What leaves from now on, and for ever: as the first source is, if nothing else was asked for."""
        settings = self._settings
        rate = source.rate if settings.rate is None else settings.rate
        size = source.size if settings.size is None else settings.size
        aspect, colours = Fraction(*source.aspect), source.colours
        shape = Shape.like(size, Fraction(*rate), settings.bits, settings.preset, aspect=aspect, colours=colours)
        sound = Hearing.fitting(source.sound)
        begin = Begin(
            shape.size,
            rate,
            shape.bits,
            shape.preset,
            b"",
            sound,
            (shape.aspect.numerator, shape.aspect.denominator),
            shape.colours,
        )
        pipe = self._piped(begin)
        begin.parameter_sets = pipe.parameter_sets
        return begin, pipe

    def _piped(self, begin: Begin) -> Pipe:
        settings, now = self._settings, time.monotonic()
        pipe = Pipe(
            PipeSettings(
                delay_seconds=settings.latency_seconds,
                max_pixels=settings.max_pixels,
                encoder_threads=settings.threads,
                min_analysis_fps=settings.min_analysis_fps,
                on_block=settings.on_block,
                shadow=settings.shadow,
            ),
            self._gate,
            settings.preparations,
            shape_of(begin),
            sound_line(begin, now),
            now,
            is_hit=self._rules.is_hit,
        )
        pipe.hold(self._held)
        return pipe

    def _gate(self, size: tuple[int, int]) -> Gate:
        return Gate(
            self._rules,
            Tracking(margin=self._settings.margin),
            size=size,
            time_base=TIME_BASE,
            max_gap_seconds=self._settings.max_gap_seconds,
            reach_seconds=self._settings.latency_seconds,
            foresight_seconds=self._settings.delay_seconds,
            edge_seconds=self._settings.delay_seconds * _EDGE,
        )


def shape_of(begin: Begin) -> Shape:
    """What the pictures that leave are like."""
    return Shape(begin.size, Fraction(*begin.rate), begin.bits, begin.preset, Fraction(*begin.aspect), begin.colours)


def sound_line(begin: Begin, now: float) -> SoundLine | None:
    """What the sound that leaves goes through; None without, or where there is no silence like it."""
    if begin.sound is None:
        return None
    try:
        silence = silent_packet(begin.sound.sample_rate, begin.sound.layout)
    except OutputError:
        return None
    return SoundLine(silence, packet_seconds(begin.sound.sample_rate), now)


def _named(sound: Sound | None) -> str:
    return "none" if sound is None else f"{sound.codec} {sound.sample_rate} Hz {sound.layout}"
