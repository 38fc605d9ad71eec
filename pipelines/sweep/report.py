"""What is left of a sweep: a page, Optuna's pictures, and the point to use as a config that can be trained."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawn

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.significance import SignificanceTest, signed
from kdltr_core.evaluation.table import markdown_rows
from kdltr_core.files import write_text
from kdltr_core.metrics import standard_error
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.step_times import tell_step_times
from pipelines.sweep.study import SweepTrial

FEWEST_TRIALS = 10
_TOP = 1 / 3  # Optuna's tenth is two or three trials of a sweep of two dozen: too few to show a choice that matters
_ACCURACY = "validation accuracy, %"
_NUM_SHOWN = 10


def write_sweep_report(folder: SweepFolder, config: RunConfig, num_words: int, test: SignificanceTest | None) -> None:
    """report/ and best.yaml from the trials that have ended, few or many.

    Args:
        config: of the run whose point was searched.
        num_words: of the validation split.
        test: of the confirmation, where it came to one.
    """
    trials = folder.trials.ended
    assert folder.trials.baseline is not None
    choice = choose(trials, folder.trials.baseline, test)
    notes = [choice.sentence] if choice is not None else []
    if folder.step_times.exists():
        notes.append(tell_step_times(json.loads(folder.step_times.read_text())))
    study = counted_study(trials, folder.space.describe())
    found = importances(study)
    page = sweep_markdown(config.name, trials, folder.space.describe(), found, num_words, test, notes)
    write_text(folder.table, page)
    draw_pictures(folder.report, study, found, num_words)
    if choice is not None:
        point = config.override({**choice.point, "name": f"{config.name}-best"})
        said = [f"Of the sweep {config.name}. {choice.sentence}", *([test.sentence] if test else [])]
        write_text(folder.best, "".join(f"# {sentence}\n" for sentence in said) + point.to_yaml())


@dataclass(frozen=True)
class Choice:
    """The point that best.yaml holds, and a sentence that says why this one."""

    point: Mapping[str, Any]
    sentence: str


def choose(trials: Sequence[SweepTrial], baseline: Mapping[str, Any], test: SignificanceTest | None) -> Choice | None:
    """What is to be trained with after the sweep; None before any trial came to its end.

    After a confirmation another point than the baseline has to have earned its place. Without one, the best of the
    validation split is all there is to go by.
    """
    ranked = best_first(trials)
    if not ranked:
        return None
    held = "The point in best.yaml is"
    if test is not None and not test.is_better:
        return Choice(baseline, f"{held} the baseline: {test.winner.name} was not shown to be better.")
    if test is not None:
        winner = next(trial for trial in ranked if trial.title == test.winner.name)
        return Choice(winner.params, f"{held} that of {test.winner.name}, which was confirmed.")
    best = ranked[0]
    if best.is_baseline:
        return Choice(best.params, f"{held} the baseline: no other read more of the validation words.")
    return Choice(
        best.params,
        f"{held} that of {best.title}, {best.accuracy:.2f} % of the validation words, not confirmed: "
        "the best of several is flattered by chance.",
    )


def best_first(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Trials that ran to their end; of equals, the earlier first."""
    done = [trial for trial in trials if trial.state == "FINISHED"]
    return sorted(done, key=lambda trial: (-(trial.accuracy or 0.0), trial.number))


def summary_metrics(trials: Sequence[SweepTrial], test: SignificanceTest | None = None) -> dict[str, float]:
    """What the sweep's own run shows in figures."""
    ranked = best_first(trials)
    own = next((trial for trial in ranked if trial.is_baseline), None)
    states = Counter(trial.state for trial in trials)
    metrics = {f"sweep/num_{state.lower()}": float(states[state]) for state in ("FINISHED", "PRUNED", "FAILED")}
    for name, trial in (("best", ranked[0] if ranked else None), ("baseline", own)):
        if trial is not None and trial.accuracy is not None:
            metrics[f"sweep/{name}_word_accuracy"] = trial.accuracy
    if test is not None:
        gain = test.winner
        metrics |= {"confirmation/gain": gain.points, "confirmation/low": gain.low, "confirmation/high": gain.high}
    return metrics


@dataclass(frozen=True)
class Importance:
    """How much a parameter had to do with which trials came out at the top.

    Attributes:
        name: of the parameter.
        share: of the importance of all parameters, in [0, 1].
        chance: the share that this one would have, the others as they are, with the figure that the first of all
            reaches in one of twenty sweeps in which none mattered; in [0, 1].
        is_beyond_chance: whether its own figure is larger than that one.
    """

    name: str
    share: float
    chance: float
    is_beyond_chance: bool


