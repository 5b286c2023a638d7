"""How fast `vidmod redact` is, beside a scan, a plain transcode and deface, on one long film, in one run.

    python benchmarks/redact.py
    python benchmarks/redact.py --deface DEFACE/bin/deface -o redact.json
    python benchmarks/redact.py --seconds 60        to see that it works

Builds the film of `scan.py` (1080p30 H.264, a key frame every 2 s), scans it once, and times each of these in a
process of its own, round after round; nothing else should run meanwhile:

- `vidmod scan` of the film;
- `vidmod redact` of the film, all by itself, with its verification and without;
- with a timeline that has 2 % of the film flagged, in two ways: segments that are covered whole, and a face that is
  covered where it is; without verification, which decodes the whole output;
- with a box through the whole film, so that every picture is decoded, looked at, tracked, drawn on and encoded;
- a plain transcode with the same encoder and settings, by PyAV: decode and encode, both with threads on all cores;
- deface, which looks for faces in every picture and covers them, on the first seconds of the film.
"""

# Only the standard library up here, as in scan.py.
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scan import Film, Run, default_workdir, get_film, machine, own_command, run, table, tell, use_cores, vidmod_command

FLAGGED_SHARE = 0.02
DEFACE_SECONDS = 10
LABELS = "FACE_FEMALE,FACE_MALE"
WANTED_GIVEN, WANTED_OF_SCAN, WANTED_OF_TRANSCODE, WANTED_OF_DEFACE = 40.0, 0.6, 0.75, 10.0


def _timeline(film: Path, folder: Path) -> Path:
    path = folder / "film.timeline.json"
    run(vidmod_command("scan", film, "--quiet", "-o", path))
    return path


def _segment(number: int, category: str, start: float, end: float) -> dict[str, Any]:
    times = {"start_seconds": start, "end_seconds": end}
    scores = {"peak": 1.0, "mean": 1.0, "labels": {category: 1.0}}
    return {"id": f"s{number}", "category": category, "verdict": "block", "action": "cover", **times, **scores}


def _written(document: dict[str, Any], path: Path) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path


def _with_slates(document: dict[str, Any], seconds: float, path: Path) -> Path:
    """The scan's own segments, as many as make up so many seconds; the last one shortened."""
    rows, left = [], seconds
    for row in document["segments"]:
        if left <= 0:
            break
        length = min(left, row["end_seconds"] - row["start_seconds"])
        rows.append({**row, "end_seconds": row["start_seconds"] + length})
        left -= length
    return _written({**document, "segments": rows}, path)


def _with_faces(document: dict[str, Any], seconds: float, path: Path) -> Path:
    """Segments around faces that the scan found, for as many seconds."""
    judged: dict[str, Any] = {"labels": LABELS.split(","), "review": 0.4, "block": 0.4}
    policy = document["provenance"]["policy"]
    policy = {**policy, "categories": {**policy["categories"], "faces": judged}}
    spans: list[list[float]] = []
    for sample in document["samples"]:
        if not any(item["label"] in judged["labels"] for item in sample.get("detections", ())):
            continue
        start = sample["time_seconds"]
        if spans and start - spans[-1][1] < 1:
            spans[-1][1] = start
        else:
            spans.append([start, start])
    rows, left = [], seconds
    for number, (start, end) in enumerate(spans, 1):
        if left <= 0:
            break
        length = min(left, end - start)
        rows.append(
            _segment(number, "faces", start, start + length) | {"labels": {judged["labels"][0]: 1.0}},
        )
        left -= length
    return _written({**document, "segments": rows, "provenance": {**document["provenance"], "policy": policy}}, path)


def _with_a_box(document: dict[str, Any], path: Path) -> Path:
    """A box that goes through the picture from the beginning to the end."""
    video = document["source"]["video"]
    last = document["coverage"][-1]["end_seconds"]
    ticks = 1 / _fraction(video["time_base"])
    boxes = [
        {"pts": int(at * ticks), "time_seconds": at, "box": [left, 300, left + 240, 600]}
        for at, left in ((0.0, 100), (last, video["width"] - 400))
    ]
    track = {"id": "t1", "label": "hand", "start_seconds": 0.0, "end_seconds": last, "boxes": boxes}
    return _written({**document, "segments": [], "tracks": [track]}, path)


