"""A recognizer as one graph from pixels to characters, in operations that torch.export and ONNX know."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

from kdltr_core.data.images import as_float, enlarge
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.parseq import DecoderLayer, Parseq

# Of the graph's input and outputs, by which whoever reads with a file knows that it is one.
GRAPH_FORMAT = "kdltr-reading-1"
Memory = tuple[Tensor, Tensor]


class PredictionGraph(nn.Module):
    """Reads a batch of pictures as the recognizer reads each of them alone.

    Args:
        recognizer: of any family, on the CPU; it is put into evaluation mode and frozen, and its weights are shared.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        recognizer.eval().requires_grad_(False)
        self.end_id, self.temperature = recognizer.charset.end_id, recognizer.temperature
        self.logits = _ParseqLogits(recognizer) if isinstance(recognizer, Parseq) else _Logits(recognizer)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Read.

        Args:
            pixels: (N, 3, h, w) uint8, RGB, of the recognizer's image size.

        Returns: class ids (N, 26) int64 and their probabilities (N, 26) in [0, 1]. Behind a word's end every class is
            the end and every probability 1, so that the product of a row is the confidence of the whole word.
        """
        logits, num_steps = self.logits(as_float(pixels))
        probabilities, ids = (logits / self.temperature).softmax(-1).max(-1)
        is_end = (ids == self.end_id).long()
        position = torch.arange(ids.shape[1], device=ids.device)
        behind = (is_end.cumsum(1) > is_end) | (position >= num_steps[:, None])
        return ids.masked_fill(behind, self.end_id), probabilities.masked_fill(behind, 1.0)


class _Logits(nn.Module):
    """A recognizer that reads all steps at once: logits (N, T, classes), and (N,) how many of them count, all."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.recognizer = recognizer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.recognizer(images).logits
        return logits, torch.full_like(logits[:, 0, 0], logits.shape[1], dtype=torch.long)


