"""Who takes over from whom in a population, and with which values."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from ray import tune

from kdltr_core.config import RunConfig
from pipelines.sweep.population import Copy, Decisions, check_population, choose_copies, explore, round_ends
from tune_spaces.space import Space

SOFT, PATHS, STANDARD = "objective.soft_logits", "objective.num_paths", "optim.schedule"
SPACE = Space(
    "s",
    {
        SOFT: tune.loguniform(2.0, 200.0),
        PATHS: tune.randint(1, 13),
        "objective.num_permutations": tune.choice([2, 6, 12]),
        STANDARD: tune.choice(["step", "cosine"]),
    },
)
POINT = {SOFT: 20.0, PATHS: 6, "objective.num_permutations": 6, STANDARD: "step"}


def test_rounds_are_equal_parts_up_to_the_end() -> None:
    assert round_ends(4) == [25.0, 50.0, 75.0, 100.0]
    assert round_ends(3)[-1] == 100.0


@pytest.mark.parametrize(
    ("accuracies", "kept", "targets", "sources"),
    [
        ({0: 50.0, 1: 60.0, 2: 40.0, 3: 55.0}, (), {2}, {1}),
        ({0: 50.0, 1: 60.0, 2: 40.0, 3: 55.0}, (2,), {0}, {1}),  # the last but one, where the last is kept
        (dict(enumerate([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0])), (), {0, 1}, {6, 7}),
        (dict(enumerate([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0])), (0,), {1, 2}, {6, 7}),
        ({4: 60.0, 7: 50.0}, (), {7}, {4}),
        ({4: 50.0, 7: 50.0}, (), set(), set()),  # nobody is behind
        ({4: 60.0, 7: 50.0}, (7,), set(), set()),
        ({4: 60.0}, (), set(), set()),
        ({}, (), set(), set()),
    ],
)
def test_the_worst_quarter_goes_on_from_the_best_quarter(
    accuracies: dict[int, float], kept: tuple[int, ...], targets: set[int], sources: set[int]
) -> None:
    seen = set()
    for seed in range(20):
        chosen = choose_copies(accuracies, kept, Random(seed))
        assert set(chosen) == targets
        seen |= set(chosen.values())
    assert seen == sources


def test_values_are_moved_by_a_fifth_or_drawn_anew_and_stay_in_the_space() -> None:
    values = [explore(POINT, SPACE, Random(seed)) for seed in range(400)]
    assert all(set(each) == {SOFT, PATHS, "objective.num_permutations"} for each in values)  # the rest cannot change
    assert all(SPACE.holds({**POINT, **each}) for each in values)
    soft = Counter(each[SOFT] if each[SOFT] in (16.0, 24.0) else "drawn" for each in values)
    assert soft[16.0] > 100
    assert soft[24.0] > 100
    assert 60 < soft["drawn"] < 140  # a quarter of 400
    assert {4, 5, 7} <= {each[PATHS] for each in values}
    assert {each["objective.num_permutations"] for each in values} == {2, 6, 12}


def test_whole_numbers_move_by_one_at_least_and_no_value_leaves_its_range() -> None:
    space = Space("s", {PATHS: tune.randint(1, 4)})
    moved = {explore({PATHS: value}, space, Random(seed))[PATHS] for value in (1, 2, 3) for seed in range(50)}
    assert moved == {1, 2, 3}
    ends = Space("s", {SOFT: tune.uniform(10.0, 21.0)})
    assert all(10.0 <= explore({SOFT: 20.0}, ends, Random(seed))[SOFT] <= 21.0 for seed in range(50))
    assert explore({SOFT: 400.0}, ends, Random(1))[SOFT] <= 21.0  # from outside, as the published point may be


def test_a_term_neither_comes_nor_goes() -> None:
    space = Space("s", {SOFT: tune.choice([0.0, 20.0])})
    for was in (0.0, 20.0):
        for seed in range(30):
            values = explore({SOFT: was}, space, Random(seed))
            assert values == {SOFT: was}
            RunConfig().override({SOFT: was, "changes": (f"50% {SOFT}={values[SOFT]}",)})


def test_a_decision_stands_for_the_next_driver(tmp_path: Path) -> None:
    path = tmp_path / "rounds.json"
    third = 100 / 3
    assert Decisions(path).at(third) is None
    Decisions(path).make(third, [Copy(3, 1, {SOFT: 24.0})])
    Decisions(path).make(2 * third, [])
    assert Decisions(path).at(third) == [Copy(3, 1, {SOFT: 24.0})]
    assert Decisions(path).at(2 * third) == []


def test_what_makes_no_population_is_refused() -> None:
    hundred = RunConfig(num_steps=100)
    check_population(SPACE, hundred, 4)
    check_population(SPACE, RunConfig(), 4)
    with pytest.raises(
        ValueError, match=r"of the space s nothing can change then \(optim.schedule\); use asha or none"
    ):
        check_population(Space("s", {STANDARD: tune.choice(["step", "cosine"])}), hundred, 4)
    with pytest.raises(ValueError, match="trials of 3 steps have no 4 rounds; give fewer --rounds"):
        check_population(SPACE, RunConfig(num_steps=3), 4)
    batches = Space("s", {**SPACE.domains, "optim.batch_size": tune.choice([32, 64])})
    check_population(batches, hundred, 4)
    with pytest.raises(ValueError, match=r"varies optim.batch_size, .* give --trial-steps"):
        check_population(batches, RunConfig(), 4)
    with pytest.raises(ValueError, match=r"changes of its own \(50% optim.clip_norm=1\); leave them out"):
        check_population(SPACE, hundred.override({"changes": ("50% optim.clip_norm=1",)}), 4)
