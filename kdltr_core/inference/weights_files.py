"""What a run made, a student or a teacher: written once, loaded anywhere, without training state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, RunConfig, StudentForm, Trained
from kdltr_core.files import NotWritten, remedy, whole_file
from kdltr_core.inference.pretrained import pretrained, pretrained_models, unknown_model
from kdltr_core.recognizers import Recognizer, build_student, build_teacher
from kdltr_core.recognizers.weights import load_weights, read_metadata, recognizer_metadata, save_student
from kdltr_core.remote import ObjectStore, fetch, is_uri, local_path, under

FILES: dict[Trained, str] = {trained: f"{trained}.safetensors" for trained in get_args(Trained)}


def export_recognizer(
    folder: Path, recognizer: Recognizer, state: Mapping[str, Tensor], config: RunConfig, **notes: str
) -> Path:
    """Write weights and config into a folder; each file is replaced whole.

    Returns: the weights' path, ``student.safetensors`` or ``teacher.safetensors`` as the config says.
    Raises: NotWritten; what the folder held before is untouched.
    """
    path = folder / FILES[config.recognizer.trained]
    if recognizer.num_iterations:
        notes["num_iterations"] = str(recognizer.num_iterations)
    if recognizer.temperature != 1:
        notes["temperature"] = str(recognizer.temperature)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "config.yaml") as config_file, whole_file(path) as weights_file:
            save_student(weights_file, state, {**recognizer_metadata(config.recognizer.name, recognizer), **notes})
            config_file.write_text(config.to_yaml(), encoding="utf-8")
    except (SafetensorError, OSError) as error:
        raise NotWritten(f"{path} could not be written ({error}); {remedy(error)}") from error
    return path


def find_recognizer(path: str | Path) -> Path:
    """The weights of a run folder, of the folder in it, the file itself, or what a name of ``pretrained_models`` means.

    Raises: ValueError if there are none.
    """
    if model := pretrained(path):
        return model.path
    path = Path(path).expanduser()
    if not path.exists() and len(path.parts) == 1:
        raise ValueError(unknown_model(path))
    for candidate in (path, *(path / file for file in FILES.values()), *(path / t / FILES[t] for t in FILES)):
        if candidate.is_file() and candidate.suffix == ".safetensors":
            return candidate
    raise ValueError(
        f"{path} is not a student or teacher that a run made: expected {' or '.join(FILES.values())}, a folder that "
        "holds it, or the folder of a finished run"
    )


def load_recognizer(path: str | Path) -> Recognizer:
    """The student or teacher that a run made, in evaluation mode; its ``image_size`` says which.

    Raises: ValueError if the file is not of this software, or of another recognizer, charset or image size than it
        says.
    """
    file = find_recognizer(path)
    metadata = read_metadata(file)
    if "recognizer" not in metadata:
        raise ValueError(
            f"{file} does not say which recognizer it is of; export it with this software, or use load_weights"
        )
    if metadata.get("image_size") == json.dumps(HIGH_RES_SIZE):
        recognizer = build_teacher(metadata["recognizer"])
    else:
        form = TypeAdapter(StudentForm).validate_python(metadata.get("student_form", "published"))
        recognizer = build_student(metadata["recognizer"], form)
    for key, expected in recognizer_metadata(metadata["recognizer"], recognizer).items():
        if metadata.get(key) != expected:
            raise ValueError(f"{file} says {key} {metadata.get(key)!r}, this version reads {expected!r}")
    if recognizer.num_iterations:
        recognizer.num_iterations = int(metadata.get("num_iterations", recognizer.num_iterations))
    load_weights(recognizer, file)
    recognizer.temperature = stated_temperature(file)
    return recognizer.eval()


def stated_temperature(file: Path) -> float:
    """Of a file's recognizer; of what comes with the package as it is listed."""
    listed = [model.temperature for model in pretrained_models().values() if model.path == file]
    return float(read_metadata(file).get("temperature", listed[0] if listed else 1.0))


def add_notes(file: Path, **notes: str) -> None:
    """Add to the metadata of a safetensors file, which is replaced whole. Raises: NotWritten."""
    try:
        with whole_file(file) as writing:
            save_student(writing, load_file(file), {**read_metadata(file), **notes})
    except (SafetensorError, OSError) as error:
        raise NotWritten(f"{file} could not be written ({error}); {remedy(error)}") from error


def fetch_recognizer(place: str | Path, cache_folder: str | Path) -> Path:
    """What a run made, as a path of this machine: of a URI that and nothing else of the run is fetched, a path stands
    for itself.

    Raises: as ``fetch``; ValueError if nothing that a run made is there.
    """
    place = str(place)
    if pretrained(place):
        return Path(place)
    if is_uri(place) and local_path(place) is None:
        store = ObjectStore(place)
        for trained, file in FILES.items():
            if store.file(f"{trained}/{file}"):
                return fetch(under(place, trained), cache_folder)
        if not store.name.endswith(".safetensors") and not any(store.file(file) for file in FILES.values()):
            raise ValueError(f"{place} is not a student or teacher that a run made, nor the folder of a finished run")
    return fetch(place, cache_folder)
