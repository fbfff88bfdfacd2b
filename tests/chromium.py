"""A real browser for tests of pages: its driver, the mark of tests that need one, and what starts it (the fixture `browser`)."""

import shutil
from contextlib import contextmanager

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives a browser")
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs an installed Chromium; the static tests of the pages run without"
)


@contextmanager
def started():
    with playwright.sync_playwright() as driver:
        # Without the sandbox, because test machines run as root; the pages are our own.
        launched = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()
