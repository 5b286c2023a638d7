"""Recording what comes, sealed: only somebody with a key can open it, and nothing of it lies in clear on the disk.

What comes is a stranger's, and so are its times. They stay as they are as long as they go on; where they leap, or go
back, the next piece begins with the next key picture, and every piece begins at 0.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidmod.errors import OutputError
from vidmod.live.messages import Heard, Picture, RecorderSettings, Source
from vidmod.live.recording.endings import Ending, Endings
from vidmod.live.recording.pieces import Folder, Piece
from vidmod.live.recording.sealing import Recipient, Sealer, recipients_of
from vidmod.media.muxer import RefusedError
from vidmod.media.recording import (
    TIME_BASE,
    MatroskaWriter,
    RecordedPictures,
    RecordedSound,
    aac_config_of,
    plain_aac_config,
)

SUFFIX = ".mkv.age"
_LOOK_SECONDS = 1.0
# Packets that are further apart are not in one piece.
_MOST_APART = 10_000
# A picture is decoded no earlier before it is shown, where nobody says when.
_REORDERED = 1_000
_MOST_REFUSED = 50
_USUAL_RATE = Fraction(30)


@dataclass(frozen=True, slots=True)
class _Times:
    """Of a packet, in milliseconds of the source's time."""

    pts: int
    dts: int


