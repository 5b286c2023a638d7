"""What happens, as an event for programs and as a line for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vidmod.containment import LAYERS
from vidmod.live.filtering.overload import LEVELS
from vidmod.live.messages import Arrived, Changed, Loaded
from vidmod.live.telling.control import Order, Peer
from vidmod.live.telling.events import (
    Controlled,
    CoverOff,
    CoverOn,
    Event,
    HitBlocked,
    HitEnded,
    Overload,
    ProcessRestarted,
    ServerBack,
    ServerLost,
    SourceBack,
    SourceChanged,
    SourceConnected,
    SourceLost,
)
from vidmod.live.telling.hits import HitEvent

News = tuple[Event, str]
_WHY_COVERED = {
    "starting": "it starts",
    "emergency": "it was told to",
    "hit": "for what was found",
    "not_analysed": "too little was looked at",
    "analysis_lost": "nobody looks",
    "source_lost": "nothing comes in",
    "source_changed": "the source is another one",
    "overload": "the machine does not keep up",
    "error": "the source is damaged, or the filter was replaced",
}
_WHAT_IS_DONE = {
    "nothing": "the machine keeps up again",
    "looks": "fewer pictures are looked at",
    "effort": "pictures are encoded with less effort",
    "pictures": "pictures that would be late are covered",
}
_LABELS_TOLD = 3


def arrived(message: Arrived) -> News:
    """A source's first picture has come."""
    width, height = message.size
    rate = message.rate if math.isfinite(message.rate) else 0.0
    sound = "no sound" if message.sound is None else message.sound
    event = SourceConnected(width=width, height=height, rate=rate, video_codec=message.codec, audio_codec=message.sound)
    return event, f"Source: {width}x{height}, {rate:.4g} fps, {message.codec}, {sound}."


def changed(message: Changed) -> News:
    """A source is not what it was."""
    event = SourceChanged(what=message.what, before=message.before, after=message.after)
    return event, f"The source changed: {message.what}, from {message.before} to {message.after}."


def lost(side: str, why: str) -> News:
    """`source` or `server` is gone."""
    event = SourceLost(reason=why) if side == "source" else ServerLost(reason=why)
    return event, f"Lost the {side}: {why}"


def back(side: str, gone_seconds: float) -> News:
    """`source` or `server` is there again."""
    event = SourceBack(gone_seconds=gone_seconds) if side == "source" else ServerBack(gone_seconds=gone_seconds)
    return event, f"The {side} is back, after {gone_seconds:.1f} s."


def replaced(role: str, why: str, count: int) -> News:
    """A process ended or stood still."""
    event = ProcessRestarted(process=role, reason=why, count=count)
    return event, f"The {role} {why.rstrip('.')}. It is started again."


def ordered(order: Order, peer: Peer) -> News:
    """Somebody gave an order."""
    event = Controlled(command=order.command, seconds=order.seconds, user=peer.user, process=peer.process)
    length = "" if order.seconds is None else f" for {order.seconds:g} s"
    return event, f"Told to {order.command}{length}, by user {peer.user}, process {peer.process}."


def overload(level: int) -> News:
    """The machine keeps up better or worse than before."""
    name = LEVELS[min(level, len(LEVELS) - 1)]
    return Overload(level=level, action=_WHAT_IS_DONE[name]), f"Load: {_WHAT_IS_DONE[name]}."


def covered(event: CoverOn | CoverOff) -> News:
    """A cover begins, or is over."""
    why = _WHY_COVERED[event.reason]
    if isinstance(event, CoverOn):
        return event, f"Covered: {why}."
    return event, f"No longer covered, after {event.covered_seconds:.1f} s: {why}."


def hit(event: HitEvent) -> News:
    """A hit begins, is worse than it was, or is over."""
    row = event.hit
    labels = ", ".join(f"{label} {score:.2f}" for label, score in list(row.labels.items())[:_LABELS_TOLD])
    what = f"{row.verdict} {row.category} ({labels})"
    if isinstance(event, HitEnded):
        return event, f"Over: {what}, {row.start_seconds:.1f} to {row.end_seconds:.1f} s."
    at = event.at_seconds if isinstance(event, HitBlocked) else row.start_seconds
    return event, f"Hit: {what}, at {at:.1f} s."


def looks(message: Loaded) -> str:
    """With what is looked, as far as the analyst says that as a timeline does."""
    rows = [
        f"{row.get('name')} ({row.get('runtime')} {row.get('precision')} on {row.get('device')})"
        for row in message.models
    ]
    return f"Looking with {', '.join(rows)}."


def missing(layers: Sequence[str]) -> str:
    """Which layers of containment a process does not have, by those of which it says that they hold."""
    return ", ".join(name for name in LAYERS if name not in layers)


def exposed(role: str, layers: Sequence[str]) -> str:
    """That a process is not enclosed as it should be."""
    return f"The {role} is enclosed without {missing(layers)}: see `vidmod doctor`."
