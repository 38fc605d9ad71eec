"""What texts are made of: the word list, the patterns and the syllables that come with the package."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources


@cache
def words() -> tuple[str, ...]:
    """The word list, lower-case, sorted."""
    return tuple(_asset("words.txt").split())


@cache
def patterns(section: str) -> tuple[str, ...]:
    """What stands under ``[section]`` of texts.txt, whose first lines say how a pattern is read."""
    sections = re.split(r"^\[(\w+)\]\n", _asset("texts.txt"), flags=re.M)[1:]
    return tuple(dict(zip(sections[::2], sections[1::2], strict=True))[section].split())


def _asset(name: str) -> str:
    return resources.files("kdltr_core.assets").joinpath(name).read_text(encoding="ascii")
