"""What a scan of one input takes over from earlier ones, and leaves to later ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from vidmod.media import Ledger
from vidmod.messages import Json, Picture, decode, encode
from vidmod.predictions import Detection, Predictions, Scores
from vidmod.store import Journal, Store
from vidmod.timeline import Sample, Timeline


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A sample as it is journaled; its predictions are exact, unlike a document's."""

    pts: int
    end_pts: int
    time_seconds: float
    duration_seconds: float
    scores: dict[str, dict[str, float]]
    detections: list[Detection]


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one look at one part: see :class:`vidmod.streams.Errand`."""

    samples: list[_Seen]
    ledger: Ledger | None
    picture: Picture | None

    @classmethod
    def of(cls, samples: list[tuple[Sample, int]], ledger: Ledger | None, picture: Picture | None) -> Piece:
        """The results of an errand."""
        return cls(samples=[_seen(sample, end_pts) for sample, end_pts in samples], ledger=ledger, picture=picture)

    def results(self) -> list[tuple[Sample, int]]:
        """The samples, and the pts at which each ends."""
        return [(_sample(row), row.end_pts) for row in self.samples]


@dataclass(slots=True)
class Recall:
    """Earlier results for one input.

    Args:
        store: Where they are.
        settings: Gives a digest of all that a result depends on but the source.
        size_bytes: Of the source.
        fresh: Scan as if there were none; what comes of it is stored all the same.
    """

    store: Store
    settings: Callable[[], str]
    size_bytes: int
    fresh: bool
    _journal: Journal | None = None
    _early: list[tuple[str, Json]] = field(default_factory=list)
    _asked: bool = False

    @property
    def is_promising(self) -> bool:
        """Whether it is worth while to hash the source before anything else."""
        return not self.fresh and self.store.knows_size(self.size_bytes)

    def find(self, sha256: str) -> Timeline | None:
        """The timeline of an earlier scan, if there is one; else what an interrupted one left is taken up."""
        self._asked = True
        settings = self.settings()
        found = None if self.fresh else self.store.find(sha256, self.size_bytes, settings)
        if found is None:
            self._journal = self.store.journal(sha256, self.size_bytes, settings)
            for key, piece in self._early:
                self._journal.record(key, piece)
        self._early.clear()
        return found

    @property
    def was_asked(self) -> bool:
        """Whether :meth:`find` was called."""
        return self._asked

    def piece(self, key: str) -> Piece | None:
        """What an interrupted scan left of a look."""
        if self._journal is None or self.fresh or key not in self._journal.pieces:
            return None
        try:
            piece: Piece = decode(self._journal.pieces[key], Piece)
        except ValueError:
            return None
        return piece

    def record(self, key: str, piece: Piece) -> None:
        """Leave a look's results for a scan after this one is interrupted."""
        if self._journal is not None:
            self._journal.record(key, encode(piece))
        elif not self._asked:
            self._early.append((key, encode(piece)))

    def finish(self, timeline: Timeline, *, keep: bool) -> None:
        """The scan is whole; `keep` it for the next one."""
        if self._journal is not None:
            self._journal.finish()
            self._journal = None
        if keep:
            self.store.keep(timeline, self.settings())

    def close(self) -> None:
        """Let go of the journal; without :meth:`finish` it stays for the next scan."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def _seen(sample: Sample, end_pts: int) -> _Seen:
    return _Seen(
        pts=sample.pts,
        end_pts=end_pts,
        time_seconds=sample.time_seconds,
        duration_seconds=sample.duration_seconds,
        scores={scores.model: dict(scores.labels) for scores in sample.predictions.scores},
        detections=list(sample.predictions.detections),
    )


def _sample(row: _Seen) -> Sample:
    scores = tuple(Scores(model, labels) for model, labels in row.scores.items())
    return Sample(row.pts, row.time_seconds, row.duration_seconds, Predictions(scores, tuple(row.detections)))
