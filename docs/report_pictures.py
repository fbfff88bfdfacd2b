"""The pictures of ``docs/report.md``: a run's report in a headless Chromium, wide, narrow, dark, and one unit's card.

Usage: python docs/report_pictures.py RUN

Needs playwright and an installed Chromium. Pictures have a palette of 128 colours, so that none is above 200 kB.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
VIEWS = {
    "report_findings": (1400, 1000, "light", "#findings"),
    "report_narrow": (400, 800, "light", "#findings"),
    "report_dark": (1400, 1000, "dark", "#matches"),
    "report_card": (1400, 1000, "light", "card"),
}
"""Name: width and height (px), colours, where the page is scrolled to (or the card that is opened)."""


def shoot(tab: Page, where: str) -> Image.Image:
    """Return the window with the page scrolled to a section, or with the first unit's card opened."""
    if where == "card":
        tab.locator("#units button.unit").first.click()
    elif where != "#findings":
        tab.locator(where).evaluate("node => node.scrollIntoView({behavior: 'instant'})")
    tab.wait_for_timeout(300)
    return Image.open(io.BytesIO(tab.screenshot())).convert("RGB")


def main() -> None:
    """Draw all views of the report of the run that is named on the command line."""
    page = (Path(sys.argv[1]) / "report.html").resolve()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height, scheme, where) in VIEWS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab = context.new_page()
            tab.goto(page.as_uri())
            picture = shoot(tab, where).quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            picture.save(HERE / f"{name}.png", optimize=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
