"""Writes all bombs, hidings, references and names: `python -m tests.hostile FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.hostile.bombs import BOMBS
from tests.hostile.hidings import HIDINGS
from tests.hostile.references import NAMES, REFERENCES, write_named
from tests.hostile.trap import Trap


def main() -> None:
    """Write all bombs, hidings and names."""
    folder = Path(sys.argv[1])
    for name in ("bombs", "hidings", "references", "names"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for bomb in BOMBS:
        bomb.write(folder / "bombs")
    for hiding in HIDINGS:
        hiding.write(folder / "hidings" / (hiding.name.replace(" ", "-") + hiding.suffix))
    for name in NAMES:
        write_named(folder / "names", name)
    with Trap(folder / "references") as trap:
        for reference in REFERENCES:
            reference.write(
                trap.bait.folder / ("job-" + reference.name.replace(" ", "-") + reference.suffix), trap.bait
            )


if __name__ == "__main__":
    main()
