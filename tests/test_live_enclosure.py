"""What each process of a live filter can still do once it is enclosed, tried from inside of real ones."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import av
import msgspec
import pytest

from tests.enclosed import ROOT, SAMPLE, Needs
from tests.networks import write_detector
from vidmod.containment import LAYERS, Grants
from vidmod.errors import UsageError
from vidmod.live.messages import (
    AnalystSettings,
    Beat,
    FilterSettings,
    PublisherSettings,
    ReaderSettings,
    RecorderSettings,
)
from vidmod.live.processes import rehearsal
from vidmod.live.processes.launching import command, environment_of
from vidmod.live.processes.reach import reach_of
from vidmod.live.processes.wire import Wire, WireClosedError, give
from vidmod.models import find, nvidia, shipped
from vidmod.policy import Policy

CODE = "import sys; sys.path.insert(0, {root!r}); from tests import live_probes; live_probes.begin()"
# Debian's, Red Hat's, and Alpine's.
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class Told(NamedTuple):
    """What a process told, and the layers that held."""

    value: Any
    layers: list[str]


def filtering() -> FilterSettings:
    return FilterSettings(
        policy=Policy.default().as_document(),
        labels=[],
        preparations=[find(name).preparation for name in shipped()],
        delay_seconds=1.0,
        latency_seconds=1.45,
        max_gap_seconds=0.3,
        hold_seconds=1.0,
        margin=0.2,
        max_pixels=1 << 28,
        preset="superfast",
        threads=2,
        begin=None,
    )


def recording(folder: Path | None, sealed: Path | None) -> RecorderSettings:
    places = [None if path is None else str(path) for path in (folder, sealed)]
    return RecorderSettings("live", places[0], places[1], [], 600.0, {}, [], 0.3, 0.0)


class Probed:
    """A process of a live filter, but that a probe runs in it; this is what watches it."""

    def __init__(self, role: str, settings: msgspec.Struct, probe: str, *, free: bool = False, **given: Any) -> None:
        self.carrier, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent, their_parent = socket.socketpair()
        self.wire: Wire[Beat] = Wire(parent, Beat)
        with theirs, their_parent:
            ends = [theirs.fileno(), their_parent.fileno()]
            started = command(role, *ends)
            place = started.index("-m")
            code = ["-c", CODE.format(root=str(ROOT)), role, probe, json.dumps({"free": free} | given)]
            self.process = subprocess.Popen(
                [*started[:place], *code, *map(str, ends)],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=ends,
                env=environment_of(role),
            )
        self.carrier.send(msgspec.msgpack.encode(settings))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.wire.close()
        self.carrier.close()

    def beat(self, seconds: float = 60) -> Beat | None:
        """The next one; None if there will be none."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := self.wire.receive():
                    return found[-1]
            except WireClosedError:
                return None
            time.sleep(0.01)
        raise AssertionError(f"It said nothing for {seconds} s.")


@contextlib.contextmanager
def probed(role: str, settings: msgspec.Struct, probe: str, **given: Any) -> Iterator[Probed]:
    made = Probed(role, settings, probe, **given)
    try:
        yield made
    finally:
        made.close()


