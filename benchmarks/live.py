"""Whether `vidmod live` does what it promises, between a real RTMP server, publisher and player on loopback.

    python benchmarks/live.py steady
    python benchmarks/live.py targets --seconds 600 --entries 100
    python benchmarks/live.py faults --faults 300 --seed 1
    python benchmarks/live.py long --hours 2
    python benchmarks/live.py targets --seconds 30 --entries 5 --command 'ffmpeg …'      to see what it would find

Needs nginx with its RTMP module (Debian: `apt-get install nginx libnginx-mod-rtmp`) and the `dev` extra. What follows
`--` goes to `vidmod live`. Nothing else should run meanwhile. What is measured is what a player gets, decoded after the
run; see `live_measuring.py`.

* steady: a film with numbered frames, flashes and beeps and nothing to cover, in one size after the other. Frames a
  second, frames that do not come, the delay from a frame's sending until the player has it, how far the sound is from
  the picture, memory and processor time of every process, pictures analysed a second.
* targets: a target that enters over and over. Frames in which less than 95 % of it is covered.
* faults: the same, with source, server and the filter's own processes killed, stopped, slowed and lied to at random.
  Leaks in all that left, connections of the player that were lost although the server was there, and for every kind
  how long it takes until what is sent is to be seen again.
* long: hours of it. Memory, and how far the sound is from the picture, from beginning to end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from live_faults import Fault, Saboteur, broken_connections, recovery, undisturbed
from live_measuring import COVERED, Flow, Safety, Watched, flow, offsets, safety, slope
from live_running import Rig, Usage, analysed_fps, covering, rig
from live_sources import Film, Plan, made, variants
from scan import default_workdir, machine, table, tell, use_cores

from tests.rtmp import Player, missing

# What the issue of the live filter wants.
MOST_DELAY_OFF, MORE_DELAY, MOST_OFFSET, MOST_SLOPE = 0.1, 0.5, 0.045, 1.0
MEDIAN_RECOVERY, LAST_RECOVERY = 3.0, 10.0
# Loading models takes longest.
_STARTING_SECONDS = 120.0
_SECONDS_AN_HOUR = 3600.0
_ROLES = ("reader", "filter", "analyst", "publisher", "recorder")
_OWN = ("parent", *_ROLES, *(f"{role} (spare)" for role in _ROLES))
_LONG_EVERY, _LONG_LENGTH = 60.0, 9.0


# -- figures -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What processes took.

    Attributes:
        memory: Role to megabytes (10^6 bytes) at the end.
        total: Of all of the filter's own, at the end.
        slope: Of that, in megabytes an hour.
        slopes: Role to the same.
        cpu: Role to cores that it kept busy.
        analysed: Pictures a second; None if it did not say.
    """

    memory: dict[str, float]
    total: float
    slope: float
    slopes: dict[str, float]
    cpu: dict[str, float]
    analysed: float | None


def cost_of(usage: Usage, states: Sequence[dict[str, Any]], warm_up: float) -> Cost:
    """From what was looked at; without what was before it had warmed up."""
    own = [sum(row) for row in zip(*(rows for role, rows in usage.memory.items() if role in _OWN), strict=True)]
    since = next((n for n, time in enumerate(usage.times) if time - usage.times[0] >= warm_up), 0)
    return Cost(
        memory={role: rows[-1] for role, rows in usage.memory.items()},
        total=own[-1] if own else 0.0,
        slope=slope(usage.times[since:], own[since:]) * _SECONDS_AN_HOUR,
        slopes={
            role: slope(usage.times[since:], rows[since:]) * _SECONDS_AN_HOUR for role, rows in usage.memory.items()
        },
        cpu={role: spent / max(usage.seconds, 1e-9) for role, spent in usage.cpu.items()},
        analysed=analysed_fps(states, warm_up),
    )


def offset_text(rows: Sequence[tuple[float, float]]) -> str:
    """Median and largest distance of sound from picture, in milliseconds."""
    if not rows:
        return "none heard"
    late = np.array([offset for _, offset in rows]) * 1000
    return f"{np.median(late):+.0f} ({late[np.argmax(np.abs(late))]:+.0f})"


def worst_offset(rows: Sequence[tuple[float, float]]) -> float:
    """The largest distance of sound from picture; infinite if none was heard."""
    return max((abs(offset) for _, offset in rows), default=float("inf"))


