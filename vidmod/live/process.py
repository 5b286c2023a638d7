"""Where a process of a live filter begins: `python -m vidmod.live.process ROLE CARRIER PARENT`.

The two numbers are descriptors that it was started with; its settings are the first that comes to it. Before anything
of a stranger's does, it gives up for ever what it does not need: see `reach`.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from typing import Any

import msgspec

from vidmod.containment import enclose
from vidmod.live.messages import AnalystSettings, FilterSettings, PublisherSettings, ReaderSettings, RecorderSettings
from vidmod.live.reach import reach_of
from vidmod.live.station import Enclosure, Station, StationClosedError

# By role: the module that does it, the type of its settings, and how much it yields to the others.
ROLES: dict[str, tuple[str, type[Any], int]] = {
    "reader": ("vidmod.live.reader", ReaderSettings, 0),
    "filter": ("vidmod.live.filter", FilterSettings, 0),
    "analyst": ("vidmod.live.analyst", AnalystSettings, 5),
    "publisher": ("vidmod.live.publisher", PublisherSettings, 0),
    "recorder": ("vidmod.live.recorder", RecorderSettings, 5),
}
_MOST_SETTINGS = 1 << 20


def main(arguments: list[str]) -> int:
    """Run one role until the process that watches has gone."""
    role, carrier, parent = arguments
    # Ctrl-C is for the process that watches, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name, settings_type, niceness = ROLES[role]
    os.nice(niceness)
    module = importlib.import_module(name)
    if role == "filter":
        importlib.import_module("vidmod.live.rehearsal").rehearse()
    carrying = socket.socket(fileno=int(carrier))
    settings = msgspec.msgpack.decode(carrying.recv(_MOST_SETTINGS), type=settings_type)
    reach = reach_of(role, settings)
    marks = reach.grants.marks()
    layers = enclose(
        reach.limits,
        keep={carrying.fileno(), int(parent), 2},
        free=reach.descriptors,
        grants=reach.grants,
        only=reach.layers,
    )
    enclosure = Enclosure(layers, lambda: reach.grants.marks() != marks)
    station: Station[Any] = Station(carrying, socket.socket(fileno=int(parent)), module.KINDS, enclosure)
    try:
        module.run(station, settings)
    except StationClosedError:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
