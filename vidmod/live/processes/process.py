"""Where a process of a live filter begins: `python -m vidmod.live.processes.process ROLE CARRIER PARENT`.

The two numbers are descriptors that it was started with; its settings are the first that comes to it. Before anything
of a stranger's does, it gives up for ever what it does not need: see `reach`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
from typing import Any

import msgspec

from vidmod.containment import enclose
from vidmod.errors import VidmodError
from vidmod.live.messages import (
    AnalystSettings,
    Beat,
    FilterSettings,
    PublisherSettings,
    ReaderSettings,
    RecorderSettings,
)
from vidmod.live.processes.reach import reach_of
from vidmod.live.processes.station import Enclosure, Station, StationClosedError

# By role: the module that does it, the type of its settings, and how much it yields to the others.
ROLES: dict[str, tuple[str, type[Any], int]] = {
    "reader": ("vidmod.live.processes.reader", ReaderSettings, 0),
    "filter": ("vidmod.live.processes.filter", FilterSettings, 0),
    "analyst": ("vidmod.live.processes.analyst", AnalystSettings, 5),
    "publisher": ("vidmod.live.processes.publisher", PublisherSettings, 0),
    "recorder": ("vidmod.live.processes.recorder", RecorderSettings, 5),
}
_MOST_SETTINGS = 1 << 20


def main(arguments: list[str]) -> int:
    """Run one role until the process that watches has gone."""
    role, carrier, parent = arguments
    # Ctrl-C is for the process that watches, which ends this one; and so is what a service manager tells all at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    name, settings_type, niceness = ROLES[role]
    os.nice(niceness)
    module = importlib.import_module(name)
    if role == "filter":
        importlib.import_module("vidmod.live.processes.rehearsal").rehearse()
    carrying = socket.socket(fileno=int(carrier))
    # A spare waits here until it is needed, with everything imported.
    if not (said := carrying.recv(_MOST_SETTINGS)):
        return 0
    settings = msgspec.msgpack.decode(said, type=settings_type)
    watching = socket.socket(fileno=int(parent))
    try:
        enclosure = _enclosed(role, settings, {carrying.fileno(), watching.fileno(), 2})
    except VidmodError as exc:
        return _failed(Station(carrying, watching, {}), exc)
    station: Station[Any] = Station(carrying, watching, module.KINDS, enclosure)
    try:
        module.run(station, settings)
    except StationClosedError:
        return 0
    except VidmodError as exc:
        return _failed(station, exc)
    return 1


def _enclosed(role: str, settings: Any, keep: set[int]) -> Enclosure:
    """Give up what this role does not need."""
    reach = reach_of(role, settings)
    marks = reach.grants.marks()
    layers = enclose(reach.limits, keep=keep, free=reach.descriptors, grants=reach.grants, only=reach.layers)
    return Enclosure(layers, lambda: reach.grants.marks() != marks)


def _failed(station: Station[Any], exc: VidmodError) -> int:
    """Say why it ends, and give its exit status."""
    with contextlib.suppress(StationClosedError):
        station.tell(Beat("failed", trouble=str(exc)))
    return exc.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
