"""The curves of a metrics log: which are drawn, and from what."""

import json

import pytest
from PIL import Image

from kdltr_core.config import ObjectiveConfig
from kdltr_core.losses.objective import term_weights
from pipelines.report import plots
from pipelines.report.plots import draw_curves


@pytest.fixture
def legends(monkeypatch):
    """The names of the lines of each of the two axes, as they are drawn."""
    drawn = []
    monkeypatch.setattr(plots, "style_axes", lambda axes: drawn.append(axes.get_legend_handles_labels()[1]))
    return drawn


def _line(step, **metrics):
    metrics = {name.replace("__", "/"): value for name, value in metrics.items()}
    return json.dumps({"step": step, "time": 0, "metrics": metrics}) + "\n"


@pytest.mark.parametrize("objective", ["distillation", "supervised", "dfd", "a_skd", "unified", "dld"])
def test_every_objective_shows_its_own_terms(objective, legends, tmp_path):
    terms = list(term_weights(ObjectiveConfig(name=objective), heads=("vision", "language", "fused")))
    others = {"train__gradient_norm": 1.0, "train__learning_rate": 0.1, "train__images_per_second": 9.0}
    losses = {f"train__{name}": 1.0 for name in ["loss", *terms]}
    (tmp_path / "metrics.jsonl").write_text(_line(10, **losses, **others) + _line(20, **losses, **others))
    draw_curves(tmp_path / "curves.png", tmp_path / "metrics.jsonl")
    assert legends[0] == ["loss", *(name.replace("_", " ") for name in terms)]


def test_curves_are_drawn_even_where_a_loss_was_not_finite(legends, tmp_path):
    lines = [
        _line(s, train__loss=5 / s, train__cross_entropy=float("nan") if s == 30 else 1.0) for s in range(10, 60, 10)
    ]
    accuracies = _line(50, validation__word_accuracy=61.0, benchmark__SVT__student_low_res=50.0)
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + accuracies + '{"step": 6')
    draw_curves(tmp_path / "curves.png", tmp_path / "metrics.jsonl")
    assert Image.open(tmp_path / "curves.png").size == (1430, 546)
    assert legends == [["loss", "cross entropy"], ["validation", "SVT"]]


def test_a_log_without_losses_and_accuracies_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(_line(1, train__learning_rate=1.0))
    for name in ("metrics.jsonl", "missing.jsonl"):
        with pytest.raises(ValueError, match="no loss and no accuracy"):
            draw_curves(tmp_path / "curves.png", tmp_path / name)
