"""Whether a confirmation says yes when there is a gain, no when there is none, and how often it is wrong."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import t as student

from kdltr_core.evaluation.significance import compare_paired, read_correct, signed
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, write_predictions
from tests.kdltr_core.evaluation.tables import table_of

WORD, SEED, POINT_WORD, ALL = 1.0, 0.03, 0.2, 0.3  # standard deviations


def simulate(generator, shifts, num_seeds=3, num_words=400, seed_scatter=SEED):
    """(points, seeds, words): right where difficulty, skill of the point, of its seed, and noise sum to above zero."""
    num_points = len(shifts)
    total = generator.normal(0, WORD, num_words) + np.reshape(shifts, (-1, 1, 1))
    total = total + generator.normal(0, seed_scatter, (num_points, num_seeds, 1))
    total = total + generator.normal(0, POINT_WORD, (num_points, 1, num_words))
    return total + generator.normal(0, ALL, (num_points, num_seeds, num_words)) > 0


def true_gain(shift, seed_scatter=SEED):
    """In points: the normal integral from 0 to the shift."""
    spread = math.hypot(WORD, seed_scatter, POINT_WORD, ALL)
    return 100 * 0.5 * math.erf(shift / spread / math.sqrt(2))


def _student(level, df):
    """The t of that two-sided level."""
    return student.ppf((1 + level) / 2, df)


def judged(readings):
    return compare_paired(readings[0], {f"trial {i}": values for i, values in enumerate(readings[1:], start=1)})


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_is_that_of_the_covariances_of_the_seeds(seed):
    """The same variance in the terms of Obuchowski and Rockette: scatter of the seeds, and what they share by words."""
    readings = simulate(np.random.default_rng(seed), [0, 0], num_seeds=4, num_words=50, seed_scatter=0.1 * seed)
    (gain,) = judged(readings).gains
    difference = readings[1].astype(float) - readings[0]
    covariance = np.cov(difference)
    shared = (covariance.sum() - np.trace(covariance)) / 12
    of_seeds = max(difference.mean(axis=1).var(ddof=1), (np.trace(covariance) / 4 - shared) / 50) / 4
    variance = of_seeds + max(shared, 0) / 50
    half = _student(0.95, 3 * (variance / of_seeds) ** 2) * math.sqrt(variance)
    assert gain.points == pytest.approx(100 * (readings[1].mean() - readings[0].mean()))
    assert (gain.low, gain.high) == pytest.approx((gain.points - 100 * half, gain.points + 100 * half))


def test_few_seeds_are_pooled_over_the_points_and_an_unsteady_candidate_has_its_own_scatter():
    """Words that shared nothing between seeds: the interval is Student's with the seeds' scatter alone."""
    rates = np.array([[0.5, 0.6, 0.4], [0.7, 0.5, 0.6], [0.2, 0.8, 0.9]])  # the last scatters more than the pool
    words = np.arange(20_000)
    offsets = np.array([[0.11, 0.37, 0.59], [0.23, 0.71, 0.83], [0.05, 0.47, 0.91]])
    golden = (words * 0.6180339887 % 1 + offsets[..., None] * 7919) % 1
    readings = np.take_along_axis(golden, np.array([np.random.default_rng(i).permutation(20_000) for i in range(9)])
                                  .reshape(3, 3, -1), axis=2) < rates[..., None]  # fmt: skip
    pairs = list(itertools.combinations(range(3), 2))
    pooled = np.mean([np.var(rates[a] - rates[b], ddof=1) for a, b in pairs])
    first, second = judged(readings).gains
    t = _student(1 - 0.05 / 2, 2 * 2)
    assert first.high - first.points == pytest.approx(100 * t * math.sqrt(pooled / 3), rel=0.02)
    own = np.var(rates[2] - rates[0], ddof=1)
    assert own > pooled
    assert second.high - second.points == pytest.approx(100 * t * math.sqrt(own / 3), rel=0.02)


@pytest.mark.parametrize(
    ("shifts", "num_seeds", "seed_scatter"),
    [([0, 0], 3, 0.0), ([0, 0], 3, 0.1), ([0, 0], 2, 0.1), ([0, 0.2], 5, 0.1), ([0, 0, 0.1, 0.2], 3, 0.1)],
)
def test_nineteen_in_twenty_confirmations_hold_the_true_gains(shifts, num_seeds, seed_scatter):
    """All intervals of a confirmation at once. Where seeds do not scatter three of them cannot show it: wider then."""
    generator, held, num_rounds = np.random.default_rng(7), 0, 400
    for _ in range(num_rounds):
        verdict = judged(simulate(generator, shifts, num_seeds, seed_scatter=seed_scatter))
        truths = [true_gain(s, seed_scatter) for s in shifts[1:]]
        held += all(g.low <= truth <= g.high for g, truth in zip(verdict.gains, truths, strict=True))
    assert held / num_rounds >= 0.93  # 0.95 less twice the standard error of 400 rounds
    assert held / num_rounds <= (0.985 if seed_scatter and num_seeds > 2 else 1.0)


def test_no_gain_is_rarely_called_one_and_a_large_one_is_seen():
    generator = np.random.default_rng(9)
    false_alarms = [judged(simulate(generator, [0, 0, 0, 0])).is_better for _ in range(200)]
    found = [judged(simulate(generator, [0, 0.3], num_words=1000)).is_better for _ in range(100)]
    assert sum(false_alarms) <= 10
    assert sum(found) >= 95


def test_the_winner_is_the_best_of_those_that_are_surely_better():
    base = np.arange(3000) % 2 == np.zeros((5, 1))
    steady, unsteady = base.copy(), base.copy()
    steady[:, 1:1600:2] = True  # 800 words more with every seed
    for seed, extra in enumerate((1500, 1450, 1400, 300, -300)):
        unsteady[seed, 1 : max(2 * extra, 0) : 2] = True
        unsteady[seed, 0 : max(-2 * extra, 0) : 2] = False
    verdict = compare_paired(base, {"unsteady": unsteady, "steady": steady, "idle": base})
    assert [round(gain.points, 2) for gain in verdict.gains] == [29.0, 26.67, 0.0]
    assert [gain.low > 0 for gain in verdict.gains] == [False, True, False]
    assert (verdict.winner.name, verdict.is_better) == ("steady", True)


@pytest.mark.parametrize(
    ("shifts", "num_seeds", "is_better", "beginning", "end"),
    [
        ([0, 0.5], 3, True, "Yes: trial 7 reads ", "which is more than chance gives; use trial 7."),
        ([0.5, 0], 3, False, "No: the gain of trial 7 over the baseline is −", "lies below zero; keep the baseline."),
        ([0], 3, False, "No: the gain of trial 7 over the baseline is 0.00", "includes zero; keep the baseline."),
        ([0, 1.5], 1, None, "Undecided: ", "confirm with three seeds or more."),
    ],
)
def test_the_sentence_says_yes_no_or_undecided(shifts, num_seeds, is_better, beginning, end):
    """One seed leaves it open however large the gain."""
    readings = simulate(np.random.default_rng(3), shifts, num_seeds, num_words=1000)
    verdict = compare_paired(readings[0], {"trial 7": readings[-1]})
    assert verdict.is_better is is_better
    assert verdict.sentence.startswith(beginning)
    assert verdict.sentence.endswith(end)


def test_seeds_that_all_read_alike_leave_the_words():
    """Then the interval is the normal's over words, as for one seed."""
    (base,), (other,) = simulate(np.random.default_rng(5), [0, 0], num_seeds=1)
    (one,) = compare_paired([base], {"x": [other]}).gains
    (three,) = compare_paired([base] * 3, {"x": [other] * 3}).gains
    assert (three.low, three.high) == pytest.approx((one.low, one.high), rel=0.01)


