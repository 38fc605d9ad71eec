"""An ONNX file reads as its student does, says all that one needs to know, and is refused where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.table import Column
from kdltr_core.inference.graph import PredictionGraph
from kdltr_core.inference.reader import Reader
from kdltr_core.inference.weights_files import export_recognizer
from pipelines.exporting.onnx_export import describe_export, write_onnx
from pipelines.exporting.onnx_int8 import write_int8
from pipelines.exporting.steps import PredictsOtherwise, check_predictions, cost_of_int8, gather_pixels
from pipelines.prediction.onnx_reader import OnnxReader
from tests.kdltr_core.evaluation.tables import table_of
from tests.kdltr_core.lively import assert_reads_as, lively_student, pictures, read_alone
from tests.pipelines.report.made import Stripes


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, student = tmp_path_factory.mktemp("onnx"), lively_student("parseq_tiny")
    weights = export_recognizer(folder, student, student.state_dict(), RunConfig())
    write_onnx(folder / "student.onnx", PredictionGraph(student), (16, 64), describe_export(weights, student))
    return folder / "student.onnx"


def test_onnx_runtime_reads_as_the_recognizer_does(graph: Path) -> None:
    student, pixels = lively_student("parseq_tiny"), pictures(24).numpy()
    words = read_alone(student, pictures(24))
    assert len({len(word.text) for word in words}) > 4
    for num in (1, 24):
        assert_reads_as(words[:num], *OnnxReader(graph).run(pixels[:num]))
    assert [word.text for word in OnnxReader(graph, batch_size=7).read_pixels(pixels)] == [w.text for w in words]
    assert check_predictions(OnnxReader(graph).run, student, pixels, "student.onnx", quiet) < 1e-3


def test_a_file_says_all_that_is_needed_to_read_with_it(graph: Path, tmp_path: Path) -> None:
    """With onnxruntime, numpy and Pillow alone, as the README has it."""
    Image.fromarray(pictures(1)[0].permute(1, 2, 0).numpy()).resize((128, 32)).save(tmp_path / "plate.png")

    session = onnxruntime.InferenceSession(graph)
    notes = session.get_modelmeta().custom_metadata_map
    height, width = json.loads(notes["image_size"])
    image = Image.open(tmp_path / "plate.png").convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    classes, probabilities = session.run(None, {"pixels": np.asarray(image).transpose(2, 0, 1)[None]})
    text, confidence = "".join(notes["characters"][i - 1] for i in classes[0] if i), probabilities[0].prod()

    (word,) = Reader(lively_student("parseq_tiny"), "cpu")([tmp_path / "plate.png"])
    assert text == word.text != ""
    assert confidence == pytest.approx(word.confidence, abs=1e-4)
    assert (notes["recognizer"], notes["charset"], notes["weights"]) == ("parseq_tiny", "94", "float32")


def test_images_of_any_size_are_read_as_the_student_reads_them(graph: Path) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (20, 70, 3), dtype=np.uint8) for seed in range(3)]
    expected = Reader(lively_student("parseq_tiny"), "cpu", batch_size=1)(images)
    words = OnnxReader(graph)(images)
    assert [word.text for word in words] == [word.text for word in expected]
    for word, other in zip(words, expected, strict=True):
        assert word.confidence == pytest.approx(other.confidence, abs=1e-4)
        assert word.character_confidences == pytest.approx(other.character_confidences, abs=1e-4)
    with pytest.raises(ValueError, match=r"float64 \(1, 3, 16, 64\), expected uint8"):
        OnnxReader(graph).read_pixels(np.zeros((1, 3, 16, 64)))


def test_another_file_is_refused(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(graph.read_bytes()[:1000])
    foreign = onnx.load(graph)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for name in ("cut.onnx", "foreign.onnx", "missing.onnx"):
        with pytest.raises(ValueError, match=f"{name} is not an ONNX file that export.py wrote"):
            OnnxReader(tmp_path / name)


def test_a_graph_that_reads_otherwise_is_refused_and_the_words_are_named(graph: Path) -> None:
    student, pixels = lively_student("parseq_tiny"), pictures(24).numpy()

    def dim(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return OnnxReader(graph).run(pixels // 8)

    def unsure(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        classes, probabilities = OnnxReader(graph).run(pixels)
        return classes, probabilities - np.float32(0.002)

    with pytest.raises(PredictsOtherwise, match=r"student\.onnx was not kept: it reads \d+ of 24 words \('.* for '"):
        check_predictions(dim, student, pixels, "student.onnx", quiet)
    with pytest.raises(PredictsOtherwise, match=r"reads no word otherwise.*differ by up to 0\.00\d+ where"):
        check_predictions(unsure, student, pixels, "student.onnx", quiet)


def test_int8_reads_each_word_the_same_whatever_is_beside_it(graph: Path, tmp_path: Path) -> None:
    pixels = pictures(24).numpy()
    write_int8(tmp_path / "int8.onnx", graph, pictures(64, seed=2).numpy())
    small, whole = OnnxReader(tmp_path / "int8.onnx"), OnnxReader(graph)
    together, alone = small.run(pixels), [small.run(pixels[i : i + 1]) for i in range(len(pixels))]
    np.testing.assert_array_equal(together[0], np.concatenate([classes for classes, _ in alone]))
    np.testing.assert_allclose(together[1], np.concatenate([shares for _, shares in alone]), atol=1e-5)
    # Its rounding shows, and is small: of the first character, which nothing before it has led astray.
    first = np.abs(together[1][:, 0] - whole.run(pixels)[1][:, 0])
    assert 0 < first.max() < 0.2
    assert small.notes.items() >= (whole.notes | {"weights": "int8"}).items()
    model = onnx.load(tmp_path / "int8.onnx")
    weights = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_quantized")]
    assert len(weights) == sum(node.op_type == "QLinearMatMul" for node in model.graph.node) > 5
    assert {weight.dtype for weight in weights} == {np.dtype(np.int8)}
    assert max(np.abs(weight.astype(int)).max() for weight in weights) <= 64  # seven bits


def test_the_cost_counts_words_right_in_one_and_wrong_in_the_other() -> None:
    columns = [Column("student_low_res", name) for name in ("float32", "int8")]
    texts = (["ab", "cd", "ef", "gh"], ["ab", "xx", "yy", "zz"])
    labels = ["AB", "cd!", "ef", "--"]  # the last is not judged
    lost, cost = cost_of_int8(table_of({"words": labels}, {"words": dict(zip(columns, texts, strict=True))}))
    assert lost == pytest.approx(200 / 3)
    assert cost == (
        "word accuracy 33.33 % instead of 100.00 % on 3 words (McNemar p = 0.5); 3 words are read differently"
    )


def test_pictures_are_taken_evenly_from_every_set() -> None:
    packs = {"many": Stripes("many", ["word"] * 90), "few": Stripes("few", ["word"] * 10)}
    pixels = gather_pixels(packs, 20, (16, 64))  # type: ignore[arg-type]
    # The first pixel is the row.
    assert pixels[:, 0, 0, 0].tolist() == [int(x) for x in np.linspace(0, 89, 18)] + [0, 9]
    assert gather_pixels(packs, 20, (32, 128)).shape == (20, 3, 32, 128)  # type: ignore[arg-type]
