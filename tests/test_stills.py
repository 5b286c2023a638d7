"""Images, animated or not, redacted in their own format, with real workers and a detector that finds what is bright."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, PngImagePlugin

from samples.faces import draw_face
from tests.networks import write_classifier, write_detector
from tests.recipes import Video, make
from vidmod import redaction
from vidmod.errors import OutputError, SourceError, UsageError
from vidmod.media import canvas, still
from vidmod.messages import Json
from vidmod.redacting import job, naming
from vidmod.redacting.job import Redactor
from vidmod.redacting.messages import Covering
from vidmod.redacting.result import Redaction
from vidmod.redacting.settings import RedactSettings
from vidmod.scanning import Scanner, ScanSettings

WIDTH, HEIGHT = 320, 240
# Where the detector sees what is bright: its input is 5 times smaller and square, and its boxes a quarter of that.
BOX = (slice(0, 160), slice(0, 160))
# The box with its margin, and as far as chroma and transform blocks carry what is drawn.
AROUND = (slice(0, 208), slice(0, 208))
SECRET = b"SECRETPLACE"

Redact = Callable[..., Redaction]


def photo(number: int = 0, *, bright: bool = True, red: bool = False) -> NDArray[np.uint8]:
    """Dark, soft and colourful like a photograph, a white spot at the top left."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    shades = [
        60 + 30 * np.sin(x / 31 + number) + 20 * np.cos(y / 17),
        70 + 30 * np.cos(x / 23),
        90 + 30 * np.sin(y / 41),
    ]
    pixels = np.stack(shades, axis=-1) + np.random.default_rng(number).normal(0, 2, (HEIGHT, WIDTH, 3))
    if red:
        pixels[:] = (200, 0, 0)
    if bright:
        pixels[30:60, 30:60] = 255
    return pixels.clip(0, 255).astype(np.uint8)


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = orientation, SECRET.decode()
    tags.get_ifd(0x8825)[1] = "N"
    return tags


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def seen(path: Path) -> NDArray[np.uint8]:
    """As another viewer shows it: RGBA, turned as it says."""
    return np.asarray(ImageOps.exif_transpose(opened(path)).convert("RGBA"))


def psnr(before: NDArray[np.uint8], after: NDArray[np.uint8], without: tuple[slice, slice] = AROUND) -> float:
    """Of the colours outside of a region."""
    apart = (before[:, :, :3].astype(float) - after[:, :, :3].astype(float)) ** 2
    keep = np.ones(apart.shape[:2], bool)
    keep[without] = False
    error = float(apart[keep].mean())
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("models")
    return (str(write_classifier(folder)), str(write_detector(folder)))


@pytest.fixture(scope="module")
def redact(models: tuple[str, ...]) -> Iterator[Redact]:
    redactors: dict[str, Redactor] = {}

    def run(source: Path, output: Path, **settings: Any) -> Redaction:
        asked = {"labels": ["BRIGHT"], **settings}
        if repr(asked) not in redactors:
            redactors[repr(asked)] = Redactor(RedactSettings(scan=ScanSettings(models=models, workers=1), **asked))
        return redactors[repr(asked)].redact(source, output)

    yield run
    for redactor in redactors.values():
        redactor.close()


def palette(image: Image.Image) -> Image.Image:
    return image.convert("P", palette=Image.Palette.ADAPTIVE, colors=200)


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.fromarray(np.tile(np.linspace(20, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))))
    return image


