"""What the reader's process keeps in mind from one connection to the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Self, cast

import pytest

from vidmod.errors import SourceUnreadableError
from vidmod.live.messages import ReaderSettings
from vidmod.live.processes import reader
from vidmod.live.processes.station import StationClosedError
from vidmod.media.network import Incoming, NoPicturesError, SoundFacts, StreamFacts

SILENT = StreamFacts("h264", b"", (64, 48), Fraction(25), Fraction(1, 1000), 0, None)
LOUD = dataclasses.replace(SILENT, sound=SoundFacts("aac", 48_000, "stereo", b""))
NO_PICTURES = NoPicturesError("rtmp://x/…: shows no pictures that vidmod decodes (audio).")
REFUSED = SourceUnreadableError("rtmp://x/…: cannot be opened (Connection refused).")


class Alone:
    """A station that nobody listens to, and that closes once everything was tried."""

    def __init__(self, script: list[Any]) -> None:
        self._script = script

    def poll(self, _seconds: float) -> list[Any]:
        if not self._script:
            raise StationClosedError
        return []

    def has(self, _name: str) -> bool:
        return False

    def send(self, _name: str, _message: object) -> bool:
        return False

    def waiting(self, _name: str) -> int:
        return 0

    def beat(self, _beat: object) -> None:
        pass


@pytest.mark.parametrize(
    ("script", "expects"),
    [
        ([LOUD, LOUD, LOUD], [True, True, True]),
        # One that had no sound need not be waited for; one that is not there says nothing of its sound.
        ([SILENT, SILENT, REFUSED, REFUSED, SILENT], [True, False, False, False, False]),
        ([SILENT, LOUD, REFUSED, LOUD], [True, False, True, True]),
        # With sound now, and pictures that come late: there they are waited for.
        ([SILENT, NO_PICTURES, LOUD, LOUD], [True, False, True, True]),
    ],
)
def test_sound_is_expected_where_there_was_some(
    script: list[Any], expects: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    left = list(script)

    class Scripted:
        def __init__(self, _url: str, *, expects_sound: bool, **_options: object) -> None:
            asked.append(expects_sound)
            self._now = left.pop(0)
            if isinstance(self._now, Exception):
                raise self._now

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        @property
        def facts(self) -> StreamFacts:
            return cast(StreamFacts, self._now)

        def packets(self) -> Iterator[Incoming]:
            yield Incoming(False, b"picture", True, 0, 0, 0.0)
            raise SourceUnreadableError("It has ended.")

    monkeypatch.setattr(reader, "NetworkReader", Scripted)
    monkeypatch.setattr(reader, "Backoff", Eager)
    settings = ReaderSettings(url="rtmp://x/in/live", timeout_seconds=5.0, max_pixels=1 << 20)
    with pytest.raises(StationClosedError):
        reader.run(cast(Any, Alone(left)), settings)
    assert asked == expects


class Eager:
    """Tries again at once."""

    def __init__(self, **_options: float) -> None:
        pass

    def succeeded(self) -> None:
        pass

    def failed(self) -> float:
        return 0.0
