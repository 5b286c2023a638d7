"""The cache of engines: what is not whole, not ours or not for here is never loaded, whoever is killed and whenever."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidmod.errors import OutputError, RuntimeUnavailableError
from vidmod.models.engines import Cache, PlanKey
from vidmod.models.engines import cache as cache_module
from vidmod.models.engines.key import FORMAT, Key, NetworkKey, TimingKey, canonical

KEY = PlanKey(
    network="ab" * 32,
    tensorrt="10.16.1.11",
    device="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    multiprocessors=132,
    memory_bytes=85_520_809_984,
    batches=(1, 8, 64),
    precision="fp16",
    flags=("strongly typed",),
)
FACTS = {"model": "nudenet", "created": "2026-11-21T20:00:00+00:00"}
PLAN = bytes(range(256)) * 3
OTHER_USER = 12_345
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "engines")


@pytest.fixture
def stored(cache: Cache) -> Path:
    return cache.store(KEY, "nudenet", FACTS, PLAN)


def content_of(cache: Cache, key: Key = KEY) -> bytes | None:
    entry = cache.load(key, "nudenet")
    return None if entry is None else entry.content


def leftovers(cache: Cache) -> list[str]:
    return sorted(path.name for path in cache.path.iterdir() if path.name.endswith((".part", ".lock")))


def changed(key: PlanKey, **fields: Any) -> PlanKey:
    return PlanKey.read({**key.document, **json.loads(json.dumps(fields))})


class TestKey:
    def test_every_field_makes_another_key(self) -> None:
        others = [
            changed(KEY, network="cd" * 32),
            changed(KEY, tensorrt="10.16.1.12"),
            changed(KEY, device="NVIDIA H200"),
            changed(KEY, capability=[9, 1]),
            changed(KEY, multiprocessors=114),
            changed(KEY, memory_bytes=1),
            changed(KEY, batches=[1, 8, 32]),
            changed(KEY, precision="fp32"),
            changed(KEY, flags=[]),
            changed(KEY, format=FORMAT + 1),
        ]
        assert len({name for name in KEY.document if name != "kind"}) == len(others)
        assert len({key.digest for key in [KEY, *others]}) == len(others) + 1
        for other in others:
            assert len(KEY.differences(other)) == 1, other
        assert KEY.differences(KEY) == []

    def test_kinds_are_kept_apart(self) -> None:
        timing = TimingKey("10.16.1.11", "GPU", (9, 0), 132, 1)
        network = NetworkKey("ab" * 32, "images", "NCHW", 320, 320, "output0", "fp16")
        assert len({key.document["kind"] for key in (KEY, timing, network)}) == 3
        with pytest.raises(ValueError, match="no plan"):
            PlanKey.read(timing.document)
        with pytest.raises(ValueError, match="no plan"):
            PlanKey.read({**KEY.document, "kind": "timing"})

    def test_its_text_is_one_and_survives(self) -> None:
        assert PlanKey.read(json.loads(KEY.canonical)) == KEY
        assert KEY.canonical == canonical(dict(reversed(KEY.document.items())))
        assert b" " not in KEY.canonical.replace(b"strongly typed", b"").replace(b"NVIDIA H100 80GB HBM3", b"")


class TestWholeOrNothing:
    def test_what_was_stored_comes_back(self, cache: Cache, stored: Path) -> None:
        entry = cache.load(KEY, "nudenet")
        assert entry is not None
        assert (entry.content, entry.facts, entry.key, entry.path) == (PLAN, FACTS, KEY.document, stored)
        assert leftovers(cache) == []

    def test_it_is_private_whatever_the_mask_is(self, cache: Cache) -> None:
        before = os.umask(0)
        try:
            path = cache.store(KEY, "nudenet", FACTS, PLAN)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(cache.path.stat().st_mode) == 0o700

    def test_nothing_is_there_before(self, cache: Cache) -> None:
        assert content_of(cache) is None
        assert cache.entries() == []
        assert cache.prune(lambda _: True) == ([], 0)
        assert not cache.path.exists()

    def test_a_later_one_takes_the_place_of_an_earlier(self, cache: Cache, stored: Path) -> None:
        assert cache.store(KEY, "nudenet", FACTS, PLAN[::-1]) == stored
        assert content_of(cache) == PLAN[::-1]

    def test_cut_anywhere_it_is_as_if_it_were_not_there(self, cache: Cache, stored: Path) -> None:
        whole = stored.read_bytes()
        for length in range(len(whole)):
            stored.write_bytes(whole[:length])
            entry = cache.look(KEY, "nudenet")
            assert entry is not None
            assert entry.state == "damaged", length
            assert entry.why
            assert content_of(cache) is None
        stored.write_bytes(whole + b"\0")
        assert content_of(cache) is None
        stored.write_bytes(whole)
        assert content_of(cache) == PLAN

    def test_any_flipped_bit_is_seen(self, cache: Cache, stored: Path) -> None:
        whole = stored.read_bytes()
        for place in range(len(whole)):
            for bit in range(8):
                flipped = bytearray(whole)
                flipped[place] ^= 1 << bit
                assert cache_module._parsed(stored, bytes(flipped)).state != "whole", (place, bit)

    def test_a_file_of_another_key_is_not_taken(self, cache: Cache, stored: Path) -> None:
        for other in (changed(KEY, tensorrt="11.4.0.106"), changed(KEY, device="NVIDIA H200")):
            name = cache.path / cache_module.file_name(other, "nudenet")
            shutil.copy(stored, name)
            assert content_of(cache, other) is None
        # Halves of two files make none.
        longer = cache.store(changed(KEY, memory_bytes=1), "nudenet", FACTS, PLAN * 2).read_bytes()
        stored.write_bytes(stored.read_bytes()[:400] + longer[400:])
        assert content_of(cache) is None

    def test_a_newer_format_is_not_read_and_said_to_be_one(self, cache: Cache, stored: Path) -> None:
        data = bytearray(stored.read_bytes())
        data[8:12] = (FORMAT + 1).to_bytes(4, "little")
        stored.write_bytes(data)
        entry = cache.look(KEY, "nudenet")
        assert entry is not None
        assert entry.state == "of another vidmod"
        assert content_of(cache) is None

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=400))
    def test_any_bytes_are_read_without_a_crash(self, data: bytes) -> None:
        assert cache_module._parsed(Path("x"), data).state == "damaged"
        assert cache_module._parsed(Path("x"), cache_module.MAGIC + data).state != "whole"

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )

    @settings(max_examples=300, deadline=None)
    @given(
        st.fixed_dictionaries({}, optional={"key": json_values, "facts": json_values, "content": json_values})
        | json_values,
        st.binary(max_size=20),
    )
    def test_any_header_with_the_right_hash_is_read_without_a_crash(self, header: Any, content: bytes) -> None:
        """Who may write here can make the hashes right: then all fields have to be right as well."""
        text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
        entry = cache_module._parsed(Path("x"), with_hash(text) + content)
        assert entry.state == "damaged"

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_a_file_that_was_changed_in_any_way_is_not_whole(self, data: st.DataObject) -> None:
        whole = with_hash(header_text()) + PLAN
        assert cache_module._parsed(Path("x"), whole).state == "whole"
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 64)))
        edited = whole[:start] + data.draw(st.binary(max_size=64)) + whole[end:]
        assert (cache_module._parsed(Path("x"), edited).state == "whole") == (edited == whole)


def header_text() -> bytes:
    content = {"bytes": len(PLAN), "sha256": hashlib.sha256(PLAN).hexdigest()}
    return canonical({"content": content, "facts": FACTS, "key": KEY.document})


def with_hash(header: bytes) -> bytes:
    begin = cache_module.MAGIC + FORMAT.to_bytes(4, "little") + len(header).to_bytes(4, "little") + header
    return begin + hashlib.sha256(begin).digest()


class TestNotOurs:
    """What somebody else has written, or could have, is never loaded, and never replaced without a word."""

    def refused(self, cache: Cache, *words: str) -> None:
        with pytest.raises(RuntimeUnavailableError) as caught:
            cache.load(KEY, "nudenet")
        for word in words:
            assert word in str(caught.value)

    @is_root
    def test_a_file_of_another_user(self, cache: Cache, stored: Path) -> None:
        os.chown(stored, OTHER_USER, OTHER_USER)
        self.refused(cache, str(stored), f"uid {OTHER_USER}", "vidmod engines prune")
        (entry,) = cache.entries()
        assert entry.state == "not yours"
        assert cache.prune(lambda entry: entry.state == "not yours") == ([stored], stored_size())
        assert content_of(cache) is None

    @is_root
    def test_a_folder_of_another_user(self, cache: Cache, stored: Path) -> None:
        os.chown(cache.path, OTHER_USER, OTHER_USER)
        self.refused(cache, str(cache.path), f"uid {OTHER_USER}", "VIDMOD_CACHE")
        with pytest.raises(RuntimeUnavailableError, match="another user"):
            cache.store(KEY, "nudenet", FACTS, b"new")
        with pytest.raises(RuntimeUnavailableError, match="another user"), cache.lock(KEY, "nudenet", lambda: None):
            pass
        with pytest.raises(RuntimeUnavailableError, match="another user"):
            cache.prune(lambda _: True)
        assert stored.exists()

    @is_root
    def test_as_another_user_roots_are_not_taken(self, cache: Cache, stored: Path, tmp_path: Path) -> None:
        """The same from the other side: a process without rights, in a folder that it can read."""
        for folder in (cache.path, *list(cache.path.parents)[:-1]):
            if folder.stat().st_mode & 0o555 != 0o555 and folder.is_relative_to(tmp_path.parent.parent):
                folder.chmod(0o755)
        stored.chmod(0o644)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.setgroups([])
                os.setgid(OTHER_USER)
                os.setuid(OTHER_USER)
                try:
                    cache.load(KEY, "nudenet")
                except RuntimeUnavailableError as exc:
                    os._exit(0 if "uid 0, and you are 12345" in str(exc) else 1)
            os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_a_file_that_others_may_write(self, cache: Cache, stored: Path, mode: int) -> None:
        stored.chmod(mode)
        self.refused(cache, str(stored), "can be written by others", f"{mode:o}")
        stored.chmod(0o600)
        assert content_of(cache) == PLAN

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
    def test_a_folder_that_others_may_write(self, cache: Cache, stored: Path, mode: int) -> None:
        cache.path.chmod(mode)
        self.refused(cache, str(cache.path), "can be written by others")
        with pytest.raises(RuntimeUnavailableError, match="written by others"):
            cache.store(KEY, "nudenet", FACTS, b"new")
        cache.path.chmod(0o700)
        assert content_of(cache) == PLAN

    def test_links(self, cache: Cache, stored: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        stored.rename(elsewhere)
        stored.symlink_to(elsewhere)
        self.refused(cache, str(stored), "is a link")
        cache.prune(lambda entry: entry.state == "not yours")
        assert elsewhere.read_bytes()
        assert not stored.is_symlink()
        linked = Cache(tmp_path / "linked")
        linked.path.symlink_to(cache.path)
        self.refused(linked, str(linked.path), "is a link")

    def test_a_pipe_does_not_hang(self, cache: Cache, stored: Path) -> None:
        stored.unlink()
        os.mkfifo(stored)
        self.refused(cache, "is no file")

    def test_a_folder_in_the_place_of_a_plan(self, cache: Cache, stored: Path) -> None:
        stored.unlink()
        stored.mkdir()
        self.refused(cache, "is no file")
        with pytest.raises(OutputError, match=r"cannot be removed.*by hand"):
            cache.prune(lambda _: True)

    @pytest.mark.parametrize("planted", ["link", "pipe", "writable"])
    def test_a_planted_lock_is_replaced(self, cache: Cache, stored: Path, tmp_path: Path, planted: str) -> None:
        lock, victim = stored.with_suffix(".lock"), tmp_path / "victim"
        victim.write_text("untouched")
        if planted == "link":
            lock.symlink_to(victim)
        elif planted == "pipe":
            os.mkfifo(lock)
        else:
            lock.touch()
            lock.chmod(0o666)
        with cache.lock(KEY, "nudenet", lambda: pytest.fail("nobody has it")):
            assert stat.S_IMODE(lock.lstat().st_mode) == 0o600
        assert victim.read_text() == "untouched"


def stored_size() -> int:
    return len(with_hash(header_text())) + len(PLAN)


@contextlib.contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has the cache in the folder of its first argument as `cache`, and KEY, FACTS and PLAN."""
    begin = """
import contextlib, os, signal, sys, time
from pathlib import Path
from tests.test_engines_cache import FACTS, KEY, PLAN
from vidmod.models.engines import Cache
cache = Cache(Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", begin + code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestKilled:
    # A fork for every call to the system on the way: it is killed before, or in the middle of what it writes.
    KILL_AT_EVERY_CALL = """
