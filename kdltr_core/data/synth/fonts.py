"""Which fonts words can be rendered with."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import ImageFont

# Their character tables claim ASCII, and what they draw is something else: mathematical signs, dingbats, bars, or
# (cmti10, in TeX's own encoding) a pound for the dollar.
_MISNAMED = re.compile(r"^cm(sy|ex|mi|ti)\d|lastresort|dingbat|webding|wingding|symbol|emoji|icon|barcode|math", re.I)
_ALNUM = string.ascii_letters + string.digits


def fonts() -> list[Path]:
    """Fonts that hold printable ASCII: those that come with matplotlib, then what the system has.

    A font that cannot be opened, lacks a character or draws different letters alike is left out; of several files with
    the same family and style the first counts. The order follows from the file names alone.
    """
    return list(_fonts())


@cache
def _fonts() -> tuple[Path, ...]:
    from matplotlib import font_manager, get_data_path  # here: it is slow to import, and only rendering needs it

    bundled = sorted(Path(get_data_path(), "fonts", "ttf").glob("*.ttf"))
    system = sorted(map(Path, font_manager.findSystemFonts()), key=lambda path: (path.name, str(path)))
    return tuple(usable([*bundled, *system]))


def usable(paths: Sequence[Path]) -> list[Path]:
    """Those of the fonts that can write every printable ASCII character, without doubles, in the order given."""
    found: dict[tuple[str | None, str | None], Path] = {}
    for path in paths:
        if not _MISNAMED.search(path.name) and _writes_ascii(path):
            found.setdefault(ImageFont.truetype(path, 24).getname(), path)
    return list(found.values())


def _writes_ascii(path: Path) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        held = FT2Font(str(path)).get_charmap()
        font = ImageFont.truetype(path, 24)
        drawn = {bytes(font.getmask(character)) for character in _ALNUM}
    except (OSError, RuntimeError, ValueError):  # not a font, a bitmap font, a damaged one
        return False
    # Small capitals may repeat the capitals; boxes for everything may not pass.
    return all(ord(c) in held for c in string.printable[:94]) and len(drawn) >= len(_ALNUM) - 26
