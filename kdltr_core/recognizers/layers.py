"""What the families share: attention, the ViT block and its encoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def unmasked_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Self-attention without mask or dropout: three tensors (N, heads, L, D) to one."""
    if queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        # Two products: forward and backward, torch's fused kernel took more than twice as long here. What all keys
        # have in common changes no weight, but where it is large the scores lose their digits to it: the gradient of
        # the patch embedding pointed elsewhere (cosine 0.29; without it 0.95, and 0.93 with the fused kernel).
        apart = keys - keys.detach().mean(dim=-2, keepdim=True)
        scores = queries @ apart.transpose(-1, -2) * queries.shape[-1] ** -0.5
        return scores.softmax(-1) @ values
    return F.scaled_dot_product_attention(queries, keys, values)


class Block(nn.Module):
    """A part that a recognizer consists of several times over; alike ones are compiled once (``compile_blocks``).

    Attributes:
        is_compiled: False for one that is there but once, which is not worth the wait.
    """

    is_compiled = True


def compile_blocks(module: nn.Module, **options: Any) -> None:
    """Compile every ``Block`` in a module, each alone and for the shapes it meets, when it meets them.

    Args:
        options: of ``torch.compile``.
    """
    dynamo = torch._dynamo.config
    # To torch all blocks are one function, of which a few variants are its limit.
    dynamo.recompile_limit = dynamo.accumulated_recompile_limit = 256
    dynamo.suppress_errors = True  # what cannot be compiled here computes as it is, and torch warns of it
    for block in module.modules():
        if isinstance(block, Block) and block.is_compiled:
            block.compile(dynamic=False, **options)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one joint projection (timm's key names)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) to (N, L, D)."""
        n, length, dim = x.shape
        qkv = self.qkv(x).view(n, length, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        mixed = unmasked_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(mixed.transpose(1, 2).reshape(n, length, dim))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class VitBlock(Block):
    """Pre-norm transformer block (Dosovitskiy et al. 2021)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Cuts an image into patches and projects each: (N, 3, H, W) to (N, L, D), row by row."""

    def __init__(self, patch_size: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class VitEncoder(nn.Module):
    """Vision transformer without class token: (N, 3, H, W) to (N, L, D)."""

    def __init__(
        self,
        image_size: tuple[int, int],
        patch_size: tuple[int, int],
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        num_patches = (image_size[0] // patch_size[0]) * (image_size[1] // patch_size[1])
        self.patch_embed = PatchEmbedding(patch_size, dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches, dim))
        self.blocks = nn.Sequential(*(VitBlock(dim, num_heads, mlp_ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.blocks(self.patch_embed(images) + self.pos_embed))


class CachedAttention(nn.Module):
    """Multi-head attention whose keys and values can be made once and used often (``nn.MultiheadAttention``'s keys)."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D) to keys and values, each (B, heads, S, D / heads)."""
        dim = x.shape[-1]
        projected = F.linear(x, self.in_proj_weight[dim:], self.in_proj_bias[dim:])
        keys, values = projected.unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return keys, values

    def attend_to_itself(self, x: Tensor) -> Tensor:
        """Self-attention, its three projections in one product: (B, T, D) to (B, T, D)."""
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        queries, keys, values = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self._mix(queries, keys, values, None)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            queries: (B, T, D), not yet projected.
            keys, values: (B, heads, S, D / heads) from ``keys_and_values``.
            mask: bool, True where a query may attend, broadcastable to (B, heads, T, S).

        Returns: (B, T, D).
        """
        dim = queries.shape[-1]
        projected = F.linear(queries, self.in_proj_weight[:dim], self.in_proj_bias[:dim])
        return self._mix(projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2), keys, values, mask)

    def _mix(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))