names = ("open", "write", "fsync", "rename", "unlink", "close", "mkdir", "fstat", "stat")
real = {name: getattr(os, name) for name in names}

def doomed(at):
    count = 0
    def wrapped(name):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at:
                if name == "write":
                    real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*args, **kwargs)
        return call
    for name in names:
        setattr(os, name, wrapped(name))

for at in range(1, 200):
    pid = os.fork()
    if pid == 0:
        doomed(at)
        with cache.lock(KEY, "nudenet", lambda: print("BUSY", flush=True)):
            cache.store(KEY, "nudenet", FACTS, PLAN[::-1])
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    entry = cache.load(KEY, "nudenet")
    content = "none" if entry is None else {PLAN: "old", PLAN[::-1]: "new"}.get(entry.content, "WRONG")
    parts = sum(name.endswith(".part") for name in os.listdir(sys.argv[1]))
    print(status, content, parts, flush=True)
    if status == 0:
        break
    if sys.argv[2] == "old":
        cache.store(KEY, "nudenet", FACTS, PLAN)
    else:
        cache.prune(lambda entry: True)
"""

    @pytest.mark.parametrize("before", ["old", "none"])
    def test_at_any_call_it_leaves_the_old_the_new_or_nothing(self, cache: Cache, before: str) -> None:
        cache.store(KEY, "nudenet", FACTS, PLAN)
        if before == "none":
            cache.prune(lambda _: True)
        with child(self.KILL_AT_EVERY_CALL, cache.path, before) as process:
            output, _ = process.communicate(timeout=120)
        rows = [line.split() for line in output.splitlines()]
        assert rows[-1][:2] == ["0", "new"], output
        assert {row[0] for row in rows[:-1]} == {str(int(signal.SIGKILL))}
        assert {row[1] for row in rows} == {before, "new"}
        # It was killed while there was something to leave behind, and the next one has cleared that away each time.
        assert len(rows) > 15
        assert any(row[2] == "1" for row in rows)
        assert all(int(row[2]) <= 1 for row in rows)
        assert rows[-1][2] == "0"

    def test_what_it_left_is_removed_by_prune(self, cache: Cache) -> None:
        cache.store(KEY, "nudenet", FACTS, PLAN)
        code = "os.rename = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        code += "with cache.lock(KEY, 'nudenet', print): cache.store(KEY, 'nudenet', FACTS, PLAN)"
        with child(code, cache.path) as process:
            assert process.wait(60) == -signal.SIGKILL
        assert [name.rpartition(".")[2] for name in leftovers(cache)] == ["part", "lock"]
        removed, size = cache.prune(lambda _: False)
        assert [path.suffix for path in removed] == [".part"]
        assert size == stored_size()
        assert leftovers(cache) == []
        assert content_of(cache) == PLAN


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


class TestSeveral:
    HOLD = """
