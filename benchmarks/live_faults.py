"""Breaks what is around and within the live filter, at random, and says how long it took until all was well again."""

from __future__ import annotations

import bisect
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]
from live_measuring import Log, Shown
from live_running import Rig, Usage

from tests.rtmp import Publisher

# After it has recovered, so much of a second's frames is to be seen.
_WELL_SHARE, _WELL_SECONDS = 0.8, 1.0
# Of a process that is slowed ten times: how long it runs and how long it stands still, over and over.
_RUNS_SECONDS, _STANDS_SECONDS = 0.01, 0.09
ROLES = ("reader", "filter", "analyst", "publisher")


@dataclass(slots=True)
class Fault:
    """Something that went wrong.

    Attributes:
        began, ended: On the clock of this machine; of a source, it has ended when the next frame is sent.
        note: How long, how much.
        is_source: Whether nothing may be sent while it lasts.
        is_server: Whether a player cannot but lose its connection.
    """

    kind: str
    began: float
    ended: float
    note: str = ""
    is_source: bool = False
    is_server: bool = False


def ended(fault: Fault, log: Log) -> float:
    """When it was over."""
    first = log.first_after(fault.ended) if fault.is_source else None
    return fault.ended if first is None else first


def recovery(fault: Fault, frames: Sequence[Shown], log: Log) -> float | None:
    """Seconds from a fault's end until a player sees what was sent after it; None if it never does.

    What counts is the first such frame after which, for a second, four fifths of all that comes are no covers. The
    delay that the filter has at all times is a part of this.

    Args:
        frames: In the order in which they came.
        log: What was sent.
    """
    end = ended(fault, log)
    times = [frame.time for frame in frames]
    for place in range(bisect.bisect_left(times, end), len(frames)):
        frame = frames[place]
        when = log.when(frame)
        if when is None or when < end:
            continue
        following = frames[place : bisect.bisect_right(times, frame.time + _WELL_SECONDS)]
        if sum(item.kind != "cover" for item in following) >= max(2, _WELL_SHARE * len(following)):
            return frame.time - end
    return None


def undisturbed(fault: Fault, seconds: float | None, others: Sequence[Fault], log: Log) -> float | None:
    """What of a recovery is left without the time in which another fault lasted: nothing recovers meanwhile.

    Args:
        seconds: What `recovery` says.
        others: All faults, which do not overlap.
    """
    if seconds is None:
        return None
    end = ended(fault, log)
    spans = [(row.began, ended(row, log)) for row in others if row is not fault]
    return seconds - sum(max(0.0, min(last, end + seconds) - max(first, end)) for first, last in spans)


