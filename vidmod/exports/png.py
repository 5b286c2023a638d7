"""A plot as a PNG: a panel per category, with its scores over time, thresholds, segments and what was not looked at.

Drawn by matplotlib's Agg, with no settings of the user's; the same timeline gives the same bytes on the same machine.
Colours are of Okabe and Ito's palette, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/), and
none is alone in saying something: verdicts differ in the height of their bars, stretches that nobody saw are hatched.

The line is the score of each picture that was looked at; where there are more of them than the plot is wide, the
highest of each column, so that no peak is lost. It ends where a stretch begins that was not looked at. Segments are
never narrower than can be seen. Times count from the start of the file, see :mod:`vidmod.exports.clock`.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import NDArray

from vidmod.errors import PolicyError
from vidmod.exports.clock import Found, Unseen, elsewhere, found, length, origin_seconds, unseen
from vidmod.exports.wording import VERDICT_WORDS, legible
from vidmod.policy import Category, Policy
from vidmod.timebase import format_time
from vidmod.timeline import StreamScan, Timeline

_FONT = "DejaVu Sans"
_INK, _FAINT, _LINE, _HATCH = "#222222", "#767676", "#0072B2", "#9A9A9A"
_UNKNOWN, _QUIET = "#F2F2F2", "#444444"
_COLORS = {"review": "#E69F00", "block": "#D55E00"}
_SHADES = {"review": 0.22, "block": 0.26}
# Dashes too tell the thresholds apart.
_DASHES = {"review": (0, (4, 3)), "block": (0, (1, 1.5))}
_HATCHES = {"unsampled": "////", "undecodable": "xxxx"}
_STATES = {"unsampled": "not looked at", "undecodable": "could not be decoded"}
_INCHES, _DPI = 10.0, 160
_LEFT, _RIGHT = 0.55, 0.95
_HEADER, _PANEL, _SPACE, _FOOTER, _NOTE = 1.14, 0.92, 0.5, 0.2, 0.19
_MOST_PANELS, _MOST_NOTES = 12, 5
# More points than these would lie in one column of pixels.
_COLUMNS = 1200
_LONGEST_MARKED = 120
_NARROWEST = 0.0015
_STRIP_BOTTOM, _STRIP_HEIGHTS = 1.04, {"review": 0.06, "block": 0.12}
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_MOST_TICKS = 10
_PLAIN: dict[Any, Any] = {
    "font.family": _FONT,
    "font.size": 8.5,
    "text.color": _INK,
    "axes.edgecolor": "#BBBBBB",
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "hatch.linewidth": 0.6,
}
Floats = NDArray[np.float64]


@dataclass
class _Panel:
    """One category in one stream.

    Attributes:
        times, scores: In order; NaN where the line is interrupted.
    """

    name: str
    category: Category | None
    times: Floats
    scores: Floats
    segments: list[Found] = field(default_factory=list)
    gaps: list[Unseen] = field(default_factory=list)

    @property
    def weight(self) -> tuple[int, float]:
        """What panels are chosen by, where there are too many."""
        verdicts = [row.segment.verdict for row in self.segments]
        worst = 2 * ("block" in verdicts) + ("review" in verdicts)
        return worst, float(np.nanmax(self.scores)) if len(self.scores) else 0.0


def write(timeline: Timeline) -> bytes:
    """The picture, 1,600 pixels wide."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PLAIN)
        figure = _drawn(timeline)
        file = io.BytesIO()
        # Neither who made it nor when: the same picture is the same file.
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _drawn(timeline: Timeline) -> Figure:
    panels = _panels(timeline)
    notes = _notes(timeline, panels)
    panels = _chosen(panels)
    height = _HEADER + len(panels) * (_PANEL + _SPACE) + _FOOTER + len(notes) * _NOTE
    figure = Figure(figsize=(_INCHES, height), facecolor="white")
    FigureCanvasAgg(figure)
    end = _end(timeline)
    for place, panel in enumerate(panels):
        top = height - _HEADER - place * (_PANEL + _SPACE)
        box = (_LEFT / _INCHES, (top - _PANEL) / height, 1 - (_LEFT + _RIGHT) / _INCHES, _PANEL / height)
        _draw(figure.add_axes(box), panel, end, is_last=place == len(panels) - 1)
    _head(figure, timeline, height)
    _foot(figure, panels, notes, height)
    return figure


