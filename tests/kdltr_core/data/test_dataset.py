from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kdltr_core.charset import Charset36, Charset94
from kdltr_core.config import DataConfig
from kdltr_core.data.dataset import TrainingPairs, held_out_rows, load_datasets
from kdltr_core.data.degrade import degrade
from tests.kdltr_core.data.sets import paired_records, single_records, write_records


def words_of(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """train/{pairs, photos}, benchmark/{pairs, photos}: 40, 60, 5 and 6 samples."""
    write_records(tmp_path / "train" / "pairs", paired_records(words_of("pair", 40)))
    write_records(tmp_path / "train" / "photos", single_records(words_of("photo", 60), first_seed=1000))
    write_records(tmp_path / "benchmark" / "pairs", paired_records(words_of("b", 5), first_seed=2000))
    write_records(tmp_path / "benchmark" / "photos", single_records(words_of("c", 6), first_seed=3000))
    return tmp_path


def config_of(sets: Path, **values: object) -> DataConfig:
    given = {
        "train_roots": (str(sets / "train"),),
        "benchmark_roots": (str(sets / "benchmark" / "pairs"), str(sets / "benchmark" / "photos")),
        "cache_folder": str(sets / "cache"),
        "validation_fraction": 0.2,
    }
    return DataConfig.model_validate(given | values)


def test_folders_of_lmdbs_are_joined_and_split_without_loss(sets: Path) -> None:
    words = load_datasets(config_of(sets), Charset94)
    assert sorted(words.train.labels + words.validation.labels) == sorted(words_of("pair", 40) + words_of("photo", 60))
    assert {name: pack.labels for name, pack in words.benchmarks.items()} == {
        "pairs": words_of("b", 5),
        "photos": words_of("c", 6),
    }
    assert len(words.rejected) == 4
    assert 5 <= len(words.validation) <= 40


def test_the_split_does_not_depend_on_order_or_company_of_the_sets(sets: Path) -> None:
    pairs, photos = str(sets / "train" / "pairs"), str(sets / "train" / "photos")
    one = set(load_datasets(config_of(sets, train_roots=(pairs, photos)), Charset94).validation.labels)
    other = set(load_datasets(config_of(sets, train_roots=(photos, pairs)), Charset94).validation.labels)
    alone = set(load_datasets(config_of(sets, train_roots=(photos,)), Charset94).validation.labels)
    assert one == other
    assert alone == {label for label in one if label.startswith("photo")}


def test_copies_of_an_image_stay_on_one_side(tmp_path: Path) -> None:
    """Forty images, each three times in one set and once in another."""
    labels = words_of("w", 40)
    thrice = single_records(labels * 3)
    for number in range(41, 121):
        thrice[f"image-{number:09d}"] = thrice[f"image-{(number - 1) % 40 + 1:09d}"]
    write_records(tmp_path / "train" / "thrice", thrice)
    write_records(tmp_path / "train" / "again", single_records(labels))
    write_records(tmp_path / "benchmark" / "b", single_records(["a"], 500))
    words = load_datasets(config_of(tmp_path, benchmark_roots=(str(tmp_path / "benchmark"),)), Charset94)
    assert len(words.train) + len(words.validation) == 160
    assert not set(words.train.image_hashes.tolist()) & set(words.validation.image_hashes.tolist())
    for side in (words.train, words.validation):
        assert all(side.labels.count(label) == 4 for label in set(side.labels))


def test_the_held_out_fraction_is_met_and_grows_without_exchange() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    small, large = held_out_rows(hashes, 0.05), held_out_rows(hashes, 0.1)
    assert small.mean() == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 20_000))
    assert not (small & ~large).any()


def test_at_least_one_image_is_held_out_and_one_trained_on() -> None:
    hashes = np.array([2**63, 2**63 + 5, 2**64 - 1], np.uint64)
    assert held_out_rows(hashes, 0.01).tolist() == [True, False, False]


def test_a_set_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_records(tmp_path / "train" / "t", single_records(["a"]))
    write_records(tmp_path / "benchmark" / "b", single_records(["a"], 500))
    with pytest.raises(ValueError, match=r"too few images to hold some out.*data\.train_roots"):
        load_datasets(config_of(tmp_path, benchmark_roots=(str(tmp_path / "benchmark"),)), Charset94)


def row_of(pairs: TrainingPairs, prefix: str) -> int:
    return next(i for i, label in enumerate(pairs.labels) if label.startswith(prefix))


def test_only_single_sets_are_degraded_at_gather_and_by_the_given_seeds(sets: Path) -> None:
    train = load_datasets(config_of(sets), Charset94).train
    clean = load_datasets(config_of(sets, train_degradation="none"), Charset94).train
    assert train.labels == clean.labels
    rows = np.arange(len(train))
    for seeds in (rows + 7, rows + 1000):
        high_res, low_res = train.gather(rows, seeds)
        clean_high_res, clean_low_res = clean.gather(rows, seeds)
        assert (high_res == clean_high_res).all()
        for row, label in enumerate(train.labels):
            pixels = clean_low_res[row].numpy().transpose(1, 2, 0)
            expected = degrade(pixels, int(seeds[row])) if label.startswith("photo") else pixels
            np.testing.assert_array_equal(low_res[row].numpy().transpose(1, 2, 0), expected)


