"""Files of every family and role, as officially published, against the recognizers that they are of.

They are made here from the official key lists, with what real ones carry beside the weights.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kdltr_core.recognizers import Recognizer, build_student, build_teacher
from kdltr_core.recognizers.weights import load_part, load_weights
from tests.golden_weights import GOLDEN, golden_tensor

SHAPES = {
    name: {k: tuple(v) for k, v in keys.items()}
    for name, keys in json.loads((GOLDEN / "state_dict_shapes.json").read_text()).items()
}
OURS = {"basevision": "abinet_vision", "abinet": "abinet", "matrn": "matrn", "parseq": "parseq"}


def recognizer(family: str, role: str) -> Recognizer:
    return build_teacher(OURS[family]) if role == "teacher" else build_student(OURS[family], "published")


def shape_only(family: str, role: str) -> Recognizer:
    """For files that do not fit: nothing is ever loaded into it."""
    with torch.device("meta"):
        return recognizer(family, role)


def golden(family: str, role: str) -> dict[str, Tensor]:
    """Golden weights; counts and positions such as no module has before it is loaded."""
    state = {}
    for key, shape in SHAPES[f"{family}_{role}"].items():
        state[key] = torch.tensor(1234) if key.endswith("num_batches_tracked") else golden_tensor(key, shape)
    return state


def numbered(keys: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The first key holds ones, the second twos, and so on. A single number is stored for each."""
    return {
        key: torch.tensor(number) if key.endswith("num_batches_tracked") else torch.tensor(float(number)).expand(shape)
        for number, (key, shape) in enumerate(keys.items(), 1)
    }


def part(keys: Mapping[str, tuple[int, ...]], name: str) -> dict[str, tuple[int, ...]]:
    return {key.removeprefix(f"{name}."): shape for key, shape in keys.items() if key.startswith(f"{name}.")}


