"""State dicts into recognizers: a strict report, parts of files, and the student's start from its teacher."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdltr_core.config import RecognizerName
from kdltr_core.recognizers.abinet import AbinetVision
from kdltr_core.recognizers.checkpoint_files import read_state_dict
from kdltr_core.recognizers.recognizer import Recognizer
from kdltr_core.recognizers.registry import build_student, build_teacher

PATCH_KERNEL = "encoder.patch_embed.proj.weight"
PATCH_BIAS = "encoder.patch_embed.proj.bias"
_SHOWN_KEYS = 10


@dataclass(frozen=True)
class WeightReport:
    """What became of every key when a checkpoint met a module.

    Attributes:
        matched: keys that were loaded.
        missing: keys that the module has and the file has not.
        unexpected: keys that the file has and the module has not.
        mis_shaped: key to (shape in the file, shape in the module).
        left_out: of a file that holds more parts than the module, each other part to its number of keys.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mis_shaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every key of the module was there, and no other beside what was left out."""
        return not (self.missing or self.unexpected or self.mis_shaped)

    def __str__(self) -> str:
        """The counts, then the first keys that do not fit."""
        faults = [
            f"of another shape: {key} is {list(there)}, expected {list(here)}"
            for key, (there, here) in self.mis_shaped.items()
        ]
        faults += [f"missing in the file: {key}" for key in self.missing]
        faults += [f"unexpected in the file: {key}" for key in self.unexpected]
        counts = (
            f"{len(self.missing)} are missing, {len(self.unexpected)} unexpected, {len(self.mis_shaped)} of another"
        )
        lines = [f"{len(self.matched)} keys match, {counts} shape", *faults[:_SHOWN_KEYS]]
        if len(faults) > _SHOWN_KEYS:
            lines.append(f"and {len(faults) - _SHOWN_KEYS} more")
        if self.left_out:
            lines.append(_left_out(self.left_out))
        return "\n  ".join(lines)


def _left_out(parts: Mapping[str, int]) -> str:
    return "left out: " + ", ".join(f"{part} ({count} keys)" for part, count in parts.items())


def match_state(module: nn.Module, state: Mapping[str, Tensor]) -> WeightReport:
    """What of a state dict fits a module, key by key."""
    own = module.state_dict()
    shared = [key for key in own if key in state]
    return WeightReport(
        matched=tuple(k for k in shared if own[k].shape == state[k].shape),
        missing=tuple(k for k in own if k not in state),
        unexpected=tuple(k for k in state if k not in own),
        mis_shaped={k: (tuple(state[k].shape), tuple(own[k].shape)) for k in shared if own[k].shape != state[k].shape},
    )


def take_part(state: Mapping[str, Tensor], part: str) -> tuple[dict[str, Tensor], dict[str, int]]:
    """A part out of the state dict of a whole: its own keys, and how many keys each other part has.

    A state dict without keys under the part is the part's own already, and is given back as it is.
    """
    prefix = f"{part}."
    if not any(key.startswith(prefix) for key in state):
        return dict(state), {}
    left_out = Counter(key.split(".")[0] for key in state if not key.startswith(prefix))
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}, dict(left_out)


def owners(state: Mapping[str, Tensor]) -> list[str]:
    """The recognizers that a state dict fits, such as "the teacher of abinet"."""
    names = get_args(RecognizerName)
    with torch.device("meta"):
        modules = {f"the teacher of {name}": build_teacher(name) for name in names}
        modules |= {f"the student of {name}": build_student(name, "published") for name in names}
    return [owner for owner, module in modules.items() if match_state(module, state).is_complete]


def load_weights(module: nn.Module, path: str | Path) -> WeightReport:
    """Load a checkpoint file whose keys all match.

    For ABINet's vision part, the file may be of a whole ABINet or MATRN: its vision part is taken, and a warning names
    what was left out.

    Example:
        >>> report = load_weights(build_teacher("parseq"), "parseq-bb5792a6.pt")
        >>> report.is_complete
        True

    Raises: ValueError that says which recognizer the file is of, if any, then how many keys are missing, unexpected or
        of another shape, and the first of them; nothing is loaded then.
    """
    name = f"{type(module).__name__} for {getattr(module, 'image_size', '?')} images"
    return _load(module, name, "vision" if isinstance(module, AbinetVision) else "", path)


def load_part(module: nn.Module, part: str, path: str | Path) -> WeightReport:
    """Load a checkpoint file of one part, for instance ABINet's language model, into that part of a module.

    The file may be of a whole that has such a part: that is taken, and a warning names what was left out.

    Args:
        part: its name in the module, for instance "language" of an ABINet.

    Raises: as ``load_weights``.
    """
    return _load(module.get_submodule(part), f"the {part} part of {type(module).__name__}", part, path)


def _load(module: nn.Module, name: str, part: str, path: str | Path) -> WeightReport:
    whole = read_state_dict(path)
    state, left_out = take_part(whole, part) if part else (whole, {})
    report = replace(match_state(module, state), left_out=left_out)
    if not report.is_complete:
        fitting = owners(whole)
        recipes = [f"{owner.split()[-1]}_ltr" for owner in fitting if "teacher" in owner]
        choice = f"choose {' or '.join(recipes)} as recipe" if recipes else "choose that"
        advice = (
            f"it is {' and '.join(fitting)}; {choice}, or give another file"
            if fitting
            else "give the checkpoint of this recognizer and size, or choose the recognizer that the checkpoint is of"
        )
        raise ValueError(f"{path} does not fit {name}: {advice}\n{report}")
    if left_out:
        warnings.warn(f"{path} holds more than {name}; {_left_out(left_out)}", stacklevel=3)
    module.load_state_dict(state)
    return report


def save_student(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a student's weights as safetensors, with what is needed to build it again as metadata."""
    save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, path, dict(metadata))


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its weights. Raises: ValueError if it is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from error


