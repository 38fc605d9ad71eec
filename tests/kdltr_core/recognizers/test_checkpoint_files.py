"""Checkpoint files: every official and published form is read, nothing in them is executed."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kdltr_core.recognizers.checkpoint_files import read_state_dict
from tests.kdltr_core.recognizers.forms import FORMS, content_in


def small_state(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every kind of entry that a real file holds; keys that begin with ``model.`` are some of a language model's."""
    torch.manual_seed(0)
    return OrderedDict(
        {
            "model.layers.0.linear1.weight": torch.randn(3, 2).to(dtype),
            "pos_encoder.pe": torch.randn(4, 1, 2).to(dtype),
            "bn.running_var": torch.rand(2).to(dtype),
            "bn.num_batches_tracked": torch.tensor(40_000),
        }
    )


def assert_read_back(path: Path, state: dict[str, Tensor]) -> None:
    read = read_state_dict(path)
    assert list(read) == list(state)
    for key, value in state.items():
        expected = value.float() if value.is_floating_point() else value
        assert read[key].dtype == expected.dtype
        assert torch.equal(read[key], expected), key


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_form_of_file_gives_the_same_weights(form: str, zipped: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    state = small_state(dtype)
    torch.save(content_in(form, state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_read_back(tmp_path / "w.pth", state)


@pytest.mark.parametrize("before", ["", "module."])
def test_safetensors_give_the_same_weights(before: str, tmp_path: Path) -> None:
    state = dict(sorted(small_state().items()))
    save_file({before + key: value for key, value in state.items()}, tmp_path / "w.safetensors")
    assert_read_back(tmp_path / "w.safetensors", state)


def saved(content: object, zipped: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("numpy_name", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy_may_lie_beside_the_weights(numpy_name: bytes, tmp_path: Path) -> None:
    """NumPy 1 and 2 write the same scalar under different names."""
    content, replaced = re.subn(
        rb"cnumpy\._?core\.multiarray\n", b"c" + numpy_name + b"\n", saved(content_in("published", small_state()))
    )
    assert replaced > 0
    (tmp_path / "w.pth").write_bytes(content)
    assert_read_back(tmp_path / "w.pth", small_state())


class _Bomb:
    """Makes a folder when unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
@pytest.mark.parametrize("place", ["model", "opt", "info", "state_dict_G"])
def test_a_file_with_pickled_objects_is_refused_by_name_and_not_run(
    place: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher.pt").write_bytes(saved({"model": small_state(), place: _Bomb()}, zipped))
    with pytest.raises(ValueError, match=r"teacher\.pt holds pickled objects besides weights, \w+\.mkdir for one"):
        read_state_dict("teacher.pt")
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(_Bomb()))
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("beside", [np.zeros(3), np.array(["x"], dtype=object), Path("x"), torch.nn.Linear(1, 1)])
def test_of_numpy_only_scalars_are_let_in_and_no_object_is(beside: object, tmp_path: Path) -> None:
    torch.save({"model": small_state(), "beside": beside}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth holds pickled objects besides weights"):
        read_state_dict(tmp_path / "w.pth")


def test_what_is_let_in_is_so_for_this_reading_only(tmp_path: Path) -> None:
    torch.save(content_in("published", small_state()), tmp_path / "w.pth")
    read_state_dict(tmp_path / "w.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.pth", weights_only=True)


@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
@pytest.mark.parametrize("form", ["fastai", "published"])
def test_a_truncated_file_is_refused_wherever_it_ends(form: str, zipped: bool, tmp_path: Path) -> None:
    content = saved(content_in(form, small_state()), zipped)
    for length in range(0, len(content), len(content) // 60):
        (tmp_path / "w.pth").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"w\.pth (is not a whole checkpoint file|holds pickled objects)") as error:
            read_state_dict(tmp_path / "w.pth")
        assert "weights_only" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pt", None, "there is no checkpoint file"),
        ("page.pth", b"<!DOCTYPE html><html><title>Sign in", "it begins with b'<!DOCTYPE html><'"),
        ("empty.pth", b"", "not a whole checkpoint file"),
        ("empty.safetensors", b"", "not a whole safetensors file"),
        ("cut.safetensors", b"\xff\x00\x00\x00\x00\x00\x00\x00{", "not a whole safetensors file"),
        ("newer.pth", pickle.dumps({"a": 1}, protocol=4), "not a whole checkpoint file"),
        ("list.pt", pickle.dumps([1, 2]), "not a whole checkpoint file"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_a_sentence(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"epoch": 3, "step": 9}, "found the keys epoch, step;"),
        ({}, "found an empty dict;"),
        ([1, 2], "found a list;"),
        (torch.zeros(3), "found a Tensor;"),
        ({"model": {}, "opt": {}}, "found the keys model, opt;"),
        ({"weight": torch.zeros(1), "mean": np.float64(0)}, "found the keys weight, mean;"),
    ],
)
def test_a_file_without_a_state_dict_is_refused_with_what_it_holds(content: object, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=rf"odd\.pt holds no state dict: {found} expected"):
        read_state_dict(tmp_path / "odd.pt")
