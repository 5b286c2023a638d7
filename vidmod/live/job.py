"""The live job: starts the processes, and is what a person, a service manager and a monitor see of them.

It parses nothing of the stream, and waits for nothing but its own end.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec

from vidmod._version import __version__
from vidmod.closing import Closing
from vidmod.errors import (
    OutputError,
    SourceNotFoundError,
    SourceUnreadableError,
    UndecodableError,
    UsageError,
    VidmodError,
)
from vidmod.live.messages import Arrived, Beat, Changed, Covering, Finish, Loaded, Sight, Unusable
from vidmod.live.processes.supervisor import Supervisor
from vidmod.live.roles import Roles
from vidmod.live.settings import LiveSettings
from vidmod.live.telling import news
from vidmod.live.telling.control import Commands, ControlServer, EmergencyCover, Order, Peer, marker_path, socket_path
from vidmod.live.telling.covers import Covers
from vidmod.live.telling.events import CoverOff, CoverOn, Started, Stopped
from vidmod.live.telling.hits import Hits
from vidmod.live.telling.metrics import MetricsServer
from vidmod.live.telling.standing import Standing
from vidmod.live.telling.state import LiveState
from vidmod.live.telling.teller import Teller
from vidmod.live.times import stream_seconds
from vidmod.media.places import is_file, output_format, scheme_of, told
from vidmod.timeline import Json

DONE, FLAGGED, INTERRUPTED = 0, 3, 130
_LOOP_SECONDS, _SNAPSHOT_SECONDS = 0.02, 0.25
# For what was written to be closed well, one process after the other.
_FINISH_SECONDS = {"publisher": 10.0, "recorder": 25.0}
# After a file's last packet was read: what is under way from the reader to the filter, and from there to the publisher.
_ON_THE_WAY_SECONDS = 0.15
# A file is not begun before somebody looks at it, for so long at most.
_LOADING_SECONDS = 60.0
# A look at a picture that leaves so much sooner or later than now is none.
_LIKELY_SECONDS = 60.0
# A process that says nothing of why it ends is tried so often before the first picture has left.
_TRIALS = 3
# Who is at which end.
_SIDES = {"reader": "source", "publisher": "server"}
# An order to cover that differs by less from the one before is the same.
_SAME_SECONDS = 0.5


def run(settings: LiveSettings, *, quiet: bool = False, json_log: bool = False, debug: bool = False) -> int:
    """Filter a stream until its file ends, somebody ends it, or `on_block` does.

    Args:
        settings: How.
        quiet: Nothing on standard error but errors.
        json_log: One JSON object a line on standard error.
        debug: What processes write to standard error goes there.

    Returns:
        The exit status: 0 if a file has ended or it was asked to end, 3 if `on_block` ended it, 130 for Ctrl-C.

    Raises:
        UsageError: A setting makes no sense, or a filter of that name runs.
        SourceError: At the start, without `wait`: the source is not there, or nothing can be made of it.
        OutputError: At the start, without `wait`: the server is not there. Or what is to be written cannot be.
        VidmodError: At the start, without `wait`: a process cannot do its work.
    """
    with Live(settings, quiet=quiet, json_log=json_log, debug=debug) as live:
        return live.run()


@dataclass(slots=True)
class _Ending:
    """Why it ends, with which status, and when all that is to leave has left."""

    reason: str
    status: int
    at: float


class Live(Closing):
    """One live filter. A context manager; belongs to the main thread. See :func:`run`."""

    def __init__(self, settings: LiveSettings, *, quiet: bool, json_log: bool, debug: bool) -> None:
        self._settings = settings
        self._ending: _Ending | None = None
        self._failure: VidmodError | None = None
        # Why some of a file that is written is missing.
        self._unwritten = ""
        self._signals: list[int] = []
        self._covers = Covers()
        self._troubles: dict[str, str] = {}
        self._models: list[Json] = []
        self._missing: dict[str, str] = {}
        self._level = 0
        self._held: float | None = None
        self._snapshot_at = -math.inf
        with contextlib.ExitStack() as stack:
            self._teller = stack.enter_context(Teller(settings, quiet=quiet, json_log=json_log))
            self._roles = Roles(settings, self._teller.note)
            # Pulling weights may have taken a while.
            self._origin = time.monotonic()
            self._hits = Hits(self._roles.categories, hold_seconds=settings.hold_seconds, origin=self._origin)
            self._make_folders()
            path = socket_path(settings.name)
            self._emergency = EmergencyCover(marker_path(path))
            commands = Commands(self._emergency, self._state, self._stop, self._ordered)
            self._control = stack.enter_context(ControlServer(path, commands.carry_out))
            self._metrics = None
            if settings.metrics is not None:
                self._metrics = stack.enter_context(MetricsServer(*settings.metrics))
            self._supervisor = stack.enter_context(self._supervised(shows_errors=debug))
            self._standing = Standing(settings, self._supervisor.watched, began=self._origin, started_time=time.time())
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End the processes and all that is open; more than once is fine."""
        self._stack.close()

    def _make_folders(self) -> None:
        for folder in (self._settings.record, self._settings.seal):
            try:
                if folder is not None:
                    folder.mkdir(mode=0o700, exist_ok=True)
            except OSError as exc:
                raise OutputError(f"{folder}: cannot be made ({exc.strerror}). Name another folder.") from exc

    def _supervised(self, *, shows_errors: bool) -> Supervisor:
        roles = self._roles
        settings: dict[str, Callable[[], msgspec.Struct]] = {
            "filter": lambda: roles.filter(self._supervisor.begin),
            "analyst": roles.analyst,
            "publisher": lambda: roles.publisher(self._origin, self._supervisor.watched["publisher"].restarts + 1),
        }
        if not self._is_file:
            settings["reader"] = roles.reader
        return Supervisor(
            settings,
            notify=self._replaced,
            told=self._hear,
            silence=roles.silence,
            spares=self._settings.spares,
            shows_errors=shows_errors,
        )

    @property
    def _is_file(self) -> bool:
        return scheme_of(self._settings.source) == "file"

    # From the first moment to the last ----------------------------------------------------------

    def run(self) -> int:
        """Filter until it ends; the exit status. See :func:`vidmod.live.job.run` for what it raises."""
        reason, status = "error", VidmodError.exit_status
        try:
            with self._hearing_signals():
                self._begin()
                ending = self._work()
                reason, status = ending.reason, ending.status
                self._finish()
                self._note_unwritten(self._trouble_of("publisher"))
                if self._unwritten and status == DONE:
                    server = told(self._settings.server)
                    raise OutputError(f"{server}: is not whole. {self._unwritten.rstrip('.')}.")
        except VidmodError as exc:
            status = exc.exit_status
            raise
        finally:
            self._supervisor.close()
            self._say_goodbye(reason, status)
        return status

    def _begin(self) -> None:
        settings, source, server = self._settings, told(self._settings.source), told(self._settings.server)
        if "://" not in settings.source and not settings.wait and not Path(settings.source).exists():
            raise SourceNotFoundError(f"{source}: there is no such file. Check the path.")
        is_playlist = output_format(settings.server)[0] == "hls"
        if is_file(settings.server) and not is_playlist and Path(settings.server).exists():
            raise UsageError(f"{server}: is there already, and stays as it is. Name another file, or remove it.")
        started = Started(
            source=source,
            server=server,
            policy=self._roles.policy.name,
            delay_seconds=settings.delay_seconds,
            shadow=settings.shadow,
            vidmod=__version__,
            process=os.getpid(),
        )
        self._teller.tell(
            started, f"{source} is filtered to {server}; `vidmod live-control {settings.name}` steers it."
        )
        if self._metrics is not None:
            host, port = self._metrics.address
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._teller.note(f"Metrics at http://{place}/metrics, health at /healthz and /readyz.")
        if self._emergency.active:
            self._teller.note("The emergency cover is on, from before.")

    def _work(self) -> _Ending:
        while True:
            now = time.monotonic()
            self._supervisor.watch(now)
            self._follow(now)
            if self._failure is not None:
                raise self._failure
            if self._ending is not None and now >= self._ending.at:
                return self._ending
            self._control.poll(_LOOP_SECONDS)

    def _finish(self) -> None:
        """Have what was written closed well: first what leaves, then recordings of it."""
        self._standing.phase = "stopping"
        for role, seconds in _FINISH_SECONDS.items():
            self._supervisor.order(role, Finish())
            until = time.monotonic() + seconds
            while not self._is_finished(role) and len(self._signals) < 2 and (now := time.monotonic()) < until:
                self._supervisor.listen(now)
                self._follow(now)
                self._control.poll(_LOOP_SECONDS)

    def _is_finished(self, role: str) -> bool:
        item = self._supervisor.watched.get(role)
        if item is None or item.process is None or item.beat is None:
            return True
        return item.beat.doing in ("finished", "failed") or item.process.poll() is not None

    def _say_goodbye(self, reason: str, status: int) -> None:
        now = time.monotonic()
        self._teller.is_hurried = len(self._signals) > 1
        self._teller.hits(self._hits.end())
        for event in self._covers.end(self._seconds(now)):
            # Without words: for a person nothing is uncovered by an end, and something may never have been shown.
            self._teller.tell(event)
        state = self._state()
        stopped = Stopped(
            reason=reason,
            exit_status=status,
            uptime_seconds=state.uptime_seconds,
            frames_in=state.frames_in,
            frames_analysed=state.frames_analysed,
            frames_out=state.frames_out,
            frames_covered=state.frames_covered,
            frames_dropped=state.dropped,
        )
        words = f"{state.frames_out} pictures in {state.uptime_seconds:.0f} s, {state.frames_covered} of them covered"
        self._teller.tell(stopped, "" if reason == "error" else f"Ended ({reason.replace('_', ' ')}): {words}.")

    def _end(self, reason: str, status: int, at: float) -> None:
        """End then, if it does not end sooner."""
        if self._ending is None or at < self._ending.at:
            self._ending = _Ending(reason, status, at)

    def _stop(self) -> None:
        self._end("asked", DONE, time.monotonic())

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end it in good order; a second one at once."""

        def hear(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)

        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            # Not where it is ignored, as Ctrl-C is for a command in the background.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # What is done all the while -----------------------------------------------------------------

    def _follow(self, now: float) -> None:
        """Take in how it is, and tell what is new."""
        if self._signals:
            is_ctrl_c = self._signals[0] == signal.SIGINT
            self._end("interrupted" if is_ctrl_c else "asked", INTERRUPTED if is_ctrl_c else DONE, now)
        self._begin_late(now)
        self._hold(now)
        for side, change in self._standing.step(now):
            self._tell_side(side, change)
        self._check_ends(now)
        seconds = self._seconds(now)
        self._teller.hits(self._hits.expire(seconds))
        if self._standing.phase != "stopping":
            reasons = self._standing.cover_reasons(now, is_emergency=self._emergency.active)
            self._tell_covers(self._covers.update(reasons, seconds))
        self._tell_level()
        if now - self._snapshot_at >= _SNAPSHOT_SECONDS:
            self._snapshot_at = now
            state = self._state()
            self._teller.update(state)
            if self._metrics is not None:
                self._metrics.publish(state)

    def _begin_late(self, now: float) -> None:
        """Start what waits for others: of a file nothing is to be lost, and a recording says what looked."""
        watched = self._supervisor.watched
        analyst = watched["analyst"].beat
        is_looking = analyst is not None and analyst.doing == "looking"
        if "reader" not in watched and (is_looking or now - self._origin > _LOADING_SECONDS):
            self._supervisor.add("reader", self._roles.reader)
        is_wanted = self._settings.record is not None or self._settings.seal is not None
        if is_wanted and self._models and "recorder" not in watched:
            self._supervisor.add("recorder", lambda: self._roles.recorder(self._origin, self._models))

    def _hold(self, now: float) -> None:
        """Have the filter cover as long as people want it to."""
        left = self._emergency.seconds_left
        until = math.inf if left is None else now + left if left > 0 else None
        if until is None and self._held is None:
            return
        if until is not None and self._held is not None and abs(until - self._held) < _SAME_SECONDS:
            return
        if until == self._held:
            return  # for ever, both
        self._held = until
        self._supervisor.hold(until)

    def _state(self) -> LiveState:
        now = time.monotonic()
        return self._standing.state(
            now,
            cover_reasons=self._standing.cover_reasons(now, is_emergency=self._emergency.active),
            hits=self._hits.began,
            hits_now=len(self._hits),
            backlog=self._teller.backlog,
            events_lost=self._teller.lost,
        )

    def _seconds(self, now: float) -> float:
        return round(now - self._origin, 6)

    # Both ends, and the processes between them --------------------------------------------------

    def _check_ends(self, now: float) -> None:
        """See whether the source has ended, and what is wrong with either side."""
        watched = self._supervisor.watched
        for role in watched:
            trouble = self._trouble_of(role)
            if trouble != self._troubles.get(role, ""):
                self._troubles[role] = trouble
                if trouble:
                    self._tell_trouble(role, trouble)
        reader = watched.get("reader")
        if reader is None or reader.beat is None or reader.beat.doing != "ended":
            return
        if self._ending is None:
            self._end("source_ended", DONE, now + self._settings.latency_seconds + _ON_THE_WAY_SECONDS)
        if now >= self._ending_at and not self._standing.frames_in:
            source = told(self._settings.source)
            self._failure = UndecodableError(f"{source}: not one picture of it can be decoded. Check it with ffprobe.")

    def _trouble_of(self, role: str) -> str:
        item = self._supervisor.watched.get(role)
        return "" if item is None or item.beat is None else self._teller.clean(item.beat.trouble)

    @property
    def _ending_at(self) -> float:
        return math.inf if self._ending is None else self._ending.at

    def _tell_trouble(self, role: str, trouble: str) -> None:
        side = _SIDES.get(role)
        if side is None:
            self._teller.note(trouble)
        elif not self._standing.connections(side):
            if self._settings.wait:
                self._teller.note(f"Waiting for the {side}: {trouble}")
            error = SourceUnreadableError if side == "source" else OutputError
            self._fail(error(f"{trouble} With --wait it is waited for."))

    def _fail(self, failure: VidmodError) -> None:
        """End with this error, if nothing has left yet and nobody is to wait."""
        if not self._settings.wait and self._failure is None and not self._standing.frames_out:
            self._failure = failure

    def _tell_side(self, side: str, change: str) -> None:
        item = self._supervisor.watched[next(role for role, name in _SIDES.items() if name == side)]
        if change == "back":
            absence = getattr(self._standing, side).absence
            self._teller.tell(*news.back(side, absence))
        elif change == "first" and side == "server":
            self._teller.note(f"Connected to {told(self._settings.server)}.")
        elif change == "lost" and (item.beat is None or item.beat.doing not in ("ended", "finished")):
            why = self._teller.clean(item.why) if item.beat is None else self._trouble_of(item.role)
            why = why or "nobody says why."
            self._teller.tell(*news.lost(side, why))
            if side == "server":
                self._note_unwritten(why)

    def _note_unwritten(self, why: str) -> None:
        if is_file(self._settings.server):
            self._unwritten = self._unwritten or why

    def _replaced(self, role: str, why: str) -> None:
        """A process ended or stood still, and will be started again."""
        item = self._supervisor.watched[role]
        self._teller.tell(*news.replaced(role, self._teller.clean(why), item.restarts + 1))
        said = self._teller.clean(item.failure)
        if said and item.status == UsageError.exit_status:
            self._fail(UsageError(said))
        elif role == "reader" and not self._standing.connections("source"):
            source = told(self._settings.source)
            self._fail(SourceUnreadableError(said or f"{source}: cannot be read. What reads it {why}."))
        elif role == "publisher" and not self._standing.connections("server"):
            server = told(self._settings.server)
            self._fail(OutputError(said or f"{server}: cannot be written to. What writes it {why}."))
        elif said or item.restarts + 1 >= _TRIALS:
            self._fail(VidmodError(said or f"The {role} {why}, {item.restarts + 1} times. Use `vidmod --debug live`."))

    # What the processes say ---------------------------------------------------------------------

    def _hear(self, role: str, message: object) -> None:
        if isinstance(message, Beat):
            self._standing.beat(role, message)
            self._tell_exposed(role, message)
        elif role == "analyst" and isinstance(message, Loaded):
            if message.models != self._models:
                self._models = message.models
                self._teller.note(news.looks(message))
        elif role == "filter":
            self._hear_filter(message)

    def _tell_exposed(self, role: str, beat: Beat) -> None:
        """Say it once of each process if layers of its enclosure are not on this machine."""
        missing = news.missing(beat.layers)
        if beat.doing != "failed" and missing != self._missing.setdefault(role, ""):
            self._missing[role] = missing
            if missing:
                self._teller.note(news.exposed(role, beat.layers))

    def _hear_filter(self, message: object) -> None:
        """What decodes a stranger's pictures is not believed what makes no sense."""
        match message:
            case Sight():
                seconds = stream_seconds(message.pts, self._origin)
                if abs(seconds - self._seconds(time.monotonic())) < _LIKELY_SECONDS:
                    with contextlib.suppress(ValueError):
                        self._teller.hits(self._hits.see(message))
            case Covering():
                self._standing.covering(message)
                if message.reason == "hit" and self._settings.on_block == "end" and not self._settings.shadow:
                    self._end("blocked", FLAGGED, time.monotonic())
            case Arrived():
                self._teller.tell(*news.arrived(message))
            case Changed():
                self._teller.tell(*news.changed(message))
            case Unusable():
                self._teller.note(f"Nothing can be made of the source: {message.why}")
                if not self._standing.frames_in:
                    self._fail(UndecodableError(f"{told(self._settings.source)}: {self._teller.clean(message.why)}"))

    def _tell_covers(self, events: Sequence[CoverOn | CoverOff]) -> None:
        for event in events:
            self._teller.tell(*news.covered(event))

    def _tell_level(self) -> None:
        if self._standing.level != self._level:
            self._level = self._standing.level
            self._teller.tell(*news.overload(self._level))

    def _ordered(self, order: Order, peer: Peer) -> None:
        self._teller.tell(*news.ordered(order, peer))
