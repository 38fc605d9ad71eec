"""The forms in which checkpoint files are found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

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
BEFORE_KEYS = {
    "plain": "",
    "parallel": "module.",
    "parallel lightning": "model.module.",
    "wrapped twice": "module.module.",
    "compiled": "_orig_mod.",
    "parallel, compiled": "module._orig_mod.",
    "compiled, parallel": "_orig_mod.module.",
    "lightning, compiled": "model._orig_mod.",
}
FORMS = ("fastai", "published", "lightning", "compiled part", *BEFORE_KEYS)


def content_in(form: str, state: Mapping[str, Tensor]) -> object:
    """What ``torch.save`` is given: weights, and what real files of this form carry beside them."""
    if form == "fastai":
        return {"model": dict(state), "opt": OPTIMISER}
    if form == "published":
        return {"state_dict_G": dict(state), **PUBLISHED}
    if form == "lightning":
        return {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3, "hyper_parameters": {"dim": 32}}
    if form == "compiled part":
        return {key.replace(".", "._orig_mod.", 1): value for key, value in state.items()}
    return {BEFORE_KEYS[form] + key: value for key, value in state.items()}


def save_as(form: str, state: Mapping[str, Tensor], path: Path) -> Path:
    """fastai's learner wrote with a torch of the old format."""
    torch.save(content_in(form, state), path, _use_new_zipfile_serialization=form != "fastai")
    return path
