"""The tables and the summary of the sampling benchmark."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import operator
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sampling_events import ENTRIES, FPS, KINDS, LENGTHS, Overlay, Setting
from sampling_films import SURE_SHARE
from sampling_measuring import ADAPTIVE, TIGHT, UNIFORM, Outcome, Scored, border_errors, false_segments, recall, within
from scan import machine, table

# The shares of the films that a summary line speaks of.
SHORT_GOP_SECONDS, BORDERS_WANTED, RECALL_WANTED = 2, 0.99, 0.99


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _share(rows: Sequence[Outcome]) -> str:
    return f"{_percent(recall(rows))} ({sum(row.found for row in rows)}/{len(rows)})" if rows else "-"


def _middle(errors: Sequence[float]) -> list[str]:
    if not errors:
        return ["-", "-"]
    return [f"{statistics.median(errors):.1f}", f"{np.percentile(errors, 90):.1f}"]


def _time(scored: Scored, title: str, chosen: Callable[[Setting], bool] = lambda _: True) -> float:
    pairs = zip(scored.films, scored.results[title], strict=True)
    return sum(result.wall for item, result in pairs if chosen(item.setting))


def _ratio(scored: Scored, title: str, chosen: Callable[[Setting], bool] = lambda _: True) -> float:
    uniform = _time(scored, UNIFORM.title, chosen) if UNIFORM.title in scored.results else math.nan
    return _time(scored, title, chosen) / uniform if uniform else math.nan


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _cost_row(scored: Scored, title: str, chosen: Callable[[Setting], bool]) -> list[str]:
    rows = [row for row in scored.outcomes[title] if chosen(row.setting)]
    pairs = [pair for pair in zip(scored.films, scored.results[title], strict=True) if chosen(pair[0].setting)]
    cuts = [row for row in rows if row.event.entry == "cut"]
    seconds, wall = sum(item.seconds for item, _ in pairs), sum(result.wall for _, result in pairs)
    decoded = [result.decoded for _, result in pairs]
    return [
        _share(rows),
        _percent(within(border_errors(cuts))),
        f"{sum(false_segments(*pair) for pair in pairs) / seconds * 3600:.1f}",
        f"{sum(result.samples for _, result in pairs)}",
        "-" if None in decoded else f"{sum(count for count in decoded if count is not None)}",
        f"{wall:.1f}",
        f"{seconds / wall:.1f}",
        _number(_ratio(scored, title, chosen), 3),
    ]


COST = [
    "recall %",
    "borders of cuts ≤ 1 frame %",
    "false/h",
    "samples",
    "decoded",
    "s",
    "times real time",
    "of uniform",
]


def _by_setting(scored: Scored) -> Iterator[list[str]]:
    for setting in dict.fromkeys(item.setting for item in scored.films):
        label = f"{setting.gop} s, {'cuts' if setting.scenecut else 'grid'}{', media' if setting.media else ''}"
        for title in scored.results:
            yield [label, title, *_cost_row(scored, title, functools.partial(operator.eq, setting))]
    for title in scored.results:
        yield ["all", title, *_cost_row(scored, title, lambda _: True)]


def _by_length(scored: Scored) -> Iterator[list[str]]:
    for title, rows in scored.outcomes.items():
        for entry in ("", *ENTRIES):
            kept = [row for row in rows if entry in ("", row.event.entry)]
            yield [title, entry or "both", *(_share([r for r in kept if r.event.seconds == s]) for s in LENGTHS)]


def _by_look(scored: Scored) -> Iterator[list[str]]:
    for title, rows in scored.outcomes.items():
        for entry, kind in itertools.product(ENTRIES, KINDS):
            kept = [row for row in rows if (row.event.entry, row.event.kind) == (entry, kind)]
            errors, raw = border_errors(kept), border_errors(kept, "none")
            own = border_errors(kept, of_model=True)
            yield [
                title,
                f"{entry}, {kind}",
                _share(kept),
                _percent(within(errors)),
                *_middle(errors),
                _percent(within(raw)),
                *_middle(raw),
                _percent(within(own)),
                _percent(within([max(0.0, e) for e in _beyond_fades(kept)])),
            ]


def _beyond_fades(rows: Iterable[Outcome]) -> list[float]:
    """Frames by which borders are off beyond half of their fade, within which a model may draw the line."""
    return [
        abs(error) - row.event.ramp / 2 for row in rows if "default" in row.errors for error in row.errors["default"]
    ]


LOOK = [
    "recall %",
    "≤ 1 frame %",
    "median",
    "p90",
    "raw ≤ 1 %",
    "raw median",
    "raw p90",
    "model's ≤ 1 %",
    "tolerated %",
]


class Line(NamedTuple):
    """A line of the summary; `met` is None where a mode is missing."""

    wanted: str
    measured: str
    met: bool | None

    def row(self) -> list[str]:
        """As a table's row."""
        return [self.wanted, self.measured, "not measured" if self.met is None else "met" if self.met else "MISSED"]


def summary(scored: Scored) -> list[Line]:
    """What is wanted of sampling, and whether it is so."""
    return [*_tight_lines(scored), *_default_lines(scored), *_border_lines(scored)]


