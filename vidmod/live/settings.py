"""How a stream is filtered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vidmod.errors import UsageError, choose
from vidmod.live.telling.control import socket_path
from vidmod.media.places import output_format, scheme_of
from vidmod.policy import Policy
from vidmod.settings import DEFAULT_MODELS

ON_BLOCK = ("slate", "blur", "end")
# x264's, as far as they are of use while somebody waits.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")
_SIDES, _RATES = (16, 8192), (Fraction(1), Fraction(120))
_BITS = (50_000, 100_000_000)

# For what follows a picture to come, however unsteadily, and to be looked at. With what an encoder, a server and a
# player take, viewers are half a second more than `--delay` behind.
WORK_SECONDS = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """How a stream is filtered.

    Attributes:
        source: What comes in: a URL, or a file's path, which is paced as if it were live.
        server: Where it goes: a URL, or a path.
        name: What the filter is called by who steers it and in all that it tells.
        policy: None for the default policy, and the manifests' thresholds for models of whose labels that says nothing.
        labels: What to cover, instead of what the policy has covered.
        delay_seconds: How much of what follows a picture is looked at before it leaves, 0.2 to 30.
        max_gap_seconds: Two looks no further apart than this speak for the pictures between them; less than the delay.
        min_analysis_fps: Overload never has fewer pictures looked at; at least one in each gap.
        hold_seconds: How long all stays covered after the last look that demanded it, 0 to 600.
        on_block: `slate` or `blur`: what is seen where all is covered for what was found; `end` ends the filter.
        margin: How much wider and higher than what was found a covered box is, as a share of its size.
        shadow: Cover nothing, and only tell.
        wait: Wait for a source or server that is not there at the start, instead of ending.
        timeout_seconds: For source and server to answer, 0.5 to 60.
        tls_verify: Whether a server of `https` or `rtmps` has to show a certificate of somebody who is trusted.
        tls_ca: Who that is, as a PEM file; None for this machine's authorities.
        size, rate, bits: Of what leaves: width and height, pictures and bits a second. None for the first source's.
        preset: Of the encoder, x264's.
        models: Names of shipped manifests, or paths of others.
        runtime, device, precision: As for a scan.
        weights: Model name to a weights file to use instead.
        spares: Whether a second process of each kind waits ready to take the place of one that fails.
        record: A folder for recordings of what leaves, and for timelines; None for none.
        record_minutes: How long each file of a recording is, about.
        seal: A folder for recordings of what comes, sealed; None for none.
        seal_to: Who can open those: age's public keys.
        events: A file to which events are appended; None for none.
        webhooks: URLs that are told of hits.
        webhook_secret: Where the secret is that signs these: `env:NAME` or `file:PATH`.
        webhook_spool: A file for what could not be delivered yet, which then survives this process; None for memory.
        metrics: Address and port for metrics and health; None for none.

    Raises:
        UsageError: A field makes no sense; the message says what does.
    """

    source: str
    server: str
    name: str = "live"
    policy: Policy | None = None
    labels: Sequence[str] = ()
    delay_seconds: float = 1.0
    max_gap_seconds: float = 0.4
    min_analysis_fps: float = 4.0
    hold_seconds: float = 2.0
    on_block: str = "slate"
    margin: float = 0.2
    shadow: bool = False
    wait: bool = False
    timeout_seconds: float = 5.0
    tls_verify: bool = True
    tls_ca: Path | None = None
    size: tuple[int, int] | None = None
    rate: Fraction | None = None
    bits: int | None = None
    preset: str = "superfast"
    models: Sequence[str] = DEFAULT_MODELS
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    spares: bool = True
    record: Path | None = None
    record_minutes: float = 10.0
    seal: Path | None = None
    seal_to: Sequence[str] = ()
    events: Path | None = None
    webhooks: Sequence[str] = ()
    webhook_secret: str | None = None
    webhook_spool: Path | None = None
    metrics: tuple[str, int] | None = None

    @property
    def latency_seconds(self) -> float:
        """From a picture's arrival until it leaves."""
        return self.delay_seconds + WORK_SECONDS

    def __post_init__(self) -> None:
        scheme_of(self.source)
        output_format(self.server)
        if self.source == self.server:
            raise UsageError("Invalid output: it is the source. Use another.")
        if "/" in self.name:
            raise UsageError(f"Invalid name ({self.name!r}). Use a name, not a path.")
        socket_path(self.name)
        if not self.models:
            raise UsageError("Invalid models (none). Name at least one.")
        choose("on-block", self.on_block, ON_BLOCK)
        choose("preset", self.preset, PRESETS)
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        for name, value, least, most in (
            ("delay", self.delay_seconds, 0.2, 30.0),
            ("max-gap", self.max_gap_seconds, 0.01, 10.0),
            ("min-analysis-fps", self.min_analysis_fps, 0.1, 120.0),
            ("hold", self.hold_seconds, 0.0, 600.0),
            ("margin", self.margin, 0.0, 10.0),
            ("timeout", self.timeout_seconds, 0.5, 60.0),
            ("record-minutes", self.record_minutes, 0.05, 24 * 60.0),
        ):
            if not least <= value <= most or math.isnan(value):
                raise UsageError(f"Invalid {name} ({value:g}). Use {least:g} to {most:g}.")
        if self.size is not None and not all(_SIDES[0] <= side <= _SIDES[1] and side % 2 == 0 for side in self.size):
            shown = "x".join(map(str, self.size))
            raise UsageError(f"Invalid size ({shown}). Use even numbers from {_SIDES[0]} to {_SIDES[1]}: 1280x720.")
        if self.rate is not None and not _RATES[0] <= self.rate <= _RATES[1]:
            raise UsageError(f"Invalid fps ({float(self.rate):g}). Use {_RATES[0]} to {_RATES[1]}.")
        if self.bits is not None and not _BITS[0] <= self.bits <= _BITS[1]:
            raise UsageError(f"Invalid bitrate ({self.bits}). Use {_BITS[0]} to {_BITS[1]} bits a second, such as 3M.")

    def _check_together(self) -> None:
        if self.tls_ca is not None and not self.tls_verify:
            raise UsageError("Invalid tls-ca: with --no-tls-verify any certificate is taken. Leave one of them out.")
        if self.max_gap_seconds >= self.delay_seconds:
            raise UsageError(
                f"Invalid max-gap ({self.max_gap_seconds:g}). It must be less than delay ({self.delay_seconds:g}): "
                "a picture waits for the look after it."
            )
        if 1 / self.min_analysis_fps > self.max_gap_seconds:
            raise UsageError(
                f"Invalid min-analysis-fps ({self.min_analysis_fps:g}). With max-gap {self.max_gap_seconds:g} use at "
                f"least {math.ceil(10 / self.max_gap_seconds) / 10:g}: of fewer looks no two are close enough."
            )
        if (self.seal is None) != (not self.seal_to):
            raise UsageError("Invalid seal: --seal is where to, and --seal-to who can open it. Give both.")
        if bool(self.webhooks) != (self.webhook_secret is not None):
            raise UsageError("Invalid webhook: --webhook wants a --webhook-secret, and the other way round. Give both.")
        if self.webhook_spool is not None and not self.webhooks:
            raise UsageError("Invalid webhook-spool: there is no --webhook. Give one.")
