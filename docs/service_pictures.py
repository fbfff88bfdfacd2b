"""The pictures of ``docs/pages.md``: pages of the service in a headless Chromium, wide, narrow, dark.

Usage: python docs/service_pictures.py http://127.0.0.1:8000 RUN

Needs a service that shows the run, playwright and an installed Chromium. Pictures have a palette of 128 colours.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
A, B, TAP, UNIT = "package/efficientnet_lite0", "package/efficientnet_lite1", "blocks.4.1.bn2", 207
VIEWS = {
    "service_unit": (1280, 1000, "light", f"/models/{A}/taps/{TAP}/units/{UNIT}?run={{run}}", ""),
    "service_compare": (1280, 1000, "light", f"/compare?a={A}&b={B}&run={{run}}", "#h-flow"),
    "service_table": (
        1280,
        720,
        "dark",
        "/runs/{run}/tables/correspondence?f.verdict=%3Dsame_feature&sort=-r_natural",
        "",
    ),
    "service_similarity": (1280, 1100, "dark", "/runs/{run}/similarity", ""),
    "service_submit": (1280, 900, "light", "/jobs/new?models=pocket/vgg-focus-s0,pocket/vgg-focus-s1", "plan"),
    "service_narrow": (390, 800, "light", "/runs/{run}/atlas", ""),
}
"""Name: width and height (px), colours, address, where the page is scrolled to."""


def shoot(tab: Page, where: str) -> Image.Image:
    """Return the window with the page scrolled to a section, or with the form of a job filled in and its plan beside it."""
    if where == "plan":
        tab.get_by_label("Name").fill("two-seeds")
        tab.locator("[name='stimuli.natural.crops']").fill("480")
        tab.locator("[name='extraction.reduction']").select_option("center")
        tab.get_by_role("button", name="Submit this job").wait_for()
        tab.evaluate("window.scrollTo(0, 0)")
    elif where:
        tab.locator(where).evaluate("node => node.scrollIntoView({behavior: 'instant'})")
    tab.wait_for_timeout(2000)  # pictures are asked for as they come into view
    return Image.open(io.BytesIO(tab.screenshot())).convert("RGB")


def main() -> None:
    """Draw all views of the service and the run that are named on the command line."""
    service, run = sys.argv[1:]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height, scheme, address, where) in VIEWS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            context.set_default_timeout(120_000)
            tab = context.new_page()
            tab.goto(service + address.format(run=run))
            picture = shoot(tab, where).quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            picture.save(HERE / f"{name}.png", optimize=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