def _tight_lines(scored: Scored) -> Iterator[Line]:
    wanted = f"{TIGHT.title}: recall at least uniform's", f"{TIGHT.title}: in ≤ 0.8 of uniform's time"
    if not {UNIFORM.title, TIGHT.title} <= set(scored.results):
        yield from (Line(text, "-", None) for text in wanted)
        return
    ours, theirs = scored.outcomes[TIGHT.title], scored.outcomes[UNIFORM.title]
    lost = sum(b.found and not a.found for a, b in zip(ours, theirs, strict=True))
    won = sum(a.found and not b.found for a, b in zip(ours, theirs, strict=True))
    text = f"{_share(ours)} against {_share(theirs)}; {won} found only by it, {lost} only by uniform"
    yield Line(wanted[0], text, recall(ours) >= recall(theirs))
    ratio = _ratio(scored, TIGHT.title)
    yield Line(wanted[1], f"{ratio:.3f}", ratio <= 0.8)


def _default_lines(scored: Scored) -> Iterator[Line]:
    where = f"{ADAPTIVE.title}, key frames at least every {SHORT_GOP_SECONDS} s"
    cases: dict[str, Callable[[Overlay], bool]] = {
        "events ≥ 2 s": lambda event: event.seconds >= 2,
        "events ≥ 1 s that begin with a cut": lambda event: event.seconds >= 1 and event.entry == "cut",
    }
    measured = {UNIFORM.title, ADAPTIVE.title} <= set(scored.results)
    rows = [row for row in scored.outcomes.get(ADAPTIVE.title, ()) if row.setting.gop <= SHORT_GOP_SECONDS]
    for text, chosen in cases.items():
        kept = [row for row in rows if chosen(row.event)]
        met = recall(kept) >= RECALL_WANTED if kept and measured else None
        yield Line(f"{where}: recall of {text} ≥ {RECALL_WANTED:.0%}", _share(kept), met)
    ratio = _ratio(scored, ADAPTIVE.title, lambda s: s.gop <= SHORT_GOP_SECONDS) if measured else math.nan
    met = None if math.isnan(ratio) else ratio <= 1 / 3
    yield Line(f"{where}: in ≤ 1/3 of uniform's time", _number(ratio, 3), met)


def _border_lines(scored: Scored) -> Iterator[Line]:
    for title, rows in scored.outcomes.items():
        cuts = border_errors(row for row in rows if row.event.entry == "cut")
        fades = _beyond_fades(row for row in rows if row.event.entry == "fade")
        raw = border_errors((row for row in rows if row.event.entry == "cut"), "none")
        own = border_errors((row for row in rows), of_model=True)
        text = (
            f"{_percent(within(cuts))} % of cuts' (unsmoothed {_percent(within(raw))} %), {_percent(within(fades))} % "
            f"of fades' beyond half a fade, {_percent(within(own))} % of all against the model's own"
        )
        met = within(cuts) >= BORDERS_WANTED if cuts else None
        yield Line(f"{title}: {BORDERS_WANTED:.0%} of the borders of found cut-in events within one frame", text, met)


def report(scored: Scored, notes: Sequence[str]) -> str:
    """Everything that was measured, as markdown."""
    films, first = scored.films, scored.films[0].setting
    dropped = [checked for item in films for checked in item.events if checked.sure < SURE_SHARE]
    events, seconds = sum(len(item.events) for item in films), sum(item.seconds for item in films)
    partial = {title: sum(row.status != "complete" for row in rows) for title, rows in scored.results.items()}
    parts = [
        f"{machine()}. {len(films)} films, {seconds / 60:.1f} min, {first.width}x{first.height}, {FPS} frames/s, "
        f"{sum(item.path.stat().st_size for item in films) * 8 / seconds / 1e6:.1f} Mbit/s, {events} events, "
        f"{len(dropped)} of them left out as no model is sure of them, {sum(item.noise for item in films)} frames "
        "outside of events that a model takes for one.",
        *(f"- {note}" for note in notes),
        *(f"- {title}: {count} scans are not complete" for title, count in partial.items() if count),
        "By GOP and whether scene cuts get a key frame (`cuts`) or not (`grid`).",
        table(["films", "mode", *COST], _by_setting(scored)),
        "Recall by length, %.",
        table(["mode", "entry", *(f"{length:g} s" for length in LENGTHS)], _by_length(scored)),
        "Borders of found events, in frames. `raw`: smoothing `none`. `model's`: against where the model itself begins "
        "and ends to fire when it sees every frame. `tolerated`: within one frame and half a fade, as a model need not "
        "draw the line at half of the opacity.",
        table(["mode", "events", *LOOK], _by_look(scored)),
        table(["wanted", "measured", ""], (line.row() for line in summary(scored))),
    ]
    return "\n\n".join(parts)


def save(path: Path, scored: Scored, notes: Sequence[str]) -> None:
    """Write every single figure as JSON."""
    document = {
        "machine": machine(),
        "notes": list(notes),
        "films": [
            {**dataclasses.asdict(item), "path": item.path.name, "events": [dataclasses.asdict(e) for e in item.events]}
            for item in scored.films
        ],
        "results": {title: [dataclasses.asdict(row) for row in rows] for title, rows in scored.results.items()},
        "outcomes": {title: [dataclasses.asdict(row) for row in rows] for title, rows in scored.outcomes.items()},
        "summary": [line._asdict() for line in summary(scored)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
