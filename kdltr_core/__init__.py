"""The method: data, recognizers, losses, training loop, metrics. Pure PyTorch."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdltr_core.inference.reader import Prediction, Reader, UnreadableImage, load_student

__all__ = ["Prediction", "Reader", "UnreadableImage", "load_student"]


def __getattr__(name: str) -> Any:
    # Late, so that what needs only the config does not wait for torch.
    if name in __all__:
        from kdltr_core.inference import reader

        return getattr(reader, name)
    if name == "__version__":
        return version("kdltr")
    raise AttributeError(f"module 'kdltr_core' has no attribute {name!r}")
