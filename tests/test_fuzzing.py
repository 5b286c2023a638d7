"""Damage by the thousand: whatever a file is, what is said of it holds."""

from __future__ import annotations

import dataclasses
import os
import random
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

import vidmod
from tests.fuzzing.demands import problems
from tests.fuzzing.mutations import mutate
from tests.fuzzing.mutators import (
    BOXES,
    BYTES,
    ELEMENTS,
    PACKETS,
    UNITS,
    Mutator,
    change_units_in_block,
    change_units_in_box,
    elements,
    structured,
)
from tests.fuzzing.running import FILE_SECONDS, Run, describe, settings
from tests.fuzzing.sources import Source, write_sources
from tests.hostile.containers import atoms, written
from tests.networks import write_classifier
from vidmod.timeline import Timeline

COUNT = int(os.environ.get("VIDMOD_FUZZ_COUNT", "2000"))
SEED = 20
# Pictures of several sizes and codecs are in memory by turns; a leak of 30 KB a job is seen.
_GROWTH_BYTES = 64 << 20


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("model"))


def named(sources: list[Source], name: str) -> Source:
    return next(source for source in sources if source.name == name)


# The run --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(60 + COUNT)
def test_damaged_files_are_accounted_for(sources: list[Source], model: Path, tmp_path: Path) -> None:
    run = Run(sources, SEED, tmp_path)
    with vidmod.Scanner(settings(model, None, file_seconds=FILE_SECONDS)) as scanner:
        tally = run.run(scanner, range(COUNT))
    assert tally.jobs == COUNT
    if tally.offences:
        pytest.fail(describe(tally), pytrace=False)
    assert tally.grown_bytes < _GROWTH_BYTES, describe(tally)
    # A run in which nothing opens, or nothing is damaged, would prove nothing.
    assert tally.outcomes["complete, pass"] > COUNT // 10
    assert tally.outcomes["partial, review"] > COUNT // 20
    assert tally.outcomes["unscannable, review"] > COUNT // 20


