"""Building engines and finding them, over a make-believe GPU and TensorRT that compute with ONNX Runtime.

No GPU ran this. What is tested is what is called, in which order and with what, and all that can go wrong.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from tests.networks import write_classifier, write_detector
from tests.nvidia import fake_cuda, fake_tensorrt
from tests.nvidia.fake_cuda import FakeCuda
from tests.nvidia.fake_tensorrt import VERSIONS
from tests.nvidia.tensorrt_building import CREATION, Building, building
from tests.nvidia.tensorrt_running import Running, unpack
from vidmod.cli import cli
from vidmod.cli.engines import _Line
from vidmod.errors import InferenceError, OutputError, RuntimeUnavailableError, UsageError, VidmodError, WeightsError
from vidmod.media.frame import Frame
from vidmod.models import RUNTIMES, Manifest, Model, find
from vidmod.models import check as check_module
from vidmod.models.check import check
from vidmod.models.engines import Cache, PlanKey, TimingKey, find_plan, key_of
from vidmod.models.engines.building import Builder, Built
from vidmod.models.engines.compiling import Step
from vidmod.models.engines.keeping import engines, here, prune
from vidmod.models.preprocessing import prepare
from vidmod.models.runtimes import SessionRequest
from vidmod.models.weights import obtain

BOTH = pytest.mark.parametrize("version", VERSIONS)
OLD, NEW = VERSIONS


class Rig:
    """A machine with a GPU, TensorRT, an empty cache and a model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, version: str = NEW) -> None:
        self._monkeypatch = monkeypatch
        self.folder = folder
        monkeypatch.setenv("VIDMOD_CACHE", str(folder / "cache"))
        self.said: list[str] = []
        self.path = write_classifier(folder)
        self.manifest = find(str(self.path))
        self.install(version)

    def install(self, version: str, cuda: FakeCuda | None = None) -> None:
        """Another TensorRT, another GPU."""
        self.cuda = fake_cuda.install(self._monkeypatch, cuda)
        self.trt: Running = fake_tensorrt.install(self._monkeypatch, self.cuda, version)

    @property
    def made(self) -> Building:
        return building(self.trt)

    @property
    def cache(self) -> Cache:
        return Cache()

    def build(self, progress: Callable[[Step], None] | None = None, **options: Any) -> Built:
        try:
            return Builder("auto", notify=self.said.append, progress=progress).build(self.manifest, **options)
        finally:
            self.all_is_freed()

    def all_is_freed(self) -> None:
        assert self.cuda.problems == []
        assert self.cuda.live == {}
        assert list(self.made.alive) == []

    def plans(self) -> list[Path]:
        return sorted(self.cache.path.glob("*.plan")) if self.cache.path.exists() else []

    def request(self, **changes: Any) -> SessionRequest:
        manifest = self.manifest
        assert manifest.weights.path is not None
        fields = {"device": "cuda:0", "precision": "fp16", "name": manifest.name, "batch": manifest.batch}
        return SessionRequest(manifest.weights.path, manifest.input, manifest.output, **{**fields, **changes})

    def find(self, precision: str = "auto", **changes: Any) -> bytes:
        gpu = here().gpus[0]
        return find_plan(self.request(**changes), gpu, precision, self.trt.version)

    def refusal(self, precision: str = "auto", **changes: Any) -> str:
        with pytest.raises(RuntimeUnavailableError) as caught:
            self.find(precision, **changes)
        return str(caught.value)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rig:
    return Rig(monkeypatch, tmp_path)


@pytest.fixture
def rig_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Rig]:
    return lambda version: Rig(monkeypatch, tmp_path, version)


def scores(manifest: Manifest, **options: Any) -> list[float]:
    rng = np.random.default_rng(3)
    frames = [Frame.from_ndarray(rng.integers(0, 256, (24, 32, 3), np.uint8)) for _ in range(5)]
    with Model.load(manifest, **options) as model:
        found = model.predict([prepare(frame, manifest.preparation) for frame in frames])
    return [item.scores[0].labels["red"] for item in found]


