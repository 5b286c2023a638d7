"""What files of a store are called, and how they say what they are about."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vidmod.timeline import Json

_OURS = re.compile(r"\.?[0-9]+-[0-9a-f]{16}-[0-9a-f]{16}\.(timeline\.json|journal)(\.[0-9a-f]{16}\.part)?")
_PREFIX_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Subject:
    """What a file is about: a source, and the settings of its scan.

    Raises:
        ValueError: A digest is none, or the size is negative.
    """

    sha256: str
    size_bytes: int
    settings: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"Invalid sha256 ({self.sha256!r}). Use 64 lower-case hex digits.")
        if not re.fullmatch(r"[0-9a-f]{16,}", self.settings):
            raise ValueError(f"Invalid settings ({self.settings!r}). Use 16 or more lower-case hex digits.")
        if self.size_bytes < 0:
            raise ValueError(f"Invalid size_bytes ({self.size_bytes}). Use 0 or more.")

    def name(self, suffix: str) -> str:
        """What its file is called."""
        return f"{self.size_bytes}-{self.sha256[:_PREFIX_CHARACTERS]}-{self.settings[:_PREFIX_CHARACTERS]}.{suffix}"

    def header(self, schema: str) -> Json:
        """What its file says of itself."""
        return {"schema": schema, "sha256": self.sha256, "size_bytes": self.size_bytes, "settings": self.settings}


def is_ours(name: str) -> bool:
    """Whether a file is a timeline or journal, or one that was written aside and not renamed."""
    return _OURS.fullmatch(name) is not None


def size_in(name: str) -> int | None:
    """The source's size in a file's name, None if it is not a timeline or journal."""
    return int(name.partition("-")[0]) if is_ours(name) and not name.startswith(".") else None


def dumps(value: object) -> str:
    """One line of ASCII: a file's name may hold what UTF-8 cannot."""
    return json.dumps(value, separators=(",", ":"))
