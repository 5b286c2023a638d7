from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vidmod.outlet import Outlet

SLOT_BYTES = 7


class Slots:
    """A link with two slots, and the file that comes of what is handed over."""

    def __init__(self, size: int) -> None:
        self.memory = [bytearray(size), bytearray(size)]
        self.free = [0, 1]
        self.file = bytearray()

    def acquire(self) -> tuple[int, memoryview]:
        slot = self.free.pop()
        return slot, memoryview(self.memory[slot])

    def cut(self, size: int) -> None:
        del self.file[size:]

    def take(self, slot: int, at: int, size: int) -> None:
        assert 0 < size <= len(self.memory[slot])
        self.file.extend(bytes(max(0, at + size - len(self.file))))
        self.file[at : at + size] = self.memory[slot][:size]
        self.free.append(slot)


def outlet(size: int = SLOT_BYTES) -> tuple[Outlet, Slots]:
    slots: Any = Slots(size)
    return Outlet(slots, slots.take, slots.cut), slots


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 60)), max_size=30))
def test_it_holds_what_a_file_would(steps: list[bytes | int]) -> None:
    written, slots = outlet()
    expected = io.BytesIO()
    for step in steps:
        if isinstance(step, bytes):
            assert written.write(step) == expected.write(step)
        else:
            assert written.seek(step) == expected.seek(step)
        assert written.tell() == expected.tell()
    written.flush()
    assert bytes(slots.file) == expected.getvalue()
    assert len(slots.free) == 2
    assert written.seek(0, io.SEEK_END) == len(expected.getvalue())


def test_what_was_written_can_be_cut_off() -> None:
    written, slots = outlet()
    written.write(b"a long beginning")
    written.seek(0)
    assert written.truncate() == 0
    written.write(b"short")
    written.flush()
    assert bytes(slots.file) == b"short"
    assert written.seek(0, io.SEEK_END) == 5


def test_a_muxer_writes_through_it() -> None:
    written, slots = outlet(4096)
    with av.open(written, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        for number in range(10):
            picture = np.full((48, 64, 3), number * 20, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    written.flush()
    with av.open(io.BytesIO(bytes(slots.file)), "r") as source:
        assert len(list(source.decode(video=0))) == 10
