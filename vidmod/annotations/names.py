"""Names that a tool takes: one line, of characters that XML and databases take, short, and no two alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

# CVAT's limit for the name of a label.
_MAX_CHARACTERS = 64
# Control characters, surrogates, code points without a character; in XML 1.0 and in PostgreSQL they cannot be at all.
_NOT_TEXT = ("Cc", "Cs", "Cn")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str, limit: int = 4000) -> str:
    """The text in one line, without what no XML can hold, and of no more than `limit` characters.

    CVAT keeps 4096 characters of an attribute.
    """
    spaced = " ".join(text.split())
    return "".join(_REPLACEMENT if unicodedata.category(sign) in _NOT_TEXT else sign for sign in spaced[:limit]).strip()


class Names:
    """Each of some strangers' names as it is shown, and back.

    Args:
        originals: In order; what comes again is the same name.
        reserved: What is not to be used.
    """

    def __init__(self, originals: Iterable[str], reserved: Iterable[str] = ()) -> None:
        self._shown: dict[str, str] = {}
        self._originals: dict[str, str] = {}
        taken = set(reserved)
        for original in originals:
            if original not in self._shown:
                name = _free(_name(original), taken)
                taken.add(name)
                self._shown[original] = name
                self._originals[name] = original

    def __iter__(self) -> Iterator[str]:
        return iter(self._originals)

    def shown(self, original: str) -> str:
        """As it is shown."""
        return self._shown[original]

    def original(self, shown: str) -> str | None:
        """What is shown so; None if nothing is."""
        return self._originals.get(shown)


def _name(original: str) -> str:
    name = clean(original, _MAX_CHARACTERS) or "unnamed"
    # Label Studio takes what begins so for a field of the task.
    return name.replace("$", "S", 1) if name.startswith("$") else name


def _free(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        ending = f" ({number})"
        found = name[: _MAX_CHARACTERS - len(ending)] + ending
    return found
