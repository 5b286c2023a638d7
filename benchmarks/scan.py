"""How fast `vidmod scan` is, against its floor and against its peers, on one long film, in one run.

    python benchmarks/scan.py
    python benchmarks/scan.py --peers-python PEERS/bin/python --rounds 3 -o speed.json
    python benchmarks/scan.py --seconds 20 --rounds 1        to see that it works

Builds a film (1080p30 H.264, a key frame every 2 s), then times every contender in a process of its own, one
after the other, round after round: vidmod by its command line and by its library, decoding alone, inference
alone, opennsfw2's `predict_video_frames`, NudeNet on every 15th frame. The floor is decoding alone and then
inference alone, each with all cores. Nothing else should run meanwhile.

The peers live in an environment of their own (benchmarks/requirements.txt), so that their versions of numpy,
OpenCV and ONNX Runtime do not become vidmod's.
"""

# Only the standard library up here: the peers' interpreter runs this file too, and Linux counts the peak
# memory of the process that starts a contender as the contender's own.
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("opennsfw2", "nudenet")
EVERY_NTH = 15
STARTS = 5
# Inference alone goes round and round over this much of the film, prepared beforehand.
PREPARED_SECONDS = 20
FIRST_FRAME_SECONDS, HELP_SECONDS, MEMORY_MB = 2.0, 0.3, 900.0
COLUMNS = ["", "process s", "start-up s", "work s", "times real time", "CPU s", "peak MB", "count", "rounds, s"]
_CHUNK_BYTES = 1 << 22
_KIB, _MB = 1024, 1_000_000
# Seldom: to look is to hold the process up for some milliseconds.
_WATCH_SECONDS = 1.5

Work = Callable[[], int]


class Prepared(NamedTuple):
    """A contender with everything imported and loaded: what is left to do, and what it runs on."""

    work: Work
    note: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contender.

    Attributes:
        wall: Seconds from the start of the process to its end.
        startup: Seconds from the start of the process until everything was imported and loaded;
            None where that overlaps with the work.
        work: Seconds of the work itself; None where `startup` is.
        cpu: Seconds of processor time, all threads.
        peak_mb: Largest resident memory of the process and those that it started, in 10^6 bytes; what they
            share counts once. Looked at every second and a half.
        count: Frames or samples that it worked on; None if it does not say.
        note: What it ran on.
    """

    wall: float
    startup: float | None
    work: float | None
    cpu: float
    peak_mb: float
    count: int | None
    note: str

    @property
    def effort(self) -> float:
        """Seconds of the work, or of the whole process where the two cannot be told apart."""
        return self.wall if self.work is None else self.work


@dataclass(frozen=True, slots=True)
class Film:
    """The file that everything is timed on."""

    path: Path
    seconds: float


# --- the contenders: each runs in a process of its own ---


def _library(film: Path, _samples: int, **settings: Any) -> Prepared:
    from vidmod.scanning import Scanner, ScanSettings

    scanner = Scanner(ScanSettings(**settings))
    # Starts the process that starts workers, too.
    scanner.scan(ROOT / "samples" / "demo.mp4")
    running = {f"{m.info.runtime} {m.info.version} {m.info.precision}" for m in scanner.models}

    def work() -> int:
        with scanner:
            timeline = scanner.scan(film)
        if timeline.status != "complete":
            raise RuntimeError(f"{film}: {timeline.status}: {timeline.notes}")
        return timeline.sample_count

    return Prepared(work, ", ".join(sorted(running)))


def _decode(film: Path, thread_type: str, threads: int) -> Prepared:
    import av

    def work() -> int:
        with av.open(str(film)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_type = thread_type
            stream.codec_context.thread_count = threads
            return sum(1 for _ in container.decode(stream))

    count = f"{threads} threads" if threads else "as many threads as FFmpeg chooses"
    return Prepared(work, f"PyAV {av.__version__}, {count}")


def _keyframes(film: Path, samples: int) -> Prepared:
    return _library(film, samples, sampling="keyframes")


def _adaptive(film: Path, samples: int) -> Prepared:
    return _library(film, samples, sampling="adaptive")


def _decode_keys(film: Path, _samples: int) -> Prepared:
    """Key pictures alone, the quickest way that FFmpeg has."""
    import av

    def work() -> int:
        with av.open(str(film)) as container:
            stream = container.streams.video[0]
            stream.discard = av.stream.Discard.nonkey
            stream.codec_context.thread_type = "FRAME"
            stream.codec_context.thread_count = _cores()
            return sum(1 for _ in container.decode(stream))

    return Prepared(work, f"PyAV {av.__version__}, Discard.nonkey, {_cores()} threads")


def _decode_frame(film: Path, _samples: int) -> Prepared:
    return _decode(film, "FRAME", _cores())


def _decode_auto(film: Path, _samples: int) -> Prepared:
    return _decode(film, "AUTO", 0)


def _inference(film: Path, samples: int) -> Prepared:
    """The networks and nothing else: batches that lie ready, through sessions opened as a scan opens them."""
    import numpy as np

    from vidmod.models import find
    from vidmod.models.runtimes import SessionRequest, select
    from vidmod.models.weights import obtain
    from vidmod.scanning import DEFAULT_MODELS

    manifests = [find(name) for name in DEFAULT_MODELS]
    runs = []
    for manifest, images in zip(manifests, _prepared_images(film, manifests), strict=True):
        size = manifest.batch.best
        batches = [np.stack(images[at : at + size]) for at in range(0, len(images) - size + 1, size)]
        request = SessionRequest(obtain(manifest).path, manifest.input, manifest.output)
        runs.append((select("auto", "auto").open(request), batches, -(-samples // size)))

    def work() -> int:
        for session, batches, count in runs:
            for batch in itertools.islice(itertools.cycle(batches), count):
                session.infer(batch)
        return samples

    infos = [session.info for session, _, _ in runs]
    return Prepared(work, ", ".join(sorted({f"{i.runtime} {i.version} {i.precision}" for i in infos})))


def _prepared_images(film: Path, manifests: Sequence[Any]) -> list[list[Any]]:
    """For each model the images that a scan of the film's beginning would give it."""
    from fractions import Fraction

    from vidmod.media.reader import Reader
    from vidmod.media.source import probe
    from vidmod.models.preprocessing import prepare
    from vidmod.sampling import Uniform

    track = probe(film).tracks[0]
    sampler: Uniform[Any] = Uniform(Fraction(1, 2) / track.time_base)
    rows = []
    with Reader(film, track) as reader:
        for frame in reader.frames(int(PREPARED_SECONDS / track.time_base)):
            rows += [[prepare(sample, m.preparation).image for m in manifests] for sample in sampler.update(frame)]
    return [list(column) for column in zip(*rows, strict=True)]


