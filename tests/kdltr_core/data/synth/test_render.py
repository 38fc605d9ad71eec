"""Rendered words: the same every time, as single images, whole or not at all."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest
from fontTools import subset as subsetting
from fontTools.ttLib import TTFont
from PIL import Image, ImageFont

from kdltr_core.charset import CHARACTERS_94, Charset36, fold
from kdltr_core.config import TEXT_SHARES, TextKind
from kdltr_core.data import lmdb_store
from kdltr_core.data.synth import render
from kdltr_core.data.synth.fonts import fonts, usable, written_with
from kdltr_core.data.synth.render import render_word, render_words
from kdltr_core.data.synth.texts import draw_text
from kdltr_core.data.synth.vocabulary import words


def records(root: Path) -> dict[bytes, bytes]:
    with (
        lmdb.open(str(root), readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        return dict(transaction.cursor())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered") / "set"
    render_words(root, 24, seed=5)
    return root


def test_a_set_holds_numbered_pictures_as_drawn_and_its_size(rendered: Path) -> None:
    held = records(rendered)
    expected = {f"{column}-{i:09d}" for i in range(1, 25) for column in ("image", "label")}
    assert {key.decode() for key in held} == expected | {"num-samples"}
    assert held[b"num-samples"] == b"24"
    for index in range(24):
        label, picture = render_word(5, index, fonts())
        image = Image.open(io.BytesIO(held[b"image-%09d" % (index + 1)]))
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(image), picture)
        assert held[b"label-%09d" % (index + 1)].decode() == label


@pytest.fixture
def three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_WORDS_A_PROCESS", 8)
    monkeypatch.setattr(render, "_WORDS_A_JOB", 5)
    monkeypatch.setattr(lmdb_store, "_SAMPLES_A_TRANSACTION", 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))


def children() -> list[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.usefixtures("three_processes")
def test_other_processes_draw_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    drawing: list[int] = []
    render_words(tmp_path / "shared", 24, seed=5, progress=lambda done, total: drawing.extend(children()))
    assert len(set(drawing)) == 3
    assert records(tmp_path / "shared") == records(rendered)
    assert not children()


@pytest.mark.usefixtures("three_processes")
def test_what_a_killed_process_leaves_is_drawn_here(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_all(done: int, total: int) -> None:
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(render, "_WORDS_A_JOB", 1)
    render_words(tmp_path / "killed", 24, seed=5, progress=kill_all)
    assert records(tmp_path / "killed") == records(rendered)


@pytest.mark.long
def test_a_script_without_a_guard_draws_its_words_and_ends(tmp_path: Path) -> None:
    """In spawned processes Python runs it again; there it may not wait for the words that its parent makes."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import os; from kdltr_core.charset import Charset36; from kdltr_core.config import DataConfig\n"
        "from kdltr_core.data.dataset import load_datasets; os.sched_getaffinity = lambda process: {0, 1}\n"
        "from kdltr_core.data.synth import render; render._WORDS_A_PROCESS = 32\n"
        f"config = DataConfig(cache_folder={str(tmp_path)!r}, num_rendered_train=64, num_rendered_benchmark=16)\n"
        "print(len(load_datasets(config, Charset36).benchmarks['rendered_benchmark']))\n"
    )
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=found, timeout=300)
    assert done.stdout == "16\n"
    assert "put what that script does under: if __name__" in done.stderr


def test_two_seeds_share_no_picture(rendered: Path, tmp_path: Path) -> None:
    render_words(tmp_path / "other", 24, seed=6)
    ours, theirs = records(rendered), records(tmp_path / "other")
    pictures = [{v for k, v in held.items() if k.startswith(b"image")} for held in (ours, theirs)]
    assert len(pictures[0]) == len(pictures[1]) == 24
    assert not pictures[0] & pictures[1]


def test_letters_stand_out_from_their_ground() -> None:
    """Blank pictures would teach nothing: brightness varies in every one."""
    for index in range(40):
        assert render_word(1, index, fonts())[1].mean(2).std() > 4