def _fraction(text: str) -> float:
    top, _, bottom = text.partition("/")
    return int(top) / int(bottom or 1)


def _transcode(film: Path, output: Path) -> None:
    """Inside a process of its own: what any tool pays that writes every picture again."""
    import av

    from vidmod.media.encoding import DEFAULT_PRESET, QUALITY

    with av.open(str(film)) as source, av.open(str(output), "w") as target:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        coded = target.add_stream("libx264", rate=stream.average_rate)
        coded.width, coded.height, coded.pix_fmt = stream.width, stream.height, stream.pix_fmt
        assert stream.time_base is not None
        coded.time_base = coded.codec_context.time_base = stream.time_base
        coded.options = {"preset": DEFAULT_PRESET, "crf": str(QUALITY["libx264"])}
        for frame in source.decode(stream):
            frame.pict_type = 0
            target.mux(coded.encode(frame))
        target.mux(coded.encode(None))


def _shortened(film: Path, output: Path) -> None:
    """Inside a process of its own: the first seconds of the film, copied."""
    import av

    with av.open(str(film)) as source, av.open(str(output), "w") as target:
        stream = source.streams.video[0]
        assert stream.time_base is not None
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None or packet.dts * stream.time_base >= DEFACE_SECONDS:
                break
            packet.stream = copy
            target.mux(packet)


def _commands(film: Film, folder: Path, deface: str) -> dict[str, Callable[[], Run]]:
    """What is timed, by name."""
    document = json.loads(_timeline(film.path, folder).read_text("utf-8"))
    seconds = film.seconds * FLAGGED_SHARE
    slates = _with_slates(document, seconds, folder / "slates.json")
    faces = _with_faces(document, seconds, folder / "faces.json")
    box = _with_a_box(document, folder / "box.json")
    output = folder / "safe.mp4"

    def redact(*options: object) -> Callable[[], Run]:
        return lambda: run(vidmod_command("redact", film.path, output, "--quiet", *options))[0]

    works: dict[str, Callable[[], Run]] = {
        "scan": lambda: run(vidmod_command("scan", film.path, "--fresh", "--quiet", "-o", folder / "again.json"))[0],
        "alone": redact("--no-verify", "--fresh"),
        "verified": redact("--fresh"),
        "slates": redact("--timeline", slates, "--no-verify"),
        "faces": redact("--timeline", faces, "--labels", LABELS, "--no-verify"),
        "everything": redact("--timeline", box, "--labels", LABELS, "--no-verify"),
        "transcode": lambda: run(own_command_here("transcode", film.path, folder / "plain.mp4"))[0],
        "all faces": redact("--labels", LABELS, "--no-verify", "--fresh"),
    }
    if deface:
        short = folder / "short.mp4"
        run(own_command_here("shorten", film.path, short))
        command = [deface, str(short), "-o", str(folder / "defaced.mp4"), "--replacewith", "solid"]
        works["deface"] = lambda: run(command)[0]
    return works


TITLES = {
    "scan": "`vidmod scan`",
    "alone": "`vidmod redact`, nothing given, `--no-verify`",
    "verified": "`vidmod redact`, nothing given, verified",
    "slates": "2 % flagged in a timeline, covered whole, `--no-verify`",
    "faces": "2 % flagged in a timeline, faces covered, `--no-verify`",
    "everything": "every picture looked at, drawn on and encoded, `--no-verify`",
    "transcode": "plain transcode, same encoder and settings",
    "all faces": f"`vidmod redact --labels {LABELS} --no-verify`",
    "deface": f"deface, {DEFACE_SECONDS} s of the film",
}


def own_command_here(action: str, *arguments: object) -> list[str]:
    """The command that runs one of this file's hidden actions in a new process."""
    command = own_command(action, *arguments)
    return [command[0], str(Path(__file__).resolve()), *command[2:]]