def resample_patch_kernel(kernel: Tensor, low_patch: tuple[int, int]) -> Tensor:
    """A kernel for low-res patches that projects each as the given kernel projects it bilinearly enlarged.

    Args:
        kernel: (D, 3, high height, high width).
        low_patch: (height, width) in pixels; beyond its edge a patch is continued by its edge pixels.

    Returns: (D, 3, low height, low width). Because projection and enlargement are both linear, this is exact (Beyer et
    al. 2023, FlexiViT, eq. 4, for patches that shrink).
    """
    num_low = low_patch[0] * low_patch[1]
    basis = torch.eye(num_low).view(num_low, 1, *low_patch)
    enlarged = F.interpolate(basis, size=kernel.shape[2:], mode="bilinear").view(num_low, -1).T.contiguous()
    return (kernel.flatten(2) @ enlarged.to(kernel.device)).view(*kernel.shape[:2], *low_patch)


def start_from_teacher(student: Recognizer, teacher: Recognizer, start: str) -> None:
    """Give a student its first weights.

    A vision part may start from a whole ABINet or MATRN. Where the student's first stage keeps the image's size, the
    teacher's shortcut there has no counterpart and is left out.

    Args:
        start: "teacher": the teacher's, the patch kernel resampled; "random_patch": the teacher's, the patch embedding
            left as it is (the published way, PARSeq only); "random": all left as they are.

    Raises: ValueError if the two differ in anything but that.
    """
    if start == "random":
        return
    own = student.state_dict()
    state = teacher.state_dict()
    if not student.enlarges:
        state = {k: v for k, v in state.items() if not k.startswith(teacher.teacher_only)}
    if "vision.cls.weight" in state and "vision.cls.weight" not in own:
        state = {k.removeprefix("vision."): v for k, v in state.items() if k.startswith("vision.")}
    if PATCH_KERNEL not in own:
        if start == "random_patch":
            raise ValueError("recognizer.student_start random_patch is for PARSeq, which has patches; give teacher")
    elif start == "random_patch" and student.enlarges:
        raise ValueError(
            "recognizer.student_start random_patch is of the published form, whose patches are its own; give teacher, "
            "or recognizer.student_form published"
        )
    elif start == "random_patch":
        state[PATCH_KERNEL], state[PATCH_BIAS] = own[PATCH_KERNEL], own[PATCH_BIAS]
    elif PATCH_KERNEL in state and not student.enlarges:
        height, width = own[PATCH_KERNEL].shape[2:]
        state[PATCH_KERNEL] = resample_patch_kernel(state[PATCH_KERNEL], (height, width))
    report = match_state(student, state)
    if not report.is_complete:
        raise ValueError(
            f"the student cannot start from its teacher, which is another recognizer ({len(report.mis_shaped)} weights "
            f"of another shape, {len(report.missing)} missing, {len(report.unexpected)} unexpected); choose "
            "recognizer.student_start random, or give recognizer.student_weights"
        )
    student.load_state_dict(state)


def recognizer_metadata(name: str, module: Recognizer) -> dict[str, str]:
    """The metadata that an exported recognizer carries."""
    size = json.dumps(module.image_size)
    form = {"student_form": "enlarging"} if module.enlarges else {}
    return {"recognizer": name, "charset": module.charset.name, "image_size": size, "format": "kdltr-1", **form}
