"""evaluate.py: from finished students and LMDBs to the table, its files, and one sentence for every mistake."""

import json
import shutil

import lmdb
import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from kdltr_core import load_student
from kdltr_core.config import LOW_RES_SIZE, RunConfig
from kdltr_core.data.images import decode_image, resize
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.synth.render import render_words
from kdltr_core.recognizers import build_student
from kdltr_core.recognizers.weights import save_student
from kdltr_core.train.build import teacher_file
from pipelines.evaluate import main
from tests.service import make_student

NUM_WORDS = 10


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run folder whose student has its first weights, a rendered benchmark, and a cache."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_student(folder / "first-try")
    render_words(folder / "words" / "rendered", NUM_WORDS, seed=1)
    return folder


@pytest.fixture
def evaluate(places, command):
    return lambda *arguments: command(main, *arguments, "--data.cache-folder", places / "cache")


def test_a_run_folder_gives_the_table_and_its_files(places, evaluate, tmp_path):
    output = tmp_path / "evaluation"
    code, out, _ = evaluate(
        places / "first-try", "--data.benchmark-roots", places / "words", "--output-folder", output, "--batch-size", 4,
        "--data.benchmark-degradation", "none",
    )  # fmt: skip
    assert code == 0
    assert "| teacher, high_res | teacher, enlarged low_res | student, low_res |" in out
    assert f"{NUM_WORDS} words in 1 set" in out
    assert out.strip() == (output / "table.md").read_text(encoding="utf-8").strip()
    assert json.loads((output / "table.json").read_text())["num_words"] == NUM_WORDS
    assert Image.open(output / "examples.png").size[0] > 1000

    # The student reads low_res as the benchmark has it; read here one by one, without packs and batches.
    store = LmdbStore.open(places / "words" / "rendered")
    read = load_student(places / "first-try")
    low_res = []
    for i in range(1, NUM_WORDS + 1):
        word = resize(decode_image(store.image(i), "word"), LOW_RES_SIZE)
        Image.fromarray(word).save(tmp_path / f"{i}.png")
        low_res.append(read([tmp_path / f"{i}.png"])[0].text)
    written = pq.read_table(output / "predictions.parquet").to_pydict()
    assert written["student_low_res"] == low_res
    assert written["label"] == [store.label(i) for i in range(1, NUM_WORDS + 1)]
    assert written["set"] == ["rendered"] * NUM_WORDS


@pytest.mark.slow
@pytest.mark.parametrize("under_run", ["", "/student", "/student/student.safetensors"])
def test_a_run_in_a_bucket_is_read_as_the_one_in_the_folder(under_run, places, evaluate, bucket):
    bucket.put_tree(places / "first-try", "runs/first-try")
    bucket.put("runs/first-try/checkpoints/step-00000001/state.pt", b"not asked for")
    bucket.put_tree(places / "words", "words")
    roots = "--data.benchmark-roots"
    here = evaluate(f"{places}/first-try{under_run}", "--no-teacher", roots, places / "words")
    there = evaluate(f"{bucket.uri}/runs/first-try{under_run}", "--no-teacher", roots, f"{bucket.uri}/words")
    assert here[0] == there[0] == 0
    assert here[1] == there[1]
    assert bucket.num_reads("runs/first-try/checkpoints/step-00000001/state.pt") == 0


@pytest.mark.slow
def test_a_teacher_in_a_bucket_is_fetched_to_the_cache_that_is_given(places, evaluate, bucket, tmp_path):
    """Not to the one in the student's config, which may be of another machine."""
    bucket.put("teacher.safetensors", teacher_file(RunConfig()).read_bytes())
    student = tmp_path / "student"
    shutil.copytree(places / "first-try" / "student", student)
    away = {"recognizer.teacher_weights": f"{bucket.uri}/teacher.safetensors", "data.cache_folder": "/proc/nowhere"}
    (student / "config.yaml").write_text(RunConfig().override(away).to_yaml())
    code, out, _ = evaluate(student, "--data.benchmark-roots", places / "words")
    assert code == 0
    assert "| teacher, high_res |" in out


