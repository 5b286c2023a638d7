"""One worker, and what it says, as the parent sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass

from vidmod.containment import Limits
from vidmod.workers.deadline import Deadline
from vidmod.workers.endings import Death, Ending, explain, printable
from vidmod.workers.slots import Slots
from vidmod.workers.wire import Inbox, Json, WireError, encode

_CHUNK_BYTES = 1 << 16
# What one worker may say before the others are heard again.
_MAX_MESSAGES = 256
_MAX_ERROR_NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """What a worker said.

    Attributes:
        payload: A JSON object, otherwise unchecked: the worker may be in the hands of the file. If
            it has a `slot`, that is the number of a slot that is now held here.
    """

    worker: Worker
    payload: Json


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """The last that is heard of a worker.

    Attributes:
        reason: `finished`: the handler returned. `crashed`: an exception, a signal, a status.
            `deadline`: too slow, by the clock or the processor. `memory`: MemoryError. `protocol`:
            it said what it must not. `killed`: by :meth:`Worker.kill`.
        detail: For people: one line of at most about 2,000 characters, safe to show.
    """

    worker: Worker
    reason: Ending
    detail: str


class Worker:
    """A process that serves one file. Made by :meth:`Pool.fork`; none of its methods waits.

    What comes after :meth:`kill` is for the pool.

    Attributes:
        pid: Its process; None until that has started.
        layers: What encloses it, as it reported before it saw the file.
        connection: None once it is not listened to any more.
    """

    def __init__(
        self, connection: socket.socket, memory: int | None, slots: int, slot_bytes: int, limits: Limits
    ) -> None:
        self.pid: int | None = None
        self.layers: tuple[str, ...] = ()
        self.connection: socket.socket | None = connection
        self._inbox = Inbox()
        self._outgoing = bytearray()
        self._slots = None if memory is None else Slots(memory, slots, slot_bytes, writable=False)
        self._count = slots
        self._limits = limits
        self._held: set[int] = set()
        self._deadline = Deadline()
        self._is_enclosed = False
        self._failure: tuple[Ending, str] | None = None
        self._sentence: tuple[Ending, str] | None = None

    def send(self, message: Json) -> None:
        """Send a message to the handler; what does not fit is sent by the next polls.

        To a worker that has ended nothing is sent, and that is no error.

        Raises:
            WireError: The message is above 4 MiB, or is not JSON.
        """
        self._post({"payload": message})

    def image(self, slot: int) -> memoryview:
        """The bytes of a slot that a message has handed over, read-only.

        They stay readable after the worker's end. Until then a hostile worker can change them at
        any time: copy what is looked at twice.

        Raises:
            ValueError: The slot is not held.
        """
        self._check_held(slot)
        assert self._slots is not None
        return self._slots[slot]

    def release(self, slot: int) -> None:
        """Let the worker write the slot again.

        Raises:
            ValueError: The slot is not held.
        """
        self._check_held(slot)
        self._held.remove(slot)
        self._post({"release": slot})
        self._run_deadline()

    def expect(self, seconds: float | None) -> None:
        """Start the deadline of the worker's present task anew, or stop it with None.

        It runs from the worker's start, and not while all slots are held here. The worker is killed by
        the first :meth:`Pool.poll` after it; one that has just said something is heard first, and
        given half a second more, once.
        """
        self._deadline.start(seconds)

    def kill(self, reason: str) -> None:
        """End the worker. :meth:`Pool.poll` reports it as `killed`, with this reason, soon."""
        self._condemn("killed", reason)

    @property
    def is_writing(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._outgoing)

    @property
    def has_more(self) -> bool:
        """Whether :meth:`hear` need not wait for it to say more."""
        return self._inbox.is_ready

    @property
    def due_seconds(self) -> float:
        """In how many seconds its deadline will be over, if nothing happens until then."""
        return self._deadline.due_seconds

    def start(self, pid: int) -> None:
        """Note that it runs."""
        self.pid = pid
        if self._sentence is not None:
            self._execute()
        self._run_deadline()

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        if self.connection is None or not self._outgoing:
            return
        try:
            sent = self.connection.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:
            # It has ended; what it said before is read first, and then its end is seen.
            self._outgoing.clear()
        else:
            del self._outgoing[:sent]

    def hear(self) -> list[Message]:
        """Read at most 64 KiB, and take at most 256 messages."""
        messages: list[Message] = []
        try:
            if not self._inbox.is_ready:
                self._read()
            while len(messages) < _MAX_MESSAGES and (frame := self._inbox.take()) is not None:
                message = self._understand(frame)
                if message is not None:
                    messages.append(message)
        except WireError as exc:
            self._condemn("protocol", f"broke the protocol: {exc}")
        return messages

    def check_deadline(self) -> None:
        """Kill it if it is late."""
        if self.connection is not None and self._deadline.due_seconds <= 0:
            self._condemn("deadline", f"past its deadline of {self._deadline.seconds:g} s")

    def judge(self, death: Death) -> Ended:
        """Say how it ended."""
        reason, detail = self._sentence or self._failure or explain(death, self._limits)
        if reason == "finished" and len(self._inbox):
            reason, detail = "protocol", "broke the protocol: ended in the middle of a message"
        return Ended(self, reason, detail)

    def never_started(self, detail: str) -> Ended:
        """Say that the system would not start it."""
        self.forget()
        return Ended(self, *(self._sentence or ("crashed", f"could not be started: {printable(detail)}")))

    def forget(self) -> None:
        """Have nothing more to do with it."""
        self._hang_up()

    def _check_held(self, slot: int) -> None:
        if slot not in self._held:
            raise ValueError(f"Slot {slot!r} is not held; {sorted(self._held)} are.")

    def _run_deadline(self) -> None:
        waits_for_us = self._count > 0 and len(self._held) == self._count
        self._deadline.run(self.pid is not None and not waits_for_us)

    def _post(self, frame: Json) -> None:
        if self.connection is None:
            return
        self._outgoing += encode(frame)
        self.flush()

    def _read(self) -> None:
        if self.connection is None:
            return
        try:
            data = self.connection.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if data:
            self._inbox.feed(data)
        else:
            self._hang_up()

    def _understand(self, frame: Json) -> Message | None:
        if self._failure is not None:
            raise WireError("a frame after its last")
        if not self._is_enclosed and "error" not in frame:
            self.layers = _strings(frame.get("layers"))
            self._is_enclosed = True
            return None
        if "error" in frame:
            self._failure = _failure(frame, self._limits)
            return None
        payload = frame.get("payload")
        if not isinstance(payload, dict):
            raise WireError("a frame of no known kind")
        self._deadline.hear()
        if payload.get("slot") is not None:
            self._hold(payload["slot"])
        return Message(self, payload)

    def _hold(self, slot: object) -> None:
        if type(slot) is not int or not 0 <= slot < self._count or slot in self._held:
            raise WireError(f"slot {str(slot)[:20]!r} of {self._count}, while {sorted(self._held)} were handed over")
        self._held.add(slot)
        self._run_deadline()

    def _condemn(self, reason: Ending, detail: str) -> None:
        """Kill the worker, for this reason if it is the first; it is not listened to any more."""
        if self.connection is None:
            # It has ended, is about to, or is condemned. Its number may be another's by now.
            return
        self._sentence = (reason, printable(detail))
        self._hang_up()
        if self.pid is not None:
            self._execute()

    def _execute(self) -> None:
        # The zygote was not yet told to reap it, so the number is its own, unless the zygote is dead.
        assert self.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WireError("a first frame that does not say what encloses it")
    return tuple(value)


def _failure(frame: Json, limits: Limits) -> tuple[Ending, str]:
    name, message = frame["error"], frame.get("message")
    if not isinstance(name, str) or not isinstance(message, str):
        raise WireError("an error without a name or a message")
    if name == "MemoryError":
        return "memory", f"past its memory limit of {limits.memory_bytes >> 20} MiB"
    return "crashed", printable(f"{name[:_MAX_ERROR_NAME_CHARACTERS]}: {message}")
