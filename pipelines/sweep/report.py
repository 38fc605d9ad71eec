"""A sweep as a page of Markdown: what came of it, how sure that is, and what was tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kdltr_core.evaluation.significance import SignificanceTest, signed
from kdltr_core.evaluation.table import markdown_rows
from pipelines.sweep.sweep import Importance, Parameter, Trial, finished, noise_note, short


def sweep_markdown(
    name: str,
    trials: Sequence[Trial],
    space: Sequence[Parameter],
    importances: Sequence[Importance],
    *,
    num_words: int,
    verdict: SignificanceTest | None = None,
    notes: Sequence[str] = (),
    num_shown: int = 10,
) -> str:
    """The page of a sweep.

    Args:
        name: of the sweep.
        trials: all of it; none is a sweep that was stopped before its first trial ended.
        space: what was searched.
        importances: none where there were too few trials to tell.
        num_words: of the validation split.
        verdict: of the confirmation, where there was one.
        notes: sentences for the head of the page, a paragraph each.
        num_shown: rows of the table of best trials; the published point has its row in any case.
    """
    states = Counter(t.state for t in trials)
    counts = ", ".join(f"{states[s]} {s.lower()}" for s in ("FINISHED", "PRUNED", "FAILED") if states[s])
    lines = [f"# Sweep {name}", ""]
    if verdict is not None:
        lines += [f"**{verdict.sentence}**", ""]
    lines += [f"{_counted(len(trials), 'trial')}{': ' if counts else ''}{counts}. {noise_note(trials, num_words)}", ""]
    for sentence in notes:
        lines += [sentence, ""]
    if verdict is not None:
        lines += ["## Confirmation", "", *_verdict_lines(verdict), ""]
    lines += ["## Best trials", "", *_trial_lines(trials, space, num_shown), ""]
    lines += ["## Space", "", *markdown_rows([["parameter", "range"], *([p.name, p.to_text()] for p in space)]), ""]
    lines += ["## Importances", "", *_importance_lines(importances), ""]
    errors = Counter(_first_line(t.error) for t in trials if t.state == "FAILED")
    if errors:
        lines += ["## Failed", "", *(f"- {_counted(n, 'trial')}: {error}" for error, n in errors.most_common()), ""]
    return "\n".join(lines[:-1]) + "\n"


def _verdict_lines(verdict: SignificanceTest) -> list[str]:
    level = f"{100 * verdict.level:g} % interval"
    rows = [["point", "accuracy by seed, %", "gain, points", level]]
    gains = {gain.name: gain for gain in verdict.gains}
    for name, accuracies in verdict.accuracies.items():
        row = [name, " ".join(f"{a:.2f}" for a in accuracies), "", ""]
        if name in gains:
            row[2:] = [signed(gains[name].points), f"{signed(gains[name].low)} … {signed(gains[name].high)}"]
        rows.append(row)
    note = (
        f"{verdict.num_seeds} seeds, {verdict.num_words:,} words. The intervals allow for other seeds and other words, "
        "and hold all at once."
    )
    return [
        *markdown_rows(rows),
        "",
        note if verdict.num_seeds > 1 else "One seed: the intervals allow for words only.",
    ]


def _trial_lines(trials: Sequence[Trial], space: Sequence[Parameter], num_shown: int) -> list[str]:
    ranked = finished(trials)
    if not ranked:
        return ["No trial ran to its end."]
    shown = ranked[:num_shown] + [t for t in ranked[num_shown:] if t.is_published]
    rows = [["trial", "accuracy, %", *(p.name for p in space)]]
    for trial in shown:
        number = f"{trial.number} (published)" if trial.is_published else str(trial.number)
        rows.append([number, f"{trial.value:.2f}", *(short(trial.params[p.name]) for p in space)])
    left_out = len(ranked) - len(shown)
    more = ["", f"{left_out} more ran to their end."] if left_out else []
    return markdown_rows(rows) + more


def _importance_lines(importances: Sequence[Importance]) -> list[str]:
    if not importances:
        return ["Too few trials, or too much alike, to tell what mattered."]
    rows = [["parameter", "share, %", "by chance, %", "beyond chance"]]
    rows += [
        [i.name, f"{100 * i.share:.0f}", f"{100 * i.chance:.0f}", "yes" if i.is_beyond_chance else "no"]
        for i in importances
    ]
    note = (
        "Share of each parameter in what sets the best third of the trials apart (PED-ANOVA; pruned trials count with "
        "the best accuracy read of them, failed ones not). By chance: the share that a "
        "parameter would have, the others as they are, with what the first of all reaches in one sweep of twenty in "
        "which none mattered."
    )
    return [*markdown_rows(rows), "", note]


def _first_line(error: str) -> str:
    return error.strip().partition("\n")[0] or "without a word"


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
