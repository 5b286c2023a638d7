"""What an engine is for: where all of it is the same, the engine may be loaded, and nowhere else.

TensorRT says of a plan that it is for the version that built it and for the GPU that it was built on, and checks the
first and warns of the second. Here both are part of what a plan is looked up by, and so is everything that went in.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

from vidmod.errors import choose

Kind = Literal["plan", "network", "timing"]
Half = Literal["fp16", "fp32"]
# Raised whenever a file of an older vidmod is not to be taken any more.
FORMAT = 1
# Raised whenever networks are made ready in another way.
CONVERSION = 1
# In the names of files: of the 64 digits enough that no two meet; the key inside is compared as a whole.
_DIGITS = 32


class Gpu(Protocol):
    """What is to be known of a GPU; `vidmod.models.cuda.driver.DeviceFacts` is that."""

    @property
    def name(self) -> str:
        """As the driver calls it."""

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability: major, minor."""

    @property
    def multiprocessors(self) -> int:
        """How many it has. Slices of a GPU (MIG) and cut-down ones differ in that alone."""

    @property
    def memory_bytes(self) -> int:
        """All of its memory."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a file in the cache is looked up by. Its fields are strings, whole numbers, and tuples of either."""

    kind: ClassVar[Kind]

    @property
    def document(self) -> dict[str, Any]:
        """The key as JSON knows it: tuples are lists there."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {"kind": self.kind, **values}

    @property
    def canonical(self) -> bytes:
        """The key as the one JSON text that there is for it."""
        return canonical(self.document)

    @property
    def digest(self) -> str:
        """Hexadecimal digits for the name of a file: the beginning of the SHA-256 of `canonical`."""
        return hashlib.sha256(self.canonical).hexdigest()[:_DIGITS]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The key of a document.

        Raises:
            ValueError: It is not one of this kind.
        """
        fields = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
            if name != "kind"
        }
        try:
            key = cls(**fields)
        except TypeError as exc:
            raise ValueError(f"it is no {cls.kind}") from exc
        if key.document != document:
            raise ValueError(f"it is no {cls.kind}")
        return key


@dataclass(frozen=True, slots=True)
class PlanKey(Key):
    """All that an engine depends on.

    Attributes:
        network: SHA-256 of the ONNX file that it is built of, after any conversion.
        tensorrt: The full version, such as 10.16.1.11.
        device: The GPU's name, with `capability`, `multiprocessors` and `memory_bytes`; see `Gpu`.
        batches: The profile: the smallest, the best and the largest batch.
        flags: How it was built, in the order of the alphabet.
    """

    kind = "plan"
    network: str
    tensorrt: str
    device: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    batches: tuple[int, int, int]
    precision: Half
    flags: tuple[str, ...]
    format: int = FORMAT

    def is_for(self, gpu: Gpu) -> bool:
        """Whether it was built on such a GPU."""
        return (self.device, self.capability, self.multiprocessors, self.memory_bytes) == (
            gpu.name,
            gpu.capability,
            gpu.multiprocessors,
            gpu.memory_bytes,
        )

    def differences(self, wanted: PlanKey) -> list[str]:
        """Why this one is not the wanted one, in words: nothing if it is."""
        rows = (
            ("built by TensorRT {}", self.tensorrt, wanted.tensorrt),
            ("for {}", gpu_text(self), gpu_text(wanted)),
            ("in {}", self.precision, wanted.precision),
            ("for batches of {}", _batches_text(self.batches), _batches_text(wanted.batches)),
            ("of other weights, another manifest or another vidmod", self.network, wanted.network),
            ("by another vidmod", (self.flags, self.format), (wanted.flags, wanted.format)),
        )
        return [text.format(own) for text, own, other in rows if own != other]


@dataclass(frozen=True, slots=True)
class NetworkKey(Key):
    """What the ONNX file that an engine is built of is made of.

    Attributes:
        source: SHA-256 of the weights.
        input, layout, height, width, output: As in the manifest.
    """

    kind = "network"
    source: str
    input: str
    layout: str
    height: int
    width: int
    output: str
    precision: Half
    conversion: int = CONVERSION
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class TimingKey(Key):
    """What the timing cache of a builder holds for: one GPU, one version of TensorRT."""

    kind = "timing"
    tensorrt: str
    device: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    format: int = FORMAT


def canonical(document: Mapping[str, Any]) -> bytes:
    """JSON with sorted names, without spaces, in ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def precision_of(wanted: str) -> Half:
    """What a precision means for TensorRT: `auto` is half precision.

    Raises:
        UsageError: There is no such precision.
    """
    choose("precision for TensorRT", wanted, ("auto", "fp16", "fp32"))
    return "fp32" if wanted == "fp32" else "fp16"


def gpu_text(key: PlanKey) -> str:
    """A GPU for a message: those of one name differ in memory, or are a slice of one."""
    major, minor = key.capability
    memory = key.memory_bytes / (1 << 30)
    return f"{key.device} (compute {major}.{minor}, {key.multiprocessors} multiprocessors, {memory:.1f} GiB)"


def _batches_text(batches: tuple[int, int, int]) -> str:
    return f"{batches[0]} to {batches[2]}, best {batches[1]}"
