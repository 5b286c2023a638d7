"""Take the README's picture of a report: `python docs/make_report_picture.py` writes docs/report.png.

Needs Chromium and the package's `dev` extra.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import vidmod

ROOT = Path(__file__).resolve().parent.parent
SIZE = {"width": 1280, "height": 1180}
COLOURS = 128


def main() -> None:
    """Scan the demo, decide about two of its segments by keyboard, and keep what the screen shows."""
    demo = ROOT / "samples" / "demo.mp4"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_path = Path(folder) / "demo.report.html"
        vidmod.report(vidmod.scan(demo), page_path, video=demo)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(page_path.as_uri())
        for key in ("j", "a", "j", "x", "j", "Enter"):
            page.keyboard.press(key)
            page.wait_for_timeout(300)
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(900)
        shown = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    shown.convert("RGB").quantize(COLOURS).save(ROOT / "docs" / "report.png", optimize=True)


if __name__ == "__main__":
    main()
