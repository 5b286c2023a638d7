"""No network for a worker, by its effect."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from tests.enclosed import NOBODY, Body, Needs, landlock_version, outcome, worker
from vidmod.containment import libc, namespaces


def connects(port: int) -> Body:
    yield ()

    def call() -> str:
        # Not by create_connection: that imports a codec, which nobody may not be able to read.
        with socket.socket() as caller:
            caller.settimeout(5)
            caller.connect(("127.0.0.1", port))
        return "connected"

    return outcome(call)


@pytest.mark.parametrize(
    ("layer", "error"), [("namespaces", "ENETUNREACH"), ("landlock", "EACCES"), ("seccomp", "EPERM")]
)
def test_no_connection_reaches_a_server(layer: str, error: str, needs: Needs) -> None:
    needs(layer)
    if layer == "landlock" and landlock_version() < 4:
        pytest.skip("this Landlock knows no TCP")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        assert worker(connects, port, only=(layer,)).value == error
        with pytest.raises(BlockingIOError):
            server.accept()
        assert worker(connects, port, only=()).value == "connected"
        server.accept()[0].close()


def listens() -> Body:
    yield ()
    return outcome(lambda: socket.create_server(("127.0.0.1", 0)).close())


@pytest.mark.parametrize(("layer", "error"), [("landlock", "EACCES"), ("seccomp", "EPERM")])
def test_a_worker_serves_nobody(layer: str, error: str, needs: Needs) -> None:
    needs(layer)
    if layer == "landlock" and landlock_version() < 4:
        pytest.skip("this Landlock knows no TCP")
    assert worker(listens, only=(layer,)).value == error
    assert worker(listens, only=()).value is None


@pytest.mark.parametrize("uid", [None, NOBODY])
def test_network_namespace_with_and_without_rights(uid: int | None, needs: Needs) -> None:
    needs("namespaces")
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen = worker(connects, port, only=("namespaces",), uid=uid)
    assert (seen.value, seen.held) == ("ENETUNREACH", ["namespaces"])


def connects_without_user_namespaces(port: int) -> Body:
    def refuse(name: str, *arguments: Any) -> int:
        if name == "unshare" and arguments[0] & 0x10000000:
            raise PermissionError(errno.EPERM, "no user namespaces")
        return libc.call(name, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespaces, "call", refuse)
        return (yield from connects(port))


def test_root_leaves_the_network_without_user_namespaces(needs: Needs) -> None:
    needs("namespaces", "seccomp")
    if os.geteuid() != 0:
        pytest.skip("only root can")
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = worker(connects_without_user_namespaces, server.getsockname()[1], only=("namespaces",))
    assert (seen.value, seen.held) == ("ENETUNREACH", ["namespaces"])