class _ParseqLogits(nn.Module):
    """``Parseq.forward`` with one refinement, each word as if it were read alone: a loop that ends with the longest
    word of the batch, then the refinement.

    The decoder has one layer, so what its self-attention sees of a character follows from the character and its place
    alone, and what it asks follows from the step. Scores and values of every character in every place are therefore
    computed when the graph is made and looked up when it reads: exact, and no keys or values are carried along.

    T steps, and as many places of characters, are 26; H heads of width D / H; L positions of the image.

    Args:
        parseq: in evaluation mode.
    """

    scores: Tensor
    values: Tensor
    steps: Tensor

    def __init__(self, parseq: Parseq) -> None:
        super().__init__()
        self.charset = parseq.charset
        (layer,) = (part for part in parseq.decoder.layers if isinstance(part, DecoderLayer))
        self.encoder, self.num_steps, self.num_heads = parseq.encoder, parseq.num_steps, parseq.size.decoder_heads
        self.queries, self.enlarges = parseq.pos_queries, parseq.enlarges
        self.norm1, self.norm2, self.norm = layer.norm1, layer.norm2, parseq.decoder.norm
        dim = parseq.size.dim
        self.recall = _Product(layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias)
        self.ask = _Product(layer.cross_attn.in_proj_weight[:dim], layer.cross_attn.in_proj_bias[:dim])
        self.remember = _Product(layer.cross_attn.in_proj_weight[dim:], layer.cross_attn.in_proj_bias[dim:])
        self.attend = _Product(layer.cross_attn.out_proj.weight, layer.cross_attn.out_proj.bias)
        self.widen = _Product(layer.linear1.weight, layer.linear1.bias)
        self.narrow = _Product(layer.linear2.weight, layer.linear2.bias)
        self.head = _Product(parseq.head.weight, parseq.head.bias)
        self.num_characters = self.charset.begin_id + 1
        with torch.no_grad():
            # The first place is that of the begin token, which carries no position.
            places = F.pad(self.queries[0, :-1], (0, 0, 1, 0))
            embedded = parseq.text_embed(torch.arange(self.num_characters)) + places[:, None]
            keys, values = layer.content(embedded)
            project = _Product(layer.self_attn.in_proj_weight[:dim], layer.self_attn.in_proj_bias[:dim])
            asked = project(layer.norm_q(self.queries[0]))
            asked = asked.unflatten(-1, (self.num_heads, -1)) * keys.shape[-1] ** -0.5
            # A row is a character in a place: (T, rows, H) and (rows, D).
            self.register_buffer("scores", torch.einsum("thd,phcd->tpch", asked, keys).flatten(1, 2).contiguous())
            self.register_buffer("values", values.transpose(1, 2).flatten(2).flatten(0, 1).contiguous())
        self.register_buffer("steps", torch.arange(self.num_steps))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (N, 3, h, w) float in [0, 1] to logits (N, T, classes) and the number of steps that count, (N,)."""
        images = enlarge(images) if self.enlarges else images
        seen = self.remember(self.encoder(images * 2 - 1)).unflatten(-1, (2, self.num_heads, -1))
        keys, values = seen.permute(2, 0, 3, 1, 4)
        memory = (keys.contiguous(), values.contiguous())
        tokens = self._read_greedily(memory)
        is_end = (tokens == self.charset.end_id).long()
        is_read = is_end.cumsum(1) == 0
        # As far as the first pass came, every character again from all the others.
        others = self.steps != self.steps[:, None] + 1
        rows = self._rows(tokens)
        scores = self.scores.index_select(1, rows.flatten()).unflatten(1, rows.shape).permute(1, 3, 0, 2)
        mask = others & is_read[:, None, None, :-1]
        return self._characters(self.queries, scores, mask, rows, memory), is_read[:, :-1].long().sum(1)

    def _read_greedily(self, memory: Memory) -> Tensor:
        """The begin token and T characters, (N, T + 1); where the loop ended before, the end class."""
        n = memory[0].shape[0]

        def goes_on(step: Tensor, ended: Tensor, tokens: Tensor) -> Tensor:
            return (step < self.num_steps) & ~ended.all()

        def read_one(step: Tensor, ended: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            rows, at = self._rows(tokens), step.view(1)
            scores = F.embedding(rows, self.scores.index_select(0, at)[0]).transpose(1, 2)[:, :, None]
            query = self.queries.index_select(1, at)
            logits = self._characters(query, scores, self.steps <= step, rows, memory)
            token = logits.argmax(-1)
            is_next = torch.arange(self.num_steps + 1) == step + 1
            return step + 1, ended | (token[:, 0] == self.charset.end_id), torch.where(is_next, token, tokens)

        begin = torch.full((n, 1), self.charset.begin_id)
        tokens = torch.cat([begin, torch.full((n, self.num_steps), self.charset.end_id)], dim=1)
        start = (torch.zeros((), dtype=torch.long), torch.zeros(n, dtype=torch.bool), tokens)
        return while_loop(goes_on, read_one, start)[2]

    def _rows(self, tokens: Tensor) -> Tensor:
        """Rows of the tables for the tokens (N, T + 1) in their places, the last of which nothing follows: (N, T)."""
        return tokens[:, :-1] + self.steps * self.num_characters

    def _characters(self, queries: Tensor, scores: Tensor, mask: Tensor, rows: Tensor, memory: Memory) -> Tensor:
        """Logits (N, Q, classes) of Q steps.

        Args:
            queries: (1, Q, D).
            scores: (N, H, Q, T) of every step for the characters in all places; mask: bool, True where they count.
            rows: (N, T), these characters.
            memory: keys and values of the image, each (N, H, L, D / H).
        """
        values = F.embedding(rows, self.values).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        recalled = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ values
        states = queries + self.recall(recalled.transpose(1, 2).flatten(2))
        asked = self.ask(self.norm1(states)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        seen = F.scaled_dot_product_attention(asked, *memory)
        states = states + self.attend(seen.transpose(1, 2).flatten(2))
        states = states + self.narrow(F.gelu(self.widen(self.norm2(states))))
        return self.head(self.norm(states))


class _Product(nn.Module):
    """A linear layer with its matrix as the product takes it: what is inside a loop is not rearranged beforehand."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(weight.detach().T.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix + self.bias