class SealedRecording:
    """Records what comes. Belongs to one thread; `now` is the shared clock.

    Args:
        settings: Of the recorder.
        folder: It has to be there, or nothing is recorded until it is.

    Attributes:
        packets: That were recorded.

    Raises:
        UsageError: There is no recipient, or one is none.
    """

    def __init__(self, settings: RecorderSettings, folder: Path) -> None:
        self.packets = 0
        self._settings = settings
        self._recipients = recipients_of(settings.recipients)
        self._folder = Folder(folder, settings.name, SUFFIX)
        self._endings = Endings()
        self._source: Source | None = None
        self._base = Fraction(1)
        self._piece: _Open | None = None
        self._config: bytes | None = None  # that packets of sound say themselves
        self._needs_key = True
        self._refused = 0  # in a row
        self._trouble = ""  # of this source
        for piece in self._folder.abandoned():
            self._endings.add(Ending(piece, whole=False))

    @property
    def is_recording(self) -> bool:
        """Whether a file is open."""
        return self._piece is not None

    @property
    def is_ending(self) -> bool:
        """Whether a file has not its last name yet."""
        return bool(self._endings)

    @property
    def troubles(self) -> list[str]:
        """What is not written, and why."""
        refused = ""
        if self._refused >= _MOST_REFUSED:
            refused = f"{self._refused} packets of the source are not recorded: they say no times, or make no sense."
        return [text for text in (self._folder.trouble, self._endings.trouble, self._trouble, refused) if text]

    def begin(self, source: Source) -> None:
        """A source is there, or another one; or the same one, of which something was lost."""
        self._needs_key = True
        if source == self._source:
            return
        self._cut()
        numerator, denominator = source.time_base
        self._source, self._config, self._refused, self._trouble = None, None, 0, ""
        if numerator > 0 and denominator > 0:
            self._source, self._base = source, Fraction(numerator, denominator)

    def lose(self) -> None:
        """The source is gone."""
        self._cut()
        self._source, self._trouble = None, ""

    def picture(self, packet: Picture, now: float) -> None:
        """A packet of pictures came."""
        times = self._times(packet)
        if self._source is None:
            return
        if times is None:
            self._refused += 1
            return
        if self._piece is not None and not self._piece.goes_on(times):
            self._cut()
        if packet.key and (self._piece is None or self._piece.is_long(times, now)):
            self._cut()
            self._piece = self._new(self._source, times, now)
        piece = self._piece
        self._needs_key = self._needs_key and not packet.key
        if piece is not None and not self._needs_key:
            self._write(piece, lambda: piece.picture(packet, times), now)

    def heard(self, packet: Heard, now: float) -> None:
        """A packet of sound came."""
        if self._config is None:
            self._config = aac_config_of(packet.data)
        piece = self._piece
        if piece is not None and math.isfinite(packet.seconds):
            self._write(piece, lambda: piece.sound(packet), now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._piece is not None and not self._piece.is_there(now):
            self._fail(self._piece, "it is not there any more", now)
        self._endings.tick(now)

    def finish(self) -> None:
        """Nothing more will be recorded."""
        self._cut()
        self._source = None

    def close(self) -> None:
        """Leave what has not ended as it is."""
        self._endings.close()

    def _times(self, packet: Picture) -> _Times | None:
        pts = packet.dts if packet.pts is None else packet.pts
        if pts is None:
            return None
        shown = round(pts * self._base / TIME_BASE)
        decoded = shown - _REORDERED if packet.dts is None else round(packet.dts * self._base / TIME_BASE)
        return _Times(shown, min(decoded, shown))

    def _write(self, piece: _Open, write: Callable[[], None], now: float) -> None:
        try:
            write()
        except RefusedError:
            self._refused += 1  # a stranger's; the next one may be well
        except OutputError as exc:
            self._fail(piece, str(exc), now)
        else:
            self._refused = 0
            self.packets += 1

    def _new(self, source: Source, times: _Times, now: float) -> _Open | None:
        piece = self._folder.begin(time.time(), now)
        if piece is None:
            return None
        try:
            sound = self._sound(source)
            try:
                return _Open(piece, self._settings, self._recipients, source, sound, times, now)
            except RefusedError as exc:
                if sound is None:
                    raise
                piece.restart()
                opened = _Open(piece, self._settings, self._recipients, source, None, times, now)
                self._trouble = f"The source is recorded without its sound, which is {sound.codec}: {exc}"
                return opened
        except RefusedError as exc:
            self._trouble = f"The source is not recorded, which is {source.codec}: {exc}"
            self._source = None
            piece.discard()
        except OutputError as exc:
            self._folder.fail(f"{piece.path}: cannot be written ({exc}).", now)
            piece.discard()
        return None

    def _sound(self, source: Source) -> RecordedSound | None:
        sound = source.sound
        if sound is None:
            return None
        config = sound.extradata
        if not config and sound.codec == "aac":
            config = self._config or plain_aac_config(sound.sample_rate, sound.layout)
        return RecordedSound(sound.codec, config, sound.sample_rate, sound.layout)

    def _cut(self) -> None:
        piece, self._piece = self._piece, None
        if piece is None:
            return
        whole = False
        with contextlib.suppress(OutputError):
            piece.close()
            whole = True
        self._endings.add(Ending(piece.piece, whole=whole))

    def _fail(self, piece: _Open, why: str, now: float) -> None:
        self._folder.fail(f"{piece.piece.path}: cannot be written ({why}).", now)
        self._piece = None
        with contextlib.suppress(OutputError):
            piece.close()
        self._endings.add(Ending(piece.piece, whole=False))


class _Open:
    """A piece that is written.

    Raises:
        RefusedError: Matroska does not take these codecs.
        OutputError: It cannot be.
    """

    def __init__(
        self,
        piece: Piece,
        settings: RecorderSettings,
        recipients: list[Recipient],
        source: Source,
        sound: RecordedSound | None,
        times: _Times,
        now: float,
    ) -> None:
        self.piece = piece
        self._zero, self._last, self._last_sound = times.pts, times.dts, 0
        self._limit = times.pts + round(settings.piece_seconds / TIME_BASE), now + settings.piece_seconds
        self._next_look = now + _LOOK_SECONDS
        numerator, denominator = source.rate
        rate = Fraction(numerator, denominator) if numerator > 0 and denominator > 0 else _USUAL_RATE
        self._sealer = Sealer(piece, recipients)
        try:
            self._writer = MatroskaWriter(
                self._sealer, RecordedPictures(source.codec, source.extradata, source.size, rate), sound
            )
        except OutputError:
            self._sealer.abandon()
            raise

    def goes_on(self, times: _Times) -> bool:
        """Whether a picture follows upon those before it, and does not go back further than they are reordered."""
        return self._last <= times.pts <= self._last + _MOST_APART and times.dts >= self._last - _REORDERED

    def is_long(self, times: _Times, now: float) -> bool:
        """Whether the piece has lasted long enough, by its times or by the clock: a stranger's need not go on."""
        return times.pts >= self._limit[0] or now >= self._limit[1]

    def picture(self, packet: Picture, times: _Times) -> None:
        # What comes out of order is refused; equal times are not.
        self._last = max(self._last, times.dts)
        self._writer.picture(packet.data, times.pts - self._zero, self._last - self._zero, 0, key=packet.key)

    def sound(self, packet: Heard) -> None:
        at = round(packet.seconds / TIME_BASE) - self._zero
        if not 0 <= at <= self._last - self._zero + _MOST_APART:
            return
        self._last_sound = max(self._last_sound, at)
        self._writer.sound(packet.data, self._last_sound)

    def is_there(self, now: float) -> bool:
        """Whether the file still has its name; looked up every now and then."""
        if now < self._next_look:
            return True
        self._next_look = now + _LOOK_SECONDS
        return self.piece.is_there

    def close(self) -> None:
        """Write what is left.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            self._writer.close()
        finally:
            self._sealer.close()
        try:
            self.piece.sync()
        except OSError as exc:
            raise OutputError(exc.strerror or str(exc)) from exc