# What is shown ----------------------------------------------------------------------------------


def _panels(timeline: Timeline) -> list[_Panel]:
    policy = _categories(timeline)
    # Of what claims no length nobody has seen anything.
    segments, gaps = found(timeline), unseen(timeline) if _end(timeline) else [Unseen(0, 1000, "unsampled")]
    rows = []
    for place, stream in enumerate(timeline.streams or (None,)):
        if place and stream is not None and stream.kind not in ("video", "view"):
            continue
        number = stream.stream if place and stream is not None else None
        mine = [row for row in segments if row.segment.stream == number]
        dark = [row for row in gaps if (row.stream.stream if row.stream else None) == number]
        names = dict.fromkeys([*policy, *(row.segment.category for row in mine)])
        for name in names:
            times, scores = _line(timeline, stream, policy.get(name), dark)
            panel = _Panel(name, policy.get(name), times, scores, [r for r in mine if r.segment.category == name], dark)
            if number is None:
                rows.append(panel)
            elif panel.segments or panel.gaps:
                panel.name = f"{name}, stream {number}"
                rows.append(panel)
    return rows or [_Panel("", None, np.array([]), np.array([]), [], gaps)]


def _categories(timeline: Timeline) -> dict[str, Category]:
    try:
        policy = Policy.from_document(timeline.provenance["policy"], "timeline")
    except PolicyError:
        # Segments can be shown without.
        return {}
    return {category.name: category for category in policy.categories}


def _line(
    timeline: Timeline, stream: StreamScan | None, category: Category | None, gaps: Iterable[Unseen]
) -> tuple[Floats, Floats]:
    """Times and scores of a category, thinned, and interrupted where nobody looked."""
    if stream is None or category is None or not stream.samples:
        return np.array([]), np.array([])
    origin = origin_seconds(timeline)
    rows = sorted((row.time_seconds - origin, category.best_label(row.predictions)[1]) for row in stream.samples)
    times, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    times, scores = _thinned(times, scores)
    breaks = np.unique(np.searchsorted(times, [gap.start / 1000 for gap in gaps], side="right"))
    breaks = breaks[(breaks > 0) & (breaks < len(times))]
    return np.insert(times, breaks, np.nan), np.insert(scores, breaks, np.nan)


def _thinned(times: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """The highest of each column, at its own time."""
    if len(times) <= _COLUMNS or times[-1] <= times[0]:
        return times, scores
    columns = ((times - times[0]) / (times[-1] - times[0]) * (_COLUMNS - 1)).astype(int)
    order = np.lexsort((-scores, columns))
    _, first = np.unique(columns[order], return_index=True)
    kept = np.sort(order[first])
    return times[kept], scores[kept]


def _chosen(panels: Sequence[_Panel]) -> list[_Panel]:
    """Those that have most to show, in the policy's order."""
    best = sorted(range(len(panels)), key=lambda place: panels[place].weight, reverse=True)[:_MOST_PANELS]
    return [panels[place] for place in sorted(best)]


def _notes(timeline: Timeline, panels: Sequence[_Panel]) -> list[str]:
    rows = [*elsewhere(timeline), *(timeline.notes if timeline.status != "complete" else ())]
    if len(panels) > _MOST_PANELS:
        kept = {id(panel) for panel in _chosen(panels)}
        left = ", ".join(panel.name for panel in panels if id(panel) not in kept)
        rows.insert(0, legible(f"{len(panels) - _MOST_PANELS} more without a panel: {left}", 150))
    if len(rows) > _MOST_NOTES:
        rows = [*rows[:_MOST_NOTES], f"and {len(rows) - _MOST_NOTES} lines more in the timeline"]
    return [legible(row, 150) for row in rows]


def _end(timeline: Timeline) -> float:
    return max([length(timeline), *(row.end for row in found(timeline)), *(row.end for row in unseen(timeline))]) / 1000


# Drawing it -------------------------------------------------------------------------------------


def _draw(axes: Axes, panel: _Panel, end: float, *, is_last: bool) -> None:
    axes.set_xlim(0, end or 1)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(length=2.5, width=0.8)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _text(axes, 0, 1.21, panel.name, weight="bold", size=9.5, limit=100)
    _draw_gaps(axes, panel.gaps, end)
    _draw_segments(axes, panel.segments, end)
    marked = "." if 0 < len(panel.times) <= _LONGEST_MARKED else ""
    axes.fill_between(panel.times, panel.scores, color=_LINE, alpha=0.12, linewidth=0)
    axes.plot(panel.times, panel.scores, color=_LINE, linewidth=1.1, marker=marked, markersize=3.5, clip_on=False)
    if not len(panel.times):
        _draw_peaks(axes, panel.segments)
    _draw_thresholds(axes, panel.category)
    ticks = _ticks(end)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(functools.partial(_clock, precise=end < 10)))
    axes.tick_params(labelbottom=is_last)


