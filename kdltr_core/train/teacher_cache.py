"""What a teacher says of every training image, computed once and mapped into memory.

The teacher is frozen and the images it sees are never degraded, so what it computes from an image alone is the same
in every epoch of every run with the same words.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.images import as_float
from kdltr_core.device import autocast
from kdltr_core.files import locked, remedy, whole_folder
from kdltr_core.recognizers import Recognizer

FORMAT_VERSION = 1
_INDEX = "index.json"
# Logits are small, and the losses compare their differences: these alone keep all their digits.
_WHOLE = frozenset({"logits"})


class TeacherCache:
    """The outputs of one teacher on one set of training pairs, one file for every name."""

    def __init__(self, folder: Path) -> None:
        notes = json.loads((folder / _INDEX).read_text())
        self._columns: dict[str, np.ndarray] = {}
        for name, shape in notes["shapes"].items():
            kind = np.float32 if name in _WHOLE else np.int16
            column = np.memmap(folder / f"{name}.bin", kind, "r", shape=tuple(shape))
            self._columns[name] = column

    def gather(self, indices: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """Those of the pairs at ``indices`` (N,): names to float32 tensors (N, …)."""
        gathered = {name: torch.from_numpy(column.take(indices, axis=0)) for name, column in self._columns.items()}
        return {
            name: (values if name in _WHOLE else values.view(torch.bfloat16)).to(device, non_blocking=True).float()
            for name, values in gathered.items()
        }


def open_teacher_cache(
    teacher: Recognizer,
    pairs: TrainingPairs,
    cache_folder: str | Path,
    device: torch.device,
    precision: str,
    batch_size: int = 64,
) -> TeacherCache:
    """The cached outputs of this very teacher on these very pairs, made by the first process that asks.

    Args:
        teacher: in evaluation mode on ``device``.
        cache_folder: they are kept in ``teacher_outputs/`` under it.
        precision: of the teacher's forward pass, as for ``device.autocast``.
        batch_size: of that pass.

    Raises: OSError if they cannot be kept.
    """
    folder = _folder(teacher, pairs, cache_folder, precision)
    home, key = folder.parent, folder.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / f"{key}.lock"):
            if not (folder / _INDEX).is_file():
                with whole_folder(folder) as writing:
                    _write(writing, teacher, pairs, device, precision, batch_size)
    except OSError as error:
        raise OSError(
            f"the teacher's outputs cannot be kept in {home}: {error}; {remedy(error)}, set data.cache_folder to "
            "another folder, or set data.teacher_cache to off"
        ) from error
    return TeacherCache(folder)


def _folder(teacher: Recognizer, pairs: TrainingPairs, cache_folder: str | Path, precision: str) -> Path:
    digest = hashlib.blake2b(digest_size=12)
    # What a teacher computes is its weights and how often it corrects itself.
    what = [FORMAT_VERSION, type(teacher).__name__, teacher.num_iterations, precision, len(pairs)]
    digest.update(json.dumps(what).encode())
    for name, value in sorted(teacher.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for pack in pairs.packs:
        digest.update(pack.fingerprint.encode())
    digest.update(pairs.image_hashes.tobytes())
    return Path(cache_folder).expanduser() / "teacher_outputs" / digest.hexdigest()


@torch.inference_mode()
def _encode(teacher: Recognizer, high_res: Tensor, device: torch.device, precision: str) -> dict[str, np.ndarray]:
    """As it is stored, bfloat16 by its bits."""
    with autocast(device, precision):
        encoded = teacher.encode(as_float(high_res.to(device)))
    return {
        name: (values.float() if name in _WHOLE else values.to(torch.bfloat16).view(torch.int16)).cpu().numpy()
        for name, values in encoded.items()
    }


def _write(
    folder: Path,
    teacher: Recognizer,
    pairs: TrainingPairs,
    device: torch.device,
    precision: str,
    batch_size: int,
) -> None:
    columns: dict[str, np.memmap] = {}
    for start in range(0, len(pairs), batch_size):
        rows = np.arange(start, min(start + batch_size, len(pairs)))
        encoded = _encode(teacher, pairs.gather(rows)[0], device, precision)
        needed = sum(values.nbytes for values in encoded.values()) * len(pairs) // len(rows)
        if not columns and needed > (free := shutil.disk_usage(folder).free):
            raise OSError(errno.ENOSPC, f"they take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
        for name, values in encoded.items():
            if name not in columns:
                shape = (len(pairs), *values.shape[1:])
                columns[name] = np.memmap(folder / f"{name}.bin", values.dtype, "w+", shape=shape)
            columns[name][rows] = values
    for column in columns.values():
        column.flush()
    (folder / _INDEX).write_text(json.dumps({"shapes": {name: column.shape for name, column in columns.items()}}))
