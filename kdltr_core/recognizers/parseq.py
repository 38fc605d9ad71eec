"""PARSeq: a vision transformer and one two-stream decoder layer (Bautista & Atienza 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdltr_core.charset import Charset94
from kdltr_core.recognizers.layers import Block, CachedAttention, VitEncoder
from kdltr_core.recognizers.permutations import query_masks
from kdltr_core.recognizers.recognizer import Recognizer, RecognizerOutput


@dataclass(frozen=True)
class ParseqSize:
    """Widths and depths; ``dim`` is D of all shapes."""

    dim: int = 384
    depth: int = 12
    encoder_heads: int = 6
    decoder_heads: int = 12
    mlp_ratio: int = 4
    dropout: float = 0.1


class DecoderLayer(Block):
    """Pre-norm decoder layer in which position queries attend to the characters and to the image.

    PARSeq has a single layer, so its content stream is never updated and only serves as keys and values.
    """

    def __init__(self, size: ParseqSize) -> None:
        super().__init__()
        dim = size.dim
        self.self_attn = CachedAttention(dim, size.decoder_heads, size.dropout)
        self.cross_attn = CachedAttention(dim, size.decoder_heads, size.dropout)
        self.linear1 = nn.Linear(dim, size.mlp_ratio * dim)
        self.linear2 = nn.Linear(size.mlp_ratio * dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm_q = nn.LayerNorm(dim)
        self.norm_c = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(size.dropout)

    def content(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of character embeddings (B, S, D)."""
        return self.self_attn.keys_and_values(self.norm_c(content))

    def forward(
        self, query: Tensor, content: tuple[Tensor, Tensor], memory: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """Read P permutations of N words at once.

        Args:
            query: (P, N, T, D).
            content: keys and values of the characters, each (P * N, heads, S, D / heads).
            memory: keys and values of the image, each (N, heads, L, D / heads).
            mask: as ``CachedAttention`` takes it for P * N rows.

        Returns: (P, N, T, D).
        """
        p, n, t, dim = query.shape
        attended = self.self_attn(self.norm_q(query).flatten(0, 1), *content, mask)
        query = query + self.dropout(attended.view(p, n, t, dim))
        # All permutations of a word attend to the same image: they are one longer row of queries.
        rows = self.norm1(query).transpose(0, 1).reshape(n, p * t, dim)
        seen = self.cross_attn(rows, *memory).view(n, p, t, dim).transpose(0, 1)
        query = query + self.dropout(seen)
        return query + self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(self.norm2(query))))))


class Decoder(nn.Module):
    def __init__(self, size: ParseqSize) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(size)])
        self.norm = nn.LayerNorm(size.dim)


