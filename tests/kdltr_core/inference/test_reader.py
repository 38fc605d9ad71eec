"""Images in, words with confidences out: the same from any kind of source, in any batch and in any thread."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kdltr_core
from kdltr_core import Prediction, Reader, UnreadableImage, load_student
from kdltr_core.config import RunConfig
from kdltr_core.data.images import resize
from kdltr_core.inference.weights_files import export_recognizer
from tests.kdltr_core.small import STUDENTS, TEACHERS


@pytest.fixture(scope="module")
def reader() -> Reader:
    torch.manual_seed(0)
    return Reader(STUDENTS["parseq_tiny"](), "cpu", batch_size=3)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (10 + i, 40 + 3 * i, 3), dtype=np.uint8) for i in range(8)]


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def close(words: list[Prediction], expected: list[Prediction]) -> bool:
    return [word.text for word in words] == [word.text for word in expected] and np.allclose(
        [word.confidence for word in words], [word.confidence for word in expected], rtol=1e-4
    )


def test_a_reading_is_the_most_likely_class_of_every_step_and_its_probabilities(
    reader: Reader, pictures: list[np.ndarray]
) -> None:
    image = torch.from_numpy(resize(Image.fromarray(pictures[0]), (16, 64)).copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        probabilities = reader.recognizer(image).logits[0].softmax(-1)
    [word] = reader([pictures[0]])
    best = [probabilities[i].max().item() for i in range(len(word.text) + 1) if i < len(probabilities)]
    assert word.character_confidences == pytest.approx(best[: len(word.text)], rel=1e-4)
    assert word.confidence == pytest.approx(np.prod(best), rel=1e-4)


def test_paths_bytes_pictures_and_arrays_are_read_alike(
    reader: Reader, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    data = encoded(pictures[0])
    path = tmp_path / "word.png"
    path.write_bytes(data)
    kinds = [pictures[0], Image.fromarray(pictures[0]), data, path, str(path)]
    [expected] = reader([pictures[0]])
    assert [reader([kind]) for kind in kinds] == [[expected]] * len(kinds)
    assert reader([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_the_size_of_the_batches_does_not_show(batch_size: int, reader: Reader, pictures: list[np.ndarray]) -> None:
    one_by_one = [reader([picture])[0] for picture in pictures]
    words = Reader(reader.recognizer, "cpu", batch_size=batch_size)(pictures)
    assert close(words, one_by_one)
    assert len({word.confidence for word in words}) == len(pictures), "eight pictures that are told apart"


def test_several_threads_at_once_read_as_one(reader: Reader, pictures: list[np.ndarray]) -> None:
    lazy = Image.open(io.BytesIO(encoded(pictures[0])))
    images = [lazy, *pictures[1:]]
    expected = reader(pictures)
    start = threading.Barrier(4)

    def read_from(number: int) -> list[list[Prediction]]:
        start.wait()
        return [reader(images[number:] + images[:number]) for _ in range(3)]

    with ThreadPoolExecutor(4) as threads:
        for number, readings in enumerate(threads.map(read_from, range(4))):
            assert all(close(words, expected[number:] + expected[:number]) for words in readings)


def test_an_image_that_cannot_be_read_is_named_by_its_place(reader: Reader, pictures: list[np.ndarray]) -> None:
    with pytest.raises(UnreadableImage, match=r"^images\[4\] cannot be read as an image: it is empty"):
        reader([*pictures[:4], b""])


@pytest.mark.parametrize("images", ["word.png", b"PNG", Path("word.png"), Image.new("L", (4, 4)), np.zeros((4, 4, 3))])
def test_a_single_image_is_not_taken_for_a_list(images: object, reader: Reader) -> None:
    with pytest.raises(ValueError, match=r"expected a list of images, also of one: reader\(\[image\]\)"):
        reader(images)  # type: ignore[arg-type]


def test_pixels_of_the_recognizers_size_are_read_as_they_are(reader: Reader, pictures: list[np.ndarray]) -> None:
    batch = np.stack([resize(Image.fromarray(picture), (16, 64)) for picture in pictures])
    assert reader.read_pixels(torch.from_numpy(batch).permute(0, 3, 1, 2)) == reader(pictures)
    assert reader.read_pixels(torch.zeros(0, 3, 16, 64, dtype=torch.uint8)) == []


@pytest.mark.parametrize(
    "pixels", [torch.zeros(1, 3, 16, 64), torch.zeros(1, 16, 64, 3, dtype=torch.uint8), torch.zeros(3, 16, 64).byte()]
)
def test_pixels_of_another_shape_or_type_are_refused(pixels: torch.Tensor, reader: Reader) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(N, \(3, 16, 64\)\)"):
        reader.read_pixels(pixels)


@pytest.fixture(scope="module")
def pair(reader: Reader) -> Reader:
    """The student with a teacher beside it."""
    torch.manual_seed(7)
    return Reader(reader.recognizer, "cpu", batch_size=3, teacher=TEACHERS["parseq_tiny"]())


def test_a_picture_of_many_rows_goes_to_the_teacher_and_a_small_one_to_the_student(
    reader: Reader, pair: Reader, pictures: list[np.ndarray]
) -> None:
    large = [np.repeat(np.repeat(picture, 4, 0), 4, 1) for picture in pictures]
    assert pair.teacher is not None
    by_teacher = Reader(pair.teacher, "cpu")(large)
    mixed = [picture for both in zip(pictures, large, strict=True) for picture in both]
    expected = [word for both in zip(reader(pictures), by_teacher, strict=True) for word in both]
    assert close(pair(mixed), expected)


def test_a_device_that_is_not_there_and_an_empty_batch_are_refused(reader: Reader) -> None:
    for device in ("cuda:99", "abacus"):
        with pytest.raises(ValueError, match=f"there is no device '{device}'"):
            Reader(reader.recognizer, device)
    with pytest.raises(ValueError, match="batch_size is 0"):
        Reader(reader.recognizer, batch_size=0)


def test_a_file_uri_names_the_student_as_its_path_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdltr_core.recognizers import build_student

    torch.manual_seed(1)
    student = build_student("parseq_tiny")
    export_recognizer(tmp_path / "run/student", student, student.state_dict(), RunConfig())
    image = np.random.default_rng(1).integers(0, 256, (16, 64, 3), dtype=np.uint8)
    expected = Reader(student, "cpu")([image])
    assert load_student(tmp_path / "run", "cpu")([image]) == expected
    assert load_student((tmp_path / "run").as_uri(), "cpu")([image]) == expected


def test_the_package_names_what_a_caller_needs() -> None:
    assert all(getattr(kdltr_core, name) for name in kdltr_core.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'load_studnet'"):
        _ = kdltr_core.load_studnet
