"""Where a process of a live filter begins: `python -m vidmod.live.process ROLE CARRIER PARENT`.

The two numbers are descriptors that it was started with; its settings are the first that comes to it.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from typing import Any

import msgspec

from vidmod.live.messages import AnalystSettings, FilterSettings, PublisherSettings, ReaderSettings, RecorderSettings
from vidmod.live.station import Station, StationClosedError

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
    carrying = socket.socket(fileno=int(carrier))
    settings = msgspec.msgpack.decode(carrying.recv(_MOST_SETTINGS), type=settings_type)
    module = importlib.import_module(name)
    station: Station[Any] = Station(carrying, socket.socket(fileno=int(parent)), module.KINDS)
    try:
        module.run(station, settings)
    except StationClosedError:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
