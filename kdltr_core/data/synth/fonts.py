"""Which fonts words can be rendered with."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageFont

from kdltr_core.charset import CHARACTERS_94

# Their character tables claim ASCII, and what they draw is something else: mathematical signs, dingbats, bars, or
# (cmti10, in TeX's own encoding) a pound for the dollar.
_MISNAMED = re.compile(r"^cm(sy|ex|mi|ti)\d|lastresort|dingbat|webding|wingding|symbol|emoji|icon|barcode|math", re.I)


@cache
def fonts() -> dict[Path, frozenset[str]]:
    """Fonts to write with, and the characters that each writes: those that come with matplotlib, then the system's.

    A font that cannot be opened or lacks a digit is left out, one that lacks other characters writes only texts
    without them (see ``written_with``); of several files with the same family and style the first counts. The order
    follows from the file names alone.
    """
    from matplotlib import font_manager, get_data_path  # here: it is slow to import, and only rendering needs it

    bundled = sorted(Path(get_data_path(), "fonts", "ttf").glob("*.ttf"))
    system = sorted(map(Path, font_manager.findSystemFonts()), key=lambda path: (path.name, str(path)))
    return usable([*bundled, *system])


def usable(paths: Iterable[Path]) -> dict[Path, frozenset[str]]:
    """Those of the fonts that can write the digits at least, without doubles, in the order given."""
    found: dict[tuple[str | None, str | None], Path] = {}
    for path in paths:
        if not _MISNAMED.search(path.name) and written_with(path):
            found.setdefault(ImageFont.truetype(path, 24).getname(), path)
    return {path: written_with(path) for path in found.values()}


@cache
def written_with(path: Path) -> frozenset[str]:
    """The printable ASCII characters that a font writes, each in a way of its own.

    Of two that look the same, as O and 0 of a seven-segment display, the first in the order of digits, lower case and
    upper case counts; small capitals may repeat the capitals where all else is there. Empty: not a font, or one
    without all digits.
    """
    from matplotlib.ft2font import FT2Font

    try:
        charmap = FT2Font(str(path)).get_charmap()
        held = [character for character in CHARACTERS_94 if ord(character) in charmap]
        font = ImageFont.truetype(path, 24)
        drawn: dict[bytes, str] = {}
        for character in held:
            drawn.setdefault(bytes(font.getmask(character)), character)
    except (OSError, RuntimeError, ValueError):  # not a font, a bitmap font, a damaged one
        return frozenset()
    if len(held) == len(CHARACTERS_94) and len(drawn) >= len(CHARACTERS_94) - 26:
        return frozenset(CHARACTERS_94)
    return frozenset(drawn.values()) if set(string.digits) <= set(drawn.values()) else frozenset()
