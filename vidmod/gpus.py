"""What a scan needs that decodes on a GPU: kernels for it, and workers that may reach it; tried before the first file.

A worker that decodes on a GPU is enclosed like any other but for what the GPU's driver asks of it: it may read the
system's libraries and what the driver tells of itself, open the driver's device nodes, and have more files open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidmod.containment import Grants, libraries
from vidmod.errors import RuntimeUnavailableError
from vidmod.messages import Failed, GpuSettings, ReadingSettings, ReplyType, TrialTask, Tried, decode, encode
from vidmod.models.manifest import Preparation
from vidmod.workers import Ended, Message, Pool

# Each context opens dozens of the driver's files.
DESCRIPTORS = 512
# What the driver reads, beside the libraries; the second is where some machines mount the driver.
_DRIVER = ("/proc/driver/nvidia", "/usr/local/nvidia", "/proc/modules", "/proc/devices", "/proc/self", "/sys/module")
_TRIAL_SECONDS = 60.0
# Levels of 255. On x86 the kernels and swscale do not differ at all; elsewhere swscale may round in other places.
MOST_MEAN, MOST = 1.5, 8.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that has passed the trial.

    Attributes:
        settings: For workers.
        grants: What workers may reach.
    """

    settings: GpuSettings
    grants: Grants


def modules() -> tuple[str, ...]:
    """What workers for a GPU import before they are enclosed: NVIDIA's packages look for libraries and for folders."""
    from vidmod.models.cuda.driver import bindings

    try:
        bindings()
    except RuntimeUnavailableError:
        return ()  # `open_gpu` says what is missing
    return ("cuda.bindings.driver", "cuda.bindings.nvrtc", "vidmod.models.cuda.trial")


def grants() -> Grants:
    """What a process may reach that works on a GPU."""
    more = [*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(":"), sys.prefix, sys.base_prefix, *_DRIVER]
    nodes = (*Path("/dev").glob("nvidia*"), *Path("/dev/nvidia-caps").glob("*"))
    return Grants(
        readable=libraries(entry for entry in more if entry.startswith("/")),
        devices=tuple(node for node in nodes if not node.is_dir()),
    )


def open_gpu(number: int, pool: Pool, preparations: Sequence[Preparation]) -> Gpu:
    """Compile the kernels for a GPU, and try them in a worker.

    Args:
        number: Which GPU, from 0.
        pool: Of workers that read; nobody else is at work in it.
        preparations: What the models need.

    Raises:
        RuntimeUnavailableError: Pictures cannot be decoded and prepared there.
    """
    from vidmod.models.cuda.preparing import kernels_for

    try:
        kernels = kernels_for(number)
    except RuntimeUnavailableError as exc:
        raise RuntimeUnavailableError(f"cuda:{number} cannot decode: {exc} Or use --decoder cpu.") from exc
    gpu = Gpu(GpuSettings(number=number, kernels=kernels), grants())
    tried = _try(gpu, pool, preparations)
    if tried.mean > MOST_MEAN or tried.most > MOST:
        raise RuntimeUnavailableError(
            f"cuda:{number} prepares pictures otherwise than the CPU does: by {tried.mean:.2f} levels of 255 on "
            f"average, and by {tried.most:.1f} at most. Use --decoder cpu, and report this."
        )
    return gpu


def _try(gpu: Gpu, pool: Pool, preparations: Sequence[Preparation]) -> Tried:
    settings = ReadingSettings(
        name="a trial", max_pixels=1, max_streams=1, preparations=list(preparations), gpu=gpu.settings
    )
    source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        worker = pool.fork(source, encode(settings), slots=0, slot_bytes=0, grants=gpu.grants, descriptors=DESCRIPTORS)
    finally:
        os.close(source)
    worker.send(encode(TrialTask()))
    worker.expect(_TRIAL_SECONDS)
    answer: Tried | str | None = None
    while answer is None:
        for event in pool.poll(1.0):
            answer = answer or _understood(event)
    worker.kill("the trial is over")
    if isinstance(answer, str):
        raise RuntimeUnavailableError(f"cuda:{gpu.settings.number} cannot decode: {answer} Use --decoder cpu.")
    return answer


def _understood(event: Message | Ended) -> Tried | str:
    if isinstance(event, Ended):
        return f"the process that was to was {event.detail}."
    reply = decode(event.payload, ReplyType)
    if isinstance(reply, Tried):
        return reply
    return reply.message if isinstance(reply, Failed) else "it answers what it was not asked."