@dataclass(slots=True)
class Saboteur:
    """Brings faults about, one after the other.

    Attributes:
        faults: Those that were, in order.
    """

    rig: Rig
    chance: random.Random
    faults: list[Fault] = field(default_factory=list)
    usage: Usage | None = None

    @property
    def kinds(self) -> dict[str, Callable[[], Fault]]:
        """What can go wrong, by name."""
        found: dict[str, Callable[[], Fault]] = {
            "source: killed": self._publisher_killed,
            "source: stalled": self._publisher_stalled,
            "source: swapped": self._publisher_swapped,
            "source: garbage": self._garbage,
            "source: clock ahead": self._clock_ahead,
            "source: clock back": self._clock_back,
            "source: its server killed": self._source_server_killed,
            "server: killed": self._server_killed,
            "server: stopped": self._server_stopped,
            "analyst: slowed": self._slowed,
        }
        for role in ROLES:
            found[f"{role}: killed"] = lambda role=role: self._killed(role)  # type: ignore[misc]
            found[f"{role}: stalled"] = lambda role=role: self._stalled(role)  # type: ignore[misc]
        return found

    def order(self, count: int) -> list[str]:
        """Kinds in an order by chance, each as often as the others, or once more."""
        rows: list[str] = []
        while len(rows) < count:
            turn = list(self.kinds)
            self.chance.shuffle(turn)
            rows += turn
        return rows[:count]

    def bring_about(self, kind: str) -> Fault:
        """Let something go wrong, and be mended."""
        fault = self.kinds[kind]()
        self.faults.append(fault)
        return fault

    def _wait(self, seconds: float, *, publishing: bool = True) -> None:
        if publishing:
            self.rig.wait(seconds, usage=self.usage)
        else:
            time.sleep(seconds)

    # The source ---------------------------------------------------------------------------------

    def _publisher_killed(self) -> Fault:
        seconds = self.chance.uniform(0.0, 4.0)
        began = time.monotonic()
        self.rig.publisher.kill()
        self._wait(seconds, publishing=False)
        self.rig.publisher.start()
        return Fault("source: killed", began, time.monotonic(), f"{seconds:.1f} s", is_source=True)

    def _publisher_stalled(self) -> Fault:
        seconds = self.chance.uniform(0.3, 8.0)
        began = time.monotonic()
        self.rig.publisher.stop()
        self._wait(seconds, publishing=False)
        self.rig.publisher.resume()
        return Fault("source: stalled", began, time.monotonic(), f"{seconds:.1f} s", is_source=True)

    def _publisher_swapped(self) -> Fault:
        before = self.rig.publisher
        film = self.chance.choice([film for film in self.rig.films if film.path != before.film])
        began = time.monotonic()
        before.kill()
        after = Publisher(before.url, film.path, before.log, ident=film.plan.ident)
        self.rig.publisher = after
        after.start()
        plan = film.plan
        note = f"{plan.size[0]}x{plan.size[1]}, {plan.fps} fps, {plan.profile}, {plan.sample_rate} Hz"
        return Fault("source: swapped", began, time.monotonic(), note, is_source=True)

    def _garbage(self) -> Fault:
        seconds = self.chance.uniform(0.05, 2.0)
        began = time.monotonic()
        self.rig.publisher.order("garbage", f"{seconds:.3f}")
        self._wait(seconds)
        return Fault("source: garbage", began, time.monotonic(), f"{seconds:.1f} s")

    def _clock_ahead(self) -> Fault:
        seconds = self.chance.choice([0.1, 0.7, 3.0, 60.0, 3600.0]) * self.chance.uniform(0.5, 1.5)
        began = time.monotonic()
        self.rig.publisher.order("jump", f"{seconds:.3f}")
        return Fault("source: clock ahead", began, began, f"{seconds:.1f} s")

    def _clock_back(self) -> Fault:
        began = time.monotonic()
        self.rig.publisher.order("back")
        return Fault("source: clock back", began, began + 0.05, is_source=True)

    def _source_server_killed(self) -> Fault:
        seconds = self.chance.uniform(0.1, 4.0)
        began = time.monotonic()
        self.rig.source.kill()
        self._wait(seconds, publishing=False)
        self.rig.source.start()
        return Fault("source: its server killed", began, time.monotonic(), f"{seconds:.1f} s", is_source=True)

    # The server ---------------------------------------------------------------------------------

    def _server_killed(self) -> Fault:
        seconds = self.chance.uniform(0.1, 4.0)
        began = time.monotonic()
        self.rig.server.kill()
        self._wait(seconds)
        self.rig.server.start()
        return Fault("server: killed", began, time.monotonic(), f"{seconds:.1f} s", is_server=True)

    def _server_stopped(self) -> Fault:
        seconds = self.chance.uniform(0.3, 8.0)
        began = time.monotonic()
        self.rig.server.stop()
        self._wait(seconds)
        self.rig.server.resume()
        return Fault("server: stopped", began, time.monotonic(), f"{seconds:.1f} s")

    # The filter's own processes -----------------------------------------------------------------

    def _process(self, role: str) -> psutil.Process | None:
        return self.rig.live.processes().get(role)

    def _killed(self, role: str) -> Fault:
        fault = Fault(f"{role}: killed", time.monotonic(), time.monotonic())
        with contextlib.suppress(psutil.NoSuchProcess):
            if (process := self._process(role)) is not None:
                process.kill()
        return fault

    def _stalled(self, role: str) -> Fault:
        seconds = self.chance.uniform(0.3, 8.0)
        began = time.monotonic()
        process = self._process(role)
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
            self._wait(seconds)
            # It may have been replaced by then: a number that is another process's by now is left alone.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        return Fault(f"{role}: stalled", began, time.monotonic(), f"{seconds:.1f} s")

    def _slowed(self) -> Fault:
        seconds = self.chance.uniform(3.0, 8.0)
        began = time.monotonic()
        process = None
        while time.monotonic() - began < seconds:
            try:
                process = self._process("analyst") if process is None else process
                if process is not None:
                    process.suspend()
                    time.sleep(_STANDS_SECONDS)
                    process.resume()
            except psutil.NoSuchProcess:
                process = None
            time.sleep(_RUNS_SECONDS)
        self.rig.live.check()
        return Fault("analyst: slowed", began, time.monotonic(), f"{seconds:.1f} s")


def broken_connections(gone: Sequence[tuple[float, str]], faults: Sequence[Fault]) -> list[tuple[float, str]]:
    """When a player lost its connection although its server was there all the time, and why."""
    down = [(fault.began - 0.1, fault.ended + 0.5) for fault in faults if fault.is_server]
    return [(when, why) for when, why in gone if not any(start <= when <= end for start, end in down)]