def _opennsfw2(film: Path, _samples: int) -> Prepared:
    """Its own video function at its defaults. Random weights: they cost what trained ones cost."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import cv2
    import opennsfw2
    from opennsfw2 import _compat, _inference

    # It closes windows at the end, which OpenCV without windows refuses.
    cv2.destroyAllWindows = lambda: None
    _inference._update_global_model_if_needed(None)

    def work() -> int:
        seconds, _ = opennsfw2.predict_video_frames(str(film), weights_path=None)
        return len(seconds)

    backend = _compat.keras_backend.backend()
    versions = [_version("opennsfw2"), _version("keras"), f"{backend} {sys.modules[backend].__version__}"]
    return Prepared(work, ", ".join(versions))


def _nudenet(film: Path, _samples: int) -> Prepared:
    """Every 15th frame, as its users write it."""
    import cv2
    from nudenet import NudeDetector

    detector = NudeDetector()

    def work() -> int:
        capture = cv2.VideoCapture(str(film))
        for number in itertools.count():
            good, frame = capture.read()
            if not good:
                return number
            if number % EVERY_NTH == 0:
                detector.detect(frame)
        raise AssertionError

    return Prepared(work, ", ".join(_version(name) for name in ("nudenet", "onnxruntime", "opencv-python")))


def _version(distribution: str) -> str:
    try:
        return f"{distribution} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{distribution} of unknown version"


CONTENDERS: dict[str, Callable[[Path, int], Prepared]] = {
    "library": _library,
    "keyframes": _keyframes,
    "adaptive": _adaptive,
    "decode FRAME": _decode_frame,
    "decode AUTO": _decode_auto,
    "decode keys": _decode_keys,
    "inference": _inference,
    "inference keys": _inference,
    "opennsfw2": _opennsfw2,
    "nudenet": _nudenet,
}
TITLES = {
    "command": "`vidmod scan`, the command",
    "library": "vidmod, the library",
    "keyframes": "vidmod, the library, `keyframes`",
    "adaptive": "vidmod, the library, `adaptive`",
    "decode FRAME": "decoding alone, FRAME threads",
    "decode AUTO": "decoding alone, AUTO threads",
    "decode keys": "decoding key pictures alone",
    "inference": "inference alone, both models",
    "inference keys": "inference alone, both models, on key pictures",
    "opennsfw2": "opennsfw2.predict_video_frames",
    "nudenet": f"NudeNet on every {EVERY_NTH}th frame, cv2",
}


def _contend(name: str, film: Path, samples: int, spawned: float) -> None:
    """Inside the contender's process: prepare, work, say how long each took."""
    prepared = CONTENDERS[name](film, samples)
    ready = time.monotonic()
    count = prepared.work()
    done = time.monotonic()
    report = {"startup": ready - spawned, "work": done - ready, "count": count, "note": prepared.note}
    print(json.dumps(report), flush=True)


