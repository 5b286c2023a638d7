"""What a live filter is set up with, tried with the programs that it is for."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tests.enclosed import ROOT

SAMPLES = ROOT / "samples" / "live"
MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def other_address() -> str | None:
    """An address of this machine that is not loopback's."""
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # of no one (RFC 5737); nothing is sent
        except OSError:
            return None
        address: str = asking.getsockname()[0]
    return None if address.startswith("127.") else address


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx with the sample's configuration, but for its port, its own files, and whom it listens to."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None or not MODULE.is_file():
        pytest.skip("nginx is not here: apt install nginx libnginx-mod-rtmp")
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    text = (SAMPLES / "nginx.conf").read_text("utf-8")
    for before, after in {
        "listen 127.0.0.1:1935;": f"listen {port};",
        "/run/nginx.pid": f"{folder}/pid",
        "/var/log/nginx/rtmp.log": f"{folder}/log",
        "modules/ngx_rtmp_module.so": str(MODULE),
    }.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "nginx.conf").write_text(f"daemon off;\n{text}", "utf-8")
    command = [nginx, "-p", str(folder), "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    with subprocess.Popen(command) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return


class Publisher:
    """Sends grey pictures for as long as there is one to take them."""

    def __init__(self, url: str) -> None:
        self._output = av.open(url, "w", format="flv", timeout=(5.0, 5.0))
        self._stream = self._output.add_stream("libx264", rate=25)
        self._stream.width, self._stream.height, self._stream.pix_fmt = 64, 48, "yuv420p"
        self._stream.codec_context.gop_size = 25
        self._stream.codec_context.options = {"tune": "zerolatency"}

    def send(self, pictures: int) -> None:
        for _ in range(pictures):
            for packet in self._stream.encode(av.VideoFrame(64, 48, "yuv420p")):
                self._output.mux(packet)
            time.sleep(0.01)

    def close(self) -> None:
        # It was refused, or is gone.
        with contextlib.suppress(OSError):
            self._output.close()


def is_let_publish(url: str) -> bool:
    publisher = None
    try:
        publisher = Publisher(url)
        publisher.send(100)
    except OSError:
        return False
    finally:
        if publisher is not None:
            publisher.close()
    return True


def is_let_play(url: str, publisher: Publisher) -> bool:
    """Whether a player is sent anything of what is published meanwhile."""
    with subprocess.Popen(
        [
            shutil.which("ffmpeg") or "ffmpeg",
            *["-nostdin", "-v", "quiet", "-i"],
            url,
            *["-frames:v", "5", "-f", "null", "-"],
        ]
    ) as player:
        end = time.monotonic() + 15
        while player.poll() is None and time.monotonic() < end:
            publisher.send(10)
        player.kill()
    return player.returncode == 0


def test_vidmod_may_do_what_it_has_to(server: int) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not here")
    for name in ("in", "out"):
        publisher = Publisher(f"rtmp://127.0.0.1:{server}/{name}/stream")
        try:
            publisher.send(10)
            assert is_let_play(f"rtmp://127.0.0.1:{server}/{name}/stream", publisher)
        finally:
            publisher.close()


def test_others_may_only_play_what_is_filtered(server: int) -> None:
    address = other_address()
    if address is None or shutil.which("ffmpeg") is None:
        pytest.skip("this machine has loopback only, or no ffmpeg")
    assert not is_let_publish(f"rtmp://{address}:{server}/out/other")
    assert not is_let_publish(f"rtmp://{address}:{server}/in/other")
    played = {}
    for name in ("in", "out"):
        publisher = Publisher(f"rtmp://127.0.0.1:{server}/{name}/shown")
        try:
            publisher.send(10)
            played[name] = is_let_play(f"rtmp://{address}:{server}/{name}/shown", publisher)
        finally:
            publisher.close()
    assert played == {"in": False, "out": True}


def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    text = (SAMPLES / "vidmod-live@.service").read_text("utf-8")
    program = "/opt/vidmod/bin/vidmod"
    assert program in text
    (tmp_path / "vidmod-live@.service").write_text(text.replace(program, "/bin/true"), "utf-8")
    more = tmp_path / "vidmod-live@.service.d"
    more.mkdir()
    shutil.copy(SAMPLES / "webhook.conf", more)

    def complaints() -> str:
        command = [analyze, "verify", "vidmod-live@studio.service"]
        environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return run.stderr if run.returncode == 0 else f"status {run.returncode}: {run.stderr}"

    assert complaints() == ""
    (more / "wrong.conf").write_text("[Service]\nRestart=sometimes\n", "utf-8")
    assert "sometimes" in complaints()


def test_the_guide_names_what_there_is() -> None:
    guide = (ROOT / "docs" / "live.md").read_text("utf-8")
    named = set(re.findall(r"samples/live/[\w@.-]*\w", guide))
    assert named == {f"samples/live/{path.name}" for path in SAMPLES.iterdir()}