def test_an_interrupted_rendering_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_words(tmp_path / "set", 2, seed=0, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(lmdb, "open", full)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        render_words(tmp_path / "set", 2, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("num_words", "seed"), [(0, 0), (1, -1)])
def test_values_out_of_range_are_named(tmp_path: Path, num_words: int, seed: int) -> None:
    with pytest.raises(ValueError, match=f"num_words is {num_words} and seed {seed}"):
        render_words(tmp_path / "set", num_words, seed)


def test_what_is_no_font_is_skipped(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"not a font")
    good = next(iter(fonts()))
    assert list(usable([broken, tmp_path / "absent.ttf", good, good])) == [good]


def test_symbol_fonts_are_left_out_and_text_fonts_kept() -> None:
    """Of matplotlib's own: DejaVu, STIX General and upright Computer Modern write ASCII, the others draw signs."""
    names = {path.name for path in fonts()}
    assert {"DejaVuSans.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf", "cmr10.ttf", "cmtt10.ttf"} <= names
    assert not names & {"cmsy10.ttf", "cmex10.ttf", "cmmi10.ttf", "STIXNonUni.ttf", "STIXSizOneSymReg.ttf"}
    assert not any("LastResort" in name or "Display" in name for name in names)


def test_every_font_draws_letters_apart() -> None:
    for path in fonts():
        font = ImageFont.truetype(path, 32)
        assert len({bytes(font.getmask(c)) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"}) == 36, path


def test_the_word_list_is_sorted_lower_case_and_without_doubles() -> None:
    assert list(words()) == sorted(set(words()))
    assert all(word.isascii() and word.isalpha() and word.islower() and len(word) >= 2 for word in words())


@pytest.mark.parametrize("kind", [*TEXT_SHARES, None])
def test_every_text_can_be_encoded_and_fits_a_recognizer(kind: TextKind | None) -> None:
    rng = np.random.default_rng(0)
    shares = {kind: 1.0} if kind else TEXT_SHARES
    texts = [draw_text(rng, shares) for _ in range(3000)]
    assert all(set(text) <= set(CHARACTERS_94) and 1 <= len(text) <= 25 for text in texts)
    assert all(Charset36.normalise(text) for text in texts)
    assert kind or set("".join(map(fold, texts))) == set(Charset36.characters)


def test_shares_are_those_that_were_asked_for() -> None:
    """Words of the list alone; a third of plates beside two of random strings, told by the letters they may have."""
    rng = np.random.default_rng(1)
    assert all(
        draw_text(rng, {"words": 1}).strip('!,.:"()').removesuffix("'s").removesuffix("'S").lower() in words()
        for _ in range(300)
    )
    digits = [draw_text(rng, {"meters": 1, "names": 2})[-1] for _ in range(900)]
    names = sum(text.isalpha() for text in digits)
    assert 0.55 < names / 900 < 0.85


def test_a_display_writes_only_what_it_can_tell_apart(tmp_path: Path) -> None:
    """A font with the digits and A to F alone is never asked for another letter, and often for what it has."""
    whole = next(iter(fonts()))
    display = tmp_path / "display.ttf"
    subset = subsetting.Options(notdef_outline=True, name_IDs=["*"])
    font = TTFont(whole)
    for record in font["name"].names:
        record.string = "Display"
    subsetter = subsetting.Subsetter(subset)
    subsetter.populate(text="0123456789ABCDEF")
    subsetter.subset(font)
    font.save(display)
    assert written_with(display) == frozenset("0123456789ABCDEF")
    written = usable([display, whole])
    assert list(written) == [display, whole]
    rng = np.random.default_rng(0)
    chosen = {text: [render.draw_face(text, written, rng) for _ in range(50)] for text in ("10:30", "2041", "GB")}
    assert set(chosen["10:30"]) == set(chosen["GB"]) == {whole}
    assert set(chosen["2041"]) == {whole, display}
