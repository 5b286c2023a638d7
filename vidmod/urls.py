"""URLs as they may be told."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_secrets(url: str) -> str:
    """A URL as it may be told: without user, password, query and the last part of the path, the stream key.

    A path of a file is told as it is.

    Example: `rtmps://user:word@example.org/live/key?token=1` gives `rtmps://example.org/live/…`.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme == "file":
        return url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{scheme}://…"
    place = f"[{host}]" if ":" in host else host
    above, _, key = parts.path.rpartition("/")
    hidden = "…" if key or parts.query or parts.fragment else ""
    return f"{scheme}://{place}{'' if port is None else f':{port}'}{above}/{hidden}".removesuffix("/")
