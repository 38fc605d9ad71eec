"""What a step takes with the teacher's outputs kept, and without: measured with the engine that trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.recognizers import build_student
from kdltr_core.recognizers.parseq import Parseq
from kdltr_core.train.engine import fit
from pipelines.sweep.step_times import NUM_RUNS, NUM_STEPS, measure_step_times, tell_step_times
from tests.kdltr_core.data.sets import single_records, write_records
from tests.kdltr_core.small import build_small, save_teacher


def test_the_teacher_is_asked_in_the_runs_without_kept_outputs_and_in_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_small(monkeypatch)
    write_records(tmp_path / "train", single_records(["left", "right", "on", "off", "shut", "open"] * 4))
    config = RunConfig().override(
        {
            "recognizer.name": "parseq_tiny",
            "recognizer.teacher_weights": save_teacher("parseq_tiny", tmp_path),
            "data.train_roots": (str(tmp_path / "train"),),
            "data.benchmark_roots": (str(tmp_path / "train"),),
            "data.cache_folder": str(tmp_path / "cache"),
            "optim.batch_size": 8,
            "optim.precision": "float32",
        }
    )
    words = load_datasets(config.data, build_student("parseq_tiny").charset)
    kept = config.override({"data.teacher_cache": "on", "num_steps": 0})
    fit(kept, words, run_folder=tmp_path / "makes the cache", record=lambda step, values: None)
    asked = 0
    original = Parseq.encode

    def counted(self: Parseq, images: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal asked
        asked += images.shape[-1] == 128
        return original(self, images)

    monkeypatch.setattr(Parseq, "encode", counted)
    times = measure_step_times(config, words, DistributedContext())
    assert asked == NUM_RUNS * (NUM_STEPS + 1)  # one pass before the first step finds idle weights
    assert set(times) == {"on", "off"}
    assert min(times.values()) > 0


def test_times_are_told_in_a_sentence() -> None:
    assert tell_step_times({"on": 0.4, "off": 0.6}).startswith(
        "A training step takes 0.4 s with the teacher's outputs kept and 0.6 s with the teacher asked anew, 1.50 times"
    )
