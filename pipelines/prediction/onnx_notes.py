"""What an exported file says of itself, so that whoever reads with it needs nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.weights import read_metadata

FORMAT = "kdltr-reading-1"


def describe_export(student: Path, recognizer: Recognizer) -> dict[str, str]:
    """Names and texts for a file's metadata.

    Args:
        student: the weights that the recognizer was loaded from.
    """
    height, width = recognizer.image_size
    return {
        "format": FORMAT,
        "recognizer": read_metadata(student)["recognizer"],
        "weights": "float32",
        "source_sha256": hashlib.sha256(student.read_bytes()).hexdigest(),
        "image_size": json.dumps(recognizer.image_size),
        "charset": recognizer.charset.name,
        "characters": recognizer.charset.characters,
        "pixels": f"uint8 (N, 3, {height}, {width}): RGB; the picture of one word, resized bicubically to this size "
        "whatever its aspect",
        "classes": "int64 (N, 26): class i is characters[i - 1], 0 is the end of the word",
        "probabilities": "float32 (N, 26): of each class, given the picture and the other characters; 1 behind the end",
        "confidence": "product of a row of probabilities: of the whole reading, its end included, in [0, 1]",
    }