with cache.lock(KEY, "nudenet", lambda: print("waiting", flush=True)):
    there = cache.load(KEY, "nudenet")
    print("finds", None if there is None else there.content == PLAN, flush=True)
    sys.stdin.readline()
    cache.store(KEY, "nudenet", FACTS, PLAN)
print("done", flush=True)
"""

    def test_the_second_waits_says_so_and_finds_what_the_first_made(self, cache: Cache) -> None:
        with child(self.HOLD, cache.path) as first:
            assert line_of(first) == "finds None"
            with child(self.HOLD, cache.path) as second:
                assert line_of(second) == "waiting"
                time.sleep(0.2)
                assert second.poll() is None
                tell(first)
                assert line_of(second) == "finds True"
                tell(second)
                assert (first.wait(60), second.wait(60)) == (0, 0)
        assert content_of(cache) == PLAN
        assert leftovers(cache) == []

    def test_a_killed_one_holds_nobody_up(self, cache: Cache) -> None:
        with child(self.HOLD, cache.path) as first:
            assert line_of(first) == "finds None"
            with child(self.HOLD, cache.path) as second:
                assert line_of(second) == "waiting"
                first.kill()
                assert line_of(second) == "finds None"
                tell(second)
                assert second.wait(60) == 0
        assert content_of(cache) == PLAN
        assert leftovers(cache) == []

    def test_another_key_is_another_lock(self, cache: Cache) -> None:
        with child(self.HOLD, cache.path) as first:
            assert line_of(first) == "finds None"
            with cache.lock(changed(KEY, precision="fp32"), "nudenet", lambda: pytest.fail("waits")):
                pass

    def test_many_at_once_never_hold_it_together(self, cache: Cache, tmp_path: Path) -> None:
        """The lock is removed at the end of each turn: the next ones must not get hold of two different files."""
        code = """