def test_a_single_word_shows_nothing():
    with pytest.raises(ValueError, match="1 words show no difference"):
        compare_paired(np.ones((3, 1), bool), {"x": np.ones((3, 1), bool)})


@pytest.mark.parametrize(("points", "text"), [(0.4, "+0.40"), (-0.6, "−0.60"), (-0.001, "0.00"), (0.0, "0.00")])
def test_a_gain_has_a_sign(points, text):
    assert signed(points) == text


def _write(path, readings, name="signs"):
    columns = {TEACHER_ENLARGED: ["", "", ""], STUDENT_LOW_RES: readings}
    write_predictions(path, table_of({name: ["one", "two", "tree"]}, {name: columns}).words)
    return path


def test_readings_of_finished_runs_are_stacked_by_seed(tmp_path):
    readings = (["one", "too", "tree"], ["ONE!", "two", "free"])
    files = [_write(tmp_path / f"{seed}.parquet", words) for seed, words in enumerate(readings)]
    np.testing.assert_array_equal(read_correct(files), [[True, False, True], [True, True, False]])


def test_readings_of_other_words_or_of_none_are_refused(tmp_path):
    first, other = (_write(tmp_path / f"{n}.parquet", ["", "", ""], n) for n in ("signs", "plates"))
    with pytest.raises(ValueError, match="of different words"):
        read_correct([first, other])
    with pytest.raises(ValueError, match=r"missing\.parquet cannot be read"):
        read_correct([tmp_path / "missing.parquet"])
    pq.write_table(pa.table({"set": ["a"], "key": ["1"]}), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="no column student_low_res_correct"):
        read_correct([tmp_path / "bare.parquet"])
