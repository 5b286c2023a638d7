"""Where a redaction is written, and what it is written from: full disks, odd names, files that change meanwhile."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.networks import write_classifier, write_detector
from tests.test_redacting import make_film
from vidmod.errors import OutputError, SourceError, SourceUnreadableError, UsageError
from vidmod.messages import Json
from vidmod.redacting.job import Redactor
from vidmod.redacting.result import Redaction
from vidmod.redacting.settings import RedactSettings
from vidmod.scanning import Scanner, ScanSettings
from vidmod.timeline import Timeline

PAGE = os.sysconf("SC_PAGESIZE")
ROOT = Path(__file__).parent.parent
PATIENCE_SECONDS = 120.0


class Film(NamedTuple):
    """A film, what is in it, and what comes of it."""

    path: Path
    models: tuple[str, ...]
    timeline: Timeline
    options: list[str]
    output: bytes
    document: bytes


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    folder = tmp_path_factory.mktemp("film")
    path, output = make_film(folder / "film.mp4"), folder / "out.mp4"
    models = (str(write_classifier(folder)), str(write_detector(folder)))
    with Scanner(ScanSettings(models=models)) as scanner:
        timeline = scanner.scan(path)
    timeline.write(folder / "film.json")
    options = ["--models", ",".join(models), "--labels", "BRIGHT", "--timeline", str(folder / "film.json")]
    result = vidmod("redact", path, output, *options)
    assert result.returncode == 0, result.stderr
    return Film(path, models, timeline, options, output.read_bytes(), document_of(output).read_bytes())


def vidmod(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidmod", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS, cwd=ROOT, **options
    )


def document_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.redaction.json")


def told(result: subprocess.CompletedProcess[str]) -> str:
    return result.stderr.replace("\n", " ")


# A disk that is full ---------------------------------------------------------------------------------------

# Mounts a file system of so many bytes in a namespace of its own, fills it, runs a command, says what is left.
_DRIVER = """
import hashlib, json, os, subprocess, sys
from pathlib import Path
disk, options, before, remount, command, stdin = json.loads(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)
for name, text in before.items():
    Path(disk, name).write_bytes(text.encode("latin-1"))
if remount:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
with open(stdin) as file:
    result = subprocess.run(command, stdin=file, capture_output=True, text=True)
left = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(disk).iterdir() if path.is_file()}
folders = [path.name for path in Path(disk).iterdir() if path.is_dir()]
print(json.dumps([result.returncode, result.stdout, result.stderr, left, folders]))
"""


class Left(NamedTuple):
    """What a command on a small disk left."""

    status: int
    stdout: str
    stderr: str
    files: dict[str, str]
    folders: list[str]


OnDisk = Callable[..., Left]


@functools.cache
def namespaces() -> list[str]:
    """How to get a namespace in which a file system can be mounted; nothing if that cannot be had."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        trial = [*command, "sh", "-c", "mount -t tmpfs none /mnt"]
        try:
            if subprocess.run(trial, capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            break
    return []


@pytest.fixture
def on_disk(tmp_path: Path) -> OnDisk:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not namespaces():
        pytest.skip("no file system can be mounted here, not even in a user namespace")

    def run(
        options: str,
        *arguments: str | Path,
        before: dict[str, bytes] | None = None,
        ro: bool = False,
        stdin: Path = Path(os.devnull),
    ) -> Left:
        command = [sys.executable, "-m", "vidmod", *(str(item).replace("{disk}", str(disk)) for item in arguments)]
        texts = {name: data.decode("latin-1") for name, data in (before or {}).items()}
        task = json.dumps([str(disk), options, texts, ro, command, str(stdin)])
        result = subprocess.run(
            [*namespaces(), sys.executable, "-c", _DRIVER, task],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=PATIENCE_SECONDS,
            env={**os.environ, "COLUMNS": "1000"},
        )
        assert result.returncode == 0, result.stderr
        return Left(*json.loads(result.stdout))

    return run


BEFORE = {"out.mp4": b"the film before", "out.mp4.redaction.json": b"{}"}


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def pages(data: bytes) -> int:
    return -(-len(data) // PAGE)


class TestAFullDisk:
    @pytest.mark.parametrize("before", [BEFORE, {}], ids=["old", "empty"])
    @pytest.mark.parametrize("stage", ["at once", "midway", "at the end", "at the document"])
    def test_what_was_there_stays(self, film: Film, on_disk: OnDisk, before: dict[str, bytes], stage: str) -> None:
        whole = pages(film.output)
        room = {"at once": 0, "midway": whole // 2, "at the end": whole - 1, "at the document": whole}[stage]
        # No size is no limit.
        size = max(1, len(before) + room) * PAGE
        left = on_disk(f"size={size}", "redact", film.path, "{disk}/out.mp4", *film.options, before=before)
        assert left.status == 1
        assert "cannot be written (No space left on device). What was there before is untouched." in left.stderr
        assert (".redaction.json: cannot" in left.stderr) == (stage == "at the document")
        assert left.files == digests(before)

    def test_as_much_as_is_needed_is_enough(self, film: Film, on_disk: OnDisk) -> None:
        size = (len(BEFORE) + pages(film.output) + pages(film.document)) * PAGE
        left = on_disk(f"size={size}", "redact", film.path, "{disk}/out.mp4", *film.options, before=BEFORE)
        assert left.status == 0, left.stderr
        assert left.files["out.mp4"] == digests({"out.mp4": film.output})["out.mp4"]
        assert set(left.files) == set(BEFORE)

    def test_no_file_can_be_made(self, film: Film, on_disk: OnDisk) -> None:
        left = on_disk("size=1m,nr_inodes=3", "redact", film.path, "{disk}/out.mp4", *film.options, before=BEFORE)
        assert left.status == 1
        assert "No space left on device" in left.stderr
        assert left.files == digests(BEFORE)

    def test_nothing_can_be_written(self, film: Film, on_disk: OnDisk) -> None:
        left = on_disk("size=1m", "redact", film.path, "{disk}/out.mp4", *film.options, before=BEFORE, ro=True)
        assert left.status == 1
        assert "out.mp4: cannot be written (Read-only file system). Name a folder that can be written." in left.stderr
        assert left.files == digests(BEFORE)

    @pytest.mark.parametrize("before", [{"out.json": b"before"}, {}], ids=["old", "empty"])
    def test_of_a_scan(self, film: Film, on_disk: OnDisk, before: dict[str, bytes]) -> None:
        arguments = ("scan", film.path, "--models", ",".join(film.models), "-o", "{disk}/out.json")
        left = on_disk(f"size={max(1, len(before)) * PAGE}", *arguments, before=before)
        assert left.status == 1
        assert "out.json: cannot be written (No space left on device)" in left.stderr
        assert left.files == digests(before)

    def test_of_a_scan_of_several(self, film: Film, on_disk: OnDisk, tmp_path: Path) -> None:
        other = tmp_path / "other.mp4"
        shutil.copy(film.path, other)
        options = ("--models", ",".join(film.models), "-o", "{disk}/out")
        left = on_disk("size=1m,nr_inodes=1", "scan", film.path, other, *options)
        assert left.status == 1
        assert left.stderr.count("cannot be made (No space left on device)") == 2
        assert left.folders == []

    def test_the_cache_is_on_it(self, film: Film, on_disk: OnDisk, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("VIDMOD_CACHE", str(tmp_path / "disk"))
        options = ["--models", ",".join(film.models), "--labels", "BRIGHT"]
        left = on_disk(f"size={PAGE}", "redact", film.path, tmp_path / "out.mp4", *options, before={"x": b"x"})
        assert left.status == 0, left.stderr
        document = json.loads((tmp_path / "out.mp4.redaction.json").read_text("utf-8"))
        assert document["output"]["sha256"] == hashlib.sha256((tmp_path / "out.mp4").read_bytes()).hexdigest()
        assert document["verified"]

    def test_standard_input_is_kept_on_it(self, film: Film, on_disk: OnDisk, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
        left = on_disk(f"size={PAGE}", "redact", "-", tmp_path / "out.mp4", *film.options, stdin=film.path)
        assert left.status == 1
        assert "standard input cannot be kept there (No space left on device). Set TMPDIR." in left.stderr
        assert (left.files, left.folders) == ({}, [])
        assert not (tmp_path / "out.mp4").exists()

    def test_standard_output_is_on_it(self, film: Film) -> None:
        if not Path("/dev/full").is_char_device():
            pytest.skip("there is no /dev/full")
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-m", "vidmod", "scan", str(film.path), "--models", ",".join(film.models)]
            result = subprocess.run(
                [*command, "--quiet"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
            )
        assert result.returncode == 1
        assert result.stderr == "Error: Standard output cannot be written (No space left on device).\n"


class TestNoRoomOfAnotherKind:
    def test_a_limit_on_files(self, film: Film, tmp_path: Path) -> None:
        for name, data in BEFORE.items():
            (tmp_path / name).write_bytes(data)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Not from the beginning: memory that is shared with workers counts as a file.
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (len(film.output) // 2, before[1]))
        try:
            with pytest.raises(OutputError, match=r"out\.mp4: cannot be written \(File too large\).*untouched"):
                run(film, tmp_path / "out.mp4", when={"writing": limit})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == BEFORE

    @pytest.mark.parametrize("size", [20_000, 1 << 20])
    def test_a_limit_under_which_no_worker_can_start(self, film: Film, tmp_path: Path, size: int) -> None:
        result = vidmod(
            "redact",
            film.path,
            tmp_path / "out.mp4",
            *film.options,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )
        assert result.returncode == 1
        assert "no process can be started to read it (File too large)" in told(result)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("command", ["redact", "scan"])
    def test_a_folder_without_permission(self, film: Film, tmp_path: Path, command: str) -> None:
        # Nothing is forbidden to root, but root can do without that.
        unprivileged = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override"]
        if unprivileged and shutil.which(unprivileged[0]) is None:
            pytest.skip("nothing is forbidden to root, and there is no setpriv to change that")
        folder = tmp_path / "folder"
        folder.mkdir(0o555)
        output = folder / "out.mp4"
        rest = [str(output), *film.options] if command == "redact" else ["-o", str(output), *film.options[:2]]
        words = [*unprivileged, sys.executable, "-m", "vidmod", command, str(film.path), *rest]
        result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=PATIENCE_SECONDS)
        assert result.returncode == 1
        assert "out.mp4: cannot be written (Permission denied). Check the permissions of its folder." in told(result)
        assert list(folder.iterdir()) == []


# In this process -------------------------------------------------------------------------------------------


def run(film: Film, output: Path, *, source: Path | None = None, when: dict[str, Callable[[], object]] | None = None,
        timeline: Timeline | None = None, **settings: Any) -> Redaction:  # fmt: skip
    """Redact; do something when something else begins to be done."""
    pending = dict(when or {})

    def progress(what: str, share: float) -> None:
        if what in pending:
            pending.pop(what)()

    scan = ScanSettings(models=film.models)
    with Redactor(RedactSettings(scan=scan, labels=["BRIGHT"], **settings)) as redactor:
        done = redactor.redact(source or film.path, output, timeline=timeline or film.timeline, progress=progress)
    assert not pending
    return done


class TestOddOutputs:
    def test_a_folder_a_device_a_pipe(self, film: Film, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        for path in (tmp_path, Path(os.devnull), pipe):
            with pytest.raises(UsageError, match="cannot be replaced"):
                run(film, path)
        assert pipe.is_fifo()
        assert Path(os.devnull).is_char_device()

    def test_the_source_under_other_names(self, film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = tmp_path / "film.mp4"
        shutil.copy(film.path, source)
        before = source.read_bytes()
        hard, soft = tmp_path / "hard.mp4", tmp_path / "soft.mp4"
        os.link(source, hard)
        soft.symlink_to(source)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "deep").mkdir()
        for path in (source, hard, soft, Path("film.mp4"), Path("deep/../film.mp4"), tmp_path / "." / "film.mp4"):
            with pytest.raises(UsageError, match="is the source"):
                run(film, path, source=source)
        assert source.read_bytes() == before
        assert len(list(tmp_path.iterdir())) == 4

    def test_where_its_document_would_replace_the_source(self, film: Film, tmp_path: Path) -> None:
        source = tmp_path / "out.mp4.redaction.json"
        shutil.copy(film.path, source)
        with pytest.raises(UsageError, match="is the source"):
            run(film, tmp_path / "out.mp4", source=source)

    def test_where_its_document_cannot_be(self, film: Film, tmp_path: Path) -> None:
        (tmp_path / "out.mp4.redaction.json").mkdir()
        with pytest.raises(UsageError, match=r"redaction\.json: is a folder"):
            run(film, tmp_path / "out.mp4")

    def test_a_link_to_another_file(self, film: Film, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        link = tmp_path / "link.mp4"
        link.symlink_to("real/out.mp4")
        for _ in range(2):
            run(film, link)
            assert link.is_symlink()
            assert link.read_bytes() == film.output
            assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["out.mp4", "out.mp4.redaction.json"]
            assert list(tmp_path.glob("*.json")) == []

    def test_a_link_to_itself(self, film: Film, tmp_path: Path) -> None:
        link = tmp_path / "link.mp4"
        link.symlink_to(link)
        with pytest.raises(OutputError, match="Too many levels of symbolic links"):
            run(film, link)

    def test_a_name_without_room_for_the_document(self, film: Film, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="Choose a shorter name"):
            run(film, tmp_path / ("x" * 250))
        run(film, tmp_path / ("x" * 240))
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_name_that_is_no_text(self, film: Film, tmp_path: Path) -> None:
        name = os.fsdecode(b"out-\xff.mp4")
        done = run(film, tmp_path / name)
        document: Json = json.loads((tmp_path / f"{name}.redaction.json").read_text("utf-8"))
        assert document["output"]["name"] == "out-�.mp4"
        assert document["output"]["sha256"] == done.output["sha256"]

    def test_a_folder_that_goes_meanwhile(self, film: Film, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        with pytest.raises(OutputError, match=r"out\.mp4.*No such file or directory"):
            run(film, folder / "out.mp4", when={"writing": lambda: shutil.rmtree(folder)})
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_takes_its_place_meanwhile(self, film: Film, tmp_path: Path) -> None:
        output = tmp_path / "out.mp4"
        with pytest.raises(OutputError, match="no file any more"):
            run(film, output, when={"writing": output.mkdir})
        assert output.is_dir()
        assert list(tmp_path.iterdir()) == [output]

    def test_the_document_is_of_the_output(self, film: Film, tmp_path: Path) -> None:
        output = tmp_path / "out.mp4"
        for margin in (0.1, 0.3):
            done = run(film, output, margin=margin)
            document: Json = json.loads(document_of(output).read_text("utf-8"))
            assert document == {**done.as_document(), "created": document["created"]}
            assert document["output"]["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
            assert document["margin"] == margin


class TestASourceThatChanges:
    @pytest.fixture
    def source(self, film: Film, tmp_path: Path) -> Path:
        return Path(shutil.copy(film.path, tmp_path / "film.mp4"))

    def overwrite(self, source: Path) -> None:
        with source.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\0")

    def append(self, source: Path) -> None:
        with source.open("ab") as file:
            file.write(b"more")

    def replace(self, source: Path) -> None:
        make_film(source.with_name("other.mp4"), range(5)).replace(source)

    @pytest.mark.parametrize("how", [overwrite, append, replace])
    @pytest.mark.parametrize("moment", ["looking closely", "writing", "verifying", "looking again"])
    def test_nothing_is_written(self, film: Film, source: Path, moment: str, how: Callable[..., None]) -> None:
        output = source.with_name("out.mp4")
        output.write_bytes(b"before")
        with pytest.raises(SourceError, match=r"film\.mp4: changed while it was (read; nothing was written|scanned)"):
            run(film, output, source=source, when={moment: lambda: how(self, source)})
        assert output.read_bytes() == b"before"
        assert sorted(path.name for path in source.parent.iterdir()) == ["film.mp4", "out.mp4"]

    def test_another_file_while_it_is_looked_at_closely(self, film: Film, source: Path) -> None:
        """And the right one again when all is over: only the hash of what was looked at tells."""
        kept, output = source.with_name("kept.mp4"), source.with_name("out.mp4")
        with Redactor(RedactSettings(scan=ScanSettings(models=film.models), labels=["BRIGHT"])) as redactor:
            real = redactor.scanner.scan

            def scan(*args: Any, **options: Any) -> Timeline:
                timeline = real(*args, **options)
                source.rename(kept)
                make_film(source, range(5))
                return timeline

            def progress(what: str, share: float) -> None:
                if what == "writing" and kept.exists():
                    kept.replace(source)

            redactor.scanner.scan = scan  # type: ignore[method-assign]
            with pytest.raises(SourceUnreadableError, match="changed while it was read; nothing was written"):
                redactor.redact(source, output, progress=progress)
        assert not output.exists()

    def test_one_that_goes_is_redacted_all_the_same(self, film: Film, source: Path) -> None:
        output = source.with_name("out.mp4")
        run(film, output, source=source, when={"writing": source.unlink})
        assert output.read_bytes() == film.output


# The command -----------------------------------------------------------------------------------------------


class TestTheCommand:
    def test_json_log_is_one_object_a_line(self, film: Film, tmp_path: Path) -> None:
        output = tmp_path / "out.mp4"
        result = vidmod("redact", film.path, output, *film.options, "--json-log")
        assert result.returncode == 0
        events = [json.loads(line) for line in result.stderr.splitlines()]
        assert events[0] == {"event": "started", "input": "film.mp4"}
        progress = [event for event in events if event["event"] == "progress"]
        assert list(dict.fromkeys(event["doing"] for event in progress)) == [
            "looking closely",
            "writing",
            "verifying",
            "looking again",
        ]
        assert all(0 <= event["share"] <= 1 for event in progress)
        last = events[-1]
        assert last["event"] == "finished"
        assert last["output"] == str(output)
        assert last["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
        assert last["encoded_pictures"] > 0
        assert len(last["verified"]) == 4

    @pytest.mark.parametrize(
        ("arguments", "status", "error", "message"),
        [
            (["{tmp}/none.mp4", "{tmp}/out.mp4"], 4, "SourceNotFoundError", "no such file"),
            (["{tmp}", "{tmp}/out.mp4"], 4, "NotVideoError", "is a folder, not a video. Name a file in it."),
            (["{film}", "{tmp}/none/out.mp4"], 1, "OutputError", "there is no folder"),
            (["{film}", "-"], 2, "UsageError", "cannot go to standard output"),
            (["{film}", "{film}"], 2, "UsageError", "is the source"),
            (["{film}", "{tmp}/out.mp4", "--timeline", "{tmp}/out.mp4"], 2, "TimelineError", "no such timeline"),
            (["{film}", "{tmp}/out.mp4", "--style", "x"], 2, "UsageError", "'x' is not one of"),
            (["{film}"], 2, "UsageError", "Missing argument 'OUTPUT'"),
        ],
    )
    def test_errors(
        self, film: Film, tmp_path: Path, arguments: list[str], status: int, error: str, message: str
    ) -> None:
        words = [word.replace("{tmp}", str(tmp_path)).replace("{film}", str(film.path)) for word in arguments]
        result = vidmod("redact", *words, "--json-log")
        assert result.returncode == status
        last = json.loads(result.stderr.splitlines()[-1])
        assert (last["event"], last["error"], last["exit_status"]) == ("error", error, status)
        assert message in last["message"]
        assert list(tmp_path.iterdir()) == []
        result = vidmod("redact", *words)
        assert result.returncode == status
        assert message in told(result)
        assert "Traceback" not in result.stderr

    def test_the_timeline_is_not_replaced(self, film: Film, tmp_path: Path) -> None:
        timeline = tmp_path / "film.json"
        film.timeline.write(timeline)
        before = timeline.read_bytes()
        result = vidmod("redact", film.path, timeline, *film.options[:-1], timeline)
        assert result.returncode == 2
        assert "is the timeline" in told(result)
        assert timeline.read_bytes() == before

    def test_standard_input_and_a_pipe_behind_it(self, film: Film, tmp_path: Path) -> None:
        output, spool = tmp_path / "out.mp4", tmp_path / "spool"
        spool.mkdir()
        with film.path.open("rb") as file:
            result = vidmod("redact", "-", output, *film.options, stdin=file, env={**os.environ, "TMPDIR": str(spool)})
        assert result.returncode == 0, result.stderr
        assert result.stdout == ""
        assert output.read_bytes() == film.output
        assert list(spool.iterdir()) == []
