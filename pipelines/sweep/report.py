"""What is left of a sweep: a page with Optuna's pictures, and the point to use as a config that can be trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdltr_core.evaluation.significance import SignificanceTest
from kdltr_core.files import write_text
from kdltr_core.metrics import standard_error
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.page import Page, Section
from pipelines.sweep.pictures import NOTE, draw_pictures
from pipelines.sweep.study import SweepTrial, best_first, short

if TYPE_CHECKING:
    from pipelines.sweep.folder import SweepFolder

_NUM_SHOWN = 10


def write_sweep_report(folder: SweepFolder, num_words: int) -> Page:
    """report/ and best.yaml from the trials that have ended, few or many.

    Args:
        num_words: of the validation split.
    """
    trials, config, runs = folder.trials.ended, folder.config, folder.confirmation
    confirmed = runs.compare() if folder.options.confirm and runs.study.ended else None
    pictures = draw_pictures(folder.report, folder.trials.study)
    has_importances = any(picture.stem == "importances" for picture in pictures)
    test = confirmed.significance if confirmed else None
    assert folder.trials.baseline is not None
    point, reason = choose(trials, folder.trials.baseline, test)
    answers = [sentence for sentence in (test.sentence if test else "", reason) if sentence]
    sections = [
        *(confirmed.sections("Confirmation") if confirmed else []),
        *trial_sections(trials, folder.space.describe()),
        Section("Pictures", text=NOTE if has_importances else "", pictures=pictures),
    ]
    page = Page(f"Sweep {config.name}", [*answers, counts_note(trials, num_words)], sections)
    page.write(folder.table)
    if trials:
        MetricsLog(folder.metrics_log).record(len(trials), summary_metrics(trials, test))
    if point:
        best = config.override({**point, "name": f"{config.name}-best"})
        said = [f"Of the sweep {config.name}.", *answers]
        write_text(folder.best, "".join(f"# {sentence}\n" for sentence in said) + best.to_yaml())
    return page


def trial_sections(trials: Sequence[SweepTrial], space: Mapping[str, str]) -> list[Section]:
    """The best trials, the space as ``Space.describe`` has it, and what failed."""
    errors = Counter(trial.error for trial in trials if trial.error).most_common()
    return [
        _best_trials(trials, list(space)),
        Section("Space", [["parameter", "range"], *map(list, space.items())]),
        Section("Failed", [["error", "trials"], *([error, str(n)] for error, n in errors)] if errors else ()),
    ]


def choose(
    trials: Sequence[SweepTrial], baseline: Mapping[str, Any], test: SignificanceTest | None
) -> tuple[Mapping[str, Any], str]:
    """The point that best.yaml holds, and a sentence that says why this one; neither before any trial's end.

    After a confirmation another point than the baseline has to have earned its place. Without one, the best of the
    validation split is all there is to go by.
    """
    ranked = best_first(trials)
    if not ranked:
        return {}, ""
    held, best = "The point in best.yaml is", ranked[0]
    if test is not None and not test.is_better:
        return baseline, f"{held} the baseline: {test.winner.name} was not shown to be better."
    if test is not None:
        winner = next(trial for trial in ranked if trial.title == test.winner.name)
        return winner.params, f"{held} that of {winner.title}, which was confirmed."
    if best.is_baseline:
        return best.params, f"{held} the baseline: no other read more of the validation words."
    return best.params, (
        f"{held} that of {best.title}, {best.accuracy:.2f} % of the validation words, not confirmed: the best of "
        "several is flattered by chance."
    )


def summary_metrics(trials: Sequence[SweepTrial], test: SignificanceTest | None = None) -> dict[str, float]:
    """What the sweep's own run shows in figures."""
    ranked = best_first(trials)
    own = next((trial for trial in ranked if trial.is_baseline), None)
    states = Counter(trial.state for trial in trials)
    metrics: dict[str, float] = {}  # MLflow lists them in this order
    for name, trial in (("best", ranked[0] if ranked else None), ("baseline", own)):
        if trial is not None and trial.accuracy is not None:
            metrics[f"sweep/{name}_word_accuracy"] = trial.accuracy
    if test is not None:
        gain = test.winner
        metrics |= {"confirmation/gain": gain.points, "confirmation/low": gain.low, "confirmation/high": gain.high}
    return metrics | {f"sweep/num_{state.lower()}": float(states[state]) for state in ("FINISHED", "PRUNED", "FAILED")}


def counts_note(trials: Sequence[SweepTrial], num_words: int) -> str:
    """How many trials ended how, and how little the best one's lead may mean.

    A standard error of M words is sqrt(p (1 - p) / M).
    """
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{states[s]} {s.lower()}" for s in ("FINISHED", "PRUNED", "FAILED") if states[s])
    counted = f"{'1 trial' if len(trials) == 1 else f'{len(trials)} trials'}{': ' if counts else ''}{counts}."
    ranked = best_first(trials)
    if not ranked:
        return f"{counted} No trial ran to its end."
    accuracy = ranked[0].accuracy or 0.0
    error = 100 * standard_error(accuracy / 100, num_words)
    return (
        f"{counted} Trial {ranked[0].number} reads {accuracy:.2f} % of {num_words:,} validation words; one standard "
        f"error there is {error:.2f} points: believe it after a confirmation with new seeds and other words."
    )


def _best_trials(trials: Sequence[SweepTrial], names: Sequence[str]) -> Section:
    ranked = best_first(trials)
    if not ranked:
        return Section("Best trials", text="No trial ran to its end.")
    shown = ranked[:_NUM_SHOWN] + [trial for trial in ranked[_NUM_SHOWN:] if trial.is_baseline]
    rows = [["trial", "accuracy, %", *names]]
    for trial in shown:
        number = f"{trial.number} (baseline)" if trial.is_baseline else str(trial.number)
        rows.append([number, f"{trial.accuracy:.2f}", *(short(trial.params[name]) for name in names)])
    left_out = len(ranked) - len(shown)
    return Section("Best trials", rows, f"{left_out} more ran to their end." if left_out else "")
