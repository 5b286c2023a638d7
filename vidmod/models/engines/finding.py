"""Finding the engine for a session, or saying what is missing and why what there is does not do."""

from __future__ import annotations

from typing import Any

from vidmod.errors import RuntimeUnavailableError
from vidmod.models.engines.cache import Cache, Entry
from vidmod.models.engines.key import Gpu, Half, NetworkKey, PlanKey, gpu_text, precision_of
from vidmod.models.manifest import Batch, InputSpec, shipped
from vidmod.models.runtimes import SessionRequest
from vidmod.models.weights import file_sha256

# 3 is TensorRT's own choice; written down, since a plan depends on it.
OPTIMISATION_LEVEL = 3
# Which float32 is not what it says: TF32 has ten bits behind the point where float32 has 23.
FLAGS = (f"optimisation level {OPTIMISATION_LEVEL}", "strongly typed", "without TF32")
_MOST_REASONS = 3


def find_plan(request: SessionRequest, device: Gpu, precision: str, tensorrt_version: str) -> bytes:
    """The plan that TensorRT is to load for a session.

    Nothing is imported for it that only builds: neither TensorRT nor `onnx`.

    Args:
        device: The GPU that it is to run on.
        precision: `fp16`, `fp32` or `auto`, which is fp16.
        tensorrt_version: In full, as `tensorrt.__version__`.

    Raises:
        RuntimeUnavailableError: There is none that may be loaded here. The message says what to run, and why one that
            is there was not taken.
        WeightsError: The weights cannot be read.
        UsageError: There is no such precision.
    """
    half = precision_of(precision)
    cache = Cache()
    network = cache.load(network_key(request, half), request.name)
    if network is not None and network.facts is not None:
        key = plan_key(str(network.facts["network"]), request.batch, device, half, tensorrt_version)
    else:
        key = plan_key("", request.batch, device, half, tensorrt_version)
    entry = cache.load(key, request.name)
    if entry is not None:
        return entry.content
    reasons = _reasons(cache, request.name, key)
    raise RuntimeUnavailableError(
        f"There is no TensorRT engine of {request.name} in {half} for {gpu_text(key)} and TensorRT {tensorrt_version}"
        f"{reasons}. Run: {command(request, half)}"
    )


def network_key(request: SessionRequest, precision: Half) -> NetworkKey:
    """The key of the ONNX file that a session's engine is built of.

    Raises:
        WeightsError: The weights cannot be read.
    """
    spec: InputSpec = request.input
    source = file_sha256(request.weights)
    return NetworkKey(source, spec.name, spec.layout, spec.height, spec.width, request.output.name, precision)


def plan_key(network: str, batch: Batch, device: Gpu, precision: Half, tensorrt_version: str) -> PlanKey:
    """The key of an engine.

    Args:
        network: SHA-256 of the ONNX file that it is built of.
    """
    return PlanKey(
        network=network,
        tensorrt=tensorrt_version,
        device=device.name,
        capability=device.capability,
        multiprocessors=device.multiprocessors,
        memory_bytes=device.memory_bytes,
        batches=(batch.min, batch.best, batch.max),
        precision=precision,
        flags=FLAGS,
    )


def command(request: SessionRequest, precision: Half) -> str:
    """What builds the engine for a session."""
    words = ["vidmod engines build", request.name if request.name in shipped() else "MANIFEST.toml"]
    if request.device not in ("auto", "cuda:0"):
        words.append(f"--device {request.device}")
    if precision == "fp32":
        words.append("--precision fp32")
    return " ".join(words)


def _reasons(cache: Cache, model: str, wanted: PlanKey) -> str:
    """Why engines of this model that are there were not taken."""
    entries = (entry for entry in cache.entries() if entry.path.suffix == ".plan")
    rows = [_reason(entry, wanted) for entry in entries if _model_of(entry) == model]
    if not rows:
        return ""
    # The likeliest first: what differs in the least.
    rows.sort(key=len)
    more = [f"{len(rows) - _MOST_REASONS} more"] if len(rows) > _MOST_REASONS else []
    return f" (there is one {'; one '.join([*rows[:_MOST_REASONS], *more])})"


def _reason(entry: Entry, wanted: PlanKey) -> str:
    key = key_of(entry)
    if entry.state != "whole":
        return f"that {entry.why}"
    return "that vidmod does not understand" if key is None else " ".join(key.differences(wanted)) or "beside it"


def key_of(entry: Entry) -> PlanKey | None:
    """An engine's key, None if it is no engine or not one that this vidmod knows how to read."""
    try:
        return None if entry.key is None or entry.key.get("kind") != "plan" else PlanKey.read(entry.key)
    except ValueError:
        return None


def _model_of(entry: Entry) -> str:
    """The model's name, which begins the file's, too, where its header does not hold."""
    facts: dict[str, Any] = entry.facts or {}
    return str(facts.get("model") or entry.path.stem.rpartition("-")[0])
