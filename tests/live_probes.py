"""What a process of a live filter tries once it is enclosed; see `test_live_enclosure`.

`python -c CODE ROLE PROBE ARGUMENTS CARRIER PARENT` runs :func:`begin`, which does what `vidmod.live.processes.process`
does, but that a probe runs in place of the role's own work. What it saw is told to the parent as a beat's trouble, as
JSON.
"""
# The calls of the system are the subject here, not paths.
# ruff: noqa: PTH102, PTH104, PTH108, PTH123, PTH208, PTH211

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from tests.enclosed import outcome
from vidmod.containment import libc
from vidmod.live.messages import Beat, RecorderSettings
from vidmod.live.processes import process
from vidmod.live.processes.station import Station
from vidmod.media.live import TIME_BASE, PictureDecoder, PictureEncoder, Shape


def begin() -> None:
    role, probe, given, carrier, parent = sys.argv[1:]
    arguments = json.loads(given)
    process.ROLES.setdefault("recorder", (__name__, RecorderSettings, 0))
    module = importlib.import_module(process.ROLES[role][0])
    changed: dict[Any, dict[str, Any]] = {module: {"KINDS": {"probe": Beat}}}
    changed[module]["run"] = partial(_run, globals()[probe], arguments)
    if arguments.pop("free"):
        changed[process] = {"enclose": lambda *_, **__: []}
    for where, names in changed.items():
        for name, value in names.items():
            setattr(where, name, value)
    process.main([role, carrier, parent])


def _run(probe: Callable[..., Any], arguments: dict[str, Any], station: Station[Any], settings: Any) -> None:
    try:
        seen = probe(station, settings, **arguments)
    except Exception as exc:  # noqa: BLE001 - it is told
        seen = f"{type(exc).__name__}: {exc}"
    station.beat(Beat("probed", trouble=json.dumps(seen)))


def tries_what_is_forbidden(station: Station[Any], settings: Any, folder: str, port: int, local: str) -> dict[str, Any]:
    """All that no process may do, whatever it is granted; it works for one that is not enclosed."""
    other = os.getppid()
    return {
        "read": outcome(lambda: open("/etc/passwd").close()),
        "list": outcome(lambda: len(os.listdir(folder)) and None),
        "write": outcome(lambda: open(f"{folder}/new", "w").close()),
        "change": outcome(lambda: open(f"{folder}/there", "a").close()),
        "folder": outcome(lambda: os.mkdir(f"{folder}/sub")),
        "remove": outcome(lambda: os.unlink(f"{folder}/there")),
        "link": outcome(lambda: os.symlink("/etc", f"{folder}/link")),
        "local socket": outcome(lambda: _connects(socket.AF_UNIX, local)),
        "program": outcome(lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0) and None),
        "process": outcome(_forks),
        "signal": outcome(lambda: os.kill(other, 0)),
        "trace": outcome(lambda: _traces(other)),
        "memory": outcome(lambda: os.close(os.open(f"/proc/{other}/mem", os.O_RDONLY))),
        "connect": outcome(lambda: _connects(socket.AF_INET, ("127.0.0.1", port))),
    }


def _connects(family: int, address: Any) -> None:
    with socket.socket(family) as caller:
        caller.settimeout(5)
        caller.connect(address)


def _forks() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _traces(other: int) -> None:
    """Attach to a process, and leave it again."""
    attach, detach = 16, 17
    libc.call("ptrace", attach, other, 0, 0)
    time.sleep(0.2)
    libc.call("ptrace", detach, other, 0, 0)


def works(station: Station[Any], settings: Any) -> dict[str, Any]:
    """All that each may do: threads, memory, time, pictures, new wires."""
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(sum(range(1000))))
    thread.start()
    thread.join()
    return {
        "thread": results,
        "memory": len(bytearray(300 << 20)) >> 20,
        "codecs": outcome(_codes),
        "new wires": [_heard(station) for _ in range(5)],
        "modules": sorted(_loaded_by(_codes)),
    }


def _codes() -> int:
    """Pictures that come out of a decoder with two threads, after an encoder with two threads."""
    shape = Shape.like((640, 360), Fraction(25))
    encoder = PictureEncoder(shape, threads=2)
    decoder = PictureDecoder("h264", encoder.parameter_sets, TIME_BASE, max_pixels=1 << 24, threads=2)
    packets = [packet for number in range(10) for packet in encoder.cover(number * 3600)]
    return len([frame for packet in packets for frame in decoder.decode(packet.data, packet.pts, packet.pts)])


