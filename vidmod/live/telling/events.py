"""What happens in a live filter, as values and as JSON, one object a line: `vidmod.event/1`.

Every line has `schema`, `event`, `time` (UTC, RFC 3339, to the microsecond), `stream` (the filter's name) and
`sequence` (1, 2, 3, … in this log; a gap is lines that were lost), and then the fields of its event, which are
those of the class in :data:`EVENTS`. Fields may be added, none is renamed. A reader ignores events and fields
that it does not know.

On stderr, with --json-log, there is also `status` every 10 s: how it is, of which `state` has the fields of
:class:`vidmod.live.telling.state.LiveState`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import msgspec

from vidmod.live.telling.state import COVER_REASONS, LiveState

SCHEMA = "vidmod.event/1"
MAX_THUMBNAIL_BYTES = 32_768
MAX_LABELS = 100
_MAX_TEXT = 500


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the policy looks for, from when it was first seen.

    Attributes:
        id: Unique among all hits of all runs that share a receiver, 1 to 100 printable ASCII characters without
            spaces. Told again under the same id, it is the same hit.
        category: Of the policy.
        verdict: `review` or `block`.
        labels: Label to its best score so far, 0 to 1.
        start_seconds: Time in the stream at which it began.
        end_seconds: At which it was over; None while it goes on.
        peak: The best score of all, 0 to 1.
        thumbnail: A small blurred grey JPEG, at most 32 KiB; None without.

    Raises:
        ValueError: A field is none of that.
    """

    id: str
    category: str
    verdict: Literal["review", "block"]
    labels: dict[str, float]
    start_seconds: float
    end_seconds: float | None = None
    peak: float
    thumbnail: bytes | None = None

    def __post_init__(self) -> None:
        if not (0 < len(self.id) <= 100 and self.id.isascii() and self.id.isprintable() and " " not in self.id):
            raise ValueError(f"Invalid id ({self.id[:100]!r}). Use 1 to 100 printable characters without spaces.")
        if len(self.labels) > MAX_LABELS:
            raise ValueError(f"Invalid labels ({len(self.labels)} of them). Use at most {MAX_LABELS}.")
        for score in (self.peak, *self.labels.values()):
            if not 0 <= score <= 1:
                raise ValueError(f"Invalid score ({score}). Use 0 to 1.")
        if not math.isfinite(self.start_seconds):
            raise ValueError(f"Invalid start_seconds ({self.start_seconds}).")
        if self.end_seconds is not None and not self.start_seconds <= self.end_seconds < math.inf:
            raise ValueError(f"Invalid end_seconds ({self.end_seconds}). It is not before the start.")
        if self.thumbnail is not None and not (
            self.thumbnail.startswith(b"\xff\xd8\xff") and len(self.thumbnail) <= MAX_THUMBNAIL_BYTES
        ):
            raise ValueError(f"Invalid thumbnail ({len(self.thumbnail)} bytes). Use a JPEG of at most 32 KiB.")

    def as_json(self, *, thumbnail: bool) -> dict[str, Any]:
        """All of it as JSON values.

        Args:
            thumbnail: With it, as `{"media_type": "image/jpeg", "base64": …}` or None.
        """
        values: dict[str, Any] = msgspec.to_builtins(self)
        picture = values.pop("thumbnail")
        values |= {"start_seconds": round(self.start_seconds, 6)}
        if self.end_seconds is not None:
            values["end_seconds"] = round(self.end_seconds, 6)
        if thumbnail:
            values["thumbnail"] = None if picture is None else {"media_type": "image/jpeg", "base64": picture}
        return values


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What the events have in common: `name`, under which each is written."""

    name: ClassVar[str] = ""


class Started(Event, frozen=True, kw_only=True):
    """The filter has started.

    Attributes:
        source, server: What it reads and writes, as :func:`without_secrets` tells them.
        policy: The name of the policy.
    """

    name: ClassVar[str] = "started"
    source: str
    server: str
    policy: str
    delay_seconds: float
    shadow: bool
    vidmod: str
    process: int


class Stopped(Event, frozen=True, kw_only=True):
    """The filter ends.

    Attributes:
        reason: `asked`, `source_ended`, `error`, …
    """

    name: ClassVar[str] = "stopped"
    reason: str
    exit_status: int
    uptime_seconds: float
    frames_in: int
    frames_analysed: int
    frames_out: int
    frames_covered: int
    frames_dropped: int


class SourceConnected(Event, frozen=True, kw_only=True):
    """The first picture came, or the first after the source was back: what the stream is."""

    name: ClassVar[str] = "source_connected"
    width: int
    height: int
    rate: float
    video_codec: str
    audio_codec: str | None


class SourceLost(Event, frozen=True, kw_only=True):
    """Nothing comes in any more."""

    name: ClassVar[str] = "source_lost"
    reason: str


class SourceBack(Event, frozen=True, kw_only=True):
    """It comes in again."""

    name: ClassVar[str] = "source_back"
    gone_seconds: float


class SourceChanged(Event, frozen=True, kw_only=True):
    """The source has another size, rate or codec, or its clock jumped.

    Attributes:
        what: `size`, `rate`, `codec`, `clock`, `sound`.
        before, after: As text.
    """

    name: ClassVar[str] = "source_changed"
    what: str
    before: str
    after: str


class ServerLost(Event, frozen=True, kw_only=True):
    """Nothing can be sent any more."""

    name: ClassVar[str] = "server_lost"
    reason: str


class ServerBack(Event, frozen=True, kw_only=True):
    """It can again."""

    name: ClassVar[str] = "server_back"
    gone_seconds: float


class Overload(Event, frozen=True, kw_only=True):
    """The machine does not keep up, or does again: more or less is given up.

    Attributes:
        level: 0 if nothing is given up any more.
        action: What this step is.
    """

    name: ClassVar[str] = "overload"
    level: int
    action: str


class CoverOn(Event, frozen=True, kw_only=True):
    """From this picture on the whole picture is covered.

    Attributes:
        reason: Of :data:`vidmod.live.telling.state.COVER_REASONS`.
        at_seconds: Time in the stream; None if there is none yet.
    """

    name: ClassVar[str] = "cover_on"
    reason: str
    at_seconds: float | None

    def __post_init__(self) -> None:
        _check("reason", self.reason, COVER_REASONS)


class CoverOff(Event, frozen=True, kw_only=True):
    """This reason to cover the whole picture is no more; another may go on.

    Attributes:
        reason: Of :data:`vidmod.live.telling.state.COVER_REASONS`.
        at_seconds: Time in the stream; None if there is none.
        covered_seconds: How long it lasted.
    """

    name: ClassVar[str] = "cover_off"
    reason: str
    at_seconds: float | None
    covered_seconds: float

    def __post_init__(self) -> None:
        _check("reason", self.reason, COVER_REASONS)


class HitBegan(Event, frozen=True, kw_only=True):
    """A hit began. Its thumbnail goes to webhooks only, not to the log."""

    name: ClassVar[str] = "hit_began"
    hit: Hit


class HitBlocked(Event, frozen=True, kw_only=True):
    """A hit that began as `review` is `block` from here on. The same hit, under the same id.

    Attributes:
        at_seconds: Time in the stream of the look that made it so.
    """

    name: ClassVar[str] = "hit_blocked"
    hit: Hit
    at_seconds: float


class HitEnded(Event, frozen=True, kw_only=True):
    """A hit is over."""

    name: ClassVar[str] = "hit_ended"
    hit: Hit

    def __post_init__(self) -> None:
        if self.hit.end_seconds is None:
            raise ValueError(f"Invalid hit ({self.hit.id}). One that ended has end_seconds.")


class ProcessRestarted(Event, frozen=True, kw_only=True):
    """A process ended or hung, and was started again.

    Attributes:
        process: `reader`, `analyst`, `publisher`, …
        count: How often that happened to it.
    """

    name: ClassVar[str] = "process_restarted"
    process: str
    reason: str
    count: int


class Controlled(Event, frozen=True, kw_only=True):
    """Somebody gave an order through the control socket.

    Attributes:
        seconds: Of a cover that ends by itself.
        user, process: Whose it was: a user's and a process's number.
    """

    name: ClassVar[str] = "controlled"
    command: str
    seconds: float | None
    user: int
    process: int


class EventsLost(Event, frozen=True, kw_only=True):
    """Events did not reach the log, or a webhook.

    Attributes:
        where: `log` or `webhooks`.
        reason: Why.
        count: How many since this was last told.
    """

    name: ClassVar[str] = "events_lost"
    where: Literal["log", "webhooks"]
    reason: str
    count: int


class Note(Event, frozen=True, kw_only=True):
    """Anything else that is worth a line."""

    name: ClassVar[str] = "note"
    message: str


EVENTS: dict[str, type[Event]] = {
    kind.name: kind
    for kind in (
        Started,
        Stopped,
        SourceConnected,
        SourceLost,
        SourceBack,
        SourceChanged,
        ServerLost,
        ServerBack,
        Overload,
        CoverOn,
        CoverOff,
        HitBegan,
        HitBlocked,
        HitEnded,
        ProcessRestarted,
        Controlled,
        EventsLost,
        Note,
    )
}


class Scribe:
    """Numbers events, and writes each as one line of JSON.

    Args:
        stream: The filter's name.
        wall_clock: Seconds since 1970.
    """

    def __init__(self, stream: str, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._wall_clock = wall_clock
        self._sequence = 0

    def line(self, event: Event) -> bytes:
        """The event's line, with its line feed; without thumbnails."""
        self._sequence += 1
        return encode(self.envelope(event.name) | {"sequence": self._sequence} | fields(event)) + b"\n"

    def status(self, state: LiveState) -> bytes:
        """The line that tells how it is: an event `status` with a field `state`, which is not among the others."""
        self._sequence += 1
        return encode(self.envelope("status") | {"sequence": self._sequence, "state": state.as_json()}) + b"\n"

    def envelope(self, name: str) -> dict[str, Any]:
        """What every event of this name begins with, now."""
        return {"schema": SCHEMA, "event": name, "time": timestamp(self._wall_clock()), "stream": self._stream}


def fields(event: Event, *, thumbnail: bool = False) -> dict[str, Any]:
    """An event's own fields as JSON values; times to the microsecond."""
    values: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, Hit):
            value = value.as_json(thumbnail=thumbnail)
        values[name] = round(value, 6) if isinstance(value, float) else value
    return values


def encode(values: dict[str, Any]) -> bytes:
    """JSON on one line. What is no Unicode in a text is replaced, and a long text cut: both may be a stranger's."""
    return msgspec.json.encode(_told(values))


def timestamp(seconds: float) -> str:
    """A time of the wall clock, in UTC as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _told(value: Any) -> Any:
    if isinstance(value, str):
        text = value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "…"
        return text.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        # A thumbnail is long, and no text of a stranger's.
        return {_told(key): item if key == "base64" else _told(item) for key, item in value.items()}
    return value


def _check(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"Invalid {field} ({value!r}). Use one of {', '.join(allowed)}.")
