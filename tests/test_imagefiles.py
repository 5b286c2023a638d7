"""What an image file's bytes say that its decoder does not, and how its picture is turned."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from vidmod.media import Medium
from vidmod.media.imagefiles import apng_plays, attachments, gif_loops, is_animated_webp, is_cut_off
from vidmod.media.parts import Surveyed
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.media.survey import Survey

NAMES = {"jpg": "jpeg_pipe", "gif": "gif", "tif": "tiff_pipe", "png": "png_pipe", "webp": "webp_pipe"}


def picture(width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Grey noise, and a white corner at the top left."""
    pixels = np.random.default_rng(0).integers(60, 120, (height, width, 3), np.uint8)
    pixels[: height // 4, : width // 4] = 255
    return pixels


def saved(path: Path, **options: Any) -> Path:
    image = Image.fromarray(picture())
    (image.convert("P") if path.suffix == ".gif" else image).save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def medium_of(path: Path) -> Medium:
    return Medium(str(path), descriptor=os.open(path, os.O_RDONLY))


class TestCutOff:
    @pytest.mark.parametrize("suffix", ["jpg", "gif", "tif"])
    def test_whole_files_are_whole(self, tmp_path: Path, suffix: str) -> None:
        assert not is_cut_off(Medium(str(saved(tmp_path / f"a.{suffix}"))), NAMES[suffix])

    @pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"quality": 100}])
    def test_whole_jpegs_of_all_kinds(self, tmp_path: Path, options: dict[str, Any]) -> None:
        assert not is_cut_off(Medium(str(saved(tmp_path / "a.jpg", **options))), "jpeg_pipe")

    @pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.999])
    @pytest.mark.parametrize("suffix", ["jpg", "gif"])
    def test_a_file_without_its_end(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = saved(tmp_path / f"a.{suffix}")
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])
        assert is_cut_off(Medium(str(path)), NAMES[suffix])

    def test_the_end_of_an_embedded_thumbnail_is_not_that_of_the_picture(self, tmp_path: Path) -> None:
        thumbnail = io.BytesIO()
        Image.fromarray(picture()).save(thumbnail, "JPEG")
        path = saved(tmp_path / "a.jpg", exif=b"Exif\0\0" + thumbnail.getvalue())
        assert not is_cut_off(Medium(str(path)), "jpeg_pipe")
        path.write_bytes(path.read_bytes()[:-40])
        assert is_cut_off(Medium(str(path)), "jpeg_pipe")

    def test_a_tiff_whose_strips_lie_behind_its_end(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.tif", compression="tiff_lzw")
        data = bytearray(path.read_bytes())
        where = data.index(struct.pack("<HHI", 279, 4, 1)) + 8
        data[where : where + 4] = struct.pack("<I", len(data))
        path.write_bytes(data)
        assert is_cut_off(Medium(str(path)), "tiff_pipe")

    @pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"GIF89a", b"II*\0", b"II*\0\xff\xff\xff\xff", bytes(40)])
    @pytest.mark.parametrize("name", ["jpeg_pipe", "gif", "tiff_pipe"])
    def test_what_is_no_image_is_not_whole(self, tmp_path: Path, data: bytes, name: str) -> None:
        path = tmp_path / "a"
        path.write_bytes(data)
        assert is_cut_off(Medium(str(path)), name)

    def test_a_tiff_that_goes_round_in_circles_ends(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.tif")
        data = bytearray(path.read_bytes())
        (first,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, first)
        struct.pack_into("<I", data, first + 2 + 12 * count, first)
        path.write_bytes(data)
        assert not is_cut_off(Medium(str(path)), "tiff_pipe")

    @pytest.mark.parametrize("suffix", ["jpg", "gif"])
    def test_whoever_reads_it_says_so(self, tmp_path: Path, suffix: str) -> None:
        path = saved(tmp_path / f"a.{suffix}")
        path.write_bytes(path.read_bytes()[:-30])
        medium = medium_of(path)
        track = probe(medium).tracks[0]
        with Reader(medium, track) as reader:
            list(reader.frames())
        assert reader.ledger.truncated
        known = [item for item in Survey(medium, track).run() if isinstance(item, Surveyed)][-1]
        assert known.truncated or suffix == "gif"


class TestWhatElseIsInThere:
    def test_further_pages_of_a_tiff_are_not_passed_over(self, tmp_path: Path) -> None:
        pages = [Image.fromarray(picture())] * 2
        path = saved(tmp_path / "a.tif", save_all=True, append_images=pages)
        assert probe(medium_of(path)).unlisted == ("2 further pictures of a TIFF",)
        assert probe(medium_of(saved(tmp_path / "b.tif"))).unlisted == ()

    def test_the_picture_of_an_animated_png_for_viewers_that_do_not_know_animation(self, tmp_path: Path) -> None:
        rows = [Image.fromarray(picture() // by) for by in (2, 3)]
        apart = saved(tmp_path / "a.png", save_all=True, append_images=rows, default_image=True)
        first = saved(tmp_path / "b.png", save_all=True, append_images=rows)
        assert probe(medium_of(apart)).unlisted == ("a picture that is no part of the PNG's animation",)
        assert probe(medium_of(first)).unlisted == ()

    def test_a_tiff_that_ffmpeg_shows_black_is_not_passed_over(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.tif", compression="jpeg")
        medium = medium_of(path)
        facts = probe(medium)
        with Reader(medium, facts.tracks[0]) as reader:
            shown = next(reader.frames()).image(8, 8)
        assert shown.max() == 0, "or it is decoded by now"
        assert facts.unlisted == ("a TIFF's picture, whose compression is not decoded here",)

    @pytest.mark.parametrize(
        ("name", "options", "found"),
        [
            (
                "a.jpg",
                {"exif": exif(1), "comment": b"x", "xmp": b"<x/>", "icc_profile": b"icc"},
                {"EXIF", "XMP", "a comment", "a colour profile (ICC)"},
            ),
            ("a.jpg", {}, set()),
            ("a.webp", {"exif": exif(1), "xmp": b"<x/>"}, {"EXIF", "XMP"}),
            ("a.gif", {"comment": b"x"}, {"a comment"}),
            ("a.tif", {"description": "x", "icc_profile": b"icc"}, {"text", "a colour profile (ICC)"}),
            ("a.png", {"exif": exif(1)}, {"EXIF"}),
        ],
    )
    def test_what_is_beside_the_picture(
        self, tmp_path: Path, name: str, options: dict[str, Any], found: set[str]
    ) -> None:
        path = saved(tmp_path / name, **options)
        assert set(attachments(Medium(str(path)), NAMES[path.suffix[1:]])) == found

    def test_text_in_a_png(self, tmp_path: Path) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", "x")
        assert attachments(Medium(str(saved(tmp_path / "a.png", pnginfo=info))), "png_pipe") == ["text"]

    @pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp"])
    def test_what_follows_the_picture(self, tmp_path: Path, suffix: str) -> None:
        path = saved(tmp_path / f"a.{suffix}")
        with path.open("ab") as file:
            file.write(b"hidden")
        assert attachments(Medium(str(path)), NAMES[suffix]) == ["6 bytes behind the picture"]

    @pytest.mark.parametrize("loops", [0, 3])
    def test_how_often_an_animation_is_shown(self, tmp_path: Path, loops: int) -> None:
        # Different, or they become one picture.
        more = [Image.fromarray(picture() // 2)]
        gif = saved(tmp_path / "a.gif", save_all=True, append_images=more, loop=loops)
        png = saved(tmp_path / "a.png", save_all=True, append_images=more, loop=loops)
        webp = saved(tmp_path / "a.webp", save_all=True, append_images=more)
        assert (gif_loops(Medium(str(gif))), apng_plays(Medium(str(png)))) == (loops, loops)
        assert is_animated_webp(Medium(str(webp)))

    def test_one_that_is_shown_once(self, tmp_path: Path) -> None:
        assert gif_loops(Medium(str(saved(tmp_path / "a.gif")))) == -1
        assert not is_animated_webp(Medium(str(saved(tmp_path / "a.webp"))))


TURNS: list[Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = [
    lambda image: image,
    lambda image: image[:, ::-1],
    lambda image: image[::-1, ::-1],
    lambda image: image[::-1],
    lambda image: image.swapaxes(0, 1),
    lambda image: image.swapaxes(0, 1)[:, ::-1],
    lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    lambda image: image.swapaxes(0, 1)[::-1],
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_turns_and_mirrors_a_picture(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Mirrored ones too, of which FFmpeg's angle tells nothing."""
    path = saved(tmp_path / f"a.{suffix}", exif=exif(orientation))
    medium = medium_of(path)
    with Reader(medium, probe(medium).tracks[0]) as reader:
        frame = next(reader.frames())
        shown = frame.image(*frame.size)
    expected = TURNS[orientation - 1](picture())
    assert shown.shape == expected.shape
    white = expected.min(axis=2) == 255
    assert shown[white].min() > 180
    assert shown[~white].mean() < 140


def test_a_huge_header_is_not_believed(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    medium = medium_of(path)
    with Reader(medium, probe(medium).tracks[0]) as reader:
        assert list(reader.frames()) == []
    assert reader.ledger.lost == 1
