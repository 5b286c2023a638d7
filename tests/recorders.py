"""A recorder in a process of its own, as the one that watches starts it, and what it is fed with."""

from __future__ import annotations

import contextlib
import fcntl
import resource
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

import av
import msgspec
import numpy as np

from vidmod.live.messages import Beat, Begin, Finish, Found, Leave, RecorderSettings, Sight, Sound, ToParent
from vidmod.live.processes.launching import command, environment_of
from vidmod.live.processes.wire import Wire, WireClosedError, give
from vidmod.media.live import TIME_BASE, PictureEncoder, Shape, silent_packet
from vidmod.media.recording import plain_aac_config
from vidmod.policy import Policy

RATE, SIZE, SAMPLE_RATE = 25, (320, 180), 48_000
PERIOD = round(1 / (RATE * TIME_BASE))
BARS = 12
MODELS: list[dict[str, Any]] = [
    {
        "name": name,
        "version": "1",
        "sha256": "0" * 64,
        "licence": "MIT",
        "runtime": "openvino",
        "precision": "f32",
        "device": "cpu",
        "thresholds": {},
    }
    for name in ("open_nsfw", "nudenet")
]


def settings(folder: Path | None, sealed: Path | None = None, **more: Any) -> RecorderSettings:
    values: dict[str, Any] = {
        "name": "live",
        "folder": None if folder is None else str(folder),
        "sealed_folder": None if sealed is None else str(sealed),
        "recipients": [],
        "piece_seconds": 4.0,
        "policy": Policy.default().as_document(),
        "models": MODELS,
        "max_gap_seconds": 0.3,
        "origin": time.monotonic(),
    }
    return RecorderSettings(**{**values, **more})


class Process:
    """A process of a live filter, with wires of those names. A context manager, which kills it.

    Args:
        file_bytes: Of its largest file.
    """

    def __init__(self, role: str, given: msgspec.Struct, names: dict[str, Any], *, file_bytes: int = -1) -> None:
        self.carrier, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent, their_parent = socket.socketpair()

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        with theirs, their_parent:
            self.process = subprocess.Popen(
                command(role, theirs.fileno(), their_parent.fileno()),
                env=environment_of(role),
                pass_fds=(theirs.fileno(), their_parent.fileno()),
                stdin=subprocess.DEVNULL,
                preexec_fn=limited,
            )
        self.carrier.send(msgspec.msgpack.encode(given))
        self.parent: Wire[Any] = Wire(parent, cast(Any, ToParent))
        self.wires: dict[str, Wire[Any]] = {}
        for name, kind in names.items():
            mine, other = socket.socketpair()
            give(self.carrier, name, other)
            other.close()
            self.wires[name] = Wire(mine, kind)
        self.beat: Beat | None = None
        self.troubles: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for wire in (self.parent, *self.wires.values()):
            wire.close()
        self.carrier.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def hear(self) -> None:
        with contextlib.suppress(WireClosedError):
            for message in self.parent.receive():
                if isinstance(message, Beat):
                    self.beat = message
                    if message.trouble and message.trouble not in self.troubles[-1:]:
                        self.troubles.append(message.trouble)
        for wire in self.wires.values():
            wire.flush()

    def send(self, name: str, *messages: object) -> None:
        """Send all of them, however long it takes."""
        wire, end = self.wires[name], time.monotonic() + 30
        for message in messages:
            while wire.waiting > 1 << 20 or not wire.send(message):
                assert time.monotonic() < end, "it takes nothing"
                self.hear()
                time.sleep(0.005)

    def drained(self) -> None:
        """Wait until it has taken everything that was sent to it."""
        end = time.monotonic() + 30
        for wire in self.wires.values():
            # unix(7): of a stream socket what the other side has not read.
            while wire.waiting or struct.unpack("i", fcntl.ioctl(wire.fileno(), termios.TIOCOUTQ, bytes(4)))[0]:
                assert time.monotonic() < end, "it takes nothing"
                self.hear()
                time.sleep(0.005)

    def until(self, doing: str = "", *, packets: int = 0, trouble: str | None = None, seconds: float = 30) -> Beat:
        """Wait until it says so."""
        end = time.monotonic() + seconds
        while True:
            self.hear()
            beat = self.beat
            if (
                beat is not None
                and doing in beat.doing
                and beat.packets >= packets
                and (trouble is None or (trouble in beat.trouble if trouble else not beat.trouble))
            ):
                return beat
            assert self.process.poll() is None, f"ended with {self.process.poll()}"
            assert time.monotonic() < end, f"never: {beat}"
            time.sleep(0.01)

    def finish(self) -> Beat:
        self.parent.send(Finish())
        return self.until("finished")