def counted_study(trials: Sequence[SweepTrial], space: Mapping[str, Mapping[str, Any]]) -> optuna.Study:
    """The trials as importances and pictures count them: one that was stopped with the best that was read of it.

    To leave it out would hide what made trials bad enough to be stopped. Failed trials, and those of which nothing was
    read, do not count. Ranges are widened to what was tried outside them, such as the baseline.
    """
    tried = {name: [trial.params[name] for trial in trials] for name in space}
    distributions = {name: _distribution(described, tried[name]) for name, described in space.items()}
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        counts = trial.state != "FAILED" and trial.accuracy is not None
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE if counts else TrialState.FAIL,
                value=trial.accuracy if counts else None,
                params={name: trial.params[name] for name in space},
                distributions=distributions,
            )
        )
    return study


def importances(study: optuna.Study, num_shuffles: int = 100, seed: int = 0) -> tuple[Importance, ...]:
    """Shares of the parameters in what sets the best third of the trials apart, largest first.

    PED-ANOVA (Watanabe et al. 2023) compares the values of the best with those of all trials, so a searcher that
    tries one region more often does not by itself make a parameter important.

    Shares sum to one even in a sweep of pure noise. A divergence is therefore compared with the 95th percentile of the
    largest of any parameter over ``num_shuffles`` sweeps whose accuracies were dealt to the trials at random. Under
    TPE, which follows the accuracies, that is a little low: 6 of 80 sweeps of pure noise went beyond it.

    Args:
        study: as ``counted_study`` makes it.

    Returns: nothing for fewer than ``FEWEST_TRIALS`` trials with an accuracy, or where all accuracies are equal.
    """
    counted = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    accuracies = np.array([trial.value for trial in counted], dtype=float)
    if len(counted) < FEWEST_TRIALS or np.ptp(accuracies) == 0:
        return ()
    names = list(counted[0].params)

    def divergences(values: np.ndarray) -> np.ndarray:
        dealt = optuna.create_study(direction="maximize")
        dealt.add_trials(
            optuna.create_trial(params=trial.params, distributions=trial.distributions, value=float(value))
            for trial, value in zip(counted, values, strict=True)
        )
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_TOP)
        found = optuna.importance.get_param_importances(dealt, evaluator=evaluator, normalize=False)
        return np.array([found[name] for name in names])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        own = divergences(accuracies)
        generator = np.random.default_rng(seed)
        shuffled = [divergences(generator.permutation(accuracies)) for _ in range(num_shuffles)]
    if not own.sum() > 0:
        return ()
    by_chance = float(np.quantile(np.max(shuffled, axis=1), 0.95))
    others = own.sum() - own
    found = [
        Importance(name, float(figure / own.sum()), float(by_chance / (by_chance + other)), bool(figure > by_chance))
        for name, figure, other in zip(names, own, others, strict=True)
    ]
    return tuple(sorted(found, key=lambda importance: -importance.share))


def draw_pictures(folder: Path, study: optuna.Study, found: Sequence[Importance], num_words: int) -> None:
    """``history.png``, ``parallel_coordinates.png``, ``slices.png`` and, where there are any, ``importances.png``.

    Nothing without a trial that was read. The band of the history is one standard error of the best on ``num_words``
    validation words.
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are experimental, and of axes without a length, for few trials
        pyplot.switch_backend("agg")
        axes = drawn.plot_optimization_history(study, target_name=_ACCURACY)
        error = 100 * standard_error(study.best_value / 100, num_words)
        label = f"± one standard error ({num_words:,} words)"
        axes.axhspan(study.best_value - error, study.best_value + error, alpha=0.15, label=label)
        axes.legend()
        _save(axes, folder / "history.png")
        _save(drawn.plot_parallel_coordinate(study, target_name=_ACCURACY), folder / "parallel_coordinates.png")
        _save(drawn.plot_slice(study, target_name=_ACCURACY), folder / "slices.png")
        if found:
            _, axes = pyplot.subplots()
            axes.barh([i.name for i in found], [100 * i.share for i in found])
            axes.plot([100 * i.chance for i in found], range(len(found)), "k|", markersize=24, label="by chance")
            axes.invert_yaxis()
            axes.set_xlabel("importance, % of all parameters'")
            axes.legend()
            _save(axes, folder / "importances.png")


def sweep_markdown(
    name: str,
    trials: Sequence[SweepTrial],
    space: Mapping[str, Mapping[str, Any]],
    found: Sequence[Importance],
    num_words: int,
    test: SignificanceTest | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The page of a sweep: what came of it, how sure that is, and what was tried.

    Args:
        trials: that have ended; none is a sweep that was stopped before its first trial ended.
        space: what was searched, as ``Space.describe`` has it.
        num_words: of the validation split.
        notes: sentences for the head of the page, a paragraph each.
    """
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{states[s]} {s.lower()}" for s in ("FINISHED", "PRUNED", "FAILED") if states[s])
    lines = [f"# Sweep {name}", ""]
    if test is not None:
        lines += [f"**{test.sentence}**", ""]
    lines += [f"{_counted(len(trials), 'trial')}{': ' if counts else ''}{counts}. {_noise_note(trials, num_words)}", ""]
    for sentence in notes:
        lines += [sentence, ""]
    if test is not None:
        lines += ["## Confirmation", "", *_test_lines(test), ""]
    lines += ["## Best trials", "", *_trial_lines(trials, list(space)), ""]
    ranges = [[parameter, _range(described)] for parameter, described in space.items()]
    lines += ["## Space", "", *markdown_rows([["parameter", "range"], *ranges]), ""]
    lines += ["## Importances", "", *_importance_lines(found), ""]
    errors = Counter(trial.error for trial in trials if trial.error)
    if errors:
        lines += ["## Failed", "", *(f"- {_counted(n, 'trial')}: {error}" for error, n in errors.most_common()), ""]
    return "\n".join(lines)


