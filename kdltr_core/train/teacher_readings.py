"""The teacher of a run as a reader of pictures without labels."""

from __future__ import annotations

import hashlib

from kdltr_core.config import RunConfig
from kdltr_core.data.pack import Pack
from kdltr_core.data.readings import WordReader
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import Progress
from kdltr_core.inference.batched import read_with_recognizer
from kdltr_core.train.build import load_teacher, teacher_file, teacher_name


def teacher_reader(config: RunConfig, progress: Progress | None = None) -> WordReader | None:
    """Reads high_res in float32, on the GPU if there is one; None where the config has no unlabelled roots.

    Args:
        progress: called with (pictures read, pictures in all).

    Raises: ValueError as ``teacher_file``.
    """
    if not config.data.unlabelled_roots:
        return None
    decides = f"{teacher_name(config)} {config.recognizer.num_iterations}\n".encode()
    digest = hashlib.blake2b(decides + teacher_file(config).read_bytes(), digest_size=16)

    def read(pack: Pack) -> tuple[list[str], list[float]]:
        world = DistributedContext(device=DistributedContext.current().device)
        predictions = read_with_recognizer(
            load_teacher(config, world.device),
            pack,
            "high_res",
            world=world,
            precision="float32",
            progress=progress,
        )
        return [word.text for word in predictions], [word.confidence for word in predictions]

    return WordReader(digest.hexdigest(), read)
