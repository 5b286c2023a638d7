"""How a worker ended, in a word for programs and a sentence for people."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Literal

from vidmod.containment import Limits

Ending = Literal["finished", "crashed", "deadline", "memory", "protocol", "killed"]
MAX_DETAIL_CHARACTERS = 2000

_HINTS: dict[int, str] = {
    signal.SIGKILL: ", perhaps because memory ran out",
    signal.SIGSYS: ", by a system call that it may not make",
}


@dataclass(frozen=True, slots=True)
class Death:
    """What the zygote reports of a worker that is gone.

    Attributes:
        status: As `waitpid` gives it.
        processor_seconds: In user and system mode together.
        was_forced: Whether it had closed its link and had to be killed for not ending.
    """

    status: int
    processor_seconds: float
    was_forced: bool


def explain(death: Death, limits: Limits) -> tuple[Ending, str]:
    """Read the death of a worker that said nothing of its end."""
    if death.was_forced:
        return "protocol", "closed its link and did not end"
    code = os.waitstatus_to_exitcode(death.status)
    if code == 0:
        return "finished", "ended as it should"
    if code > 0:
        return "crashed", f"ended with status {code}"
    if -code == signal.SIGXCPU or (-code == signal.SIGKILL and death.processor_seconds >= limits.cpu_seconds):
        return "deadline", f"past its processor time limit of {limits.cpu_seconds} s"
    return "crashed", f"killed by {signal_words(-code)}{_HINTS.get(-code, '')}"


def printable(text: str, characters: int = MAX_DETAIL_CHARACTERS) -> str:
    """Make text from a worker safe to show: one line, no control characters, not long."""
    return "".join(char if char.isprintable() else " " for char in text[:characters])


def signal_words(number: int) -> str:
    """A signal by its number and, if it has one, its name."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
