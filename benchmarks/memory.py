"""Whether the peak memory of `vidmod scan` depends on how long the film is.

    python benchmarks/memory.py
    python benchmarks/memory.py --minutes 1 10

Scans two films of the same material, by default 6 and 60 minutes of 1080p30 H.264, each in a process of its
own, and compares their peak resident memory. The whole takes as long as scanning both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from scan import MEMORY_MB, Run, default_workdir, get_film, machine, run, table, tell, use_cores, vidmod_command

TOLERANCE = 1.05


def measure(folder: Path, minutes: float) -> Run:
    """Scan a film of that length with the command's defaults."""
    film = get_film(folder, minutes * 60)
    tell(f"Scanning {minutes:g} minutes …")
    with tempfile.TemporaryDirectory() as out:
        cost, _ = run(vidmod_command("scan", film.path, "--fresh", "-o", Path(out) / "timeline.json"))
    return cost


def main() -> None:
    """Measure both, print them and their ratio."""
    parser = argparse.ArgumentParser(description="Compare the peak memory of scanning a short film and a long one.")
    parser.add_argument("--minutes", type=float, nargs=2, default=(6.0, 60.0), metavar=("SHORT", "LONG"))
    parser.add_argument("--workdir", type=Path, default=default_workdir(), help="where films are kept")
    parser.add_argument("--cores", type=int, help="use only so many cores (default: all)")
    args = parser.parse_args()
    use_cores(args.cores)
    short, long = (measure(args.workdir, minutes) for minutes in args.minutes)
    ratio = long.peak_mb / short.peak_mb
    met = ratio <= TOLERANCE and max(short.peak_mb, long.peak_mb) < MEMORY_MB
    rows = [
        [f"{minutes:g} min", f"{cost.peak_mb:.0f}", f"{cost.wall:.1f}"]
        for minutes, cost in zip(args.minutes, (short, long), strict=True)
    ]
    print(f"{machine()}.\n\n{table(['film', 'peak MB', 'seconds'], rows)}\n")
    print(f"Ratio {ratio:.3f}; at most {TOLERANCE:g} and under {MEMORY_MB:g} MB wanted: {'met' if met else 'MISSED'}.")


if __name__ == "__main__":
    main()