def delay_text(found: Flow) -> str:
    """Median, least and most, in seconds."""
    if not found.delays:
        return "none came"
    return f"{np.median(found.delays):.3f} ({min(found.delays):.3f} to {max(found.delays):.3f})"


def is_constant(found: Flow, delay: float) -> bool:
    """Whether the delay is what it should be."""
    if not found.delays:
        return False
    median = float(np.median(found.delays))
    within = all(abs(item - median) <= MOST_DELAY_OFF for item in found.delays)
    return within and median <= delay + MORE_DELAY + MOST_DELAY_OFF


def verdict(wanted: bool) -> str:
    """In a word."""
    return "met" if wanted else "MISSED"


# -- steady --------------------------------------------------------------------------------------------------


def steady(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """One size after the other; prints a table of all."""
    rows, cpus, found = [], [], []
    for size in args.sizes:
        film = film_of(args, size, flashes=True)
        result = _steady(args, folder / f"{size[0]}x{size[1]}", film)
        found.append(result)
        through, cost, late = result["flow"], result["cost"], result["offsets"]
        rows.append(
            [
                f"{size[0]}x{size[1]} at {args.fps}",
                f"{through.fps:.2f}",
                f"{through.lost} of {through.sent}",
                f"{through.covers}",
                f"{through.longest_gap * 1000:.0f}",
                delay_text(through),
                offset_text(late),
                "?" if cost.analysed is None else f"{cost.analysed:.1f}",
                f"{cost.total:.0f}",
                f"{cost.slope:+.1f}",
            ]
        )
        cpus.append([f"{size[0]}x{size[1]}", *(f"{cost.cpu.get(role, 0.0):.2f}" for role in _roles(found[0]["cost"]))])
        yield {"size": size, **result}
    head = ["", "fps", "lost", "covers", "longest gap, ms", "delay, s", "sound late, ms (worst)", "analysed fps"]
    print(table([*head, "MB", "MB an hour"], rows))
    print("\nCores that each process kept busy:\n")
    print(table(["", *_roles(found[0]["cost"])], cpus))
    best = next((row for row, result in zip(rows, found, strict=True) if _is_steady(args, result)), None)
    print(
        f"\nWanted at {rows[0][0]}: {args.fps} fps, none lost, delay constant within {MOST_DELAY_OFF * 1000:.0f} ms "
        f"and at most {args.delay + MORE_DELAY:g} s, sound within {MOST_OFFSET * 1000:.0f} ms: "
        f"{verdict(_is_steady(args, found[0]))}. Largest that meets it: {'none' if best is None else best[0]}."
    )


def _roles(cost: Cost) -> list[str]:
    return list(cost.cpu)


def _is_steady(args: argparse.Namespace, result: dict[str, Any]) -> bool:
    through: Flow = result["flow"]
    return (
        abs(through.fps - args.fps) < 0.1
        and through.lost == 0
        and is_constant(through, args.delay)
        and worst_offset(result["offsets"]) <= MOST_OFFSET
    )


def _steady(args: argparse.Namespace, folder: Path, film: Film) -> dict[str, Any]:
    usage = Usage()
    with started(args, folder, [film]) as made_rig:
        made_rig.wait_for_clear(_STARTING_SECONDS)
        made_rig.wait(args.warm_up)
        start = time.monotonic()
        made_rig.wait(args.seconds, usage=usage)
        end = time.monotonic()
        # What was sent last is still to come.
        made_rig.wait(args.delay + 2)
        states = made_rig.live.states()
    watched = measured(made_rig)
    shown = [frame for frame in watched.frames if frame.time >= start]
    return {
        "flow": flow(watched.frames, made_rig.log(), start, end),
        "offsets": [row for row in offsets(watched) if shown and row[0] >= shown[0].seconds],
        "cost": cost_of(usage, states, 0.0),
        "times": usage.times,
        "memory": usage.memory,
        "gone": watched.gone,
    }


# -- targets -------------------------------------------------------------------------------------------------


def targets(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """A target that enters over and over."""
    film = film_of(args, args.size, entries=max(1, round(args.entries * args.film_seconds / args.seconds)))
    usage = Usage()
    with started(args, folder, [film]) as made_rig:
        made_rig.wait_for_clear(_STARTING_SECONDS)
        made_rig.wait(args.seconds, usage=usage)
        states = made_rig.live.states()
    found = safety(measured(made_rig).frames, made_rig.log(), [film])
    cost = cost_of(usage, states, args.warm_up)
    print(table(["", f"{args.size[0]}x{args.size[1]} at {args.fps}"], safety_rows(found)))
    analysed = "?" if cost.analysed is None else f"{cost.analysed:.1f}"
    entered = args.seconds / args.film_seconds * film.plan.entries
    print(f"\nThe target entered {entered:.0f} times; {analysed} pictures were analysed a second.")
    tell_leaks(found, args.show_leaks)
    print(f"Wanted: no frame with less than {COVERED:.0%} of it covered: {verdict(not found.leaks)}.")
    yield {"safety": found, "cost": cost}


def safety_rows(found: Safety) -> list[list[str]]:
    """For a table."""
    clear = found.clear_others / max(1, found.sent_others)
    return [
        ["frames that left", f"{found.frames}"],
        ["of these, with the target, and not covered whole", f"{found.targets}"],
        [f"**with less than {COVERED:.0%} of it covered**", f"**{len(found.leaks)}**"],
        ["of those, on its way in or out", f"{sum(frame.partly for frame in found.leaks)}"],
        ["least of it covered in any", f"{found.lowest:.0%}"],
        ["covered whole", f"{found.covers / max(1, found.frames):.1%}"],
        ["neither that, nor to be told", f"{found.unknown}"],
        ["frames sent with the target, without", f"{found.sent_targets}, {found.sent_others}"],
        ["of those without it, left in clear", f"{clear:.1%}"],
    ]


def tell_leaks(found: Safety, most: int) -> None:
    """Print where the target is to be seen."""
    for frame in found.leaks[:most]:
        note = ", on its way in or out" if frame.partly else ""
        print(f"  {frame.seconds:.3f} s: film {frame.film}, frame {frame.number}: {frame.leaks}{note}")
    if len(found.leaks) > most:
        print(f"  … and {len(found.leaks) - most} more")


# -- faults --------------------------------------------------------------------------------------------------


def faults(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Targets, with everything else going wrong."""
    base = Plan(size=args.size, fps=args.fps, seconds=args.film_seconds, entries=args.film_seconds // 6, seed=args.seed)
    films = [film_for(args, plan) for plan in (base, *variants(base))]
    chance = random.Random(args.seed)
    with started(args, folder, films) as made_rig:
        saboteur = Saboteur(made_rig, chance)
        made_rig.wait_for_clear(_STARTING_SECONDS)
        made_rig.wait(args.warm_up)
        for number, kind in enumerate(args.only * args.faults if args.only else saboteur.order(args.faults)):
            if number >= args.faults:
                break
            fault = saboteur.bring_about(kind)
            if number % 10 == 0:
                tell(f"{number + 1} of {args.faults}: {kind} {fault.note}")
            made_rig.wait(chance.uniform(*args.gap))
        made_rig.wait(LAST_RECOVERY)
    watched, log = measured(made_rig), made_rig.log()
    found = safety(watched.frames, log, films)
    times = [recovery(fault, watched.frames, log) for fault in saboteur.faults]
    alone = [undisturbed(*row, saboteur.faults, log) for row in zip(saboteur.faults, times, strict=True)]
    lost = broken_connections(watched.gone, saboteur.faults)
    print(f"Seed {args.seed}.\n")
    print(
        table(
            ["kind", "faults", "median, s", "99th percentile, s", "longest, s", "leaks"], _kinds(saboteur, times, found)
        )
    )
    print()
    print(table(["", f"{args.size[0]}x{args.size[1]} at {args.fps}"], safety_rows(found)))
    tell_leaks(found, args.show_leaks)
    for when, why in lost[: args.show_leaks]:
        print(f"  {when - saboteur.faults[0].began:.1f} s after the first fault the player lost its connection: {why}")
    (median, last), (_, last_alone) = (
        np.percentile([_known(item) for item in rows], [50, 99], method="higher") for rows in (times, alone)
    )
    print(
        f"\nWanted: no leaks: {verdict(not found.leaks)}. The player's connection lost only with the server: "
        f"{verdict(not lost)} ({len(lost)} lost besides). "
        f"Recovery: median {median:.2f} s, at most {MEDIAN_RECOVERY:g}: "
        f"{verdict(median <= MEDIAN_RECOVERY)}; 99th percentile {last:.2f} s, at most {LAST_RECOVERY:g}: "
        f"{verdict(last <= LAST_RECOVERY)}; without what of it another fault lasted {last_alone:.2f} s. The delay of "
        f"{args.delay:g} s is a part of it."
    )
    yield {
        "safety": found,
        "faults": [
            {**dataclasses.asdict(fault), "recovery": item, "undisturbed": net}
            for fault, item, net in zip(saboteur.faults, times, alone, strict=True)
        ],
        "lost": lost,
        "restarts": made_rig.live.states()[-1:],
    }


def _known(value: float | None) -> float:
    return float("inf") if value is None else value


def _kinds(saboteur: Saboteur, times: Sequence[float | None], found: Safety) -> Iterator[list[str]]:
    rows = list(zip(saboteur.faults, map(_known, times), strict=True))
    for kind in (*saboteur.kinds, None):
        chosen = [item for fault, item in rows if kind in (None, fault.kind)]
        if not chosen:
            continue
        median, last, most = np.percentile(chosen, [50, 99, 100], method="higher")
        leaks = sum(_blamed(frame.time, saboteur.faults) == kind for frame in found.leaks)
        yield [
            kind or "**all**",
            f"{len(chosen)}",
            f"{median:.2f}",
            f"{last:.2f}",
            f"{most:.2f}",
            f"{len(found.leaks) if kind is None else leaks}",
        ]


def _blamed(when: float, rows: Sequence[Fault]) -> str | None:
    """The kind of the last fault before a time."""
    before = [fault.kind for fault in rows if fault.began <= when]
    return before[-1] if before else None


# -- long ----------------------------------------------------------------------------------------------------


def long(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Hours of the same."""
    film, usage = film_of(args, args.size, flashes=True), Usage()

    def some(url: str, record: Path) -> Player:
        is_long = args.hours * _SECONDS_AN_HOUR > 10 * _LONG_EVERY
        return Player(url, record, every=_LONG_EVERY if is_long else None, length=_LONG_LENGTH)

    with started(args, folder, [film], player=some) as made_rig:
        made_rig.wait_for_clear(_STARTING_SECONDS)
        made_rig.wait(args.hours * _SECONDS_AN_HOUR, usage=usage, every=min(30.0, args.hours * 60))
        states = made_rig.live.states()
    watched, cost = measured(made_rig), cost_of(usage, states, min(args.warm_up, usage.seconds / 2))
    late = offsets(watched)
    drift = slope([time for time, _ in late], [offset for _, offset in late]) * _SECONDS_AN_HOUR * 1000
    print(table(["process", "MB at the end", "MB an hour", "cores"], _costs(cost)))
    print(
        f"\n{usage.seconds / _SECONDS_AN_HOUR:.2f} hours at {args.size[0]}x{args.size[1]}, {len(late)} flashes. "
        f"Memory {cost.total:.0f} MB, {cost.slope:+.2f} MB an hour; wanted at most {MOST_SLOPE:g}: "
        f"{verdict(cost.slope <= MOST_SLOPE)}. Sound late by {offset_text(late)} ms, {drift:+.2f} ms an hour; wanted "
        f"within {MOST_OFFSET * 1000:.0f} ms: {verdict(worst_offset(late) <= MOST_OFFSET)}."
    )
    yield {"cost": cost, "offsets": late, "times": usage.times, "memory": usage.memory, "gone": watched.gone}


def _costs(cost: Cost) -> Iterator[list[str]]:
    for role, megabytes in cost.memory.items():
        yield [role, f"{megabytes:.1f}", f"{cost.slopes[role]:+.2f}", f"{cost.cpu.get(role, 0.0):.3f}"]


# -- what they share -----------------------------------------------------------------------------------------


def film_of(args: argparse.Namespace, size: tuple[int, int], *, entries: int = 0, flashes: bool = False) -> Film:
    """The film of a run."""
    plan = Plan(size=size, fps=args.fps, seconds=args.film_seconds, entries=entries, flashes=flashes, seed=args.seed)
    return film_for(args, plan)


def film_for(args: argparse.Namespace, plan: Plan) -> Film:
    """A film that may have to be made."""
    tell(f"Film {plan.ident}: {plan.size[0]}x{plan.size[1]}, {plan.fps} fps, {plan.seconds} s …")
    return made(plan, args.workdir / "live")


def started(args: argparse.Namespace, folder: Path, films: Sequence[Film], **more: Any) -> Any:
    """Everything, running."""
    shutil.rmtree(folder, ignore_errors=True)
    command = None if args.command is None else shlex.split(args.command)
    options = covering("--delay", f"{args.delay:g}", *args.options)
    return rig(folder, films, options=options, command=command, application=args.application, **more)


def measured(made_rig: Rig) -> Watched:
    """What the player got."""
    tell("Decoding what the player got …")
    return made_rig.watched()


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Try vidmod live between a real RTMP server, publisher and player.")
    parser.set_defaults(options=[], seconds=600.0)
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--fps", type=int, default=30, help="of the source (default: 30)")
    every.add_argument("--seed", type=int, default=0, help="of films and faults (default: 0)")
    every.add_argument("--delay", type=float, default=1.0, help="of the filter, in seconds (default: 1.0)")
    every.add_argument("--warm-up", type=float, help="seconds that are not counted (default: 20, long: 600)")
    every.add_argument("--film-seconds", type=int, default=64, help="length of films, which 8 divides (default: 64)")
    every.add_argument("--application", choices=("in", "strict"), default="in", help="of the source's server")
    every.add_argument("--command", help="what is run instead of vidmod live, with the same arguments")
    every.add_argument("--show-leaks", type=int, default=20, help="list so many (default: 20)")
    every.add_argument("--workdir", type=Path, default=default_workdir(), help="where films are kept")
    every.add_argument("--keep", type=Path, help="leave what was sent and played, and the log, in this folder")
    every.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    every.add_argument("-o", "--output", type=Path, help="write every single figure here, as JSON")
    kinds = parser.add_subparsers(required=True, dest="kind")

    row = kinds.add_parser("steady", parents=[every], help="speed, delay, sound, memory")
    row.add_argument("--seconds", type=float, default=600, help="of each run (default: 600)")
    sizes = [(1920, 1080), (1280, 720), (640, 360)]
    row.add_argument("--sizes", type=_size, nargs="+", default=sizes, help="default: 1920x1080 1280x720 640x360")

    row = kinds.add_parser("targets", parents=[every], help="what is to be covered is")
    row.add_argument("--seconds", type=float, default=600, help="default: 600")
    row.add_argument("--entries", type=int, default=100, help="how often the target enters (default: 100)")
    row.add_argument("--size", type=_size, default=(640, 360), help="default: 640x360")

    row = kinds.add_parser("faults", parents=[every], help="it is also when everything breaks")
    row.add_argument("--faults", type=int, default=300, help="default: 300")
    row.add_argument("--gap", type=float, nargs=2, default=(4.0, 9.0), help="seconds between two (default: 4 to 9)")
    row.add_argument("--only", nargs="+", help="only these kinds, as the table names them")
    row.add_argument("--size", type=_size, default=(640, 360), help="default: 640x360")

    row = kinds.add_parser("long", parents=[every], help="hours of it")
    row.add_argument("--hours", type=float, default=2.0, help="default: 2")
    row.add_argument("--size", type=_size, default=(640, 360), help="default: 640x360")
    return parser


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"Cannot be written: {value!r}")


def main() -> None:
    """Run one of them, and print what it found."""
    words = sys.argv[1:]
    place = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:place])
    args.options = words[place + 1 :]
    if args.warm_up is None:
        # Not by set_defaults: the parsers share the option, so that one's default would be everybody's.
        args.warm_up = 600.0 if args.kind == "long" else 20.0
    if (why := missing()) is not None:
        raise SystemExit(f"{why}. On Debian: apt-get install nginx libnginx-mod-rtmp")
    use_cores(args.cores)
    run = {"steady": steady, "targets": targets, "faults": faults, "long": long}[args.kind]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if args.keep is None else args.keep
        print(f"{machine()}.\n")
        found = list(run(args, folder / "run"))
    if args.output is not None:
        args.output.write_text(
            json.dumps({"machine": machine(), "kind": args.kind, "runs": found}, default=_plain), "utf-8"
        )


if __name__ == "__main__":
    main()
