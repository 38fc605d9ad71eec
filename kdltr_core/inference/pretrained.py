"""Recognizers that come with the package, by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from kdltr_core.config import RecognizerName, Trained, nearest
from kdltr_core.remote import is_uri

DEFAULT_STUDENT = "parseq_tiny"


@dataclass(frozen=True)
class PretrainedModel:
    """One of them, as ``assets/models.json`` describes it.

    Attributes:
        name: by which it is called.
        recognizer: its family and size.
        role: "student" reads 16×64, "teacher" 32×128.
        file: its weights, in the package.
        parameters: how many.
        trained_on: the words it learnt from.
        licence: of the weights.
        word_accuracy: in % (36 characters) by benchmark; of a teacher on enlarged low_res.
        reproduce: the command that trained or measured it.
        temperature: of its confidences, where its file does not say it.
    """

    name: str
    recognizer: RecognizerName
    role: Trained
    file: str
    parameters: int
    trained_on: str
    licence: str
    word_accuracy: dict[str, float]
    reproduce: str
    temperature: float = 1.0

    @property
    def path(self) -> Path:
        return Path(str(resources.files("kdltr_core.assets"))) / self.file


@cache
def pretrained_models() -> dict[str, PretrainedModel]:
    """All of them, by name."""
    described = json.loads(resources.files("kdltr_core.assets").joinpath("models.json").read_text(encoding="utf-8"))
    return {name: PretrainedModel(name, **model) for name, model in described.items()}


def pretrained(name: str | Path) -> PretrainedModel | None:
    """The one of that name, unless a file or folder here is called so."""
    return None if Path(name).exists() else pretrained_models().get(str(name))


def in_whole(place: str) -> str:
    """What another process, in another folder, finds under it as well: a path in whole, a name or URI as it is."""
    path = Path(place).expanduser()
    is_name = pretrained(place) is not None or (len(path.parts) == 1 and not path.exists())
    return place if is_uri(place) or is_name else str(path.absolute())


def unknown_model(name: str | Path) -> str:
    """What to say of a name that is neither a model nor a file: the nearest, and how to list them."""
    return f"there is no model, file or folder {str(name)!r}{nearest(str(name), pretrained_models())}; " + (
        "kdltr models lists those that come with the package"
    )
