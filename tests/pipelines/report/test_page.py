"""The report's files: what is in them, what is not, and how large they are."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.calibration import calibrate
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES
from kdltr_core.metrics import mcnemar
from pipelines.report.contents import ReportContents
from pipelines.report.page import render_page, write_page_files
from tests.kdltr_core.evaluation.tables import table_of
from tests.pipelines.report.made import TWO_STAGE, Stripes, made_up


@pytest.fixture(scope="module")
def made():
    return made_up(300)


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    """The folder of a report, and the files that the writer says it wrote."""
    folder = tmp_path_factory.mktemp("made") / "report"
    return folder, write_page_files(folder, *made)


@pytest.fixture(scope="module")
def page(written):
    return (written[0] / "report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What could be fetched, and where links lead."""

    def __init__(self):
        super().__init__()
        self.addresses, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)


def test_nothing_on_the_page_lies_elsewhere_and_links_within_it_lead_somewhere(page):
    outline = Outline()
    outline.feed(page)
    assert all(address.startswith(("data:", "#")) for address in outline.addresses)
    assert not re.search(r"url\((?!#)|@import|http-equiv=\"refresh", page)
    assert "default-src 'none'" in page
    assert {"accuracy", "pairs", "harm", "confusions", "calibration", "words"} <= set(outline.ids)
    assert {a[1:] for a in outline.addresses if a.startswith("#")} <= set(outline.ids)


def test_the_title_names_run_date_and_commit(page):
    title = page[page.index("<title>") : page.index("</title>")]
    assert title == "<title>Made up &lt;b&gt;&amp; nothing&lt;/b&gt; · 2026-11-27, commit 0123456789"


def test_a_cell_where_the_student_reads_less_is_marked_and_more_so_where_it_is_more_than_chance(page):
    cells = re.findall(r'<td class="number (behind|harm)" data-value="([^"]*)"', page)
    assert sorted(cells) == [("behind", "-1"), ("harm", "-30")]


def test_a_readers_calibration_error_stands_beside_the_one_without_its_temperature(page):
    report, _ = made_up(300)
    words = report.words
    sure = np.array([w.predictions[STUDENT_LOW_RES].confidence for w in words]) ** 0.5
    expected = calibrate(sure.tolist(), report.table.correct[STUDENT_LOW_RES])
    assert report.uncalibrated == {STUDENT_LOW_RES: expected}
    assert page.count("ECE without temperature") == 1


def test_text_is_text_whatever_it_is():
    labels = ["<script>alert(1)</script>", "a&b", '"><img src=x>']
    column = {STUDENT_LOW_RES: ["<i>x", "&amp;", "'\">"], TEACHER_ENLARGED: labels}
    readers = [BenchmarkReader(c, lambda batch: [], "<b>", "&") for c in column]
    report = ReportContents(table_of({"<set>": labels}, {"<set>": column}), title="</title><script>", readers=readers)
    page = render_page(report, {"<set>": Stripes("<set>", labels)})
    outline = Outline()
    outline.feed(page)
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<i>x" not in page
    assert "x" not in outline.addresses


def test_every_two_readers_are_tested(made):
    report, _ = made
    assert len(report.pairs) == 6
    pair = next(p for p in report.pairs if (p.first, p.second) == (TEACHER_ENLARGED, STUDENT_LOW_RES))
    first, second = ([r.is_correct(c) for r in report.words] for c in (TEACHER_ENLARGED, STUDENT_LOW_RES))
    assert pair.test == mcnemar(first, second)
    assert pair.test.only_first == sum(a and not b for a, b in zip(first, second, strict=True))


def test_words_that_only_one_reads_are_shown_with_both_pictures(page, made):
    report, _ = made
    words = page[page.index('<section id="words">') :]
    for first, second in ((STUDENT_LOW_RES, TEACHER_ENLARGED), (TEACHER_ENLARGED, STUDENT_LOW_RES)):
        alone = sum(r.is_correct(first) and not r.is_correct(second) for r in report.words)
        assert f"Only {first.title} is correct, not {second.title}" in words
        assert f"{alone} of 300 words, 8 shown" in words
    assert words.count("<img") == 2 * 16


def test_the_files_agree_with_one_another(written):
    folder, files = written
    assert sorted(f.name for f in files) == ["predictions.parquet", "report.html", "report.json"]
    assert sorted(folder.iterdir()) == sorted(files)
    tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    predictions = pq.read_table(folder / "predictions.parquet").to_pydict()
    share = np.mean(predictions["student_low_res_correct"])
    assert tree["table"]["weighted_mean"]["student_low_res"]["accuracy"] == pytest.approx(share)
    assert f"{100 * share:.2f}" in (folder / "report.html").read_text(encoding="utf-8")
    sure = np.array(predictions["student_low_res_confidence"])
    assert tree["calibration"]["student_low_res"]["confidence"] == pytest.approx(sure.mean(), abs=1e-6)
    assert len(tree["mcnemar_all_pairs"]) == 6


def test_the_same_figures_give_the_same_page(made, page):
    assert render_page(*made_up(300)) == page


@pytest.mark.parametrize("columns", [(STUDENT_LOW_RES,), (TEACHER_HIGH_RES,), (STUDENT_LOW_RES, TWO_STAGE)])
def test_what_there_is_nothing_of_is_left_out(columns):
    report, packs = made_up(20, columns=columns)
    page = render_page(report, packs)
    assert ('<section id="pairs">' in page) == (len(columns) > 1)
    assert ('<section id="words">' in page) == (columns == (STUDENT_LOW_RES, TWO_STAGE))


@pytest.mark.long
def test_a_report_on_100_000_words_stays_under_20_megabytes(tmp_path):
    """Three readers, so 300,000 predictions; all of them are in the Parquet file."""
    report, packs = made_up(100_000, columns=(TEACHER_ENLARGED, STUDENT_LOW_RES, TWO_STAGE))
    files = write_page_files(tmp_path, report, packs)
    assert sum(file.stat().st_size for file in files) < 20e6
    assert (tmp_path / "report.html").stat().st_size < 1e6
    assert pq.read_metadata(tmp_path / "predictions.parquet").num_rows == 100_000