def save_fastai(state: Mapping[str, Tensor], path: Path) -> Path:
    """As fastai's learner saves: weights, and the state of Adam beside them. Its torch wrote the old format."""
    moments = {
        number: {
            "step": 100,
            "exp_avg": torch.zeros(()).expand(value.shape),
            "exp_avg_sq": torch.zeros(()).expand(value.shape),
        }
        for number, value in enumerate(state.values())
    }
    groups = [
        {"params": list(moments), "lr": np.float64(1e-5), "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    ]
    content = {"model": dict(state), "opt": {"state": moments, "param_groups": groups}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def save_published(state: Mapping[str, Tensor], path: Path) -> Path:
    """As KD-LTR saves its student, with all that its ancestors carried too."""
    best = {"easy": np.float64(0.8691), "medium": 0.7236, "hard": np.float32(0.551), "epoch": 61}
    content = {
        "state_dict_G": dict(state),
        "info": {"arch": "student", "iters": 400, "epochs": 61, "batch_size": 64, "voc_type": "all"},
        "best_history_res": best,
        "best_model_info": {"accuracy": best},
        "param_num": sum(value.numel() for value in state.values()),
        "converge": [{"iterator": 400, "acc": np.float64(0.71)}],
    }
    torch.save(content, path)
    return path


def save_plain(state: Mapping[str, Tensor], path: Path) -> Path:
    torch.save(dict(state), path)
    return path


SAVED_BY = {"teacher": save_fastai, "student": save_published}


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("family", OURS)
def test_the_file_of_every_family_and_role_loads_whole_and_as_it_is(family: str, role: str, tmp_path: Path) -> None:
    state = golden(family, role)
    save = save_plain if (family, role) == ("parseq", "teacher") else SAVED_BY[role]
    path = save(state, tmp_path / "official.pth")
    module = recognizer(family, role)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = load_weights(module, path)
    path.unlink()
    assert report.is_complete
    assert not report.left_out
    assert sorted(report.matched) == sorted(state)
    loaded = module.state_dict()
    for key, value in state.items():
        assert torch.equal(loaded[key], value), key


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("family", ["abinet", "matrn"])
def test_the_vision_part_is_taken_from_a_whole_and_what_is_left_out_is_named(
    family: str, role: str, tmp_path: Path
) -> None:
    whole = numbered(SHAPES[f"{family}_{role}"])
    path = SAVED_BY[role](whole, tmp_path / "whole.pth")
    module = recognizer("basevision", role)
    counts = Counter(key.split(".")[0] for key in whole if not key.startswith("vision."))
    words = "left out: " + ", ".join(f"{name} ({count} keys)" for name, count in counts.items())
    with pytest.warns(
        UserWarning, match=r"whole\.pth holds more than AbinetVision for \(\d+, \d+\) images; left out"
    ) as told:
        report = load_weights(module, path)
    assert report.left_out == counts
    assert words in str(report)
    assert words in str(told[0].message)
    for key, value in module.state_dict().items():
        assert torch.equal(value, whole[f"vision.{key}"]), key


@pytest.mark.parametrize("family", ["abinet", "matrn"])
def test_a_language_model_is_loaded_into_the_language_part_and_nowhere_else(family: str, tmp_path: Path) -> None:
    state = numbered(part(SHAPES["abinet_teacher"], "language"))
    assert "proj.weight" in state
    path = save_fastai(state, tmp_path / "pretrain-language-model.pth")
    module = recognizer(family, "student")
    before = {key: value.clone() for key, value in module.state_dict().items()}
    report = load_part(module, "language", path)
    assert sorted(report.matched) == sorted(state)
    for key, value in module.state_dict().items():
        expected = state[key.removeprefix("language.")] if key.startswith("language.") else before[key]
        assert torch.equal(value, expected), key


def test_a_part_is_taken_from_a_whole_of_another_family(tmp_path: Path) -> None:
    whole = numbered(SHAPES["matrn_teacher"])
    module = recognizer("abinet", "student")
    with pytest.warns(UserWarning, match=r"holds more than the language part of Abinet; left out: vision \(398 keys\)"):
        report = load_part(module, "language", save_fastai(whole, tmp_path / "matrn.pth"))
    assert report.left_out == Counter(key.split(".")[0] for key in whole if not key.startswith("language."))
    for key, value in module.language.state_dict().items():
        assert torch.equal(value, whole[f"language.{key}"]), key


@pytest.mark.parametrize(
    ("file", "module", "hint"),
    [
        (
            ("abinet", "teacher"),
            ("matrn", "teacher"),
            "it is the teacher of abinet; choose abinet_ltr as recipe, or give another file",
        ),
        (("matrn", "student"), ("abinet", "student"), "it is the student of matrn; choose that, or give another file"),
        (
            ("basevision", "teacher"),
            ("matrn", "teacher"),
            "it is the teacher of abinet_vision; choose abinet_vision_ltr as recipe",
        ),
        (
            ("parseq", "student"),
            ("parseq", "teacher"),
            "it is the student of parseq; choose that, or give another file",
        ),
    ],
)
def test_a_file_of_another_recognizer_is_refused_with_what_it_is_then_ten_keys(
    file: tuple[str, str], module: tuple[str, str], hint: str, tmp_path: Path
) -> None:
    there, here = SHAPES["_".join(file)], SHAPES["_".join(module)]
    path = SAVED_BY[file[1]](numbered(there), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth does not fit") as error:
        load_weights(shape_only(*module), path)
    first, counts, *keys, rest = str(error.value).splitlines()
    assert hint in first
    missing, unexpected = here.keys() - there.keys(), there.keys() - here.keys()
    others = {key for key in here.keys() & there.keys() if there[key] != here[key]}
    matched, unfit = len(here) - len(missing) - len(others), len(others)
    assert counts == (
        f"{matched} keys match, {len(missing)} are missing, {len(unexpected)} unexpected, {unfit} of another shape"
    )
    faults = {
        *(f"of another shape: {key} is {list(there[key])}, expected {list(here[key])}" for key in others),
        *(f"missing in the file: {key}" for key in missing),
        *(f"unexpected in the file: {key}" for key in unexpected),
    }
    if len(faults) > 10:
        assert rest.strip() == f"and {len(faults) - 10} more"
    else:
        keys.append(rest)
    assert len(keys) == min(len(faults), 10)
    assert {key.strip() for key in keys} <= faults


def test_a_file_that_fits_nothing_is_said_to_be_of_no_known_recognizer(tmp_path: Path) -> None:
    """A charset of 62 characters: all keys are there, the classifiers are of another shape."""
    shapes = {
        key: (63, *shape[1:]) if "cls" in key.split(".") else shape for key, shape in SHAPES["abinet_teacher"].items()
    }
    path = save_fastai(numbered(shapes), tmp_path / "charset62.pth")
    with pytest.raises(ValueError, match=r"vision\.cls\.bias is \[63\], expected \[37\]") as error:
        load_weights(shape_only("abinet", "teacher"), path)
    assert "it is the" not in str(error.value)
    assert "give the checkpoint of this recognizer and size" in str(error.value)
