"""The report as one HTML page that needs nothing but itself, as Markdown, as JSON, and every reading as Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from kdltr_core.data.pack import Pairs
from kdltr_core.evaluation.table import describe_protocol, write_predictions
from kdltr_core.files import whole_file, write_text
from pipelines.report import tables
from pipelines.report.contents import Evidence
from pipelines.report.figures import reliability_charts, robustness_charts, size_charts
from pipelines.report.look import SCRIPT, STYLE
from pipelines.report.markdown import to_markdown
from pipelines.report.word_pictures import WORDS_A_SIDE, attention_strips, cards, compared, read_by_one

# What a browser is to fetch from anywhere: nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(folder: str | Path, evidence: Evidence, packs: Mapping[str, Pairs]) -> list[Path]:
    """``report.html``, ``report.md``, ``report.json`` and ``predictions.parquet``, each replaced whole.

    Args:
        folder: made where it is missing.
        packs: by set name, what the readings' rows are of; a set that is not there has no pictures.

    Returns: their paths.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": to_html(evidence, packs),
        "report.md": to_markdown(evidence),
        "report.json": json.dumps(evidence.to_tree(), indent=2, ensure_ascii=False) + "\n",
    }
    for name, content in texts.items():
        write_text(folder / name, content)
    with whole_file(folder / "predictions.parquet") as writing:
        write_predictions(writing, evidence.table.words, evidence.table.protocol)
    return [*(folder / name for name in texts), folder / "predictions.parquet"]


def to_html(evidence: Evidence, packs: Mapping[str, Pairs]) -> str:
    """The page; its size grows with readers, not with words."""
    sections = [
        ("accuracy", "Word accuracy", _accuracy(evidence)),
        ("pairs", "Paired tests", _pairs(evidence)),
        ("robustness", "Robustness", _robustness(evidence)),
        ("confusions", "Characters taken for one another", _confusions(evidence)),
        ("sizes", "Length and height", _sizes(evidence)),
        ("calibration", "Calibration", _calibration(evidence)),
        ("words", "Words that only one reads", _words(evidence, packs)),
        ("attention", "Where the reader looks", _attention(evidence)),
        ("readings", "Readings", _readings(evidence)),
    ]
    there = [(name, title, content) for name, title, content in sections if content]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in there)
    body = "\n".join(f'<section id="{name}"><h2>{title}</h2>\n{content}</section>' for name, title, content in there)
    benchmark = evidence.table
    sets = "1 set" if len(benchmark.scores) == 1 else f"{len(benchmark.scores)} sets"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(evidence.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(evidence.title)}</h1>
<p class="quiet">{benchmark.num_words} words in {sets}, {len(evidence.columns)} readers. Protocol:
{escape(describe_protocol(benchmark.protocol))}.</p>
<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _accuracy(evidence: Evidence) -> str:
    times = f" {escape(evidence.times_note)}" if evidence.times_note else ""
    return (
        "<p>Per cent ± one standard error. Bold: the best of those that read the low-resolution picture. "
        "In the weighted mean every word counts alike, in the plain mean every set.</p>"
        f"{tables.main_table(evidence)}"
        '<p class="quiet">MAC: multiply-accumulates of one reading (a word of five characters where the length '
        "matters). 1 − NED: edit similarity. CER: character error rate. –: not known or not counted."
        f"{times}</p>{tables.published_table()}"
    )


def _pairs(evidence: Evidence) -> str:
    if not evidence.pairs:
        return ""
    return (
        "<p>Every two readers on the same words: how many one reads alone and the other does not, and the two-sided "
        "p-value of the exact McNemar test. Standard errors of single readers overlook that the words are the same; "
        "this does not.</p>"
        f"{tables.pairs_table(evidence)}"
    )


def _robustness(evidence: Evidence) -> str:
    if evidence.curves is None:
        return ""
    return (
        f"<p>Word accuracy in per cent, of {evidence.curves.caption}, with bands of one standard error. The first four "
        "make the sets’ own low_res worse, whatever it has been through before. Resolution starts from the source "
        "instead: it is brought to that size, then to the size the reader takes.</p>"
        f"{robustness_charts(evidence.curves, evidence.columns)}"
    )


def _confusions(evidence: Evidence) -> str:
    far = "; ".join(f"{c.title}: {f.num_near} and {f.num_far}" for c, f in evidence.confusions.items())
    return (
        "<p>Readings are aligned with their labels by fewest edits; neighbouring edits are one, so <i>rn</i> can be "
        "taken for <i>m</i>. Words of which more than half is wrong say nothing about single characters and are left "
        "out.</p><h3>Look-alikes</h3>"
        f"{tables.look_alikes_table(evidence)}<h3>Most frequent</h3>{tables.confusions_table(evidence)}"
        f'<p class="quiet">Misread words that were aligned, and that were left out: {escape(far)}.</p>'
    )


def _sizes(evidence: Evidence) -> str:
    alike = {groups[0].label for groups in evidence.by_height.values() if len(groups) == 1}
    note = f" All sources have {alike.pop()} rows, so there is nothing to compare by height." if alike else ""
    return f"<p>Bands are one standard error of the words of that group.{note}</p>{size_charts(evidence)}"


def _calibration(evidence: Evidence) -> str:
    if not evidence.calibrations:
        return ""
    own = any(c.role == "two_stage" for c in evidence.calibrations)
    note = " A two-stage reader’s confidence is its own: the mean over characters, not their product." if own else ""
    return (
        "<p>Whether a reader is as often right as it says. On the dotted line it is; below, it is too sure of itself. "
        "The pale bars say how many words are that sure. ECE: mean distance from the line over ten equal bins, "
        f"weighted by their words. A confidence is the probability of the whole reading.{note}</p>"
        f"{tables.calibration_table(evidence)}{reliability_charts(evidence.calibrations, evidence.columns)}"
    )


def _words(evidence: Evidence, packs: Mapping[str, Pairs]) -> str:
    parts = []
    for student, other in compared(evidence):
        for first, second in ((student, other), (other, student)):
            found = read_by_one(evidence, first, second)
            shown = [reading for reading in found if reading.set_name in packs][:WORDS_A_SIDE]
            if shown:
                parts.append(
                    f"<h3>{escape(first.title)} is right, {escape(second.title)} is not</h3>"
                    f'<p class="quiet">{len(found)} of {len(evidence.readings)} words, {len(shown)} shown: low_res, '
                    f"high_res, readings.</p>{cards(evidence, shown, packs)}"
                )
    return "".join(parts)


def _attention(evidence: Evidence) -> str:
    strips = attention_strips(evidence)
    explained = "<p>Where it glows, the reader looked when it read that character (its last vision step).</p>"
    return explained + strips if strips else ""


def _readings(evidence: Evidence) -> str:
    shown, count = tables.readings_table(evidence)
    which = f"A seeded sample of {count} of the {len(evidence.readings)} words"
    if count == len(evidence.readings):
        which = f"All {count} words"
    sure = ", and how sure it was, in per cent" if evidence.calibrations else ""
    return f"<p>{which}, what each reader made of them{sure}. All are in predictions.parquet.</p>{shown}"
