"""What runs in the workers of test_workers.py."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import socket
import sys
import time
from pathlib import Path

from vidmod.workers import Json, Link


def echo(link: Link, settings: Json) -> None:
    link.send({"settings": settings})
    while (message := link.receive()) is not None:
        if message == {"end": True}:
            return
        link.send(message)


def read(link: Link, settings: Json) -> None:
    """Say what the process looks like from within."""
    kinds = {name: os.fstat(name) for name in range(16) if _is_open(name)}
    link.send(
        {
            "text": os.pread(link.source, 100, 0).decode(),
            "open": sorted(kinds),
            "session": os.getsid(0),
            "environment": sorted(os.environ),
            "directory": str(Path.cwd()),
        }
    )
    print("nobody reads this")
    print("nor this", file=sys.stderr, flush=True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def pictures(link: Link, settings: Json) -> None:
    for number in range(settings["count"]):
        slot, view = link.acquire()
        view[:] = bytes([number % 256]) * len(view)
        link.send({"slot": slot, "number": number})
    link.send({"over": True})


def two_pictures_at_once(link: Link, settings: Json) -> None:
    """Messages that come while a slot is waited for are there afterwards."""
    held = [link.acquire(), link.acquire()]
    for slot, view in held:
        view[0] = 7
        link.send({"slot": slot})
    slot, _ = link.acquire()
    link.send({"slot": slot, "heard": [link.receive(), link.receive()]})
    link.receive()


def misuse(link: Link, settings: Json) -> None:
    link.acquire()
    kinds = []
    for attempt in (lambda: link.acquire(), lambda: link.send({"slot": 5}), lambda: link.send({"x": float("nan")})):
        try:
            attempt()
        except ValueError as exc:
            kinds.append(type(exc).__name__)
    link.send({"kinds": kinds})


def misbehave(link: Link, settings: Json) -> None:
    """End, or do not, in the way that is asked for."""
    link.send({"ready": True})
    match settings["how"]:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "raise":
            raise ValueError("no\x1b[31m\nsuch" + "h" * 5000)
        case "raise_surrogate":
            raise ValueError("\udc80")
        case "memory":
            _fill([])
        case "memory_at_once":
            bytes(1 << 40)
        case "hang":
            time.sleep(1000)
        case "hang_with_gil":
            re.match(r"(a+)+$", "a" * 60 + "b")
        case "spin":
            while True:
                pass
        case "recurse":
            _recurse()
        case "sys_exit":
            sys.exit(0)
        case "kill_itself":
            os.kill(os.getpid(), 9)


def _fill(held: list[bytes]) -> None:
    while True:
        held.append(bytes(1 << 20))


def _recurse() -> None:
    _recurse()


def say(link: Link, settings: Json) -> None:
    """Write bytes onto the wire, past the Link."""
    wire = socket.socket(fileno=os.dup(3))
    wire.sendall(settings["text"].encode() if "text" in settings else bytes.fromhex(settings["hex"]))
    if settings.get("zeros"):
        try:
            for _ in range(settings["zeros"] >> 16):
                wire.sendall(bytes(1 << 16))
        except OSError:
            os._exit(9)
    wire.close()
    if settings.get("stay", True):
        time.sleep(1000)


def hang_up(link: Link, settings: Json) -> None:
    os.close(3)
    time.sleep(1000)


def chat(link: Link, settings: Json) -> None:
    while True:
        link.send({"text": "x" * settings.get("size", 10)})
        time.sleep(settings.get("pause", 0))


def shrink(link: Link, settings: Json) -> None:
    """Attack the shared memory: the calls, and through the mapping's own descriptor."""
    slot, _ = link.acquire()
    codes = []
    for attempt in (
        lambda: os.ftruncate(5, 0),
        lambda: os.ftruncate(5, 1 << 30),
        lambda: fcntl.fcntl(5, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    ):
        try:
            attempt()
        except OSError as exc:
            codes.append(exc.errno)
    link.send({"slot": slot, "refused": codes == [errno.EPERM] * 3})


def wait(link: Link, settings: Json) -> None:
    """Do what each message asks."""
    while (message := link.receive()) is not None:
        time.sleep(message.get("sleep", 0))
        link.send({"done": message})
