"""Run in a process of its own: what a real module of NVIDIA's has, as JSON.

For each name: `null` where there is no such thing, else its documentation (in which the bindings give a signature), the
values of its members if it is an enumeration, and the names of its attributes.
"""

from __future__ import annotations

import importlib
import json
import sys
from enum import Enum
from typing import Any


def shown(thing: Any) -> dict[str, Any]:
    """What there is to know of one thing."""
    return {"doc": str(thing.__doc__ or ""), "members": _members(thing), "names": sorted(dir(thing))}


def _members(thing: Any) -> dict[str, int]:
    members = getattr(thing, "__members__", None)
    if members is None and isinstance(thing, type) and issubclass(thing, Enum):
        members = {member.name: member for member in thing}
    return {} if members is None else {name: int(value) for name, value in dict(members).items()}


def find(module: str, name: str) -> Any:
    """A module's attribute by its dotted name, None if it has none."""
    thing: Any = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(thing, part):
            return None
        thing = getattr(thing, part)
    return shown(thing)


if __name__ == "__main__":
    json.dump({name: find(sys.argv[1], name) for name in sys.argv[2:]}, sys.stdout)