def test_rows_of_several_packs_come_in_the_order_asked(sets: Path) -> None:
    clean = load_datasets(config_of(sets, train_degradation="none"), Charset94).train
    rows = np.array([row_of(clean, "photo"), row_of(clean, "pair"), row_of(clean, "photo") + 1])
    high_res, low_res = clean.gather(rows)
    for place, row in enumerate(rows):
        alone_high_res, alone_low_res = clean.gather(rows[place : place + 1])
        assert (high_res[place] == alone_high_res[0]).all()
        assert (low_res[place] == alone_low_res[0]).all()
        pack = clean.packs[0 if clean.labels[row].startswith("pair") else 1]
        source, _ = pack.gather(np.array([pack.labels.index(clean.labels[row])]))
        assert (high_res[place] == source[0]).all()


def test_low_res_of_the_validation_split_is_fixed(sets: Path) -> None:
    """The same pixels whenever and in whatever company an image is read."""
    rows = np.arange(5)
    first = load_datasets(config_of(sets), Charset94).validation
    again = load_datasets(config_of(sets), Charset94).validation
    together = first.gather(rows)[1]
    for row in rows:
        assert (again.gather(np.array([row]))[1][0] == together[row]).all()


def test_labels_without_an_encodable_character_are_left_out_of_training_and_reported(tmp_path: Path) -> None:
    labels = [*words_of("w", 30), "?!", "йй", "don't"]
    root = write_records(tmp_path / "train" / "t", single_records(labels))
    write_records(tmp_path / "benchmark" / "b", single_records(["a", "?!"], 500))
    config = config_of(tmp_path, benchmark_roots=(str(tmp_path / "benchmark"),), max_rejected_fraction=0.1)

    words = load_datasets(config, Charset36)
    assert {"?!", "йй"}.isdisjoint(words.train.labels + words.validation.labels)
    assert "don't" in words.train.labels + words.validation.labels
    assert words.rejected[str(root)].keys == {"no encodable character": ["image-000000031", "image-000000032"]}
    assert words.benchmarks["b"].labels == ["a", "?!"]  # a benchmark's words are all counted

    assert load_datasets(config, Charset94).rejected[str(root)].keys == {"no encodable character": ["image-000000032"]}
    with pytest.raises(ValueError, match=r"2 no encodable character.*max_rejected_fraction"):
        load_datasets(config.model_copy(update={"max_rejected_fraction": 0.02}), Charset36)


def test_a_benchmark_of_which_too_much_is_rejected_is_refused_with_reasons_and_field(sets: Path) -> None:
    write_records(sets / "benchmark" / "poor", single_records(["a", ""], 500))
    with pytest.raises(ValueError, match=r"1 of 2 rejected: 1 empty label \(.*data.max_rejected_fraction = 0.02"):
        load_datasets(config_of(sets, benchmark_roots=(str(sets / "benchmark"),)), Charset36)


def test_characters_outside_the_alphabet_are_counted_and_words_that_lose_too_many_are_left_out(tmp_path: Path) -> None:
    labels = [*words_of("w", 30), "CAFÉ", "Москва1", "naïve", "Ωmega", "ß" * 13, "5€"]
    root = write_records(tmp_path / "train" / "t", single_records(labels))
    config = config_of(tmp_path, benchmark_roots=(), num_rendered_benchmark=16, max_rejected_fraction=0.1)
    words = load_datasets(config, Charset36)
    assert {"CAFÉ", "naïve", "Ωmega", "5€"} < set(words.train.labels + words.validation.labels)
    report = words.rejected[str(root)]
    assert report.keys == {
        "label mostly outside the alphabet": ["image-000000032"],
        "over-long label": ["image-000000035"],
    }
    assert report.lost == {"ω": (1, "Ωmega"), "€": (1, "5€")}
    assert "left out of labels, being outside the alphabet: 'ω' 1 times, as in 'Ωmega'" in report.describe()


def test_another_process_opens_the_packs_without_the_roots(sets: Path, tmp_path: Path) -> None:
    config = config_of(sets, num_rendered_beside_roots=64)
    first = load_datasets(config, Charset94)
    for place in ("train", "benchmark"):
        (sets / place).rename(sets / f"{place}-away")
    again = load_datasets(config, Charset94, description=pickle.loads(pickle.dumps(first.description)))
    assert again.train.labels == first.train.labels
    assert again.validation.labels == first.validation.labels
    assert {name: pack.labels for name, pack in again.benchmarks.items()} == {
        "pairs": words_of("b", 5),
        "photos": words_of("c", 6),
    }
    assert again.rejected.keys() == first.rejected.keys()
    assert again.description == first.description


def _gone(cache: Path) -> None:
    for pack in cache.glob("photos-*.pack"):
        shutil.rmtree(pack)


def _exchanged(cache: Path) -> None:
    one, other = list(cache.glob("photos-*.pack"))
    shutil.copytree(one, other, dirs_exist_ok=True)


