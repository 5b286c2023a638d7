"""What a running live filter tells of itself: one immutable snapshot, from which all that is shown is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

SIDES = ("source", "server")
COVER_REASONS = (
    "starting",
    "emergency",
    "hit",
    "not_analysed",
    "analysis_lost",
    "source_lost",
    "source_changed",
    "overload",
    "error",
)
Phase = Literal["starting", "running", "stopping"]
# A parent that says nothing for this long hangs.
STALE_SECONDS = 10.0


class Queue(NamedTuple):
    """How full a queue is.

    Attributes:
        depth: What waits in it, 0 or more.
        capacity: What it can hold.
    """

    depth: int
    capacity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What became of the events for webhooks, all receivers together; totals since the start of this process.

    Attributes:
        waiting: Deliveries that have not succeeded yet; one event for two receivers counts twice.
        waiting_bytes: What they take in the spool.
        delivered: That the receiver acknowledged.
        failed_attempts: Deliveries that will be, or would have been, tried again.
        dropped: Reason (see :data:`vidmod.live.telling.spool.DROP_REASONS`) to deliveries that are given up.
    """

    waiting: int = 0
    waiting_bytes: int = 0
    delivered: int = 0
    failed_attempts: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _freeze(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """A live filter at one moment. Totals are since the start of the parent process, and never go down.

    Attributes:
        name: What the filter is called.
        started_time: When it started, in seconds since 1970.
        uptime_seconds: Since then.
        phase: Whether it is starting, running or stopping.
        source_connected, server_connected: Whether the two ends are there.
        source_gone_seconds, server_gone_seconds: Since when not; None while they are, or before the first time.
        frames_in: Pictures decoded.
        frames_analysed: Pictures that the models have seen.
        frames_out: Pictures that left, covered or not, slates included.
        frames_covered: Of these, covered whole.
        frames_masked: Of these, covered in part.
        frames_dropped: Place (`source`, `analysis`, `output`) to pictures that never left.
        fps_in, fps_analysed, fps_out: Pictures a second, of the last seconds.
        covered_share: Of the last seconds, 0 to 1.
        delay_seconds: From the arrival of a picture to its leaving; None before the first.
        target_delay_seconds: What that is when nothing is late.
        analysis_age_seconds: Since the last picture was analysed; None before the first.
        min_analysis_fps: Fewer are too few.
        overload_level: 0 for none; each step gives up more.
        cover_reasons: Why the whole picture is covered now, of :data:`COVER_REASONS`; empty if it is not.
        shadow: Whether it only reports and never covers.
        reconnects: `source` or `server` to how often they came back.
        restarts: Process to how often it was started again.
        spares: Process to whether another one waits to take its place.
        heartbeats: Process to the seconds since it last said that it lives.
        heartbeat_limit_seconds: A process that is silent for longer hangs.
        queues: Name to depth and capacity.
        hits: Category to how many began.
        hits_now: How many go on.
        webhooks: What became of events.
        events_lost: Lines of the event log that could not be written.

    Raises:
        ValueError: A count or time is negative or not a number, or a reason is unknown.
    """

    name: str
    started_time: float = 0.0
    uptime_seconds: float = 0.0
    phase: Phase = "starting"
    source_connected: bool = False
    server_connected: bool = False
    source_gone_seconds: float | None = None
    server_gone_seconds: float | None = None
    frames_in: int = 0
    frames_analysed: int = 0
    frames_out: int = 0
    frames_covered: int = 0
    frames_masked: int = 0
    frames_dropped: Mapping[str, int] = field(default_factory=dict)
    fps_in: float = 0.0
    fps_analysed: float = 0.0
    fps_out: float = 0.0
    covered_share: float = 0.0
    delay_seconds: float | None = None
    target_delay_seconds: float = 1.45
    analysis_age_seconds: float | None = None
    min_analysis_fps: float = 0.0
    overload_level: int = 0
    cover_reasons: tuple[str, ...] = ("starting",)
    shadow: bool = False
    reconnects: Mapping[str, int] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    spares: Mapping[str, bool] = field(default_factory=dict)
    heartbeats: Mapping[str, float] = field(default_factory=dict)
    heartbeat_limit_seconds: float = 5.0
    queues: Mapping[str, Queue] = field(default_factory=dict)
    hits: Mapping[str, int] = field(default_factory=dict)
    hits_now: int = 0
    webhooks: Backlog = field(default_factory=Backlog)
    events_lost: int = 0

    def __post_init__(self) -> None:
        _freeze(self)
        if unknown := set(self.cover_reasons).difference(COVER_REASONS):
            raise ValueError(f"Invalid cover_reasons ({sorted(unknown)}). Use {', '.join(COVER_REASONS)}.")
        if unknown := set(self.reconnects).difference(SIDES):
            raise ValueError(f"Invalid reconnects ({sorted(unknown)}). Use {', '.join(SIDES)}.")
        if self.covered_share > 1:
            raise ValueError(f"Invalid covered_share ({self.covered_share}). Use 0 to 1.")

    @property
    def is_covered(self) -> bool:
        """Whether the whole picture is covered now."""
        return bool(self.cover_reasons)

    @property
    def dropped(self) -> int:
        """Pictures that never left, wherever they were lost."""
        return sum(self.frames_dropped.values())

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, with `covered`."""
        return {**_plain(self), "covered": self.is_covered}


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a filter lives, and whether it does its work.

    Attributes:
        live: False if only a restart can help.
        ready: Whether a stream comes in, is analysed and goes out. A covered picture is no failure: it is
            what a filter that fails shows, and the failure has a reason of its own here.
        reasons: Why it is not both.
    """

    live: bool
    ready: bool
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"live": self.live, "ready": self.ready, "reasons": list(self.reasons)}