def short(value: Any) -> str:
    """A parameter's value as tables and lines have it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "(empty)"


def _noise_note(trials: Sequence[SweepTrial], num_words: int) -> str:
    """How little the best trial's lead may mean: a standard error of M words is sqrt(p (1 - p) / M)."""
    ranked = best_first(trials)
    if not ranked:
        return "No trial ran to its end."
    best, *others = [trial.accuracy or 0.0 for trial in ranked]
    error = 100 * standard_error(best / 100, num_words)
    note = (
        f"Trial {ranked[0].number} reads {best:.2f} % of {num_words:,} validation words; "
        f"one standard error there is {error:.2f} points"
    )
    if not others:
        return note + "."
    return (
        f"{note}, and {sum(best - other <= error for other in others)} of the {len(others)} other finished trials are "
        "within that of it. The best of several is flattered by chance: believe it after a confirmation with new "
        "seeds and other words."
    )


def _test_lines(test: SignificanceTest) -> list[str]:
    rows = [["point", "accuracy by seed, %", "gain, points", f"{100 * test.level:g} % interval"]]
    gains = {gain.name: gain for gain in test.gains}
    for name, accuracies in test.accuracies.items():
        row = [name, " ".join(f"{a:.2f}" for a in accuracies), "", ""]
        if name in gains:
            row[2:] = [signed(gains[name].points), f"{signed(gains[name].low)} … {signed(gains[name].high)}"]
        rows.append(row)
    note = "One seed: the intervals allow for words only."
    if test.num_seeds > 1:
        note = (
            f"{test.num_seeds} seeds, {test.num_words:,} words. The intervals allow for other seeds and other words, "
            "and hold all at once."
        )
    return [*markdown_rows(rows), "", note]


def _trial_lines(trials: Sequence[SweepTrial], names: Sequence[str]) -> list[str]:
    ranked = best_first(trials)
    if not ranked:
        return ["No trial ran to its end."]
    shown = ranked[:_NUM_SHOWN] + [trial for trial in ranked[_NUM_SHOWN:] if trial.is_baseline]
    rows = [["trial", "accuracy, %", *names]]
    for trial in shown:
        number = f"{trial.number} (baseline)" if trial.is_baseline else str(trial.number)
        rows.append([number, f"{trial.accuracy:.2f}", *(short(trial.params[name]) for name in names)])
    left_out = len(ranked) - len(shown)
    return markdown_rows(rows) + (["", f"{left_out} more ran to their end."] if left_out else [])


def _importance_lines(found: Sequence[Importance]) -> list[str]:
    if not found:
        return ["Too few trials, or too much alike, to tell what mattered."]
    rows = [["parameter", "share, %", "by chance, %", "beyond chance"]]
    rows += [
        [i.name, f"{100 * i.share:.0f}", f"{100 * i.chance:.0f}", "yes" if i.is_beyond_chance else "no"] for i in found
    ]
    note = (
        "Share of each parameter in what sets the best third of the trials apart (PED-ANOVA; pruned trials count with "
        "the best accuracy read of them, failed ones not). By chance: the share that a "
        "parameter would have, the others as they are, with what the first of all reaches in one sweep of twenty in "
        "which none mattered."
    )
    return [*markdown_rows(rows), "", note]


def _range(described: Mapping[str, Any]) -> str:
    if "choices" in described:
        return "one of " + ", ".join(short(choice) for choice in described["choices"])
    scale = (", whole numbers" if described["is_integer"] else "") + (", log scale" if described["log"] else "")
    return f"{short(described['low'])} … {short(described['high'])}{scale}"


def _distribution(described: Mapping[str, Any], values: Sequence[Any]) -> BaseDistribution:
    if "choices" in described:
        return CategoricalDistribution(list(dict.fromkeys([*described["choices"], *values])))
    low, high = min([described["low"], *values]), max([described["high"], *values])
    kind: Any = IntDistribution if described["is_integer"] else FloatDistribution
    return kind(low, high, log=described["log"] and low > 0)


def _save(axes: Any, path: Path) -> None:
    figure = np.ravel(axes)[0].figure
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
