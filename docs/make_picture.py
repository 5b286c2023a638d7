"""Draw the README's picture: `python docs/make_picture.py` writes docs/scan.svg."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

import vidmod
from vidmod.terminal import summary

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Scan the demo and keep what the terminal shows."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("$ vidmod scan samples/demo.mp4", style="bold")
    console.print(summary(vidmod.scan(ROOT / "samples" / "demo.mp4")))
    picture = console.export_svg(title="vidmod scan", unique_id="scan")
    # rich names a web font; the picture is to need no network.
    (ROOT / "docs" / "scan.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
