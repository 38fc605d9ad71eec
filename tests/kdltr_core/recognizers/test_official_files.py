"""Files of every family and role, as officially published, against the recognizers that they are of.

They are made here from the official key lists, with what real ones carry beside the weights.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdltr_core.recognizers import Recognizer, build_student, build_teacher
from kdltr_core.recognizers.weights import load_part, load_weights
from tests.golden_weights import GOLDEN
from tests.kdltr_core.recognizers.forms import save_as

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


def numbered(keys: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The first key holds ones, the second twos, and so on. A single number is stored for each."""
    return {
        key: torch.tensor(number) if key.endswith("num_batches_tracked") else torch.tensor(float(number)).expand(shape)
        for number, (key, shape) in enumerate(keys.items(), 1)
    }


FORM_OF = {"teacher": "fastai", "student": "published"}


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("family", OURS)
def test_the_file_of_every_family_and_role_loads_whole_and_as_it_is(family: str, role: str, tmp_path: Path) -> None:
    state = numbered(SHAPES[f"{family}_{role}"])
    form = "plain" if (family, role) == ("parseq", "teacher") else FORM_OF[role]
    path = save_as(form, state, tmp_path / "official.pth")
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
    path = save_as(FORM_OF[role], whole, tmp_path / "whole.pth")
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


@pytest.mark.parametrize(("family", "alone"), [("abinet", True), ("matrn", True), ("abinet", False)])
def test_a_language_model_by_itself_or_of_another_family_is_loaded_into_the_language_part_and_nowhere_else(
    family: str, alone: bool, tmp_path: Path
) -> None:
    whole = numbered(SHAPES["matrn_teacher"])
    language = {key: value for key, value in whole.items() if key.startswith("language.")}
    others = Counter() if alone else Counter(key.split(".")[0] for key in whole.keys() - language.keys())
    named = {key.removeprefix("language."): value for key, value in language.items()} if alone else whole
    path = save_as("fastai", named, tmp_path / "language-model.pth")
    module = recognizer(family, "student")
    expected = {key: value.clone() for key, value in module.state_dict().items()} | language
    with nullcontext() if alone else pytest.warns(UserWarning, match=r"holds more .*; left out: vision \(398 keys\)"):
        report = load_part(module, "language", path)
    assert report.left_out == others
    assert sorted(report.matched) == sorted(key.removeprefix("language.") for key in language)
    for key, value in module.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(
    ("file", "module", "hint"),
    [
        ("abinet_teacher", ("matrn", "teacher"), "it is the teacher of abinet; choose abinet_ltr as recipe, or give"),
        ("matrn_student", ("abinet", "student"), "it is the student of matrn; choose that, or give another file"),
        ("basevision_teacher", ("matrn", "teacher"), "is the teacher of abinet_vision; choose abinet_vision_ltr as"),
        ("parseq_student", ("parseq", "teacher"), "it is the student of parseq; choose that, or give another file"),
    ],
)
def test_a_file_of_another_recognizer_is_refused_with_what_it_is_then_ten_keys(
    file: str, module: tuple[str, str], hint: str, tmp_path: Path
) -> None:
    there, here = SHAPES[file], SHAPES["_".join(module)]
    path = save_as(FORM_OF[file.split("_")[1]], numbered(there), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth does not fit") as error:
        load_weights(shape_only(*module), path)
    first, counts, *keys = str(error.value).splitlines()
    assert hint in first
    missing, unexpected = here.keys() - there.keys(), there.keys() - here.keys()
    common = here.keys() & there.keys()
    unfit = sum(there[key] != here[key] for key in common)
    assert counts == (
        f"{len(common) - unfit} keys match, {len(missing)} are missing, {len(unexpected)} unexpected, "
        f"{unfit} of another shape"
    )
    if (num_faults := len(missing) + len(unexpected) + unfit) > 10:
        assert keys.pop().strip() == f"and {num_faults - 10} more"
    assert len(keys) == min(num_faults, 10)


def test_a_file_that_fits_nothing_is_said_to_be_of_no_known_recognizer(tmp_path: Path) -> None:
    """A charset of 62 characters: all keys are there, the classifiers are of another shape."""
    shapes = {
        key: (63, *shape[1:]) if "cls" in key.split(".") else shape for key, shape in SHAPES["abinet_teacher"].items()
    }
    path = save_as("fastai", numbered(shapes), tmp_path / "charset62.pth")
    with pytest.raises(ValueError, match=r"vision\.cls\.bias is \[63\], expected \[37\]") as error:
        load_weights(shape_only("abinet", "teacher"), path)
    assert "it is the" not in str(error.value)
    assert "give the checkpoint of this recognizer and size" in str(error.value)
