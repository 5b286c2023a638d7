"""What a worker does for a redaction: list, rewrite and verify the one file that it was given.

This runs in a process of its own, enclosed by :mod:`vidmod.containment`. It cannot write a file: what it writes goes
through shared memory to the process that asked for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import msgspec

from vidmod import redaction
from vidmod.allocation import return_free_memory
from vidmod.errors import OutputError, SourceError, UsageError
from vidmod.media import loaded as _loaded  # noqa: F401
from vidmod.media.canvas import plain
from vidmod.media.demuxer import Demuxer
from vidmod.media.encoding import DEFAULT_PRESET
from vidmod.media.frame import Raster
from vidmod.media.groups import codec_of
from vidmod.media.listening import listen
from vidmod.media.muxer import Dropped, output_format
from vidmod.media.others import is_loose, lasting, other_packets
from vidmod.media.packets import holds_picture
from vidmod.media.reader import Reader
from vidmod.media.rewriting import Plan, rewrite
from vidmod.media.source import open_container, probe
from vidmod.media.still import image_formats, rewrite_image
from vidmod.messages import Failed, MediumSettings, Probed, ProbeTask, Working, decode, encode
from vidmod.outlet import Outlet
from vidmod.redacting.messages import (
    ROWS,
    Covering,
    CoverTask,
    Cut,
    Formats,
    FormatTask,
    Heard,
    ImageTask,
    LeftOut,
    ListenTask,
    ListOthersTask,
    ListTask,
    MutedSound,
    Noted,
    OtherPacket,
    OtherPackets,
    Packets,
    Pictures,
    RewriteTask,
    Rewritten,
    TaskType,
    VerifyTask,
    Written,
)
from vidmod.timebase import Span, union

if TYPE_CHECKING:
    from typing import BinaryIO

    from vidmod.workers import Json, Link

_DIGEST_CHARACTERS = 16
_SILENCE_SECONDS = 1.0
# What is said of a sample that is infinite, which JSON is not.
_LOUDEST = 1e6

__all__ = ["serve"]


def serve(link: Link, settings: Json) -> None:
    """Do one task after the other until the other side closes."""
    _Writing(link, decode(settings, MediumSettings)).run()


class _Writing:
    def __init__(self, link: Link, settings: MediumSettings) -> None:
        self._link = link
        self._medium = settings.medium(link.source)
        self._covers: dict[int, Covering] = {}
        self._spoke = 0.0

    def run(self) -> None:
        while (payload := self._link.receive()) is not None:
            task = decode(payload, TaskType)
            try:
                match task:
                    case ProbeTask():
                        self._send(Probed(probe(self._medium, lambda: self._send(Working()))))
                    case CoverTask():
                        self._covers.update((row.pts, row) for row in task.rows)
                        self._send(Noted())
                    case FormatTask():
                        self._formats(task)
                    case ImageTask():
                        self._rewrite_image(task)
                    case ListTask():
                        self._list(task)
                    case ListOthersTask():
                        self._list_others()
                    case RewriteTask():
                        self._rewrite(task)
                    case VerifyTask():
                        self._verify(task)
                    case ListenTask():
                        self._listen(task)
            except (SourceError, OutputError, UsageError) as exc:
                self._send(Failed(type(exc).__name__, str(exc)[:1000]))
            return_free_memory()

    def _send(self, message: msgspec.Struct) -> None:
        self._link.send(encode(message))

    def _list(self, task: ListTask) -> None:
        rows: list[tuple[int | None, int, str, bool]] = []
        with Demuxer(self._medium, task.track) as demuxer:
            for packet in demuxer.packets():
                digest = hashlib.sha256(memoryview(packet)).hexdigest()[:_DIGEST_CHARACTERS]
                shows = holds_picture(task.track.codec, packet)
                rows.append((packet.pts, packet.size, digest, shows))
                if len(rows) == ROWS:
                    self._send(Packets(rows))
                    rows = []
        self._send(Packets(rows))
        self._send(Noted())

    def _list_others(self) -> None:
        rows: list[OtherPacket] = []
        for packet, time_seconds in other_packets(self._medium):
            digest = "" if is_loose(packet) else hashlib.sha256(memoryview(packet)).hexdigest()[:_DIGEST_CHARACTERS]
            unit = packet.time_base or Fraction(1)
            start, end = lasting(packet, time_seconds)
            rows.append(OtherPacket(packet.stream_index, time_seconds, start, end, unit, packet.size, digest))
            if len(rows) == ROWS:
                self._send(OtherPackets(rows))
                rows = []
        self._send(OtherPackets(rows))
        self._send(Noted())

    def _rewrite(self, task: RewriteTask) -> None:
        outlet = Outlet(self._link, self._hand_over, lambda at: self._send(Cut(at)))
        plan = Plan(
            touched=tuple(Span(start, end) for start, end in (*task.touched, *task.slated)),
            keep=frozenset(task.keep),
            muted=tuple(Span(start, end) for start, end in task.muted),
            crf=task.crf,
            preset=DEFAULT_PRESET if task.preset is None else task.preset,
            full=task.full,
            threads=task.threads,
            gpu=task.gpu,
            cuts=tuple(Span(start, end) for start, end in task.cuts),
        )

        def draw(picture: Any, pts: int) -> None:
            self._draw(Raster.of(picture), pts, task)

        done = rewrite(self._medium, task.track, cast("BinaryIO", outlet), plan, draw, self._show_life)
        outlet.flush()
        notes = [] if done.format_reason is None else [done.format_reason]
        notes += [_left_out(row) for row in done.dropped]
        notes += [
            f"stream {row.index} (audio) was encoded anew: {row.why}" for row in done.muted if row.encoder and row.why
        ]
        if task.gpu is not None and done.encoder is not None and not done.encoder.endswith("_nvenc"):
            why = done.reason if done.full else "only groups of pictures were encoded, not the whole stream"
            notes.append(f"NVENC was asked for, but {done.encoder} has encoded it: {why}")
        if done.hidden_subtitles:
            notes.append(f"{done.hidden_subtitles} subtitles are left out, since it is silent meanwhile")
        self._send(
            Rewritten(
                format=done.format,
                encoder=done.encoder,
                copied=done.copied_packets,
                encoded=done.pictures,
                drawn=done.drawn,
                spans=[(int(span.start), int(span.end)) for span in done.spans],
                full=(done.reason or "asked for") if done.full else None,
                lost=done.lost_pictures,
                notes=notes,
                dropped=[LeftOut(index=row.index, type=row.type, why=row.why) for row in done.dropped],
                muted=[MutedSound(**dataclasses.asdict(row)) for row in done.muted],
                cuts=done.cuts.in_pts(task.track.time_base),
                cut_pictures=done.cut_pictures,
                cut_packets=done.cut_packets,
                streams=list(done.streams),
            )
        )

    def _formats(self, task: FormatTask) -> None:
        with open_container(self._medium) as container:
            names = image_formats(self._medium, container, task.track)
            if names:
                self._send(Formats(names=list(names), image=True, reason=None))
                return
            stream = next(item for item in container.streams.video if item.index == task.track.index)
            name, reason = output_format(self._medium, container, stream, codec_of(task.track.codec))
        self._send(Formats(names=[name], image=False, reason=reason))

    def _rewrite_image(self, task: ImageTask) -> None:
        outlet = Outlet(self._link, self._hand_over, lambda at: self._send(Cut(at)))
        touched = (*task.touched, *task.slated)

        def draw(picture: Any, pts: int) -> bool:
            if not any(start <= pts < end for start, end in touched):
                return False
            self._draw(Raster.of(picture), pts, task)
            return True

        done = rewrite_image(
            self._medium, task.track, cast("BinaryIO", outlet), task.format, draw, crf=task.crf, alive=self._show_life
        )
        outlet.flush()
        self._send(
            Rewritten(
                format=done.format,
                encoder=done.encoder,
                copied=0,
                encoded=done.pictures,
                drawn=len(done.drawn),
                spans=list(done.drawn),
                full="images always are",
                lost=done.lost,
                notes=list(done.notes),
            )
        )

    def _hand_over(self, slot: int, at: int, size: int) -> None:
        self._send(Written(slot=slot, at=at, size=size))

    def _show_life(self) -> None:
        now = time.monotonic()
        if now - self._spoke > _SILENCE_SECONDS:
            self._spoke = now
            self._send(Working())

    def _draw(self, raster: Raster, pts: int, task: RewriteTask | ImageTask) -> None:
        covering = None if any(start <= pts < end for start, end in task.slated) else self._covers.get(pts)
        layout, planes = raster.canvas()
        # A picture to change of which nothing is known is one that nobody has seen.
        if covering is None or covering.whole:
            redaction.slate(planes, layout)
        else:
            boxes = redaction.stored_boxes(covering.boxes, raster.orientation, raster.displayed_size)
            redaction.cover(planes, layout, boxes, redaction.STYLES[task.style], task.shape)

    def _verify(self, task: VerifyTask) -> None:
        rows: list[tuple[int, float]] = []
        first = None if task.start is None else task.start * task.track.time_base
        with Reader(self._medium, task.track, start=first) as reader:
            for frame in reader.frames(task.end):
                if task.start is not None and frame.pts < task.start:
                    continue  # shown into the part, begun before it
                whole = any(start <= frame.pts < end for start, end in task.slated)
                shown = frame.picture if frame.picture.format.name in redaction.FORMATS else plain(frame.picture)
                rows.append((frame.pts, self._deviation(Raster.of(shown), frame.pts, task, whole=whole)))
                if len(rows) == ROWS:
                    self._send(Pictures(rows))
                    rows = []
        self._send(Pictures(rows))
        self._send(Noted())

    def _listen(self, task: ListenTask) -> None:
        base = Fraction(task.time_base)
        spans = union(Span(float(start * base), float(end * base)) for start, end in task.muted)
        rows = listen(self._medium, tuple(spans), self._show_life)
        self._send(Heard([(row.index, min(row.peak, _LOUDEST), row.at_seconds, row.undecodable) for row in rows]))

    def _deviation(self, raster: Raster, pts: int, task: VerifyTask, *, whole: bool) -> float:
        """By how many of 255 levels what is to be covered differs from the cover at worst."""
        covering = self._covers.get(pts)
        whole |= covering is not None and covering.whole
        if not whole and (covering is None or task.style != "fill"):
            return 0.0
        layout, planes = raster.canvas()
        if whole or covering is None:
            return redaction.deviation(planes, layout, [layout.bounds], fill=redaction.SLATE).level
        boxes = redaction.stored_boxes(covering.boxes, raster.orientation, raster.displayed_size)
        return redaction.deviation(planes, layout, boxes, task.shape).level


def _left_out(row: Dropped) -> str:
    what = row.type if row.index is None else f"stream {row.index} ({row.type})"
    return f"{what} is left out: {row.why}" if row.type != "chapters" else f"{what} are left out: {row.why}"
