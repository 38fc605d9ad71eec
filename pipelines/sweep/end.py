"""What is left of a sweep: a page, pictures, and the point to use as a config that can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.significance import SignificanceTest
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.importances import importances
from pipelines.sweep.report import sweep_markdown
from pipelines.sweep.step_times import StepTimes
from pipelines.sweep.sweep import Trial, finished
from pipelines.sweep.sweep_pictures import draw_sweep


def write_report(folder: SweepFolder, config: RunConfig, num_words: int, verdict: SignificanceTest | None) -> None:
    """report/ and best.yaml from the trials that have ended, few or many.

    Args:
        config: of the run whose point was searched.
        num_words: of the validation split.
        verdict: of the confirmation, where it came to one.
    """
    trials = [entry.to_trial() for entry in folder.trials.ended]
    found = importances(trials, folder.space)
    choice = choose(trials, folder.trials.published, verdict)
    times = StepTimes.read(folder.step_times)
    notes = [known.sentence for known in (choice, times) if known is not None]
    folder.report.mkdir(exist_ok=True)
    page = sweep_markdown(config.name, trials, folder.space, found, num_words=num_words, verdict=verdict, notes=notes)
    folder.table.write_text(page, encoding="utf-8")
    if trials:
        draw_sweep(folder.report, trials, folder.space, found, num_words=num_words)
    if choice is not None:
        point = config.override({**choice.point, "name": f"{config.name}-best"})
        said = [f"Of the sweep {config.name}. {choice.sentence}", *([verdict.sentence] if verdict else [])]
        folder.best.write_text("".join(f"# {sentence}\n" for sentence in said) + point.to_yaml(), encoding="utf-8")


@dataclass(frozen=True)
class Choice:
    """The point that best.yaml holds, and a sentence that says why this one."""

    point: Mapping[str, Any]
    sentence: str


def choose(trials: list[Trial], published: Mapping[str, Any], verdict: SignificanceTest | None) -> Choice | None:
    """What is to be trained with after the sweep; None before any trial came to its end.

    After a confirmation another point than the published one has to have earned its place. Without one, the best of
    the validation split is all there is to go by.
    """
    ranked = finished(trials)
    if not ranked:
        return None
    if verdict is None:
        best, held = ranked[0], "The point in best.yaml is"
        if best.is_published:
            return Choice(best.params, f"{held} the published one: no other read more of the validation words.")
        return Choice(
            best.params,
            f"{held} that of trial {best.number}, {best.value:.2f} % of the validation words, not confirmed: "
            "the best of several is flattered by chance.",
        )
    if not verdict.is_better:
        held = f"The point in best.yaml is the published one: {verdict.winner.name} was not shown to be better."
        return Choice(published, held)
    winner = next(trial for trial in ranked if title(trial) == verdict.winner.name)
    return Choice(winner.params, f"The point in best.yaml is that of {verdict.winner.name}, which was confirmed.")


def title(trial: Trial) -> str:
    """As verdict and tables name it."""
    return "the published point" if trial.is_published else f"trial {trial.number}"


def summary_metrics(trials: list[Trial], verdict: SignificanceTest | None) -> dict[str, float]:
    """What the sweep's own run shows in figures."""
    ranked = finished(trials)
    own = next((trial for trial in ranked if trial.is_published), None)
    metrics = {f"sweep/num_{state.lower()}": 0.0 for state in ("FINISHED", "PRUNED", "FAILED")}
    for trial in trials:
        metrics[f"sweep/num_{trial.state.lower()}"] += 1
    if ranked and ranked[0].value is not None:
        metrics["sweep/best_word_accuracy"] = ranked[0].value
    if own is not None and own.value is not None:
        metrics["sweep/published_word_accuracy"] = own.value
    if verdict is not None:
        gain = verdict.winner
        metrics |= {"confirmation/gain": gain.points, "confirmation/low": gain.low, "confirmation/high": gain.high}
    return metrics
