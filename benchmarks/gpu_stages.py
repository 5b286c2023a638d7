"""What `gpu.py` measures, each in a process of its own: what fails, hangs or crashes there is a line of its table.

Every function here takes and gives what JSON can hold.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidmod.media.frame import Frame, GpuPicture
    from vidmod.models.cuda.preparing import GpuPreparer

# Pictures that a GPU keeps take from the few that its decoder has.
PICTURES_ON_GPU, PICTURES_ON_CPU = 4, 32
COMPARED_PICTURES = 48
WARM_UPS = 3


class NotHereError(Exception):
    """It cannot be measured on this machine."""


def facts(gpu: int) -> dict[str, Any]:
    """What this machine is."""
    from scan import machine

    from vidmod.media import codecs
    from vidmod.models import nvidia_packages

    names = {"NVIDIA driver", f"GPU cuda:{gpu}", "cuda-bindings", "tensorrt", "onnxruntime-gpu"}
    rows = {"processor": machine(), "FFmpeg": codecs.ffmpeg_versions()}
    return rows | {name: state for name, state in nvidia_packages.states() if name in names}


def film(path: str) -> dict[str, Any]:
    """What is to be decoded."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        seconds = (container.duration or 0) / av.time_base
        name, width, height = stream.codec_context.name, stream.width, stream.height
    return {"seconds": seconds, "text": f"{Path(path).name}: {width}x{height} {name}, {seconds:.1f} s"}


# Parity -----------------------------------------------------------------------------------------


def runtimes(model: str, gpu: int) -> dict[str, Any]:
    """Golden pictures through every runtime here, as `vidmod models check` does; and why others are not here."""
    from vidmod.errors import VidmodError
    from vidmod.models import Model, find
    from vidmod.models.check import _TOLERANCE, check

    manifest = find(model)
    found = [
        {
            "on": f"{row.runtime} {row.precision} {row.device}",
            "passed": row.passed,
            "text": f"scores within {row.worst:.4f} of the golden ones, of {_TOLERANCE[row.precision]:g}",
        }
        for row in check(manifest)
    ]
    missing = {}
    for runtime in ("onnxruntime", "tensorrt"):
        if not any(str(row["on"]).startswith(runtime) and "cuda" in str(row["on"]) for row in found):
            try:
                Model.load(manifest, runtime=runtime, device=f"cuda:{gpu}").close()
                missing[runtime] = "it runs, and `vidmod models check` passes it over"
            except VidmodError as exc:
                missing[runtime] = str(exc)
    return {"rows": found, "missing": missing}


def kernels_drawn(gpu: int) -> dict[str, Any]:
    """The CUDA kernels against the CPU, on pictures that are drawn and coded on the spot."""
    from vidmod.models import find

    preparer = _preparer(gpu)
    from vidmod.models.cuda.trial import differences

    manifests = [find(name).preparation for name in _models()]
    mean, most = differences(preparer, gpu, manifests)
    return _apart(mean, most, "a drawn clip")


def kernels_film(path: str, gpu: int) -> dict[str, Any]:
    """The CUDA kernels against the CPU, on the beginning of a film."""
    import numpy as np

    from vidmod.models import find
    from vidmod.models.preprocessing import prepare

    preparer, codec = _preparer(gpu), _codec(path)
    found, count = [], 0
    preparations = [find(name).preparation for name in _models()]
    for there, here in zip(_frames(path, gpu), _frames(path, None), strict=False):
        if there.pts != here.pts:
            raise RuntimeError(f"The GPU gives the picture of {there.pts} where the CPU gives that of {here.pts}.")
        count += 1
        for ours, preparation in zip(preparer.prepare(_on_gpu(there), codec), preparations, strict=True):
            found.append(np.abs(ours.image.astype(np.int16) - prepare(here, preparation).image).ravel())
        if count == COMPARED_PICTURES:
            break
    apart = np.concatenate(found)
    return _apart(float(apart.mean()), float(np.percentile(apart, 99)), f"{count} pictures of {Path(path).name}")


def _apart(mean: float, most: float, what: str) -> dict[str, Any]:
    from vidmod.gpus import MOST, MOST_MEAN

    text = f"{what}: {mean:.2f} levels of 255 apart, of {MOST_MEAN:g}; 99 % within {most:.0f}, of {MOST:g}"
    return {"passed": mean <= MOST_MEAN and most <= MOST, "text": text}


# Throughput -------------------------------------------------------------------------------------


