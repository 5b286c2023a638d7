"""What a page calls a file: a URL (RFC 3986) relative to the page's folder, or an absolute one."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

# What needs no escape in a path and stands for nothing else: not `:`, after which a name would be a scheme.
_SAFE = "/"


def address(path: Path, folder: Path | None) -> str:
    """The URL of a file, as text without quotes or spaces, whatever its name is.

    Args:
        path: The file.
        folder: Where the page is that names it; None if that is not known, which gives a `file:` URL (RFC 8089).
    """
    # By the names that the user knows: a browser takes `..` away from those, not from where links lead.
    whole = os.path.abspath(path)  # noqa: PTH100
    if folder is None:
        return "file://" + quote(os.fsencode(whole), safe=_SAFE)
    return quote(os.fsencode(os.path.relpath(whole, os.path.abspath(folder))), safe=_SAFE)  # noqa: PTH100
