"""Students of pictures without labels: the teacher's readings are labels like any others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.recognizers.decoding import Prediction
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.build import load_teacher
from kdltr_core.train.checkpoint import read_checkpoint
from kdltr_core.train.teacher_readings import teacher_reader
from tests.kdltr_core.data.sets import single_records, write_records
from tests.kdltr_core.small import TEACHERS, build_small, read_words
from tests.kdltr_core.train.runs import Interrupted, assert_same, config_of, run, write_words

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_words(tmp_path_factory.mktemp("words"), *TEACHERS)
    write_records(folder / "heap", single_records(["?"] * 24, first_seed=900))
    return folder


def unlabelled(roots: Path, **values: object) -> RunConfig:
    given = {"data__unlabelled_roots": (str(roots / "heap"),), "data__unlabelled_min_confidence": 0.0}
    return config_of(roots, **given | values)


def small(roots: Path, family: str = "parseq_tiny") -> dict[str, object]:
    return {"recognizer__name": family, "recognizer__teacher_weights": str(roots / f"{family}-0.pt")}


@pytest.fixture
def fluent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small teachers, whose random weights would read nothing."""
    build_small(monkeypatch)

    def read(module: object, pairs: Sequence[str], *_: object, **__: object) -> list[Prediction]:
        return [Prediction(f"{chr(97 + row)}{row}", 0.9, ()) for row in range(len(pairs))]

    monkeypatch.setattr("kdltr_core.train.teacher_readings.read_with_recognizer", read)


def test_the_readings_are_the_bundled_teachers_of_high_res(roots: Path) -> None:
    config = unlabelled(roots, data__train_roots=(), data__validation_fraction=0.4)
    words = load_datasets(config.data, charset_of(config), reader=teacher_reader(config))
    for side in (words.train, words.validation):
        assert side.labels == read_words(load_teacher(config, CPU), side, "high_res", batch_size=8, precision="float32")


@pytest.mark.parametrize("family", TEACHERS)
def test_every_family_learns_from_them_alone(family: str, roots: Path, tmp_path: Path, fluent: None) -> None:
    result, records = run(unlabelled(roots, **small(roots, family), num_steps=2, data__train_roots=()), tmp_path)
    assert result.step == 2
    assert records.values[2]["train/loss"] > 0


def test_an_interrupted_run_beside_labels_with_kept_teacher_outputs_ends_bit_for_bit_the_same(
    roots: Path, tmp_path: Path, fluent: None
) -> None:
    config = unlabelled(roots, **small(roots), data__unlabelled_weight=0.5, data__teacher_cache="on")
    run(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", cut_at=3)
    run(config, tmp_path / "cut")
    whole, cut = (read_checkpoint(tmp_path / name / "checkpoints/step-00000005") for name in ("whole", "cut"))
    assert_same(cut["distiller"], whole["distiller"])


def test_a_weight_of_zero_leaves_what_the_teacher_shows(roots: Path, tmp_path: Path, fluent: None) -> None:
    """Of a run without any label: its cross entropy is scaled, and the other terms are not."""
    first: list[dict[str, float]] = []
    for weight in (1.0, 0.5, 0.0):
        config = unlabelled(roots, data__train_roots=(), data__unlabelled_weight=weight, **small(roots), num_steps=1)
        first.append(run(config, tmp_path / str(weight))[1].values[1])
    one, half, none = (values["train/cross_entropy"] for values in first)
    assert (half, none) == (pytest.approx(0.5 * one, rel=1e-5), 0)
    for term in ("visual_focus", "semantic_contrast", "soft_logits"):
        assert first[0][f"train/{term}"] == pytest.approx(first[2][f"train/{term}"], rel=1e-6)
