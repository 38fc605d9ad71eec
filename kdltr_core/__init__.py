"""The method: data, recognizers, losses, training loop, metrics. Pure PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdltr_core.student import load_student

__all__ = ["load_student"]


def __getattr__(name: str) -> Any:
    # Late, so that what needs only the config does not wait for torch.
    if name == "load_student":
        from kdltr_core.student import load_student

        return load_student
    raise AttributeError(f"module 'kdltr_core' has no attribute {name!r}")
