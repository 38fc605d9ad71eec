"""Checkpoint files to our state dicts: safe loading, a strict report, and the student's start from its teacher."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdltr_core.recognizers.registry import Recognizer

PATCH_KERNEL = "encoder.patch_embed.proj.weight"
PATCH_BIAS = "encoder.patch_embed.proj.bias"


@dataclass(frozen=True)
class WeightReport:
    """What became of every key when a checkpoint met a module.

    Attributes:
        matched: keys that were loaded.
        missing: keys that the module has and the file has not.
        unexpected: keys that the file has and the module has not.
        mis_shaped: key to (shape in the file, shape in the module).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mis_shaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def is_complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mis_shaped)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} keys match"]
        lines += [f"missing in the file: {key}" for key in self.missing]
        lines += [f"unexpected in the file: {key}" for key in self.unexpected]
        lines += [
            f"of another shape: {key} is {list(there)}, expected {list(here)}"
            for key, (there, here) in self.mis_shaped.items()
        ]
        return "\n  ".join(lines)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint file, in float32.

    Takes safetensors, a plain state dict (official PARSeq), and a Lightning checkpoint, whose weights lie under
    ``state_dict`` with the prefix ``model.``. Nothing in the file is executed.

    Raises: ValueError if the file is missing, is none of these, or holds pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no checkpoint file {path}; give the path of a .safetensors, .pt or .ckpt file")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error}); fetch or export it again") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds pickled objects besides weights, which could run code when loaded, and is refused; "
            "save its state dict alone with torch.save(model.state_dict(), …) or as safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a whole checkpoint file ({error}); fetch or export it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(
            f"{path} holds no state dict: expected a mapping from key to tensor, at the top or under 'state_dict'"
        )
    if all(key.startswith("model.") for key in content):
        content = {key.removeprefix("model."): value for key, value in content.items()}
    return {key: value.float() if value.is_floating_point() else value for key, value in content.items()}


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> WeightReport:
    """What of a state dict fits a module, key by key."""
    own = module.state_dict()
    shared = [key for key in own if key in state]
    return WeightReport(
        matched=tuple(k for k in shared if own[k].shape == state[k].shape),
        missing=tuple(k for k in own if k not in state),
        unexpected=tuple(k for k in state if k not in own),
        mis_shaped={k: (tuple(state[k].shape), tuple(own[k].shape)) for k in shared if own[k].shape != state[k].shape},
    )


def load_weights(module: nn.Module, path: str | Path) -> WeightReport:
    """Load a checkpoint file whose keys all match.

    Raises: ValueError listing every key that is missing, unexpected or of another shape; nothing is loaded then.
    """
    state = read_state_dict(path)
    report = compare(module, state)
    if not report.is_complete:
        raise ValueError(
            f"{path} does not fit {type(module).__name__} for {getattr(module, 'image_size', '?')} images: {report}\n"
            "give the checkpoint of this recognizer and size, or choose the recognizer that the checkpoint is of"
        )
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


def enlargement(low_patch: tuple[int, int], high_patch: tuple[int, int], mode: str) -> Tensor:
    """The linear map that enlarges a patch by itself: (high pixels, low pixels), both row by row.

    Args:
        low_patch, high_patch: (height, width) in pixels.
        mode: "nearest", "bilinear" or "bicubic"; beyond its edge a patch is continued by its edge pixels.
    """
    num_low = low_patch[0] * low_patch[1]
    basis = torch.eye(num_low).view(num_low, 1, *low_patch)
    corners = None if mode == "nearest" else False
    return F.interpolate(basis, size=high_patch, mode=mode, align_corners=corners).view(num_low, -1).T.contiguous()


def fit_enlargement(
    high_res: Tensor, low_res: Tensor, low_patch: tuple[int, int], high_patch: tuple[int, int]
) -> Tensor:
    """The enlargement of a patch by itself that is right on average over real pairs: least squares.

    Args:
        high_res: (N, 3, H, W), low_res: (N, 3, h, w), same word, with the same number of patches; any real range that
            has grey at zero.

    Returns: (high pixels, low pixels), as ``enlargement``.
    """
    high = F.unfold(high_res.flatten(0, 1)[:, None], high_patch, stride=high_patch).transpose(1, 2).flatten(0, 1)
    low = F.unfold(low_res.flatten(0, 1)[:, None], low_patch, stride=low_patch).transpose(1, 2).flatten(0, 1)
    return torch.linalg.lstsq(low.double(), high.double()).solution.T.float().contiguous()


def resample_patch_kernel(kernel: Tensor, low_patch: tuple[int, int], enlarge: Tensor) -> Tensor:
    """A kernel for low-res patches that projects each as the given kernel projects it enlarged.

    Args:
        kernel: (D, 3, high height, high width).
        low_patch: (height, width) in pixels.
        enlarge: (high pixels, low pixels).

    Returns: (D, 3, low height, low width). Because projection and enlargement are both linear, this is exact (Beyer et
    al. 2023, FlexiViT, eq. 4, for patches that shrink).
    """
    return (kernel.flatten(2) @ enlarge).view(*kernel.shape[:2], *low_patch)


def start_from_teacher(student: nn.Module, teacher: nn.Module, start: str, enlarge: Tensor) -> None:
    """Give a student its first weights.

    Args:
        start: "teacher": the teacher's, the patch kernel resampled; "random_patch": the teacher's, the patch embedding
            left as it is (the published way); "random": all left as they are.
        enlarge: for "teacher", see ``resample_patch_kernel``.

    Raises: ValueError if the two differ in anything but the patch kernel.
    """
    if start == "random":
        return
    state = dict(teacher.state_dict())
    own = student.state_dict()
    if start == "teacher":
        low_patch = (own[PATCH_KERNEL].shape[2], own[PATCH_KERNEL].shape[3])
        state[PATCH_KERNEL] = resample_patch_kernel(
            state[PATCH_KERNEL], low_patch, enlarge.to(state[PATCH_KERNEL].device)
        )
    else:
        state[PATCH_KERNEL], state[PATCH_BIAS] = own[PATCH_KERNEL], own[PATCH_BIAS]
    report = compare(student, state)
    if not report.is_complete:
        raise ValueError(
            f"the student cannot start from this teacher: {report}\nchoose recognizer.student_start random"
        )
    student.load_state_dict(state)


def describe(name: str, module: Recognizer) -> dict[str, str]:
    """The metadata that an exported recognizer carries."""
    size = json.dumps(module.image_size)
    return {"recognizer": name, "charset": module.charset.name, "image_size": size, "format": "kdltr-1"}