def _draw_gaps(axes: Axes, gaps: Iterable[Unseen], end: float) -> None:
    for state, hatch in _HATCHES.items():
        spans = _wide([(row.start / 1000, row.end / 1000) for row in gaps if row.state == state], end)
        axes.broken_barh(spans, (0, 1), facecolor=_UNKNOWN, edgecolor=_HATCH, hatch=hatch, linewidth=0, zorder=1.5)


def _draw_segments(axes: Axes, segments: Iterable[Found], end: float) -> None:
    # The worse verdict comes last, and on top.
    for verdict, color in _COLORS.items():
        spans = _wide([(r.start / 1000, r.end / 1000) for r in segments if r.segment.verdict == verdict], end)
        axes.broken_barh(spans, (0, 1), facecolor=color, alpha=_SHADES[verdict], linewidth=0, zorder=1.8)
        strip = (_STRIP_BOTTOM, _STRIP_HEIGHTS[verdict])
        axes.broken_barh(spans, strip, facecolor=color, linewidth=0, clip_on=False, zorder=3)


def _draw_peaks(axes: Axes, segments: Sequence[Found]) -> None:
    """All that is known of a category without scores."""
    rows = [(row.segment.peak, row.start / 1000, row.end / 1000) for row in segments]
    if rows:
        axes.hlines(*zip(*rows, strict=True), color=_LINE, linewidth=1.6)
    else:
        _text(axes, 0.5, 0.5, "no scores", ha="center", va="center", color=_QUIET, boxed=True)


def _draw_thresholds(axes: Axes, category: Category | None) -> None:
    if category is None:
        return
    heights = {"block": category.block, "review": category.review}
    # Their names would lie on each other.
    middle, apart = (category.block + category.review) / 2, max(0.17, category.block - category.review)
    middle = min(max(middle, apart / 2), 1 - apart / 2)
    places = {"block": middle + apart / 2, "review": middle - apart / 2}
    for verdict, height in heights.items():
        axes.axhline(height, color=_COLORS[verdict], linewidth=1.1, linestyle=_DASHES[verdict], zorder=2.5)
        words = f"{verdict} {_rounded(height)}"
        _text(axes, 1.008, places[verdict], words, va="center", size=7.5, color=_darker(verdict))


def _head(figure: Figure, timeline: Timeline, height: float) -> None:
    left = _LEFT / _INCHES
    color = _darker(timeline.verdict)
    _text(figure, left, 1 - 0.2 / height, timeline.source["name"], weight="bold", size=12, va="center", limit=72)
    words = f"{VERDICT_WORDS[timeline.verdict].upper()}  ·  {timeline.status}"
    _text(figure, left, 1 - 0.42 / height, words, weight="bold", size=9.5, va="center", color=color)
    _text(figure, left, 1 - 0.6 / height, _account(timeline), size=8.5, va="center", color=_QUIET, limit=140)


