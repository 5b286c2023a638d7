"""Writing a video again with some of its pictures changed, and all else as it was.

Only the groups of pictures that hold a changed picture are decoded and encoded; every other packet
is copied bit for bit, as the other streams are. An encoded group takes the decoding times of the
packets that it replaces, so nothing around it moves: see :mod:`vidmod.media.rewrite_apart`. Where
that is not safe, the whole stream is decoded and encoded, and the result says why: see
:mod:`vidmod.media.rewrite_whole`.

Or with some of them removed, and all that sounds meanwhile: see :mod:`vidmod.media.cut_groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO

from vidmod.errors import UsageError
from vidmod.media.encoding import NoEncoderError
from vidmod.media.facts import Medium, VideoTrack
from vidmod.media.groups import NotApartError
from vidmod.media.muxer import RefusedError
from vidmod.media.rewrite_apart import Partial
from vidmod.media.rewrite_job import Draw, Plan, Rewritten
from vidmod.media.rewrite_whole import Whole
from vidmod.media.silence import NotMutableError

__all__ = ["Draw", "Plan", "Rewritten", "rewrite"]


def rewrite(
    medium: Medium,
    track: VideoTrack,
    output: BinaryIO,
    plan: Plan,
    draw: Draw,
    alive: Callable[[], None] = lambda: None,
) -> Rewritten:
    """Write a video with the pictures changed that are shown in `plan.touched`.

    Args:
        medium: The source.
        track: Its picture stream that is to be changed; the other ones are dropped if not asked for.
        output: A binary file with write, seek, tell and truncate. What it holds is replaced.
        plan: What to change and how.
        draw: Changes a decoded picture in place, given its pts; called only for pictures that are
            shown within `plan.touched`, in the order of time within a group, and by a thread for each
            group that is encoded side by side with others. If it turns out under way that all has to
            be encoded, it is called again from the first on.
        alive: Called now and then.

    Raises:
        SourceError: The source cannot be read or decoded.
        OutputError: The output cannot be written, or the stream cannot be encoded.
        UsageError: The track is no video, or the plan's settings make no sense.
    """
    if track.kind != "video":
        raise UsageError(f"Invalid track (a {track.kind}). Use one whose kind is video.")
    failed: dict[int, NotMutableError] = {}
    while True:
        try:
            return _rewrite(medium, track, output, plan, draw, alive, failed)
        except NotMutableError as exc:
            # At most twice for each stream: its packets cannot be replaced, and it cannot be encoded either.
            before = failed.get(exc.index)
            if before is not None and before.encoded:
                raise
            failed[exc.index] = exc


def _rewrite(
    medium: Medium,
    track: VideoTrack,
    output: BinaryIO,
    plan: Plan,
    draw: Draw,
    alive: Callable[[], None],
    failed: Mapping[int, NotMutableError],
) -> Rewritten:
    """Write it in the way that is closest to the source.

    Raises:
        NotMutableError: A sound stream has to be treated in another way, all over again.
    """
    reason = "asked for"
    if not plan.full:
        job = Partial(medium, track, output, plan, draw, alive)
        job.failed = failed
        try:
            return job.run()
        except (NotApartError, NoEncoderError) as exc:
            reason = str(exc)
        except RefusedError:
            reason = "a packet cannot be copied into the output's format"
    whole = Whole(medium, track, output, plan, draw, alive)
    whole.failed = failed
    try:
        return whole.run(reason)
    except RefusedError:
        # Matroska holds what others do not, such as several AMR frames in one packet.
        other = Whole(medium, track, output, plan, draw, alive)
        other.failed = failed
        other.forced = "matroska", f"{whole.format} cannot hold all of it, so it is Matroska now"
        return other.run(reason)
