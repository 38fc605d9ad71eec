"""Texts on coloured grounds, as an LMDB of single images or of pairs."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from multiprocessing import get_context, parent_process
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image, ImageFont

from kdltr_core.charset import CHARACTERS_94
from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, TEXT_SHARES, TextKind
from kdltr_core.data.degrade import degrade
from kdltr_core.data.lmdb_store import Kind, write_lmdb
from kdltr_core.data.synth import fonts as font_files
from kdltr_core.data.synth.fonts import fonts, written_with
from kdltr_core.data.synth.texts import draw_text
from kdltr_core.data.synth.word_image import FONT_SIZE, Pixels, draw_picture
from kdltr_core.files import Progress, whole_folder

__all__ = ["RenderedPair", "fonts", "render_pair", "render_pairs"]

_PAIRS_A_JOB = 64
_PAIRS_A_PROCESS = 256  # fewer are drawn here sooner than another process has started
_MOST_PROCESSES = 32  # of about 80 MB each
_BYTES_A_PAIR = 128 * 1024  # more than it takes in whole LMDB pages; the file is as large as what is in it
_SPECIAL_FACE_SHARE = 0.3

_Sample = tuple[tuple[bytes, ...], str]
_Draw = Callable[[range], list[_Sample]]


@dataclass(frozen=True)
class RenderedPair:
    """One text, drawn twice.

    Attributes:
        label: printable ASCII without spaces.
        picture: (H, W, 3) uint8, H from 32 to 64.
        seed: of the degradation of low_res.
        high_res: (32, 128, 3) uint8, of that picture.
        low_res: (16, 64, 3) uint8, of that picture, as an interlaced camera sees it.
    """

    label: str
    picture: Pixels
    seed: int

    @property
    def high_res(self) -> Pixels:
        return _resized(self.picture, HIGH_RES_SIZE)

    @property
    def low_res(self) -> Pixels:
        return degrade(_resized(self.picture, LOW_RES_SIZE), self.seed, "interlaced")


def render_pairs(
    root: Path,
    num_pairs: int,
    seed: int,
    *,
    layout: Kind = "paired",
    shares: Mapping[TextKind, float] = TEXT_SHARES,
    progress: Progress | None = None,
    fonts: Sequence[Path] | None = None,
) -> None:
    """Write an LMDB of rendered texts, whole or not at all.

    Pair ``i`` is a pure function of (seed, i, shares, fonts): a large set is drawn by other processes, as many as there
    are cores, and written by this one, with the same bytes whatever their number. Two sets drawn with different seeds
    share words of the list, as any two sets of street signs do, but no picture: render train and benchmark with
    different seeds.

    Args:
        root: the LMDB's folder; it must not exist yet, or be empty.
        num_pairs: how many.
        seed: not negative.
        layout: "paired", TextZoom's, with a low_res as an interlaced camera sees it; "single", the pictures as drawn.
        shares: how much there is of each kind of text, as parts of their sum.
        progress: called with (done, total) now and then, and at the end.
        fonts: font files; by default what ``fonts()`` finds.

    Raises:
        ValueError: root is taken, num_pairs, seed or shares is out of range, or no font is usable.
        OSError: root cannot be written; nothing is left behind.
    """
    if num_pairs < 1:
        raise ValueError(f"num_pairs is {num_pairs}, expected at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    if not sum(shares.values()) > 0:
        raise ValueError(f"text_shares is {dict(shares)}, expected a share above 0 of some kind of text")
    _refuse_taken(root)
    faces = font_files.fonts() if fonts is None else font_files.usable(fonts)
    # Looked up here, once: in every process that draws it would take milliseconds a font.
    written = {face: written_with(face) for face in faces}
    if not any(len(characters) == len(CHARACTERS_94) for characters in written.values()):
        raise ValueError("no font holds printable ASCII among those given; leave fonts out to use matplotlib's own")

    try:
        with whole_folder(root) as unfinished:
            with closing(_drawn(num_pairs, partial(_encoded, seed, written, shares, layout))) as drawn:
                map_size = num_pairs * _BYTES_A_PAIR + 2**24
                write_lmdb(unfinished, chain.from_iterable(drawn), num_pairs, map_size, progress)
            _refuse_taken(root)
    except lmdb.Error as error:
        raise OSError(f"{root} cannot be written: {error}") from error


def render_pair(
    seed: int, index: int, faces: Sequence[Path], shares: Mapping[TextKind, float] = TEXT_SHARES
) -> RenderedPair:
    """Pair ``index`` of the set that ``seed`` names, with one of the fonts that can write its text."""
    return _pair(seed, index, {face: written_with(face) for face in faces}, shares)


def _pair(
    seed: int, index: int, written: Mapping[Path, frozenset[str]], shares: Mapping[TextKind, float]
) -> RenderedPair:
    rng = np.random.default_rng((seed, index))
    label = draw_text(rng, shares)
    face = draw_face(label, written, rng)
    return RenderedPair(label, draw_picture(label, _font(face), rng), int(rng.integers(2**31)))


def draw_face(label: str, written: Mapping[Path, frozenset[str]], rng: np.random.Generator) -> Path:
    """One of the fonts that can write a label; displays and the like, which write few characters, more often.

    Args:
        written: the fonts, with the characters that each writes.
    """
    able = [face for face, characters in written.items() if characters.issuperset(label)]
    special = [face for face in able if len(written[face]) < len(CHARACTERS_94)]
    chosen = special if special and rng.random() < _SPECIAL_FACE_SHARE else able
    return chosen[int(rng.integers(len(chosen)))]


def _refuse_taken(root: Path) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root} is there already and is not overwritten; name another folder or remove it first")


def _encoded(
    seed: int,
    written: Mapping[Path, frozenset[str]],
    shares: Mapping[TextKind, float],
    layout: Kind,
    indices: range,
) -> list[_Sample]:
    """The images, (high_res, low_res) where they are paired, and the label of each."""
    pairs = [_pair(seed, index, written, shares) for index in indices]
    if layout == "single":
        return [((_png(pair.picture),), pair.label) for pair in pairs]
    return [((_png(pair.high_res), _png(pair.low_res)), pair.label) for pair in pairs]


def _drawn(num_pairs: int, draw: _Draw) -> Generator[list[_Sample]]:
    """In order; closing it ends the processes, and what one that was killed did not draw is drawn here."""
    jobs = [range(start, min(start + _PAIRS_A_JOB, num_pairs)) for start in range(0, num_pairs, _PAIRS_A_JOB)]
    num_processes = min(len(os.sched_getaffinity(0)), num_pairs // _PAIRS_A_PROCESS, _MOST_PROCESSES)
    done = 0
    if num_processes > 1:
        # Not forked: the caller may have threads, of Ray for instance, whose locks a child would inherit.
        processes = ProcessPoolExecutor(num_processes, get_context("spawn"), initializer=_end_with_the_parent)
        with processes, suppress(BrokenProcessPool):
            for pairs in processes.map(draw, jobs):
                done += 1
                yield pairs
    yield from map(draw, jobs[done:])


def _end_with_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends this process
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@lru_cache(maxsize=512)
def _font(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


def _resized(picture: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = size
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _png(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