def _account(timeline: Timeline) -> str:
    """What was looked at, in words."""
    whole = length(timeline)
    dark = [row for row in unseen(timeline) if row.stream is None]
    seconds = {state: sum(row.end - row.start for row in dark if row.state == state) / 1000 for state in _HATCHES}
    if not timeline.sample_count:
        return "Nothing was looked at: nothing is known of it."
    words = [f"{_count(timeline.sample_count, 'picture')} looked at", _count(len(timeline.segments), "segment")]
    if not dark:
        words.append(f"all {format_time(whole / 1000)} accounted for")
    words += [f"{seconds[state]:,.3f} s {_STATES[state]}" for state in _HATCHES if seconds[state]]
    return ", ".join(words)


def _foot(figure: Figure, panels: Sequence[_Panel], notes: Sequence[str], height: float) -> None:
    handles: list[Line2D | Patch] = []
    if any(len(panel.times) for panel in panels):
        handles.append(Line2D([], [], color=_LINE, linewidth=1.4, label="score"))
    for verdict in reversed(_COLORS):
        if any(panel.category for panel in panels):
            look = {"color": _COLORS[verdict], "linewidth": 1.3, "linestyle": _DASHES[verdict]}
            handles.append(Line2D([], [], label=f"{verdict} from here", **look))  # type: ignore[arg-type]
    known = {row.segment.verdict for panel in panels for row in panel.segments}
    handles += [
        Patch(facecolor=_COLORS[verdict], label=f"segment: {verdict}")
        for verdict in reversed(_COLORS)
        if verdict in known
    ]
    for state, hatch in _HATCHES.items():
        if any(row.state == state for panel in panels for row in panel.gaps):
            handles.append(Patch(facecolor=_UNKNOWN, edgecolor=_HATCH, hatch=hatch * 2, label=_STATES[state]))
    if handles:
        place = (_LEFT / _INCHES, (0.12 + len(notes) * _NOTE) / height)
        figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=place, ncols=len(handles), frameon=False,
            borderaxespad=0, borderpad=0, handlelength=2.2, columnspacing=1.6, fontsize=8,
        )  # fmt: skip
    for line, note in enumerate(reversed(notes)):
        _text(figure, _LEFT / _INCHES, (0.08 + line * _NOTE) / height, note, size=8, color=_QUIET, limit=150)


def _text(
    where: Axes | Figure, x: float, y: float, words: str, *, limit: int = 200, boxed: bool = False, **style: object
) -> None:
    """A stranger's text too: no markup in it, and only characters that the font has."""
    shown = "".join(letter if _has(letter) else "\N{REPLACEMENT CHARACTER}" for letter in legible(words, limit))
    options = {"transform": where.transAxes} if isinstance(where, Axes) else {}
    box = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 2.5}} if boxed else {}
    where.text(x, y, shown, parse_math=False, **options, **box, **style)  # type: ignore[arg-type]


@functools.cache
def _has(letter: str) -> bool:
    font = get_font(findfont(FontProperties(family=_FONT)))
    return bool(font.get_char_index(ord(letter)))


def _wide(spans: Iterable[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Starts and widths, such as a person can see."""
    least = end * _NARROWEST
    return [(min(start, end - least), max(stop - start, least)) for start, stop in spans]


def _ticks(end: float) -> list[float]:
    if not end:
        return []
    step = next((step for step in _STEPS if end / step <= _MOST_TICKS), None)
    step = step or 86400 * math.ceil(end / 86400 / _MOST_TICKS)
    return [round(step * place, 3) for place in range(int(end / step + 1e-9) + 1)]


def _clock(seconds: float, _place: int | None = None, *, precise: bool = False) -> str:
    whole = format_time(round(seconds, 3))
    return whole[:-2] if precise else whole[:-4]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _rounded(value: float) -> str:
    return f"{value:.4f}".rstrip("0").ljust(4, "0")


def _darker(verdict: str) -> str:
    """A verdict's colour for text on white."""
    return {"review": "#8A5F00", "block": "#A84A00", "pass": "#00664B"}[verdict]
