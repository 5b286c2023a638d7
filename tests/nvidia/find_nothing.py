"""Run in a process of its own: what `driver.py` says where there is no driver, over the real cuda-bindings."""

from __future__ import annotations

import json
import sys

from vidmod.errors import RuntimeUnavailableError
from vidmod.models.cuda.driver import Device, device_count


def message() -> str:
    """The error's text."""
    try:
        Device().close()
    except RuntimeUnavailableError as exc:
        return str(exc)
    return ""


if __name__ == "__main__":
    json.dump({"count": device_count(), "error": message()}, sys.stdout)
