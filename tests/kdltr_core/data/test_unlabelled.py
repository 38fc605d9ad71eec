"""Pictures without labels: an ordinary set whose labels are what a reader reads."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdltr_core.charset import Charset36, Charset94
from kdltr_core.config import DataConfig
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.data.pack import Pack
from kdltr_core.data.readings import WordReader
from tests.kdltr_core.data.sets import drawn, paired_records, png, single_records, write_records


class Reads:
    """Reads "r0", "r1", …, with the confidences that it is given, and counts how often it is asked."""

    def __init__(self, *confidences: float) -> None:
        self.confidences, self.num_asked = confidences, 0

    def __call__(self, pack: Pack) -> tuple[list[str], list[float]]:
        self.num_asked += 1
        wanted = [*self.confidences, *[0.9] * len(pack)][: len(pack)]
        return [f"r{row}" if sure else "" for row, sure in enumerate(wanted)], wanted


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """train, benchmark: 30 and 4 labelled words; pictures: a plain folder of 12, two of them deeper."""
    write_records(tmp_path / "train", single_records([f"w{i}" for i in range(30)]))
    write_records(tmp_path / "benchmark", single_records(list("abcd"), first_seed=500))
    for number in range(12):
        path = tmp_path / "pictures" / ("deeper" if number > 9 else "") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(drawn(800 + number)))
    return tmp_path


def load(roots: Path, reads: Reads | None = None, **values: object) -> Datasets:
    given = {
        "train_roots": (str(roots / "train"),),
        "benchmark_roots": (str(roots / "benchmark"),),
        "unlabelled_roots": (str(roots / "pictures"),),
        "cache_folder": str(roots / "cache"),
        "validation_fraction": 0.3,
    }
    config = DataConfig.model_validate(given | values)
    return load_datasets(config, Charset94, reader=WordReader("f" * 32, reads or Reads()))


def test_they_are_trained_on_beside_labelled_words_which_alone_are_held_out(roots: Path) -> None:
    with_labels, words = load(roots, unlabelled_roots=()), load(roots, unlabelled_weight=0.25)
    assert words.train.labels == [*with_labels.train.labels, *(f"r{i}" for i in range(12))]
    assert words.validation.labels == with_labels.validation.labels
    assert words.train.weights is not None
    assert words.train.weights.tolist() == [1] * len(with_labels.train) + [0.25] * 12
    assert load(roots).train.weights is None  # as cheap as labels where the weight is theirs
    high_res, _ = words.train.gather(np.array([len(with_labels.train) + 11]))
    with Image.open(roots / "pictures" / "deeper" / "11.png") as image:
        expected = np.asarray(image.convert("RGB").resize((128, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(high_res[0].numpy().transpose(1, 2, 0), expected)


def test_they_are_read_once_whatever_the_floor_and_again_by_another_reader(roots: Path) -> None:
    reads = Reads(0.2, 0.6)
    counts = [len(load(roots, reads, unlabelled_min_confidence=floor).train) for floor in (0.1, 0.5, 0.7)]
    assert reads.num_asked == 1
    assert [counts[0] - count for count in counts] == [0, 1, 2]
    other = Reads()
    config = DataConfig(unlabelled_roots=(str(roots / "pictures"),), cache_folder=str(roots / "cache"))
    load_datasets(
        config.model_copy(update={"num_rendered_benchmark": 16}), Charset36, reader=WordReader("e" * 32, other)
    )
    assert other.num_asked == 1


@pytest.mark.parametrize("layout", ["single", "paired"])
def test_without_any_label_some_of_the_readings_are_held_out(layout: str, roots: Path) -> None:
    """From an LMDB, whose own labels, wrong or not to be written, are not looked at."""
    records = single_records if layout == "single" else paired_records
    write_records(roots / "heap", records(["", "日本", *["wrong" * 9] * 18], first_seed=900))
    words = load(roots, train_roots=(), unlabelled_roots=(str(roots / "heap"),))
    assert sorted(words.train.labels + words.validation.labels) == sorted(f"r{i}" for i in range(20))
    assert words.validates_on_readings
    assert not load(roots).validates_on_readings
    assert not set(words.train.image_hashes) & set(words.validation.image_hashes)


def test_what_is_not_used_is_counted_by_reason(roots: Path) -> None:
    folder = roots / "pictures"
    (folder / "20.png").write_bytes(b"no picture")
    (folder / "21.png").write_bytes((folder / "05.png").read_bytes()[:200])
    Image.new("L", (1200, 900)).save(folder / "22.png")
    (folder / "notes.txt").write_text("not called like a picture")
    (folder / "23.png").write_bytes(png(drawn(501)))
    (folder / "24.png").write_bytes(png(drawn(3)))
    words = load(roots, Reads(0.4, 0.0), unlabelled_overlap="leave_out")
    report = words.rejected[str(folder)]
    assert report.keys == {
        "corrupt image": ["20.png", "21.png"],
        "far larger than a word": ["22.png"],
        "picture of a benchmark": ["23.png"],
        "has a label": ["24.png"],
        "nothing read": ["01.png"],
        "low confidence": ["00.png"],
    }
    assert words.num_read == {str(folder): 10}
    assert "--detect" in report.describe()


def test_a_picture_of_a_benchmark_is_refused_with_the_count_and_the_way_out(roots: Path) -> None:
    for number in (2, 4):
        (roots / "pictures" / f"b{number}.png").write_bytes(png(drawn(500 + number)))
    with pytest.raises(ValueError, match=r"2 of the 14 pictures .* benchmark too, such as b2.png.*leave_out"):
        load(roots)


@pytest.mark.parametrize(("root", "message"), [
    ("nothing", "holds no picture"), ("large", r"1 far larger than a word.*--detect"), ("missing", "no folder"),
    ("train", "in data.train_roots and in data.unlabelled_roots"),
])  # fmt: skip
def test_a_root_without_a_usable_picture_is_refused(root: str, message: str, roots: Path) -> None:
    (roots / "nothing" / "deeper").mkdir(parents=True)
    (roots / "large").mkdir()
    Image.new("RGB", (2000, 1500)).save(roots / "large" / "page.jpg")
    with pytest.raises(ValueError, match=message):
        load(roots, unlabelled_roots=(str(roots / root),))


def test_a_worker_opens_what_the_driver_read_and_another_machine_says_what_it_lacks(roots: Path) -> None:
    first = load(roots, Reads(0.2), unlabelled_weight=0.5)
    description = pickle.loads(pickle.dumps(first.description))
    given = {"train_roots": (str(roots / "train"),), "benchmark_roots": (str(roots / "benchmark"),)}
    given |= {"unlabelled_roots": (str(roots / "pictures"),), "validation_fraction": 0.3, "unlabelled_weight": 0.5}
    config = DataConfig.model_validate(given | {"cache_folder": str(roots / "cache")})
    again = load_datasets(config, Charset94, description=description)
    assert (again.train.labels, again.fingerprints) == (first.train.labels, first.fingerprints)
    elsewhere = config.model_copy(update={"cache_folder": str(roots / "empty")})
    with pytest.raises(ValueError, match=r"data\.cache_folder on a mount that they share"):
        load_datasets(elsewhere, Charset94, description=description)


def test_other_readings_are_other_words_and_the_last_digits_of_a_confidence_are_not(roots: Path) -> None:
    prints = []
    for reads in (Reads(0.8), Reads(0.80001), Reads(0.2)):
        for file in (roots / "cache").glob("*.parquet"):
            file.unlink()
        prints.append(load(roots, reads).fingerprints["the teacher's readings"])
    assert prints[0] == prints[1] != prints[2]
