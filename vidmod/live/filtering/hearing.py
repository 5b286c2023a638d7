"""From a source's sound to sound that can leave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vidmod.errors import OutputError, UndecodableError
from vidmod.live.messages import Sound
from vidmod.media.aac import SoundRecoder, is_plain, unwrapped

# Of sound that is made into AAC, and of silence.
_RATE, _RATES = 48_000, (48_000, 44_100)
_CHANNELS = {"mono": 1, "stereo": 2}


class Hearing:
    """A source's sound as packets of what leaves: copied if it is that already, and made into it if not.

    Args:
        source: What comes.
        sound: What leaves.

    Raises:
        UndecodableError: There is no decoder for it.
        OutputError: There is no AAC like what leaves.
    """

    def __init__(self, source: Sound, sound: Sound) -> None:
        self._source, self._sound = source, sound
        is_alike = (source.sample_rate, source.layout) == (sound.sample_rate, sound.layout)
        self._recoder = None if is_alike and _can_be_copied(source) else self._made()

    @staticmethod
    def fitting(source: Sound | None) -> Sound:
        """What leaves, for a source: AAC-LC always, of silence if there is no sound."""
        if source is None:
            return Sound("aac", _RATE, "stereo", b"")
        if _can_be_copied(source):
            return Sound("aac", source.sample_rate, source.layout, b"")
        rate = source.sample_rate if source.sample_rate in _RATES else _RATE
        return Sound("aac", rate, source.layout if source.layout in _CHANNELS else "stereo", b"")

    def heard(self, data: bytes, seconds: float) -> Iterator[tuple[float, bytes]]:
        """Times and packets of what leaves; none of what is damaged."""
        if self._recoder is None:
            packet = unwrapped(data, self._sound.sample_rate, _CHANNELS[self._sound.layout])
            if packet is not None:
                yield seconds, packet
                return
        # What says of itself that it is something else cannot be copied: HE-AAC in ADTS, mostly.
        with contextlib.suppress(UndecodableError, OutputError):
            self._recoder = self._made() if self._recoder is None else self._recoder
            yield from self._recoder.recode(data, seconds)

    def _made(self) -> SoundRecoder:
        source, sound = self._source, self._sound
        return SoundRecoder(
            source.codec, source.extradata, source.sample_rate, source.layout, sound.sample_rate, sound.layout
        )


def _can_be_copied(source: Sound) -> bool:
    """Whether it is AAC-LC as far as it says; one that says nothing has it in every packet (ADTS)."""
    channels = _CHANNELS.get(source.layout)
    if source.codec != "aac" or channels is None or source.sample_rate not in _RATES:
        return False
    return not source.extradata or is_plain(source.extradata, source.sample_rate, channels)
