"""How a live filter stands, made of what its processes say: one snapshot for all that is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vidmod.live.messages import Beat, Covering
from vidmod.live.processes.supervisor import Watched
from vidmod.live.processes.wire import MOST_WAITING
from vidmod.live.settings import LiveSettings
from vidmod.live.telling.state import COVER_REASONS, Backlog, LiveState, Phase, Queue
from vidmod.live.telling.tally import Side, Tally

# What the filter covers, of its own accord and because of what was seen or not.
_COVERED, _FOUND = (
    ("filter.held", "filter.filled", "publisher.covers"),
    ("filter.found", "filter.unclear", "filter.unseen"),
)
# Pictures of the source that have left, one way or another.
_LEFT = ("filter.shown", "filter.held", *_FOUND)
# What a shadow covers, too: there is nothing to show, or it was told to.
_EVEN_IN_SHADOW = ("starting", "emergency", "source_lost", "error")
_SIDES = {"source": ("reader", "reading"), "server": ("publisher", "publishing")}
_QUEUES = {"packets": "reader", "leaving": "filter", "clean": "publisher"}
# What a filter says of its delay that makes no sense is not shown.
_LONGEST_DELAY_SECONDS = 1000.0


class Standing:
    """Keeps count. Knows no time but what it is told; `now` is always the shared clock.

    Args:
        settings: How the stream is filtered.
        watched: Role to process, as the one that watches knows it.
        began: The shared clock when it began.
        started_time: The time then, in seconds since 1970.

    Attributes:
        phase: Whether it is starting, running or stopping.
        source, server: The two ends.
    """

    def __init__(
        self, settings: LiveSettings, watched: Mapping[str, Watched], *, began: float, started_time: float
    ) -> None:
        self.phase: Phase = "starting"
        self.source, self.server = Side(), Side()
        self._settings, self._watched = settings, watched
        self._began, self._started_time = began, started_time
        self._tally = Tally()
        self._covering = ""
        self._has_looked = False
        self._looked, self._looked_at = 0, -math.inf

    # What is told -------------------------------------------------------------------------------

    def beat(self, role: str, beat: Beat) -> None:
        """A process lives."""
        self._tally.hear(role, self._watched[role].restarts, beat)

    def covering(self, message: Covering) -> None:
        """The filter covers everything from now on, or no longer."""
        self._covering = message.reason if message.reason in COVER_REASONS else ""

    def step(self, now: float) -> list[tuple[str, str]]:
        """Take in how it is now; what became of `source` and `server`: `first`, `lost` or `back`."""
        self._tally.step(now)
        if (looked := self._tally.total("filter.looked")) > self._looked:
            self._looked, self._looked_at = looked, now
        self._has_looked |= self._is_doing("analyst", "looking")
        if self.phase == "starting" and self.frames_out:
            self.phase = "running"
        sides = {"source": self.source, "server": self.server}
        changes = [(name, side.update(self._is_doing(*_SIDES[name]), now)) for name, side in sides.items()]
        return [row for row in changes if row[1]]

    # What is known ------------------------------------------------------------------------------

    @property
    def frames_in(self) -> int:
        """Pictures decoded."""
        return self._tally.total("filter.decoded")

    @property
    def frames_out(self) -> int:
        """Pictures that have left."""
        return self._tally.total("publisher.pictures")

    def connections(self, side: str) -> int:
        """How often `source` or `server` was there."""
        return self._tally.total(f"{_SIDES[side][0]}.connections")

    @property
    def level(self) -> int:
        """Of overload."""
        beat = self._beat("filter")
        return 0 if beat is None else max(0, beat.level)

    def cover_reasons(self, now: float, *, is_emergency: bool) -> tuple[str, ...]:
        """Why the whole picture is covered, of :data:`vidmod.live.telling.state.COVER_REASONS`, in that order."""
        found = {"emergency"} if is_emergency else set()
        gone = None if self._is_doing("reader", "ended") else self.source.gone_seconds(now)
        if self.phase == "starting" or not self._tally.total(*_LEFT):
            found.add("starting")
        elif self._beat("filter") is None:
            found.add("error")
        elif self._covering == "not_analysed" and not self._is_doing("analyst", "looking"):
            found.add("analysis_lost" if self._has_looked else "starting")
        elif self._covering:
            found.add(self._covering)
        if gone is not None and gone > self._settings.latency_seconds and "starting" not in found:
            found.add("source_lost")
        if not is_emergency:
            found.discard("emergency")  # of pictures that were under way
        if self._settings.shadow:
            found.intersection_update(_EVEN_IN_SHADOW)
        return tuple(reason for reason in COVER_REASONS if reason in found)

    def state(
        self,
        now: float,
        *,
        cover_reasons: tuple[str, ...],
        hits: Mapping[str, int],
        hits_now: int,
        backlog: Backlog,
        events_lost: int,
    ) -> LiveState:
        """The snapshot."""
        settings, total = self._settings, self._tally.total
        covers = _COVERED if settings.shadow else _COVERED + _FOUND
        out, beat = self.frames_out, self._beat("filter")
        delay = None if beat is None else beat.delay
        return LiveState(
            name=settings.name,
            started_time=self._started_time,
            uptime_seconds=max(0.0, now - self._began),
            phase=self.phase,
            source_connected=self.source.is_connected,
            server_connected=self.server.is_connected,
            source_gone_seconds=self.source.gone_seconds(now),
            server_gone_seconds=self.server.gone_seconds(now),
            frames_in=self.frames_in,
            frames_analysed=total("filter.looked"),
            frames_out=out,
            # What was covered while there was no server has not left.
            frames_covered=min(out, total(*covers)),
            frames_masked=0 if settings.shadow else min(out, total("filter.boxed")),
            frames_dropped={"source": total("filter.damaged", "filter.late"), "output": total("publisher.dropped")},
            fps_in=self._tally.rate("filter.decoded"),
            fps_analysed=self._tally.rate("filter.looked"),
            fps_out=self._tally.rate("publisher.pictures"),
            covered_share=min(1.0, self._tally.grown(*covers) / max(1, self._tally.grown("publisher.pictures"))),
            delay_seconds=delay if delay is not None and 0 <= delay < _LONGEST_DELAY_SECONDS else None,
            target_delay_seconds=settings.latency_seconds,
            analysis_age_seconds=None if self._looked_at == -math.inf else max(0.0, now - self._looked_at),
            min_analysis_fps=settings.min_analysis_fps,
            overload_level=self.level,
            cover_reasons=cover_reasons,
            shadow=settings.shadow,
            reconnects={name: max(0, self.connections(name) - 1) for name in _SIDES},
            restarts={role: max(0, item.restarts) for role, item in self._watched.items()},
            spares={role: item.is_spared for role, item in self._watched.items()},
            heartbeats={role: max(0.0, item.current.silent_seconds(now)) for role, item in self._watched.items()},
            queues={name: Queue(self._waiting(role), MOST_WAITING) for name, role in _QUEUES.items()},
            hits=hits,
            hits_now=hits_now,
            webhooks=backlog,
            events_lost=events_lost,
        )

    def _beat(self, role: str) -> Beat | None:
        return self._watched[role].beat if role in self._watched else None

    def _is_doing(self, role: str, doing: str) -> bool:
        beat = self._beat(role)
        return beat is not None and beat.doing == doing

    def _waiting(self, role: str) -> int:
        beat = self._beat(role)
        return 0 if beat is None else max(0, beat.waiting)
