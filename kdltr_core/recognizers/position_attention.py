"""Position attention: every step of the word looks at the feature map (Fang et al. 2021, section 3.1)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from kdltr_core.recognizers.abinet_layers import SinusoidalPositions

_STRIDES = ((1, 2), (2, 2), (2, 2), (2, 2))


class PositionAttention(nn.Module):
    """Keys from a small U-Net over the map, queries from sinusoidal positions, values from the map itself.

    Args:
        dim: channels of the map.
        channels: of the U-Net.
        num_steps: T.
    """

    def __init__(self, dim: int, channels: int, num_steps: int) -> None:
        super().__init__()
        widths = [dim] + [channels] * len(_STRIDES)
        self.k_encoder = nn.ModuleList(
            _convolve(before, after, stride)
            for before, after, stride in zip(widths, widths[1:], _STRIDES, strict=False)
        )
        last = len(_STRIDES) - 1
        self.k_decoder = nn.ModuleList(
            nn.Sequential(nn.Identity(), *_convolve(channels, dim if i == last else channels, (1, 1)))
            for i in range(len(_STRIDES))
        )
        self.pos_encoder = SinusoidalPositions(num_steps, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Look.

        Args:
            features: (N, D, h, w).

        Returns: what every step sees, (N, T, D), and where it looks, (N, T, h · w), each a distribution.
        """
        levels = [features]
        for layer in self.k_encoder:
            levels.append(layer(levels[-1]))
        keys = levels.pop()
        for i, layer in enumerate(self.k_decoder):
            # As large as the level it came from: twice, and at the last in one direction only.
            keys = layer(F.interpolate(keys, size=levels[-1].shape[-2:], mode="nearest"))
            skipped = levels.pop()
            if i < len(self.k_decoder) - 1:
                keys = keys + skipped
        queries = self.project(self.pos_encoder())
        attention = (queries @ keys.flatten(2) / math.sqrt(queries.shape[-1])).softmax(dim=-1)
        return attention.to(features.dtype) @ features.flatten(2).transpose(1, 2), attention


def _convolve(before: int, after: int, stride: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1), nn.BatchNorm2d(after), nn.ReLU())
