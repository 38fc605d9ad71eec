"""Mixed precision, by what the device multiplies natively."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision for a forward pass.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 on a GPU, and on a CPU that multiplies it natively.
    """
    if precision == "bfloat16" or (precision == "auto" and (device.type == "cuda" or _cpu_multiplies_bfloat16())):
        # A weight that was cast in one captured graph is not there in another.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=device.type != "cuda")
    return nullcontext()


def _cpu_multiplies_bfloat16() -> bool:
    # Where the processor only emulates it, bfloat16 is many times slower than float32.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
