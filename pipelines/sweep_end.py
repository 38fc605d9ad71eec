"""What is left of a sweep: a page, pictures, and the best point as a config that can be trained."""

from __future__ import annotations

from kdltr_core.config import RunConfig
from kdltr_core.sweep import Trial, finished
from kdltr_core.sweep_pictures import draw_sweep
from kdltr_core.sweep_report import sweep_markdown
from kdltr_core.verdict import Verdict
from pipelines.importances import importances
from pipelines.sweep_folder import SweepFolder


def write_report(folder: SweepFolder, config: RunConfig, num_words: int, verdict: Verdict | None) -> None:
    """report/ and best.yaml from the trials that have ended, few or many.

    Args:
        config: of the run whose point was searched.
        num_words: of the validation split.
        verdict: of the confirmation, where it came to one.
    """
    trials = [entry.to_trial() for entry in folder.trials.ended]
    found = importances(trials, folder.space)
    folder.report.mkdir(exist_ok=True)
    page = sweep_markdown(config.name, trials, folder.space, found, num_words=num_words, verdict=verdict)
    folder.table.write_text(page, encoding="utf-8")
    if trials:
        draw_sweep(folder.report, trials, folder.space, found, num_words=num_words)
    best = best_trial(trials, verdict)
    if best is not None:
        winner = config.override({**best.params, "name": f"{config.name}-best"})
        said = [f"Trial {best.number} of the sweep {config.name}: {best.value:.2f} % of the validation words."]
        said += [verdict.sentence] if verdict else ["Not confirmed: the best of several is flattered by chance."]
        folder.best.write_text("".join(f"# {sentence}\n" for sentence in said) + winner.to_yaml(), encoding="utf-8")


def best_trial(trials: list[Trial], verdict: Verdict | None) -> Trial | None:
    """The confirmation's winner, else the best on the validation split; None before any trial came to its end."""
    ranked = finished(trials)
    if verdict is not None:
        return next(trial for trial in ranked if title(trial) == verdict.winner.name)
    return ranked[0] if ranked else None


def title(trial: Trial) -> str:
    """As verdict and tables name it."""
    return "the published point" if trial.is_published else f"trial {trial.number}"


def summary_metrics(trials: list[Trial], verdict: Verdict | None) -> dict[str, float]:
    """What the sweep's own run shows in figures."""
    best, own = best_trial(trials, verdict), next((t for t in finished(trials) if t.is_published), None)
    metrics = {f"sweep/num_{state.lower()}": 0.0 for state in ("FINISHED", "PRUNED", "FAILED")}
    for trial in trials:
        metrics[f"sweep/num_{trial.state.lower()}"] += 1
    if best is not None and best.value is not None:
        metrics["sweep/best_word_accuracy"] = best.value
    if own is not None and own.value is not None:
        metrics["sweep/published_word_accuracy"] = own.value
    if verdict is not None:
        gain = verdict.winner
        metrics |= {"confirmation/gain": gain.points, "confirmation/low": gain.low, "confirmation/high": gain.high}
    return metrics
