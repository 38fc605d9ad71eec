"""The folders of sweeps and comparisons: whose they are, when they are finished, and what lies in them at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.config import RunConfig
from pipelines.run.command_line import parse_run
from pipelines.run.folder import RunFolder
from pipelines.sweep.comparison import CandidateRuns
from pipelines.sweep.folder import CompareFolder, SweepFolder
from pipelines.sweep.options import CompareOptions, SweepOptions
from pipelines.sweep.report import write_sweep_report
from tests.pipelines.sweep.trials import train_candidate, try_point
from tune_spaces.space import load_space

SOFT = "objective.soft_logits"


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(name="sweep", recipe="parseq_tiny_ltr", output_folder=str(tmp_path), num_steps=300)


def sweep(config: RunConfig, **options: object) -> SweepFolder:
    return SweepFolder(config, SweepOptions.model_validate(options), load_space("loss_weights"))


def try_points(folder: SweepFolder, *accuracies: float) -> None:
    """The baseline, and others that weigh soft_logits more and more."""
    own = folder.points[0]
    for place, accuracy in enumerate(accuracies):
        try_point(folder.trials, {**own, SOFT: own[SOFT] + 10 * place}, accuracy)


def test_the_best_point_is_a_config_that_train_takes_as_it_is(config: RunConfig) -> None:
    folder = sweep(config, trial_steps=50)
    with folder.claim():
        try_points(folder, 70.0, 72.0, 71.0)
        write_sweep_report(folder, 400)
    best = parse_run([str(folder.best)], "train.py", "")
    changed = {name for name, value in config.flatten().items() if best.flatten()[name] != value}
    assert changed <= {"name", SOFT, "data.cache_folder", "tracking_uri"}  # two are made absolute
    assert (best.objective.soft_logits, best.num_steps) == (30.0, 300)
    assert not RunFolder(best).has_begun
    said = "The point in best.yaml is that of trial 1, 72.00 % of the validation words, not confirmed"
    assert said in folder.best.read_text()
    assert said in folder.table.read_text()
    names = {"sweep.html", "history.png", "parallel_coordinates.png", "slices.png"}
    assert {path.name for path in folder.report.iterdir()} == names


def test_page_and_best_point_have_the_answer_and_what_follows_from_it(config: RunConfig) -> None:
    folder = sweep(config, confirm=1, confirm_seeds=2)
    with folder.claim():
        try_points(folder, 70.0, 72.0)
        for place in range(4):  # both points with both seeds read alike
            finish(folder.confirmation, place, "1100")
        page = write_sweep_report(folder, 400)
    test = folder.confirmation.compare().significance
    assert test is not None
    assert page.sentences[0] == test.sentence
    assert RunConfig.from_yaml(folder.best).objective.soft_logits == 20.0
    for file in (folder.best, folder.table):
        assert test.sentence in file.read_text()
        assert "The point in best.yaml is the baseline" in file.read_text()


def test_a_folder_is_of_one_sweep(config: RunConfig, tmp_path: Path) -> None:
    """More trials, a confirmation or other machines resume it; another space, search or length is another sweep."""
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
    with pytest.raises(ValueError, match="holds a sweep; give the training run another --name"):
        RunFolder(config)
    (tmp_path / "a run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds a training run; give the sweep another --name"):
        sweep(config.override({"name": "a run"}))


def test_what_no_sweep_can_be_is_refused_with_the_way_out(config: RunConfig) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/runs is an object store; give --output-folder as a path"):
        sweep(config.override({"output_folder": "s3://bucket/runs"}))


def test_a_sweep_is_finished_until_more_is_asked_of_it(config: RunConfig) -> None:
    folder = sweep(config, num_trials=2)
    assert not folder.has_begun
    with folder.claim():
        write_sweep_report(folder, 400)
        assert "No trial ran to its end" in folder.table.read_text()
        assert not folder.best.exists()
        try_points(folder, 70.0, 71.0)
        write_sweep_report(folder, 400)
        assert not folder.is_finished
        folder.mark_finished()
    assert folder.has_begun
    assert sweep(config, num_trials=2).is_finished
    assert not sweep(config, num_trials=3).is_finished
    assert not sweep(config, num_trials=2, confirm=1).is_finished


def comparison(config: RunConfig, *objectives: str) -> CompareFolder:
    return CompareFolder(config, CompareOptions.model_validate({"objectives": objectives, "seeds": (0, 1)}))


def finish(runs: CandidateRuns, place: int, right: str) -> None:
    train_candidate(runs.study, runs.points[place], right)


def test_what_the_runs_left_becomes_the_table_and_a_part_of_it_too(config: RunConfig) -> None:
    folder = comparison(config, "supervised", "dld")
    with folder.claim():
        finish(folder.runs, 0, "1100")
        finish(folder.runs, 1, "1110")
        finish(folder.runs, 2, "1000")
        train_candidate(folder.runs.study, folder.runs.points[3], "1111", "FAILED")
        assert (list(folder.runs.compare().correct), folder.runs.compare().left_out) == (["supervised"], ("dld",))
        assert folder.num_missing == 1
        folder.runs.study.retry_failed()
        finish(folder.runs, 3, "1111")
        folder.write_report(0)
        folder.mark_finished()
    whole = folder.runs.compare()
    assert [each.tolist() for each in whole.accuracies.values()] == [[50.0, 25.0], [75.0, 100.0]]
    assert comparison(config, "supervised", "dld").is_finished
    assert "dld" in folder.table.read_text()


def test_objectives_are_added_later_but_not_to_runs_of_another_length(config: RunConfig) -> None:
    folder = comparison(config, "supervised")
    with folder.claim():
        finish(folder.runs, 0, "1100")
        finish(folder.runs, 1, "1100")
        folder.write_report(0)
        folder.mark_finished()
    more = comparison(config, "supervised", "dld")
    assert (more.is_finished, more.num_missing) == (False, 2)
    with pytest.raises(ValueError, match="num_steps 300, now 11"):
        comparison(config.override({"num_steps": 11}), "supervised")