def told(role: str, settings: msgspec.Struct, probe: str, **given: Any) -> Told:
    with probed(role, settings, probe, **given) as process:
        beat = process.beat()
        process.process.wait(30)
        assert process.process.stderr is not None
        errors = process.process.stderr.read().decode()
    assert beat is not None, errors
    return Told(json.loads(beat.trouble), beat.layers)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_detector(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    (made / "there").write_text("bytes")
    return made


@pytest.fixture
def local(tmp_path: Path) -> Iterator[str]:
    """A service on this machine, such as that of containers, reached by a path."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "service"))
        server.listen()
        yield str(tmp_path / "service")


def settings_of(role: str, tmp_path: Path, model: str) -> msgspec.Struct:
    made: dict[str, msgspec.Struct] = {
        "reader": ReaderSettings("rtmp://127.0.0.1/in/x", 5.0, 1 << 28),
        "filter": filtering(),
        "analyst": AnalystSettings([model], "onnxruntime", "cpu", "auto", {}),
        "publisher": PublisherSettings("rtmp://127.0.0.1/out/x", 5.0),
        "recorder": recording(tmp_path / "record", tmp_path / "seal"),
        "reader of a file": ReaderSettings(str(SAMPLE), 5.0, 1 << 28),
        "publisher of a file": PublisherSettings(str(tmp_path / "out" / "live.ts"), 5.0),
    }
    return made[role]


@pytest.mark.parametrize(
    "role", ["reader", "filter", "analyst", "publisher", "recorder", "reader of a file", "publisher of a file"]
)
def test_what_no_process_may(
    role: str, tmp_path: Path, folder: Path, local: str, model: str, layers_here: dict[str, str], needs: Needs
) -> None:
    needs("landlock", "seccomp")
    for name in ("record", "seal", "out"):
        (tmp_path / name).mkdir()
    settings = settings_of(role, tmp_path, model)
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = {"folder": str(folder), "port": server.getsockname()[1], "local": local}
        seen = told(role.split()[0], settings, "tries_what_is_forbidden", **given)
    # Those that have a network may connect, and nobody else.
    allowed = {"connect"} if role in ("reader", "publisher") else set()
    assert {name for name, result in seen.value.items() if result is None} == allowed
    assert {result for name, result in seen.value.items() if name not in allowed} <= {"EPERM", "EACCES"}
    assert sorted(path.name for path in folder.iterdir()) == ["there"]
    assert seen.layers == [name for name in LAYERS if layers_here[name] == "active"]


def test_all_that_works_for_a_process_that_is_not_enclosed(
    tmp_path: Path, folder: Path, local: str, model: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = {"folder": str(folder), "port": server.getsockname()[1], "local": local, "free": True}
        seen = told("filter", filtering(), "tries_what_is_forbidden", **given)
    free = {name for name, result in seen.value.items() if result is None}
    # Whether one may look into another depends on who one is.
    assert free >= {*seen.value} - {"trace", "memory"}
    assert seen.layers == []
    assert sorted(path.name for path in folder.iterdir()) == ["link", "new", "sub"]


@pytest.mark.parametrize("role", ["reader", "filter", "analyst", "publisher"])
def test_what_every_process_may(role: str, tmp_path: Path, model: str) -> None:
    with probed(role, settings_of(role, tmp_path, model), "works") as process:
        for number in range(5):
            ours, theirs = socket.socketpair()
            with theirs:
                give(process.carrier, "probe", theirs)
            wire: Wire[Beat] = Wire(ours, Beat)
            wire.send(Beat(f"wire {number}"))
            answers: list[Beat] = []
            end = time.monotonic() + 60
            while not answers and time.monotonic() < end:
                answers = wire.receive()
                time.sleep(0.01)
            assert [beat.doing for beat in answers] == ["heard"]
            wire.close()
        beat = process.beat()
    assert beat is not None
    assert json.loads(beat.trouble) == {
        "thread": [499500],
        "memory": 300,
        "codecs": 10,
        "new wires": [f"wire {number}" for number in range(5)],
        # What was not loaded before could not be any more.
        "modules": [],
    }
    assert "limits" in beat.layers


@pytest.mark.parametrize("role", ["reader", "publisher"])
def test_those_that_have_a_network_use_it(role: str, tmp_path: Path, model: str, needs: Needs) -> None:
    needs("seccomp")
    certificates = next((path for path in CERTIFICATES if Path(path).is_file()), "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        given = {"port": port, "certificates": certificates}
        seen = told(role, settings_of(role, tmp_path, model), "uses_the_network", **given).value
    refused = {name: seen.pop(name) for name in ("netlink", "packets", "sctp")}
    assert seen == {
        "resolved": ["127.0.0.1", port],
        "connected": None,
        "served": "through",
        "datagram": "packet",
        "certificates": True,
        "resolver": None,
    }
    assert set(refused.values()) == {"EPERM"}


def playlist(folder: Path) -> Path:
    """An HLS stream on the disk, in a folder of its own."""
    with av.open(str(folder / "list.m3u8"), "w", format="hls", options={"hls_time": "1", "hls_list_size": "0"}) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 25
        for number in range(75):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert len(list(folder.glob("*.ts"))) > 1
    return folder / "list.m3u8"


@pytest.mark.parametrize("kind", ["file", "playlist"])
def test_a_reader_reads_its_file_and_no_other(kind: str, tmp_path: Path, folder: Path, needs: Needs) -> None:
    needs("landlock")
    media = tmp_path / "media"
    media.mkdir()
    if kind == "playlist":
        source, beside = playlist(media), folder / "there"
    else:
        source, beside = Path(shutil.copy(SAMPLE, media)), media / "beside"
        beside.touch()
    settings = ReaderSettings(str(source), 5.0, 1 << 28)
    seen = told("reader", settings, "reads_a_source", beside=str(beside)).value
    assert seen == {"packets": True, "beside": "EACCES"}
    assert told("reader", settings, "reads_a_source", beside=str(beside), free=True).value["beside"] is None


@pytest.mark.parametrize("name", ["live.m3u8", "live.ts", "live.mkv", "live.mp4", "live.flv"])
def test_a_publisher_writes_its_file_and_nowhere_else(name: str, tmp_path: Path, folder: Path, needs: Needs) -> None:
    needs("landlock")
    target = tmp_path / "out" / name
    target.parent.mkdir()
    settings = PublisherSettings(str(target), 5.0)
    seen = told("publisher", settings, "writes_an_output", beside=str(folder / "new")).value
    assert seen == {"beside": "EACCES"}
    with av.open(str(target)) as written:
        assert len([packet for packet in written.demux(video=0) if packet.size]) == 150
    assert sorted(path.name for path in folder.iterdir()) == ["there"]
    assert name != "live.m3u8" or len(list(target.parent.glob("*.ts"))) > 1


def test_a_recorder_keeps_files_in_its_folders(tmp_path: Path, folder: Path, needs: Needs) -> None:
    needs("landlock", "seccomp")
    folders = [tmp_path / "record", tmp_path / "seal"]
    for path in folders:
        path.mkdir()
    given = {"folders": [str(path) for path in folders], "beside": str(folder / "new")}
    seen = told("recorder", recording(*folders), "keeps_files", **given).value
    assert seen.pop("beside") == "EACCES"
    done = [None, 8, None, "recorded", None, None, "EPERM", "EPERM"]
    assert seen == {"record": done, "seal": done}
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [
        "folder/there",
        "record/day/whole",
        "seal/day/whole",
    ]


@pytest.mark.parametrize(("runtime", "device"), [("onnxruntime", "cpu"), ("onnxruntime", "auto"), ("openvino", "cpu")])
def test_an_analyst_loads_and_runs_a_model(runtime: str, device: str, model: str, layers_here: dict[str, str]) -> None:
    if device == "auto" and nvidia.look().gpus:
        pytest.skip("this machine has a GPU, which an analyst would use")
    seen = told("analyst", AnalystSettings([model], runtime, device, "auto", {}), "looks")
    assert seen.value == {"runtime": runtime, "found": True}
    assert seen.layers == [name for name in LAYERS if layers_here[name] == "active"]


@pytest.mark.parametrize(("trouble", "ends"), [("refused", True), ("", False)])
def test_one_that_cannot_see_a_new_file_ends_if_it_is_in_trouble(trouble: str, ends: bool, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    with probed("reader", ReaderSettings(str(source), 5.0, 1 << 28), "waits_in_vain", trouble=trouble) as process:
        assert process.beat() is not None
        # It was not there when it was granted.
        source.write_bytes(SAMPLE.read_bytes())
        if ends:
            assert process.process.wait(20) == 0
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.process.wait(1.5)


def test_it_finds_no_secrets_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("VIDMOD_WEBHOOK_SECRET", "secret")
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy")
    found = {role: environment_of(role) for role in ("reader", "filter", "analyst", "publisher", "recorder")}
    assert {role for role, names in found.items() if "secret" in str(names)} == {"reader", "publisher"}
    assert all("PATH" in names for names in found.values())


def test_a_rehearsal_does_all_that_a_filter_does() -> None:
    counts = rehearsal.rehearse()
    assert counts.decoded >= 15
    assert counts.damaged == counts.late == 0
    assert min(counts.looked, counts.boxed, counts.found, counts.unseen, counts.filled) > 0


def test_what_each_may_reach(tmp_path: Path, model: str) -> None:
    found = {
        role: reach_of(role.split()[0], settings_of(role, tmp_path, model)).grants
        for role in ("reader", "filter", "analyst", "publisher", "recorder", "reader of a file", "publisher of a file")
    }
    assert {role for role, grants in found.items() if grants.network} == {"reader", "publisher"}
    assert {role: grants.writable for role, grants in found.items() if grants.writable} == {
        "recorder": (tmp_path / "record", tmp_path / "seal"),
        "publisher of a file": (tmp_path / "out",),
    }
    assert found["filter"] == Grants(lasting=True)
    assert tmp_path / "spot.onnx" in found["analyst"].readable
    assert SAMPLE in found["reader of a file"].readable
    for grants in found.values():
        # A checkout holds more than modules: its history, and what its owner has put there.
        assert not {Path("/"), Path("/etc"), Path("/proc"), Path("/home"), Path.home(), ROOT} & {*grants.readable}


def test_an_analyst_on_a_gpu_has_its_limits_only(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def layers(runtime: str, device: str) -> tuple[str, ...] | None:
        return reach_of("analyst", AnalystSettings([model], runtime, device, "auto", {})).layers

    assert layers("onnxruntime", "cuda:0") == ("limits",)
    assert layers("onnxruntime", "cpu") is layers("openvino", "auto") is layers("auto", "auto") is None
    assert layers("tensorrt", "auto") == ("limits",)
    # What is installed for a GPU takes one that is there.
    monkeypatch.setattr(metadata, "version", lambda name: "1.31.1")
    monkeypatch.setattr(nvidia, "look", lambda: nvidia.Machine(gpus=(nvidia.Gpu("Imaginary", (9, 0), 132, 1 << 34),)))
    assert layers("onnxruntime", "auto") == ("limits",)
    assert layers("onnxruntime", "cpu") is layers("openvino", "auto") is None
    monkeypatch.setattr(nvidia, "look", lambda: nvidia.Machine(problem="there is none"))
    assert layers("onnxruntime", "auto") is None


# What every process of ours runs first, where it is found: a machine without one of the layers.
ABSENT = """
from vidmod.containment import enclosing
def absent(_grants):
    raise OSError("it is not in this kernel")
enclosing._OPTIONAL["landlock"] = absent
"""


@pytest.mark.parametrize("is_absent", [True, False])
def test_the_job_tells_once_of_each_process_what_is_missing(
    is_absent: bool, tmp_path: Path, model: str, needs: Needs
) -> None:
    needs(*LAYERS)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    found = [str(ROOT)]
    if is_absent:
        (tmp_path / "sitecustomize.py").write_text(ABSENT, "utf-8")
        found.insert(0, str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found), "XDG_RUNTIME_DIR": str(runtime)}
    arguments = [str(SAMPLE), str(tmp_path / "out.ts"), "--models", model, "--labels", "BRIGHT", "--json-log"]
    command = [sys.executable, "-P", "-m", "vidmod", "live", *arguments, "--events", str(tmp_path / "events")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            messages: list[str] = []
            for line in process.stderr:
                row = json.loads(line)
                messages += [row["message"]] if row["event"] == "note" else []
                # The first picture has come, and a while after that: every process has long told its layers.
                if row["event"] == "status" and row["state"]["frames_analysed"] > 20:
                    break
        finally:
            process.terminate()
            process.wait(30)
    told = sorted(message for message in messages if "enclosed without" in message)
    expected = [
        f"The {role} is enclosed without landlock: see `vidmod doctor`."
        for role in ("analyst", "filter", "publisher", "reader")
    ]
    assert told == (expected if is_absent else [])


def test_a_grant_is_of_a_whole_path() -> None:
    with pytest.raises(UsageError, match=r"Invalid grant \('relative'\)"):
        Grants(readable=(Path("relative"),))
