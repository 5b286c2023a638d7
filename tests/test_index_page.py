"""The index page in a browser: it sorts, by keyboard too, breaks no rule of its own, and works without a script."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from vidmod.pages.index import Row, index_html

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

ROWS = [
    Row(name="b 10.mp4", path="1", url="1.html", verdict="pass", status="complete", length_seconds=5, share=0.99),
    Row(name="a.mp4", path="2", problem="is not whole JSON"),
    Row(
        name="<img src=x onerror=alert(1)>", path="3", url="3.html", verdict="block", status="complete", peak=0.9,
        length_seconds=7200, segments=9, share=1, reviewed="Ada, 2026-11-21",
    ),
    Row(
        name="b 9.mp4", path="4", url="4.html", verdict="review", status="partial", peak=0.95,
        length_seconds=60, segments=1, share=0.5,
    ),
]  # fmt: skip
HOSTILE, DAMAGED, NINE, TEN = "<img src=x onerror=alert(1)>", "a.mp4", "b 9.mp4", "b 10.mp4"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("index") / "index.html"
    path.write_text(index_html(ROWS, "uploads", public=False, now=datetime(2026, 11, 21, tzinfo=UTC)), "utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


def opened(browser: Any, address: str, **options: Any) -> tuple[Any, list[str]]:
    """The page, and what goes wrong in it or is asked for beside it."""
    page = browser.new_context(**options).new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: troubles.append(request.url) if request.url != address else None)
    page.goto(address)
    return page, troubles


def names(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all("tbody th", "rows => rows.map((row) => row.dataset.key)")
    return found


def test_its_headings_sort_it(browser: Any, address: str) -> None:
    page, troubles = opened(browser, address)
    worst = [HOSTILE, DAMAGED, NINE, TEN]
    assert names(page) == worst
    for heading, first, second in (
        ("Name", [HOSTILE, DAMAGED, NINE, TEN], [TEN, NINE, DAMAGED, HOSTILE]),
        ("Peak", [NINE, HOSTILE, TEN, DAMAGED], [HOSTILE, NINE, TEN, DAMAGED]),
        ("Length", [HOSTILE, NINE, TEN, DAMAGED], [TEN, NINE, HOSTILE, DAMAGED]),
        ("Looked at", [NINE, TEN, HOSTILE, DAMAGED], [HOSTILE, TEN, NINE, DAMAGED]),
        ("Verdict", worst, worst[::-1]),
    ):
        for expected in (first, second):
            page.get_by_role("button", name=heading).click()
            # Which of two equal ones comes first is not told.
            assert names(page)[0] == expected[0], heading
            assert names(page)[-1] == expected[-1], heading
            marked = page.eval_on_selector_all("[aria-sort]", "all => all.map((one) => one.textContent.trim())")
            assert marked == [heading]
        assert heading.lower() in page.get_by_role("status").inner_text().lower()
    assert troubles == []


def test_with_the_keyboard_alone(browser: Any, address: str) -> None:
    page, _ = opened(browser, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Name"
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert names(page)[0] == TEN
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
    assert reached >= {"1.html", "3.html", "4.html"}


def test_without_a_script_it_is_a_table_worst_first(browser: Any, address: str) -> None:
    page, troubles = opened(browser, address, java_script_enabled=False)
    assert page.locator("button").count() == 0
    assert page.locator("tbody tr").count() == len(ROWS)
    assert page.locator("tbody th bdi").first.inner_text() == HOSTILE
    assert [text for text in troubles if "http" in text] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_anybody_can_read_it(browser: Any, address: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page, _ = opened(browser, address, color_scheme=scheme, viewport={"width": width, "height": 800})
    result = axe.Axe().run(page)
    assert [row["id"] for row in result.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_its_rules_hold(browser: Any, address: str) -> None:
    """A script and a style that are not its own do not run, wherever they come from."""
    page, troubles = opened(browser, address)
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          const image = document.createElement("img");
          image.src = "https://example.org/x.png";
          document.body.append(image);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert sum("Content Security Policy" in text for text in troubles) == 2


def test_links_lead_to_the_pages(browser: Any, tmp_path: Path) -> None:
    name = "a b#c?d%20e&f'g\"h<i>:j\\k.html"
    (tmp_path / name).write_text("<title>here</title>", "utf-8")
    from vidmod.pages.addresses import address as url_of

    row = Row(name="x", path="x", url=url_of(tmp_path / name, tmp_path), verdict="pass", status="complete")
    index = tmp_path / "index.html"
    index.write_text(index_html([row], "t", public=False, now=datetime(2026, 11, 21, tzinfo=UTC)), "utf-8")
    page, _ = opened(browser, index.as_uri())
    page.get_by_role("link").click()
    assert page.title() == "here"
