"""Recording what leaves, with a timeline of what was seen in it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from vidmod.errors import OutputError
from vidmod.live.messages import Begin, Leave, RecorderSettings, Sight
from vidmod.live.recording.accounts import Account, Facts, in_file, rate_of
from vidmod.live.recording.endings import Endings, ToldEnding, told_before
from vidmod.live.recording.pieces import RETRY_SECONDS, Folder, Piece, write_document
from vidmod.media.live import TIME_BASE
from vidmod.media.muxer import RefusedError
from vidmod.media.recording import MatroskaWriter, RecordedPictures, RecordedSound, plain_aac_config
from vidmod.policy import Policy
from vidmod.timeline import Timeline

SUFFIX = ".mkv"
# A document takes no more than a twentieth of the time, however long a piece is.
_FIRST_DOCUMENT_SECONDS, _DOCUMENT_SECONDS, _DOCUMENT_SHARE = 2.0, 15.0, 0.05
_LOOK_SECONDS = 1.0
# Pictures that are further apart are not in one piece.
_MOST_APART = round(1.0 / TIME_BASE)
# Sound and looks may come so much later than the key picture of the next piece.
_LINGER_SECONDS = 1.5
_MOST_REFUSED = 50
_PENDING, _MOST_PENDING = round(2.0 / TIME_BASE), 2000


class CleanRecording:
    """Records what leaves. Belongs to one thread; `now` is the shared clock.

    Args:
        settings: Of the recorder.
        folder: It has to be there, or nothing is recorded until it is.

    Attributes:
        packets: That were recorded.
    """

    def __init__(self, settings: RecorderSettings, folder: Path) -> None:
        self.packets = 0
        self._settings = settings
        self._policy = Policy.from_document(settings.policy, "policy")
        self._folder = Folder(folder, settings.name, SUFFIX)
        self._endings = Endings()
        self._begin: Begin | None = None
        self._piece: _Open | None = None
        # Those that are cut, and when they are closed.
        self._lingering: list[tuple[float, _Open]] = []
        # Looks whose pictures have not left, by their time.
        self._pending: dict[int, Sight] = {}
        self._last = -1
        self._refused = 0  # in a row
        for piece in self._folder.abandoned():
            self._endings.add(ToldEnding(piece, told_before(piece), whole=False))

    @property
    def is_recording(self) -> bool:
        """Whether a file is open."""
        return self._piece is not None

    @property
    def is_ending(self) -> bool:
        """Whether a file has not its last name yet."""
        return bool(self._lingering or self._endings)

    @property
    def troubles(self) -> list[str]:
        """What is not written, and why."""
        told = "" if self._piece is None else self._piece.trouble
        refused = f"{self._refused} packets are not recorded." if self._refused >= _MOST_REFUSED else ""
        return [text for text in (self._folder.trouble, self._endings.trouble, told, refused) if text]

    def begin(self, begin: Begin, now: float) -> None:
        """What leaves is this."""
        if begin != self._begin:
            self._cut(now)
            self._begin = begin

    def leave(self, packet: Leave, now: float) -> None:
        """A packet leaves."""
        try:
            if packet.is_sound:
                self._sound(packet)
            else:
                self._picture(packet, now)
            self._refused = 0
        except RefusedError:
            self._refused += 1  # this one; the next one may be well
        except OutputError as exc:
            self._fail(str(exc), now)

    def sight(self, sight: Sight) -> None:
        """Something was seen."""
        sight.grid = None
        for _, cut in self._lingering:
            cut.note_after(sight.pts)
        if not any(piece.account.sight(sight) for piece in self._open()):
            self._pending[sight.pts] = sight
            if len(self._pending) > _MOST_PENDING:
                del self._pending[min(self._pending)]

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._piece is not None:
            if not self._piece.is_there(now):
                self._fail("it is not there any more", now)
            else:
                self._piece.tell(now)
        while self._lingering and self._lingering[0][0] <= now:
            self._end(self._lingering.pop(0)[1])
        self._endings.tick(now)

    def finish(self) -> None:
        """Nothing more will be recorded."""
        self._cut(time.monotonic())
        self._begin = None
        while self._lingering:
            self._end(self._lingering.pop(0)[1])

    def close(self) -> None:
        """Leave what has not ended as it is."""
        self._endings.close()

    def _open(self) -> list[_Open]:
        return [*(row for _, row in self._lingering), *([] if self._piece is None else [self._piece])]

    # Packets ------------------------------------------------------------------------------------

    def _picture(self, packet: Leave, now: float) -> None:
        if packet.pts <= self._last or self._begin is None:
            return
        apart, self._last = packet.pts - self._last, packet.pts
        if self._piece is not None and apart > _MOST_APART:
            self._cut(now)
        if packet.key and (self._piece is None or self._piece.is_long(packet.pts)):
            self._cut(now, packet.pts)
            self._piece = self._new(self._begin, packet.pts, now)
        if self._piece is None:
            return
        self._piece.picture(packet)
        self.packets += 1
        for pts in [pts for pts in self._pending if pts <= packet.pts]:
            if pts == packet.pts:
                self._piece.account.sight(self._pending.pop(pts))
            elif pts < packet.pts - _PENDING:
                del self._pending[pts]

    def _sound(self, packet: Leave) -> None:
        for piece in reversed(self._open()):
            if packet.pts >= piece.account.start:
                piece.sound(packet)
                self.packets += 1
                return

    def _new(self, begin: Begin, pts: int, now: float) -> _Open | None:
        began = time.time() + float(pts * TIME_BASE) - time.monotonic()
        piece = self._folder.begin(began, now)
        if piece is None:
            return None
        before = self._lingering[-1][1].account.last_look if self._lingering else None
        account = Account(self._settings, self._policy, begin, pts, began, before)
        try:
            return _Open(piece, account, now)
        except OutputError as exc:
            self._folder.fail(f"{piece.path}: cannot be written ({exc}).", now)
            piece.discard()
            return None

    # Ends ---------------------------------------------------------------------------------------

    def _cut(self, now: float, end: int | None = None) -> None:
        """End the piece; it takes what is late for a while."""
        piece, self._piece = self._piece, None
        if piece is None:
            return
        piece.account.end = piece.account.extent if end is None else end
        for pts in self._pending:
            piece.note_after(pts)
        self._lingering.append((now + _LINGER_SECONDS, piece))

    def _end(self, piece: _Open) -> None:
        whole = False
        with contextlib.suppress(OutputError):
            piece.close()
            whole = True
        self._endings.add(ToldEnding(piece.piece, piece.timeline if whole else piece.partial_timeline, whole=whole))

    def _fail(self, why: str, now: float) -> None:
        """The piece, or one that is to take what is late, cannot be written."""
        piece, self._piece = self._piece, None
        for _, cut in self._lingering:
            self._end(cut)
        self._lingering = []
        if piece is None:
            return
        self._folder.fail(f"{piece.piece.path}: cannot be written ({why}).", now)
        with contextlib.suppress(OutputError):
            piece.close()
        self._endings.add(ToldEnding(piece.piece, piece.partial_timeline, whole=False))


class _Open:
    """A piece that is written.

    Raises:
        OutputError: It cannot be.
    """

    def __init__(self, piece: Piece, account: Account, now: float) -> None:
        self.piece, self.account, self.trouble = piece, account, ""
        self._limit = account.start + round(account.settings.piece_seconds / TIME_BASE)
        self._next_document, self._next_look = now + _FIRST_DOCUMENT_SECONDS, now + _LOOK_SECONDS
        begin = account.begin
        sound = begin.sound
        recorded = None
        if sound is not None:
            config = sound.extradata or plain_aac_config(sound.sample_rate, sound.layout)
            recorded = RecordedSound(sound.codec, config, sound.sample_rate, sound.layout)
        pictures = RecordedPictures("h264", begin.parameter_sets, begin.size, rate_of(begin))
        self._writer = MatroskaWriter(piece, pictures, recorded)

    def is_long(self, pts: int) -> bool:
        return pts >= self._limit

    def picture(self, packet: Leave) -> None:
        at = in_file(packet.pts - self.account.start)
        self._writer.picture(packet.data, at, at, in_file(self.account.period), key=packet.key)
        self.account.picture(packet.pts)

    def sound(self, packet: Leave) -> None:
        self._writer.sound(packet.data, in_file(packet.pts - self.account.start))

    def note_after(self, pts: int) -> None:
        """There was a look then: the first one after the piece is told to its account."""
        account = self.account
        if account.end is not None and pts >= account.end:
            account.after = pts if account.after is None else min(account.after, pts)

    def is_there(self, now: float) -> bool:
        """Whether the file still has its name; looked up every now and then."""
        if now < self._next_look:
            return True
        self._next_look = now + _LOOK_SECONDS
        return self.piece.is_there

    def tell(self, now: float) -> None:
        """Write the document about what there is so far, if it is due."""
        if now < self._next_document or not self.account.pictures:
            return
        try:
            write_document(self.piece.timeline_path, "".join(self.partial_timeline(None).dumps()))
        except OSError as exc:
            self.trouble = f"{self.piece.timeline_path}: cannot be written ({exc.strerror or exc})."
            self._next_document = now + RETRY_SECONDS
            return
        self.trouble = ""
        took = time.monotonic() - now
        self._next_document = now + max(_DOCUMENT_SECONDS, took / _DOCUMENT_SHARE)

    def timeline(self, facts: Facts) -> Timeline:
        """The document, now that it is whole."""
        return self.account.timeline(facts, finished=True)

    def partial_timeline(self, facts: Facts | None) -> Timeline:
        """The document about what there is so far."""
        if facts is None:
            facts = Facts(self.piece.whole_path.name, os.fstat(self.piece.descriptor).st_size)
        return self.account.timeline(facts, finished=False)

    def close(self) -> None:
        """Write what is left.

        Raises:
            OutputError: It cannot be written.
        """
        self._writer.close()
        try:
            self.piece.sync()
        except OSError as exc:
            raise OutputError(exc.strerror or str(exc)) from exc
