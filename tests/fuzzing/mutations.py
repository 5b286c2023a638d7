"""A damaged file by its seed and number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fuzzing.mutators import BYTES, Random, put, structured
from tests.fuzzing.sources import Source


@dataclass(frozen=True)
class Mutation:
    """A damaged file.

    Attributes:
        number: Which one of its seed.
        steps: What was done to the source, in order.
    """

    number: int
    source: str
    suffix: str
    steps: tuple[str, ...]
    data: bytes

    @property
    def file_name(self) -> str:
        return f"{self.number:07d}-{self.source}{self.suffix}"


def mutate(sources: Sequence[Source], seed: int, number: int) -> Mutation:
    """Mutation `number` of `seed`: the same one whenever the sources are the same."""
    rng = Random(f"{seed}:{number}")
    source = rng.choice(sources)
    data = source.data
    steps: list[str] = []
    while len(steps) < 4 and (data == source.data or rng.random() < 0.35):
        other = rng.choice(sources).data
        known = structured(data)
        mutator = rng.choice(known if known and rng.random() < 0.7 else BYTES)
        data = mutator(data, rng, other)
        steps.append(mutator.__name__)
    if data == source.data:
        data = put(data, 0, bytes([data[0] ^ 1]))
        steps.append("first byte")
    return Mutation(number, source.name, source.suffix, tuple(steps), data)
