"""vidmod: find what is in a video, when, where and how sure; then cover it.

>>> import vidmod
>>> timeline = vidmod.scan("movie.mp4")
>>> timeline.verdict, [(s.category, s.start_seconds, s.end_seconds) for s in timeline.segments]
('review', [('nsfw', 12.0, 15.5)])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vidmod._version import __version__

if TYPE_CHECKING:
    from vidmod.errors import VidmodError
    from vidmod.exports import export
    from vidmod.imports import import_review
    from vidmod.judging import judge
    from vidmod.pages.report import report
    from vidmod.policy import Policy
    from vidmod.redacting.job import Redactor, redact
    from vidmod.redacting.result import Redaction
    from vidmod.redacting.settings import RedactSettings
    from vidmod.scanning import Progress, Scanner, ScanSettings, scan
    from vidmod.smoothing import Smoothing
    from vidmod.timeline import Timeline

__all__ = [
    "Policy",
    "Progress",
    "RedactSettings",
    "Redaction",
    "Redactor",
    "ScanSettings",
    "Scanner",
    "Smoothing",
    "Timeline",
    "VidmodError",
    "__version__",
    "export",
    "import_review",
    "judge",
    "redact",
    "report",
    "scan",
]

# Imported when first used, so that `vidmod --help` does not wait for decoders and runtimes.
_HOMES = {
    "Policy": "policy",
    "Progress": "scanning",
    "RedactSettings": "redacting.settings",
    "Redaction": "redacting.result",
    "Redactor": "redacting.job",
    "ScanSettings": "scanning",
    "Scanner": "scanning",
    "Smoothing": "smoothing",
    "Timeline": "timeline",
    "VidmodError": "errors",
    "export": "exports",
    "import_review": "imports",
    "judge": "judging",
    "redact": "redacting.job",
    "report": "pages.report",
    "scan": "scanning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vidmod' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vidmod.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
