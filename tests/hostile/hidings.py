"""Calm videos that carry a pattern where a player or a careless scanner does not look."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from samples.patterns import explicit_pattern
from samples.scenes import calm_scene
from tests.hostile.containers import (
    TS_PADDING,
    TS_SIZE,
    Atom,
    atoms,
    descend,
    element,
    encoded,
    mkv,
    mkv_block,
    mkv_cluster,
    mkv_track,
    number,
    words,
    written,
)
from tests.recipes import RATE, Video, box, cut, make, patch_bytes, set_edit

HIDING_SIZE = (96, 72)
# At two samples a second, enough that smoothing does not take it for a slip.
_SECONDS = 2
_COUNT = _SECONDS * RATE


def _drawn(picture: NDArray[np.uint8], pixel_format: str) -> VideoFrame:
    return VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format)


def calm(**options: Any) -> Video:
    """Hills, in which open_nsfw sees nothing."""
    chosen = {"count": _COUNT, "size": HIDING_SIZE, "pixel_format": "yuv420p", **options}
    size, pixel_format = chosen["size"], chosen["pixel_format"]
    return Video(frames=lambda place: _drawn(calm_scene(size[0], size[1], place / RATE), pixel_format), **chosen)


def marker(**options: Any) -> Video:
    """The pattern that open_nsfw is sure about."""
    chosen = {"count": _COUNT, "size": HIDING_SIZE, "pixel_format": "yuv420p", **options}
    size, pixel_format = chosen["size"], chosen["pixel_format"]
    drawn = explicit_pattern(*size, zoom=1.1)
    return Video(frames=lambda _: _drawn(drawn, pixel_format), **chosen)


def both(**options: Any) -> Video:
    """Calm first, then the pattern."""
    chosen = {"count": 2 * _COUNT, "size": HIDING_SIZE, "pixel_format": "yuv420p", **options}
    size, pixel_format = chosen["size"], chosen["pixel_format"]
    drawn = explicit_pattern(*size, zoom=1.1)

    def draw(place: int) -> VideoFrame:
        return _drawn(calm_scene(size[0], size[1], place / RATE) if place < _COUNT else drawn, pixel_format)

    return Video(frames=draw, **chosen)


_LATER = list(range(_COUNT, 2 * _COUNT))
_LAST = list(range(2 * _COUNT, 3 * _COUNT))


@dataclass(frozen=True)
class Hiding:
    """A calm video that carries the pattern somewhere.

    Attributes:
        write: Writes it.
        found: Whether the pattern has to be found; else it is enough that the account is not complete.
    """

    name: str
    suffix: str
    write: Callable[[Path], object]
    found: bool = False


def _part(path: Path, suffix: str, *videos: Video, **more: Any) -> bytes:
    """The bytes of a clip of its own."""
    made = path.with_name("part" + suffix)
    data = make(made, *videos, **more).read_bytes()
    made.unlink()
    return data


def _joins(suffix: str, first: Sequence[Video], second: Sequence[Video], *, padding: bytes = b"",
           second_options: dict[str, str] | None = None, third: Sequence[Video] = ()
           ) -> Callable[[Path], object]:  # fmt: skip
    """One recording after another, as if it went on, and a third if one is given."""

    def write(path: Path) -> None:
        parts = [_part(path, suffix, *first), _part(path, suffix, *second, options=second_options)]
        parts += [_part(path, suffix, *third)] if third else []
        path.write_bytes(padding.join(parts))

    return write


def _sound_then_picture(pid: str, padding: bytes = b"") -> Callable[[Path], object]:
    """Sound under a PID that carries pictures later."""

    def write(path: Path) -> None:
        sound = _part(path, ".ts", calm(), sound_seconds=_SECONDS, sound_first=True)
        later = _part(path, ".ts", marker(times=_LATER), options={"mpegts_start_pid": pid})
        path.write_bytes(sound + padding + later)

    return write


def _only_sound_then_picture(path: Path) -> None:
    sound = _part(path, ".ts", calm(count=1), sound_seconds=_SECONDS, sound_first=True)
    # The only picture goes, and with it the PID's claim to be one.
    kept = [sound[at : at + TS_SIZE] for at in range(0, len(sound), TS_SIZE)]
    data = b"".join(packet for packet in kept if (packet[1] << 8 | packet[2]) & 0x1FFF != 0x101)
    path.write_bytes(data + TS_PADDING + _part(path, ".ts", marker(times=_LATER)))


def _edited(milliseconds: int, media_time: int) -> Callable[[Path], object]:
    return lambda path: set_edit(make(path, both()), milliseconds, media_time)


def _many_edits(*edits: tuple[int, int]) -> Callable[[Path], object]:
    """An edit list with these parts: length in ms, and from where (-1: nothing is shown)."""

    def write(path: Path) -> None:
        tree = atoms(_part(path, ".mp4", both()))
        rows = b"".join(words(length, start, 1 << 16) for length, start in edits)
        descend(tree, b"moov", b"trak", b"edts", b"elst").body = words(0, len(edits)) + rows
        path.write_bytes(written(tree))

    return write


def _disabled(path: Path) -> None:
    """A second track that is not enabled, not in the movie and not in the preview."""
    make(path, calm(), marker())
    patch_bytes(path, (box(path, b"tkhd", 1), bytes(4)))


def _disabled_matroska(path: Path) -> None:
    data = make(path, calm(), marker()).read_bytes()
    # FlagLacing is written for every track; what it says of pictures means nothing, so its place is free.
    place = data.index(b"\x9c\x81\x00", data.index(b"\x9c\x81\x00") + 1)
    path.write_bytes(data[:place] + b"\xb9\x81\x00" + data[place + 3 :])


def _unknown_handler(path: Path) -> None:
    """A second track that says it is no video."""
    make(path, calm(), marker())
    patch_bytes(path, (box(path, b"vide", 1) - 4, b"meta"))


def _cover(codec: str, pixel_format: str) -> Callable[[Path], object]:
    def mark(stream: VideoStream) -> None:
        stream.disposition = type(stream.disposition).attached_pic

    cover = marker(count=1, setup=mark, codec=codec, pixel_format=pixel_format)
    return lambda path: make(path, calm(), cover)


def _attached_picture(path: Path) -> None:
    """A Matroska attachment that players show as cover."""
    shown, hidden = _shown_and_hidden()
    row = element(0x61A7, element(0x466E, b"cover.jpg"), element(0x4660, b"image/jpeg"), element(0x465C, hidden),
                  number(0x46AE, 1))  # fmt: skip
    blocks = (mkv_block(1, 40 * place, shown) for place in range(_COUNT))
    path.write_bytes(mkv(element(0x1941A469, row), mkv_cluster(*blocks)))


def _shown_and_hidden() -> tuple[bytes, bytes]:
    pictures = (calm_scene(*HIDING_SIZE, 0), explicit_pattern(*HIDING_SIZE, zoom=1.1))
    shown, hidden = (encoded(".jpg", np.ascontiguousarray(picture[:, :, ::-1])) for picture in pictures)
    return shown, hidden


def _beyond(count: int) -> Callable[[Path], object]:
    """The pattern in a track after so many that are empty."""

    def write(path: Path) -> None:
        shown, hidden = _shown_and_hidden()
        tracks = mkv_track(1) + b"".join(mkv_track(2 + place, codec=b"S_TEXT/UTF8") for place in range(count))
        last = count + 2
        blocks = [mkv_block(1, 40 * place, shown) + _far_block(last, 40 * place, hidden) for place in range(_COUNT)]
        path.write_bytes(mkv(mkv_cluster(*blocks), tracks=tracks + mkv_track(last)))

    return write


def _block_of_no_track(path: Path) -> None:
    """FFmpeg throws away what follows such a block, up to the next cluster; other players do not."""
    shown, hidden = _shown_and_hidden()
    blocks = [mkv_block(1, 40 * place, shown if place < _COUNT else hidden) for place in range(2 * _COUNT)]
    blocks.insert(_COUNT, mkv_block(9, 40 * _COUNT, shown))
    path.write_bytes(mkv(mkv_cluster(*blocks)))


def _far_block(place: int, time: int, data: bytes) -> bytes:
    """A SimpleBlock whose track number needs three bytes."""
    return element(0xA3, (1 << 21 | place).to_bytes(3, "big") + struct.pack(">hB", time, 0x80), data)


def _after(first: Callable[[Path], bytes], padding: bytes = b"") -> Callable[[Path], object]:
    """A whole video after the end of something else."""
    return lambda path: path.write_bytes(first(path) + padding + _part(path, ".mp4", marker()))


def _calm_jpeg(_: Path) -> bytes:
    return encoded(".jpg", calm_scene(*HIDING_SIZE, 0)[:, :, ::-1])


def _calm_png(_: Path) -> bytes:
    return encoded(".png", calm_scene(*HIDING_SIZE, 0)[:, :, ::-1])


def _calm_gif(path: Path) -> bytes:
    return _part(path, ".gif", calm(codec="gif", pixel_format="rgb8", count=10))


def _calm_mp4(path: Path) -> bytes:
    return _part(path, ".mp4", calm())


def _zipped(path: Path) -> None:
    """An archive that stores a video, in front of which nothing else is."""
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.mp4", _part(path, ".mp4", marker()))
    path.write_bytes(data.getvalue())


def _video_then_zip(path: Path) -> None:
    _zipped(path)
    path.write_bytes(_part(path, ".mp4", marker()) + path.read_bytes())


def _fragmented(change: Callable[[list[Atom]], list[Atom]]) -> Callable[[Path], object]:
    """A fragmented MP4, one fragment a group of pictures, with its boxes changed."""

    def write(path: Path) -> None:
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        path.write_bytes(written(change(atoms(_part(path, ".mp4", both(), options=options)))))

    return write


def _pairs(tree: list[Atom]) -> list[int]:
    return [place for place, part in enumerate(tree) if part.name == b"moof"]


def _without_fragment(tree: list[Atom]) -> list[Atom]:
    place = _pairs(tree)[-2]
    return tree[:place] + tree[place + 2 :]


def _fragments_backward(tree: list[Atom]) -> list[Atom]:
    places = _pairs(tree)
    rest = [part for place in reversed(places) for part in tree[place : place + 2]]
    return tree[: places[0]] + rest + tree[places[-1] + 2 :]


def _fragment_points_back(tree: list[Atom]) -> list[Atom]:
    """The last fragments say that their pictures are those of the first one."""
    places = _pairs(tree)
    sizes = [len(bytes(part)) for part in tree]
    for place in places[len(places) // 2 :]:
        run = descend(tree[place].parts or [], b"traf", b"trun")
        back = sum(sizes[places[0] + 1 : place])
        run.body = run.body[:8] + words(8 - back) + run.body[12:]
    return tree


def _without_index(tree: list[Atom]) -> list[Atom]:
    """Fragments that players find by the index at the end are all there; the index names the calm ones only."""
    return [part for part in tree if part.name not in (b"mfra", b"sidx")]


def _other_description(path: Path) -> None:
    """A track with two sample descriptions; pictures of the second one are of another codec."""
    first, second = calm(), marker(codec="mpeg4")
    tree, other = atoms(_part(path, ".mp4", first)), atoms(_part(path, ".mp4", second))
    table = descend(tree, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    more = descend(other, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    parts, extra = ({part.name: part for part in item.parts or []} for item in (table, more))
    parts[b"stsd"].body = words(0, 2) + parts[b"stsd"].body[8:] + extra[b"stsd"].body[8:]
    sizes = [part.body[12:] for part in (parts[b"stsz"], extra[b"stsz"])]
    parts[b"stsz"].body = words(0, 0, 2 * _COUNT) + sizes[0] + sizes[1]
    delta = struct.unpack_from(">I", parts[b"stts"].body, 12)[0]
    parts[b"stts"].body = words(0, 1, 2 * _COUNT, delta)
    data = descend(other, b"mdat").body
    start = len(bytes(tree[0])) + len(bytes(tree[1])) if tree[1].name == b"free" else len(bytes(tree[0]))
    media = descend(tree, b"mdat")
    chunks = (start + 8, start + 8 + len(media.body))
    media.body += data
    parts[b"stsc"].body = words(0, 2, 1, _COUNT, 1, 2, _COUNT, 2)
    parts[b"stco"].body = words(0, 2, *chunks)
    table.parts = [part for name, part in parts.items() if name not in (b"ctts", b"stss")]
    for header, place, factor in ((b"mdhd", 16, 2),):
        body = descend(tree, b"moov", b"trak", b"mdia", header)
        body.body = (
            body.body[:place] + words(factor * struct.unpack_from(">I", body.body, place)[0]) + body.body[place + 4 :]
        )
    trak = descend(tree, b"moov", b"trak")
    trak.parts = [part for part in trak.parts or [] if part.name != b"edts"]
    path.write_bytes(written(tree))


def _garbage(size: int) -> bytes:
    return np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes().replace(b"\x47", b"\0")


def _late_flv(path: Path) -> None:
    """Sound for longer than a reader looks, then pictures."""
    tag = b"\x12" + (60_000).to_bytes(3, "big") + bytes(7) + b"\2\0\1x\5".ljust(60_000, b"\0") + words(60_011)
    data = bytearray(_part(path, ".flv", marker(codec="flv1"), sound_seconds=_SECONDS, sound_first=True))
    data[4] = 4  # the header says that there is sound, and no pictures
    end = 13
    path.write_bytes(bytes(data[:end]) + tag * 100 + bytes(data[end:]))


HIDINGS = (
    Hiding("nothing hidden", ".mp4", lambda path: make(path, both()), found=True),
    *(
        Hiding(f"codec change to {codec}", ".ts", _joins(".ts", [calm()], [marker(codec=codec, times=_LATER)],
               second_options={"mpegts_flags": "initial_discontinuity"}))
        for codec in ("mpeg2video", "libx265", "mpeg4")
    ),
    Hiding("late codec change", ".ts", _joins(".ts", [calm()], [marker(codec="mpeg2video", times=_LATER)],
                                              padding=TS_PADDING, third=[calm(times=_LAST)])),
    Hiding("sound becomes picture", ".ts", _sound_then_picture("256")),
    Hiding("sound becomes picture late", ".ts", _sound_then_picture("256", TS_PADDING)),
    Hiding("other sound becomes picture", ".ts", _sound_then_picture("257")),
    Hiding("only sound becomes picture", ".ts", _only_sound_then_picture),
    Hiding("second pid", ".ts", _joins(".ts", [calm()], [calm(times=_LATER), marker(times=_LATER)])),
    Hiding("late second pid", ".ts", _joins(".ts", [calm()], [calm(times=_LATER), marker(times=_LATER)],
                                            padding=TS_PADDING, third=[calm(times=_LAST)])),
    Hiding("late other pid", ".ts", _joins(".ts", [calm()], [marker(times=_LATER)], padding=TS_PADDING,
                                           third=[calm(times=_LAST)], second_options={"mpegts_start_pid": "300"})),
    Hiding("late second stream", ".mpg", _joins(
        ".mpg", [calm(codec="mpeg2video")], [calm(codec="mpeg2video"), marker(codec="mpeg2video")],
        padding=b"\0\0\1\xbe\x40\0".ljust(0x4006, b"\xff") * 400, third=[calm(codec="mpeg2video")])),
    Hiding("late pictures", ".flv", _late_flv),
    Hiding("garbage first", ".ts", lambda path: path.write_bytes(_garbage(100_001) + _part(path, ".ts", marker()))),
    Hiding("garbage between", ".ts", _joins(".ts", [calm()], [marker(times=_LATER)], padding=_garbage(100_001))),
    Hiding("time starts again", ".ts", _joins(".ts", [calm()], [marker()])),
    Hiding("time far ahead", ".ts", _joins(".ts", [calm()], [marker(times=[10**5 + n for n in range(_COUNT)])])),
    Hiding("size changes", ".ts", _joins(".ts", [calm()], [marker(times=_LATER, size=(160, 120))])),
    Hiding("size changes raw", ".h264", _joins(".h264", [calm()], [marker(size=(160, 120))])),
    Hiding("format changes", ".ts", _joins(".ts", [calm()], [marker(times=_LATER, pixel_format="yuv444p")])),
    Hiding("depth changes", ".ts", _joins(".ts", [calm()], [marker(times=_LATER, pixel_format="yuv420p10le")])),
    Hiding("edit hides the end", ".mp4", _edited(1000 * _SECONDS, 0), found=True),
    Hiding("edit hides all", ".mp4", _edited(1, 0), found=True),
    Hiding("edit of no length", ".mp4", _edited(0, 0)),
    Hiding("edit beyond the end", ".mp4", _edited(1000, 1 << 30)),
    Hiding("empty edit", ".mp4", _edited(4000, -1)),
    Hiding("empty edits", ".mp4", _many_edits((1000, -1), (1000, -1), (1000 * _SECONDS, 0), (1000, -1))),
    Hiding("edits repeat the calm", ".mp4", _many_edits(*[(1000, 0)] * 8)),
    Hiding("edits backward", ".mp4", _many_edits((1000, 512 * 25), (1000, 0))),
    Hiding("second track", ".mp4", lambda path: make(path, calm(), marker()), found=True),
    Hiding("second track disabled", ".mp4", _disabled, found=True),
    Hiding("second track disabled", ".mkv", _disabled_matroska, found=True),
    Hiding("second track is no video", ".mp4", _unknown_handler),
    Hiding("second track", ".avi", lambda path: make(path, calm(codec="mpeg4"), marker(codec="mpeg4")), found=True),
    Hiding("track beyond the limit", ".mkv", _beyond(250)),
    Hiding("block of no track", ".mkv", _block_of_no_track),
    Hiding("cover png", ".mp4", _cover("png", "rgb24"), found=True),
    Hiding("cover jpeg", ".mp4", _cover("mjpeg", "yuvj420p"), found=True),
    Hiding("attached picture", ".mkv", _attached_picture, found=True),
    Hiding("second description", ".mp4", _other_description),
    Hiding("jpeg then mp4", ".jpg", _after(_calm_jpeg)),
    Hiding("png then mp4", ".png", _after(_calm_png)),
    Hiding("gif then mp4", ".gif", _after(_calm_gif)),
    Hiding("mp4 then mp4", ".mp4", _after(_calm_mp4)),
    Hiding("mp4 then garbage then mp4", ".mp4", _after(_calm_mp4, b"\0\0\0\0" + _garbage(1000))),
    Hiding("zip of mp4", ".mp4", _zipped),
    Hiding("mp4 then zip", ".mp4", _video_then_zip, found=True),
    Hiding("mkv then mkv", ".mkv", _joins(".mkv", [calm()], [marker()])),
    Hiding("avi then avi", ".avi", _joins(".avi", [calm(codec="mpeg4")], [marker(codec="mpeg4")])),
    Hiding("flv then flv", ".flv", _joins(".flv", [calm(codec="flv1")], [marker(codec="flv1")])),
    Hiding("nut then nut", ".nut", _joins(".nut", [calm(codec="mpeg4")], [marker(codec="mpeg4")])),
    Hiding("fragment missing", ".mp4", _fragmented(_without_fragment)),
    Hiding("fragments backward", ".mp4", _fragmented(_fragments_backward)),
    Hiding("fragments point back", ".mp4", _fragmented(_fragment_points_back)),
    Hiding("fragments without index", ".mp4", _fragmented(_without_index), found=True),
    Hiding("cut after the calm", ".mp4",
           lambda path: cut(make(path, both(), options={"movflags": "faststart"}), -3000)),
)  # fmt: skip
