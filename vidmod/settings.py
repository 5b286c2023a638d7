"""The settings of a scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vidmod import sampling
from vidmod.containment import Limits
from vidmod.errors import UsageError, choose
from vidmod.policy import VERDICTS, Policy

DEFAULT_MODELS = ("open_nsfw", "nudenet")
DECODERS = ("auto", "cpu", "cuda")
# Encoders and players' seek bars have made two seconds the usual distance of key frames.
_MAX_GAP_SECONDS = Fraction(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """What to look for and how.

    Attributes:
        models: Names of shipped manifests, or paths of others.
        policy: None for the default policy, and the manifests' thresholds for models of whose labels
            that says nothing.
        smoothing: A method, if not the policy's.
        sampling: `uniform`, `adaptive`, `keyframes` or `all`.
        fps: Samples per second, for `uniform`.
        spans: With `all`, the stretches to look at, [start, end) in seconds; none for everything.
        start, end: The part to look at, in seconds of presentation time; the rest is unsampled.
        stop_at: `review` or `block`: stop as soon as that verdict is reached.
        weights: Model name to a weights file to use instead.
        max_gap: The longest presentation time that may stay unseen between two samples, in seconds; what is
            further apart is `unsampled`. None for what `fps` leaves with `uniform`, and 2 s with `adaptive`
            and `keyframes`.
        decoder: `cpu` or `cuda`; `auto` is the CPU, until decoding on a GPU was run by those who wrote it. What the
            GPU does not take is decoded on the CPU, and counted.
        workers: Processes that read and decode; None for one a core.
        limits: What one input may cost.
        seed: For what `adaptive` chooses at random.
        store: A folder for what scans leave to later ones: a source that was scanned before with the same
            models and sampling is judged again instead, and an interrupted scan is gone on with. None
            for neither.
        fresh: Scan all the same.
    """

    models: Sequence[str] = DEFAULT_MODELS
    policy: Policy | None = None
    smoothing: str | None = None
    sampling: str = "uniform"
    fps: Fraction = Fraction(2)
    spans: Sequence[tuple[Fraction, Fraction]] = ()
    start: Fraction | None = None
    end: Fraction | None = None
    stop_at: str | None = None
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    max_gap: Fraction | None = None
    decoder: str = "auto"
    workers: int | None = None
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    store: Path | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        choose("sampling", self.sampling, sampling.MODES)
        choose("decoder", self.decoder, DECODERS)
        if self.stop_at is not None:
            choose("stop-at", self.stop_at, VERDICTS[1:])
        if self.fps <= 0:
            raise UsageError(f"Invalid fps ({float(self.fps):g}). Use a number above 0, such as 2.")
        if self.max_gap is not None and self.max_gap <= 0:
            raise UsageError(f"Invalid max-gap ({float(self.max_gap):g}). Use seconds above 0, such as 0.5.")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"Invalid workers ({self.workers}). Use 1 or more.")
        if not self.models:
            raise UsageError("Invalid models (none). Name at least one.")
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and value < 0:
                raise UsageError(f"Invalid {name} ({float(value):g}). Use 0 or more.")
        if self.spans and self.sampling != "all":
            raise UsageError(f"Invalid spans with {self.sampling!r}. Use them with sampling 'all'.")
        if any(start >= end for start, end in self.spans):
            raise UsageError(f"Invalid spans ({self.spans!r}). Each is a start and an end after it, in seconds.")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError(f"Invalid end ({float(self.end):g}). It must lie after start ({float(self.start):g}).")

    @property
    def gpu(self) -> int | None:
        """Which GPU decodes, the one of the networks if these run on any; None for the CPU."""
        if self.decoder != "cuda":
            return None
        number = self.device.removeprefix("cuda:")
        return int(number) if number.isdigit() else 0

    @property
    def interval(self) -> Fraction:
        """The longest presentation time left unseen between two samples, in seconds."""
        if self.sampling == "all":
            return Fraction(0)
        if self.sampling in ("adaptive", "keyframes"):
            return _MAX_GAP_SECONDS if self.max_gap is None else self.max_gap
        return 1 / self.fps if self.max_gap is None else min(1 / self.fps, self.max_gap)