def test_no_process_is_left_behind(sources: list[Source], model: Path, tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with vidmod.Scanner(settings(model, 2)) as scanner:
        Run(sources, SEED, tmp_path).run(scanner, range(30))
    assert set(psutil.Process().children(recursive=True)) <= before


def test_whole_files_are_whole(sources: list[Source], model: Path, tmp_path: Path) -> None:
    with vidmod.Scanner(settings(model, 1)) as scanner:
        for source in sources:
            path = tmp_path / (source.name + source.suffix)
            path.write_bytes(source.data)
            timeline = scanner.scan(path)
            assert problems(timeline) == []
            if not os.environ.get("VIDMOD_MEDIA"):
                assert (source.name, timeline.status) == (source.name, "complete"), timeline.notes


# The mutators ---------------------------------------------------------------------------------


def test_a_mutation_follows_from_its_seed_and_number(sources: list[Source]) -> None:
    first = [mutate(sources, SEED, number) for number in range(200)]
    assert [mutate(sources, SEED, number) for number in reversed(range(200))] == first[::-1]
    assert [mutate(sources, SEED + 1, number) for number in range(200)] != first


def test_a_mutation_is_another_file(sources: list[Source]) -> None:
    mutations = [mutate(sources, SEED, number) for number in range(400)]
    whole = {source.data for source in sources}
    changed = [mutation.data not in whole for mutation in mutations]
    # Cutting one file to nothing and appending another can give a whole one again, rarely.
    assert sum(changed) >= len(changed) - 4
    assert len({mutation.data for mutation in mutations}) > 380
    assert len({mutation.source for mutation in mutations}) > 30
    assert len({step for mutation in mutations for step in mutation.steps}) >= 22


@pytest.mark.parametrize(
    ("mutator", "name"),
    [
        *((mutator, "h264-edit") for mutator in BYTES),
        *((mutator, "h264") for mutator in dict.fromkeys((*BOXES, change_units_in_box))),
        *((mutator, "h264-mkv") for mutator in (*ELEMENTS, change_units_in_block)),
        *((mutator, "ts") for mutator in PACKETS),
        *((mutator, "raw-h264") for mutator in UNITS),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_mutator_changes_something_and_not_everything(sources: list[Source], mutator: Mutator, name: str) -> None:
    data, other = named(sources, name).data, named(sources, "hevc").data
    results = [mutator(data, random.Random(seed), other) for seed in range(40)]
    assert sum(result != data for result in results) >= 20
    assert len(set(results)) >= 20
    assert [mutator(data, random.Random(seed), other) for seed in range(40)] == results
    # Nothing explodes by mutation.
    assert max(map(len, results)) <= 2 * len(data) + len(other)


@pytest.mark.parametrize("mutator", [*BYTES, *BOXES, *ELEMENTS, *PACKETS, *UNITS, change_units_in_box,
                                     change_units_in_block], ids=lambda value: value.__name__)  # fmt: skip
def test_a_mutator_takes_anything(mutator: Mutator) -> None:
    for data in (b"", b"x", b"\0" * 9, b"\x1a\x45\xdf\xa3", b"\xff" * 400, bytes(range(256)), b"\0\0\0\x08ftyp"):
        for seed in range(10):
            assert isinstance(mutator(data, random.Random(seed), data), bytes)


def test_what_is_read_is_written_again(sources: list[Source]) -> None:
    for source in sources:
        assert written(atoms(source.data)) == source.data
        if source.suffix in (".mkv", ".webm"):
            assert len(elements(source.data)) == 2
            assert b"".join(map(bytes, elements(source.data))) == source.data


def test_every_format_with_a_structure_is_known(sources: list[Source]) -> None:
    for suffix in (".mp4", ".mov", ".mkv", ".webm", ".ts", ".h264", ".hevc"):
        found = [source for source in sources if source.suffix == suffix]
        assert found
        assert all(structured(source.data) for source in found)


# What is checked ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(sources: list[Source], model: Path, tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    path = tmp_path_factory.mktemp("whole") / "whole.mp4"
    path.write_bytes(named(sources, "h264").data)
    return vidmod.scan(path, models=(str(model),))


def with_ledger(timeline: Timeline, **changes: Any) -> Timeline:
    first = timeline.streams[0]
    stream = dataclasses.replace(first, ledger={**first.ledger, **changes})
    return dataclasses.replace(timeline, streams=(stream,))


def with_coverage(timeline: Timeline, *spans: tuple[float, float, str]) -> Timeline:
    kind: Any = type(timeline.coverage[0])
    coverage = tuple(kind(*span) for span in spans)
    stream = dataclasses.replace(timeline.streams[0], coverage=coverage)
    return dataclasses.replace(timeline, coverage=coverage, streams=(stream,))


def test_a_whole_timeline_has_no_problem(whole: Timeline) -> None:
    assert whole.status == "complete"
    assert problems(whole) == []


def test_every_lie_is_seen(whole: Timeline) -> None:
    end = whole.coverage[-1].end_seconds
    middle = end / 2
    lies = {
        "has lost": with_ledger(whole, lost=1),
        "has unusable": with_ledger(whole, unusable=1),
        "has read_errors": with_ledger(whole, read_errors=1),
        "has truncated": with_ledger(whole, truncated=True),
        "knows of": with_ledger(whole, packets=whole.streams[0].ledger["packets"] + 1),
        "is undecodable": with_coverage(whole, (0.0, middle, "analysed"), (middle, end, "undecodable")),
        "missing or double": with_coverage(whole, (0.0, middle / 2, "analysed"), (middle, end, "analysed")),
        "its coverage": with_coverage(whole, (0.0, middle, "analysed")),
        "no length": with_coverage(whole, (0.0, 0.0, "analysed"), (0.0, end, "analysed")),
        "the verdict is pass": dataclasses.replace(whole, status="partial"),
        "without a sample": dataclasses.replace(whole, streams=()),
        "no valid document": dataclasses.replace(whole, source={**whole.source, "sha256": "x"}),
        "Out of range": dataclasses.replace(whole, source={**whole.source, "size_bytes": float("nan")}),
    }
    for words, timeline in lies.items():
        assert words in "; ".join(problems(timeline)), words
