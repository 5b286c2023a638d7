"""Importing this loads all of PyAV, and what NumPy loads only when it is asked for something rare.

PyAV loads the rest of itself when it first meets a stream of a kind; an enclosed worker cannot load anything.
"""

from __future__ import annotations

import importlib
import pkgutil

import av
import numpy.ma as _masked  # noqa: F401

for _module in pkgutil.walk_packages(av.__path__, "av."):
    if _module.name != "av.__main__":
        importlib.import_module(_module.name)
