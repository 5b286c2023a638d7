"""What an enclosed process may do beside computing and answering."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vidmod.errors import UsageError

# Where the system keeps programs' libraries, and what they ask about the machine.
_LIBRARIES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/bus/pci/devices",
    "/sys/devices",
    "/sys/fs/cgroup",
    "/dev/null",
    "/dev/urandom",
)
# What the C library asks before it asks a name server, and whom TLS believes.
_NETWORK = (
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gnutls",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
)
Mark = tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What is left to a process that gives up all else.

    Attributes:
        network: Reach others by TCP and UDP, and be reached. No other kind of socket, not even a local one.
        readable: Files, and folders with all that is in them. What does not exist is left out.
        writable: The same, to read, write, make, rename and remove in, but no links, devices, or pipes.
        devices: Device nodes, to open, read, write and command. Their drivers reserve terabytes of addresses, so not
            these are limited then, but the memory that the process may write to. Only with Landlock, which alone can
            tell one file that is opened for writing from another.
        lasting: It runs for as long as it is needed: no limit of processor time. Its threads may choose the processors
            that they run on.

    Raises:
        UsageError: A path is not absolute.
    """

    network: bool = False
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    lasting: bool = False

    def __post_init__(self) -> None:
        for path in (*self.readable, *self.writable, *self.devices):
            if not path.is_absolute():
                raise UsageError(f"Invalid grant ({str(path)!r}). Use a path that begins with /.")

    @property
    def opens(self) -> bool:
        """Whether there is any file that it may open."""
        return bool(self.readable or self.writable or self.devices)

    def marks(self) -> tuple[Mark, ...]:
        """What each path leads to now.

        Granted is what is there at that moment, not its name: what takes its name later is out of reach. Where these
        have changed, only a new process sees what is new.
        """
        return tuple(_mark(path) for path in (*self.readable, *self.writable, *self.devices))


NOTHING = Grants()


def libraries(more: Iterable[str | os.PathLike[str]] = ()) -> tuple[Path, ...]:
    """What a program has to read to load a library, and to know the machine.

    Args:
        more: Where this program's own are, such as `sys.path`. Relative ones are left out.
    """
    paths = dict.fromkeys(Path(path) for path in (*_LIBRARIES, *more))
    return tuple(path for path in paths if path.is_absolute())


def name_resolution() -> tuple[Path, ...]:
    """What a program has to read to find others by name, and to trust them."""
    return tuple(map(Path, _NETWORK))


def _mark(path: Path) -> Mark:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
