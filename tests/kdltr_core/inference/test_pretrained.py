"""Models that come with the package are found by name, wherever one stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from kdltr_core import load_student
from kdltr_core.config import LOW_RES_SIZE, RunConfig
from kdltr_core.data.synth.fonts import fonts
from kdltr_core.inference.pretrained import DEFAULT_STUDENT, in_whole, pretrained, pretrained_models
from kdltr_core.inference.weights_files import find_recognizer, load_recognizer
from kdltr_core.train.build import teacher_file


@pytest.mark.parametrize("name", pretrained_models())
def test_each_is_what_its_description_says(name: str) -> None:
    model = pretrained_models()[name]
    recognizer = load_recognizer(name)
    assert sum(parameter.numel() for parameter in recognizer.parameters()) == model.parameters
    assert (recognizer.image_size == LOW_RES_SIZE) == (model.role == "student")
    assert model.path.stat().st_size < 13e6
    assert all(0 < accuracy < 100 for accuracy in model.word_accuracy.values())
    assert model.trained_on
    assert model.licence


def test_the_default_student_says_which_teacher_it_had() -> None:
    config = RunConfig.from_yaml(find_recognizer(DEFAULT_STUDENT).with_name("config.yaml"))
    assert teacher_file(config) == pretrained_models()["parseq_tiny_teacher"].path


def test_it_reads_a_small_picture_without_any_training() -> None:
    image = Image.new("RGB", (64, 20), "white")
    ImageDraw.Draw(image).text((2, 1), "KX-4021", "black", ImageFont.truetype(next(iter(fonts())), 14))
    assert [word.text for word in load_student()([image])] == ["KX-4021"]


def test_a_folder_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pretrained(DEFAULT_STUDENT)
    assert in_whole(DEFAULT_STUDENT) == DEFAULT_STUDENT
    (tmp_path / DEFAULT_STUDENT).mkdir()
    assert pretrained(DEFAULT_STUDENT) is None
    assert in_whole(DEFAULT_STUDENT) == str(tmp_path / DEFAULT_STUDENT)


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no model, file or folder 'parseq_tny'; did you mean 'parseq_tiny'.*models"):
        load_student("parseq_tny")
