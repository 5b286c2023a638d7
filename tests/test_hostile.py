"""Files that mean harm: nothing they name is opened, nothing they cost is paid, nothing they hide passes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
import pytest

import vidmod
from tests.fuzzing.demands import problems
from tests.fuzzing.mutations import mutate
from tests.fuzzing.running import settings
from tests.fuzzing.sources import write_sources
from tests.hostile.bombs import BOMBS, Bomb
from tests.hostile.hidings import HIDINGS, Hiding, calm, marker
from tests.hostile.references import FALSE_SUFFIXES, NAMES, REFERENCES, Reference, write_named
from tests.hostile.trap import Bait, Trap, open_plainly
from tests.networks import write_classifier
from tests.recipes import Video, make
from vidmod.errors import SourceError
from vidmod.timeline import Timeline

ROOT = Path(__file__).resolve().parents[1]
MODEL = ("open_nsfw",)
# What one bomb may cost.
_MEMORY_BYTES = 512 << 20
_FILE_SECONDS = 15.0
_GRACE_SECONDS = 2.0
# A process is measured in pages that it touched, limited in pages that it mapped; allocators and buffers
# for answers lie between.
_MARGIN_BYTES = 96 << 20
_PARENT_GROWTH_BYTES = 200 << 20
_HOSTILE_JOBS = 1000
_HOSTILE_GROWTH_BYTES = 50 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def scanner(model: Path) -> Iterator[vidmod.Scanner]:
    with vidmod.Scanner(settings(model, 1, file_seconds=_FILE_SECONDS)) as opened:
        yield opened


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    with Trap(tmp_path_factory.mktemp("trap")) as opened:
        yield opened


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("normal") / "normal.mp4", Video(count=12))


def scanned(scanner: vidmod.Scanner, path: Path) -> Timeline | SourceError:
    """An answer of either kind, checked for sense."""
    try:
        timeline = scanner.scan(path)
    except SourceError as exc:
        return exc
    assert problems(timeline) == []
    return timeline


def verdict(answer: Timeline | SourceError) -> str:
    return answer.status if isinstance(answer, Timeline) else "unscannable"


def vidmod_command(*arguments: str | Path) -> list[str]:
    # -P: the folder in which this is started is no place to import from.
    return [sys.executable, "-P", "-m", "vidmod", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This one, without places that are looked up where a process happens to stand."""
    libraries = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    return {**os.environ, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": ":".join(libraries) or "/nonexistent"}


def run_vidmod(folder: Path, *arguments: str | Path, tracer: tuple[str, ...] = (), **options: Any) -> int:
    """The command line in a folder of hostile files; its exit status."""
    command = [*tracer, *vidmod_command(*arguments)]
    # A cache of its own: what was scanned before may not be scanned again.
    with tempfile.TemporaryDirectory() as cache:
        chosen = {**environment(), "VIDMOD_CACHE": cache}
        result = subprocess.run(command, cwd=folder, env=chosen, capture_output=True, timeout=240, **options)
    assert b"Traceback" not in result.stderr, result.stderr
    assert b"Internal error" not in result.stderr, result.stderr
    return result.returncode


# References -----------------------------------------------------------------------------------


def named(reference: Reference) -> str:
    return reference.name.replace(" ", "-")


@pytest.mark.parametrize("reference", [item for item in REFERENCES if item.bites], ids=named)
def test_the_corpus_bites(reference: Reference, tmp_path: Path) -> None:
    """Opened without whitelists, these files do reach out: what the tests below find is not that they are dull."""
    with Trap(tmp_path) as trap:
        path = trap.bait.folder / ("job" + reference.suffix)
        reference.write(path, trap.bait)
        trap.sprung()
        open_plainly(path, reference.how)
        assert reference.bites <= trap.sprung()


def test_a_pattern_bites(tmp_path: Path) -> None:
    with Trap(tmp_path) as trap:
        path = write_named(trap.bait.folder, "frame%03d.jpg")
        trap.sprung()
        open_plainly(path)
        assert {"frame001.jpg", "frame002.jpg"} <= trap.sprung()


def test_the_trap_notices_everything(tmp_path: Path) -> None:
    import socket

    with Trap(tmp_path) as trap:
        assert trap.sprung() == set()
        (trap.bait.folder / "a").read_bytes()
        trap.bait.secret.read_bytes()
        assert trap.sprung() == {"a", "secret.ts"}
        with socket.create_connection(("127.0.0.1", trap.bait.tcp)) as connection:
            connection.recv(1)
        assert trap.sprung() == {"tcp"}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", trap.bait.udp))
            time.sleep(0.2)
        assert trap.sprung() == {"udp"}
        assert trap.sprung() == set()


@pytest.mark.parametrize("reference", REFERENCES, ids=named)
def test_what_a_file_names_is_not_opened(reference: Reference, scanner: vidmod.Scanner, trap: Trap) -> None:
    for suffix in dict.fromkeys((reference.suffix, *FALSE_SUFFIXES)):
        path = trap.bait.folder / ("job" + suffix)
        reference.write(path, trap.bait)
        trap.sprung()
        answer = scanned(scanner, path)
        path.unlink()
        assert trap.sprung() == set(), suffix
        assert reference.complete or verdict(answer) != "complete", suffix


@pytest.mark.slow
@pytest.mark.parametrize("reference", REFERENCES, ids=named)
def test_what_standard_input_names_is_not_opened(reference: Reference, model: Path, trap: Trap, tmp_path: Path) -> None:
    path = trap.bait.folder / ("job" + reference.suffix)
    reference.write(path, trap.bait)
    moved = path.replace(tmp_path / "job")
    trap.sprung()
    with moved.open("rb") as file:
        status = run_vidmod(trap.bait.folder, "scan", "-", "--models", model, "-o", tmp_path / "out.json", stdin=file)
    assert trap.sprung() == set()
    timeline = Timeline.read(tmp_path / "out.json")
    assert status == (0 if timeline.status == "complete" else 4)
    assert reference.complete or timeline.status != "complete"


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([found, "-f", "-o", os.devnull, "true"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("strace may not trace here")
    return found


_TRACED = "openat,openat2,open,creat,connect,bind,sendto,sendmsg,sendmmsg,listen"
# With -y a descriptor is followed by its path: openat(5</folder>, "name".
_OPENED = re.compile(r'\b(?:open|openat|openat2|creat)\((?:[^"<]+(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)"')
_NETWORK = re.compile(r"\b(?:connect|bind|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?, sin6?_port=htons\((\d+)\)")


def _trespasses(log: Path, bait: Bait, allowed: set[str]) -> list[str]:
    """Lines in which what the bait stands for was asked for, or anything that is not there, even in vain."""
    found = []
    ports = {str(bait.tcp), str(bait.udp), str(bait.udp + 1)}
    for line in log.read_text("utf-8", errors="replace").splitlines():
        address, opened = _NETWORK.search(line), _OPENED.search(line)
        if address is not None and address[1] in ports:
            found.append(line)
        if opened is None:
            continue
        path = Path(os.path.normpath(bait.folder / (opened[1] or "") / opened[2]))
        foreign = path.is_relative_to(bait.folder) and path != bait.folder and path.name not in allowed
        if foreign or path.is_relative_to(bait.secret.parent):
            found.append(line)
    return found


def _traced(strace: str, folder: Path, log: Path, *arguments: str | Path, **options: Any) -> None:
    run_vidmod(folder, *arguments, tracer=_tracer(strace, log), **options)


def _tracer(strace: str, log: Path) -> tuple[str, ...]:
    return (strace, "-f", "-y", "-qq", "-s", "4096", "-e", f"trace={_TRACED}", "-o", str(log))


@pytest.mark.slow
def test_no_process_asks_for_what_files_name(strace: str, model: Path, trap: Trap, tmp_path: Path) -> None:
    folder = trap.bait.folder
    paths = []
    for reference in REFERENCES:
        for suffix in dict.fromkeys((reference.suffix, *FALSE_SUFFIXES)):
            path = folder / f"job-{named(reference)}{suffix.replace('.', '-')}{suffix}"
            reference.write(path, trap.bait)
            paths.append(path)
    trap.sprung()
    _traced(strace, folder, tmp_path / "log", "scan", *paths, "--models", model, "-o", tmp_path / "out")
    assert trap.sprung() == set()
    assert _trespasses(tmp_path / "log", trap.bait, {path.name for path in paths}) == []
    for path in paths:
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("reference", [item for item in REFERENCES if item.bites], ids=named)
def test_no_process_asks_for_what_standard_input_names(
    reference: Reference, strace: str, model: Path, trap: Trap, tmp_path: Path
) -> None:
    folder = trap.bait.folder
    path = folder / ("job" + reference.suffix)
    reference.write(path, trap.bait)
    moved = path.replace(tmp_path / "job")
    with moved.open("rb") as file:
        _traced(
            strace, folder, tmp_path / "log", "scan", "-", "--models", model, "-o", tmp_path / "out.json", stdin=file
        )
    assert _trespasses(tmp_path / "log", trap.bait, set()) == []


@pytest.mark.slow
def test_a_scan_talks_to_nobody(strace: str, model: Path, normal: Path, tmp_path: Path) -> None:
    """Not even to those who made the libraries."""
    _traced(strace, tmp_path, tmp_path / "log", "scan", normal, "--models", model, "-o", tmp_path / "out.json")
    text = (tmp_path / "log").read_text("utf-8", errors="replace")
    assert [line for line in text.splitlines() if _NETWORK.search(line)] == []


def test_the_log_is_read_right(strace: str, trap: Trap, tmp_path: Path) -> None:
    code = (
        f"import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', {trap.bait.tcp}))\n"
        f"open('a').close(); open({str(trap.bait.secret)!r}, 'rb').close()\n"
        f"s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', {trap.bait.udp + 1}))\n"
        "import os; folder = os.open('.', os.O_RDONLY); os.open('b.mp4', os.O_RDONLY, dir_fd=folder)\n"
        "try: open('not there')\nexcept OSError: pass"
    )
    command = [*_tracer(strace, tmp_path / "log"), sys.executable, "-P", "-c", code]
    subprocess.run(command, cwd=trap.bait.folder, env=environment(), check=True)
    time.sleep(0.2)
    trap.sprung()
    assert len(_trespasses(tmp_path / "log", trap.bait, set())) == 6
    assert len(_trespasses(tmp_path / "log", trap.bait, {"a", "b.mp4", "not there"})) == 3


# Names ----------------------------------------------------------------------------------------


def ascii_of(names: list[str]) -> str:
    return ascii(names[0])[:20] if len(names) == 1 else "plain"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_name_is_only_a_name(
    name: str, relative: bool, model: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trap.bait.folder
    taken = (folder / name).read_bytes() if (folder / name).exists() else None
    path = write_named(folder, name)
    monkeypatch.chdir(folder)
    trap.sprung()
    with vidmod.Scanner(settings(model, 1, file_seconds=_FILE_SECONDS)) as scanner:
        answer = scanned(scanner, Path(name) if relative else path)
    try:
        assert trap.sprung() - {name} == set()
        if name == os.fsdecode(name.encode("utf-8", "replace")):
            assert verdict(answer) == "complete"
            assert isinstance(answer, Timeline)
            assert answer.source["name"] == name
        json.dumps(answer.as_document() if isinstance(answer, Timeline) else str(answer))
    finally:
        path.unlink()
        if taken is not None:
            path.write_bytes(taken)


_PLAIN_NAMES = [name for name in NAMES if name not in ("-", "a") and name.isascii() and len(name) < 200]


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [_PLAIN_NAMES, *([name] for name in NAMES if not name.isascii() or len(name) >= 200)], ids=ascii_of
)
def test_names_on_the_command_line(names: list[str], model: Path, trap: Trap, tmp_path: Path) -> None:
    """What follows `--` is a name, and `-` alone is standard input."""
    folder = trap.bait.folder
    chosen = [name for name in names if not (folder / name).exists()]
    for name in chosen:
        write_named(folder, name)
    trap.sprung()
    try:
        status = run_vidmod(folder, "scan", "--models", model, "-o", tmp_path, "--", *chosen, stdin=subprocess.DEVNULL)
    finally:
        for name in chosen:
            (folder / name).unlink()
    assert trap.sprung() - set(chosen) == set()
    # A name that is not UTF-8, or so long that nothing can be added to it, may be refused in words.
    assert status == 0 or names is not _PLAIN_NAMES
    assert len(list(tmp_path.rglob("*.json"))) == len(chosen) or status in (1, 4)


# Bombs ----------------------------------------------------------------------------------------


class Peak:
    """The most memory that this process and each of its children had, by looking often."""

    def __init__(self) -> None:
        self.child_bytes = 0
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self._most = self._before
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def parent_growth_bytes(self) -> int:
        return int(self._most - self._before)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)
            for child in self._process.children(recursive=True):
                self.child_bytes = max(self.child_bytes, _resident_bytes(child.pid))


def _resident_bytes(pid: int) -> int:
    """The most that a process ever had, as the kernel counts; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
    except OSError:
        return 0
    match = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return 0 if match is None else int(match[1]) << 10


@pytest.fixture(scope="module")
def small_scanner(model: Path) -> Iterator[vidmod.Scanner]:
    limits = {
        "memory_bytes": _MEMORY_BYTES,
        "cpu_seconds": 20,
        "chunk_seconds": 10.0,
        "file_seconds": _FILE_SECONDS,
    }
    with vidmod.Scanner(settings(model, 1, **limits)) as opened:
        yield opened


@pytest.fixture(scope="module")
def usual_bytes(small_scanner: vidmod.Scanner, normal: Path) -> int:
    """What a child has that parses a normal file: code that is shared, mostly."""
    with Peak() as peak:
        for _ in range(5):
            small_scanner.scan(normal)
    return peak.child_bytes


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name.replace(" ", "-"))
def test_a_bomb_is_held(
    bomb: Bomb, small_scanner: vidmod.Scanner, normal: Path, usual_bytes: int, tmp_path: Path
) -> None:
    path = bomb.write(tmp_path)
    began = time.monotonic()
    timeline = None
    with Peak() as peak, contextlib.suppress(SourceError):
        timeline = small_scanner.scan(path)
    assert time.monotonic() - began < _FILE_SECONDS + _GRACE_SECONDS
    assert timeline is None or problems(timeline) == []
    assert peak.child_bytes <= usual_bytes + _MEMORY_BYTES + _MARGIN_BYTES
    assert peak.parent_growth_bytes <= _PARENT_GROWTH_BYTES
    after = small_scanner.scan(normal)
    assert (after.status, after.verdict) == ("complete", "pass")


# Bombs that go off in plain FFmpeg, with what they take; kept true by the test below.
_MEASURED = {"stsz count all agree": 1 << 30, "truns": 1 << 30, "png profile": 1 << 30, "packed movie": 900 << 20}

_OPEN = """
import av, resource, sys
try:
    with av.open(sys.argv[1]) as container:
        for number, packet in enumerate(container.demux()):
            if number > 8:
                break
            packet.decode()
except (av.error.FFmpegError, MemoryError):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", _MEASURED)
def test_the_bombs_explode(name: str, tmp_path: Path) -> None:
    """In a process without limits; of which there is not much left where memory is short."""
    if psutil.virtual_memory().available < 6 << 30:
        pytest.skip("less than 6 GB of memory are free")
    bomb = next(item for item in BOMBS if item.name == name)
    path = bomb.write(tmp_path)
    # 8 GB of address space, should a bomb be worse than known.
    command = ["/bin/sh", "-c", 'ulimit -v 8000000; exec "$0" "$@"', sys.executable, "-c", _OPEN, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert int(result.stdout) > _MEASURED[name]
    assert path.stat().st_size < 2 << 20


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_memory_stays_flat_through_hostile_jobs(model: Path, trap: Trap, normal: Path, tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    process = psutil.Process()
    with vidmod.Scanner(settings(model, None, file_seconds=_FILE_SECONDS)) as scanner:
        warm = 0
        for number in range(_HOSTILE_JOBS):
            if number % 2:
                mutation = mutate(sources, 7, number)
                path = tmp_path / mutation.file_name
                path.write_bytes(mutation.data)
            else:
                reference = REFERENCES[number // 2 % len(REFERENCES)]
                path = trap.bait.folder / ("job" + reference.suffix)
                reference.write(path, trap.bait)
            # Which error it may be is the business of tests/test_fuzzing.py.
            with contextlib.suppress(vidmod.VidmodError):
                scanner.scan(path)
            path.unlink()
            if number == _HOSTILE_JOBS // 10:
                warm = process.memory_info().rss
        assert scanner.scan(normal).status == "complete"
        assert process.memory_info().rss - warm <= _HOSTILE_GROWTH_BYTES


# Hidden pictures ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge() -> Iterator[vidmod.Scanner]:
    with vidmod.Scanner(vidmod.ScanSettings(models=MODEL)) as opened:
        yield opened


def is_found(timeline: Timeline) -> bool:
    return any(segment.category == "nsfw" for segment in timeline.segments)


def test_the_marker_is_found_and_the_calm_is_not(judge: vidmod.Scanner, tmp_path: Path) -> None:
    shown = judge.scan(make(tmp_path / "marker.mp4", marker()))
    assert (shown.status, shown.verdict, is_found(shown)) == ("complete", "block", True)
    other = judge.scan(make(tmp_path / "calm.mp4", calm()))
    assert (other.status, other.verdict, is_found(other)) == ("complete", "pass", False)


@pytest.mark.parametrize("hiding", HIDINGS, ids=lambda item: item.name.replace(" ", "-") + item.suffix)
def test_what_is_hidden_never_passes(hiding: Hiding, judge: vidmod.Scanner, tmp_path: Path) -> None:
    path = tmp_path / ("hiding" + hiding.suffix)
    hiding.write(path)
    answer = scanned(judge, path)
    found = isinstance(answer, Timeline) and is_found(answer)
    assert found or verdict(answer) != "complete"
    assert found or not hiding.found
    if isinstance(answer, Timeline):
        assert answer.verdict != "pass"


@pytest.mark.parametrize("sampling", ["all", "keyframes", "adaptive"])
def test_other_samplings_find_it_too(sampling: str, tmp_path: Path) -> None:
    from vidmod import sampling as modes

    if sampling not in modes.MODES:
        pytest.skip(f"this vidmod has no sampling {sampling!r}")
    hidings = [item for item in HIDINGS if item.found]
    with vidmod.Scanner(vidmod.ScanSettings(models=MODEL, sampling=sampling)) as scanner:
        for hiding in hidings:
            path = tmp_path / ("hiding" + hiding.suffix)
            hiding.write(path)
            answer = scanned(scanner, path)
            assert isinstance(answer, Timeline)
            assert is_found(answer), hiding.name


def test_all_can_be_written(tmp_path: Path) -> None:
    """Every item has a name of its own, so that reports can name it."""
    for items in (BOMBS, HIDINGS, REFERENCES):
        names = [(item.name, item.suffix) for item in items]
        assert len(names) == len(set(names))
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            assert write_named(Path(folder), name).stat().st_size > 0
