"""The report as a headless Chromium shows it: from a file, without network, on a desk and on a phone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.report.page import write_page_files
from tests.pipelines.report.made import made_up

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_page_files(folder, *made_up(600))
    return folder / "report.html"


class Visit:
    """A page that is open, and what it asked for and complained of."""

    def __init__(self, browser, file: Path, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(180_000)  # a machine may be busy
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())

    def column(self, table: str, place: int) -> list[str]:
        return self.page.locator(f"{table} tbody tr > :nth-child({place})").all_inner_texts()


@pytest.fixture
def visit(chromium, report):
    visits = []

    def open_page(file: Path = report, **how):
        visits.append(Visit(chromium, file, **how))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_a_file_and_asks_for_nothing_else(visit, report, scheme):
    opened = visit(scheme=scheme)
    opened.page.locator("thead button").first.click()
    asked = [url for url in opened.requests if not url.startswith("data:")]
    assert asked == [report.as_uri()]
    assert opened.complaints == []


def test_every_picture_loads(visit):
    pictures = visit().page.locator("img").evaluate_all("all => all.map(i => [i.complete, i.naturalWidth])")
    # Two of each of 16 words, and charts of 4 readers' calibration.
    assert len(pictures) == 2 * 16 + 4
    assert all(complete and width > 0 for complete, width in pictures)


def test_a_click_on_a_head_sorts_numbers_by_size_and_again_the_other_way_and_words_as_text(visit):
    opened, table = visit(), "#accuracy > .frame table"
    place = 1 + opened.page.locator(f"{table} thead th").all_inner_texts().index(
        next(t for t in opened.page.locator(f"{table} thead th").all_inner_texts() if t.startswith("weighted mean"))
    )
    head = opened.page.locator(f"{table} thead th:nth-child({place})")

    def shares():
        return [float(text.partition(" ")[0]) for text in opened.column(table, place)]

    head.locator("button").click()
    assert shares() == sorted(shares(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert shares() == sorted(shares())
    assert shares() != sorted(shares(), reverse=True)
    assert head.get_attribute("aria-sort") == "ascending"
    opened.page.locator(f"{table} thead th:first-child button").click()
    names = opened.column(table, 1)
    assert names == opened.page.evaluate("words => [...words].sort((a, b) => a.localeCompare(b))", names)
    # Small p-values are numbers too: 1e-30 comes before 0.02.
    opened.page.locator("#pairs thead th:last-child button").click()
    values = [float(t.replace("−", "-").replace("< ", "")) for t in opened.column("#pairs table", 6)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways_but_its_tables_do(visit, width):
    opened = visit(width=width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    widest = opened.page.evaluate("Math.max(...[...document.querySelectorAll('main *')].filter("
                                  "e => !e.closest('.frame')).map(e => e.getBoundingClientRect().right))")  # fmt: skip
    assert widest <= width
    scrolls = "f => f.scrollWidth > f.clientWidth"
    frame = opened.page.locator("#accuracy > .frame")
    if width == 390:
        assert frame.evaluate(scrolls)
        # Half of the frame is left for figures, beside the readers' names that stay.
        name = opened.page.locator("#accuracy tbody th").first.bounding_box()["width"]
        assert name < frame.bounding_box()["width"] / 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_can_be_told_from_their_ground(visit, scheme):
    """By the pixels of the text under a chart's axis: no page colour reaches into an image."""
    chart = visit(scheme=scheme).page.locator("#calibration .chart img").first
    pixels = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB"))
    ground, below = pixels[0, 0].astype(int), pixels[-24:].reshape(-1, 3).astype(int)
    ink = below[np.abs(below - ground).sum(axis=1).argmax()]
    assert _contrast(*("rgb({}, {}, {})".format(*colour) for colour in (ground, ink))) > 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(visit, scheme):
    """Every text in the page: 4.5 to 1, as WCAG asks of small text."""
    pairs = visit(scheme=scheme).page.evaluate(_COLOURS)
    assert len(pairs) > 5
    assert [(what, ground, ink) for what, ground, ink in pairs if _contrast(ground, ink) < 4.5] == []


_COLOURS = """() => {
  const found = new Map();
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest("svg") || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (["SCRIPT", "STYLE"].includes(e.tagName) || e.disabled) continue;
    let ground = e;
    while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    const pair = [getComputedStyle(ground || document.body).backgroundColor, getComputedStyle(e).color];
    found.set(pair.join(), [e.tagName + "." + e.className, ...pair]);
  }
  return [...found.values()];
}"""


def _contrast(first: str, second: str) -> float:
    """WCAG 2's ratio of two ``rgb(r, g, b)``."""

    def luminance(colour: str) -> float:
        channels = [float(c) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
