"""PARSeq: a vision transformer and one two-stream decoder layer (Bautista & Atienza 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdltr_core.charset import Charset94
from kdltr_core.recognizers.layers import Block, CachedAttention, VitEncoder
from kdltr_core.recognizers.permutations import query_masks
from kdltr_core.recognizers.recognizer import Recognizer, RecognizerOutput

# On a GPU it is asked so seldom whether all words of a batch have ended.
STEPS_BETWEEN_QUESTIONS = 4


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


@dataclass(frozen=True)
class PartialReading:
    """How far PARSeq has come with a batch, some of whose words may have ended.

    Attributes:
        visual: (N, L, D), the encoder's tokens.
        memory: keys and values of the image.
        content: keys and values of the begin token and the characters read so far; empty before the first.
        token: (N, 1), the last of them.
        ended: (N, 1) bool.
        semantic, logits: of every step, (N, 1, D) and (N, 1, classes).
    """

    visual: Tensor
    memory: tuple[Tensor, Tensor]
    content: tuple[Tensor, ...]
    token: Tensor
    ended: Tensor
    semantic: tuple[Tensor, ...] = ()
    logits: tuple[Tensor, ...] = ()


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
        reading = self.begin_reading(images)
        # Asking whether all have ended waits for the device; only where that is cheap is it done at every step.
        num_steps = 1 if images.device.type == "cpu" else STEPS_BETWEEN_QUESTIONS
        while len(reading.logits) < self.num_steps and not (reading.logits and bool(reading.ended.all())):
            reading = self.read_on(reading, num_steps)
        return self.finish_reading(reading, num_refinements)

    def begin_reading(self, images: Tensor) -> PartialReading:
        """With nothing read yet; images as for ``forward``, which is made of this and the next two."""
        visual = self._encode(images)
        memory = self._layer.cross_attn.keys_and_values(visual)
        token = torch.full((len(images), 1), self.charset.begin_id, device=images.device)
        return PartialReading(visual, memory, (), token, torch.zeros_like(token, dtype=torch.bool))

    def read_on(self, reading: PartialReading, num_steps: int) -> PartialReading:
        """So many characters more, or up to the last step; nothing of it waits for the device."""
        layer, n = self._layer, len(reading.token)
        for step in range(len(reading.logits), min(len(reading.logits) + num_steps, self.num_steps)):
            keys, values = layer.content(self._embed(reading.token, step))
            if reading.content:
                keys, values = (torch.cat(pair, dim=2) for pair in zip(reading.content, (keys, values), strict=True))
            query = self.pos_queries[:, step : step + 1].expand(1, n, 1, -1)
            semantic = self.decoder.norm(layer(query, (keys, values), reading.memory, None))[0]
            logits = self.head(semantic)
            token = logits.argmax(-1)
            reading = replace(
                reading,
                content=(keys, values),
                token=token,
                ended=reading.ended | (token == self.charset.end_id),
                semantic=(*reading.semantic, semantic),
                logits=(*reading.logits, logits),
            )
        return reading

    def finish_reading(self, reading: PartialReading, num_refinements: int = 1) -> RecognizerOutput:
        semantic, logits = torch.cat(reading.semantic, dim=1), torch.cat(reading.logits, dim=1)
        for _ in range(num_refinements):
            semantic, logits = self._refine(reading.memory, logits)
        return RecognizerOutput(logits, reading.visual.transpose(1, 2), semantic)

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
