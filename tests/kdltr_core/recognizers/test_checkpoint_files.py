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

RESULTS = {"easy": np.float64(0.8691), "medium": np.float32(0.7), "epoch": np.int64(61), "best": np.bool_(True)}
PUBLISHED = {
    "info": {"arch": "abinet", "iters": 400, "batch_size": 64, "voc_type": "all", "up_scale_factor": 2},
    "best_history_res": RESULTS,
    "best_model_info": {"accuracy": RESULTS, "psnr": None},
    "param_num": 36_740_000,
    "converge": [{"iterator": 400, "acc": np.float64(0.71), "spread": (np.float16(0.5), np.uint8(3))}],
}
OPTIMISER = {
    "state": {140231: {"step": 9, "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2), "max": None}},
    "param_groups": [{"lr": np.float64(1e-5), "betas": (0.9, 0.999), "amsgrad": False, "params": [140231]}],
}


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


def content_in(form: str, state: dict[str, Tensor]) -> object:
    """What ``torch.save`` is given in each form."""
    if form == "fastai":
        return {"model": state, "opt": OPTIMISER}
    if form == "published":
        return {"state_dict_G": state, **PUBLISHED}
    if form == "lightning":
        return {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3, "hyper_parameters": {"dim": 32}}
    before = {
        "plain": "",
        "parallel": "module.",
        "parallel lightning": "model.module.",
        "wrapped twice": "module.module.",
        "compiled": "_orig_mod.",
        "parallel, compiled": "module._orig_mod.",
        "compiled, parallel": "_orig_mod.module.",
        "lightning, compiled": "model._orig_mod.",
    }
    return {before[form] + key: value for key, value in state.items()}


TORCH_FORMS = ["plain", "parallel", "parallel lightning", "wrapped twice", "lightning", "fastai", "published"]
TORCH_FORMS += ["compiled", "parallel, compiled", "compiled, parallel", "lightning, compiled"]


def assert_read_back(path: Path, state: dict[str, Tensor]) -> None:
    read = read_state_dict(path)
    assert list(read) == list(state)
    for key, value in state.items():
        expected = value.float() if value.is_floating_point() else value
        assert read[key].dtype == expected.dtype
        assert torch.equal(read[key], expected), key


@pytest.mark.parametrize("form", TORCH_FORMS)
@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_form_of_file_gives_the_same_weights(form: str, zipped: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    state = small_state(dtype)
    torch.save(content_in(form, state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_read_back(tmp_path / "w.pth", state)


def test_a_compiled_part_of_a_model_is_taken_like_the_others(tmp_path: Path) -> None:
    state = small_state()
    torch.save({key.replace(".", "._orig_mod.", 1): value for key, value in state.items()}, tmp_path / "w.pth")
    assert_read_back(tmp_path / "w.pth", state)


@pytest.mark.parametrize("before", ["", "module."])
def test_safetensors_give_the_same_weights(before: str, tmp_path: Path) -> None:
    state = dict(sorted(small_state().items()))
    save_file({before + key: value for key, value in state.items()}, tmp_path / "w.safetensors")
    read = read_state_dict(tmp_path / "w.safetensors")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], value) for key, value in state.items())


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
    """Calls a function when unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
@pytest.mark.parametrize("place", ["model", "opt", "info", "state_dict_G"])
@pytest.mark.parametrize(
    ("bomb", "culprit"),
    [(_Bomb(os.mkdir, "exploded"), r"\w+\.mkdir"), (_Bomb(exec, "open('exploded', 'w')"), "exec")],
    ids=["mkdir", "exec"],
)
def test_a_file_with_pickled_objects_is_refused_by_name_and_not_run(
    bomb: _Bomb, culprit: str, place: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"model": small_state(), place: bomb}
    (tmp_path / "teacher.pt").write_bytes(saved(content, zipped))
    with pytest.raises(ValueError, match=rf"teacher\.pt holds pickled objects besides weights, {culprit} for one"):
        read_state_dict("teacher.pt")
    assert not (tmp_path / "exploded").exists()
    with (tmp_path / "bomb.pkl").open("wb") as file:
        pickle.dump(bomb, file, protocol=2)
    pickle.loads((tmp_path / "bomb.pkl").read_bytes())
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
