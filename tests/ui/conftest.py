"""The browser of the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless one. ``apt-get install chromium``"""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    assert program, "this test opens pages with Chromium: apt-get install chromium"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_FLAGS, "--no-first-run"])
        yield browser
        browser.close()
