"""Files that only somebody else can open: encrypted with age while they are written (https://age-encryption.org/v1).

What is written goes through a pipe to a thread that encrypts it, so that nothing lies in clear anywhere but in memory,
and of that no more than a pipe holds and one chunk of 64 KiB. Of a file that was cut off, `age -d` gives all whole
chunks, and then says that it ends early.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import pyrage

from vidmod.closing import Closing
from vidmod.errors import OutputError, UsageError

# pyrage says nothing of its types.
Recipient = Any
_READ_BYTES = 1 << 16


class Output(Protocol):
    """Where what is encrypted goes."""

    def write(self, data: bytes) -> int:
        """Write all of it.

        Raises:
            OSError: It cannot be written.
        """


def recipients_of(texts: Sequence[str]) -> list[Recipient]:
    """Who can open it.

    Args:
        texts: `age1…` as `age-keygen` gives it, or an SSH public key (`ssh-ed25519 …`, `ssh-rsa …`).

    Raises:
        UsageError: None, or one that is neither.
    """
    if not texts:
        raise UsageError("Invalid recipients (none). Name at least one age public key, as age-keygen -y gives it.")
    return [_recipient(text.strip()) for text in texts]


def _recipient(text: str) -> Recipient:
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except (pyrage.RecipientError, ValueError) as exc:
        # Somebody may have named the wrong half of the pair.
        shown = "a secret key" if text.upper().startswith("AGE-SECRET-KEY-") else repr(text[:80])
        raise UsageError(
            f"Invalid recipient ({shown}). Use an age public key (age1…) or an SSH public key (ssh-ed25519 …)."
        ) from exc


class Sealer(Closing):
    """Encrypts what is written. Belongs to one thread, and has one of its own.

    Args:
        output: Where to; only the sealer's thread writes to it, until this is closed.
        recipients: Who can open it.
    """

    def __init__(self, output: Output, recipients: Sequence[Recipient]) -> None:
        self._output, self._recipients = output, list(recipients)
        self._failure: Exception | None = None
        reading, self._writing = os.pipe()
        self._reading = os.fdopen(reading, "rb", buffering=_READ_BYTES)
        self._thread = threading.Thread(target=self._run, name="sealing", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> int:
        """Write all of it.

        Raises:
            OutputError: It cannot be written.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._writing, rest) :]
        except BrokenPipeError as exc:
            self._thread.join()
            raise self._refusal() from exc
        return len(data)

    def close(self) -> None:
        """Write what is left; more than once is fine.

        Raises:
            OutputError: It cannot be written.
        """
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        self._thread.join()
        if self._failure is not None:
            raise self._refusal()

    def abandon(self) -> None:
        """Write no more than can be written."""
        with contextlib.suppress(OutputError):
            self.close()

    def _run(self) -> None:
        noted = _Noted(self._output)
        try:
            pyrage.encrypt_io(self._reading, noted, self._recipients)
        except (pyrage.EncryptError, OSError) as exc:
            self._failure = noted.failure or exc
        finally:
            # Whoever writes is told by that.
            self._reading.close()

    def _refusal(self) -> OutputError:
        failure = self._failure
        return OutputError(getattr(failure, "strerror", None) or str(failure))


class _Noted:
    """An output that remembers how it failed: what pyrage raises is text."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._output.write(data)
        except OSError as exc:
            self.failure = exc
            raise

    def flush(self) -> None:
        """Nothing waits."""
