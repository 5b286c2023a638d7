"""The ONNX file that an engine is built of: the same answers, in half precision nearly, for a batch of any size."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.networks import write_classifier, write_detector
from vidmod.errors import WeightsError
from vidmod.models import Manifest, Model, SessionInfo, find
from vidmod.models.check import check_model, read_golden, references
from vidmod.models.engines.graphs import dims_of
from vidmod.models.engines.network import as_built
from vidmod.models.manifest import InputSpec
from vidmod.models.preprocessing import prepare
from vidmod.models.runtimes import SessionRequest
from vidmod.models.runtimes.onnx import open_session
from vidmod.models.weights import Weights, obtain

REAL = ("open_nsfw", "nudenet")
# The largest number of float16.
LARGEST_HALF = 65504
INPUT = InputSpec("pixels", "NCHW", "rgb", 8, 8)


@functools.cache
def real(name: str, precision: str) -> tuple[Manifest, bytes, bytes]:
    """Manifest, weights, and what an engine is built of."""
    manifest = find(name)
    source = obtain(manifest).path.read_bytes()
    return manifest, source, as_built(source, manifest.input, manifest.output.name, precision, name)


def run(network: bytes, values: NDArray[np.float32], outputs: list[str] | None = None) -> list[Any]:
    options = ort.SessionOptions()
    # Every node by itself, so that what is rounded to half precision stays rounded.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    results: list[Any] = session.run(outputs, {session.get_inputs()[0].name: values})
    return results


def golden_input(manifest: Manifest) -> NDArray[np.float32]:
    images = np.stack([prepare(frame, manifest.preparation).image for frame, _ in read_golden(manifest)])
    values = (images.astype(np.float32) - manifest.input.mean) / manifest.input.scale
    planar = values.transpose(0, 3, 1, 2) if manifest.input.layout == "NCHW" else values
    return np.ascontiguousarray(planar, np.float32)


def checked(manifest: Manifest, network: bytes, folder: Path, precision: Any) -> Any:
    """What `vidmod models check` says of the network that an engine is built of."""
    path = folder / "built.onnx"
    path.write_bytes(network)
    session = open_session(SessionRequest(path, manifest.input, manifest.output, "cpu", "fp32"))
    session.info = SessionInfo("onnxruntime", ort.__version__, "cpu", precision)
    with Model(manifest, Weights(path, "", "path"), session) as model:
        return check_model(model, references(manifest))


class TestRealModels:
    @pytest.mark.parametrize("name", REAL)
    def test_in_float32_it_answers_the_same_to_the_bit(self, name: str) -> None:
        manifest, source, network = real(name, "fp32")
        values = golden_input(manifest)
        for count in (1, 2, len(values)):
            (before,) = run(source, values[:count], [manifest.output.name])
            (after,) = run(network, values[:count])
            np.testing.assert_array_equal(after, before)

    @pytest.mark.parametrize("name", REAL)
    def test_in_half_precision_it_gives_the_golden_outputs(self, name: str, tmp_path: Path) -> None:
        manifest, _, network = real(name, "fp16")
        result = checked(manifest, network, tmp_path, "fp16")
        assert result.passed, result.describe()
        assert result.tolerance == 0.03
        # It is in half precision: not the same as float32.
        values = golden_input(manifest)
        assert not np.array_equal(run(network, values)[0], run(real(name, "fp32")[2], values)[0])

    @pytest.mark.parametrize("name", REAL)
    def test_no_number_comes_near_the_largest_of_half_precision(self, name: str) -> None:
        manifest, _, network = real(name, "fp32")
        model = onnx.load_model_from_string(network)
        names = [output for node in model.graph.node for output in node.output]
        del model.graph.output[:]
        model.graph.output.extend(helper.make_empty_tensor_value_info(output) for output in names)
        found = run(model.SerializeToString(), golden_input(manifest))
        largest = max(float(np.abs(values).max()) for values in found if values.dtype == np.float32)
        assert 1 < largest < LARGEST_HALF / 100

    @pytest.mark.parametrize("name", REAL)
    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_its_ends_are_float32_and_its_batch_is_of_any_size(self, name: str, precision: str) -> None:
        manifest, _, network = real(name, precision)
        graph = onnx.load_model_from_string(network).graph
        (given,), (gives,) = graph.input, graph.output
        assert (given.name, gives.name) == (manifest.input.name, manifest.output.name)
        assert given.type.tensor_type.elem_type == gives.type.tensor_type.elem_type == TensorProto.FLOAT
        picture = [3, 320, 320] if name == "nudenet" else [224, 224, 3]
        assert dims_of(given) == [None, *picture]
        shape = dims_of(gives)
        assert shape == [None, *([22, 2100] if name == "nudenet" else [2])]

    @pytest.mark.parametrize("name", REAL)
    def test_what_is_heavy_is_in_half_precision_and_little_is_cast(self, name: str) -> None:
        graph = onnx.load_model_from_string(real(name, "fp16")[2]).graph
        kinds = Counter(node.op_type for node in graph.node)
        assert kinds["Cast"] <= 3
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        heavy = [node for node in graph.node if node.op_type in ("Conv", "MatMul")]
        assert len(heavy) > 50
        assert {types[node.input[1]] for node in heavy} == {TensorProto.FLOAT16}

    def test_the_grid_of_the_detector_is_computed_once(self) -> None:
        """TensorRT takes a Range of floating-point numbers only of constants."""
        _, source, network = real("nudenet", "fp16")
        before = Counter(node.op_type for node in onnx.load_model_from_string(source).graph.node)
        after = Counter(node.op_type for node in onnx.load_model_from_string(network).graph.node)
        assert before["Range"] == 6
        assert {"Range", "ConstantOfShape", "Expand"} & set(after) == set()

    def test_pixels_stay_in_float32(self) -> None:
        """Half precision knows pixels beyond 256 only to a quarter."""
        manifest, _, network = real("nudenet", "fp16")
        (found,) = run(network, golden_input(manifest))
        boxes = found[:, :2].ravel()
        far = boxes[boxes > 256]
        assert len(far) > 100
        assert np.mean(far * 4 == np.round(far * 4)) < 0.1

    def test_it_is_the_same_in_every_process(self) -> None:
        code = (
            "import hashlib; from tests.test_engines_network import real;"
            "print(*(hashlib.sha256(real(name, p)[2]).hexdigest() for name in ('nudenet',) for p in ('fp16', 'fp32')))"
        )
        said = set()
        for seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            command = [sys.executable, "-c", code]
            said.add(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
        assert len(said) == 1


class TestOwnModels:
    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    @pytest.mark.parametrize("write", [write_classifier, write_detector])
    def test_without_golden_outputs_the_cpu_says_what_is_right(
        self, tmp_path: Path, write: Callable[[Path], Path], precision: str
    ) -> None:
        manifest = find(str(write(tmp_path)))
        source = obtain(manifest).path.read_bytes()
        network = as_built(source, manifest.input, manifest.output.name, precision, "own")
        result = checked(manifest, network, tmp_path, precision)
        assert result.inputs == 6
        assert result.passed, result.describe()

    def test_a_fixed_batch_becomes_any(self) -> None:
        network = as_built(small([1, 3, 8, 8], [relu()], [1, 3, 8, 8]), INPUT, "out", "fp32", "own")
        (found,) = run(network, np.ones((5, 3, 8, 8), np.float32))
        assert found.shape == (5, 3, 8, 8)

    def test_a_batch_that_is_built_in_is_refused(self) -> None:
        nodes = [helper.make_node("Reshape", ["pixels", "shape"], ["out"])]
        constants = {"shape": np.array([1, -1], np.int64)}
        with pytest.raises(WeightsError, match=r"own: gives 1 rows whatever the batch is.*dynamic axes"):
            as_built(small([1, 3, 8, 8], nodes, [1, 192], constants), INPUT, "out", "fp32", "own")

    def test_other_outputs_and_what_only_they_need_are_dropped(self) -> None:
        source = small(["n", 3, 8, 8], [relu(), relu("other")], ["n", 3, 8, 8])
        model = onnx.load_model_from_string(source)
        model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", 3, 8, 8]))
        graph = onnx.load_model_from_string(as_built(model.SerializeToString(), INPUT, "out", "fp32", "own")).graph
        assert [value.name for value in graph.output] == ["out"]
        assert len(graph.node) == 1

    def test_a_constant_of_both_parts_is_kept_in_both_precisions(self) -> None:
        """The last product is in half precision, the sum behind it in float32, and both want the same numbers."""
        nodes = [
            helper.make_node("MatMul", ["pixels", "weight"], ["product"]),
            helper.make_node("Add", ["product", "weight"], ["out"]),
        ]
        weight = np.linspace(0.1, 1 / 3, 64, dtype=np.float32).reshape(8, 8)
        source = small(["n", 3, 8, 8], nodes, ["n", 3, 8, 8], {"weight": weight})
        network = as_built(source, INPUT, "out", "fp16", "own")
        (found,) = run(network, np.zeros((1, 3, 8, 8), np.float32))
        np.testing.assert_array_equal(found[0, 0], weight)

    def test_a_network_without_anything_heavy_stays_in_float32(self) -> None:
        source = small(["n", 3, 8, 8], [relu()], ["n", 3, 8, 8])
        assert as_built(source, INPUT, "out", "fp16", "own") == as_built(source, INPUT, "out", "fp32", "own")

    def test_weights_beyond_half_precision_are_clamped(self) -> None:
        nodes = [helper.make_node("MatMul", ["pixels", "weight"], ["out"])]
        source = small(["n", 3, 8, 8], nodes, ["n", 3, 8, 8], {"weight": np.full((8, 8), 1e9, np.float32)})
        network = as_built(source, INPUT, "out", "fp16", "own")
        (weight,) = (numpy_helper.to_array(tensor) for tensor in onnx.load_model_from_string(network).graph.initializer)
        assert weight.dtype == np.float16
        assert np.isfinite(weight).all()

    def test_what_half_precision_is_not_allowed_for_stays(self) -> None:
        """Resize wants its scales in float32, and in this version of ONNX a Range knows no float16."""
        nodes = [
            helper.make_node("Resize", ["pixels", "", "scales"], ["larger"], mode="nearest"),
            helper.make_node("ReduceMax", ["larger"], ["most"], keepdims=0),
            helper.make_node("Range", ["zero", "most", "one"], ["range"]),
            helper.make_node("ReduceSum", ["range"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["larger", "sum"], ["scaled"]),
            helper.make_node("MatMul", ["scaled", "weight"], ["out"]),
        ]
        constants: dict[str, NDArray[Any]] = {
            "scales": np.array([1, 1, 2, 2], np.float32),
            "zero": np.array(0, np.float32),
            "one": np.array(1, np.float32),
            "weight": np.eye(16, dtype=np.float32),
        }
        source = small(["n", 3, 8, 8], nodes, ["n", 3, 16, 16], constants)
        network = as_built(source, INPUT, "out", "fp16", "own")
        graph = onnx.load_model_from_string(network).graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        assert types["scales"] == types["one"] == TensorProto.FLOAT
        assert types["weight_float16"] == TensorProto.FLOAT16
        (found,) = run(network, np.full((2, 3, 8, 8), 3, np.float32))
        assert np.unique(found).tolist() == [9.0]

    def test_a_batch_norm_has_one_precision(self) -> None:
        names = ["pixels", "gain", "shift", "mean", "variance"]
        nodes = [
            helper.make_node("BatchNormalization", names, ["normal"]),
            helper.make_node("MatMul", ["normal", "weight"], ["out"]),
        ]
        constants = {name: np.full(3, 1 + place, np.float32) for place, name in enumerate(names[1:])}
        source = small(["n", 3, 8, 8], nodes, ["n", 3, 8, 8], {**constants, "weight": np.eye(8, dtype=np.float32)})
        network = as_built(source, INPUT, "out", "fp16", "own")
        (found,) = run(network, np.full((1, 3, 8, 8), 5, np.float32))
        np.testing.assert_allclose(found, 2 + (5 - 3) / 2, rtol=1e-3)

    def test_an_old_file_in_which_constants_are_inputs(self) -> None:
        nodes = [helper.make_node("MatMul", ["pixels", "weight"], ["out"])]
        model = onnx.load_model_from_string(
            small(["n", 3, 8, 8], nodes, ["n", 3, 8, 8], {"weight": np.eye(8, dtype=np.float32)})
        )
        model.ir_version = 3
        model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [8, 8]))
        network = as_built(model.SerializeToString(), INPUT, "out", "fp16", "own")
        assert run(network, np.ones((1, 3, 8, 8), np.float32))[0].min() == 1

    def test_a_graph_within_a_graph_keeps_what_it_takes_from_outside(self) -> None:
        inner = helper.make_graph(
            [helper.make_node("Add", ["pixels", "one"], ["sum"])],
            "inner",
            [],
            [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
        )
        nodes = [helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)]
        constants = {"yes": np.array(True), "one": np.ones(1, np.float32)}
        network = as_built(small(["n", 3, 8, 8], nodes, ["n", 3, 8, 8], constants), INPUT, "out", "fp32", "own")
        (found,) = run(network, np.ones((2, 3, 8, 8), np.float32))
        assert np.unique(found).tolist() == [2.0]

    @pytest.mark.parametrize(
        ("shape", "spec", "expected"),
        [
            (["n", 3, 9, 8], INPUT, "'pixels' is any by 3 by 9 by 8, but the manifest says batch by 3 by 8 by 8"),
            (["n", 3, 8], INPUT, "any by 3 by 8, but"),
            (["n", 3, 8, 8], InputSpec("image", "NCHW", "rgb", 8, 8), "has no input named 'image'; it has pixels"),
            (["n", 3, 8, 8], InputSpec("pixels", "NHWC", "rgb", 8, 8), "says batch by 8 by 8 by 3"),
        ],
    )  # fmt: skip
    def test_another_input_is_refused(self, shape: list[Any], spec: InputSpec, expected: str) -> None:
        with pytest.raises(WeightsError) as caught:
            as_built(small(shape, [relu()], ["n", 3, 8, 8]), spec, "out", "fp32", "own")
        assert expected in str(caught.value)
        assert str(caught.value).startswith("own: ")

    def test_another_output_is_refused(self) -> None:
        with pytest.raises(WeightsError, match=r"own: has no output named 'outer'; it has out"):
            as_built(small(["n", 3, 8, 8], [relu()], ["n", 3, 8, 8]), INPUT, "outer", "fp32", "own")

    def test_more_inputs_than_a_picture_are_refused(self) -> None:
        model = onnx.load_model_from_string(small(["n", 3, 8, 8], [relu()], ["n", 3, 8, 8]))
        model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
        with pytest.raises(WeightsError, match=r"wants further inputs \(scale\)"):
            as_built(model.SerializeToString(), INPUT, "out", "fp32", "own")

    def test_an_input_of_another_type_is_refused(self) -> None:
        model = onnx.load_model_from_string(small(["n", 3, 8, 8], [relu()], ["n", 3, 8, 8]))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        with pytest.raises(WeightsError, match=r"its input 'pixels' is not float32"):
            as_built(model.SerializeToString(), INPUT, "out", "fp32", "own")

    def test_weights_in_further_files_are_refused(self) -> None:
        nodes = [helper.make_node("MatMul", ["pixels", "weight"], ["out"])]
        source = small(["n", 3, 8, 8], nodes, ["n", 3, 8, 8], {"weight": np.ones((8, 8), np.float32)})
        model = onnx.load_model_from_string(source)
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
        with pytest.raises(WeightsError, match=r"keeps its weights in further files. Save it as a single"):
            as_built(model.SerializeToString(), INPUT, "out", "fp32", "own")

    @pytest.mark.parametrize("source", [b"", b"no network", bytes(100), b"\x08\x08" * 50])
    def test_what_is_no_network_is_refused(self, source: bytes) -> None:
        with pytest.raises(WeightsError, match=r"^own: "):
            as_built(source, INPUT, "out", "fp16", "own")


def relu(output: str = "out") -> onnx.NodeProto:
    return helper.make_node("Relu", ["pixels"], [output])


def small(
    shape: list[Any],
    nodes: list[onnx.NodeProto],
    output_shape: list[Any] | None,
    constants: dict[str, NDArray[Any]] | None = None,
) -> bytes:
    """A network from `pixels` to `out`."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
