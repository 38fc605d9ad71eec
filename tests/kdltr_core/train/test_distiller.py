"""The trainable module: what it holds, and that a step never waits for the device."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeCopyMode, FakeTensorMode

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.batch import encode_targets
from kdltr_core.device import autocast
from kdltr_core.recognizers.parseq import Parseq, ParseqSize
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, needs_teacher, teach

SIZE = ParseqSize(dim=32, depth=1, encoder_heads=2, decoder_heads=4)


def test_the_whole_step_runs_where_no_value_is_known() -> None:
    """Forward of teacher and student, four terms, backward: with fake tensors, reading a value would raise."""
    targets, lengths = encode_targets(["Hello", "a", "kd-LTR7"], Parseq((16, 64), (2, 4), SIZE).charset)
    permutations = sample_permutations(targets.shape[1] - 2, 6, torch.Generator().manual_seed(0))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        distiller = copy.deepcopy(Distiller(Parseq((16, 64), (2, 4), SIZE), ObjectiveConfig()).train())
        teacher = copy.deepcopy(Parseq((32, 128), (4, 8), SIZE).eval())
    with mode:
        batch = [mode.from_tensor(t) for t in (targets, lengths, permutations)]
        taught = teach(teacher, torch.zeros(3, 3, 32, 128, dtype=torch.uint8), batch[0], batch[2])
        loss = distiller(torch.zeros(3, 3, 16, 64, dtype=torch.uint8), *batch, taught)
        loss.total.backward()
        assert all(p.grad is not None for p in distiller.parameters())
        with pytest.raises(DataDependentOutputException):
            loss.total.item()


def test_the_teacher_is_not_part_of_what_is_trained_or_saved() -> None:
    distiller = Distiller(Parseq((16, 64), (2, 4), SIZE), ObjectiveConfig())
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "projector"}


@pytest.mark.parametrize(
    ("fields", "has_projector", "has_teacher"),
    [
        ({}, True, True),
        ({"semantic_contrast": 0}, False, True),
        ({"name": "supervised"}, False, False),
        ({"visual_focus": 0, "semantic_contrast": 0, "soft_logits": 0}, False, False),
    ],
)
def test_a_term_without_weight_costs_nothing(fields: dict[str, object], has_projector: bool, has_teacher: bool) -> None:
    config = ObjectiveConfig.model_validate(fields)
    assert (Distiller(Parseq((16, 64), (2, 4), SIZE), config).projector is not None) == has_projector
    assert needs_teacher(config) == has_teacher


def test_float32_is_float32_whatever_the_machine() -> None:
    with autocast(torch.device("cpu"), "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "has_teacher"), [("dfd", True), ("a_skd", True), ("unified", True), ("dld", True), ("supervised", False)]
)
def test_a_baseline_needs_its_teacher_and_no_projector(name: str, has_teacher: bool) -> None:
    config = ObjectiveConfig.model_validate({"name": name})
    assert needs_teacher(config) == has_teacher
    assert Distiller(Parseq((16, 64), (2, 4), SIZE), config).projector is None