# Name, how Pillow changes the picture before it is saved, how it saves it; PSNR outside, where it may lose.
KINDS: list[tuple[str, Callable[[Image.Image], Image.Image], dict[str, Any], float]] = [
    ("a.jpg", lambda image: image, {"quality": 90, "exif": exif(), "comment": SECRET, "xmp": SECRET}, 40),
    ("fine.jpg", lambda image: image, {"quality": 95, "subsampling": 0}, 40),
    ("half.jpg", lambda image: image, {"quality": 90, "subsampling": 1}, 40),
    ("progressive.jpeg", lambda image: image, {"quality": 85, "progressive": True}, 40),
    ("gray.jpg", lambda image: image.convert("L"), {"quality": 90}, 40),
    ("cmyk.jpg", lambda image: image.convert("CMYK"), {"quality": 95}, 38),
    ("a.png", lambda image: image, {"exif": exif()}, 99),
    ("alpha.png", with_alpha, {}, 99),
    ("gray.png", lambda image: image.convert("L"), {}, 99),
    ("palette.png", palette, {"transparency": bytes(range(55, 255))}, 99),
    ("two.png", lambda image: image.convert("1"), {}, 99),
    ("a.webp", lambda image: image, {"quality": 90, "exif": exif(), "xmp": SECRET}, 40),
    ("lossless.webp", lambda image: image, {"lossless": True}, 99),
    ("alpha.webp", with_alpha, {"lossless": True}, 99),
    ("a.bmp", lambda image: image, {}, 99),
    ("palette.bmp", palette, {}, 99),
    ("a.tif", lambda image: image, {"exif": exif()}, 99),
    ("lzw.tiff", lambda image: image, {"compression": "tiff_lzw"}, 99),
    ("a.gif", palette, {"comment": SECRET}, 99),
    ("a.avif", lambda image: image, {"quality": 90, "exif": exif()}, 40),
]


@pytest.mark.parametrize(("name", "change", "options", "least"), KINDS, ids=[kind[0] for kind in KINDS])
def test_an_image_stays_what_it_is_but_for_what_is_covered(
    tmp_path: Path,
    redact: Redact,
    name: str,
    change: Callable[[Image.Image], Image.Image],
    options: dict[str, Any],
    least: float,
) -> None:
    source, output = tmp_path / name, tmp_path / "safe" / name
    output.parent.mkdir()
    change(Image.fromarray(photo())).save(source, **options)
    done = redact(source, output)
    before, after = seen(source), seen(output)
    assert opened(output).format == opened(source).format
    assert after.shape == before.shape
    assert done.covered_pictures == 1
    assert after[BOX][:, :, :3].max() <= 8
    assert after[BOX][:, :, 3].min() == 255
    assert psnr(before, after) >= least
    outside = after.copy()
    outside[AROUND] = before[AROUND]
    assert np.abs(outside[:, :, 3].astype(int) - before[:, :, 3]).max() == 0
    data = output.read_bytes()
    assert not any(sign in data for sign in (SECRET, b"Exif\0", b"eXIf", b"Lavc", b"Lavf"))
    assert dict(opened(output).getexif()) == {} or name.endswith(("tif", "tiff"))


@pytest.mark.parametrize(
    ("subsampling", "pixel_format"), [(0, "yuvj444p"), (1, "yuvj422p"), (2, "yuvj420p")], ids=["444", "422", "420"]
)
def test_a_jpegs_chroma_stays_as_fine_as_it_was(
    tmp_path: Path, redact: Redact, subsampling: int, pixel_format: str
) -> None:
    source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
    Image.fromarray(photo()).save(source, subsampling=subsampling)
    redact(source, output)
    assert first_picture(output).format.name == pixel_format


def first_picture(path: Path) -> VideoFrame:
    with av.open(io.BytesIO(path.read_bytes()), "r") as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize("pixel_format", ["gray16be", "rgb48be", "rgba64be", "ya16be"])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, redact: Redact, pixel_format: str) -> None:
    source, output = tmp_path / "a.png", tmp_path / "safe.png"
    deep = VideoFrame.from_ndarray(photo(), "rgb24").reformat(format=pixel_format)
    video = Video("png", count=1, size=(WIDTH, HEIGHT), pixel_format=pixel_format, frames=lambda _: deep)
    make(source, video, container="image2pipe")
    redact(source, output)
    before, after = first_picture(source), first_picture(output)
    assert after.format.name == before.format.name == pixel_format
    rows, columns = slice(208, HEIGHT), slice(0, None)
    old, new = (bytes_of(frame) for frame in (before, after))
    assert np.array_equal(old[rows, columns], new[rows, columns])
    assert not np.array_equal(old, new)


