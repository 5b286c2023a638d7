"""How a process of a live filter is started: with what it needs, and nothing that is a secret."""

from __future__ import annotations

import sys

from vidmod.workers.launcher import environment, flags

# FFmpeg goes to a proxy if these say so.
_NETWORK = ("http_proxy", "no_proxy")
# Where weights are, and which GPUs there are.
_MODELS = ("HOME", "XDG_CACHE_HOME", "VIDMOD_CACHE")
_MODEL_PREFIXES = ("CUDA_", "NVIDIA_")
_MORE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "reader": (_NETWORK, ()),
    "publisher": (_NETWORK, ()),
    "analyst": (_MODELS, _MODEL_PREFIXES),
}


def command(role: str, carrier: int, parent: int) -> list[str]:
    """The command line of :mod:`vidmod.live.processes.process`."""
    return [sys.executable, *flags(), "-m", "vidmod.live.processes.process", role, str(carrier), str(parent)]


def environment_of(role: str) -> dict[str, str]:
    """What it finds in its environment."""
    more, prefixes = _MORE.get(role, ((), ()))
    return environment(more, prefixes)