class TokenEmbedding(nn.Module):
    """Character embeddings, scaled by the square root of their width."""

    def __init__(self, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return math.sqrt(self.embedding.embedding_dim) * self.embedding(tokens)


class Parseq(Recognizer):
    """PARSeq for images of one size.

    Args:
        image_size: (height, width) in pixels.
        patch_size: of the vision transformer; the number of patches is that of the image.
        size: widths and depths.
    """

    charset = Charset94
    num_steps = 26  # of 25 characters and the end
    uses_permutations = True

    def __init__(
        self, image_size: tuple[int, int], patch_size: tuple[int, int], size: ParseqSize | None = None
    ) -> None:
        super().__init__()
        size = size or ParseqSize()
        self.image_size, self.patch_size, self.size = image_size, patch_size, size
        num_patches = (image_size[0] // patch_size[0]) * (image_size[1] // patch_size[1])
        self.semantic_width, self.visual_shape = size.dim, (size.dim, num_patches)
        self.encoder = VitEncoder(image_size, patch_size, size.dim, size.depth, size.encoder_heads, size.mlp_ratio)
        self.decoder = Decoder(size)
        self.head = nn.Linear(size.dim, self.charset.num_classes)
        self.text_embed = TokenEmbedding(self.charset.num_classes + 2, size.dim)
        self.pos_queries = nn.Parameter(torch.empty(1, self.num_steps, size.dim))
        self.dropout = nn.Dropout(size.dropout)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if name in ("pos_queries", "encoder.pos_embed") or (parameter.dim() > 1 and "patch_embed" not in name):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def _layer(self) -> DecoderLayer:
        return self.decoder.layers[0]  # type: ignore[return-value]

    def forward(self, images: Tensor, num_refinements: int = 1) -> RecognizerOutput:
        """Read: greedy and autoregressive, then refined with the cloze mask.

        Args:
            images: (N, 3, H, W) float in [0, 1].
            num_refinements: passes over the whole prediction after the first.

        Returns: logits (N, T, classes), visual (N, D, L), semantic (N, T, D); T is 26, or fewer where all end before.
        """
        visual = self._encode(images)
        memory = self._layer.cross_attn.keys_and_values(visual)
        semantic, logits = self._read_greedily(memory, len(images))
        for _ in range(num_refinements):
            semantic, logits = self._refine(memory, logits)
        return RecognizerOutput(logits, visual.transpose(1, 2), semantic)

    def forward_training(self, images: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        """Predict every character from those before it, in all permutations at once.

        Args:
            images: (N, 3, H, W) float in [0, 1].
            targets: (N, T + 1) class ids: begin, characters, end, pad.
            permutations: (P, T + 1) as ``sample_permutations`` gives them.

        Returns: logits (P, N, T, classes), visual (N, D, L), semantic (P, N, T, D).
        """
        return self.decode(self.encode(images), targets, permutations)

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        return {"tokens": self._encode(images)}

    def decode(self, encoded: Mapping[str, Tensor], targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        visual = encoded["tokens"]
        memory = self._layer.cross_attn.keys_and_values(visual)
        tokens = targets[:, :-1]
        num_permutations, (n, steps) = len(permutations), tokens.shape
        readable = (tokens != self.charset.pad_id) & (tokens != self.charset.end_id)
        mask = query_masks(permutations)[:, None] & readable[None, :, None]
        # Each permutation has its own dropout, as if it were decoded alone.
        embedded = self._embed(tokens).expand(num_permutations, n, steps, -1)
        content = self._layer.content(self.dropout(embedded).flatten(0, 1))
        query = self.dropout(self.pos_queries[:, :steps].expand(num_permutations, n, steps, -1))
        semantic = self.decoder.norm(self._layer(query, content, memory, mask.flatten(0, 1)[:, None]))
        return RecognizerOutput(self.head(semantic), visual.transpose(1, 2), semantic)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder((self._as_seen(images) - 0.5) / 0.5)

    def _embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Tokens (N, S) at input positions first, first + 1, …; the begin token carries no position."""
        embedded = self.text_embed(tokens)
        if first > 0:
            return embedded + self.pos_queries[:, first - 1 : first - 1 + tokens.shape[1]]
        return torch.cat([embedded[:, :1], embedded[:, 1:] + self.pos_queries[:, : tokens.shape[1] - 1]], dim=1)

    def _read_greedily(self, memory: tuple[Tensor, Tensor], n: int) -> tuple[Tensor, Tensor]:
        """Character by character; the keys and values of the characters read so far are kept."""
        layer = self._layer
        token = torch.full((n, 1), self.charset.begin_id, device=memory[0].device)
        ended = torch.zeros(n, 1, dtype=torch.bool, device=token.device)
        keys: Tensor | None = None
        values: Tensor | None = None
        semantics: list[Tensor] = []
        all_logits: list[Tensor] = []
        for step in range(self.num_steps):
            new_keys, new_values = layer.content(self._embed(token, step))
            keys = new_keys if keys is None else torch.cat([keys, new_keys], dim=2)
            values = new_values if values is None else torch.cat([values, new_values], dim=2)
            query = self.pos_queries[:, step : step + 1].expand(1, n, 1, -1)
            semantic = self.decoder.norm(layer(query, (keys, values), memory, None))[0]
            logits = self.head(semantic)
            semantics.append(semantic)
            all_logits.append(logits)
            token = logits.argmax(-1)
            ended = ended | (token == self.charset.end_id)
            # Asking whether all have ended waits for the device; only where that is cheap is it done at every step.
            if (token.device.type == "cpu" or step % 4 == 3) and bool(ended.all()):
                break
        return torch.cat(semantics, dim=1), torch.cat(all_logits, dim=1)

    def _refine(self, memory: tuple[Tensor, Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every character again from all the others."""
        n, steps = logits.shape[:2]
        begin = torch.full((n, 1), self.charset.begin_id, device=logits.device)
        tokens = torch.cat([begin, logits[:, :-1].argmax(-1)], dim=1)
        before_end = (tokens == self.charset.end_id).cumsum(1) == 0
        position = torch.arange(steps, device=logits.device)
        cloze = position[None, :] != position[:, None] + 1
        content = self._layer.content(self._embed(tokens))
        query = self.pos_queries[:, :steps].expand(1, n, steps, -1)
        mask = cloze[None, None] & before_end[:, None, None]
        semantic = self.decoder.norm(self._layer(query, content, memory, mask))[0]
        return semantic, self.head(semantic)