def bytes_of(frame: VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    return np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.line_size // WIDTH * WIDTH]


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_it_is_baked_in(self, tmp_path: Path, redact: Redact, orientation: int) -> None:
        source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
        Image.fromarray(photo()).save(source, quality=92, exif=exif(orientation))
        redact(source, output)
        before, after = seen(source), np.asarray(opened(output).convert("RGBA"))
        assert after.shape == before.shape
        assert after[BOX][:, :, :3].max() <= 8
        if after.shape[0] == HEIGHT:
            assert psnr(before, after) >= 40
        else:
            assert psnr(before, after, (slice(0, 208), slice(0, None))) >= 40

    @pytest.mark.parametrize("orientation", [2, 3, 6])
    @pytest.mark.parametrize("options", [{"subsampling": 2}, {"subsampling": 1}])
    def test_chroma_stays_in_its_place_where_sides_are_odd(
        self, tmp_path: Path, redact: Redact, orientation: int, options: dict[str, Any]
    ) -> None:
        """Stripes of colour that a shift by a pixel would smear."""
        stripes = photo(bright=False)[:239, :319] // 2
        stripes[:, 200:] = np.where((np.arange(119) // 2 % 2)[None, :, None], (110, 20, 20), (20, 20, 110))
        source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
        Image.fromarray(stripes).save(source, quality=95, exif=exif(orientation), **options)
        redact(source, output)
        old, new = (np.asarray(frame_shown(path)).astype(int) for path in (source, output))
        # FFmpeg shows both, so that only what was done in between differs.
        assert np.abs(old - new).mean() < 2.5


def frame_shown(path: Path) -> NDArray[np.uint8]:
    return frame_shown_of(first_picture(path))


def frame_shown_of(frame: VideoFrame) -> NDArray[np.uint8]:
    return cast("NDArray[np.uint8]", canvas.upright(frame).to_ndarray(format="rgb24"))


class TestAnimation:
    PICTURES, TIMES = 6, (100, 200, 50, 70, 100, 300)

    def make(self, path: Path, *, alpha: bool = False, bright: range = range(2, 4)) -> Path:
        rows = [Image.fromarray(photo(number, bright=number in bright)) for number in range(self.PICTURES)]
        if alpha:
            hole = Image.new("L", (WIDTH, HEIGHT), 255)
            hole.paste(0, (280, 180, 304, 230))
            for row in rows:
                row.putalpha(hole)
        if path.suffix == ".gif" and not alpha:
            rows = [palette(row) for row in rows]
        options: dict[str, Any] = {"disposal": 2} if path.suffix == ".gif" else {}
        rows[0].save(path, save_all=True, append_images=rows[1:], duration=self.TIMES, loop=2, **options)
        return path

    @pytest.mark.parametrize("alpha", [False, True])
    @pytest.mark.parametrize("suffix", [".gif", ".png"])
    def test_only_what_is_bright_is_covered_and_the_rest_is_exact(
        self, tmp_path: Path, redact: Redact, suffix: str, alpha: bool
    ) -> None:
        source, output = self.make(tmp_path / f"a{suffix}", alpha=alpha), tmp_path / f"safe{suffix}"
        done = redact(source, output)
        before, after = opened(source), opened(output)
        assert (after.info["loop"], after.format) == (2, before.format)
        rows = zip(ImageSequence.Iterator(before), ImageSequence.Iterator(after), strict=True)
        for number, (old, new) in enumerate(rows):
            assert (new.info["duration"], old.info["duration"]) == (self.TIMES[number], self.TIMES[number])
            was, now = (np.asarray(image.convert("RGBA")) for image in (old, new))
            clear = now[:, :, :3].max(axis=2) > 0
            assert clear[:, 305:].all(), "what is covered grows with time, but not so far"
            assert np.array_equal(was[clear], now[clear])
            assert np.array_equal(was[:, 270:, 3], now[:, 270:, 3])
            if number in (2, 3):
                assert now[BOX][:, :, :3].max() <= 8
        assert done.covered_pictures >= 2
        assert done.written.encoded == self.PICTURES
        assert any("times" in check for check in done.checks)

    def test_a_gif_with_all_colours_taken_gets_a_black_all_the_same(self, tmp_path: Path, redact: Redact) -> None:
        colours = [(shade, 255 - shade, 90) for shade in range(255)] + [(255, 255, 255)]
        indexes = (np.arange(WIDTH)[None, :] + np.arange(HEIGHT)[:, None]).astype(np.uint8)
        image = Image.fromarray(indexes).convert("P")
        image.putpalette([value for colour in colours for value in colour])
        source, output = tmp_path / "a.gif", tmp_path / "safe.gif"
        image.save(source)
        redact(source, output)
        before, after = seen(source), seen(output)
        assert len(np.unique(before.reshape(-1, 4), axis=0)) == 256
        assert after[BOX][:, :, :3].max() <= 8
        assert psnr(before, after) >= 35

    def test_more_colours_than_a_palette_has(self) -> None:
        source = canvas.upright(VideoFrame.from_ndarray(photo(), "rgb24"))
        made = still._arranged(source, "gif")
        assert made.format.name == "pal8"
        assert psnr(photo(), frame_shown_of(made), (slice(0), slice(0))) >= 27


class TestWhatIsCovered:
    def test_a_box_drawn_by_hand(self, tmp_path: Path, models: tuple[str, ...]) -> None:
        source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
        Image.fromarray(photo(bright=False)).save(source, exif=exif(6))
        scan = ScanSettings(models=models)
        with Scanner(scan) as scanner:
            timeline = scanner.scan(source)
        rows = [{"pts": 0, "time_seconds": 0.0, "box": [100, 200, 140, 260]}]
        track = {"id": "t1", "label": "hand", "start_seconds": 0.0, "end_seconds": 0.04, "boxes": rows}
        with Redactor(RedactSettings(scan=scan, labels=["BRIGHT"])) as redactor:
            redactor.redact(source, output, timeline=dataclasses.replace(timeline, tracks=(track,)))
        after = seen(output)
        assert after[208:252, 108:132, :3].max() <= 8
        assert after[:180, :, :3].max(axis=2).min() > 8

    def test_nothing_found_is_written_all_the_same_and_cleaned(self, tmp_path: Path, redact: Redact) -> None:
        source, output = tmp_path / "a.png", tmp_path / "safe.png"
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", SECRET.decode())
        Image.fromarray(photo(bright=False)).save(source, pnginfo=info)
        done = redact(source, output)
        assert done.covered_pictures == 0
        assert np.array_equal(seen(source), seen(output))
        assert SECRET in source.read_bytes()
        assert SECRET not in output.read_bytes()
        assert "left out: text" in done.written.notes

    def test_a_classifier_has_the_whole_picture_covered(self, tmp_path: Path, redact: Redact) -> None:
        source, output = tmp_path / "a.png", tmp_path / "safe.png"
        Image.fromarray(photo(bright=False, red=True)).save(source)
        redact(source, output, labels=["red"])
        assert len(np.unique(seen(output).reshape(-1, 4), axis=0)) == 1

    def test_a_slate(self, tmp_path: Path, redact: Redact) -> None:
        source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
        Image.fromarray(photo()).save(source)
        redact(source, output, segments="slate")
        assert seen(output)[:, :, :3].std() < 1

    @pytest.mark.parametrize("style", ["mosaic", "blur"])
    @pytest.mark.parametrize("name", ["a.png", "a.jpg"])
    def test_other_styles(self, tmp_path: Path, redact: Redact, style: str, name: str) -> None:
        source, output = tmp_path / name, tmp_path / f"safe-{name}"
        Image.fromarray(photo()).save(source)
        redact(source, output, style=style)
        before, after = seen(source), seen(output)
        assert after[30:60, 30:60, :3].mean() < before[30:60, 30:60, :3].mean() - 50
        assert psnr(before, after) >= 40

    def test_an_ellipse(self, tmp_path: Path, redact: Redact) -> None:
        source, output = tmp_path / "a.png", tmp_path / "safe.png"
        Image.fromarray(photo()).save(source)
        redact(source, output, shape="ellipse")
        assert seen(output)[BOX][:, :, :3].max() == 0

    def test_the_smallest_image_there_is(self, tmp_path: Path, redact: Redact) -> None:
        for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif"):
            source, output = tmp_path / name, tmp_path / f"safe-{name}"
            Image.new("RGB", (1, 1), (255, 255, 255)).save(source)
            assert redact(source, output).covered_pictures == 1
            assert seen(output)[0, 0].tolist() == [0, 0, 0, 255]

    def test_the_document_says_what_was_done(self, tmp_path: Path, redact: Redact) -> None:
        source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
        Image.fromarray(photo()).save(source, exif=exif())
        document: Json = redact(source, output).as_document()
        assert document["written"]["format"] == "jpeg"
        assert document["written"]["encoder"] == "mjpeg"
        assert document["notes"] == ["left out: EXIF"]
        assert document["output"]["size_bytes"] == output.stat().st_size
        json.dumps(document)

    def test_a_worse_quality_can_be_asked_for(self, tmp_path: Path, redact: Redact) -> None:
        source = tmp_path / "a.jpg"
        Image.fromarray(photo()).save(source, quality=95)
        sizes = []
        for crf in (None, 8, 31):
            redact(source, tmp_path / "safe.jpg", crf=crf)
            sizes.append((tmp_path / "safe.jpg").stat().st_size)
        assert sizes[0] > sizes[1] > sizes[2]


class TestVerifying:
    def test_what_still_shows_is_covered_in_a_second_round(
        self, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
        Image.fromarray(photo()).save(source)
        found = [[Covering(pts=0, whole=True, boxes=[])], []]
        monkeypatch.setattr(job, "still_visible", lambda *_: found.pop(0))
        done = redact(source, output)
        assert seen(output)[:, :, :3].std() < 1
        assert "round 2" in done.checks[-1]

    def test_a_picture_that_is_not_covered_is_noticed(
        self, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tmp_path / "a.png"
        Image.fromarray(photo()).save(source)
        monkeypatch.setattr(
            "vidmod.redacting.stills._moved", lambda row, _: Covering(pts=row.pts, whole=True, boxes=[])
        )
        with pytest.raises(OutputError, match="what is to be covered shows"):
            redact(source, tmp_path / "safe.png")
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class TestHostile:
    @pytest.mark.parametrize("kept", [0.4, 0.98])
    @pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "a.png", "a.gif", "a.bmp", "a.tif", "a.webp"])
    def test_a_part_of_a_picture_is_refused(self, tmp_path: Path, redact: Redact, name: str, kept: float) -> None:
        source, output = tmp_path / name, tmp_path / f"safe-{name}"
        options: dict[str, Any] = {"progressive": True} if "prog" in name else {}
        Image.fromarray(photo()).save(source, **options)
        data = source.read_bytes()
        source.write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(SourceError):
            redact(source, output)
        assert not output.exists()

    def test_a_jpeg_of_which_the_middle_is_missing_is_refused(self, tmp_path: Path, redact: Redact) -> None:
        source = tmp_path / "a.jpg"
        Image.fromarray(photo()).save(source)
        data = source.read_bytes()
        source.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
        with pytest.raises(SourceError, match="missing or damaged"):
            redact(source, tmp_path / "safe.jpg")

    def test_a_huge_header_is_refused(self, tmp_path: Path, redact: Redact) -> None:
        source = tmp_path / "a.jpg"
        Image.fromarray(photo()).save(source)
        data = bytearray(source.read_bytes())
        where = data.index(b"\xff\xc0") + 5
        data[where : where + 4] = struct.pack(">HH", 65500, 65500)
        source.write_bytes(data)
        with pytest.raises(SourceError):
            redact(source, tmp_path / "safe.jpg")

    def test_further_pictures_are_dropped_and_listed(self, tmp_path: Path, redact: Redact) -> None:
        second = Image.fromarray(photo(1, red=True))
        Image.fromarray(photo()).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second.copy()])
        Image.fromarray(photo()).save(tmp_path / "a.tif", save_all=True, append_images=[second, second])
        jpeg = redact(tmp_path / "a.jpg", tmp_path / "safe.jpg")
        tiff = redact(tmp_path / "a.tif", tmp_path / "safe.tif")
        assert any("1 further pictures" in note for note in jpeg.written.notes)
        assert any("2 further pictures" in note for note in tiff.written.notes)
        assert (tmp_path / "safe.jpg").read_bytes().count(b"\xff\xd8\xff") == 1
        assert cast(Any, opened(tmp_path / "safe.tif")).n_frames == 1

    @pytest.mark.parametrize(
        ("name", "options", "reason"),
        [
            ("a.webp", {"save_all": True}, "animated WebP"),
            ("a.avif", {"save_all": True}, "consists of 2 pictures"),
            ("a.tif", {"compression": "jpeg"}, "its compression is not decoded here"),
        ],
    )
    def test_what_is_not_decoded_is_refused_and_the_next_step_named(
        self, tmp_path: Path, redact: Redact, name: str, options: dict[str, Any], reason: str
    ) -> None:
        source = tmp_path / name
        more: dict[str, Any] = {"append_images": [Image.fromarray(photo(1))]} if "save_all" in options else {}
        Image.fromarray(photo()).save(source, **options, **more)
        with pytest.raises(SourceError, match=f"{reason}.*Convert it to"):
            redact(source, tmp_path / f"safe-{name}")

    def test_an_avif_with_transparency_is_refused(self, tmp_path: Path, redact: Redact) -> None:
        with_alpha(Image.fromarray(photo())).save(tmp_path / "a.avif")
        with pytest.raises(SourceError, match="consists of 2 pictures"):
            redact(tmp_path / "a.avif", tmp_path / "safe.avif")


def heif(path: Path) -> Path:
    """A HEIF of one HEVC picture: ISO/IEC 23008-12, as little of it as can be."""
    film = path.with_suffix(".mp4")
    frame = VideoFrame.from_ndarray(photo(), "rgb24").reformat(format="yuv420p")
    options = {"crf": "10"}
    make(film, Video("libx265", count=1, size=(WIDTH, HEIGHT), frames=lambda _: frame, options=options))
    data = film.read_bytes()
    where = data.index(b"hvcC") - 4
    configuration = data[where : where + struct.unpack_from(">I", data, where)[0]]
    with av.open(str(film)) as container:
        sample = bytes(next(packet for packet in container.demux() if packet.size))
    film.unlink()

    def box(name: bytes, *parts: bytes, version: int | None = None) -> bytes:
        body = (b"" if version is None else struct.pack(">I", version << 24)) + b"".join(parts)
        return struct.pack(">I", 8 + len(body)) + name + body

    size = box(b"ispe", struct.pack(">II", WIDTH, HEIGHT), version=0)
    brand = box(b"ftyp", b"heic\0\0\0\0mif1heic")

    def meta(offset: int) -> bytes:
        place = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, len(sample))
        item = box(b"infe", struct.pack(">HH", 1, 0), b"hvc1\0", version=2)
        links = struct.pack(">IHBBB", 1, 1, 2, 0x81, 0x02)
        return box(
            b"meta",
            box(b"hdlr", bytes(4), b"pict", bytes(13), version=0),
            box(b"pitm", struct.pack(">H", 1), version=0),
            box(b"iloc", place, version=0),
            box(b"iinf", struct.pack(">H", 1), item, version=0),
            box(b"iprp", box(b"ipco", configuration, size), box(b"ipma", links, version=0)),
            version=0,
        )

    start = len(brand) + len(meta(0)) + 8
    path.write_bytes(brand + meta(start) + box(b"mdat", sample))
    return path