def _heard(station: Station[Any]) -> str:
    """What comes over a wire that was not there before."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for name, message in station.poll(0.5):
            if name == "probe" and isinstance(message, Beat):
                station.send("probe", Beat("heard"))
                return message.doing
    return "nothing"


def _loaded_by(work: Callable[[], Any]) -> set[str]:
    before = set(sys.modules)
    work()
    return set(sys.modules) - before


def uses_the_network(station: Station[Any], settings: Any, port: int, certificates: str) -> dict[str, Any]:
    (found, *_) = socket.getaddrinfo("localhost", port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as caller:
        accepted, _ = server.accept()
        with accepted:
            caller.sendall(b"through")
            heard = accepted.recv(16).decode()
    with socket.socket(type=socket.SOCK_DGRAM) as first, socket.socket(type=socket.SOCK_DGRAM) as second:
        first.bind(("127.0.0.1", 0))
        first.settimeout(5)
        second.sendto(b"packet", first.getsockname())
        packet = first.recv(16).decode()
    return {
        "resolved": list(found[4]),
        "connected": outcome(lambda: _connects(socket.AF_INET, found[4])),
        "served": heard,
        "datagram": packet,
        "certificates": outcome(lambda: "BEGIN CERTIFICATE" in open(certificates).read()) if certificates else True,
        "resolver": outcome(lambda: open("/etc/resolv.conf").close()),
        # Of kinds of sockets that parse much in the kernel, none.
        "netlink": outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
        "packets": outcome(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
        "sctp": outcome(lambda: socket.socket(type=socket.SOCK_SEQPACKET).close()),
    }


def reads_a_source(station: Station[Any], settings: Any, beside: str) -> dict[str, Any]:
    from vidmod.media.network import NetworkReader

    with NetworkReader(settings.url) as reader:
        packets = reader.packets()
        sizes = [len(next(packets).data) for _ in range(5)]
    return {"packets": min(sizes) > 0, "beside": outcome(lambda: open(beside).close())}


def writes_an_output(station: Station[Any], settings: Any, beside: str) -> dict[str, Any]:
    from vidmod.media.network import NetworkWriter

    shape = Shape.like((64, 48), Fraction(25))
    encoder = PictureEncoder(shape)
    with NetworkWriter(settings.url, shape, (48_000, "stereo")) as writer:
        for number in range(150):
            for packet in encoder.cover(number * 3600):
                writer.write(packet.data, packet.pts, is_sound=False, key=packet.key)
    return {"beside": outcome(lambda: open(beside, "w").close())}


def keeps_files(station: Station[Any], settings: Any, folders: list[str], beside: str) -> dict[str, Any]:
    kept = {os.path.basename(folder): _keeps(folder) for folder in folders}  # noqa: PTH119
    return kept | {"beside": outcome(lambda: open(beside, "w").close())}


def _keeps(folder: str) -> list[Any]:
    return [
        outcome(lambda: os.mkdir(f"{folder}/day")),
        outcome(lambda: open(f"{folder}/day/aside", "w").write("recorded")),
        outcome(lambda: os.rename(f"{folder}/day/aside", f"{folder}/day/whole")),
        outcome(lambda: open(f"{folder}/day/whole").read()),
        outcome(lambda: open(f"{folder}/other", "w").close()),
        outcome(lambda: os.unlink(f"{folder}/other")),
        outcome(lambda: os.symlink("/etc/passwd", f"{folder}/link")),
        outcome(lambda: os.mkfifo(f"{folder}/pipe")),
    ]


def looks(station: Station[Any], settings: Any) -> dict[str, Any]:
    from vidmod.models import Geometry, Model, ModelInput, find

    (name,) = settings.models
    model = Model.load(find(name), runtime=settings.runtime)
    shape = model.manifest.preparation
    white = np.full((shape.height, shape.width, 3), 255, np.uint8)
    (seen,) = model.predict([ModelInput(white, Geometry((1.0, 1.0), (shape.width, shape.height)))])
    return {"runtime": model.info.runtime, "found": len(seen.detections) > 0}


def waits_in_vain(station: Station[Any], settings: Any, trouble: str) -> None:
    """Beats until that is of no use any more."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        station.beat(Beat("probed", trouble=trouble))
        time.sleep(0.05)