def health(state: LiveState | None, age_seconds: float, *, stale_seconds: float = STALE_SECONDS) -> Health:
    """Judge a snapshot.

    Args:
        state: The last one, None if there is none yet.
        age_seconds: Since it was taken; without one, since there could have been one.
        stale_seconds: One that is older is of a parent that hangs.
    """
    fatal = []
    if age_seconds > stale_seconds:
        fatal.append(f"the watching process has said nothing for {age_seconds:.1f} s")
    if state is None:
        return Health(not fatal, False, (*fatal, "starting"))
    reasons = [
        f"{name} has said nothing for {age:.1f} s"
        for name, age in sorted(state.heartbeats.items())
        if age > state.heartbeat_limit_seconds
    ]
    if state.phase != "running":
        reasons.append(state.phase)
    for side in SIDES:
        if not getattr(state, f"{side}_connected"):
            gone = getattr(state, f"{side}_gone_seconds")
            reasons.append(f"the {side} is not connected" + ("" if gone is None else f" for {gone:.1f} s"))
    if state.source_connected and _is_analysis_late(state):
        age = state.analysis_age_seconds
        reasons.append("nothing was analysed yet" if age is None else f"nothing was analysed for {age:.1f} s")
    reasons += [f"covered: {reason}" for reason in state.cover_reasons if reason in ("emergency", "overload", "error")]
    return Health(not fatal, not (fatal or reasons), (*fatal, *reasons))


def _is_analysis_late(state: LiveState) -> bool:
    if state.analysis_age_seconds is None:
        return True
    # Twice the longest time between two pictures that is still enough.
    return state.min_analysis_fps > 0 and state.analysis_age_seconds > max(1.0, 2 / state.min_analysis_fps)


def _freeze(value: Any) -> None:
    """Check the numbers of a dataclass, and make its mappings read-only copies."""
    for item in dataclasses.fields(value):
        content = getattr(value, item.name)
        numbers = [content]
        if isinstance(content, Mapping):
            object.__setattr__(value, item.name, MappingProxyType(dict(content)))
            numbers = [number for row in content.values() for number in (row if isinstance(row, tuple) else (row,))]
        for number in numbers:
            if isinstance(number, int | float) and not (math.isfinite(number) and number >= 0):
                raise ValueError(f"Invalid {item.name} ({content}). Use numbers from 0 up.")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Queue):
        return value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value
