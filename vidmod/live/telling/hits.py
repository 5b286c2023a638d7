"""Hits: what the policy looks for, from when it was first seen until it has not been seen for a while.

A hit is of one category. It begins with the first look at or above the category's `review`, goes on while such looks
keep coming within a hold time of each other, and ends at the last of them. It is `block` from the first look at or
above `block` on; where that is not its first look, that is an event of its own: whoever acts on `block` is not to wait
for the hit's end.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidmod.blurring import as_jpeg
from vidmod.live.messages import Sight, predictions_of
from vidmod.live.telling.events import MAX_LABELS, MAX_THUMBNAIL_BYTES, Hit, HitBegan, HitBlocked, HitEnded
from vidmod.live.times import stream_seconds
from vidmod.policy import Category
from vidmod.predictions import Predictions

HitEvent = HitBegan | HitBlocked | HitEnded


@dataclass(slots=True)
class _Ongoing:
    """A hit that goes on; `picture` is of the look with the best score: its grid and its size."""

    id: str
    start: float
    last: float
    peak: float
    is_blocked: bool
    labels: dict[str, float]
    picture: tuple[bytes, tuple[int, int]] | None


class Hits:
    """Follows what is seen, category by category. It keeps one hit a category, and knows no time but what it is told.

    Args:
        categories: Of the policy.
        hold_seconds: Looks that are no further apart than this are of one hit, where a category does not say it.
        origin: The shared clock when the stream began, in seconds.
        new_id: Gives ids that are unique over all runs.

    Attributes:
        began: Category to how many hits of it began.
    """

    def __init__(
        self,
        categories: Sequence[Category],
        *,
        hold_seconds: float,
        origin: float,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._categories = {category.name: category for category in categories}
        self._hold, self._origin, self._new_id = hold_seconds, origin, new_id
        self._ongoing: dict[str, _Ongoing] = {}
        self.began: dict[str, int] = {}

    def __len__(self) -> int:
        """How many go on."""
        return len(self._ongoing)

    def see(self, sight: Sight) -> list[HitEvent]:
        """Take in what was seen in a picture.

        Raises:
            ValueError: A score is none.
        """
        seconds, predictions = stream_seconds(sight.pts, self._origin), predictions_of(sight)
        events: list[HitEvent] = [*self.expire(seconds)]
        for category in self._categories.values():
            events += self._see(category, predictions, seconds, sight)
        return events

    def expire(self, seconds: float) -> list[HitEvent]:
        """End what was last seen longer before this time in the stream than it is held."""
        over = [name for name, row in self._ongoing.items() if seconds - row.last > self._held(name)]
        return [self._ended(name) for name in over]

    def end(self) -> list[HitEvent]:
        """End all that goes on: nothing will be seen any more."""
        return [self._ended(name) for name in list(self._ongoing)]

    def _held(self, name: str) -> float:
        own = self._categories[name].live.hold_seconds
        return self._hold if own is None else own

    def _see(
        self, category: Category, predictions: Predictions, seconds: float, sight: Sight
    ) -> list[HitBegan | HitBlocked]:
        labels = category.label_scores(predictions)
        score = max(labels.values(), default=0.0)
        if score < category.review or not labels:
            return []
        picture = None if sight.grid is None else (sight.grid, sight.size)
        row = self._ongoing.get(category.name)
        if row is None:
            row = _Ongoing(
                self._new_id(), seconds, seconds, score, score >= category.block, _strongest(labels), picture
            )
            self._ongoing[category.name] = row
            self.began[category.name] = self.began.get(category.name, 0) + 1
            return [HitBegan(hit=_hit(category.name, row))]
        row.last = max(row.last, seconds)
        best = {label: max(value, row.labels.get(label, 0.0)) for label, value in labels.items()}
        row.labels = _strongest({**row.labels, **best})
        if picture is not None and (score > row.peak or row.picture is None):
            row.picture = picture
        row.peak = max(row.peak, score)
        if row.is_blocked or score < category.block:
            return []
        row.is_blocked = True
        return [HitBlocked(hit=_hit(category.name, row), at_seconds=seconds)]

    def _ended(self, name: str) -> HitEnded:
        row = self._ongoing.pop(name)
        return HitEnded(hit=_hit(name, row, end_seconds=row.last))


def _strongest(labels: dict[str, float]) -> dict[str, float]:
    """The best first, and no more of them than an event may have."""
    return dict(sorted(labels.items(), key=lambda item: -item[1])[:MAX_LABELS])


def _hit(category: str, row: _Ongoing, *, end_seconds: float | None = None) -> Hit:
    return Hit(
        id=row.id,
        category=category,
        verdict="block" if row.is_blocked else "review",
        labels={label: round(score, 4) for label, score in row.labels.items()},
        start_seconds=row.start,
        end_seconds=end_seconds,
        peak=round(row.peak, 4),
        thumbnail=_thumbnail(row.picture),
    )


def _thumbnail(picture: tuple[bytes, tuple[int, int]] | None) -> bytes | None:
    """A small picture; none of a grid that is not one, which costs a hit its picture and nothing else."""
    if picture is None:
        return None
    try:
        found, _ = as_jpeg(*picture)
    except (ValueError, ArithmeticError, OSError):
        return None
    return found if len(found) <= MAX_THUMBNAIL_BYTES else None