def _first_frame(film: Path, spawned: float) -> None:
    """Inside a process: run the command until a worker hands over its first picture, and say when that was."""
    from vidmod import cli
    from vidmod.jobs import FileJob

    heard = FileJob.heard

    def timed(self: FileJob, reply: Any, task: Any, errand: Any) -> bool:
        if type(reply).__name__ == "Seen":
            print(json.dumps(time.monotonic() - spawned), flush=True)
            # Nobody else is to be waited for; workers end with this process.
            os._exit(0)
        return heard(self, reply, task, errand)

    FileJob.heard = timed  # type: ignore[method-assign]
    sys.argv = ["vidmod", "scan", str(film), "--quiet", "--fresh"]
    cli.main()


def _make_film(path: Path, seconds: float) -> None:
    """Inside a process of its own: making a film takes more memory than scanning it."""
    sys.path.insert(0, str(ROOT))
    from samples.make_samples import make_long, truth_path

    part = path.with_name(f"part-{os.getpid()}-{path.name}")
    make_long(part, seconds=seconds)
    truth_path(part).unlink()
    part.replace(path)


# --- starting and measuring them ---


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def own_command(action: str, *arguments: object, python: str = sys.executable) -> list[str]:
    """The command that runs one of this file's hidden actions in a new process."""
    return [python, str(Path(__file__).resolve()), "--do", action, *map(str, arguments)]


def vidmod_command(*arguments: object) -> list[str]:
    """The command as a user runs it, from this interpreter's environment."""
    script = shutil.which("vidmod", path=str(Path(sys.executable).parent))
    return [*([script] if script else [sys.executable, "-m", "vidmod"]), *map(str, arguments)]


def _watch_memory(pid: int, ended: threading.Event, peaks: list[float]) -> None:
    """Note now and then what a process and all below it take, pages that they share counted once."""
    while not ended.wait(_WATCH_SECONDS):
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError):
                fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
        family, total = [pid], 0
        for member in family:
            family += parents.get(member, [])
            with contextlib.suppress(OSError, ValueError):
                text = Path(f"/proc/{member}/smaps_rollup").read_text("utf-8")
                total += int(text.partition("\nPss:")[2].split()[0])
        peaks.append(total * _KIB / _MB)


def run(command: Sequence[str]) -> tuple[Run, str]:
    """Run a command to its end.

    Returns:
        What it cost, and what it wrote to standard output.

    Raises:
        RuntimeError: It failed; the message ends with what it wrote to standard error.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        ended = threading.Event()
        peaks: list[float] = []
        watcher = threading.Thread(target=_watch_memory, args=(process.pid, ended, peaks))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {process.returncode}\n{err.read()[-2000:]}")
        cost = Run(
            wall,
            None,
            None,
            usage.ru_utime + usage.ru_stime,
            max(peaks, default=usage.ru_maxrss * _KIB / _MB),
            None,
            "",
        )
        return cost, out.read()


def get_film(folder: Path, seconds: float) -> Film:
    """Build the film, or find it where an earlier run built it."""
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "samples").glob("*.py"))))
    path = folder / f"film-{seconds:g}s-{recipe.hexdigest()[:8]}.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tell(f"Building {path} (a minute or two) …")
        run(own_command("film", path, seconds))
    with path.open("rb") as file:  # so that nobody waits for the disk, or everybody as little
        while file.read(_CHUNK_BYTES):
            pass
    _, text = run(own_command("length", path))
    return Film(path, float(text))


def _length(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        print((container.duration or 0) / av.time_base)


def _measure(name: str, film: Film, samples: int, peers_python: str) -> Run:
    if name == "command":
        with tempfile.TemporaryDirectory() as folder:
            cost, _ = run(vidmod_command("scan", film.path, "--fresh", "-o", Path(folder) / "timeline.json"))
        return dataclasses.replace(cost, note="models load while decoding begins")
    python = peers_python if name in PEERS else sys.executable
    cost, text = run(own_command("contend", name, film.path, samples, time.monotonic(), python=python))
    return dataclasses.replace(cost, **json.loads(text.splitlines()[-1]))


def _rounds(names: Sequence[str], film: Film, rounds: int, peers_python: str) -> dict[str, list[Run]]:
    """Every contender once a round, every other round backward, so that drift hits all alike."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else [*reversed(names)]:
            counted = "keyframes" if name == "inference keys" else "library"
            samples = next((done.count or 0 for done in runs[counted]), 0)
            done = _measure(name, film, samples, peers_python)
            runs[name].append(done)
            tell(f"round {number + 1}/{rounds}  {name:13} {done.wall:8.2f} s  {done.peak_mb:6.0f} MB")
    return runs