class Recorder(Process):
    def __init__(self, given: RecorderSettings, *, file_bytes: int = -1) -> None:
        super().__init__("recorder", given, {"clean": int, "sights": int, "sealed": int}, file_bytes=file_bytes)


def numbered(number: int, size: tuple[int, int] = SIZE, *, noise: int = 0) -> av.VideoFrame:
    """A picture that shows its number, in bars of one bit each."""
    width, height = size
    row = np.array([220 if number >> bit & 1 else 40 for bit in range(BARS)], np.uint8).repeat(width // BARS + 1)
    plane = np.tile(row[:width], (height, 1))
    if noise:
        chance = np.random.default_rng(number)
        plane = np.clip(plane + chance.integers(-noise, noise, plane.shape), 0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(np.dstack([plane] * 3), format="rgb24").reformat(format="yuv420p")


def number_of(frame: av.VideoFrame) -> int:
    plane = frame.to_ndarray(format="gray")
    bar = plane.shape[1] // BARS + 1
    middles = [min(plane.shape[1] - 1, bit * bar + bar // 2) for bit in range(BARS)]
    return sum(1 << bit for bit, at in enumerate(middles) if plane[plane.shape[0] // 4 :, at].mean() > 128)


class Output:
    """What leaves a filter: its own pictures, numbered, and silence.

    Args:
        start: When its first picture leaves, on the shared clock, in seconds.
    """

    def __init__(self, start: float, *, sound: bool = True, bits: int = 300_000, noise: int = 0) -> None:
        self.start, self._noise = round(start / TIME_BASE), noise
        shape = Shape(SIZE, Fraction(RATE), bits, "ultrafast")
        self._encoder = PictureEncoder(shape)
        self._silence = silent_packet(SAMPLE_RATE, "stereo") if sound else None
        self._heard = 0
        self.begin = Begin(
            SIZE,
            (RATE, 1),
            bits,
            shape.preset,
            self._encoder.parameter_sets,
            Sound("aac", SAMPLE_RATE, "stereo", plain_aac_config(SAMPLE_RATE, "stereo")) if sound else None,
        )

    def pts(self, number: int) -> int:
        """When picture `number` leaves."""
        return self.start + number * PERIOD

    def leave(self, first: int, after: int) -> Iterator[Leave]:
        """Pictures `first` to `after`, without that, and the sound up to then; a key picture every second."""
        for number in range(first, after):
            frame = numbered(number, noise=self._noise)
            key = number == first or number % RATE == 0
            for packet in self._encoder.picture(frame, (), self.pts(number), key=key):
                yield Leave(False, packet.pts, packet.key, packet.data)
            while self._silence is not None and (at := self._sound_pts()) < self.pts(number + 1):
                self._heard += 1
                if at >= self.pts(first):
                    yield Leave(True, at, True, self._silence)

    def _sound_pts(self) -> int:
        return self.start + round(self._heard * 1024 / SAMPLE_RATE / TIME_BASE)

    def sight(self, number: int, nsfw: float = 0.01, *found: Found, size: tuple[int, int] = SIZE) -> Sight:
        return Sight(self.pts(number), size, [("open_nsfw", {"nsfw": nsfw})], list(found), b"grid")


def frames(path: Path | Any) -> list[tuple[int, int]]:
    """Time in milliseconds and number of every picture of a file, as far as it goes."""
    rows = []
    with av.open(path if hasattr(path, "read") else str(path)) as source, contextlib.suppress(av.error.FFmpegError):
        for frame in source.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base == Fraction(1, 1000)
            rows.append((frame.pts, number_of(frame)))
    return rows


def sound_times(path: Path | Any) -> list[int]:
    with av.open(path if hasattr(path, "read") else str(path)) as source:
        return [packet.pts for packet in source.demux(audio=0) if packet.pts is not None and packet.size]