def decode(path: str, gpu: int | None, files: int) -> dict[str, Any]:
    """Every picture of a film, and of `files` copies of it side by side; nothing is done with them."""
    if gpu is not None:
        _need(gpu)
    threads = max(1, _cores() // files)
    began = time.perf_counter()
    with ThreadPoolExecutor(files) as pool:
        counts = list(pool.map(lambda _: _decode_whole(path, gpu, threads), range(files)))
    seconds = time.perf_counter() - began
    return {"rate": sum(counts) / seconds, "text": f"{files} at once, {sum(counts)} pictures in {seconds:.2f} s"}


def _decode_whole(path: str, gpu: int | None, threads: int) -> int:
    import av

    from vidmod.media.hardware import accelerator

    count, on_cpu = 0, 0
    with av.open(path, hwaccel=None if gpu is None else accelerator(gpu)) as container:
        stream = container.streams.video[0]
        if gpu is None:
            stream.codec_context.thread_type, stream.codec_context.thread_count = "FRAME", threads
        for frame in container.decode(stream):
            count += 1
            on_cpu += frame.sw_format is None
    if gpu is not None and on_cpu:
        raise NotHereError(f"the GPU's decoder did not take {on_cpu} of {count} pictures")
    return count


def prepare(path: str, gpu: int | None, seconds: float) -> dict[str, Any]:
    """Pictures that lie decoded, on the CPU or the GPU, into the input of both models."""
    work, count, text = _preparing_on_cpu(path) if gpu is None else _preparing_on_gpu(path, gpu)
    rounds, spent = _repeated(work, seconds)
    return {"rate": rounds * count / spent, "text": f"for {' and '.join(_models())}, {text}"}


def _preparing_on_cpu(path: str) -> tuple[Callable[[], object], int, str]:
    from vidmod.models import find
    from vidmod.models.preprocessing import prepare as prepare_one

    preparations = [find(name).preparation for name in _models()]
    # A reader's pictures share what scales them, which one thread may use at a time.
    shares = [list(itertools.islice(_frames(path, None), PICTURES_ON_CPU // _cores() + 1)) for _ in range(_cores())]
    pool = ThreadPoolExecutor(_cores())

    def prepare_all(frames: list[Frame]) -> None:
        for frame, preparation in itertools.product(frames, preparations):
            prepare_one(frame, preparation)

    return lambda: list(pool.map(prepare_all, shares)), sum(map(len, shares)), f"{_cores()} threads"


def _preparing_on_gpu(path: str, gpu: int) -> tuple[Callable[[], object], int, str]:
    preparer, codec = _preparer(gpu), _codec(path)
    frames = list(itertools.islice(_frames(path, gpu), PICTURES_ON_GPU))
    pictures = [_on_gpu(frame) for frame in frames]
    return lambda: [preparer.prepare(picture, codec) for picture in pictures], len(pictures), "one stream"


def infer(runtime: str, device: str, batch: int, seconds: float) -> dict[str, Any]:
    """Both networks, one after the other, on batches that lie ready."""
    import numpy as np

    from vidmod.models import find
    from vidmod.models.runtimes import SessionRequest, select
    from vidmod.models.weights import obtain

    slowness, notes = 0.0, set()
    for manifest in map(find, _models()):
        spec = manifest.input
        request = SessionRequest(
            obtain(manifest).path, spec, manifest.output, device=device, name=manifest.name, batch=manifest.batch
        )
        session = select(runtime, device).open(request)
        images = np.random.default_rng(0).integers(0, 256, (batch, spec.height, spec.width, 3), np.uint8)
        try:
            rounds, spent = _repeated(lambda images=images, session=session: session.infer(images), seconds)  # type: ignore[misc]
        finally:
            session.close()
        slowness += spent / (rounds * batch)
        notes.add(f"{session.info.runtime} {session.info.version} {session.info.precision} on {session.info.device}")
        notes.add(session.info.note)
    return {"rate": 1 / slowness, "text": "; ".join(sorted(notes - {""}))}


def whole(path: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A scan by the library, everything started beforehand.

    Args:
        settings: `sampling` `all` looks at every picture; `uniform` at two a second, as scans do unless told otherwise.
    """
    from vidmod.scanning import Scanner, ScanSettings

    if str(settings.get("device", "")).startswith("cuda:"):
        _need(int(settings["device"].removeprefix("cuda:")))
    with Scanner(ScanSettings(fresh=True, **settings)) as scanner:
        scanner.warm_up()
        began = time.perf_counter()
        timeline = scanner.scan(path)
        seconds = time.perf_counter() - began
    ran = {f"{row['runtime']} {row['precision']} on {row['device']}" for row in timeline.provenance["models"]}
    decoding = timeline.provenance.get("decoding", {})
    if on_cpu := decoding.get("pictures_on_cpu"):
        ran.add(f"{on_cpu} pictures decoded on the CPU")
    return {
        "rate": timeline.sample_count / seconds,
        "times": timeline.source["duration_seconds"] / seconds,
        "text": f"{timeline.sample_count} pictures in {seconds:.2f} s, {timeline.status}: {', '.join(sorted(ran))}",
    }


def _repeated(work: Callable[[], object], seconds: float) -> tuple[int, float]:
    """How often it was done in about so many seconds, and in how many; a few times beforehand that do not count."""
    for _ in range(WARM_UPS):
        work()
    rounds, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds or not rounds:
        work()
        rounds += 1
    return rounds, spent


def _frames(path: str, gpu: int | None) -> Iterator[Frame]:
    from vidmod.media.facts import Medium
    from vidmod.media.reader import Reader
    from vidmod.media.source import probe

    with Reader(Medium(path, gpu=gpu), probe(Path(path)).tracks[0]) as reader:
        yield from reader.frames()


def _codec(path: str) -> str:
    from vidmod.media.source import probe

    return probe(Path(path)).tracks[0].codec


def _need(gpu: int) -> None:
    from vidmod.models import nvidia

    if trouble := nvidia.look().trouble(gpu):
        raise NotHereError(trouble)


def _on_gpu(frame: Frame) -> GpuPicture:
    if (picture := frame.on_gpu) is None:
        raise NotHereError("the GPU's decoder does not take this film")
    return picture


def _preparer(gpu: int) -> GpuPreparer:
    from vidmod.models import find
    from vidmod.models.cuda.preparing import GpuPreparer, kernels_for

    _need(gpu)
    return GpuPreparer(gpu, kernels_for(gpu), [find(name).preparation for name in _models()])


def _models() -> Sequence[str]:
    from vidmod.settings import DEFAULT_MODELS

    return DEFAULT_MODELS


def _cores() -> int:
    return len(os.sched_getaffinity(0))


STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    stage.__name__: stage
    for stage in (facts, film, runtimes, kernels_drawn, kernels_film, decode, prepare, infer, whole)
}
