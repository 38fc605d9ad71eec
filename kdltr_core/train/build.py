"""A run's teacher and student, as its config says."""

from __future__ import annotations

from pathlib import Path

import torch

from kdltr_core.config import RecognizerName, RunConfig
from kdltr_core.inference.pretrained import pretrained, pretrained_models
from kdltr_core.inference.weights_files import stated_temperature
from kdltr_core.recognizers import Recognizer, build_student, build_teacher
from kdltr_core.recognizers.weights import load_part, load_weights, start_from_teacher
from kdltr_core.remote import fetch
from kdltr_core.train.distiller import check_pair, needs_teacher

BUNDLED_TEACHERS = {model.recognizer: name for name, model in pretrained_models().items() if model.role == "teacher"}


def teacher_name(config: RunConfig) -> RecognizerName:
    """The teacher's family and size: the student's own unless the config says otherwise."""
    return config.recognizer.teacher_name or config.recognizer.name


def teacher_file(config: RunConfig) -> Path:
    """The teacher's checkpoint file; one in an object store is fetched.

    Raises: ValueError if none is named or it is not there, or if 'bundled' is asked for a recognizer that no teacher is
        bundled for; as ``fetch``.
    """
    return _checkpoint_file("teacher_weights", teacher_name(config), config)


def start_file(config: RunConfig) -> Path | None:
    """The checkpoint that is started from in place of the teacher's; None: the teacher's.

    Raises: ValueError as ``teacher_file``.
    """
    given = config.recognizer.student_weights
    return _checkpoint_file("student_weights", config.recognizer.name, config) if given else None


def _checkpoint_file(field: str, name: RecognizerName, config: RunConfig) -> Path:
    """By the name of a pretrained model, a path or a URI."""
    given = getattr(config.recognizer, field)
    if given == "bundled":
        if name not in BUNDLED_TEACHERS:
            raise ValueError(
                f"no teacher of {name} comes with the package: give its checkpoint, for instance the official one, "
                f"with --recognizer.{field.replace('_', '-')} FILE"
            )
        return pretrained_models()[BUNDLED_TEACHERS[name]].path
    if not given:
        bundled = " or 'bundled'" if name in BUNDLED_TEACHERS else ""
        raise ValueError(
            f"recognizer.{field} is empty, but the student learns or starts from a teacher: give --recognizer."
            f"{field.replace('_', '-')} FILE{bundled}, or train without one by --objective.name supervised "
            "--recognizer.student-start random"
        )
    if model := pretrained(given):
        return model.path
    path = fetch(given, config.data.cache_folder)
    if not path.is_file():
        raise ValueError(f"there is no checkpoint file {path}; correct --recognizer.{field.replace('_', '-')}")
    return path


def load_teacher(config: RunConfig, device: torch.device) -> Recognizer:
    """The frozen teacher, in evaluation mode. Raises: ValueError if its file does not fit."""
    return _load(config, teacher_name(config), teacher_file(config), device)


def config_of_student(student: Path) -> RunConfig:
    """The config of the run that made a student's file. Raises: ValueError if it does not lie beside the file."""
    path = student.with_name("config.yaml")
    if not path.is_file():
        raise ValueError(f"there is no config.yaml beside {student}, which would name its teacher")
    return RunConfig.from_yaml(path)


def teacher_of_student(student: Path, cache_folder: str | Path) -> Recognizer:
    """The teacher that the config beside a student's file names, on the CPU. Raises: ValueError as ``teacher_file``."""
    config = config_of_student(student).override({"data.cache_folder": str(cache_folder)})
    return load_teacher(config, torch.device("cpu"))


def _load(config: RunConfig, name: RecognizerName, file: Path, device: torch.device) -> Recognizer:
    teacher = _with_iterations(build_teacher(name), config)
    load_weights(teacher, file)
    if file.suffix == ".safetensors":
        teacher.temperature = stated_temperature(file)
    return teacher.eval().requires_grad_(False).to(device)


def _with_iterations(recognizer: Recognizer, config: RunConfig) -> Recognizer:
    if recognizer.num_iterations:
        recognizer.num_iterations = config.recognizer.num_iterations or recognizer.num_iterations
    return recognizer


def build_trained(config: RunConfig, device: torch.device) -> Recognizer:
    """What is trained, to be loaded: a student, or a recognizer of high_res where the config's resolution is that."""
    settings = config.recognizer
    teaches = settings.trained == "teacher"
    made = build_teacher(settings.name) if teaches else build_student(settings.name, settings.student_form)
    return _with_iterations(made, config).to(device)


def build_pair(config: RunConfig, device: torch.device) -> tuple[Recognizer, Recognizer | None]:
    """What is trained with its first weights, and the teacher where the objective needs one.

    Raises: ValueError if a checkpoint file does not fit, or the two do not.
    """
    settings, cache_folder = config.recognizer, config.data.cache_folder
    student = build_trained(config, device)
    teacher = load_teacher(config, device) if needs_teacher(config.objective) else None
    if teacher is not None:
        check_pair(student, teacher)
    if file := start_file(config):
        _start_from(student, file, config, device)
    elif settings.student_start != "random":
        start_from_teacher(student, teacher or load_teacher(config, device), settings.student_start)
    if settings.language_weights:
        load_part(student, "language", fetch(settings.language_weights, cache_folder))
    return student, teacher


def _start_from(student: Recognizer, file: Path, config: RunConfig, device: torch.device) -> None:
    """From a checkpoint of the very same recognizer, or, in the published form, of that for high_res."""
    try:
        load_weights(student, file)
    except ValueError:
        if student.enlarges or config.recognizer.trained == "teacher":
            raise
        start_from_teacher(student, _load(config, config.recognizer.name, file, device), "teacher")
