"""Whom a live filter tells: the event log, whoever reads standard error, and receivers of webhooks."""

from __future__ import annotations

import contextlib

from vidmod.closing import Closing
from vidmod.live.settings import LiveSettings
from vidmod.live.telling import news
from vidmod.live.telling.events import Event, EventsLost, HitBegan, HitBlocked, HitEnded, Note, Scribe
from vidmod.live.telling.hits import HitEvent
from vidmod.live.telling.state import Backlog, LiveState
from vidmod.live.telling.status import StatusLine, choose_style, columns_of
from vidmod.live.telling.webhooks import Secret, Target, Webhooks
from vidmod.live.telling.writing import DescriptorSink, EventLog, FileSink, LineWriter
from vidmod.media.places import told

_STDERR = 2
# For the last events of a filter that ends.
_DELIVERY_SECONDS = 3.0


class Teller(Closing):
    """Tells everybody. Never waits, but when it is closed.

    Args:
        settings: Who wants to be told.
        quiet: Nothing on standard error but errors.
        json_log: One JSON object a line on standard error.

    Attributes:
        is_hurried: Whether closing waits for nobody.

    Raises:
        UsageError: There is no such secret, or a webhook makes no sense.
        OutputError: A file cannot be written.
    """

    def __init__(self, settings: LiveSettings, *, quiet: bool, json_log: bool) -> None:
        self.is_hurried = False
        self._urls = {url: told(url) for url in (settings.source, settings.server, *settings.webhooks)}
        self._lost: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            self._webhooks = self._receivers(settings)
            if self._webhooks is not None:
                stack.callback(self._webhooks.close)
            self._log = None
            if settings.events is not None:
                writer = LineWriter(FileSink(settings.events), name="events")
                self._log = stack.enter_context(EventLog(Scribe(settings.name), writer))
            self._status = stack.enter_context(
                StatusLine(
                    LineWriter(DescriptorSink(_STDERR), name="status"),
                    choose_style(quiet=quiet, json_log=json_log),
                    Scribe(settings.name),
                    columns=columns_of,
                )
            )
            self._stack = stack.pop_all()

    @staticmethod
    def _receivers(settings: LiveSettings) -> Webhooks | None:
        if not settings.webhooks or settings.webhook_secret is None:
            return None
        secret = Secret.read(settings.webhook_secret)
        targets = [Target(url, secret) for url in settings.webhooks]
        return Webhooks(settings.name, targets, settings.webhook_spool)

    def tell(self, event: Event, text: str = "", *, error: bool = False) -> None:
        """Tell of an event.

        Args:
            text: For a person; nothing if it is empty.
            error: Whether that is for who wants to hear of errors only, too.
        """
        if self._log is not None:
            self._log.tell(event)
        self._status.event(event)
        if text:
            self._status.note(text, error=error)
        if self._webhooks is not None and isinstance(event, HitBegan | HitBlocked | HitEnded):
            self._webhooks.post(event)

    def note(self, text: str) -> None:
        """Tell what is no event of its own."""
        shown = self.clean(text)
        self.tell(Note(message=shown), shown)

    def hits(self, events: list[HitEvent]) -> None:
        """Tell of hits."""
        for event in events:
            self.tell(*news.hit(event))

    def clean(self, text: str) -> str:
        """What somebody said, without the secrets in URLs."""
        for url, shown in self._urls.items():
            text = text.replace(url, shown)
        return text

    def update(self, state: LiveState) -> None:
        """Show how it is, and tell what senders of webhooks have to say."""
        self._status.update(state)
        if self._webhooks is None:
            return
        for text in self._webhooks.take_notes():
            self.note(text)
        for reason, count in self._webhooks.backlog().dropped.items():
            if count > (before := self._lost.get(reason, 0)):
                self._lost[reason] = count
                lost = EventsLost(where="webhooks", reason=reason, count=count - before)
                self.tell(lost, f"{count - before} webhook deliveries were given up ({reason}).")

    @property
    def backlog(self) -> Backlog:
        """What became of webhooks."""
        return Backlog() if self._webhooks is None else self._webhooks.backlog()

    @property
    def lost(self) -> int:
        """Events that could not be logged."""
        return 0 if self._log is None else self._log.lost

    def close(self) -> None:
        """Write and deliver what waits, as far as that goes quickly, and end."""
        if self._webhooks is not None and not self.is_hurried:
            self._webhooks.flush(_DELIVERY_SECONDS)
        self._stack.close()