class TestNames:
    def test_heif_becomes_what_its_name_asks_for(self, tmp_path: Path, redact: Redact) -> None:
        source = heif(tmp_path / "a.heic")
        with pytest.raises(UsageError, match=r"Name an output with \.png"):
            redact(source, tmp_path / "safe.heic")
        with pytest.raises(UsageError, match=r"Name an output with \.png"):
            redact(source, tmp_path / "safe")
        for name in ("safe.jpg", "safe.png"):
            done = redact(source, tmp_path / name)
            assert seen(tmp_path / name)[BOX][:, :, :3].max() <= 8
            assert psnr(photo(), seen(tmp_path / name)) >= 30
            assert any("HEIC is written as" in note for note in done.written.notes)

    @pytest.mark.parametrize(("name", "right"), [("safe.png", ".jpg"), ("safe.mp4", ".jpg"), ("safe.avi", ".jpg")])
    def test_another_formats_suffix_is_refused_before_anything_is_done(
        self, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch, name: str, right: str
    ) -> None:
        source = tmp_path / "a.jpg"
        Image.fromarray(photo()).save(source)
        monkeypatch.setattr(job._Job, "_looked_through", lambda _: pytest.fail("it was scanned"))
        with pytest.raises(UsageError, match=rf"Name an output with \{right}"):
            redact(source, tmp_path / name)
        assert not (tmp_path / name).exists()

    @pytest.mark.parametrize("name", ["safe.JPEG", "safe", "safe.part", "safe.2024"])
    def test_a_suffix_of_the_same_format_or_that_says_nothing_is_taken(
        self, tmp_path: Path, redact: Redact, name: str
    ) -> None:
        source = tmp_path / "a.jpg"
        Image.fromarray(photo()).save(source)
        redact(source, tmp_path / name)
        assert opened(tmp_path / name).format == "JPEG"

    def test_a_videos_suffix_is_held_to_as_well(self, tmp_path: Path, redact: Redact) -> None:
        source = make(tmp_path / "a.mp4", Video(count=3))
        with pytest.raises(UsageError, match=r"Name an output with \.mp4 \(MP4\)"):
            redact(source, tmp_path / "safe.mkv")
        avi = make(tmp_path / "a.avi", Video(count=3))
        with pytest.raises(UsageError, match=r"Name an output with \.mp4 \(MP4\)"):
            redact(avi, tmp_path / "safe.avi")
        redact(avi, tmp_path / "safe.mp4")
        assert (tmp_path / "safe.mp4").read_bytes()[4:8] == b"ftyp"

    def test_a_relatives_suffix_is_taken_where_the_source_goes_by_it(self) -> None:
        assert naming.format_for(Path("b.MP4"), ["mov"], Path("a.mp4")) == "mov"
        assert naming.format_for(Path("b.webm"), ["matroska"], Path("a.webm")) == "matroska"
        for name, source in (("b.mp4", "a.mov"), ("b.jpg", "a.jpg"), ("b.webm", "a.webm")):
            with pytest.raises(UsageError, match=r"\.mov"):
                naming.format_for(Path(name), ["mov"], Path(source))

    def test_what_became_another_format_on_the_way_keeps_no_wrong_name(
        self, tmp_path: Path, redact: Redact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The worker says at last that it is Matroska now; what it said at first was MP4."""
        source, calls = make(tmp_path / "a.mp4", Video(count=3)), []
        real = naming.format_for

        def differ(output: Path, names: Any, like: Path) -> str:
            calls.append(names)
            return real(output, names if len(calls) == 1 else ["matroska"], like)

        monkeypatch.setattr(job, "format_for", differ)
        with pytest.raises(UsageError, match=r"Name an output with \.mkv"):
            redact(source, tmp_path / "safe.mp4")
        assert calls == [["mp4"], ["mp4"]]
        assert not (tmp_path / "safe.mp4").exists()

    def test_every_format_that_is_written_has_a_suffix(self) -> None:
        assert set(still.ENCODERS) <= set(naming.FORMATS)
        for name, (_, suffixes) in naming.FORMATS.items():
            assert naming.format_for(Path(f"a{suffixes[-1]}"), [name], Path("b.avi")) == name


class TestCanvas:
    def test_everything_can_be_drawn_on(self) -> None:
        assert set(canvas.CANVASES) <= set(redaction.FORMATS)
        assert {name for takes in still._TAKES.values() for name in takes} <= set(canvas.CANVASES)

    @pytest.mark.parametrize("name", sorted(redaction.FORMATS))
    def test_every_format_becomes_one(self, name: str) -> None:
        colours = VideoFrame.from_ndarray(photo(), "rgb24")
        try:
            picture = colours.reformat(format=name)
        except (OSError, ValueError):
            pytest.skip("swscale does not make it")
        made = canvas.upright(picture)
        assert made.format.name in canvas.CANVASES
        assert len(made.side_data) == 0
        wanted = picture.reformat(format="rgb24").to_ndarray().astype(int)
        assert np.abs(made.to_ndarray(format="rgb24").astype(int) - wanted).mean() < 2

    @pytest.mark.parametrize(
        "name", ["gray16be", "rgb48be", "rgba64be", "bgr24", "bgra", "argb", "gbrp", "monob", "pal8"]
    )
    def test_what_is_exact(self, name: str) -> None:
        if name == "pal8":
            indexes = np.arange(WIDTH * HEIGHT, dtype=np.uint32).reshape(HEIGHT, WIDTH).astype(np.uint8)
            colours = np.random.default_rng(0).integers(0, 256, (256, 4), np.uint8)
            picture = VideoFrame.from_ndarray(cast(Any, (indexes, colours)), "pal8")
            alpha, red, green, blue = colours[indexes].transpose(2, 0, 1)
            expected = np.stack([red, green, blue, alpha], axis=2)
        else:
            picture = VideoFrame.from_ndarray(photo(), "rgb24").reformat(format=name)
            expected = picture.reformat(
                format="gray" if name == "monob" else f"{canvas.upright(picture).format.name}"
            ).to_ndarray()
        assert np.array_equal(canvas.upright(picture).to_ndarray(), expected)


def test_the_command(tmp_path: Path, models: tuple[str, ...]) -> None:
    source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
    Image.fromarray(photo()).save(source, exif=exif())
    command = [sys.executable, "-m", "vidmod", "redact", str(source), str(output), "--models", ",".join(models)]
    result = subprocess.run([*command, "--labels", "BRIGHT"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "left out: EXIF" in result.stderr
    document = json.loads((tmp_path / "safe.jpg.redaction.json").read_text("utf-8"))
    assert document["written"]["format"] == "jpeg"
    wrong = subprocess.run(
        [*command[:5], str(tmp_path / "safe.png"), *command[6:]], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert ".jpg (JPEG)" in wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 4, 6])
def test_a_face_that_the_real_detector_finds(tmp_path: Path, orientation: int) -> None:
    """Stored so that EXIF shows it upright: it is found as such, mirrored and turned or not."""
    pixels = photo(bright=False)
    face = draw_face(pixels, (150, 110), 120)
    assert face is not None
    stored = {1: pixels, 4: pixels[::-1], 6: np.rot90(pixels)}[orientation]
    source, output = tmp_path / "a.jpg", tmp_path / "safe.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(source, quality=92, exif=exif(orientation))
    scan = ScanSettings(models=("nudenet",))
    with Redactor(RedactSettings(scan=scan, labels=["FACE_FEMALE"])) as redactor:
        done = redactor.redact(source, output)
    x1, y1, x2, y2 = (round(value) for value in face)
    assert done.covered_pictures == 1
    assert seen(output)[y1:y2, x1:x2, :3].max() <= 8
    assert done.checks[-1].startswith("models find nothing more")
