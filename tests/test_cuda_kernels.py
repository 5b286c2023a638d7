"""What the CUDA kernels compute: the source compiled for the CPU, its twin in NumPy, and the CPU path agree."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from tests.nvidia import host_kernels, odd_sizes
from tests.nvidia.host_kernels import HostKernels
from tests.nvidia.pictures import BASE, filtered, frame_of, launched, layout_of, noise, stored
from vidmod.errors import UsageError
from vidmod.media import frame as frames
from vidmod.media.frame import INTERPOLATIONS, Orientation
from vidmod.models import Model, ModelInput, find
from vidmod.models.check import _TOLERANCE, iou, read_golden
from vidmod.models.cuda import launching, twin
from vidmod.models.cuda.filters import taps
from vidmod.models.cuda.jpeg import quantisers
from vidmod.models.cuda.launching import Plan, normalised
from vidmod.models.cuda.scaling import LEFT, MIDDLE, TOP_LEFT, Layout, Siting, siting_of
from vidmod.models.images import Image
from vidmod.models.manifest import ChannelOrder, InputSpec, Preparation, Step
from vidmod.models.preprocessing import prepare
from vidmod.predictions import Predictions

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "samples" / "demo.mp4"
SHIPPED = [find(name).preparation for name in ("open_nsfw", "nudenet")]
ORIENTATIONS = [Orientation(*flags) for flags in itertools.product((False, True), repeat=3)]
ORDERS: tuple[ChannelOrder, ...] = ("rgb", "bgr")
# swscale computes in other ways on other processors.
EXACT = platform.machine() in ("x86_64", "AMD64")


def resize(method: str, width: int, height: int, order: ChannelOrder = "rgb", *rest: Step) -> Preparation:
    return Preparation((Step("resize", width, height, method), *rest), order, width, height)


def picture_of(path: Path, number: int = 5) -> VideoFrame:
    with av.open(str(path)) as container:
        return next(itertools.islice(container.decode(video=0), number, None))


@pytest.fixture(scope="module")
def demo() -> VideoFrame:
    return picture_of(DEMO)


def by_twin(picture: VideoFrame, preparation: Preparation, siting: Siting = LEFT) -> Image:
    return twin.prepare(*stored(picture), layout_of(picture, siting), preparation)


def on_cpu(picture: VideoFrame, preparation: Preparation) -> Image:
    return prepare(frame_of(picture), preparation).image


def agree(found: Image, wanted: Image) -> None:
    """Equal where swscale has the arithmetic that was followed, near elsewhere."""
    off = np.abs(found.astype(int) - wanted)
    assert found.shape == wanted.shape
    if EXACT:
        assert off.max() == 0, f"{(off > 0).mean():.2%} differ, by up to {off.max()}"
    assert off.mean() < 2
    assert np.percentile(off, 99) < 8


class TestAgainstTheCpuPath:
    @pytest.mark.parametrize("preparation", SHIPPED, ids=["open_nsfw", "nudenet"])
    def test_what_ships_on_real_clips(self, preparation: Preparation, shared_media: Path) -> None:
        for path in [*sorted((shared_media / "clips").iterdir()), DEMO]:
            picture = picture_of(path)
            agree(by_twin(picture, preparation), on_cpu(picture, preparation))

    @pytest.mark.parametrize("method", INTERPOLATIONS)
    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    def test_methods_and_sizes(self, demo: VideoFrame, method: str, order: ChannelOrder) -> None:
        width, height = demo.width, demo.height
        # Smaller, larger, odd, one side only, and not scaled at all.
        for size in ((64, 48), (255, 257), (98, 700), (100, height), (width, 50), (width, height), (width + 1, height)):
            preparation = resize(method, *size, order)
            agree(by_twin(demo, preparation), on_cpu(demo, preparation))

    @pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
    @pytest.mark.parametrize("colours", [ColorRange.MPEG, ColorRange.JPEG])
    def test_matrices_and_ranges(self, matrix: int, colours: ColorRange) -> None:
        for name in ("yuv420p", "yuv420p10le"):
            picture = noise(128, 96, name)
            picture.colorspace, picture.color_range = matrix, colours
            # Even, BGR and not scaled: the three arithmetics of colours.py, but for that of odd widths.
            for preparation in (resize("area", 64, 64), resize("bilinear", 64, 64, "bgr"), resize("area", 128, 96)):
                agree(by_twin(picture, preparation, MIDDLE), on_cpu(picture, preparation))

    @pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
    def test_orientations(self, demo: VideoFrame, orientation: Orientation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(frames, "orientation_of", lambda picture: orientation)
        monkeypatch.setattr("tests.nvidia.pictures.orientation_of", lambda picture: orientation)
        for preparation in (*SHIPPED, resize("bicubic", 97, 53)):
            agree(by_twin(demo, preparation), on_cpu(demo, preparation))

    @pytest.mark.parametrize(
        "size", [(1, 1), (2, 2), (3, 5), (17, 31), (100, 2), (2, 100), (333, 222), (2048, 40)], ids=str
    )
    def test_awkward_pictures(self, size: tuple[int, int]) -> None:
        picture = noise(*size)
        for method in INTERPOLATIONS:
            for preparation in (resize(method, 64, 64), resize(method, 64, 48, "bgr")):
                agree(by_twin(picture, preparation, MIDDLE), on_cpu(picture, preparation))

    @pytest.mark.parametrize("height", [480, 96, 4])
    def test_fields_are_scaled_apart(self, demo: VideoFrame, height: int) -> None:
        picture = filtered(demo, ("scale", f"320:{height}"), ("setfield", "tff"))
        assert picture.interlaced_frame
        for preparation in (*SHIPPED, resize("area", 99, 77), resize("area", 320, height)):
            agree(by_twin(picture, preparation, MIDDLE), on_cpu(picture, preparation))

    def test_ten_bits(self, demo: VideoFrame) -> None:
        picture = filtered(demo, ("format", "yuv420p10le"))
        for preparation in (*SHIPPED, resize("bicubic", 99, 401), resize("area", demo.width, demo.height)):
            agree(by_twin(picture, preparation, MIDDLE), on_cpu(picture, preparation))

    @pytest.mark.parametrize(
        "coder", ["libx264", "libx265", "mpeg2video", "mpeg4", "mpeg1video", "libvpx-vp9", "mjpeg"]
    )
    def test_where_decoders_say_that_chroma_lies(self, demo: VideoFrame, coder: str, tmp_path: Path) -> None:
        path = tmp_path / "coded.mkv"
        picture = filtered(demo, ("scale", "160:96"), ("format", "yuvj420p" if coder == "mjpeg" else "yuv420p"))
        with av.open(str(path), "w") as container:
            stream = container.add_stream(coder, rate=25)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 160, 96, picture.format.name
            if coder == "libx265":
                stream.options = {"x265-params": "log-level=none"}
            for number in range(3):
                picture.pts, picture.time_base = number, BASE
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        with av.open(str(path)) as container:
            siting = siting_of(container.streams.video[0].codec_context.name)
            decoded = next(container.decode(video=0))
        preparation = resize("area", 64, 64)
        agree(by_twin(decoded, preparation, siting), on_cpu(decoded, preparation))
        if EXACT:
            others = [by_twin(decoded, preparation, other) for other in {LEFT, MIDDLE, TOP_LEFT} - {siting}]
            assert all((other != on_cpu(decoded, preparation)).any() for other in others)


class TestJpeg:
    @pytest.mark.parametrize("size", [(224, 224), (16, 16), (1, 1), (2, 2), (5, 5), (17, 33), (100, 75)], ids=str)
    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    def test_equals_the_codec_bit_by_bit(self, size: tuple[int, int], order: ChannelOrder) -> None:
        random = np.random.default_rng(0)
        golden = read_golden(find("open_nsfw"))[0][0].image(*size, order)
        for image in (golden, random.integers(0, 256, golden.shape, np.uint8)):
            for quality in (1, 30, 75, 95, 100):
                _, data = cv2.imencode(
                    ".jpg", image if order == "bgr" else image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality)
                )
                wanted = cv2.imdecode(data, cv2.IMREAD_COLOR)
                assert wanted is not None
                back = wanted if order == "bgr" else wanted[..., ::-1]
                assert np.array_equal(twin.jpeg(image, quality, order), back)

    def test_quantisers_are_those_of_annex_k_scaled(self) -> None:
        assert [row[:4].tolist() for row in quantisers(50)] == [[16, 11, 10, 16], [17, 18, 24, 47]]
        assert [row[:4].tolist() for row in quantisers(75)] == [[8, 6, 5, 8], [9, 9, 12, 24]]
        assert quantisers(100).max() == 1
        assert quantisers(1).max() == 255


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    if not host_kernels.available():
        pytest.skip(f"{host_kernels.COMPILER} is not on this machine: the kernels cannot be compiled for the CPU")
    return host_kernels.build(tmp_path_factory.mktemp("kernels"))


class TestKernels:
    """The CUDA source, compiled for the CPU, against its twin."""

    def same(self, kernels: HostKernels, picture: VideoFrame, preparation: Preparation, layout: Layout) -> None:
        plan = Plan.of(layout, preparation)
        found = launched(kernels, plan, *stored(picture))
        assert np.array_equal(found, twin.prepare(*stored(picture), layout, preparation))

    @pytest.mark.parametrize("preparation", SHIPPED, ids=["open_nsfw", "nudenet"])
    def test_what_ships(self, kernels: HostKernels, demo: VideoFrame, preparation: Preparation) -> None:
        self.same(kernels, demo, preparation, layout_of(demo))

    @pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
    @pytest.mark.parametrize("interlaced", [False, True])
    def test_sizes_methods_and_orientations(self, kernels: HostKernels, name: str, interlaced: bool) -> None:
        orientations = itertools.cycle(ORIENTATIONS)
        for size in ((1, 1), (2, 2), (3, 5), (6, 4), (17, 31), (33, 6), (64, 50), (255, 33)):
            picture = noise(*size, name)
            for method, order in itertools.product(INTERPOLATIONS, ORDERS):
                sample_bytes = 2 if name.endswith("10le") else 1
                layout = Layout(*size, sample_bytes, 9, orientation=next(orientations), interlaced=interlaced)
                for target in ((16, 16), (31, 33), size):
                    self.same(kernels, picture, resize(method, *target, order), layout)

    def test_steps_in_any_order(self, kernels: HostKernels, demo: VideoFrame) -> None:
        crop, coded = Step("crop", 60, 50), Step("jpeg", quality=50)
        for first in (Step("letterbox", 100, 80, "bicubic"), Step("resize", 100, 80, "area")):
            for rest in itertools.permutations((crop, coded, Step("crop", 33, 31), Step("jpeg", quality=90))):
                sizes = [step for step in rest if step.step == "crop"]
                if sizes[0].width > sizes[1].width:
                    self.same(kernels, demo, Preparation((first, *rest), "bgr", 33, 31), layout_of(demo))

    def test_small_jpegs(self, kernels: HostKernels, demo: VideoFrame) -> None:
        for width, height in itertools.product((1, 2, 3, 4, 5, 17), (1, 2, 3, 16)):
            self.same(kernels, demo, resize("area", width, height, "rgb", Step("jpeg", quality=60)), layout_of(demo))

    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    @pytest.mark.parametrize("count", [1, 5])
    def test_normalise(self, kernels: HostKernels, layout: str, count: int) -> None:
        images = np.random.default_rng(0).integers(0, 256, (count, 13, 9, 3), np.uint8)
        spec = InputSpec("x", layout, "rgb", 9, 13, (104.0, 117.0, 123.5), (1.0, 58.4, 255.0))  # type: ignore[arg-type]
        wanted = twin.normalise(images, spec)
        found = np.full(wanted.shape, np.nan, np.float32)
        launch = normalised(images.ctypes.data, found.ctypes.data, count, spec)
        kernels.launch(launch.kernel, launch.grid, launch.block, launch.arguments)
        assert np.array_equal(found, wanted)

    def test_arguments_that_do_not_fit_are_refused(self, kernels: HostKernels) -> None:
        with pytest.raises(ValueError, match="jpeg_blocks: no such kernel, or not its arguments"):
            kernels.launch("jpeg_blocks", (1, 1, 1), (1, 1, 1), [ctypes.c_int(1)] * 4)

    def test_no_memory_outside_is_touched(self, tmp_path: Path) -> None:
        if not host_kernels.available():
            pytest.skip(f"{host_kernels.COMPILER} is not on this machine")
        library = host_kernels.compiled(tmp_path, "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
        finder = [host_kernels.COMPILER, "-print-file-name=libasan.so"]
        sanitiser = subprocess.run(finder, capture_output=True, text=True, check=True).stdout.strip()
        environment = {**os.environ, "LD_PRELOAD": sanitiser, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", odd_sizes.__name__, str(library)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout) == (0, "every kernel ran\n"), run.stderr[-2000:]
        short = subprocess.run([*command, "short"], env=environment, capture_output=True, text=True, check=False)
        assert short.returncode != 0
        assert "heap-buffer-overflow" in short.stderr


class TestPlans:
    @pytest.mark.parametrize("preparation", [*SHIPPED, resize("area", 31, 77)], ids=["open_nsfw", "nudenet", "other"])
    def test_geometry_is_that_of_the_cpu_path(self, preparation: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
        for size, orientation in itertools.product(((640, 360), (36, 64), (7, 300)), ORIENTATIONS):
            monkeypatch.setattr(frames, "orientation_of", lambda picture, turned=orientation: turned)
            wanted = prepare(frame_of(noise(*size)), preparation).geometry
            assert Plan.of(Layout(*size, orientation=orientation), preparation).geometry == wanted

    def test_kernels_are_those_of_the_source(self) -> None:
        assert tuple(host_kernels.names()) == launching.KERNELS
        assert "#include" not in launching.source()

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Layout(0, 4), "Invalid size"),
            (lambda: Layout(4, 4, 3), "Invalid sample_bytes"),
            (lambda: Plan.of(Layout(4, 4, matrix=8), SHIPPED[0]), "Invalid matrix"),
            (lambda: Plan.of(Layout(4, 4), resize("area", 8, 8, "rgb", Step("crop", 9, 8))), "A crop to 9x8"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, make: Callable[[], object], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            make()

    @pytest.mark.parametrize("method", INTERPOLATIONS)
    def test_weights_add_up_and_stay_inside(self, method: str) -> None:
        for source, target in itertools.product((1, 2, 3, 7, 100, 1080), (1, 2, 5, 64, 320)):
            made = taps(method, source, target, one=4096)
            assert set(made.weights.sum(axis=1, dtype=int)) <= {4095, 4096, 4097}
            assert made.first.min() >= 0
            assert int(made.first.max()) + made.count <= source


def score_of(model: Model, image: Image, geometry: object) -> Predictions:
    return model.predict([ModelInput(image, geometry)])[0]  # type: ignore[arg-type]


class TestScores:
    """What the networks make of it, with their real weights."""

    @pytest.mark.parametrize("name", ["open_nsfw", "nudenet"])
    def test_are_within_the_tolerance(self, name: str, shared_media: Path) -> None:
        manifest = find(name)
        golden = [frame.picture for frame, _ in read_golden(manifest)]
        even = [
            filtered(picture, ("scale", "trunc(iw/2)*2:trunc(ih/2)*2"), ("format", "yuv420p")) for picture in golden
        ]
        clips = [picture_of(path, 20) for path in sorted((shared_media / "clips").iterdir())[:3]]
        with Model.load(manifest, runtime="onnxruntime", precision="fp32") as model:
            for picture, siting in [*((one, MIDDLE) for one in even), *((one, LEFT) for one in clips)]:
                wanted = prepare(frame_of(picture), manifest.preparation)
                image = by_twin(picture, manifest.preparation, siting)
                found = score_of(model, image, wanted.geometry)
                assert_alike(found, model.predict([wanted])[0])


def assert_alike(found: Predictions, wanted: Predictions) -> None:
    tolerance = _TOLERANCE["fp32"]
    for one, other in zip(found.scores, wanted.scores, strict=True):
        assert all(abs(one.labels[label] - score) <= tolerance for label, score in other.labels.items())
    for item in wanted.detections:
        if item.score >= 0.4:
            alike = [one for one in found.detections if one.label == item.label and iou(one.box, item.box) >= 0.8]
            assert any(abs(one.score - item.score) <= tolerance for one in alike)


class TestCompiles:
    @pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
    def test_with_nvcc(self, architecture: str, tmp_path: Path) -> None:
        nvcc = shutil.which("nvcc")
        if nvcc is None:
            pytest.skip("nvcc is not on this machine")
        source, program = Path(launching.__file__).with_name("kernels.cu"), tmp_path / "kernels.ptx"
        command = [nvcc, f"-arch={architecture}", "-Werror", "all-warnings", "--ptx", str(source), "-o", str(program)]
        subprocess.run(command, check=True, timeout=240)
        text = program.read_text("utf-8")
        assert all(f".entry {name}(" in text for name in launching.KERNELS)

    def test_with_nvrtc(self) -> None:
        library = nvrtc()
        if library is None:
            pytest.skip("the wheel nvidia-cuda-nvrtc is not installed")
        compiler, program = ctypes.CDLL(str(library)), ctypes.c_void_p()
        source = launching.source().encode()
        assert compiler.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
        options = (ctypes.c_char_p * 1)(b"--gpu-architecture=sm_90")
        status = compiler.nvrtcCompileProgram(program, 1, options)
        size = ctypes.c_size_t()
        assert compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
        log = ctypes.create_string_buffer(size.value)
        assert compiler.nvrtcGetProgramLog(program, log) == 0
        assert (status, log.value) == (0, b"")


def nvrtc() -> Path | None:
    """NVIDIA's compiler at run time, if its wheel is installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((path for folder in folders for path in Path(folder).rglob("libnvrtc.so.*")), None)
