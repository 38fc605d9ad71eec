"""A teacher is trained by the same engine, then taught from, and read beside students and other teachers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdltr_core import load_student
from kdltr_core.charset import Charset94
from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.evaluation.benchmarks import open_readers, read_benchmarks
from kdltr_core.inference.weights_files import export_recognizer, load_recognizer
from kdltr_core.metrics import word_accuracy
from kdltr_core.recognizers import build_teacher
from kdltr_core.recognizers.weights import read_metadata
from kdltr_core.train.build import build_pair, build_trained, load_teacher
from pipelines.report.summary import write_evaluation
from tests.kdltr_core.small import read_words
from tests.kdltr_core.train.runs import Records, config_of, run, write_words

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words"))


def teacher_config(roots: Path, **values: object) -> RunConfig:
    supervised = {"objective__name": "supervised", "recognizer__student_start": "random"}
    return config_of(roots, recognizer__resolution="high_res", **(supervised | values))


@pytest.fixture(scope="module")
def teacher_run(roots: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    """The folder of a run that trained a teacher, and what it recorded."""
    folder = tmp_path_factory.mktemp("teacher-run")
    config = teacher_config(roots, num_steps=3, optim__ema_decay=0.5, optim__learning_rate=1e-3)
    return folder, run(config, folder)[1]


@pytest.fixture(scope="module")
def student_run(roots: Path, teacher_run: tuple[Path, Records], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that distilled that teacher."""
    folder = tmp_path_factory.mktemp("student-run")
    weights = str(teacher_run[0] / "teacher" / "teacher.safetensors")
    run(config_of(roots, num_steps=1, recognizer__teacher_weights=weights), folder)
    return folder


def test_it_reads_high_res_and_says_so_wherever_it_is_recorded(teacher_run: tuple[Path, Records], roots: Path) -> None:
    folder, records = teacher_run
    assert set(records.values[2]) >= {"train/loss", "train/cross_entropy"}
    assert records.values[2]["train/loss"] == records.values[2]["train/cross_entropy"]
    pairs = load_datasets(teacher_config(roots).data, Charset94).validation
    readings = read_words(load_recognizer(folder), pairs, "high_res", batch_size=4, precision="float32")
    best = max(v["validation/word_accuracy"] for v in records.values.values() if "validation/word_accuracy" in v)
    assert 100 * word_accuracy(readings, pairs.labels) == best


def test_its_file_says_its_size_and_is_a_teachers_whole_checkpoint(teacher_run: tuple[Path, Records]) -> None:
    folder, _ = teacher_run
    assert sorted(path.name for path in (folder / "teacher").iterdir()) == ["config.yaml", "teacher.safetensors"]
    assert not (folder / "student").exists()
    metadata = read_metadata(folder / "teacher" / "teacher.safetensors")
    assert (metadata["recognizer"], metadata["image_size"]) == ("parseq_tiny", "[32, 128]")
    shapes = {key: value.shape for key, value in load_recognizer(folder).state_dict().items()}
    assert shapes == {key: value.shape for key, value in build_teacher("parseq_tiny").state_dict().items()}
    assert callable(load_student(folder))


def test_a_student_is_distilled_from_it(student_run: Path, teacher_run: tuple[Path, Records]) -> None:
    config = RunConfig.from_yaml(student_run / "student" / "config.yaml")
    taught_by, trained = load_teacher(config, CPU).state_dict(), load_recognizer(teacher_run[0]).state_dict()
    assert all(torch.equal(value, taught_by[key]) for key, value in trained.items())
    assert load_recognizer(student_run).image_size == (16, 64)