def _ratios(runs: dict[str, list[Run]], film: Film) -> Iterator[list[str]]:
    def walls(name: str) -> list[float]:
        return [done.wall for done in runs[name]]

    def row(title: str, values: Sequence[float], wanted: float) -> list[str]:
        return [title, f"{statistics.median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}", f"{wanted:g}"]

    for name in ("slates", "faces"):
        yield row(f"{TITLES[name]}: times real time", [film.seconds / wall for wall in walls(name)], WANTED_GIVEN)
    for name in ("alone", "verified"):
        pairs = zip(walls("scan"), walls(name), strict=True)
        yield row(f"{TITLES[name]}: of the scan's own speed", [scan / wall for scan, wall in pairs], WANTED_OF_SCAN)
    pairs = zip(walls("transcode"), walls("everything"), strict=True)
    yield row("everything flagged: of the transcode's speed", [a / b for a, b in pairs], WANTED_OF_TRANSCODE)
    if "deface" in runs:
        pairs = zip(walls("deface"), walls("all faces"), strict=True)
        ratios = [a / DEFACE_SECONDS * film.seconds / b for a, b in pairs]
        yield row("faces, nothing given: times deface's speed", ratios, WANTED_OF_DEFACE)


def _report(runs: dict[str, list[Run]], film: Film) -> str:
    rows = []
    for name, done in runs.items():
        seconds = DEFACE_SECONDS if name == "deface" else film.seconds
        wall = statistics.median(item.wall for item in done)
        cpu = statistics.median(item.cpu for item in done)
        peak = max(item.peak_mb for item in done)
        rows.append([TITLES[name], f"{wall:.1f}", f"{seconds / wall:.1f}", f"{cpu:.1f}", f"{peak:.0f}"])
    costs = table(["", "seconds", "times real time", "CPU s", "peak MB"], rows)
    ratios = table(["", "median", "rounds", "wanted"], list(_ratios(runs, film)))
    return f"{machine()}; {film.seconds:.0f} s of 1080p30, {film.path.stat().st_size >> 20} MiB.\n\n{costs}\n\n{ratios}"


def main() -> None:
    """Build the film, time everything, print the tables."""
    parser = argparse.ArgumentParser(description="Time vidmod redact against a scan, a transcode and deface.")
    parser.add_argument("--seconds", type=float, default=295, help="length of the film (default: 295)")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is timed (default: 1)")
    parser.add_argument("--workdir", type=Path, default=default_workdir(), help="where films are kept")
    parser.add_argument("--deface", default="", help="deface's command in an environment of its own; without, none")
    parser.add_argument("--only", nargs="+", choices=TITLES, help="only these, without ratios")
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    parser.add_argument("-o", "--output", type=Path, help="write every single figure here, as JSON")
    args = parser.parse_args()
    use_cores(args.cores)
    film = get_film(args.workdir, args.seconds)
    with tempfile.TemporaryDirectory(dir=args.workdir) as folder:
        works = _commands(film, Path(folder), args.deface)
        if args.only:
            works = {name: work for name, work in works.items() if name in args.only}
        runs: dict[str, list[Run]] = {name: [] for name in works}
        for number in range(args.rounds):
            for name in works if number % 2 == 0 else [*reversed(works)]:
                runs[name].append(works[name]())
                tell(f"round {number + 1}/{args.rounds}  {name:10} {runs[name][-1].wall:8.2f} s")
    if args.output:
        rows = {name: [dataclasses.asdict(item) for item in done] for name, done in runs.items()}
        args.output.write_text(json.dumps({"machine": machine(), "seconds": film.seconds, "runs": rows}, indent=1))
    if args.only:
        for name, done in runs.items():
            print(f"{TITLES[name]}: {', '.join(f'{item.wall:.2f} s ({item.cpu:.1f} CPU s)' for item in done)}")
        return
    print(_report(runs, film))
    if not args.deface:
        print("\ndeface SKIPPED: no --deface. See benchmarks/README.md for how to make its environment.")


def _do(action: str, arguments: Sequence[str]) -> None:
    """What the processes do that this program starts."""
    {"transcode": _transcode, "shorten": _shortened}[action](*map(Path, arguments))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--do"]:
        sys.path.insert(0, os.fspath(Path(__file__).parent))
        _do(sys.argv[2], sys.argv[3:])
    else:
        main()
