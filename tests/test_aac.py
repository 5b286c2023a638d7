"""Sound on its way through: what may be copied, and what is made into AAC-LC."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import pytest

from vidmod.errors import UndecodableError
from vidmod.live.filtering.hearing import Hearing
from vidmod.live.messages import Sound
from vidmod.media.aac import SoundRecoder, is_plain, unwrapped
from vidmod.media.packets import packet_of

RATE = 48_000
BEEP_SECONDS = 1.5


def coded(codec: str, rate: int, layout: str, seconds: float = 3.0) -> tuple[bytes, list[tuple[float, bytes]]]:
    """Silence with a short beep at BEEP_SECONDS, as packets with their times."""
    encoder = cast(Any, av.CodecContext.create(codec, "w"))
    encoder.sample_rate, encoder.layout = rate, layout
    encoder.format = encoder.codec.audio_formats[0].name
    encoder.time_base = Fraction(1, rate)
    encoder.open()
    size = encoder.frame_size or 960
    channels = 1 if layout == "mono" else 2
    times = np.arange(round(seconds * rate) // size * size) / rate
    wave = np.where((times >= BEEP_SECONDS) & (times < BEEP_SECONDS + 0.2), np.sin(times * 2 * np.pi * 1000), 0) * 0.5
    resampler = av.AudioResampler(encoder.format.name, layout, rate)
    rows = []
    for start in range(0, len(wave), size):
        part = np.repeat(wave[None, start : start + size].astype(np.float32), channels, 0)
        frame = av.AudioFrame.from_ndarray(part, "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for item in resampler.resample(frame):
            rows += [((packet.pts or 0) / rate, bytes(packet)) for packet in encoder.encode(item)]
    rows += [((packet.pts or 0) / rate, bytes(packet)) for packet in encoder.encode(None)]
    return bytes(encoder.extradata or b""), rows


def onset(packets: list[tuple[float, bytes]], config: bytes, rate: int, layout: str) -> float:
    """When it begins to sound, by the packets' own times."""
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = config
    decoder.sample_rate, decoder.layout = rate, layout
    for seconds, data in packets:
        for frame in decoder.decode(packet_of(data)):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()).max(axis=0) > 0.1)
            if loud.size:
                return seconds + float(loud[0]) / rate
    raise AssertionError("It is silent.")


def aac_config(rate: int, layout: str) -> bytes:
    return coded("aac", rate, layout, 0.2)[0]


@pytest.mark.parametrize(("codec", "rate", "layout"), [("mp2", 44_100, "stereo"), ("libopus", 48_000, "mono")])
def test_other_sound_is_recoded_at_its_time(codec: str, rate: int, layout: str) -> None:
    config, packets = coded(codec, rate, layout)
    hearing = Hearing(Sound(codec.removeprefix("lib"), rate, layout, config), Sound("aac", RATE, "stereo", b""))
    found = [row for seconds, data in packets for row in hearing.heard(data, seconds)]
    assert onset(found, aac_config(RATE, "stereo"), RATE, "stereo") == pytest.approx(BEEP_SECONDS, abs=0.03)
    gaps = np.diff([seconds for seconds, _ in found])
    assert gaps == pytest.approx(1024 / RATE, abs=1e-6)


def test_plain_aac_is_copied() -> None:
    config, packets = coded("aac", RATE, "stereo")
    hearing = Hearing(Sound("aac", RATE, "stereo", config), Sound("aac", RATE, "stereo", b""))
    assert [row for seconds, data in packets for row in hearing.heard(data, seconds)] == packets


def test_aac_of_another_rate_is_recoded() -> None:
    config, packets = coded("aac", 44_100, "mono")
    hearing = Hearing(Sound("aac", 44_100, "mono", config), Sound("aac", RATE, "stereo", b""))
    found = [row for seconds, data in packets for row in hearing.heard(data, seconds)]
    assert onset(found, aac_config(RATE, "stereo"), RATE, "stereo") == pytest.approx(BEEP_SECONDS, abs=0.03)


def test_a_hole_in_the_source_stays_a_hole() -> None:
    config, packets = coded("mp2", RATE, "stereo")
    recoder = SoundRecoder("mp2", config, RATE, "stereo", RATE, "stereo")
    moved = [(seconds + (5.0 if number > 40 else 0.0), data) for number, (seconds, data) in enumerate(packets)]
    found = [row for seconds, data in moved for row in recoder.recode(data, seconds)]
    assert onset(found, aac_config(RATE, "stereo"), RATE, "stereo") == pytest.approx(BEEP_SECONDS + 5, abs=0.03)


def test_damage_is_told_and_passes() -> None:
    config, packets = coded("mp2", RATE, "stereo")
    hearing = Hearing(Sound("mp2", RATE, "stereo", config), Sound("aac", RATE, "stereo", b""))
    assert list(hearing.heard(b"\x00" * 100, 0.0)) == []
    assert [row for seconds, data in packets for row in hearing.heard(data, seconds)]


def test_no_decoder_is_told() -> None:
    with pytest.raises(UndecodableError, match="no decoder"):
        Hearing(Sound("nonesuch", RATE, "stereo", b""), Sound("aac", RATE, "stereo", b""))


def test_what_a_configuration_says() -> None:
    plain = bytes([0b00010001, 0b10010000])  # AAC-LC, 48000 Hz, two channels
    assert is_plain(plain, RATE, 2)
    assert is_plain(aac_config(44_100, "mono"), 44_100, 1)
    assert not is_plain(plain, 44_100, 2)
    assert not is_plain(plain, RATE, 1)
    assert not is_plain(bytes([0b00101001, 0b10010000]), RATE, 2)  # HE-AAC
    assert not is_plain(bytes([0b00010001, 0b10010100]), RATE, 2)  # 960 samples a packet
    assert not is_plain(plain + bytes([0x56, 0xE5, 0x80]), RATE, 2)  # SBR behind it
    assert is_plain(plain + bytes([0x56, 0xE5, 0x00]), RATE, 2)
    assert not is_plain(b"", RATE, 2)


def test_adts_is_taken_off_if_it_says_the_same() -> None:
    _, packets = coded("aac", RATE, "stereo")
    data = packets[10][1]
    length = len(data) + 7
    header = bytes([0xFF, 0xF1, 0x4C, 0x80 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC])
    assert unwrapped(header + data, RATE, 2) == data
    assert unwrapped(data, RATE, 2) == data
    assert unwrapped(header + data, 44_100, 2) is None
    assert unwrapped(header + data, RATE, 1) is None
    assert unwrapped(header + data + b"\0", RATE, 2) is None
