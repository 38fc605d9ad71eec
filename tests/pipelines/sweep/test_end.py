"""What is left of a sweep: a page, pictures, and a config that train.py takes as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.significance import Gain, SignificanceTest
from pipelines.run.command_line import parse_run
from pipelines.run.folder import RunFolder
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.end import choose, summary_metrics, write_report
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.study import plain
from tune_spaces.space import load_space

PICTURES = {"history.png", "parallel_coordinates.png", "slices.png", "importances.png"}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(name="sweep", recipe="parseq_tiny_ltr", output_folder=str(tmp_path), num_steps=300)


def sweep(config: RunConfig, **options: object) -> SweepFolder:
    return SweepFolder(config, SweepOptions.model_validate(options), load_space("loss_weights"))


def try_points(folder: SweepFolder, *accuracies: float) -> None:
    """The published point, and others that weigh soft_logits more and more."""
    for place, accuracy in enumerate(accuracies):
        soft = folder.trials.published["objective.soft_logits"] + 10 * place
        entry = folder.trials.begin({**folder.trials.published, "objective.soft_logits": soft})
        MetricsLog(entry.folder / "metrics.jsonl").record(0, {"validation/word_accuracy": accuracy})
        folder.trials.end(entry.number, "FINISHED")


def verdict(*gains: Gain, is_better: bool | None = False) -> SignificanceTest:
    return SignificanceTest("the published point", {"the published point": (70.0, 71.0)}, gains, 500, 0.95, is_better)


def test_the_best_point_is_a_config_that_train_takes_as_it_is(config: RunConfig) -> None:
    folder = sweep(config, trial_steps=50)
    with folder.claim():
        try_points(folder, 70.0, 72.0, 71.0)
        write_report(folder, config, 400, None)
    best = parse_run([str(folder.best)], "train.py", "")
    changed = {name for name, value in config.flatten().items() if best.flatten()[name] != value}
    assert changed <= {"name", "objective.soft_logits", "data.cache_folder", "tracking_uri"}  # two are made absolute
    assert (best.objective.soft_logits, best.num_steps) == (30.0, 300)
    assert not RunFolder(best).has_begun
    said = "The point in best.yaml is that of trial 1, 72.00 % of the validation words, not confirmed"
    assert said in folder.best.read_text().splitlines()[0]
    assert said in folder.table.read_text()
    assert {path.name for path in folder.report.iterdir()} == PICTURES | {"sweep.md"}
    assert "72.00" in folder.table.read_text()


@pytest.mark.parametrize(
    ("is_better", "soft_logits", "why"),
    [
        (True, 30.0, "that of trial 1, which was confirmed."),
        (False, 20.0, "the published one: trial 1 was not shown to be better."),
        (None, 20.0, "the published one: trial 1 was not shown to be better."),  # one seed leaves it open
    ],
)
def test_after_a_confirmation_another_point_is_used_only_if_it_is_better_than_chance(
    config: RunConfig, is_better: bool | None, soft_logits: float, why: str
) -> None:
    """Whatever the validation split said: trial 2 was the best on it."""
    folder = sweep(config)
    try_points(folder, 70.0, 71.0, 72.0)
    found = verdict(Gain("trial 1", 2.1, 0.4, 3.2), Gain("trial 2", 0.4, -0.7, 1.5), is_better=is_better)
    choice = choose([entry.to_trial() for entry in folder.trials.ended], folder.trials.published, found)
    assert choice is not None
    assert choice.point["objective.soft_logits"] == soft_logits
    assert choice.sentence == f"The point in best.yaml is {why}"


def test_page_and_best_point_have_the_verdict_and_what_follows_from_it(config: RunConfig) -> None:
    folder = sweep(config)
    found = verdict(Gain("trial 1", 0.4, -0.7, 1.5))
    with folder.claim():
        try_points(folder, 70.0, 72.0)
        write_report(folder, config, 400, found)
    assert RunConfig.from_yaml(folder.best).objective.soft_logits == 20.0
    assert found.sentence in folder.table.read_text().splitlines()[2]
    for file in (folder.best, folder.table):
        assert found.sentence in file.read_text()
        assert "The point in best.yaml is the published one" in file.read_text()


def test_a_published_point_that_was_not_tried_to_its_end_is_kept_all_the_same(config: RunConfig) -> None:
    """A sweep may stop it early, and the confirmation trains it anew."""
    folder = sweep(config)
    entry = folder.trials.begin({**folder.trials.published, "objective.soft_logits": 50.0})
    MetricsLog(entry.folder / "metrics.jsonl").record(0, {"validation/word_accuracy": 70.0})
    trials = [folder.trials.end(entry.number, "FINISHED").to_trial()]
    choice = choose(trials, folder.trials.published, verdict(Gain("trial 0", 0.1, -1, 1)))
    assert choice is not None
    assert choice.point == folder.trials.published


def test_a_sweep_without_a_trial_has_a_page_all_the_same(config: RunConfig) -> None:
    folder = sweep(config)
    with folder.claim():
        write_report(folder, config, 400, None)
    assert "No trial ran to its end" in folder.table.read_text()
    assert not folder.best.exists()


def test_the_sweep_s_own_figures(config: RunConfig) -> None:
    folder = sweep(config)
    with folder.claim():
        try_points(folder, 70.0, 72.0)
    figures = summary_metrics([entry.to_trial() for entry in folder.trials.ended], verdict(Gain("trial 1", 0.1, -1, 1)))
    assert figures == {
        "sweep/num_finished": 2,
        "sweep/num_pruned": 0,
        "sweep/num_failed": 0,
        "sweep/best_word_accuracy": 72.0,
        "sweep/published_word_accuracy": 70.0,
        "confirmation/gain": 0.1,
        "confirmation/low": -1,
        "confirmation/high": 1,
    }


def test_a_folder_is_of_one_sweep(config: RunConfig, tmp_path: Path) -> None:
    """More trials, a confirmation or other machines go on with it; another space, search or length is another sweep."""
    folder = sweep(config)
    with folder.claim():
        try_points(folder, 70.0)
    for options in ({"num_trials": 99}, {"confirm": 3}, {"gpus_per_trial": 0.5}, {"cpus_per_trial": 2}):
        assert len(sweep(config, **options).trials.ended) == 1
    for options in ({"search": "random"}, {"scheduler": "none"}, {"trial_steps": 10}):
        with pytest.raises(ValueError, match=f"was begun with {next(iter(options))} "):
            sweep(config, **options)
    with pytest.raises(ValueError, match="was begun with num_steps 300, now 400"):
        sweep(config.override({"num_steps": 400}))
    with pytest.raises(ValueError, match=r"was begun with optim.batch_size 64, now 32"):
        sweep(config.override({"optim.batch_size": 32}))
    with pytest.raises(ValueError, match="was begun with space"):
        SweepFolder(config, SweepOptions(), load_space("temperatures"))
    (tmp_path / "a run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds a training run; give the sweep another --name"):
        sweep(config.override({"name": "a run"}))


def test_a_run_does_not_begin_in_the_folder_of_a_sweep(config: RunConfig) -> None:
    with sweep(config).claim(), pytest.raises(ValueError, match="holds a sweep; give the training run another --name"):
        RunFolder(config)


def test_a_sweep_in_an_object_store_is_refused_with_the_way_out(config: RunConfig) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/runs is an object store; give --output-folder as a path"):
        sweep(config.override({"output_folder": "s3://bucket/runs"}))


def test_a_sweep_is_finished_until_more_is_asked_of_it(config: RunConfig) -> None:
    folder = sweep(config, num_trials=2)
    with folder.claim():
        try_points(folder, 70.0, 71.0)
        write_report(folder, config, 400, None)
        assert not folder.is_finished
        folder.mark_finished()
    assert sweep(config, num_trials=2).is_finished
    assert not sweep(config, num_trials=3).is_finished
    assert not sweep(config, num_trials=2, confirm=1).is_finished


def test_points_are_compared_as_json_has_them() -> None:
    assert plain({"a": (1, 2.0), "b": 0.1 + 0.2}) == {"a": [1, 2.0], "b": 0.30000000000000004}
