"""Muting: nothing is left of what was said in a span, and the rest is the source's, bit for bit where it can be."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from tests.recipes import picture
from vidmod.media import Medium
from vidmod.media.muting import Muted
from vidmod.media.rewriting import Plan, Rewritten, rewrite
from vidmod.media.silence import FADE_SECONDS
from vidmod.media.sound_coding import adts_header, adts_plain, opus_samples, plain_aac, with_adts
from vidmod.media.source import probe
from vidmod.redaction import SILENT_PEAK
from vidmod.timebase import Span

Samples = npt.NDArray[np.float64]
RATE, SECONDS = 10, 5
# What is said between these is not to be heard: a tone that is nowhere else.
SAID = (2.2, 2.8)
SECRET_HERTZ = 3000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="Debian's ffmpeg is not installed")


@dataclass(frozen=True)
class Sound:
    """One sound track: how it is encoded, and what it says when."""

    codec: str = "aac"
    rate: int = 48_000
    layout: str = "stereo"
    said: tuple[float, float] = SAID
    options: Mapping[str, str] = field(default_factory=dict)
    sample_format: str | None = None
    starts: float = 0.0
    hertz: float = 440


def spoken(sound: Sound) -> Samples:
    """Channels×time: a tone and some noise, another tone while the secret is told."""
    count = SECONDS * sound.rate
    time = np.arange(count) / sound.rate
    chance = np.random.default_rng(int(sound.hertz))
    plain = 0.25 * np.sin(2 * np.pi * sound.hertz * time) + chance.normal(0, 0.01, count)
    secret = 0.4 * np.sin(2 * np.pi * SECRET_HERTZ * time)
    inside = (time >= sound.said[0]) & (time < sound.said[1])
    one = plain + np.where(inside, secret, 0)
    channels = av.AudioLayout(sound.layout).nb_channels
    return np.stack([one * (1 - 0.1 * number) for number in range(channels)])


def frame_of(samples: Samples, context: AudioCodecContext, start: int) -> AudioFrame:
    name = context.format.name
    scale = {"s16": 2.0**15, "s32": 2.0**31}.get(name.removesuffix("p"), 1.0)
    kind = {"s16": np.int16, "s32": np.int32}.get(name.removesuffix("p"), np.float32)
    values = (samples * scale).astype(kind)
    if not context.format.is_planar:
        values = values.T.reshape(1, -1)
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(values), name, context.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = context.sample_rate, start, Fraction(1, context.sample_rate)
    return frame


def add_sound(output: OutputContainer, sound: Sound) -> AudioStream:
    stream = cast("AudioStream", output.add_stream(sound.codec, rate=sound.rate))
    stream.codec_context.layout = sound.layout
    if sound.sample_format is not None:
        stream.codec_context.format = sound.sample_format
    if sound.codec == "wmav2":
        stream.codec_context.bit_rate = 128_000
    stream.options = dict(sound.options)
    return stream


def make(path: Path, *sounds: Sound, container: str | None = None) -> Path:
    """A film with sound, in the format of its suffix."""
    options = {"mpegts_copyts": "1"} if path.suffix == ".ts" else {}
    with av.open(str(path), "w", format=container, options=options) as output:
        video = output.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.gop_size, video.codec_context.max_b_frames = RATE, 0
        streams = [add_sound(output, sound) for sound in sounds]
        for number in range(SECONDS * RATE):
            output.mux(video.encode(picture(number)))
        output.mux(video.encode(None))
        for stream, sound in zip(streams, sounds, strict=True):
            samples = spoken(sound)
            for start in range(0, samples.shape[1], 960):
                at = start + round(sound.starts * sound.rate)
                frame = frame_of(samples[:, start : start + 960], stream.codec_context, at)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class Sent:
    """A packet as a demuxer gives it."""

    time: Fraction
    duration: int | None
    data: bytes


def packets_of(path: Path, number: int = 0) -> list[Sent]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        return [
            Sent((item.pts or 0) * item.time_base, item.duration, bytes(item))
            for item in container.demux(stream)
            if item.size
        ]


@dataclass(frozen=True)
class Heard:
    """All that is heard of a track, from time 0 on."""

    samples: Samples
    rate: int

    def between(self, start: float, end: float) -> Samples:
        return self.samples[:, round(start * self.rate) : round(end * self.rate)]

    def loudness(self, start: float, end: float, hertz: float) -> float:
        """The amplitude of a tone."""
        part = self.between(start, end)[0]
        turn = np.exp(-2j * np.pi * hertz * np.arange(part.size) / self.rate)
        return float(2 * abs(np.dot(part * np.hanning(part.size) * 2, turn)) / part.size)


def hear(path: Path, number: int = 0) -> Heard:
    """Decode as a player does, each frame at its time."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        if stream.codec_context.name in ("ac3", "eac3"):
            # Else every frame's dither depends on all before it.
            stream.codec_context.options = {"cons_noisegen": "1"}
        rate = stream.codec_context.sample_rate
        heard = np.zeros((stream.codec_context.layout.nb_channels, (SECONDS + 2) * rate))
        end: int | None = None
        for frame in container.decode(stream):
            values = frame.to_ndarray()
            if not frame.format.is_planar:
                values = values.reshape(-1, frame.layout.nb_channels).T
            if values.dtype.kind != "f":
                values = values / 2.0 ** (8 * values.dtype.itemsize - 1)
            # WMA has times for only some frames.
            at = (end or 0) if frame.pts is None else round(frame.pts * cast("Fraction", frame.time_base) * rate)
            # Matroska's times are milliseconds.
            at = end if end is not None and abs(at - end) < rate // 400 else at
            end = at + values.shape[1]
            leave = max(0, -at)
            stop = min(end, heard.shape[1])
            heard[:, at + leave : stop] = values[:, leave : stop - at]
        return Heard(heard, rate)


