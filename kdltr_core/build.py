"""A run's teacher and student, as its config says."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdltr_core.config import RunConfig
from kdltr_core.data.words import TrainingPairs
from kdltr_core.distiller import as_float, needs_teacher
from kdltr_core.recognizers import Recognizer, build_student, build_teacher
from kdltr_core.recognizers.weights import enlargement, fit_enlargement, load_weights, start_from_teacher

BUNDLED_TEACHERS = {"parseq_tiny": "parseq_tiny_hr.safetensors"}
_PAIRS_TO_FIT = 1000


def teacher_file(config: RunConfig) -> Path:
    """The teacher's checkpoint file.

    Raises: ValueError if it is not there, or if 'bundled' is asked for a recognizer that no teacher is bundled for.
    """
    given = config.recognizer.teacher_weights
    if given == "bundled":
        if config.recognizer.name not in BUNDLED_TEACHERS:
            raise ValueError(
                f"no teacher for {config.recognizer.name} comes with the package; "
                "give the official checkpoint as recognizer.teacher_weights, or choose recognizer.name parseq_tiny"
            )
        return Path(str(files("kdltr_core.assets") / BUNDLED_TEACHERS[config.recognizer.name]))
    path = Path(given).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no teacher file {path}; correct recognizer.teacher_weights")
    return path


def load_teacher(config: RunConfig, device: torch.device) -> Recognizer:
    """The frozen teacher, in evaluation mode. Raises: ValueError if its file does not fit."""
    teacher = build_teacher(config.recognizer.name)
    load_weights(teacher, teacher_file(config))
    return teacher.eval().requires_grad_(False).to(device)


def build_pair(
    config: RunConfig, pairs: TrainingPairs | None, device: torch.device
) -> tuple[Recognizer, Recognizer | None]:
    """Student with its first weights, and the teacher where the objective needs one.

    Args:
        pairs: real pairs, for the least-squares patch resampling; None: an empty student, to be loaded.

    Raises: ValueError if a checkpoint file does not fit.
    """
    settings = config.recognizer
    student = build_student(settings.name).to(device)
    if pairs is None:
        return student, None
    starts_from_teacher = not settings.student_weights and settings.student_start != "random"
    teacher = load_teacher(config, device) if starts_from_teacher or needs_teacher(config.objective) else None
    if settings.student_weights:
        load_weights(student, Path(settings.student_weights).expanduser())
    elif teacher is not None and starts_from_teacher:
        start_from_teacher(
            student, teacher, settings.student_start, _enlarge_map(student, teacher, config, pairs).to(device)
        )
    return student, teacher if needs_teacher(config.objective) else None


def _enlarge_map(student: Recognizer, teacher: Recognizer, config: RunConfig, pairs: TrainingPairs) -> Tensor:
    if config.recognizer.patch_resampling != "least_squares":
        return enlargement(student.patch_size, teacher.patch_size, config.recognizer.patch_resampling)
    rows = np.linspace(0, len(pairs) - 1, min(len(pairs), _PAIRS_TO_FIT)).astype(np.int64)
    high_res, low_res = pairs.gather(rows, rows)
    return fit_enlargement(
        as_float(high_res) * 2 - 1, as_float(low_res) * 2 - 1, student.patch_size, teacher.patch_size
    )