class TestBuilding:
    @BOTH
    @pytest.mark.parametrize("precision", ["fp16", "fp32"])
    def test_what_was_built_is_loaded_and_right(
        self, rig_of: Callable[[str], Rig], version: str, precision: str
    ) -> None:
        rig = rig_of(version)
        built = rig.build(precision=precision)
        assert built.is_new
        assert rig.plans() == [built.path]
        assert (built.key.tensorrt, built.key.precision, built.key.batches) == (version, precision, (1, 4, 64))
        assert rig.find(precision) == unpacked_whole(built)
        on_cpu = scores(rig.manifest, runtime="onnxruntime", device="cpu", precision="fp32")
        on_gpu = scores(rig.manifest, runtime="tensorrt", precision=precision)
        assert on_gpu == pytest.approx(on_cpu, abs=1e-5 if precision == "fp32" else 1e-2)
        rig.all_is_freed()

    @BOTH
    def test_how_it_was_built(self, rig_of: Callable[[str], Rig], version: str) -> None:
        rig = rig_of(version)
        rig.build()
        (build,) = rig.made.builds
        assert build.creation_flags == 1 << CREATION[version.partition(".")[0]]["STRONGLY_TYPED"]
        assert build.cleared_flags == {"TF32"}
        assert build.optimization_level == 3
        assert build.profiles == [{"pixels": [(1, 3, 8, 8), (4, 3, 8, 8), (64, 3, 8, 8)]}]
        (limit,) = build.pool_limits.values()
        assert 0 < limit <= min(4 << 30, rig.build().key.memory_bytes // 4)
        types = {tensor.data_type for tensor in onnx.load_model_from_string(build.network).graph.initializer}
        assert onnx.TensorProto.FLOAT16 in types

    def test_an_input_with_channels_last(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        rig = Rig(monkeypatch, tmp_path)
        rig.manifest = find(str(write_detector(tmp_path)))
        rig.build()
        assert rig.made.builds[0].profiles == [{"pixels": [(1, 64, 64, 3), (8, 64, 64, 3), (64, 64, 64, 3)]}]

    def test_it_is_built_once(self, rig: Rig) -> None:
        first, second = rig.build(), rig.build()
        assert (first.is_new, second.is_new) == (True, False)
        assert first.path == second.path
        assert (second.check, second.seconds) == (first.check, first.seconds)
        assert len(rig.made.builds) == 1
        assert rig.build(force=True).is_new
        assert len(rig.made.builds) == 2

    def test_precisions_live_side_by_side(self, rig: Rig) -> None:
        rig.build(precision="fp16")
        rig.build(precision="fp32")
        assert len(rig.plans()) == 2
        assert rig.find("fp16") != rig.find("fp32")
        assert rig.find("auto") == rig.find("fp16")

    def test_what_it_learned_makes_the_next_one_quicker(self, rig: Rig) -> None:
        rig.build()
        rig.build(force=True)
        assert [build.knew for build in rig.made.builds] == [False, True]

    def test_of_a_timing_cache_of_nonsense_nothing_is_taken(self, rig: Rig) -> None:
        key = rig.build().key
        timing = TimingKey(key.tensorrt, key.device, key.capability, key.multiprocessors, key.memory_bytes)
        rig.cache.store(timing, "timing", {}, b"nonsense")
        assert rig.build(force=True).is_new
        assert not rig.made.builds[-1].knew
        assert rig.cache.load(timing, "timing").content != b"nonsense"  # type: ignore[union-attr]

    def test_it_does_without_a_timing_cache(self, rig: Rig) -> None:
        rig.trt.refuse["set_timing_cache"] = 0
        assert rig.build().is_new

    def test_its_steps_are_told_from_another_thread(self, rig: Rig) -> None:
        steps: list[Step] = []
        rig.build(progress=steps.append)
        assert [(step.done, step.total) for step in steps] == [(count, 5) for count in range(6)]
        assert {step.phase for step in steps} == {"Building Engine"}, "phases within a phase are not told"
        import threading

        assert threading.get_ident() not in rig.made.threads

    def test_it_says_what_takes_so_long(self, rig: Rig) -> None:
        rig.build()
        (said,) = rig.said
        assert "Building redness in fp16 with TensorRT 11.4.0.106" in said
        assert "minutes" in said

    def test_the_converted_network_is_not_made_twice(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        rig.build()
        from vidmod.models.engines import network

        monkeypatch.setattr(network, "as_built", lambda *_: pytest.fail("converted again"))
        rig.build(force=True)

    def test_other_weights_make_another_engine(self, rig: Rig, tmp_path: Path) -> None:
        first = rig.build()
        other = tmp_path / "other.onnx"
        model = onnx.load(str(tmp_path / "redness.onnx"))
        model.graph.initializer[1].raw_data = np.array([-5.0], np.float32).tobytes()
        onnx.save(model, str(other))
        second = rig.build(weights={"redness": other})
        assert second.is_new
        assert first.key.network != second.key.network
        assert len(rig.plans()) == 2

    def test_no_such_precision_or_device(self, rig: Rig) -> None:
        with pytest.raises(UsageError, match="Use one of auto, fp16, fp32"):
            rig.build(precision="bf16")
        with pytest.raises(UsageError, match="cuda:0 is the first GPU"):
            Builder("gpu")
        with pytest.raises(RuntimeUnavailableError, match="runs on NVIDIA GPUs only"):
            Builder("cpu")
        with pytest.raises(RuntimeUnavailableError, match="no cuda:7"):
            Builder("cuda:7")

    def test_a_tensorrt_that_only_runs_engines(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(sys.modules["tensorrt"], "Builder")
        with pytest.raises(RuntimeUnavailableError, match=r"runs engines and cannot build them.*vidmod\[tensorrt\]"):
            rig.build()


def unpacked_whole(built: Built) -> bytes:
    """The plan itself: what is left of the file without vidmod's header."""
    (entry,) = (entry for entry in [Cache().look(built.key, "redness")] if entry is not None)
    header, network = unpack(entry.content)
    assert header["version"] == built.key.tensorrt
    assert network
    return entry.content


class TestParity:
    """An engine with wrong numbers is refused, and by how much it is wrong is said."""

    def test_wrong_numbers(self, rig: Rig) -> None:
        rig.made.scale = 0.5
        with pytest.raises(InferenceError, match=r"up to 0\.\d{3} from") as caught:
            rig.build()
        for word in ("redness", "fp16", "0.030 is allowed", "was not kept", "--precision fp32", "onnxruntime"):
            assert word in str(caught.value)
        assert rig.plans() == []
        assert "There is no TensorRT engine" in rig.refusal()

    def test_numbers_that_are_none(self, rig: Rig) -> None:
        rig.made.scale = float("nan")
        with pytest.raises(InferenceError, match=r"was not kept: .*not a number.*--precision fp32"):
            rig.build()
        assert rig.plans() == []

    def test_a_wrong_one_does_not_replace_a_right_one(self, rig: Rig) -> None:
        built = rig.build()
        before = built.path.read_bytes()
        rig.made.scale = 0.5
        with pytest.raises(InferenceError):
            rig.build(force=True)
        assert built.path.read_bytes() == before

    @pytest.mark.parametrize("name", ["open_nsfw", "nudenet"])
    def test_golden_outputs_are_what_counts_where_there_are_some(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        """The real models in half precision, held to their golden outputs: all is real but for the GPU."""
        weights = {name: obtain(find(name)).path}
        rig = Rig(monkeypatch, tmp_path)
        rig.manifest = find(name)
        built = rig.build(weights=weights)
        assert built.check.startswith("5 inputs, scores within 0.00")
        monkeypatch.setattr(check_module, "RUNTIMES", {"tensorrt": RUNTIMES["tensorrt"]})
        (row,) = check(rig.manifest, weights)
        assert (row.runtime, row.device, row.precision, row.passed) == ("tensorrt", "cuda:0", "fp16", True)


class TestFailures:
    """At every step: an error that says what to do, nothing stored, nothing left in the GPU, no lock."""

    @BOTH
    @pytest.mark.parametrize(
        ("call", "error", "expected"),
        [
            ("parse", WeightsError, r"redness.onnx: .* take it \(Conv first: make-believe: not today; and not"),
            ("set_shape", InferenceError, r"refuses its batches \(Shape provided for min"),
            ("add_optimization_profile", InferenceError, r"refuses its batches \(make-believe: no such profile"),
            ("build_serialized_network", InferenceError, r"cannot build it \(IBuilder::.*make-believe: out of"),
            ("deserialize_cuda_engine", RuntimeUnavailableError, r"redness cannot be used on cuda:0.*refusal"),
            ("execute_async_v3", RuntimeUnavailableError, r"redness cannot be used on cuda:0"),
        ],
    )  # fmt: skip
    def test_of_a_call(
        self, rig_of: Callable[[str], Rig], version: str, call: str, error: type[VidmodError], expected: str
    ) -> None:
        rig = rig_of(version)
        rig.trt.refuse[call] = 0
        with pytest.raises(error, match=expected):
            rig.build()
        assert rig.plans() == []
        assert not [path.name for path in rig.cache.path.iterdir() if path.suffix in (".lock", ".part")]
        assert rig.build().is_new, "the next try is not held up"

    @pytest.mark.parametrize("after", [0, 1, 2])
    def test_of_the_gpu(self, rig: Rig, after: int) -> None:
        """When its facts are asked for, when the engine is built, when it is checked."""
        rig.cuda.fail("cuDevicePrimaryCtxRetain", after=after)
        with pytest.raises(RuntimeUnavailableError, match="cuda:0 cannot be used"):
            rig.build()
        assert rig.plans() == []

    def test_without_a_gpu_no_weights_are_pulled(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        rig.install(NEW, FakeCuda(devices=0))
        monkeypatch.setattr("vidmod.models.weights.pull", lambda *_: pytest.fail("pulled"))
        rig.manifest = find("nudenet")
        with pytest.raises(RuntimeUnavailableError):
            rig.build()

    def test_without_the_package_that_reads_networks(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("onnx", "vidmod.models.engines.network", "vidmod.models.engines.graphs"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(RuntimeUnavailableError, match=r"needs the package onnx.*vidmod\[tensorrt\]"):
            rig.build()

    def test_weights_that_change_meanwhile(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "read_bytes", lambda _: b"others")
        with pytest.raises(WeightsError, match=r"redness.onnx: has just changed. Run the command again"):
            rig.build()

    def test_a_timing_cache_that_cannot_be_kept_is_no_reason_to_lose_an_engine(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Cache.store

        def store(cache: Cache, key: Any, *rest: Any) -> Path:
            if isinstance(key, TimingKey):
                raise OutputError("timing: cannot be written")
            return real(cache, key, *rest)

        monkeypatch.setattr(Cache, "store", store)
        assert rig.build().is_new
        assert "timing: cannot be written" in rig.said

    def test_an_interrupt_ends_the_build(self, rig: Rig) -> None:
        """It may come in a thread of TensorRT's, which would only print it."""

        def interrupted(step: Step) -> None:
            if step.done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Builder(progress=interrupted).build(rig.manifest)
        assert rig.plans() == []
        assert rig.build().is_new

    def test_a_network_that_is_none(self, rig: Rig, tmp_path: Path) -> None:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"no network")
        with pytest.raises(WeightsError, match=r"broken.onnx: cannot be made ready for TensorRT"):
            rig.build(weights={"redness": broken})

    def test_a_cache_that_cannot_be_written(self, rig: Rig, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(OutputError, match="cannot be written"):
            rig.build()


class TestFinding:
    def test_none_at_all(self, rig: Rig) -> None:
        said = rig.refusal()
        assert said.startswith("There is no TensorRT engine of redness in fp16 for ")
        assert "TensorRT 11.4.0.106. Run: vidmod engines build MANIFEST.toml" in said
        assert not rig.cache.path.exists(), "looking makes nothing"

    def test_what_to_run(self, rig: Rig) -> None:
        assert rig.refusal("fp32", name="nudenet", device="cuda:1").endswith(
            "Run: vidmod engines build nudenet --device cuda:1 --precision fp32"
        )

    def test_one_of_another_tensorrt(self, rig: Rig) -> None:
        rig.build()
        rig.install(OLD)
        assert "(there is one built by TensorRT 11.4.0.106)" in rig.refusal()
        assert rig.build().is_new
        assert len(rig.plans()) == 2
        assert rig.find()

    @pytest.mark.parametrize("fact", ["name", "capability", "multiprocessors", "memory_bytes"])
    def test_one_of_another_gpu(self, rig: Rig, fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
        rig.build()
        other = {"name": "NVIDIA H200", "capability": (10, 0), "multiprocessors": 7, "memory_bytes": 1 << 30}[fact]
        real = here().gpus[0]

        class Gpu:
            name, capability = real.name, real.capability
            multiprocessors, memory_bytes = real.multiprocessors, real.memory_bytes

        setattr(Gpu, fact, other)
        with pytest.raises(RuntimeUnavailableError, match=r"there is one for .*multiprocessors"):
            find_plan(rig.request(), Gpu(), "fp16", rig.trt.version)

    def test_one_of_other_batches_or_precision(self, rig: Rig) -> None:
        from vidmod.models.manifest import Batch

        rig.build()
        assert "(there is one for batches of 1 to 64, best 4)" in rig.refusal(batch=Batch(1, 4, 32))
        assert "there is one in fp16" in rig.refusal("fp32")

    def test_one_of_other_weights(self, rig: Rig, tmp_path: Path) -> None:
        rig.build()
        other = tmp_path / "other.onnx"
        other.write_bytes((tmp_path / "redness.onnx").read_bytes() + b"\x42\x00")
        request = SessionRequest(
            other, rig.manifest.input, rig.manifest.output, name="redness", batch=rig.manifest.batch
        )
        with pytest.raises(RuntimeUnavailableError, match="there is one of other weights, another manifest"):
            find_plan(request, here().gpus[0], "fp16", rig.trt.version)

    def test_a_damaged_one_is_not_loaded_and_built_anew(self, rig: Rig) -> None:
        built = rig.build()
        built.path.write_bytes(built.path.read_bytes()[:-1])
        assert "(there is one that holds something else than its header says)" in rig.refusal()
        assert rig.build().is_new
        assert any("it is built anew" in line for line in rig.said)
        assert rig.find()

    def test_a_planted_one_is_not_loaded_and_not_replaced(self, rig: Rig) -> None:
        built = rig.build()
        built.path.chmod(0o666)
        for attempt in (rig.find, rig.build):
            with pytest.raises(RuntimeUnavailableError, match=r"can be written by others.*vidmod engines prune"):
                attempt()
        assert len(rig.made.builds) == 1
        assert built.path in prune(rig.cache, here())[0]
        assert rig.build().is_new

    def test_no_reason_is_given_of_other_models(self, rig: Rig) -> None:
        rig.build()
        assert "there is one" not in rig.refusal(name="nudenet")

    def test_building_is_not_imported_to_find(self) -> None:
        code = (
            "import sys, vidmod.models.engines, vidmod.models.engines.keeping;"
            "print(*(name for name in ('onnx', 'tensorrt', 'cuda') if name in sys.modules))"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.split() == []


class TestKeeping:
    def states(self, rig: Rig) -> dict[str, str]:
        return {row.entry.path.name: row.state for row in engines(rig.cache, here())}

    def test_what_is_usable_and_what_goes(self, rig: Rig) -> None:
        usable = rig.build()
        key = usable.key
        facts = {"model": "redness"}
        others = {
            "for another GPU": rig.cache.store(changed(key, device="NVIDIA H200"), "redness", facts, b"x"),
            "for another TensorRT": rig.cache.store(changed(key, tensorrt=OLD), "redness", facts, b"x"),
            "of another vidmod": rig.cache.store(changed(key, flags=["weakly typed"]), "redness", facts, b"x"),
            "damaged": rig.cache.store(changed(key, precision="fp32"), "redness", facts, b"x"),
            "not yours": rig.cache.store(changed(key, memory_bytes=1), "redness", facts, b"x"),
        }
        others["damaged"].write_bytes(b"cut")
        others["not yours"].chmod(0o666)
        expected = {usable.path.name: "usable here"} | {path.name: state for state, path in others.items()}
        assert self.states(rig) == expected
        removed, _ = prune(rig.cache, here())
        assert set(removed) == {path for state, path in others.items() if state != "for another GPU"}
        assert rig.build().is_new is False, "what belongs to it has stayed"
        removed, size = prune(rig.cache, here(), everything=True)
        assert {path.suffix for path in removed} == {".plan", ".network", ".timing"}
        assert size > 0
        assert list(rig.cache.path.iterdir()) == []

    def test_networks_that_no_engine_needs_go(self, rig: Rig) -> None:
        built = rig.build()
        built.path.unlink()
        assert {path.suffix for path in prune(rig.cache, here())[0]} == {".network"}

    def test_without_tensorrt_nothing_can_be_told_and_nothing_good_goes(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig.build()
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        assert set(self.states(rig).values()) == {"TensorRT is not here"}
        assert prune(rig.cache, here()) == ([], 0)
        rig.plans()[0].write_bytes(b"cut")
        assert len(prune(rig.cache, here())[0]) == 2

    def test_what_is_here(self, rig: Rig) -> None:
        machine = here()
        assert machine.tensorrt == NEW
        assert [gpu.name for gpu in machine.gpus]
        rig.all_is_freed()


def changed(key: PlanKey, **fields: Any) -> PlanKey:
    return PlanKey.read({**key.document, **fields})


class TestProcesses:
    """Real processes, each with a make-believe TensorRT of its own, and one cache."""

    BUILD = """
import sys
from pathlib import Path
import pytest
from tests.nvidia import fake_cuda, fake_tensorrt
from tests.nvidia.tensorrt_building import building
from vidmod.models import find
from vidmod.models.engines.building import Builder
patch = pytest.MonkeyPatch()
trt = fake_tensorrt.install(patch, fake_cuda.install(patch))
def say(*words):
    print(*words, flush=True)
def step(step):
    if step.done == 3 and sys.argv[2] == "slow":
        say("is building")
        sys.stdin.readline()
built = Builder(notify=lambda line: say("said", line), progress=step).build(find(sys.argv[1]))
say("new" if built.is_new else "found", len(building(trt).builds))
"""

    @contextlib.contextmanager
    def process(self, rig: Rig, speed: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", self.BUILD, str(rig.path), speed]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def until(self, process: subprocess.Popen[str], word: str) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            if word in line:
                return line
        pytest.fail(f"it ended without {word!r}")

    def test_two_at_once_build_once(self, rig: Rig) -> None:
        with self.process(rig, "slow") as first:
            self.until(first, "is building")
            with self.process(rig, "quick") as second:
                assert "waiting for it" in self.until(second, "Another process")
                assert second.poll() is None
                assert first.stdin is not None
                first.stdin.write("\n")
                first.stdin.flush()
                assert self.until(first, "new") == "new 1\n"
                assert self.until(second, "found") == "found 0\n"
                assert (first.wait(60), second.wait(60)) == (0, 0)
        assert len(rig.plans()) == 1
        assert rig.find()

    def test_a_killed_one_leaves_nothing_in_the_way(self, rig: Rig) -> None:
        with self.process(rig, "slow") as first:
            self.until(first, "is building")
            with self.process(rig, "quick") as second:
                self.until(second, "Another process")
                first.send_signal(signal.SIGKILL)
                assert first.wait(60) == -signal.SIGKILL
                assert self.until(second, "new") == "new 1\n"
        assert len(rig.plans()) == 1
        assert not list(rig.cache.path.glob("*.lock"))
        assert not list(rig.cache.path.glob(".*"))


class TestCommands:
    def run(self, *arguments: str, columns: int = 80) -> tuple[str, str]:
        result = CliRunner(env={"COLUMNS": str(columns)}).invoke(cli, ["engines", *arguments])
        if result.exception is not None:
            raise result.exception
        return result.stdout, result.stderr

    def test_build_list_prune(self, rig: Rig) -> None:
        out, err = self.run("build", str(rig.path))
        assert err.startswith("Building redness in fp16 with TensorRT 11.4.0.106")
        assert out.startswith("redness: built in ")
        assert "fp16" in out
        assert "6 inputs, scores within 0.0" in out
        assert str(rig.plans()[0]) in out
        out, err = self.run("build", str(rig.path))
        assert (out.startswith("redness: is there already"), err) == (True, "")
        out, err = self.run("list")
        assert err == ""
        assert all(len(line) <= 80 for line in out.splitlines())
        for word in ("redness", "fp16", "11.4.0.106", "1-4-64", "usable here", "MB"):
            assert word in out, out
        assert self.run("prune") == ("0 files removed, 0.0 MB freed\n", "")
        out, _ = self.run("prune", "--all")
        assert out.count("removed /") == 3
        assert self.run("list") == ("There are none. Run: vidmod engines build\n", "")

    def test_options(self, rig: Rig, tmp_path: Path) -> None:
        copy = tmp_path / "copy.onnx"
        copy.write_bytes((tmp_path / "redness.onnx").read_bytes())
        self.run("build", str(rig.path), "--device", "cuda:0", "--precision", "fp32", "--weights", f"redness={copy}")
        assert rig.find("fp32")
        self.run("build", str(rig.path), "--precision", "fp32", "--force")
        assert len(rig.made.builds) == 2

    def test_list_says_what_is_wrong(self, rig: Rig) -> None:
        path = rig.build().path
        path.write_bytes(path.read_bytes()[:100])
        assert "damaged: has a damaged header" in " ".join(self.run("list", columns=200)[0].split())
        path.chmod(0o620)
        assert "not yours: can be written by others (mode 620)" in " ".join(self.run("list", columns=200)[0].split())

    def test_without_tensorrt(self, tmp_path: Path) -> None:
        """On a machine as this one: one message, which says what it needs."""
        environment = {**os.environ, "VIDMOD_CACHE": str(tmp_path)}
        results = {}
        for command in (["build"], ["list"], ["prune"], ["build", "nudenet", "--precision", "fp32"]):
            full = [sys.executable, "-m", "vidmod", "engines", *command]
            results[" ".join(command)] = subprocess.run(
                full, capture_output=True, text=True, env=environment, check=False
            )
        for name in ("build", "build nudenet --precision fp32"):
            result = results[name]
            assert (result.returncode, result.stdout) == (2, "")
            assert result.stderr.count("\n") == 1
            for word in ("TensorRT", "vidmod[tensorrt]", "driver"):
                assert word in result.stderr
        assert [results[name].returncode for name in ("list", "prune")] == [0, 0]
        assert not (tmp_path / "engines").exists()

    def test_a_terminal_shows_how_far_it_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        line = _Line()
        line.note("Building")
        line.show(Step("Building Engine", 5, 5))
        shown = capsys.readouterr().err
        assert shown.startswith("Building\n\r  Building Engine 5 of 5, ")
        line.clear()
        assert capsys.readouterr().err.strip() == ""
        line.clear()
        assert capsys.readouterr().err == ""


def test_a_key_of_a_plan_is_read_back(rig: Rig) -> None:
    built = rig.build()
    (entry,) = (entry for entry in rig.cache.entries() if entry.path == built.path)
    assert key_of(entry) == built.key
