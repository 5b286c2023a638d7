"""What was done to a file, and the document about it."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import msgspec

from vidmod._version import __version__
from vidmod.cuts import Cuts
from vidmod.redacting.messages import Rewritten
from vidmod.redacting.settings import RedactSettings
from vidmod.timebase import Span, to_seconds
from vidmod.timeline import Json, Timeline


@dataclass(frozen=True, slots=True)
class Redaction:
    """What was done.

    Attributes:
        timeline: Of the source, with the tracks that were covered.
        covered_pictures: Pictures of which something is covered.
        written: How the file was written.
        spans: When something is covered, in seconds.
        muted: When it was silenced, in seconds.
        cuts: What was removed, in the source's seconds.
        checks: In words, what was verified; none if nothing was.
        settings: How it was asked for.
        output: The new file's `name`, `sha256` and `size_bytes`.
    """

    timeline: Timeline
    covered_pictures: int
    written: Rewritten
    spans: tuple[Span, ...]
    muted: tuple[Span, ...]
    checks: tuple[str, ...]
    settings: RedactSettings
    output: Json
    cuts: Cuts = field(default_factory=Cuts)

    def as_document(self) -> Json:
        """The JSON document that lies beside the output."""
        source, settings, written = self.timeline.source, self.settings, self.written
        text = "".join(self.timeline.dumps(compact=True))
        policy = self.timeline.provenance["policy"]
        return {
            "schema": "vidmod.redaction/1",
            "vidmod": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "input": {key: source[key] for key in ("name", "sha256", "size_bytes")},
            "output": self.output,
            "timeline_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "policy_sha256": hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest(),
            "sampling": self.timeline.provenance["sampling"],
            "labels": list(settings.labels),
            "style": settings.style,
            "shape": settings.shape,
            "margin": settings.margin,
            "segments": settings.segments,
            "covered_pictures": self.covered_pictures,
            "covered": _rows(self.spans),
            "audio": {
                "mode": settings.audio,
                "muted": _rows(self.muted),
                "tracks": [msgspec.structs.asdict(row) for row in written.muted],
            },
            "kept": sorted(settings.keep),
            "dropped": [msgspec.structs.asdict(row) for row in written.dropped],
            "cut": [
                {
                    "start_seconds": to_seconds(start, Fraction(1)),
                    "end_seconds": to_seconds(end, Fraction(1)),
                    "output_seconds": to_seconds(self.cuts.shifted(start), Fraction(1)),
                }
                for start, end in self.cuts.spans
            ],
            "cut_seconds": to_seconds(self.cuts.length, Fraction(1)),
            "cut_pictures": written.cut_pictures,
            "cut_packets_of_other_streams": written.cut_packets,
            "written": {
                "format": written.format,
                "encoder": written.encoder,
                "copied_packets": written.copied,
                "encoded_pictures": written.encoded,
                "fully_encoded_because": written.full,
                "undecodable_pictures": written.lost,
            },
            "notes": list(written.notes),
            "verified": list(self.checks),
        }


def _rows(spans: Sequence[Span]) -> list[Json]:
    return [{"start_seconds": span.start, "end_seconds": span.end} for span in spans]
