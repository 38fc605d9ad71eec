"""Post-norm transformer layers and sinusoidal positions, as ABINet and MATRN share them (torch's key names)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdltr_core.recognizers.layers import CachedAttention


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


class EncoderLayer(nn.Module):
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


class CrossAttentionLayer(nn.Module):
    """A decoder layer without self-attention: queries look at the memory, then a feed-forward."""

    def __init__(self, dim: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.multihead_attn = CachedAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """queries (N, T, D), memory (N, S, D), mask bool (N, 1, T, S), True where a query may look; to (N, T, D)."""
        looked = self.multihead_attn(queries, *self.multihead_attn.keys_and_values(memory), mask)
        x = self.norm2(queries + self.dropout(looked))
        return self.norm3(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class CrossAttentionDecoder(nn.Module):
    def __init__(self, depth: int, dim: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossAttentionLayer(dim, num_heads, feedforward, dropout) for _ in range(depth))

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            queries = layer(queries, memory, mask)
        return queries
