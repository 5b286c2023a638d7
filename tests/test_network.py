"""Streams from and to a network: real sockets, real servers where Python has them."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from vidmod.errors import OutputError, SourceUnreadableError, UsageError
from vidmod.media.live import AAC_SAMPLES, TIME_BASE, PictureEncoder, Shape, silent_packet
from vidmod.media.network import Incoming, NetworkReader, NetworkWriter, NoPicturesError
from vidmod.media.places import is_file, output_format

RATE, SIZE = 25, (160, 96)
SHAPE = Shape.like(SIZE, Fraction(RATE))
SOUND = (48_000, "stereo")
_FLV_HEADER = 13
SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")


def write(url: str, count: int = 50, *, number: int = 0, start: int = 0, delay: float = 0.0) -> None:
    """A stream with sound, each picture brighter than the one before."""
    encoder, silence = PictureEncoder(SHAPE), silent_packet(*SOUND)
    with NetworkWriter(url, SHAPE, SOUND, number=number) as writer:
        heard = 0
        for step in range(count):
            frame = av.VideoFrame.from_ndarray(
                np.full((SIZE[1] * 3 // 2, SIZE[0]), 60 + step % 150, np.uint8), "yuv420p"
            )
            pts = start + round(step / RATE / TIME_BASE)
            for item in encoder.picture(frame, (), pts):
                writer.write(item.data, item.pts, is_sound=False, key=item.key)
            while heard * AAC_SAMPLES / SOUND[0] <= step / RATE:
                sounds = start + round(heard * AAC_SAMPLES / SOUND[0] / TIME_BASE)
                writer.write(silence, sounds, is_sound=True, key=True)
                heard += 1
            time.sleep(delay)


def picture(number: int) -> av.VideoFrame:
    level = np.full((SIZE[1] * 3 // 2, SIZE[0]), 60 + number % 150, np.uint8)
    return av.VideoFrame.from_ndarray(level, "yuv420p")


def decoded(path: Path | str) -> list[float]:
    """Times of the pictures of a file."""
    with av.open(str(path)) as source:
        return [float(frame.time or 0.0) for frame in source.decode(video=0)]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.flv"
    write(str(path), 75)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, film: Path) -> Path:
    made = tmp_path_factory.mktemp("www")
    (made / "film.flv").write_bytes(film.read_bytes())
    write(str(made / "film.m3u8"), 200)
    return made


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def collected(reader: NetworkReader) -> list[Incoming]:
    """What comes until the source has ended."""
    rows: list[Incoming] = []
    try:
        for item in reader.packets():
            rows.append(item)  # noqa: PERF402 # what came before the end counts
    except SourceUnreadableError:
        return rows
    raise AssertionError("It ended without a word.")


def check(reader: NetworkReader, count: int) -> None:
    facts = reader.facts
    assert (facts.codec, facts.size) == ("h264", SIZE)
    assert facts.sound is not None
    assert (facts.sound.codec, facts.sound.sample_rate, facts.sound.layout) == ("aac", *SOUND)
    rows = collected(reader)
    pictures = [row for row in rows if not row.is_sound]
    assert len(pictures) == count
    assert pictures[0].key
    times = [float(row.pts * facts.time_base) for row in pictures if row.pts is not None]
    assert np.diff(times) == pytest.approx(1 / RATE, abs=2e-3)
    assert sum(row.is_sound for row in rows) > count * SOUND[0] / AAC_SAMPLES / RATE * 0.9


def test_a_file_is_paced_by_its_times(film: Path) -> None:
    with NetworkReader(str(film)) as reader:
        began = time.monotonic()
        check(reader, 75)
    assert 2.8 < time.monotonic() - began < 8


@pytest.mark.parametrize(("name", "count"), [("film.flv", 75), ("film.m3u8", 200)])
def test_http_is_read(web: str, name: str, count: int) -> None:
    with NetworkReader(f"{web}/{name}") as reader:
        check(reader, count)


def test_transport_streams_go_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, av.open(Pipe(connection), "w", format="mpegts") as output:
                remux(output)

        threading.Thread(target=serve, daemon=True).start()
        with NetworkReader(url) as reader:
            assert reader.facts.codec == "h264"
            assert len([row for row in collected(reader) if not row.is_sound]) == 100


class Pipe:
    """A socket as a file that PyAV writes to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)


def remux(output: Any) -> None:
    stream = output.add_stream("libx264", rate=RATE)
    stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
    stream.codec_context.gop_size = RATE
    for step in range(100):
        output.mux(stream.encode(picture(step)))
    output.mux(stream.encode(None))