@pytest.mark.slow
def test_what_is_no_run_in_a_bucket_is_refused(places, evaluate, bucket):
    bucket.put("runs/first-try/checkpoints/step-00000001/state.pt", b"not asked for")
    words = ("--data.benchmark-roots", places / "words")
    for uri in ("runs/first-try", "runs/nowhere", "nowhere.safetensors"):
        code, _, err = evaluate(f"{bucket.uri}/{uri}", *words)
        assert code == 2
        assert f"{bucket.uri}/{uri}" in err
    code, _, err = evaluate(places / "first-try", *words, "--output-folder", bucket.uri)
    assert code == 2
    assert "is a URI" in err


def test_the_teacher_can_be_left_out_and_a_student_file_named(places, evaluate):
    file = places / "first-try" / "student" / "student.safetensors"
    code, out, err = evaluate(file, "--no-teacher", "--data.benchmark-roots", places / "words" / "rendered")
    assert code == 0
    assert "teacher" not in out + err
    assert "student, low_res" in out


def test_without_its_teachers_file_the_student_stands_alone(places, evaluate, tmp_path):
    student = tmp_path / "student"
    shutil.copytree(places / "first-try" / "student", student)
    config = RunConfig().override({"recognizer.teacher_weights": "/gone/teacher.safetensors"})
    (student / "config.yaml").write_text(config.to_yaml())
    code, out, err = evaluate(student, "--data.benchmark-roots", places / "words")
    assert code == 0
    assert "teacher," not in out
    assert "without the teacher" in err
    assert "/gone/teacher.safetensors" in err


def test_several_students_are_named_after_their_runs_and_share_one_teacher(places, evaluate, tmp_path):
    shutil.copytree(places / "first-try", tmp_path / "second-try")
    code, out, _ = evaluate(
        places / "first-try", tmp_path / "second-try" / "student", "--data.benchmark-roots", places / "words"
    )
    assert code == 0
    assert "| teacher, high_res | teacher, enlarged low_res | student (first-try), low_res |" in out
    assert "student (first-try), low_res vs. student (second-try), low_res: only the first correct on 0 words" in out


def test_without_roots_words_are_rendered(places, evaluate):
    protocol = ("--protocol", 94)
    code, out, _ = evaluate(places / "first-try", "--no-teacher", "--data.num-rendered-benchmark", 16, *protocol)
    assert code == 0
    assert "Protocol: 94 characters (printable ASCII, case-sensitive). 16 words in 1 set." in out


@pytest.mark.slow
def test_a_report_has_its_files_and_mlflow_has_the_report(places, evaluate, tmp_path):
    output, database = tmp_path / "report", tmp_path / "mlflow.db"
    tracking = ("--tracking-uri", f"sqlite:///{database}", "--experiment", "reports")
    words = ("--data.benchmark-roots", places / "words", "--batch-size", 10)
    sizes = ("--harm-words", 2, "--two-stage")
    code, out, said = evaluate(places / "first-try", *words, "--report", output, *sizes, *tracking)
    assert code == 0
    # Four readers read all words, two the nine cells of the matrix.
    assert f"{4 * NUM_WORDS + 2 * 9 * 2} predictions, up to 1 min" in out + said
    files = {"report.html", "report.json", "predictions.parquet", "harm.md", "harm.png", "harm.json"}
    assert files <= {f.name for f in output.iterdir()}
    tree = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert list(tree["readers"]) == ["teacher_high_res", "teacher_enlarged", "student_low_res", "two_stage"]
    student = tree["readers"]["student_low_res"]
    assert (student["recognizer"], student["method"]) == ("parseq_tiny", "distillation")
    assert student["parameters"] == sum(p.numel() for p in build_student("parseq_tiny").parameters())
    written = pq.read_table(output / "predictions.parquet").to_pydict()
    assert all(0 <= c <= 1 for c in written["student_low_res_confidence"] + written["two_stage_confidence"])
    assert "two-stage, low_res" in out

    client = MlflowClient(f"sqlite:///{database}")
    (run,) = client.search_runs([client.get_experiment_by_name("reports").experiment_id])
    assert run.info.run_name == tree["title"] == "Evaluation of first-try"
    assert run.info.status == "FINISHED"
    share = tree["table"]["weighted_mean"]["student_low_res"]["accuracy"]
    assert run.data.metrics["accuracy"] == pytest.approx(100 * share)
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == files


