"""State dicts out of checkpoint files: the official and published forms, nothing in them executed."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import safe_globals

_PLACES = ("state_dict_G", "state_dict", "model")
_WRAPPERS = ("module.", "model.")
_STARTS = (b"PK", b"\x80")


class _Unread:
    """Stands for a numpy scalar or its type beside the weights: whatever it is made of, nothing is done with it."""

    def __init__(self, *parts: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


_NUMPY_SCALARS = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint file, in float32; integers as they are.

    Takes safetensors and what ``torch.save`` wrote, in its old format as well: a plain state dict (official PARSeq), or
    a dict that holds one under ``state_dict_G`` (published KD-LTR students), ``state_dict`` (Lightning) or ``model``
    (official ABINet and MATRN). The rest of such a dict is ignored and may be of plain containers, tensors, numbers,
    strings and numpy's scalars. Where all keys begin with ``module.`` or ``model.``, that is taken off, and so is the
    ``_orig_mod.`` of compiled modules wherever it stands.

    Raises: ValueError if the file is missing, is none of these, or holds other pickled objects; OSError if the machine
        refuses to read it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no checkpoint file {path}; give the path of a .safetensors, .pt or .ckpt file")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _find_state_dict(_read_pickle(path), path)
    state = _without_wrappers({key.replace("_orig_mod.", ""): value for key, value in state.items()})
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); fetch or export it again") from error


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(16)
    if not start.startswith(_STARTS):
        raise ValueError(f"{path} is not a whole checkpoint file: it begins with {start!r}; fetch or export it again")
    try:
        with safe_globals([(_Unread, name) for name in _NUMPY_SCALARS]):
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file makes torch raise nearly anything: KeyError, AssertionError, struct.error, UnicodeDecodeError, …
    except Exception as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise ValueError(
                f"{path} holds pickled objects besides weights, {refused[1]} for one, which could run code when "
                "loaded, and is refused; save its state dict alone with torch.save(model.state_dict(), …) or as "
                "safetensors"
            ) from error
        # Of torch's refusal only its reason: the rest advises to load without the restriction.
        reason = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        said = reason[1] if reason else f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path} is not a whole checkpoint file ({said}); fetch or export it again") from error


def _find_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    state, found = content, f"a {type(content).__name__}"
    if isinstance(content, dict):
        state = next((content[place] for place in _PLACES if isinstance(content.get(place), dict)), content)
        found = f"the keys {', '.join(str(key) for key in list(content)[:8])}" if content else "an empty dict"
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{path} holds no state dict: found {found}; expected a mapping from key to tensor, at the top or under "
            f"{', '.join(_PLACES)}"
        )
    return {str(key): value for key, value in state.items()}


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What DataParallel, DDP and Lightning put before every key is taken off, however often it was put there."""
    for wrapper in _WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state):
            return _without_wrappers({key.removeprefix(wrapper): value for key, value in state.items()})
    return state
