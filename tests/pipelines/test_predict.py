"""predict.py: words of files, folders, standard input and LMDBs, in every format; what is unreadable is passed over."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kdltr_core import Prediction, load_student
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.files import locked
from pipelines.predict import main
from pipelines.prediction.cluster import JOB_FILE, LOCK_FILE
from pipelines.prediction.options import Format
from pipelines.prediction.output import as_dict, open_output
from pipelines.prediction.predictions import PredictedWord
from tests.kdltr_core.data.sets import paired_records, write_records
from tests.service import word_picture

ROOT = Path(__file__).parents[2]
WORDS = ("HOTEL", "Cafe", "exit", "Taxi")

Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words in a folder and in one under it, of several formats, beside what is none."""
    folder = tmp_path_factory.mktemp("words")
    for inner in ("in/.cache", "none"):
        (folder / inner).mkdir(parents=True)
    for word, name in zip(WORDS, ("b.png", "a.JPG", "in/c.webp", "in/d.tiff"), strict=True):
        word_picture(word).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:200])
    (folder / "empty.gif").touch()
    (folder / "labels.tsv").write_text("b.png\tHOTEL\n")
    for hidden in ("._b.png", "in/.cache/e.png"):
        (folder / hidden).write_bytes(b"")
    return folder


@pytest.fixture
def predict(student: Path, command: Predict, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Runs the command; gives exit code, stdout and stderr."""

    def run(*arguments: object, standard_input: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(standard_input)))
        return command(main, student, *arguments)

    return run


def test_a_folder_is_read_by_name_and_what_cannot_be_read_is_listed_at_the_end(
    student: Path, folder: Path, predict: Predict
) -> None:
    code, out, err = predict(folder)
    files = [folder / name for name in ("a.JPG", "b.png", "in/c.webp", "in/d.tiff")]
    words = load_student(student, "cpu")(files)
    assert [json.loads(line) for line in out.splitlines()] == [
        as_dict(PredictedWord(str(file), word)) for file, word in zip(files, words, strict=True)
    ]
    assert [word.text for word in words] == ["Cafe", "HOTEL", "exit", "Taxi"]
    assert code == 1
    assert err.splitlines() == [
        "files without an image's name, not read: 1",
        f"skipped {folder}/broken.png: image file is truncated",
        f"skipped {folder}/empty.gif: it is empty (0 bytes)",
        "skipped: 2 of 6",
    ]


def test_a_word_has_its_confidence_and_that_of_each_character() -> None:
    box = [[0, 0], [9.04, 0], [9, 5], [0, 5]]
    word = PredictedWord("a.png", Prediction("Hé", 0.12345678, (0.5, 0.25)), box)
    assert as_dict(word) == {
        "image": "a.png",
        "text": "Hé",
        "confidence": 0.123457,
        "character_confidences": [0.5, 0.25],
        "box": [[0, 0], [9.0, 0], [9, 5], [0, 5]],
    }


def test_names_come_over_standard_input_and_may_be_any(folder: Path, predict: Predict, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9 \x1b[31m.png"
    Path(os.fsdecode(odd)).write_bytes((folder / "b.png").read_bytes())
    names = b"%s\r\n\n%s\n%s/nowhere.png\n" % (os.fsencode(folder / "a.JPG"), odd, os.fsencode(folder))
    for output in ("jsonl", "table"):
        code, out, err = predict("-", "--format", output, standard_input=names)
        assert code == 1
        assert f"skipped {folder}/nowhere.png: No such file or directory" in err
        assert "\x1b" not in out + err
    _, out, _ = predict("-", "--output", tmp_path / "words.parquet", standard_input=names)
    table = pq.read_table(tmp_path / "words.parquet").to_pydict()
    assert out == ""
    assert table["image"] == [f"{folder}/a.JPG", f"{tmp_path}/caf\\xe9 \\x1b[31m.png"]
    assert table["text"] == ["Cafe", "HOTEL"]


def test_every_format_says_the_same(folder: Path, predict: Predict, tmp_path: Path) -> None:
    files = (folder / "a.JPG", folder / "b.png")
    for name in ("words.jsonl", "words.parquet", "words.txt"):
        assert predict(*files, "--output", tmp_path / name)[:2] == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "words.jsonl").read_text().splitlines()]
    table = pq.read_table(tmp_path / "words.parquet")
    rows = table.to_pylist()
    assert table.column_names == list(lines[0]) == ["image", "text", "confidence", "character_confidences"]
    assert [row["text"] for row in rows] == [line["text"] for line in lines] == ["Cafe", "HOTEL"]
    for row, line in zip(rows, lines, strict=True):
        assert row["confidence"] == pytest.approx(line["confidence"], abs=1e-6)
        assert row["character_confidences"] == pytest.approx(line["character_confidences"], abs=1e-6)
    header, first, second = (tmp_path / "words.txt").read_text().splitlines()
    assert header.split()[0] == "text"
    shares = rows[0]["character_confidences"]
    percent = [f"{character} {100 * share:.0f}" for character, share in zip("Cafe", shares, strict=True)]
    assert first.split(maxsplit=3) == [
        "Cafe", f"{100 * rows[0]['confidence']:.1f}", str(files[0]), " ".join(percent),
    ]  # fmt: skip
    assert second.split()[:3:2] == ["HOTEL", str(files[1])]


def test_the_student_reads_low_res_of_pairs(student: Path, predict: Predict, tmp_path: Path) -> None:
    write_records(tmp_path / "sets" / "pairs", paired_records(list("abcde")))
    store = LmdbStore.open(tmp_path / "sets" / "pairs")
    expected = load_student(student, "cpu")([store.image(i, 1) for i in range(1, 6)])
    for root in (tmp_path / "sets", tmp_path / "sets" / "pairs"):
        code, out, _ = predict("--lmdb", root, "--batch-size", 2, "--threads", 1)
        rows = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [row["text"] for row in rows] == [word.text for word in expected]
        assert rows[4]["image"] == f"{tmp_path}/sets/pairs/image_lr-000000005"


def test_an_image_of_too_many_pixels_is_passed_over(folder: Path, predict: Predict) -> None:
    code, out, err = predict(folder / "a.JPG", "--max-pixels", 100)
    assert (code, out) == (1, "")
    assert "pixels, and 100 are the limit" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is nothing to read"),
        (("{folder}/none",), "there is no image in {folder}/none"),
        (("a.png", "--batch-size", "0"), "--batch-size is 0, expected 1 or more"),
        (("a.png", "--output", "{folder}"), "{folder} is a folder; give --output a file in it"),
        (("a.png", "--output", "{folder}/nowhere/words.jsonl"), "there is no folder {folder}/nowhere for --output"),
        (("a.png", "--output", "words.csv"), "expected a name that ends in .parquet, .jsonl, .ndjson, .txt"),
        (("a.png", "--output", "/dev/null"), "/dev/null is not an ordinary file"),
        (("a.png", "--device", "cuda:99"), "there is no device 'cuda:99'"),
        (("--lmdb", "{folder}"), "{folder} is not an LMDB"),
        (("s3://bucket/words",), "s3://bucket/words is a URI"),
        (("a.png", "--ray"), "name it with --output FOLDER"),
        (("a.png", "--ray", "--output", "{folder}/b.png"), "is a file, and --ray writes a folder"),
        (("a.png", "--ray", "--output", "{folder}/x", "--format", "table"), "--ray writes Parquet files, not table"),
        (("a.png", "--ray", "--output", "{folder}"), "{folder} holds something else"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: tuple[str, ...], message: str, folder: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = predict(*(argument.format(folder=folder) for argument in arguments))
    assert (code, out) == (2, "")
    assert message.format(folder=folder) in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("parseq_tny", "{folder}"), "no model, file or folder 'parseq_tny'; did you mean 'parseq_tiny'?"),
        (("{folder}/no-run", "{folder}"), "{folder}/no-run is not a student or teacher that a run made"),
    ],
)
def test_what_is_no_student_is_one_sentence(words: tuple[str, ...], said: str, folder: Path, command: Predict) -> None:
    code, _, err = command(main, *(word.format(folder=folder) for word in words))
    assert code == 2
    assert said.format(folder=folder) in err


def test_images_alone_are_read_by_the_student_that_comes_with_the_package(folder: Path, command: Predict) -> None:
    """And a folder of pictures is no run, so it is read too."""
    _, out, _ = command(main, folder / "a.JPG", folder)
    assert [Path(json.loads(line)["image"]).name for line in out.splitlines()].count("a.JPG") == 2


def test_half_a_file_is_never_there(tmp_path: Path) -> None:
    """Whatever ends the writing, the file is as it was before, and nothing lies beside it."""
    words = [PredictedWord("a.png", Prediction("a", 1.0, (1.0,)))]
    kinds: tuple[Format, ...] = ("jsonl", "parquet", "table")
    for kind in kinds:
        for before in (None, b"as it was"):
            path = tmp_path / "words"
            path.write_bytes(before) if before else path.unlink(missing_ok=True)
            with suppress(KeyboardInterrupt), open_output(kind, str(path), False) as write:
                write(words)
                raise KeyboardInterrupt
            assert (path.read_bytes() if path.exists() else None) == before
            assert [other.name for other in tmp_path.iterdir()] == (["words"] if before else [])


def test_a_full_disk_leaves_the_earlier_file_whole(folder: Path, predict: Predict, small_disk: Path) -> None:
    output = small_disk / "words.jsonl"
    output.write_text("as it was")
    (small_disk / "ballast").write_bytes(bytes(248 * 1024))
    names = os.fsencode(folder / "b.png") + b"\n"
    code, _, err = predict("-", "--output", output, standard_input=names * 40)
    assert code == 1
    assert "No space left" in err
    assert output.read_text() == "as it was"
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "words.jsonl"]


@pytest.mark.long
def test_who_reads_what_is_printed_may_leave_early(student: Path, folder: Path) -> None:
    command = [sys.executable, "pipelines/predict.py", str(student), "-", "--batch-size", "1"]
    names = os.fsencode(folder / "b.png") + b"\n"
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdin
        assert run.stdout
        assert run.stderr
        run.stdin.write(names * 500)
        run.stdin.close()
        assert json.loads(run.stdout.readline())["text"] == "HOTEL"
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 1


@pytest.mark.long
def test_an_interrupted_run_says_so_and_writes_nothing(student: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "words.jsonl"
    command = [sys.executable, "pipelines/predict.py", str(student), "-", "--batch-size", "1", "--output", str(output)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin
        assert run.stderr
        run.stdin.write((os.fsencode(folder / "b.png") + b"\n") * 20_000)
        run.stdin.close()
        while not list(tmp_path.iterdir()) and run.poll() is None:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        assert run.stderr.read().decode() == f"interrupted; {output} was not written\n"
    assert run.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_job_is_left_alone(folder: Path, predict: Predict, tmp_path: Path) -> None:
    job = {"student": "of another", "detect": False, "max_pixels": 64_000_000}
    (tmp_path / JOB_FILE).write_text(json.dumps({**job, "teacher": True}))
    code, _, err = predict(folder, "--ray", "--output", tmp_path)
    assert code == 2
    assert f"{tmp_path} holds words that were read with another student; give another --output" in err
    (tmp_path / JOB_FILE).write_text("{")
    code, _, err = predict(folder, "--ray", "--output", tmp_path)
    assert code == 2
    assert f"{tmp_path / JOB_FILE} is damaged" in err


def test_two_at_a_time_are_refused(folder: Path, predict: Predict, tmp_path: Path) -> None:
    with locked(tmp_path / LOCK_FILE):
        code, _, err = predict(folder, "--ray", "--output", tmp_path)
    assert code == 1
    assert "another process holds" in err


@pytest.mark.long
def test_ray_reads_what_one_process_reads_and_resumes_after_a_kill(
    student: Path, folder: Path, predict: Predict, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    (images / "under").mkdir(parents=True)
    data = [(folder / name).read_bytes() for name in ("a.JPG", "b.png")]
    for i in range(600):
        (images / ("under" if i % 3 else "") / f"{i:03d}.png").write_bytes(data[i % 2])
    (images / "broken.png").write_bytes(data[1][:200])
    output = tmp_path / "words"
    arguments = [str(images), "--ray", "--output", str(output), "--block-size", "2"]
    command = [sys.executable, "pipelines/predict.py", str(student), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as run:
        while len(list(output.glob("*.parquet"))) < 3 and run.poll() is None:
            time.sleep(0.02)
        run.kill()
    early = {path: path.stat() for path in output.glob("*.parquet")}
    assert 3 <= len(early) < 301
    half = output / "half.parquet"
    half.write_bytes(next(iter(early)).read_bytes()[:100])

    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 1
    assert re.search(r"^\d+ of 601 images were read before$", again.stderr, re.MULTILINE)
    assert f"skipped {images}/broken.png: image file is truncated" in again.stderr
    assert not half.exists()
    for path, before in early.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    here = [json.loads(line) for line in predict(images)[1].splitlines()]
    rows = sorted(pq.read_table(output).to_pylist(), key=lambda row: row["image"])
    (broken,) = [row for row in rows if row["error"]]
    assert broken["image"] == f"{images}/broken.png"
    there = [row for row in rows if not row["error"]]
    assert [(row["image"], row["text"]) for row in there] == sorted((row["image"], row["text"]) for row in here)
    sure = {row["image"]: row["confidence"] for row in here}
    assert [row["confidence"] for row in there] == pytest.approx([sure[row["image"]] for row in there], abs=1e-4)

    third = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "601 of 601 images were read before" in third.stderr
    assert third.returncode == 1
