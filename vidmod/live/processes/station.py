"""What every process of a live filter does beside its work: wires that come and go, heartbeats, orders.

A station is started with two sockets: the carrier, on which the process that watches hands over the ends of wires to
its neighbours, and a wire to that process itself. When a neighbour is replaced, a new end comes under the same name.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from vidmod.allocation import return_free_memory
from vidmod.live.messages import Beat, FromParent
from vidmod.live.processes.wire import Wire, WireClosedError, taken

BEAT_SECONDS = 0.2
_TRIM_SECONDS = 60.0

Settings = TypeVar("Settings", bound=msgspec.Struct)


class StationClosedError(Exception):
    """The process that watches has gone, and so must this one."""


class Enclosure(NamedTuple):
    """What a process gave up.

    Attributes:
        layers: Those that hold.
        is_outdated: Whether files that it may open have been replaced, so that it cannot see the new ones.
    """

    layers: list[str]
    is_outdated: Callable[[], bool]


class Station(Generic[Settings]):
    """The outside of one process. Belongs to one thread.

    Args:
        carrier: From which ends of wires come.
        parent: The wire to the process that watches.
        kinds: What comes on each wire, by its name.
        enclosure: Of this process; None if it is not enclosed.
    """

    def __init__(
        self,
        carrier: socket.socket,
        parent: socket.socket,
        kinds: dict[str, Any],
        enclosure: Enclosure | None = None,
    ) -> None:
        carrier.setblocking(False)
        self._enclosure = enclosure
        self._carrier = carrier
        self._kinds = kinds
        self._parent: Wire[FromParent] = Wire(parent, cast(Any, FromParent))
        self._wires: dict[str, Wire[Any]] = {}
        self._beaten = float("-inf")
        self._trimmed = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._selector.register(carrier, selectors.EVENT_READ)
        self._selector.register(self._parent, selectors.EVENT_READ)

    def beat(self, beat: Beat) -> None:
        """Say that all is well, if that was not just said.

        Raises:
            StationClosedError: There is nobody to hear it; or there is trouble, and only a new process could see that
                there need not be any.
        """
        now = time.monotonic()
        if now - self._beaten < BEAT_SECONDS:
            return
        self._beaten = now
        self.tell(beat)
        if now - self._trimmed >= _TRIM_SECONDS:
            # What was queued while the machine was busy elsewhere is gone, and its memory would stay.
            self._trimmed = now
            return_free_memory()
        # Such as the addresses of name servers, of another network than that in which it began.
        if beat.trouble and self._enclosure is not None and self._enclosure.is_outdated():
            raise StationClosedError

    def tell(self, message: object) -> None:
        """Tell the process that watches something.

        Raises:
            StationClosedError: There is nobody to hear it.
        """
        if isinstance(message, Beat) and self._enclosure is not None:
            message.layers = self._enclosure.layers
        try:
            self._parent.send(message)
        except WireClosedError as exc:
            raise StationClosedError from exc

    def send(self, name: str, message: object) -> bool:
        """Send to a neighbour; False if there is none, or if too much waits for it already."""
        wire = self._wires.get(name)
        if wire is None:
            return False
        try:
            return wire.send(message)
        except WireClosedError:
            self._lose(name)
            return False

    def has(self, name: str) -> bool:
        """Whether there is a wire to a neighbour."""
        return name in self._wires

    def waiting(self, name: str) -> int:
        """Bytes that wait to be sent to a neighbour."""
        wire = self._wires.get(name)
        return 0 if wire is None else wire.waiting

    def poll(self, seconds: float) -> list[tuple[str, Any]]:
        """What has come, by the name of its wire; at most so long is waited for it.

        An order of the process that watches comes as `parent`; a new wire as its name and None.

        Raises:
            StationClosedError: The process that watches has gone.
        """
        for name, wire in list(self._wires.items()):
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wire.waiting else 0)
            self._selector.modify(wire, events, name)
        rows: list[tuple[str, Any]] = []
        for key, events in self._selector.select(max(0.0, seconds)):
            if key.fileobj is self._carrier:
                rows += self._taken()
            elif key.fileobj is self._parent:
                try:
                    rows += [("parent", message) for message in self._parent.receive()]
                except WireClosedError as exc:
                    raise StationClosedError from exc
            elif key.data in self._wires:
                rows += self._heard(key.data, events)
        return rows

    def _heard(self, name: str, events: int) -> list[tuple[str, Any]]:
        wire = self._wires[name]
        try:
            if events & selectors.EVENT_WRITE:
                wire.flush()
            return [(name, message) for message in wire.receive()] if events & selectors.EVENT_READ else []
        except WireClosedError:
            self._lose(name)
            return []

    def _taken(self) -> list[tuple[str, Any]]:
        try:
            found = taken(self._carrier)
        except WireClosedError as exc:
            raise StationClosedError from exc
        if found is None or found[0] not in self._kinds:
            return []
        name, end = found
        self._lose(name)
        wire: Wire[Any] = Wire(end, self._kinds[name])
        self._wires[name] = wire
        self._selector.register(wire, selectors.EVENT_READ, name)
        return [(name, None)]

    def _lose(self, name: str) -> None:
        wire = self._wires.pop(name, None)
        if wire is not None:
            self._selector.unregister(wire)
            wire.close()