@pytest.mark.slow
def test_without_tracking_the_report_is_only_a_folder(places, evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--data.benchmark-roots", places / "words", "--harm-words", 0)
    code, _, _ = evaluate(places / "first-try", "--no-teacher", *words, "--report", "here", "--tracking-uri", "")
    assert code == 0
    assert [f.name for f in tmp_path.iterdir()] == ["here"]
    assert json.loads((tmp_path / "here" / "report.json").read_text())["harm"] == {}


def _empty_lmdb(folder):
    folder.mkdir()
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"0")
    return folder


def _student_of(folder, **metadata):
    """A student's file that says something else about itself."""
    folder.mkdir()
    student = build_student("parseq_tiny")
    honest = {"recognizer": "parseq_tiny", "charset": student.charset.name, "image_size": "16x64"}
    save_student(folder / "student.safetensors", student.state_dict(), honest | metadata)
    return folder


def test_mistakes_are_one_sentence_and_exit_code_2(places, evaluate, tmp_path):
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "student.safetensors").write_bytes(b"\x00\x01")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    save_student(tmp_path / "plain.safetensors", {"weight": torch.zeros(1)}, {})
    (tmp_path / "file").write_text("")
    good, words = places / "first-try", ("--data.benchmark-roots", places / "words")
    for arguments, sentence in [
        ((), "expected the folder of a finished run"),
        ((tmp_path / "nowhere", *words), "is not a student"),
        ((tmp_path / "notes.txt", *words), "is not a student"),
        ((tmp_path / "torn", *words), "not a whole safetensors file"),
        ((_student_of(tmp_path / "other", recognizer="abc"), *words), "unknown recognizer 'abc'"),
        ((_student_of(tmp_path / "charset", charset="36"), *words), "charset '36'"),
        ((_student_of(tmp_path / "size", image_size="32x128"), *words), "image_size '32x128'"),
        ((tmp_path / "plain.safetensors", *words), "does not say which recognizer"),
        ((good, good, *words), "given twice"),
        ((good, "--batch-size", 0, *words), "--batch-size is 0"),
        ((good, "--harm-words", -1, *words), "--harm-words is -1"),
        ((good, "--report", "s3://bucket/report", *words), "give the --report as a path"),
        ((good, "--report", tmp_path / "report", "--tracking-uri", "nowhere", *words), "tracking_uri is 'nowhere'"),
        ((good, "--output-folder", tmp_path / "file", *words), "cannot be written"),
        ((good, "--data.max-rejected-fraction", 99, *words), "data.max_rejected_fraction is 99"),
        ((good, "--data.benchmark-roots", tmp_path / "torn"), "is not an LMDB"),
        ((good, "--data.benchmark-roots", _empty_lmdb(tmp_path / "empty")), "known layout"),
    ]:
        code, out, err = evaluate(*arguments)
        assert code == 2, arguments
        assert out == "", arguments
        assert sentence in err, (arguments, err)
        assert err.startswith("error: "), arguments
        assert err.count("\n") == 1, (arguments, err)


def test_a_mistyped_option_is_refused_with_the_nearest(places, evaluate, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate(places / "first-try", "--data.benchmark-root", "x")
    assert stopped.value.code == 2
    assert "--data.benchmark-roots" in capsys.readouterr().err
