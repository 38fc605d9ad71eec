"""Layers of ABINet and MATRN: sinusoidal positions, post-norm transformers, position attention (torch's key names)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdltr_core.recognizers.layers import Block, CachedAttention

_UNET_STRIDES = ((1, 2), (2, 2), (2, 2), (2, 2))


class SinusoidalPositions(nn.Module):
    """Fixed positions, sine and cosine in turn (Vaswani et al. 2017, section 3.5), in the official files' shape."""

    pe: Tensor

    def __init__(self, num_positions: int, dim: int) -> None:
        super().__init__()
        position = torch.arange(num_positions)[:, None]
        frequency = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        table = torch.zeros(num_positions, 1, dim)
        table[:, 0, 0::2] = torch.sin(position * frequency)
        table[:, 0, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", table)

    def forward(self) -> Tensor:
        """(positions, D)."""
        return self.pe[:, 0]


class EncoderLayer(Block):
    """Self-attention and feed-forward, each followed by its norm."""

    def __init__(self, dim: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = CachedAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) to (N, L, D)."""
        x = self.norm1(x + self.dropout(self.self_attn.attend_to_itself(x)))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class Encoder(nn.Module):
    def __init__(self, depth: int, dim: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, num_heads, feedforward, dropout) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class CrossAttentionLayer(Block):
    """A decoder layer without self-attention: queries attend to the memory, then a feed-forward."""

    def __init__(self, dim: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.multihead_attn = CachedAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """queries (N, T, D), memory (N, S, D), mask bool (N, 1, T, S), True where a query may attend; to (N, T, D)."""
        attended = self.multihead_attn(queries, *self.multihead_attn.keys_and_values(memory), mask)
        x = self.norm2(queries + self.dropout(attended))
        return self.norm3(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class CrossAttentionDecoder(nn.Module):
    def __init__(self, depth: int, dim: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossAttentionLayer(dim, num_heads, feedforward, dropout) for _ in range(depth))

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            queries = layer(queries, memory, mask)
        return queries


class PositionAttention(Block):
    """Every step of the word attends to the feature map (Fang et al. 2021, section 3.1).

    Keys from a small U-Net over the map, queries from sinusoidal positions, values from the map itself.

    Args:
        dim: channels of the map.
        channels: of the U-Net.
        num_steps: T.
    """

    def __init__(self, dim: int, channels: int, num_steps: int) -> None:
        super().__init__()
        widths = [dim] + [channels] * len(_UNET_STRIDES)
        self.k_encoder = nn.ModuleList(
            _convolve(before, after, stride)
            for before, after, stride in zip(widths, widths[1:], _UNET_STRIDES, strict=False)
        )
        last = len(_UNET_STRIDES) - 1
        self.k_decoder = nn.ModuleList(
            nn.Sequential(nn.Identity(), *_convolve(channels, dim if i == last else channels, (1, 1)))
            for i in range(len(_UNET_STRIDES))
        )
        self.pos_encoder = SinusoidalPositions(num_steps, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D, h, w) to what every step sees, (N, T, D), and where it attends, (N, T, h · w), each a distribution."""
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
