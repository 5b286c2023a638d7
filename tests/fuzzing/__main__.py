"""Scans damaged files and checks what is said of them: see :mod:`tests.fuzzing`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import vidmod
from tests.fuzzing.running import FILE_SECONDS, Run, Tally, describe, settings
from tests.fuzzing.sources import write_sources
from tests.networks import write_classifier

_COLUMNS = 60


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Scan damaged files and check what is said of them.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--keep", type=Path, help="where offending inputs stay, and the one that ends the process")
    return parser.parse_args()


def main() -> int:
    """Run; 1 if anything is wrong."""
    arguments = _arguments()
    # SVT-AV1 writes to standard error what nobody asked for.
    os.environ.setdefault("SVT_LOG", "0")
    with tempfile.TemporaryDirectory() as folder:
        keep = Path(folder, "jobs") if arguments.keep is None else arguments.keep
        keep.mkdir(parents=True, exist_ok=True)
        sources = write_sources(Path(folder))
        run = Run(sources, arguments.seed, keep, watchdog=True)
        shown = [0.0]

        def report(tally: Tally) -> None:
            if tally.seconds - shown[0] > 5:
                shown[0] = tally.seconds
                print(f"{tally.jobs} of {arguments.count}, {tally.jobs / tally.seconds:.0f}/s, "
                      f"{len(tally.offences)} offend"[:_COLUMNS], file=sys.stderr)  # fmt: skip

        chosen = settings(write_classifier(Path(folder)), arguments.workers, file_seconds=FILE_SECONDS)
        with vidmod.Scanner(chosen) as scanner:
            tally = run.run(scanner, range(arguments.first, arguments.first + arguments.count), report)
    print(describe(tally))
    return 1 if tally.offences else 0


if __name__ == "__main__":
    sys.exit(main())
