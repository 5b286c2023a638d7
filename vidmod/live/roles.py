"""What every process of a live filter is told when it starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vidmod.describing import thresholds_of
from vidmod.errors import UsageError
from vidmod.live.filtering.rules import Rules
from vidmod.live.messages import (
    AnalystSettings,
    Begin,
    FilterSettings,
    PublisherSettings,
    ReaderSettings,
    RecorderSettings,
)
from vidmod.live.recording.sealing import recipients_of
from vidmod.live.settings import LiveSettings
from vidmod.media.trust import authorities, is_secure
from vidmod.models import Manifest, find
from vidmod.models.runtimes import select
from vidmod.models.weights import obtain
from vidmod.policy import Policy
from vidmod.targets import Targets
from vidmod.timeline import Json

# 8192 x 8192: no stream has larger pictures.
_MOST_PIXELS = 1 << 26
_MOST_THREADS = 4
# FFmpeg's probing comes on top of what is waited for an answer; a connection takes several answers.
_PROBING_SECONDS, _GRACE_SECONDS = 3.0, 5.0


class Roles:
    """What is run, by whom, and with what: worked out once from the settings.

    Weights are there once this is made, so that no process of the filter has to fetch any.

    Args:
        settings: How a stream is filtered.
        notify: Told when weights have to be pulled.

    Attributes:
        policy: By which it is judged.
        categories: All that is told of: what is covered, and what is only reported.
        manifests: Of the models that are needed.

    Raises:
        UsageError: A model, a label, the weights or the policy make no sense, the runtime is not here, or nothing says
            whose certificates are to be trusted.
    """

    def __init__(self, settings: LiveSettings, notify: Callable[[str], None]) -> None:
        self._settings = settings
        named = [(_place(name), find(name)) for name in settings.models]
        policy = settings.policy
        if policy is None:
            policy = Policy.default().with_models({item.name: thresholds_of(item) for _, item in named})
        self.policy = policy
        rules = Rules.of(policy, settings.labels, settings.hold_seconds)
        _check_labels(settings.labels, [item for _, item in named])
        # By labels only they are covered; by a policy what it only wants to be told of is looked for, too.
        wanted = rules.targets if settings.labels else Targets(rules.categories, policy)
        chosen = [row for row in named if wanted.wants(row[1].name, row[1].output.report)]
        named_labels = {_bare(label) for label in settings.labels}
        # What labels name is told of once, and not as the policy's category, too.
        self.categories = tuple(
            row
            for row in rules.categories
            if row in rules.targets.categories or named_labels.isdisjoint(map(_bare, row.labels))
        )
        self.manifests = [item for _, item in chosen or named]
        self._models = [name for name, _ in chosen or named]
        secure = settings.tls_verify and any(map(is_secure, (settings.source, settings.server)))
        self._authorities = authorities(settings.tls_ca) if secure or settings.tls_ca is not None else None
        if settings.seal is not None:
            recipients_of(settings.seal_to)
        select(settings.runtime, settings.device)
        self._weights = {item.name: str(obtain(item, settings.weights, notify).path) for item in self.manifests}

    def reader(self) -> ReaderSettings:
        """Of the reader."""
        settings = self._settings
        return ReaderSettings(settings.source, settings.timeout_seconds, _MOST_PIXELS, self._trusted(settings.source))

    def filter(self, begin: Begin | None) -> FilterSettings:
        """Of the filter; `begin` is what has left before, if anything has."""
        settings = self._settings
        return FilterSettings(
            policy=self.policy.as_document(),
            labels=list(settings.labels),
            preparations=[item.preparation for item in self.manifests],
            delay_seconds=settings.delay_seconds,
            latency_seconds=settings.latency_seconds,
            max_gap_seconds=settings.max_gap_seconds,
            hold_seconds=settings.hold_seconds,
            margin=settings.margin,
            max_pixels=_MOST_PIXELS,
            preset=settings.preset,
            threads=min(_MOST_THREADS, len(os.sched_getaffinity(0))),
            begin=begin,
            min_analysis_fps=settings.min_analysis_fps,
            on_block="blur" if settings.on_block == "blur" else "slate",
            shadow=settings.shadow,
            size=settings.size,
            rate=None if settings.rate is None else settings.rate.as_integer_ratio(),
            bits=settings.bits,
        )

    def analyst(self) -> AnalystSettings:
        """Of the analyst."""
        settings = self._settings
        return AnalystSettings(self._models, settings.runtime, settings.device, settings.precision, self._weights)

    def publisher(self, origin: float, number: int) -> PublisherSettings:
        """Of the publisher; `origin` is the shared clock when the stream began, `number` how many there were before."""
        settings = self._settings
        trusted = self._trusted(settings.server)
        return PublisherSettings(settings.server, settings.timeout_seconds, origin, number, trusted)

    def recorder(self, origin: float, models: list[Json]) -> RecorderSettings:
        """Of the recorder; `models` as a timeline's provenance has them."""
        settings = self._settings
        return RecorderSettings(
            name=settings.name,
            folder=_text(settings.record),
            sealed_folder=_text(settings.seal),
            recipients=list(settings.seal_to),
            piece_seconds=60 * settings.record_minutes,
            policy=self.policy.as_document(),
            models=models,
            max_gap_seconds=settings.max_gap_seconds,
            origin=origin,
        )

    def _trusted(self, url: str) -> str | None:
        return None if self._authorities is None or not is_secure(url) else str(self._authorities)

    @property
    def silence(self) -> dict[str, float]:
        """How long those may be silent that wait for somebody else's server."""
        wait = self._settings.timeout_seconds
        return {
            "reader": max(15.0, wait + _PROBING_SECONDS + _GRACE_SECONDS),
            "publisher": max(12.0, 2 * wait + _GRACE_SECONDS),
        }


def _check_labels(labels: Sequence[str], manifests: Sequence[Manifest]) -> None:
    known = {label for item in manifests for label in item.output.report}
    known |= {f"{item.name}.{label}" for item in manifests for label in item.output.report}
    if unknown := [label for label in labels if label not in known]:
        names = " and ".join(item.name for item in manifests)
        raise UsageError(f"Invalid labels ({', '.join(unknown)}): no model of {names} gives them.")


def _bare(label: str) -> str:
    """A label without its model."""
    return label.rpartition(".")[2]


def _place(model: str) -> str:
    """A model as another process finds it: a manifest's path from the root on."""
    return str(Path(model).absolute()) if model.endswith(".toml") else model


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
