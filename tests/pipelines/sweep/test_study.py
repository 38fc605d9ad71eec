"""The record of a sweep: what a trial came to, and that the next driver resumes it and repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from pipelines.sweep.options import SweepOptions
from pipelines.sweep.search import pruner_for, sampler_for
from pipelines.sweep.study import ERROR_FILE, JOURNAL, State, SweepStudy
from tests.pipelines.sweep.trials import OWN, SOFT, SPACE, begin_trial, try_point
from tune_spaces.space import Space


def study_in(folder: Path, search: str = "tpe", space: Space | None = SPACE, scheduler: str = "none") -> SweepStudy:
    """As a driver opens it, be it the first or one that resumes."""
    options = SweepOptions.model_validate({"num_trials": 12, "search": search, "scheduler": scheduler})
    study = SweepStudy(folder, baseline=OWN, space=space, sampler=sampler_for(options, 0), pruner=pruner_for(options))
    study.enqueue([OWN])
    return study


@pytest.mark.parametrize(
    ("state", "error", "accuracies", "accuracy"),
    [
        ("FINISHED", "", (50.0, 70.0, 60.0), 70.0),  # the student that is kept is the best one, not the last
        ("PRUNED", "", (40.0, 30.0), 40.0),
        ("FAILED", "OSError: disk", (), None),
        ("FAILED", "TrainingDiverged: not finite", (10.0,), 10.0),
    ],
)
def test_a_trial_is_known_as_it_ended_by_this_driver_and_the_next(
    tmp_path: Path, state: State, error: str, accuracies: tuple[float, ...], accuracy: float | None
) -> None:
    ended = try_point(study_in(tmp_path), None, *accuracies, state=state, error=error)
    assert (ended.number, ended.params, ended.is_baseline, ended.title) == (0, OWN, True, "the baseline")
    assert (ended.state, ended.error, ended.accuracy) == (state, error, accuracy)
    assert study_in(tmp_path).ended == [ended]


def test_the_next_driver_takes_up_what_was_left_open_and_repeats_nothing(tmp_path: Path) -> None:
    first = study_in(tmp_path)
    before = [try_point(first, None, 50.0) for _ in range(3)]
    left = [begin_trial(first, None, 40.0) for _ in range(2)]
    second = study_in(tmp_path)
    assert [trial.is_running for trial in second.trials] == [False] * 5
    again = [second.begin(), second.begin()]
    assert [(t.number, t.folder, t.params) for t in again if t] == [(t.number, t.folder, t.params) for t in left]
    for _ in range(3):
        try_point(second, None, 50.0)
    trials = second.trials
    assert trials[:3] == before
    assert [trial.number for trial in trials] == list(range(8))
    assert len({str(trial.params) for trial in trials}) == 8
    assert all(SPACE.holds(trial.params) for trial in trials)


def test_a_driver_killed_at_any_line_of_the_journal_costs_no_trial_that_was_begun(tmp_path: Path) -> None:
    """Whichever of its lines was torn, the next driver has as many trials in as many folders, each point once."""
    study = study_in(tmp_path / "whole")
    for _ in range(3):
        try_point(study, None, 50.0)
    lines = (tmp_path / "whole" / JOURNAL).read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        again = study_in(folder)
        while len(again.ended) < 3:
            try_point(again, None, 50.0)
        trials = study_in(folder).trials
        assert [trial.number for trial in trials] == [0, 1, 2]
        assert len({str(trial.params) for trial in trials}) == 3
        assert trials[0].is_baseline


def test_what_failed_is_tried_again_in_its_folder_unless_it_was_the_point_s_own_fault(tmp_path: Path) -> None:
    first = study_in(tmp_path, space=None)
    failed = try_point(first, OWN, 30.0, state="FAILED", error="OutOfMemoryError: no room")
    (failed.folder / ERROR_FILE).write_text(failed.error)
    diverged = try_point(first, {SOFT: 3.0}, state="FAILED", error="TrainingDiverged: not finite")
    second = study_in(tmp_path, space=None)
    second.retry_failed()
    assert [trial.state for trial in second.trials] == [None, "FAILED"]
    again = second.begin()
    assert again is not None
    assert (again.number, again.folder, again.error) == (0, failed.folder, "")
    assert not (failed.folder / ERROR_FILE).exists()
    assert second.begin() is None
    second.end(0, "FINISHED")
    assert [trial.state for trial in study_in(tmp_path, space=None).trials] == ["FINISHED", diverged.state]


def test_points_alone_come_once_each_in_order_and_then_to_an_end(tmp_path: Path) -> None:
    study = SweepStudy(tmp_path)
    points = [{"objective.name": "dld", "seed": 1}, {"objective.name": "dfd", "seed": 1}]
    study.enqueue(points)
    study.enqueue([*points, {"objective.name": "dld", "seed": 2}])
    tried = [begin_trial(study, None).params for _ in range(3)]
    assert tried == [*points, {"objective.name": "dld", "seed": 2}]
    assert study.begin() is None


def test_a_baseline_outside_the_space_is_tried_all_the_same(tmp_path: Path) -> None:
    """A number beyond the range and a choice that is none, and the search goes on within the space."""
    choices = CategoricalDistribution(["cosine", "constant"])
    narrow = Space({SOFT: FloatDistribution(40.0, 200.0, log=True), "optim.schedule": choices})
    study = study_in(tmp_path, space=narrow)
    for _ in range(8):
        try_point(study, None, 50.0)
    assert study.trials[0].params == OWN
    assert all(narrow.holds(trial.params) for trial in study.trials[1:])


def test_the_half_that_is_behind_at_a_quarter_or_half_of_its_length_stops(tmp_path: Path) -> None:
    """Also under the next driver, which knows what earlier trials read when."""

    def is_behind(study: SweepStudy, *readings: tuple[float, float]) -> list[bool]:
        number = begin_trial(study, None).number
        answers = [study.report(number, percent, accuracy) for percent, accuracy in readings]
        study.end(number, "PRUNED")
        return answers

    first = study_in(tmp_path, "random", scheduler="asha")
    assert is_behind(first, (0, 10), (25, 60), (50, 65)) == [False, False, False]
    assert is_behind(first, (0, 10), (25, 62), (50, 66)) == [False, False, False]
    second = study_in(tmp_path, "random", scheduler="asha")
    assert is_behind(second, (0, 90), (24, 10), (25, 61)) == [False, False, True]
    assert is_behind(second, (30, 62), (50, 65.5)) == [False, True]
    assert is_behind(study_in(tmp_path, "random"), (25, 1), (50, 1)) == [False, False]