def run(path: Path, output: Path, *spans: tuple[float, float], full: bool = False, **settings: Any) -> Rewritten:
    track = probe(path).tracks[0]
    muted = tuple(Span(round(start / track.time_base), round(end / track.time_base)) for start, end in spans)
    plan = Plan((), muted=muted, full=full, **settings)
    with output.open("w+b") as file:
        return rewrite(Medium.of(path), track, file, plan, lambda *_: None)


def messages(path: Path) -> str:
    """What another FFmpeg says on decoding all of a file."""
    command = ["ffmpeg", "-v", "warning", "-xerror", "-i", str(path), "-map", "0", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if "deprecated" not in line and "Guessed Channel" not in line]
    return "\n".join(lines) + ("" if done.returncode == 0 else f"exit {done.returncode}")


def assert_plays(path: Path) -> None:
    if shutil.which("ffmpeg"):
        assert messages(path) == ""
        probed = subprocess.run(
            ["ffprobe", "-v", "warning", "-show_packets", "-of", "csv", str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert probed.stderr == ""


def assert_silent(path: Path, start: float, end: float, number: int = 0) -> None:
    heard = hear(path, number)
    assert np.abs(heard.between(start, end)).max() <= SILENT_PEAK
    assert np.abs(heard.between(0, SECONDS)).max() > 0.1 or end - start >= SECONDS


def assert_untold(path: Path, number: int = 0) -> None:
    """Nothing of the secret is left anywhere, also not where blocks overlap."""
    heard = hear(path, number)
    for start in np.arange(0, SECONDS, 0.05):
        assert heard.loudness(start, start + 0.1, SECRET_HERTZ) < 2e-3, start


SPLICED = [
    ("mp4", Sound(options={"aac_pns": "0"})),
    ("mp4", Sound(rate=44_100, layout="mono", options={"aac_pns": "0"})),
    ("mp4", Sound(layout="5.1", options={"aac_pns": "0"})),
    ("mov", Sound(rate=22_050, options={"aac_pns": "0"})),
    ("mkv", Sound(options={"aac_pns": "0"})),
    ("ts", Sound(options={"aac_pns": "0"}, starts=1.0)),
    ("ts", Sound(rate=44_100, options={"aac_pns": "0"}, starts=1.0)),
    ("mp4", Sound("ac3")),
    ("mkv", Sound("ac3", rate=44_100)),
    ("ts", Sound("ac3", layout="5.1(side)", starts=1.0)),
    ("mp4", Sound("eac3")),
    ("ts", Sound("eac3", starts=1.0)),
    ("mkv", Sound("mp2")),
    ("ts", Sound("mp2", rate=44_100, starts=1.0)),
    ("webm", Sound("libopus")),
    ("mkv", Sound("libopus", layout="mono", options={"frame_duration": "60"})),
    ("mp4", Sound("libopus", options={"frame_duration": "10"})),
    ("mkv", Sound("libopus", layout="5.1")),
    ("mkv", Sound("libopus", options={"application": "voip", "b": "16000"}, layout="mono")),
    ("mov", Sound("pcm_s16le")),
    ("mov", Sound("pcm_s24le", rate=44_100)),
    ("mkv", Sound("pcm_f32le", layout="mono")),
    ("mov", Sound("pcm_alaw", rate=8000, layout="mono")),
]


def name_of(value: Any) -> str:
    return f"{value.codec}-{value.rate}-{value.layout}" if isinstance(value, Sound) else str(value)


@pytest.mark.parametrize(("suffix", "sound"), SPLICED, ids=name_of)
def test_only_packets_around_silence_change(tmp_path: Path, suffix: str, sound: Sound) -> None:
    path, out = make(tmp_path / f"source.{suffix}", sound), tmp_path / f"out.{suffix}"
    start, end = (at + sound.starts for at in SAID)
    result = run(path, out, (start, end))
    (row,) = result.muted
    assert (row.way, row.why) == ("spliced", None)
    if sound.codec.startswith("pcm"):
        # QuickTime says where samples are, and a reader makes packets of them as it likes.
        data = [b"".join(item.data for item in packets_of(file)) for file in (path, out)]
        assert len(data[0]) == len(data[1])
    else:
        before, after = packets_of(path), packets_of(out)
        assert [(item.time, item.duration) for item in before] == [(item.time, item.duration) for item in after]
        changed = [a.time for a, b in zip(before, after, strict=True) if a.data != b.data]
        # Silence itself, what it is grown by, and the packets that overlap with it.
        frame = float(before[len(before) // 2 + 1].time - before[len(before) // 2 - 1].time) / 2
        first, last = silent_from(start, frame, sound), end + GROWN * frame + FADE_SECONDS
        assert first - 3 * frame - 0.1 < changed[0] <= first - 2 * frame + 2e-3
        assert last - 2e-3 <= changed[-1] < last + frame + 0.1
        assert 0 <= row.replaced - len(changed) <= 3
        # What was encoded again beside silence is at its place, and as loud as it was.
        old, new = hear(path), hear(out)
        for stretch in ((first - 2.5 * frame, first - 0.1 * frame), (last + 0.1 * frame, last + 2 * frame)):
            a, b = old.between(*stretch)[0], new.between(*stretch)[0]
            assert np.corrcoef(a, b)[0, 1] > 0.9
            assert 0.8 < np.std(b) / np.std(a) < 1.25
    assert_silent(out, start, end)
    assert_untold(out)
    assert_same_outside(path, out, sound)
    assert_plays(out)


# Silence is longer than what is asked for by so many packets.
GROWN = 3


def silent_from(start: float, frame: float, sound: Sound) -> float:
    """Where the fade begins before a span."""
    return start - max(GROWN * frame, 0.25 if sound.codec == "libopus" else 0) - FADE_SECONDS


# Opus decodes from what it decoded before, and forgets that little by little; MP2's rounding has a memory as well.
MEMORY = {"libopus": 2e-3, "mp2": 2**-15}


def assert_same_outside(path: Path, out: Path, sound: Sound) -> None:
    old, new = hear(path), hear(out)
    said, told = (at + sound.starts for at in SAID)
    for start, end in ((0.0, said - 0.7), (told + 0.7, SECONDS + sound.starts)):
        difference = np.abs(old.between(start, end) - new.between(start, end)).max()
        assert difference <= MEMORY.get(sound.codec, 0), start


WHOLE = [
    ("mp4", Sound("libmp3lame"), "mp3", "libmp3lame"),
    ("ts", Sound("libmp3lame", starts=1.0), "mp3", "libmp3lame"),
    ("mkv", Sound("flac"), "flac", "flac"),
    ("mkv", Sound("flac", sample_format="s32", rate=96_000), "flac", "flac"),
    ("mov", Sound("alac"), "alac", "alac"),
    ("webm", Sound("vorbis", options={"strict": "experimental"}), "opus", "libopus"),
    ("mkv", Sound("vorbis", rate=44_100, options={"strict": "experimental"}), "opus", "libopus"),
    ("asf", Sound("wmav2"), "aac", "aac"),
    ("mkv", Sound("wavpack", sample_format="s16p"), "wavpack", "wavpack"),
    ("mov", Sound("adpcm_ima_qt", layout="mono"), "adpcm_ima_qt", "adpcm_ima_qt"),
]
LOSSLESS = ("flac", "alac", "wavpack")


@pytest.mark.parametrize(("suffix", "sound", "codec", "encoder"), WHOLE, ids=name_of)
def test_other_codecs_are_encoded_whole(tmp_path: Path, suffix: str, sound: Sound, codec: str, encoder: str) -> None:
    path, out = make(tmp_path / f"source.{suffix}", sound), tmp_path / f"out.{suffix}"
    start, end = (at + sound.starts for at in SAID)
    (row,) = run(path, out, (start, end)).muted
    assert (row.way, row.encoder) == ("encoded", encoder)
    assert "cannot be replaced one by one" in str(row.why)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == codec
    assert_silent(out, start, end)
    assert_untold(out)
    old, new = hear(path), hear(out)
    for first, last in ((0.1, SAID[0] - 0.3), (SAID[1] + 0.1, SECONDS - 0.1)):
        a, b = (item.between(first + sound.starts, last + sound.starts)[0] for item in (old, resampled(new, old.rate)))
        assert np.corrcoef(a, b)[0, 1] > 0.95
        if sound.codec in LOSSLESS:
            assert np.array_equal(a, b)
    assert_plays(out)


def resampled(heard: Heard, rate: int) -> Heard:
    if heard.rate == rate:
        return heard
    at = np.arange(round(heard.samples.shape[1] * rate / heard.rate)) * heard.rate / rate
    return Heard(np.stack([np.interp(at, np.arange(row.size), row) for row in heard.samples]), rate)


AAC = Sound(options={"aac_pns": "0"})
KINDS = [
    ("mp4", AAC),
    ("ts", Sound(options={"aac_pns": "0"}, starts=1.0)),
    ("webm", Sound("libopus")),
    ("mp4", Sound("ac3")),
    ("mkv", Sound("libmp3lame")),
    ("mov", Sound("pcm_s16le")),
]
PLACES = [
    ("start", (0.0, 0.8)),
    ("before the start", (-5.0, 0.1)),
    ("end", (4.4, 5.0)),
    ("beyond the end", (4.4, 99.0)),
    ("all", (-10.0, 99.0)),
    ("tiny", (2.0, 2.001)),
]


@pytest.mark.parametrize(("suffix", "sound"), [row for row in KINDS if row[0] != "ts"], ids=name_of)
@pytest.mark.parametrize("place", [row[1] for row in PLACES], ids=[row[0] for row in PLACES])
def test_wherever_the_span_is(tmp_path: Path, suffix: str, sound: Sound, place: tuple[float, float]) -> None:
    told = replace_said(sound, place)
    path, out = make(tmp_path / f"source.{suffix}", told), tmp_path / f"out.{suffix}"
    start, end = (at + sound.starts for at in place)
    (row,) = run(path, out, (start, end)).muted
    assert row.way != "dropped"
    before, after = packets_of(path), packets_of(out)
    if row.way == "spliced" and not sound.codec.startswith("pcm"):
        assert [(item.time, item.duration) for item in before] == [(item.time, item.duration) for item in after]
    assert_silent(out, max(0.0, start), min(end, SECONDS + sound.starts))
    assert_untold(out)
    if place[1] < 1 or place[0] > 1:
        # Elsewhere it still sounds.
        heard = hear(out)
        middle = (1.5, 1.9) if place[0] > 1 else (3.0, 4.0)
        assert np.abs(heard.between(*(at + sound.starts for at in middle))).max() > 0.2
    assert_plays(out)


def replace_said(sound: Sound, said: tuple[float, float]) -> Sound:
    return Sound(sound.codec, sound.rate, sound.layout, said, sound.options, sound.sample_format, sound.starts)


@pytest.mark.parametrize(("suffix", "sound"), KINDS, ids=name_of)
def test_spans_close_to_each_other(tmp_path: Path, suffix: str, sound: Sound) -> None:
    path, out = make(tmp_path / f"source.{suffix}", sound), tmp_path / f"out.{suffix}"
    spans = [(at + sound.starts, at + 0.1 + sound.starts) for at in (1.0, 1.15, 1.3, 2.2, 2.4, 4.0)]
    run(path, out, *spans)
    for start, end in spans:
        assert_silent(out, start, end)
    assert np.abs(hear(out).between(3.3 + sound.starts, 3.7 + sound.starts)).max() > 0.2
    assert_plays(out)


def test_all_tracks_are_muted(tmp_path: Path) -> None:
    sounds = (AAC, Sound("ac3", hertz=600), Sound("libmp3lame", hertz=700), Sound("libopus", hertz=800))
    path, out = make(tmp_path / "source.mkv", *sounds), tmp_path / "out.mkv"
    result = run(path, out, SAID)
    assert [(row.index, row.way) for row in result.muted] == [
        (1, "spliced"),
        (2, "spliced"),
        (3, "encoded"),
        (4, "spliced"),
    ]
    for number, sound in enumerate(sounds):
        assert_silent(out, *SAID, number)
        assert_untold(out, number)
        # Each is still itself.
        assert hear(out, number).loudness(3.5, 4.0, sound.hertz) > 0.2
    assert_plays(out)


def test_nothing_muted_is_a_copy(tmp_path: Path) -> None:
    path, out = make(tmp_path / "source.mp4", AAC, Sound("libmp3lame")), tmp_path / "out.mp4"
    assert run(path, out).muted == ()
    for number in (0, 1):
        assert packets_of(path, number) == packets_of(out, number)


def test_a_film_that_is_encoded_whole_is_muted_as_well(tmp_path: Path) -> None:
    path, out = make(tmp_path / "source.mp4", AAC), tmp_path / "out.mp4"
    result = run(path, out, SAID, full=True)
    assert result.full
    assert [row.way for row in result.muted] == ["spliced"]
    assert_silent(out, *SAID)
    assert_untold(out)
    assert_same_outside(path, out, AAC)


def rewritten(path: Path, out: Path, change: Any) -> Path:
    """Copy a film, its sound's packets as `change` has them; None leaves one out."""
    with av.open(str(path)) as source, av.open(str(out), "w") as output:
        streams = [output.add_stream_from_template(item, opaque=True) for item in source.streams]
        number = 0
        for packet in source.demux():
            if not packet.size:
                continue
            kept: Packet[Any] | None = packet
            if packet.stream.type == "audio":
                kept = change(packet, number)
                number += 1
            if kept is not None:
                kept.stream = streams[packet.stream_index]
                output.mux(kept)
    return out


def garbage(packet: Packet[Any], data: bytes) -> Packet[Any]:
    made: Packet[Any] = Packet(data)
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    return made


# Of Opus such packets do not come out of the reader at all, and a gap beside silence has all of it encoded.
BROKEN = [("mp4", AAC, "spliced"), ("mkv", Sound("ac3"), "spliced"), ("mkv", Sound("libopus"), "encoded")]


@pytest.mark.parametrize(("suffix", "sound", "way"), BROKEN, ids=name_of)
def test_what_does_not_decode_is_not_copied_beside_silence(tmp_path: Path, suffix: str, sound: Sound, way: str) -> None:
    made = make(tmp_path / f"made.{suffix}", sound)
    rows = packets_of(made)
    bad = b"\xff\xf0SAID" + bytes(range(0, 250, 3))
    broken = {n for n, row in enumerate(rows) if SAID[0] - 0.15 < row.time < SAID[1] + 0.15 and n % 2}
    assert len(broken) > 5

    def change(packet: Packet[Any], number: int) -> Packet[Any]:
        return garbage(packet, bad) if number in broken else packet

    path, out = rewritten(made, tmp_path / f"source.{suffix}", change), tmp_path / f"out.{suffix}"
    assert path.read_bytes().count(bad) == len(broken)
    (row,) = run(path, out, SAID).muted
    assert row.way == way
    assert bad not in out.read_bytes()
    assert_silent(out, *SAID)
    assert_untold(out)
    assert_plays(out)


def test_opus_packets_of_several_lengths(tmp_path: Path) -> None:
    # Packets of 20 and of 60 ms in one track.
    path, out = tmp_path / "source.mkv", tmp_path / "out.mkv"
    make(tmp_path / "made.mkv", Sound("libopus"))
    long = make(tmp_path / "long.mkv", Sound("libopus", options={"frame_duration": "60"}))
    pieces = packets_of(long)

    def change(packet: Packet[Any], number: int) -> Packet[Any] | None:
        place, rest = divmod(number, 3)
        if place % 2 or place >= len(pieces):
            return packet
        if rest:
            return None
        made = garbage(packet, pieces[place].data)
        made.duration = None
        return made

    rewritten(tmp_path / "made.mkv", path, change)
    assert len({len(item.data) // 100 for item in packets_of(path)}) > 1
    (row,) = run(path, out, SAID).muted
    assert (row.way, row.why) == ("encoded", "its packets are not all of the same length")
    assert_silent(out, *SAID)
    assert_untold(out)
    assert_plays(out)


def test_a_gap_in_sound_that_is_encoded_whole_stays_one(tmp_path: Path) -> None:
    made = make(tmp_path / "made.mkv", Sound("libmp3lame"))

    def change(packet: Packet[Any], number: int) -> Packet[Any] | None:
        return None if 20 <= number < 60 else packet

    path, out = rewritten(made, tmp_path / "source.mkv", change), tmp_path / "out.mkv"
    run(path, out, SAID)
    old, new = hear(path), hear(out)
    a, b = (item.between(3.5, 4.5)[0] for item in (old, new))
    assert np.corrcoef(a, b)[0, 1] > 0.95
    assert np.abs(new.between(0.7, 1.2)).max() < 1e-2
    assert_silent(out, *SAID)


def test_a_track_that_nothing_can_encode_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidmod.media import recoding, splicing

    for module in (recoding, splicing):
        monkeypatch.setattr(module, "encoder_name", lambda codec: None)
    monkeypatch.setattr(recoding, "_USUAL_OTHERS", ())
    path, out = make(tmp_path / "source.mp4", AAC), tmp_path / "out.mp4"
    result = run(path, out, SAID)
    why = "there is no encoder for aac, and there is no encoder for aac"
    assert result.muted == (Muted(1, "aac", "dropped", None, 0, why),)
    assert [(row.index, row.type) for row in result.dropped] == [(1, "audio")]
    with av.open(str(out)) as container:
        assert not container.streams.audio


def test_a_track_of_which_nothing_decodes_is_left_out(tmp_path: Path) -> None:
    made = make(tmp_path / "made.mkv", Sound("libmp3lame"), AAC)

    def change(packet: Packet[Any], _: int) -> Packet[Any]:
        return packet if packet.stream_index == 2 else garbage(packet, b"nothing at all")

    path, out = rewritten(made, tmp_path / "source.mkv", change), tmp_path / "out.mkv"
    result = run(path, out, SAID)
    assert [row.way for row in result.muted] == ["dropped", "spliced"]
    with av.open(str(out)) as container:
        assert [item.codec_context.name for item in container.streams.audio] == ["aac"]
    assert_silent(out, *SAID)


def test_another_encoder_beside_one_that_fails_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidmod.media import splicing

    monkeypatch.setattr(splicing, "_MOST_FLUSHED", 0)
    path, out = make(tmp_path / "source.mp4", AAC), tmp_path / "out.mp4"
    (row,) = run(path, out, (4.5, 99.0)).muted
    assert (row.way, row.why) == ("encoded", "aac holds packets back")
    assert_silent(out, 4.5, 5.0)


@needs_ffmpeg
def test_another_decoder_hears_silence_as_well(tmp_path: Path) -> None:
    for suffix, sound in (("mp4", AAC), ("mkv", Sound("libopus")), ("mp4", Sound("ac3"))):
        path, out = make(tmp_path / f"source.{suffix}", sound), tmp_path / f"out.{suffix}"
        run(path, out, SAID)
        command = ["ffmpeg", "-v", "error", "-i", str(out), "-map", "0:a", "-f", "f32le", "-"]
        data = subprocess.run(command, capture_output=True, check=True).stdout
        heard = np.frombuffer(data, np.float32).reshape(-1, 2)
        inside = heard[round(SAID[0] * 48_000) : round(SAID[1] * 48_000)]
        assert np.abs(inside).max() <= SILENT_PEAK
        assert np.abs(heard).max() > 0.2


def test_memory_does_not_grow_with_what_is_muted(tmp_path: Path) -> None:
    from vidmod.media.source import open_container
    from vidmod.media.splicing import Splicer

    path = make(tmp_path / "source.mkv", AAC)
    most = pushed = came = 0
    with open_container(path) as container:
        splicer = Splicer(container.streams.audio[0], (Span(0.0, 5.0),))
        for packet in container.demux(container.streams.audio[0]):
            if packet.size:
                pushed += 1
                came += len(splicer.push(packet))
                most = max(most, pushed - came)
        came += len(splicer.flush())
    assert pushed == came > 200
    assert most <= 4


OTHERS = [
    ("opus.ts", ("-c:a", "libopus"), "spliced"),
    ("aac.flv", ("-c:a", "aac"), "spliced"),
    ("eight.mp4", ("-c:a", "aac", "-ac", "8"), "spliced"),
    ("slow.mp4", ("-c:a", "aac", "-ar", "8000"), "spliced"),
    ("fragments.mp4", ("-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"), "spliced"),
    ("short.mkv", ("-c:a", "libopus", "-frame_duration", "2.5"), "spliced"),
    ("long.mkv", ("-c:a", "libopus", "-frame_duration", "120"), "spliced"),
    ("ac3.avi", ("-c:v", "mpeg4", "-c:a", "ac3"), "spliced"),
    ("mp2.mpg", ("-c:v", "mpeg2video", "-c:a", "mp2"), "spliced"),
    ("big.mov", ("-c:a", "pcm_s16be", "-ac", "2"), "spliced"),
    ("discrete.mkv", ("-c:a", "libopus", "-mapping_family", "255", "-ac", "2"), "encoded"),
    ("mp3.avi", ("-c:v", "mpeg4", "-c:a", "libmp3lame"), "encoded"),
    # Packets of less than a millisecond: Matroska says the same time of some.
    ("truehd.mkv", ("-c:a", "truehd", "-strict", "-2"), "encoded"),
    ("dts.mkv", ("-c:a", "dca", "-strict", "-2"), "encoded"),
    ("smpte.ts", ("-c:a", "s302m", "-strict", "-2", "-ar", "48000", "-ac", "2"), "encoded"),
]


@needs_ffmpeg
@pytest.mark.parametrize(("name", "options", "way"), OTHERS, ids=[row[0] for row in OTHERS])
def test_what_another_ffmpeg_made(tmp_path: Path, name: str, options: tuple[str, ...], way: str) -> None:
    path, out = tmp_path / name, tmp_path / f"out_{name}"
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=5", "-f", "lavfi", "-i", "sine=frequency=500:d=5")
    command = ["ffmpeg", "-v", "error", "-y", *inputs, "-c:v", "libx264", "-bf", "0", *options, str(path)]
    subprocess.run(command, check=True)
    begins = float((probe(path).tracks[0].start_pts or 0) * probe(path).tracks[0].time_base)
    start, end = SAID[0] + begins, SAID[1] + begins
    (row,) = run(path, out, (start, end)).muted
    assert row.way == way, row.why
    assert played(out, start, end) <= SILENT_PEAK
    for first, last in ((begins + 0.5, start - 0.7), (end + 0.5, begins + 4.5)):
        assert played(out, first, last) == pytest.approx(played(path, first, last), rel=0.1)
    assert_plays(out)


def played(path: Path, start: float, end: float) -> float:
    """The peak of a span as another FFmpeg plays it."""
    trim = f"atrim={start}:{end}"
    command = ["ffmpeg", "-v", "error", "-copyts", "-i", str(path), "-map", "0:a", "-af", trim, "-f", "f32le", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert data
    return float(np.abs(np.frombuffer(data, np.float32)).max())


def bits(*fields: tuple[int, int]) -> bytes:
    """Fields of (value, length), padded to whole bytes."""
    text = "".join(f"{value:0{length}b}" for value, length in fields)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


LC = ((2, 5), (3, 4), (2, 4), (0, 3))
HEADERS = [
    ("lc", LC, (3, 2)),
    ("lc that says it has no sbr", (*LC, (0x2B7, 11), (5, 5), (0, 1)), (3, 2)),
    ("lc that says it has sbr", (*LC, (0x2B7, 11), (5, 5), (1, 1)), None),
    ("sbr", ((5, 5), (6, 4), (2, 4), (3, 4), (2, 5), (0, 3)), None),
    ("ps", ((29, 5), (6, 4), (1, 4), (3, 4), (2, 5), (0, 3)), None),
    ("main", ((1, 5), (3, 4), (2, 4), (0, 3)), None),
    ("960 samples", ((2, 5), (3, 4), (2, 4), (4, 3)), None),
    ("a rate of its own", ((2, 5), (15, 4), (44_100, 24), (2, 4), (0, 3)), None),
    ("a layout of its own", ((2, 5), (3, 4), (0, 4), (0, 3)), None),
    ("nothing", (), None),
]


@pytest.mark.parametrize(("fields", "found"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS])
def test_only_plain_aac_is_spliced(fields: tuple[tuple[int, int], ...], found: tuple[int, int] | None) -> None:
    assert plain_aac(bits(*fields) if fields else b"") == found


def test_adts_frames() -> None:
    data = bytes(range(100))
    # Sync word, MPEG-4, no checksum; LC at 48 kHz, private bit, stereo.
    head = bits((0xFFF, 12), (0, 1), (0, 2), (1, 1), (1, 2), (3, 4), (1, 1), (2, 3), (0, 4))
    made = with_adts(data, head)
    assert made[7:] == data
    assert adts_header(made) == made[:4]
    assert adts_plain(made[:4]) == (3, 2)
    assert made[:3] == head[:3]
    assert adts_header(made + b"0") is None  # of another length
    assert adts_header(made[:6]) is None
    assert adts_header(b"\xff\xf1\x10" + made[3:]) is None  # Main, not LC
    assert adts_header(made[:6] + bytes((made[6] | 1,)) + made[7:]) is None  # two blocks
    with pytest.raises(OverflowError):
        with_adts(bytes(8185), head)


@pytest.mark.parametrize(
    ("config", "milliseconds"), [(0, 10), (3, 60), (12, 10), (13, 20), (16, 2.5), (19, 20), (31, 20), (28, 2.5)]
)
def test_lengths_of_opus_packets(config: int, milliseconds: float) -> None:
    assert opus_samples(bytes((config << 3,)) + b"x") == milliseconds * 48
    assert opus_samples(bytes((config << 3 | 1,)) + b"x") == (milliseconds * 96 if milliseconds <= 60 else None)
    assert opus_samples(bytes((config << 3 | 3, 2))) == milliseconds * 96
    assert opus_samples(bytes((config << 3 | 3, 63))) == (None if milliseconds > 1 else 0)
    assert opus_samples(bytes((config << 3 | 3, 0))) is None
    assert opus_samples(b"") is None


def test_aac_with_sbr_is_encoded_whole(tmp_path: Path) -> None:
    path, out = make(tmp_path / "source.mp4", Sound(rate=24_000, options={"aac_pns": "0"})), tmp_path / "out.mp4"
    with av.open(str(path)) as container:
        plain = container.streams.audio[0].codec_context.extradata or b""
    # The same packets, said to be the lower half of a spectrum.
    sbr = bits((5, 5), (6, 4), (2, 4), (3, 4), (2, 5), (0, 3)).ljust(len(plain), b"\0")
    assert path.read_bytes().count(plain) == 1
    path.write_bytes(path.read_bytes().replace(plain, sbr))
    (row,) = run(path, out, SAID).muted
    assert (row.way, row.encoder) == ("encoded", "aac")
    assert row.why == "its header is not plain AAC LC"
    assert_silent(out, *SAID)
    assert_untold(out)
    assert_plays(out)


@pytest.mark.parametrize(("suffix", "sound"), [("mp4", AAC), ("mkv", Sound("libopus")), ("mkv", Sound("ac3"))])
@pytest.mark.parametrize("until", [SAID[0] - 0.02, SAID[0] + 0.2, SAID[1] + 0.02])
def test_packets_that_are_missing_beside_silence(tmp_path: Path, suffix: str, sound: Sound, until: float) -> None:
    made = make(tmp_path / f"made.{suffix}", sound)

    def change(packet: Packet[Any], _: int) -> Packet[Any] | None:
        return None if until - 0.5 <= float((packet.pts or 0) * packet.time_base) < until else packet

    path, out = rewritten(made, tmp_path / f"source.{suffix}", change), tmp_path / f"out.{suffix}"
    (row,) = run(path, out, SAID).muted
    assert (row.way, row.why) == ("encoded", "packets are missing around what is muted")
    assert_silent(out, *SAID)
    assert_untold(out)
    old, new = hear(path), hear(out)
    a, b = (item.between(SAID[1] + 0.5, 4.5)[0] for item in (old, new))
    assert np.corrcoef(a, b)[0, 1] > 0.95


def test_packets_that_are_missing_elsewhere(tmp_path: Path) -> None:
    made = make(tmp_path / "made.mkv", Sound("libopus"))

    def change(packet: Packet[Any], _: int) -> Packet[Any] | None:
        return None if 0.5 <= float((packet.pts or 0) * packet.time_base) < 1 else packet

    path, out = rewritten(made, tmp_path / "source.mkv", change), tmp_path / "out.mkv"
    assert [row.way for row in run(path, out, SAID).muted] == ["spliced"]
    assert_silent(out, *SAID)


@needs_ffmpeg
def test_a_clock_that_jumps_in_sound_that_is_encoded_whole(tmp_path: Path) -> None:
    made = make(tmp_path / "made.mkv", Sound("libmp3lame"))

    def change(packet: Packet[Any], _: int) -> Packet[Any]:
        if packet.pts is not None and packet.pts * packet.time_base >= 2:
            packet.pts = packet.dts = packet.pts + round(20 / packet.time_base)
        return packet

    path, out = rewritten(made, tmp_path / "source.mkv", change), tmp_path / "out.mkv"
    run(path, out, (22.05, 22.8))
    assert 21.9 < float(packets_of(out)[-1].time - packets_of(out)[0].time) < 25.1
    assert played(out, 22.05, 22.8) <= SILENT_PEAK
    assert played(out, 23.0, 24.0) == pytest.approx(played(path, 23.0, 24.0), rel=0.1)
