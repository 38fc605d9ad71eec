"""The page of a reading service, as a headless Chromium shows it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdltr_core.inference.reader import load_student
from pipelines.service.options import ServiceLimits
from tests.service import encoded, local_service, word_picture

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser

# Files given to the page as a person's hand would: a drop is an event that no test can make otherwise.
DROP = """files => {
    const carried = new DataTransfer();
    for (const [name, text] of Object.entries(files))
        carried.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
    for (const kind of ["dragenter", "dragover", "drop"])
        document.querySelector("h1").dispatchEvent(
            new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""
COPY = """text => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return navigator.clipboard.write([new ClipboardItem({ "image/png": new Blob([bytes], { type: "image/png" }) })]);
}"""
PIXELS = """image => {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const drawn = canvas.getContext("2d");
    drawn.drawImage(image, 0, 0);
    return [...drawn.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


@pytest.fixture(scope="module")
def service(student: Path) -> Iterator[str]:
    limits = ServiceLimits(body_megabytes=0.5, images_per_request=3)
    with local_service(student, limits, teacher=False) as address:
        yield address


@pytest.fixture
def page(chromium: playwright.Browser, service: str) -> Iterator[playwright.Page]:
    yield from opened(chromium, service)


def opened(browser: playwright.Browser, address: str, **options: object) -> Iterator[playwright.Page]:
    """The page, on which no script fails and nothing is asked of another place."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert faults == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def word_of(card: playwright.Locator) -> str:
    card.locator(".letter").first.wait_for()
    return "".join(card.locator(".letter b").all_text_contents())


@pytest.mark.parametrize("way", ["drop", "pick", "paste"])
def test_a_word_that_is_given_is_read_and_the_pixels_that_were_seen_are_shown(
    page: playwright.Page, student: Path, way: str
) -> None:
    file = encoded(word_picture("Espresso"))
    if way == "drop":
        page.evaluate(DROP, {"sign.png": in_base64(file)})
    elif way == "pick":
        page.set_input_files("#files", [{"name": "sign.png", "mimeType": "image/png", "buffer": file}])
    else:
        page.evaluate(COPY, in_base64(file))
        page.keyboard.press("Control+v")
    card = page.locator(".card")
    assert word_of(card) == "Espresso"
    assert card.locator(".given figcaption").inner_text() == ("image.png" if way == "paste" else "sign.png")

    reader = load_student(student, "cpu", teacher=False)
    (expected,) = reader([file])
    shown = float(card.locator("output").inner_text().removesuffix(" % confident"))
    assert expected.confidence * 100 - 0.2 <= shown <= expected.confidence * 100 + 0.01
    shares = [int(text) for text in card.locator(".letter small").all_text_contents()]
    assert [
        abs(100 * known - share) < 1.01 for known, share in zip(expected.character_confidences, shares, strict=True)
    ]

    card.locator(".seen figcaption", has_text="16×64").wait_for()
    seen = card.locator(".seen img")
    pixels = np.array(seen.evaluate(PIXELS), np.uint8).reshape(16, 64, 4)[..., :3]
    np.testing.assert_array_equal(pixels, reader.pixels(file))
    assert seen.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"


def test_several_files_are_read_in_several_requests_and_an_unreadable_one_says_why(page: playwright.Page) -> None:
    words = ["HOTEL", "1984", "Espresso", "Market", "EXIT"]
    files = {f"{word}.png": in_base64(encoded(word_picture(word))) for word in words}
    page.evaluate(DROP, {**files, "letter.pdf": in_base64(b"%PDF-1.4 no picture")})
    page.locator(".card:not(.waiting)").nth(5).wait_for()
    cards = page.locator(".card")
    assert [word_of(cards.nth(place)) for place in range(5)] == words
    broken = cards.nth(5)
    assert "it is damaged, or none of BMP" in broken.locator(".fault").inner_text()
    assert not broken.locator(".seen").is_visible()
    assert page.locator("#summary").inner_text() == "5 read, 1 could not be read"
    page.click("#clear")
    assert cards.count() == 0
    assert not page.locator("#bar").is_visible()


def test_a_file_larger_than_the_service_takes_is_not_sent(page: playwright.Page) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    file = encoded(Image.fromarray(noise))
    page.evaluate(DROP, {"large.png": in_base64(file), "sign.png": in_base64(encoded(word_picture("EXIT")))})
    cards = page.locator(".card")
    assert word_of(cards.nth(1)) == "EXIT"
    assert "MB" in cards.nth(0).locator(".fault").inner_text()


def test_markup_in_a_file_name_is_text(page: playwright.Page) -> None:
    name = "<img src=x onerror=document.title=1>.png"
    page.evaluate(DROP, {name: in_base64(b"nothing")})
    page.locator(".card.failed").wait_for()
    assert page.locator(".given figcaption").inner_text() == name
    assert page.title() == "Word reader"


def test_the_token_is_asked_for_until_it_is_right_and_kept_for_the_tab(
    chromium: playwright.Browser, student: Path
) -> None:
    with local_service(student, token="right") as address:
        for page in opened(chromium, address):
            page.evaluate(DROP, {"sign.png": in_base64(encoded(word_picture("EXIT")))})
            form = page.locator("#token")
            form.wait_for()
            page.fill("#word", "wrong")
            page.keyboard.press("Enter")
            page.locator("#refused", has_text="not the token").wait_for()
            page.fill("#word", "right")
            page.keyboard.press("Enter")
            assert word_of(page.locator(".card")) == "EXIT"
            assert not form.is_visible()
            page.reload()
            page.evaluate(DROP, {"sign.png": in_base64(encoded(word_picture("HOTEL")))})
            assert word_of(page.locator(".card")) == "HOTEL"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_wider_than_the_screen(
    chromium: playwright.Browser, service: str, scheme: str
) -> None:
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": scheme}
    for page in opened(chromium, service, **options):
        words = {f"{'long name ' * 9}.png": "Espresso", "b.png": "INTERNATIONAL"}
        page.evaluate(DROP, {name: in_base64(encoded(word_picture(word))) for name, word in words.items()})
        page.locator(".card:not(.waiting)").nth(1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        for part in page.locator(".word, .seen img, .sure").all():
            box = part.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        channels = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert (sum(map(int, channels[:3])) > 380) == (scheme == "light")