def _start_ups(film: Film) -> dict[str, list[float]]:
    """Seconds to the help, to the first frame and to the first scores, several times each."""
    times: dict[str, list[float]] = {"help": [], "frame": [], "scores": []}
    for _ in range(STARTS):
        times["help"].append(run(vidmod_command("--help"))[0].wall)
        _, text = run(own_command("first-frame", film.path, time.monotonic()))
        times["frame"].append(float(text))
        times["scores"].append(_first_scores(film.path))
    return times


def _first_scores(film: Path) -> float:
    """Seconds until the command's own log tells of the first pictures that were looked at."""
    began = time.monotonic()
    command = vidmod_command("scan", film, "--fresh", "--json-log", "-o", os.devnull)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if json.loads(line)["event"] == "progress":
                return time.monotonic() - began
        raise RuntimeError(f"{' '.join(command)}: ended without progress")
    finally:
        process.kill()
        process.communicate()


# --- telling ---


def tell(message: str) -> None:
    """A line for the person who waits."""
    print(message, file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The processor and how many cores of it are used."""
    try:
        info = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        info = ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {_cores()} cores; Python {platform.python_version()}"


def _median(runs: Sequence[Run], field: str, digits: int = 2) -> str:
    values = [value for done in runs if (value := getattr(done, field)) is not None]
    return f"{statistics.median(values):.{digits}f}" if values else ""


def _contender_rows(runs: dict[str, list[Run]], film: Film) -> Iterator[list[str]]:
    for name, done in runs.items():
        efforts = [item.effort for item in done]
        yield [
            TITLES[name],
            _median(done, "wall"),
            _median(done, "startup"),
            _median(done, "work"),
            f"{film.seconds / statistics.median(efforts):.1f}",
            _median(done, "cpu", 1),
            f"{max(item.peak_mb for item in done):.0f}",
            _median(done, "count", 0),
            " / ".join(f"{item.effort:.2f}" for item in done),
        ]


def _ratio(tops: Sequence[float], bottoms: Sequence[float], wanted: float | None) -> list[str]:
    """The median of the rounds' ratios, their range, and whether it is what was wanted."""
    ratios = [top / bottom for top, bottom in zip(tops, bottoms, strict=True)]
    middle = statistics.median(ratios)
    verdict = "" if wanted is None else f"≥ {wanted:g}: {'met' if middle >= wanted else 'MISSED'}"
    return [f"{middle:.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}", verdict]


def _floor(runs: dict[str, list[Run]]) -> tuple[str, list[float]]:
    """The faster way to decode, and per round the seconds of it and of inference."""
    ways = ["decode FRAME", "decode AUTO"]
    best = min(ways, key=lambda name: statistics.median(item.effort for item in runs[name]))
    pairs = zip(runs[best], runs["inference"], strict=True)
    return best, [decode.effort + inference.effort for decode, inference in pairs]


def _ratio_rows(runs: dict[str, list[Run]]) -> Iterator[list[str]]:
    best, floor = _floor(runs)
    library = [item.effort for item in runs["library"]]
    command = [item.wall for item in runs["command"]]
    yield [f"share of the floor (`{best}` + inference), library's work", *_ratio(floor, library, 0.85)]
    yield ["share of the floor, the whole command with start-up", *_ratio(floor, command, None)]
    keys = zip(runs["decode keys"], runs["inference keys"], strict=True)
    key_floor = [decode.effort + inference.effort for decode, inference in keys]
    keyframes = [item.effort for item in runs["keyframes"]]
    yield ["`keyframes`: share of its floor (key pictures decoded + inference)", *_ratio(key_floor, keyframes, 0.85)]
    decode = [item.effort for item in runs[best]]
    yield [f"uniform: times as fast as decoding every frame (`{best}`)", *_ratio(decode, library, 1.4)]
    yield ["`adaptive`: times as fast as uniform", *_ratio(library, [i.effort for i in runs["adaptive"]], None)]
    for name, wanted in (("opennsfw2", 4.0), ("nudenet", 2.0)):
        if name in runs:
            work, whole = [item.effort for item in runs[name]], [item.wall for item in runs[name]]
            yield [f"times as fast as {name}, work against work", *_ratio(work, library, wanted)]
            yield [f"times as fast as {name}, whole processes", *_ratio(whole, command, wanted)]


def _limit_row(title: str, values: Sequence[float], limit: float, unit: str, digits: int) -> list[str]:
    middle = statistics.median(values)
    spread = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
    verdict = f"< {limit:g} {unit}: {'met' if middle < limit else 'MISSED'}" if limit else ""
    return [title, f"{middle:.{digits}f} {unit}", spread, verdict]


def _limit_rows(runs: dict[str, list[Run]], starts: dict[str, list[float]]) -> Iterator[list[str]]:
    yield _limit_row("`vidmod --help`", starts["help"], HELP_SECONDS, "s", 2)
    yield _limit_row("`vidmod scan`, start to first decoded frame", starts["frame"], FIRST_FRAME_SECONDS, "s", 2)
    yield _limit_row("`vidmod scan`, start to first scores", starts["scores"], 0, "s", 2)
    yield _limit_row("`vidmod scan`, peak memory", [r.peak_mb for r in runs["command"]], MEMORY_MB, "MB", 0)


def report(runs: dict[str, list[Run]], starts: dict[str, list[float]], film: Film) -> str:
    """Everything that was measured, as markdown."""
    size = film.path.stat().st_size
    notes = [f"- {TITLES[name]}: {done[-1].note}" for name, done in runs.items() if done[-1].note]
    parts = [
        f"{machine()}. Film: {film.seconds:g} s, 1920x1080, 30 frames/s, H.264, {size / _MB:.0f} MB.",
        table(COLUMNS, _contender_rows(runs, film)),
        "\n".join(notes),
        table(["", "ratio", "rounds", "wanted"], _ratio_rows(runs)),
        table(["", "median", "range", "wanted"], _limit_rows(runs, starts)),
    ]
    return "\n\n".join(parts)


def _save(path: Path, runs: dict[str, list[Run]], starts: dict[str, list[float]], film: Film) -> None:
    rows = {name: [dataclasses.asdict(item) for item in done] for name, done in runs.items()}
    document = {"machine": machine(), "film_seconds": film.seconds, "runs": rows, "start_ups_seconds": starts}
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def default_workdir() -> Path:
    """Where films are kept: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidmod-benchmarks"


def use_cores(count: int | None) -> None:
    """Keep this process and all that it starts on the first `count` cores."""
    if count is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Time vidmod scan against its floor and its peers.")
    parser.add_argument("--seconds", type=float, default=295, help="length of the film (default: 295)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is timed (default: 3)")
    parser.add_argument("--workdir", type=Path, default=default_workdir(), help="where films are kept")
    parser.add_argument("--peers-python", default="", help="interpreter of the peers' environment; without, no peers")
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    parser.add_argument("-o", "--output", type=Path, help="write every single figure here, as JSON")
    return parser


def main() -> None:
    """Build the film, time everything, print the tables."""
    args = _parser().parse_args()
    use_cores(args.cores)
    film = get_film(args.workdir, args.seconds)
    if not args.peers_python:
        tell("Peers SKIPPED: no --peers-python. See benchmarks/README.md for how to make their environment.")
    names = [name for name in TITLES if args.peers_python or name not in PEERS]
    # These go first: they tell how many samples inference alone is to run.
    names.sort(key=lambda name: name not in ("library", "keyframes"))
    starts = _start_ups(film)
    runs = _rounds(names, film, args.rounds, args.peers_python)
    if args.output:
        _save(args.output, runs, starts, film)
    print(report(runs, starts, film))
    if not args.peers_python:
        print("\nPeers skipped: no --peers-python.")


def _do(action: str, arguments: Sequence[str]) -> None:
    """What the processes do that this program starts."""
    if action == "contend":
        name, film, samples, spawned = arguments
        _contend(name, Path(film), int(samples), float(spawned))
    elif action == "first-frame":
        _first_frame(Path(arguments[0]), float(arguments[1]))
    elif action == "film":
        _make_film(Path(arguments[0]), float(arguments[1]))
    elif action == "length":
        _length(Path(arguments[0]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--do"]:
        _do(sys.argv[2], sys.argv[3:])
    else:
        main()
