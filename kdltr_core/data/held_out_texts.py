"""Rendered texts that no training sees: what a student is chosen on, and the harm matrix is read on."""

from __future__ import annotations

from collections.abc import Mapping

from kdltr_core.config import DataConfig, DegradationName, RunConfig, TextKind
from kdltr_core.data.pack import Pack, build_pack
from kdltr_core.data.roots import RenderedSet, rendered_folder
from kdltr_core.files import Progress

TEXTS: dict[str, dict[TextKind, float]] = {
    "words": {"words": 0.7, "names": 0.3},
    "plates and codes": {"plates": 0.4, "codes": 0.3, "random": 0.3},
    "prices and dates": {"prices": 0.35, "dates": 0.35, "numbers": 0.2, "meters": 0.1},
}
IMAGES: dict[str, DegradationName] = {"clean": "none", "camera": "camera", "published": "published"}


def matrix_packs(data: DataConfig, num_words: int, progress: Progress | None = None) -> dict[str, Pack]:
    """``num_words`` rendered texts of each kind under each kind of low resolution, as "words, clean".

    The pictures are the same for every run on a machine, and those of no training.

    Args:
        data: says where they are kept.
        progress: called with (done, total) of what is rendered or packed.
    """
    return {
        f"{text}, {image}": _held_out(data, "matrix", num_words, shares, degradation, progress)
        for text, shares in TEXTS.items()
        for image, degradation in IMAGES.items()
    }


def selection_texts(config: RunConfig, progress: Progress | None = None) -> Pack | None:
    """Rendered texts, the three kinds alike, under ``mixed``: what a student is chosen on beside held-out words.

    Other pictures than those of ``matrix_packs``; None where a run makes a teacher, or asks for none.
    """
    if not config.selection_words or config.recognizer.trained == "teacher":
        return None
    shares: dict[TextKind, float] = {kind: share for of_text in TEXTS.values() for kind, share in of_text.items()}
    return _held_out(config.data, "selection", config.selection_words, shares, "mixed", progress)


def _held_out(
    data: DataConfig,
    name: RenderedSet,
    num_words: int,
    shares: Mapping[TextKind, float],
    degradation: DegradationName,
    progress: Progress | None,
) -> Pack:
    config = data.model_copy(update={"text_shares": dict(shares)})
    folder = rendered_folder(config, name, num_words, progress)
    return build_pack(folder, config.cache_folder, degradation, progress=progress)
