"""What each way of sampling finds and what it costs: recall, borders and time on films with known truth.

    python benchmarks/sampling.py -o sampling.json
    python benchmarks/sampling.py --quick              to see that it works
    python benchmarks/sampling.py --rounds 3           for times that are to be told to others

Builds H.264 films (kept in --workdir): GOPs of 1, 2, 5 and 10 s, each with key frames on scene cuts and without.
In each, events of 0.25 to 5 s lie at random times at least 6 s apart: a harmless pattern that open_nsfw is sure
about, over the whole picture, or a drawn face that NudeNet is sure about, either cut in or faded in and out.
Between them are shots with cuts of their own, flashes, inserts and title cards that are no events.

Every event was scored by its model in the film as it is encoded, and drawn anew if the model was not sure of it
in nine of ten fully visible frames; a shot that a model takes for an event was drawn anew as well. So what is
missed here, sampling has missed.

Truth is exact to the frame: an event is [first, last) with at least half of its opacity. Each film is scanned by
one mode after the other, in another order for each film, by scanners that are warm.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from sampling_events import Setting
from sampling_films import EVENTS_PER_CELL, get_films, orders
from sampling_measuring import EXTRA, MODES, open_scanners, scan_all, score
from sampling_tables import report, save
from scan import default_workdir, tell, use_cores

GOPS = (1, 2, 5, 10)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare recall, borders and time of the ways of sampling.")
    parser.add_argument("--quick", action="store_true", help="two films with few events")
    parser.add_argument("--size", default="1280x720", help="of the films (default: 1280x720)")
    parser.add_argument("--events", type=int, help=f"of each length, entry and kind (default: {EVENTS_PER_CELL})")
    parser.add_argument("--gops", type=int, nargs="+", default=GOPS, metavar="S", help="key frame distances, seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is timed (default: 1)")
    parser.add_argument("--also", choices=sorted(EXTRA), nargs="+", default=[], help="further modes")
    media = os.environ.get("VIDMOD_MEDIA", "")
    parser.add_argument("--media", default=media, help="a folder of clips: one more setting (default: $VIDMOD_MEDIA)")
    parser.add_argument("--workdir", type=Path, default=default_workdir(), help="where films are kept")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes that build films")
    parser.add_argument("--build-only", action="store_true", help="make the films and stop")
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    parser.add_argument("-o", "--output", type=Path, help="write every single figure here, as JSON")
    return parser


def _settings(args: argparse.Namespace) -> list[Setting]:
    width, height = (int(part) for part in args.size.split("x"))
    if args.quick:
        return [Setting(width, height, 2, True), Setting(width, height, 10, False)]
    listed = [Setting(width, height, gop, cuts) for gop in args.gops for cuts in (True, False)]
    return listed + ([Setting(width, height, 2, True, args.media)] if args.media else [])


def main() -> None:
    """Build the films, scan them by every mode, print the tables."""
    args = _parser().parse_args()
    use_cores(args.cores)
    per_cell = args.events or (1 if args.quick else EVENTS_PER_CELL)
    began = time.monotonic()
    films = get_films(orders(args.workdir, _settings(args), per_cell, args.seed), args.jobs)
    built = time.monotonic()
    tell(f"{len(films)} films ready after {built - began:.0f} s.")
    if args.build_only:
        return
    scanners, notes = open_scanners([*MODES, *(EXTRA[name] for name in args.also)])
    for note in notes:
        tell(note)
    scored = score(films, scan_all(films, scanners, args.rounds))
    for scanner in scanners.values():
        scanner.close()
    tell(f"Scanned for {time.monotonic() - built:.0f} s.")
    if args.output:
        save(args.output, scored, notes)
    print(report(scored, notes))


if __name__ == "__main__":
    main()