for _ in range(60):
    with cache.lock(KEY, "nudenet", lambda: None):
        os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
        os.unlink(sys.argv[2])
"""
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(child(code, cache.path, tmp_path / "taken")) for _ in range(3)]
            assert [process.wait(120) for process in running] == [0, 0, 0]
        assert leftovers(cache) == []

    def test_prune_leaves_what_is_being_made(self, cache: Cache) -> None:
        cache.store(KEY, "nudenet", FACTS, PLAN)
        other = cache.store(changed(KEY, precision="fp32"), "nudenet", FACTS, PLAN)
        code = """
with cache.lock(KEY, "nudenet", print):
    real = os.rename
    def slowly(*args, **kwargs):
        print("is writing", flush=True)
        sys.stdin.readline()
        real(*args, **kwargs)
    os.rename = slowly
    cache.store(KEY, "nudenet", FACTS, PLAN[::-1])
"""
        with child(code, cache.path) as builder:
            assert line_of(builder) == "is writing"
            assert cache.prune(lambda _: True)[0] == [other]
            assert content_of(cache) == PLAN
            assert [name.rpartition(".")[2] for name in leftovers(cache)] == ["part", "lock"]
            tell(builder)
            assert builder.wait(60) == 0
        assert content_of(cache) == PLAN[::-1]
        assert leftovers(cache) == []

    def test_prune_looks_again_under_the_lock(self, cache: Cache, stored: Path) -> None:
        """What was damaged when it began may have been rebuilt since."""
        stored.write_bytes(b"damaged")
        (entry,) = cache.entries()
        assert entry.state == "damaged"
        cache.store(KEY, "nudenet", FACTS, PLAN)
        assert cache.prune(lambda entry: entry.state == "damaged") == ([], 0)
        assert content_of(cache) == PLAN

    def test_reading_goes_on_while_it_is_replaced(self, cache: Cache) -> None:
        cache.store(KEY, "nudenet", FACTS, PLAN)
        code = "for turn in range(300): cache.store(KEY, 'nudenet', FACTS, PLAN[:: 1 - 2 * (turn % 2)])"
        seen = set()
        with child(code, cache.path) as writer:
            while writer.poll() is None:
                seen.add(content_of(cache))
        assert writer.returncode == 0
        assert seen <= {PLAN, PLAN[::-1]}


class TestNoRoom:
    LARGE = PLAN * 400

    def refused(self, cache: Cache) -> None:
        with pytest.raises(OutputError) as caught:
            cache.store(KEY, "nudenet", FACTS, self.LARGE)
        assert str(cache.path / cache_module.file_name(KEY, "nudenet")) in str(caught.value)
        assert "VIDMOD_CACHE" in str(caught.value)
        assert leftovers(cache) == []

    def test_a_limit_on_the_size_of_files(self, cache: Cache, stored: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(self.LARGE) // 2, hard))
        try:
            self.refused(cache)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert content_of(cache) == PLAN

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "small"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(path)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        yield path
        subprocess.run(["umount", str(path)], check=True)

    def test_a_full_disk(self, small_disk: Path) -> None:
        cache = Cache(small_disk / "engines")
        cache.store(KEY, "nudenet", FACTS, PLAN)
        self.refused(cache)
        assert content_of(cache) == PLAN
        # One that is full to the last byte can still be pruned.
        with contextlib.suppress(OSError), (small_disk / "rest").open("wb", 0) as rest:
            while True:
                rest.write(bytes(4096))
        assert len(cache.prune(lambda _: True)[0]) == 1

    def test_a_disk_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        cache = Cache(tmp_path / "file" / "engines")
        with pytest.raises(OutputError, match="cannot be written"):
            cache.store(KEY, "nudenet", FACTS, PLAN)

    def test_an_interrupt_leaves_nothing(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt), cache.lock(KEY, "nudenet", lambda: None):
            cache.store(KEY, "nudenet", FACTS, PLAN)
        assert list(cache.path.iterdir()) == []