def test_transport_streams_go_over_udp(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        path = tmp_path / "got.ts"
        thread = threading.Thread(target=write, args=(f"udp://127.0.0.1:{listener.getsockname()[1]}?pkt_size=1316",))
        thread.start()
        parts = []
        try:
            while True:
                parts.append(listener.recv(65_536))
                listener.settimeout(1)
        except TimeoutError:
            path.write_bytes(b"".join(parts))
        thread.join()
    assert len(decoded(path)) == 50


def test_datagrams_are_read() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"udp://127.0.0.1:{port}"
    thread = threading.Thread(target=write, args=(f"{url}?pkt_size=1316", 150), kwargs={"delay": 1 / RATE})
    thread.start()
    with NetworkReader(url, timeout_seconds=3) as reader:
        assert (reader.facts.codec, reader.facts.size) == ("h264", SIZE)
        base, rows = reader.facts.time_base, [row for row in collected(reader) if not row.is_sound]
    thread.join()
    # What was sent before somebody listened is lost.
    assert len(rows) > 100
    assert np.diff([float(row.pts * base) for row in rows if row.pts is not None]).max() < 2 / RATE


def begun(url: str, *, expects_sound: bool) -> float:
    """How long it takes to open a source."""
    began = time.monotonic()
    with NetworkReader(url, expects_sound=expects_sound) as reader:
        assert reader.facts.size == SIZE
        assert reader.facts.sound is None or reader.facts.sound.codec == "aac"
    return time.monotonic() - began


def test_sound_is_not_waited_for_where_there_was_none() -> None:
    with broadcast(flv(sound_from=None)) as url:
        assert begun(url, expects_sound=True) > 2.5
        assert begun(url, expects_sound=False) < 2.0


def test_pictures_that_begin_after_the_sound_take_their_time() -> None:
    with broadcast(flv(pictures_from=2.0)) as url:
        with pytest.raises(NoPicturesError, match=r"shows no pictures .*audio"):
            begun(url, expects_sound=False)
        assert begun(url, expects_sound=True) < 5.0


def test_a_source_is_as_large_as_its_first_key_picture_says() -> None:
    called: list[float] = []
    with (
        broadcast(transport()) as url,
        NetworkReader(url, meanwhile=lambda: called.append(time.monotonic())) as reader,
    ):
        assert reader.facts.size == SIZE
        first = next(row for row in reader.packets() if not row.is_sound)
        assert first.key
        assert len(called) > 2 * RATE
        assert max(np.diff(called)) < 1.0


def test_a_source_that_never_says_how_large_it_is_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidmod.media.network._SIZE_SECONDS", 1.0)
    with broadcast(transport()) as url, pytest.raises(NoPicturesError, match="how large"):
        NetworkReader(url)


@contextlib.contextmanager
def broadcast(rows: Iterable[tuple[float, bytes]]) -> Iterator[str]:
    """Sends everybody who connects what is due, from when they connect."""
    rows = sorted(rows, key=lambda row: row[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=send, args=(connection,), daemon=True).start()

        def send(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                began = time.monotonic()
                for seconds, data in rows:
                    time.sleep(max(0.0, began + seconds - time.monotonic()))
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def muxed(name: str, *, seconds: int, key_every: int = RATE, sound: bool = True) -> bytes:
    """A film in a format that needs no seeking."""
    target = io.BytesIO()
    options = {"flvflags": "no_duration_filesize"} if name == "flv" else {}
    with av.open(target, "w", format=name, options=options) as output:
        stream = output.add_stream("libx264", rate=RATE, options={"tune": "zerolatency", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size = key_every
        heard = output.add_stream("aac", rate=SOUND[0]) if sound else None
        for step in range(seconds * RATE):
            frame = picture(step)
            frame.pts = step
            output.mux(stream.encode(frame))
            if heard is not None:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920 * 2), np.int16), format="s16", layout="stereo")
                silence.sample_rate, silence.pts = SOUND[0], step * 1920
                output.mux(heard.encode(silence))
        output.mux(stream.encode(None))
    return target.getvalue()


def flv(*, sound_from: float | None = 0.0, pictures_from: float = 0.0) -> Iterator[tuple[float, bytes]]:
    """FLV's tags, and when each is due."""
    data, begins = muxed("flv", seconds=6, sound=sound_from is not None), {8: sound_from, 9: pictures_from}
    yield 0.0, data[:_FLV_HEADER]
    place = _FLV_HEADER
    while place + 15 <= len(data):
        kind, size = data[place], int.from_bytes(data[place + 1 : place + 4])
        seconds = int.from_bytes(data[place + 4 : place + 7]) / 1000
        tag = data[place : place + 11 + size + 4]
        begin = begins.get(kind)
        if begin is not None and seconds == 0 and data[place + 12] == 0:
            yield begin, tag  # what a decoder needs first
        elif begin is not None and seconds >= begin:
            yield seconds, tag
        place += len(tag)


def transport() -> Iterator[tuple[float, bytes]]:
    """A transport stream's packets and when each is due, from one second after a key picture to one that comes late."""
    length, late = 12, 8
    data = muxed("mpegts", seconds=length, key_every=late * RATE)
    for place in range(len(data) // length // 188 * 188, len(data), 10 * 188):
        yield place / len(data) * length - 1, data[place : place + 10 * 188]


@pytest.fixture
def camera(folder: Path) -> Iterator[str]:
    """The URL of a real RTSP server."""
    if not Path(SYSTEM_PYTHON).exists():
        pytest.skip(f"There is no {SYSTEM_PYTHON}, which an RTSP server would run in.")
    write(str(folder / "film.mp4"), 200)
    command = [SYSTEM_PYTHON, str(RTSP_SERVER), str(folder / "film.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        try:
            url = server.stdout.readline().strip()
            if not url:
                pytest.skip(server.stderr.read().strip())
            yield url
        finally:
            server.kill()


def test_cameras_are_read(camera: str) -> None:
    with NetworkReader(camera) as reader:
        check(reader, 200)
    with pytest.raises(SourceUnreadableError, match="404"), NetworkReader(f"{camera}s") as reader:
        collected(reader)


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv", "mp4"])
def test_a_file_is_written_and_what_follows_goes_beside_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    write(str(path))
    assert np.diff(decoded(path)) == pytest.approx(1 / RATE, abs=2e-3)
    before = path.read_bytes()
    for number in (1, 2):
        write(str(path), 25, number=number)
    assert path.read_bytes() == before
    assert [len(decoded(tmp_path / f"out-{number}.{suffix}")) for number in (2, 3)] == [25, 25]


def test_a_playlist_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.m3u8"
    write(str(path), 100)
    write(str(path), 100, number=1, start=round(4 / TIME_BASE))
    text = path.read_text()
    assert "#EXT-X-DISCONTINUITY" in text
    assert text.count("#EXTINF") >= 3


def test_who_does_not_answer_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SourceUnreadableError, match=r"did not answer|timed out"):
            NetworkReader(f"tcp://127.0.0.1:{port}", timeout_seconds=0.5)
    with pytest.raises(SourceUnreadableError, match="refused"):
        NetworkReader(f"rtmp://127.0.0.1:{port}/live/name", timeout_seconds=1)
    with pytest.raises(OutputError, match="refused"):
        NetworkWriter(f"rtmp://127.0.0.1:{port}/live/name", SHAPE, SOUND, timeout_seconds=1)
    with pytest.raises(OutputError, match="No such file"):
        NetworkWriter("/nonexistent/out.mkv", SHAPE, SOUND)


def test_secrets_are_not_told() -> None:
    with pytest.raises(SourceUnreadableError) as caught:
        NetworkReader("rtmp://user:geheim@127.0.0.1:1/live/key?token=geheim", timeout_seconds=1)
    assert "geheim" not in str(caught.value)


def test_sound_alone_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "sound.m4a.mp4"
    with av.open(str(path), "w") as output:
        stream = cast(Any, output.add_stream("aac", rate=48_000))
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = 48_000, number * 1024
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(SourceUnreadableError, match=r"shows no pictures .*audio"):
        NetworkReader(str(path))


@pytest.mark.parametrize("url", ["ftp://host/x", "srt://host:1", "concat:a|b", "pipe:0"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises((UsageError, SourceUnreadableError)):
        NetworkReader(url)


@pytest.mark.parametrize("url", ["ftp://host/x", "out.avi", "out", "http://host/x"])
def test_other_outputs_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"Invalid output .*m3u8"):
        output_format(url)


def test_a_playlist_names_no_files_of_this_machine(web: str, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    write(str(secret), 100)
    (folder / "evil.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(SourceUnreadableError), NetworkReader(f"{web}/evil.m3u8", timeout_seconds=2) as reader:
        list(reader.packets())


def test_paths_are_known_from_urls() -> None:
    assert is_file("a/b.mkv")
    assert not is_file("rtmp://host/app/name")
