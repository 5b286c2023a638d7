"""A front that speaks TLS for a server on loopback that does not, with certificates of an authority made for it.

It is a process of its own: FFmpeg may wait for it without letting go of Python.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import trustme


class Front:
    """Passes on what it is told to a port of this machine. A context manager.

    Args:
        port: Of the server.
        authority: Who signs the certificate.
        folder: For the certificate.
        name: Whose certificate it is.

    Attributes:
        port: Its own, once it has been entered.
    """

    def __init__(self, port: int, authority: trustme.CA, folder: Path, name: str = "localhost") -> None:
        self.port = 0
        certificate = folder / f"{name}.pem"
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(certificate))
        self._command = [sys.executable, "-m", "tests.tls", str(port), str(certificate)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _serve(behind: int, certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_pass_on, args=(connection, context, behind), daemon=True).start()


def _pass_on(connection: socket.socket, context: ssl.SSLContext, behind: int) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        with (
            context.wrap_socket(connection, server_side=True) as front,
            socket.create_connection(("127.0.0.1", behind)) as back,
        ):
            # One thread reads and writes: a TLS connection is not for two at once.
            while True:
                for source, target in ((front, back), (back, front)):
                    source.settimeout(0.01)
                    with contextlib.suppress(TimeoutError):
                        if not (data := source.recv(65_536)):
                            return
                        target.settimeout(10)
                        target.sendall(data)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
