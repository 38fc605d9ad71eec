"""A finished student: written once, loaded anywhere, without teacher or training state."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from kdltr_core.checkpoint import NotWritten
from kdltr_core.config import RunConfig
from kdltr_core.distiller import as_float
from kdltr_core.recognizers import Recognizer, build_student
from kdltr_core.recognizers.reading import decode_readings
from kdltr_core.recognizers.weights import describe, load_weights, read_metadata, save_student

STUDENT_FILE = "student.safetensors"


def export_student(
    folder: Path, student: Recognizer, state: Mapping[str, Tensor], config: RunConfig, **notes: str
) -> Path:
    """Write weights and config into a folder; each file is replaced whole. Returns the weights' path.

    Raises: NotWritten; what the folder held before is untouched.
    """
    path = folder / STUDENT_FILE
    writing, config_writing = folder / f".{STUDENT_FILE}.writing", folder / ".config.writing"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_student(writing, state, {**describe(config.recognizer.name, student), **notes})
        config_writing.write_text(config.to_yaml())
        os.replace(writing, path)
        os.replace(config_writing, folder / "config.yaml")
    except (SafetensorError, OSError) as error:
        raise NotWritten(f"the student {path} could not be written ({error}); free some space") from error
    finally:
        for left_over in (writing, config_writing):
            left_over.unlink(missing_ok=True)
    return path


def find_student(path: str | Path) -> Path:
    """The weights of a run folder, a student folder or the file itself. Raises: ValueError if there are none."""
    path = Path(path).expanduser()
    for candidate in (path, path / STUDENT_FILE, path / "student" / STUDENT_FILE):
        if candidate.is_file() and candidate.suffix == ".safetensors":
            return candidate
    raise ValueError(
        f"{path} is not a student: expected {STUDENT_FILE}, a folder that holds it, or the folder of a finished run"
    )


def load_student_module(path: str | Path) -> Recognizer:
    """The student itself, in evaluation mode.

    Raises: ValueError if the file is not a student of this software, or of another recognizer, charset or image size
        than its name says.
    """
    file = find_student(path)
    metadata = read_metadata(file)
    if "recognizer" not in metadata:
        raise ValueError(
            f"{file} does not say which recognizer it is of; export it with this software, or use load_weights"
        )
    student = build_student(metadata["recognizer"])
    for key, expected in describe(metadata["recognizer"], student).items():
        if metadata.get(key) != expected:
            raise ValueError(f"{file} is a student with {key} {metadata.get(key)!r}, this version reads {expected!r}")
    load_weights(student, file)
    return student.eval()


def load_student(path: str | Path) -> Callable[[Sequence[Image.Image | np.ndarray | str | Path]], list[str]]:
    """A reader of images.

    Args:
        path: a run's folder, a student's folder, or ``student.safetensors``.

    Returns: a function from images (PIL, (H, W, 3) uint8 arrays, or file paths; any size) to their readings.
    """
    student = load_student_module(path)

    @torch.inference_mode()
    def read(images: Sequence[Image.Image | np.ndarray | str | Path]) -> list[str]:
        if not images:
            return []
        pixels = np.stack([_pixels(image, student.image_size) for image in images])
        logits = student(as_float(torch.from_numpy(pixels).permute(0, 3, 1, 2))).logits
        return decode_readings(logits, student.charset)

    return read


def _pixels(image: Image.Image | np.ndarray | str | Path, size: tuple[int, int]) -> np.ndarray:
    if isinstance(image, str | Path):
        try:
            image = Image.open(image)
        except OSError as error:
            raise ValueError(f"{image} cannot be read as an image: {error}") from error
    elif isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    return np.asarray(image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BICUBIC))
