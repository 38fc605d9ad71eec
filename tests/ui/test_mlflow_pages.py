"""MLflow's pages of a sweep: a person finds the accuracies on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api")

from tests.ui.mlflow_pages import is_shown, picture_sweep, sweep_runs
from tests.ui.small_sweep import ACCURACIES, record_sweep

pytestmark = pytest.mark.browser


def test_a_sweep_and_its_best_trials_side_by_side_show_their_accuracies(tmp_path: Path) -> None:
    """Five trials, one of them pruned; the figures of all are looked for on the pages themselves."""
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium")
    database = f"sqlite:///{tmp_path}/mlflow.db"
    record_sweep(tmp_path / "runs", database)
    picture_sweep(database, tmp_path / "pictures", "demo-sweep")
    for name in ("mlflow-sweep.png", "mlflow-compare.png"):
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert len(picture.convert("L").getcolors() or ()) > 50  # not an empty page


def test_the_runs_that_are_compared_are_the_best_first(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    database = f"sqlite:///{tmp_path}/mlflow.db"
    record_sweep(tmp_path / "runs", database)
    parent, trials = sweep_runs(MlflowClient(database))
    assert parent.info.run_name == "demo-sweep"
    assert [run.data.metrics["validation/word_accuracy"] for run in trials] == sorted(ACCURACIES, reverse=True)
    with pytest.raises(ValueError, match="no sweep 'another'"):
        sweep_runs(MlflowClient(database), "another")


@pytest.mark.parametrize(
    ("text", "values", "shown"),
    [
        ("accuracy\n73.75\nloss\n1", [73.75], True),
        ("accuracy\n73.7\nloss", [73.75], True),
        ("accuracy\n73.75\nloss", [71.25], False),
        ("accuracy\nnone\n73.75", [73.75], False),
        ("accuracy\n1\n2\naccuracy\t73.8\t70", [73.75, 70.0], True),
        ("loss\naccuracy\n1\n2\n73.75\n70\nend", [73.75, 70.0], True),
        ("loss\naccuracy\n1\n73.75\n2\n70\nend", [73.75, 70.0], False),
        ("accuracy\n73.75", [73.75, 70.0], False),
    ],
)
def test_a_figure_counts_only_behind_its_name(text: str, values: list[float], shown: bool) -> None:
    assert is_shown(text, "accuracy", values) is shown