def _cut(cache: Path) -> None:
    for pixels in cache.glob("photos-*.pack/low_res"):
        os.truncate(pixels, 1000)


@pytest.mark.filterwarnings("ignore:.*is not a whole pack")
@pytest.mark.parametrize("damage", [_gone, _exchanged, _cut])
def test_where_a_pack_is_not_there_or_not_what_it_was_the_roots_are_packed(
    sets: Path, damage: Callable[[Path], None]
) -> None:
    first = load_datasets(config_of(sets), Charset94)
    damage(sets / "cache")
    again = load_datasets(config_of(sets), Charset94, description=first.description)
    assert again.train.labels == first.train.labels
    assert again.benchmarks["photos"].labels == words_of("c", 6)


def test_a_set_that_was_replaced_while_its_pack_is_gone_is_refused(sets: Path) -> None:
    """As when a worker group is built anew on another machine, and the LMDB is not what it was."""
    first = load_datasets(config_of(sets), Charset94)
    _gone(sets / "cache")
    shutil.rmtree(sets / "train" / "photos")
    write_records(sets / "train" / "photos", single_records([*words_of("photo", 59), "other"], first_seed=1000))
    with pytest.raises(ValueError, match=r"photos holds other words than when this run opened it; put the first ones"):
        load_datasets(config_of(sets), Charset94, description=first.description)


def test_another_config_makes_its_own_packs(sets: Path) -> None:
    first = load_datasets(config_of(sets), Charset94)
    other = load_datasets(config_of(sets, benchmark_degradation="none"), Charset94, description=first.description)
    assert first.benchmarks["photos"].fingerprint != other.benchmarks["photos"].fingerprint


def test_sets_are_known_by_their_content_and_not_by_their_folder(sets: Path, tmp_path: Path) -> None:
    first = load_datasets(config_of(sets), Charset94).fingerprints
    assert list(first) == ["train/pairs", "train/photos", "benchmark/pairs", "benchmark/photos"]
    shutil.copytree(sets / "train", sets / "moved")
    assert load_datasets(config_of(sets, train_roots=(str(sets / "moved"),)), Charset94).fingerprints == first
    shutil.rmtree(sets / "train" / "photos")
    write_records(sets / "train" / "photos", single_records([*words_of("photo", 59), "other"], first_seed=1000))
    changed = load_datasets(config_of(sets), Charset94).fingerprints
    assert {name for name in first if changed[name] != first[name]} == {"train/photos"}


def test_benchmarks_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    write_records(tmp_path / "train" / "t", single_records(words_of("w", 30)))
    write_records(tmp_path / "x" / "easy", single_records(["a"], 500))
    write_records(tmp_path / "y" / "easy", single_records(["b"], 600))
    config = config_of(tmp_path, benchmark_roots=(str(tmp_path / "x"), str(tmp_path / "y")))
    assert list(load_datasets(config, Charset94).benchmarks) == ["easy", "y-easy"]


@pytest.mark.parametrize(
    ("roots", "sentence"),
    [
        (("train", "train/pairs"), "given twice in data.train_roots"),
        (("nowhere",), "there is no folder .*nowhere"),
        (("empty",), "is not an LMDB: there is no data.mdb"),
    ],
)
def test_roots_that_cannot_be_used_are_refused(sets: Path, roots: tuple[str, ...], sentence: str) -> None:
    (sets / "empty").mkdir()
    with pytest.raises(ValueError, match=sentence):
        load_datasets(config_of(sets, train_roots=tuple(str(sets / root) for root in roots)), Charset94)


def _labels_of_rendered(cache: Path) -> tuple[list[str], list[str], int]:
    config = DataConfig(cache_folder=str(cache), num_rendered_train=64, num_rendered_benchmark=16)
    calls: list[int] = []
    words = load_datasets(config, Charset94, progress=lambda done, total: calls.append(done))
    return words.train.labels, words.benchmarks["rendered_benchmark"].labels, len(calls)


def test_without_roots_words_are_rendered_once_for_all_processes(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        answers = [processes.submit(_labels_of_rendered, tmp_path / "cache") for _ in range(2)]
        (train, benchmark, _), (other_train, other_benchmark, _) = [answer.result() for answer in answers]
    assert (train, benchmark) == (other_train, other_benchmark)
    assert len(benchmark) == 16
    assert _labels_of_rendered(tmp_path / "cache")[2] == 0


def test_words_rendered_beside_the_roots_are_trained_on_and_never_held_out(sets: Path) -> None:
    alone = load_datasets(config_of(sets), Charset94)
    joined = load_datasets(config_of(sets, num_rendered_beside_roots=64), Charset94)
    assert joined.validation.labels == alone.validation.labels
    assert joined.train.labels[: len(alone.train)] == alone.train.labels
    rendered = load_datasets(config_of(sets, train_roots=(), num_rendered_train=64), Charset94)
    beside = joined.train.labels[len(alone.train) :]
    assert sorted(beside) == sorted(rendered.train.labels + rendered.validation.labels)
    assert len(beside) == 64