def test_it_starts_at_random_or_from_a_checkpoint_of_its_very_size(
    teacher_run: tuple[Path, Records], student_run: Path, roots: Path
) -> None:
    file = teacher_run[0] / "teacher" / "teacher.safetensors"
    fresh = build_pair(teacher_config(roots), CPU)[0]
    assert fresh.image_size == (32, 128)
    again, no_teacher = build_pair(teacher_config(roots, recognizer__student_weights=str(file)), CPU)
    assert no_teacher is None
    trained = load_recognizer(file).state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in again.state_dict().items())
    assert not torch.equal(fresh.state_dict()["head.weight"], trained["head.weight"])
    of_another_size = teacher_config(
        roots, recognizer__student_weights=str(student_run / "student/student.safetensors")
    )
    with pytest.raises(ValueError, match=r"does not fit Parseq for \(32, 128\) images"):
        build_pair(of_another_size, CPU)


def columns_of(*checkpoints: Path, **options: object) -> list[str]:
    return [reader.column.key for reader in open_readers(checkpoints, CPU, **options)]  # type: ignore[arg-type]


def test_teachers_and_students_are_read_together_each_once(
    teacher_run: tuple[Path, Records], student_run: Path, roots: Path, tmp_path: Path
) -> None:
    teacher, _ = teacher_run
    assert columns_of(teacher) == ["teacher_high_res", "teacher_enlarged"]
    trio = ["teacher_high_res", "teacher_enlarged", "student_low_res"]
    assert columns_of(student_run) == columns_of(student_run, teacher) == columns_of(teacher, student_run) == trio
    # Only what the student's config names is left out, not what was asked for by name.
    assert columns_of(teacher, student_run, with_teacher=False) == trio
    assert columns_of(student_run, with_teacher=False) == ["student_low_res"]

    run(teacher_config(roots, num_steps=0, seed=1), tmp_path / "second")
    run(config_of(roots, num_steps=0), tmp_path / "bundled")
    readers = open_readers([student_run, tmp_path / "second", tmp_path / "bundled"], CPU)
    assert [reader.column.key for reader in readers] == [
        "teacher_high_res:second", "teacher_enlarged:second",
        f"teacher_high_res:{teacher.name}", f"teacher_enlarged:{teacher.name}",
        "teacher_high_res:parseq_tiny_hr", "teacher_enlarged:parseq_tiny_hr",
        f"student_low_res:{student_run.name}", "student_low_res:bundled",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="given twice; name each student and teacher once"):
        open_readers([teacher, teacher / "teacher"], CPU)


def test_the_evaluation_of_a_teacher_alone_has_its_table_and_pictures(
    teacher_run: tuple[Path, Records], roots: Path, tmp_path: Path
) -> None:
    folder, _ = teacher_run
    packs = load_datasets(teacher_config(roots).data, Charset94).benchmarks
    table = read_benchmarks(open_readers([folder], CPU), packs, batch_size=4)
    write_evaluation(tmp_path, table, packs, "teacher")
    assert "| teacher, high_res | teacher, enlarged low_res |" in (tmp_path / "table.md").read_text()
    assert "The teacher reads" in (tmp_path / "summary.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} >= {"table.json", "predictions.parquet", "examples.png"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"objective__name": "distillation"}, "high_res makes a teacher, which objective.name distillation does not"),
        ({"recognizer__student_start": "teacher"}, "cannot be the student_start teacher; give random"),
        ({"recognizer__language_weights": "language.safetensors"}, "parseq_tiny has no language part"),
        ({"recognizer__num_iterations": 3}, "num_iterations is 3 and parseq_tiny corrects no predictions"),
    ],
)
def test_what_cannot_make_a_teacher_is_refused(changes: dict[str, object], sentence: str, roots: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        teacher_config(roots, **changes)


def test_iterations_of_the_config_are_kept_by_what_is_built_and_by_its_file(tmp_path: Path) -> None:
    config = RunConfig().override({"recognizer.name": "abinet", "recognizer.num_iterations": 3})
    with torch.device("meta"):
        plain = RunConfig().override({"recognizer.name": "abinet"})
        assert build_trained(plain, torch.device("meta")).num_iterations == 1
    abinet = build_trained(config, CPU)
    export_recognizer(tmp_path, abinet, abinet.state_dict(), config)
    assert abinet.num_iterations == load_recognizer(tmp_path).num_iterations == 3
