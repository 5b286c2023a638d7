"""Whether many small files side by side are faster than one after the other.

    python benchmarks/files.py
    python benchmarks/files.py --count 20

Makes files of 3 to 10 seconds (640x360, H.264), and scans them with one warm Scanner both ways: one file after the
other with `Scanner.scan`, and all with `Scanner.scan_many`. The timelines have to be the same. Nothing else should run
meanwhile.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

from scan import ROOT, default_workdir, machine, table, tell, use_cores

WANTED = 1.5


def make_files(folder: Path, count: int) -> list[Path]:
    """Short films cut from the long one; kept for the next run."""
    sys.path.insert(0, str(ROOT))
    from samples.make_samples import make_long, truth_path

    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(1)
    paths = []
    for number in range(count):
        seconds = chance.uniform(3, 10)
        path = folder / f"file-{number:03d}-{seconds:.2f}s.mp4"
        if not path.exists():
            part = path.with_name(f"part-{path.name}")
            make_long(part, seconds=seconds, width=640, height=360)
            truth_path(part).unlink()
            part.replace(path)
        paths.append(path)
    return paths


def _without_time(timeline: Any) -> Any:
    document = timeline.as_document()
    return {**document, "provenance": {**document["provenance"], "created": ""}}


def main() -> None:
    """Measure both ways, in turn, and print their ratio."""
    parser = argparse.ArgumentParser(description="Compare scanning files side by side with one after the other.")
    parser.add_argument("--count", type=int, default=200, help="how many files (default: 200)")
    parser.add_argument("--sampling", default="uniform")
    parser.add_argument("--workdir", type=Path, default=default_workdir(), help="where films are kept")
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    args = parser.parse_args()
    use_cores(args.cores)
    tell(f"Making {args.count} files …")
    paths = make_files(args.workdir / "files", args.count)
    from vidmod.scanning import Scanner, ScanSettings

    with Scanner(ScanSettings(sampling=args.sampling)) as scanner:
        scanner.scan(paths[0])
        began = time.monotonic()
        single = {path: _without_time(scanner.scan(path)) for path in paths}
        after_each_other = time.monotonic() - began
        began = time.monotonic()
        many = {path: _without_time(result) for path, result in scanner.scan_many(paths)}
        side_by_side = time.monotonic() - began
    if many != single:
        raise SystemExit("The timelines differ.")
    ratio = after_each_other / side_by_side
    rows = [
        [name, f"{seconds:.1f}", f"{len(paths) / seconds:.2f}"]
        for name, seconds in (("one after the other", after_each_other), ("side by side", side_by_side))
    ]
    print(f"{machine()}. {len(paths)} files.\n\n{table(['', 'seconds', 'files a second'], rows)}\n")
    print(f"Ratio {ratio:.2f}; at least {WANTED:g} wanted: {'met' if ratio >= WANTED else 'MISSED'}.")


if __name__ == "__main__":
    main()
