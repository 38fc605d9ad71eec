"""Texts on coloured grounds, as an LMDB of single images."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from functools import lru_cache, partial
from itertools import chain
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from kdltr_core.charset import CHARACTERS_94
from kdltr_core.config import TEXT_SHARES, TextKind
from kdltr_core.data.lmdb_store import write_lmdb
from kdltr_core.data.synth.fonts import fonts
from kdltr_core.data.synth.texts import draw_text
from kdltr_core.data.synth.word_image import FONT_SIZE, Pixels, draw_picture
from kdltr_core.files import Progress

_WORDS_A_JOB = 64
_WORDS_A_PROCESS = 256  # fewer are drawn here sooner than another process has started
_MOST_PROCESSES = 32  # of about 80 MB each
_SPECIAL_FACE_SHARE = 0.3

_Sample = tuple[tuple[bytes, ...], str]
_Draw = Callable[[range], list[_Sample]]


def render_words(
    root: Path,
    num_words: int,
    seed: int,
    *,
    shares: Mapping[TextKind, float] = TEXT_SHARES,
    progress: Progress | None = None,
) -> None:
    """Write an LMDB of rendered texts, whole or not at all.

    Word ``i`` is a pure function of (seed, i, shares, fonts): a large set is drawn by other processes, as many as there
    are cores, and written by this one, with the same bytes whatever their number. Two sets drawn with different seeds
    share words of the list, as any two sets of street signs do, but no picture: render train and benchmark with
    different seeds.

    Args:
        root: the LMDB's folder.
        num_words: how many.
        seed: not negative.
        shares: how much there is of each kind of text, as parts of their sum.
        progress: called with (done, total) now and then, and at the end.

    Raises:
        ValueError: root is there already, or num_words, seed or shares is out of range.
        OSError: root cannot be written; nothing is left behind.
    """
    if num_words < 1 or seed < 0:
        raise ValueError(f"num_words is {num_words} and seed {seed}, expected at least 1 and 0")
    if not sum(shares.values()) > 0:
        raise ValueError(f"text_shares is {dict(shares)}, expected a share above 0 of some kind of text")
    # The fonts are looked up here, once: in every process that draws it would take milliseconds each.
    with closing(_drawn(num_words, partial(_encoded, seed, fonts(), shares))) as drawn:
        write_lmdb(root, chain.from_iterable(drawn), num_words, progress)


def render_word(
    seed: int, index: int, faces: Mapping[Path, frozenset[str]], shares: Mapping[TextKind, float] = TEXT_SHARES
) -> tuple[str, Pixels]:
    """Word ``index`` of the set that ``seed`` names.

    Args:
        faces: fonts, with the characters that each writes.

    Returns: printable ASCII without spaces, and its picture (H, W, 3) uint8, H from 32 to 64.
    """
    rng = np.random.default_rng((seed, index))
    label = draw_text(rng, shares)
    return label, draw_picture(label, _font(draw_face(label, faces, rng)), rng)


def draw_face(label: str, faces: Mapping[Path, frozenset[str]], rng: np.random.Generator) -> Path:
    """One of the fonts that can write a label; displays and the like, which write few characters, more often."""
    able = [face for face, characters in faces.items() if characters.issuperset(label)]
    special = [face for face in able if len(faces[face]) < len(CHARACTERS_94)]
    chosen = special if special and rng.random() < _SPECIAL_FACE_SHARE else able
    return chosen[int(rng.integers(len(chosen)))]


def _encoded(
    seed: int, faces: Mapping[Path, frozenset[str]], shares: Mapping[TextKind, float], indices: range
) -> list[_Sample]:
    words = (render_word(seed, index, faces, shares) for index in indices)
    return [((_png(picture),), label) for label, picture in words]


def _drawn(num_words: int, draw: _Draw) -> Generator[list[_Sample]]:
    """In order; closing it ends the processes, and what one that was killed did not draw is drawn here."""
    jobs = [range(start, min(start + _WORDS_A_JOB, num_words)) for start in range(0, num_words, _WORDS_A_JOB)]
    num_processes = min(len(os.sched_getaffinity(0)), num_words // _WORDS_A_PROCESS, _MOST_PROCESSES)
    done = 0
    if num_processes > 1:
        # Not forked: the caller may have threads, of Ray for instance, whose locks a child would inherit.
        processes = ProcessPoolExecutor(num_processes, get_context("spawn"), initializer=_end_with_the_parent)
        with processes, suppress(BrokenProcessPool):
            for words in processes.map(draw, jobs):
                done += 1
                yield words
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


def _png(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
