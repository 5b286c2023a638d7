"""Workers that do not take pictures as they should; see test_shots.py."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from vidmod.errors import SourceError
from vidmod.messages import Failed, decode, encode
from vidmod.pages import worker
from vidmod.pages.messages import TakeDone, Taken, TakeTask
from vidmod.workers import Json, Link

# The third of four, ten pictures apart, each 200/25 s after the one before.
_BAD_SECONDS = 160


def _serve(link: Link, at_bad_one: Callable[[int], None]) -> None:
    while (payload := link.receive()) is not None:
        task = decode(payload, TakeTask)
        for place, pts in enumerate(task.wanted):
            if pts * task.time_base == _BAD_SECONDS:
                at_bad_one(place)
            _give(link, place)
        link.send(encode(TakeDone()))


def _give(link: Link, place: int) -> None:
    slot, memory = link.acquire()
    memory[:] = bytes([100]) * len(memory)
    link.send(encode(Taken(slot=slot, place=place, width=64, height=48)))


def dies_at_picture(link: Link, settings: Json) -> None:
    _serve(link, lambda place: _die())


def says_nonsense(link: Link, settings: Json) -> None:
    _serve(link, lambda place: link.send({"type": "taken", "slot": None, "place": "here"}))


def gives_what_nobody_asked_for(link: Link, settings: Json) -> None:
    _serve(link, lambda place: _give(link, 5))


def gives_one_again(link: Link, settings: Json) -> None:
    _serve(link, lambda place: _give(link, place - 1))


def gives_one_of_no_size(link: Link, settings: Json) -> None:
    def bad(place: int) -> None:
        slot, _ = link.acquire()
        link.send({"type": "taken", "slot": slot, "place": place, "width": 0, "height": -3})

    _serve(link, bad)


def hangs(link: Link, settings: Json) -> None:
    _serve(link, lambda place: time.sleep(100))


def hangs_at_first(link: Link, settings: Json) -> None:
    time.sleep(100)


class _EndError(Exception):
    pass


def ends(link: Link, settings: Json) -> None:
    def end(place: int) -> None:
        raise _EndError

    try:
        _serve(link, end)
    except _EndError:
        return


def _die() -> None:
    ctypes.string_at(0)


def always_dies(link: Link, settings: Json) -> None:
    link.receive()
    _die()


def fails_with_escapes(link: Link, settings: Json) -> None:
    while link.receive() is not None:
        link.send(encode(Failed("SourceError", "\x1b[2J\r\n\u202e" + "x" * 5000)))


def only_sparsely(link: Link, settings: Json) -> None:
    """Takes pictures, but decodes no part whole."""

    def refused(*_: object, **__: object) -> None:
        raise SourceError("Not whole.")

    setattr(worker, "Reader", refused)  # noqa: B010 # not for others to import from there
    worker.serve(link, settings)
