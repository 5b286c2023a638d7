"""A filter's work, done once on pictures of our own: what it needs is loaded by that, before it can open no file more.

PyAV, NumPy and Python's own library import parts of themselves when they are first used, and the schema of policies is
read when the first one is checked. Times are told to the pipe, so this takes no longer than the work.
"""

from __future__ import annotations

from fractions import Fraction

from vidmod.live.counts import Counts
from vidmod.live.filtering.gate import Gate
from vidmod.live.filtering.hearing import Hearing
from vidmod.live.filtering.pipe import PictureSource, Pipe, PipeSettings
from vidmod.live.filtering.rules import Rules
from vidmod.live.messages import Begin, Sound
from vidmod.live.processes.filter import sound_line
from vidmod.media.live import TIME_BASE, PictureEncoder, Shape, silent_packet
from vidmod.models import find, shipped
from vidmod.policy import Policy
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.tracking import Tracking

_RATE = Fraction(25)
_PICTURES = 16
_SOUND = Sound("aac", 48_000, "stereo", b"")


def rehearse() -> Counts:
    """Decode, look, cover in every way, encode, make sound; see the module.

    Returns:
        What became of the pictures.
    """
    policy = Policy.from_document(Policy.default().as_document(), "policy")
    rules = Rules.of(policy, (), 0.1)
    source = PictureEncoder(Shape.like((64, 48), _RATE))
    began = 1000.0
    begin = Begin((48, 48), (25, 1), 300_000, "superfast", b"", _SOUND)
    pipe = Pipe(
        PipeSettings(delay_seconds=0.2, on_block="blur"),
        lambda size: Gate(rules, Tracking(), size=size, time_base=TIME_BASE, max_gap_seconds=0.3),
        [find(name).preparation for name in shipped()],
        Shape.like(begin.size, _RATE),
        sound_line(begin, began),
        began,
        is_hit=rules.is_hit,
    )
    pipe.begin(PictureSource("h264", source.parameter_sets, TIME_BASE))
    heard = [Hearing(_SOUND, _SOUND), Hearing(Sound("pcm_s16le", 44_100, "mono", b""), _SOUND)]
    packets = [silent_packet(_SOUND.sample_rate, _SOUND.layout), bytes(4096)]
    for number in range(1, _PICTURES):
        time = float(number / _RATE)
        now = began + time
        for packet in source.cover(round(time / TIME_BASE)):
            pipe.picture(packet.data, packet.pts, packet.pts, key=packet.key, now=now)
        for hearing, data in zip(heard, packets, strict=True):
            for seconds, sound in hearing.heard(data, time):
                pipe.sound(sound, seconds, now)
        if (wanted := pipe.wanted_look()) is not None:
            pipe.looked(wanted.pts, _seen(0.5 if number < _PICTURES / 2 else 0.9), now)
        pipe.leave(now)
        pipe.take_notes()
    pipe.lose()
    pipe.leave(began + _PICTURES)
    return pipe.counts


def _seen(score: float) -> Predictions:
    return Predictions(
        scores=(Scores("open_nsfw", {"nsfw": 0.0}),),
        detections=(Detection("nudenet", "BUTTOCKS_EXPOSED", score, (8.0, 8.0, 24.0, 24.0)),),
    )
