"""MATRN: seen and expected features in one encoder, each enhanced by the other (Na et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdltr_core.charset import Charset36
from kdltr_core.recognizers.abinet import (
    MAP_SIZE,
    NUM_STEPS,
    AbinetSize,
    VisionAndLanguage,
    VisionOutput,
    predicted_lengths,
)
from kdltr_core.recognizers.abinet_layers import Encoder, PositionAttention, SinusoidalPositions

_MASKED_POSITIONS = 10
_MASK_PROBABILITY = 0.9


class SemanticVisual(nn.Module):
    """Visual and language features attend to each other, then a gate mixes what both read."""

    def __init__(self, size: AbinetSize) -> None:
        super().__init__()
        self.v_token = nn.Parameter(torch.empty(1, size.dim))
        self.pos_encoder_tfm = SinusoidalPositions(MAP_SIZE[0] * MAP_SIZE[1], size.dim)
        self.model1 = Encoder(size.joint_depth, size.dim, size.num_heads, size.feedforward, size.dropout)
        self.model2_vis = PositionAttention(size.dim, size.attention_channels, NUM_STEPS)
        self.cls_vis = nn.Linear(size.dim, Charset36.num_classes)
        self.cls_sem = nn.Linear(size.dim, Charset36.num_classes)
        self.w_att = nn.Linear(2 * size.dim, size.dim)
        self.cls = nn.Linear(size.dim, Charset36.num_classes)
        nn.init.xavier_uniform_(self.v_token)

    def forward(self, language: Tensor, tokens: Tensor, attention: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Enhance.

        Args:
            language: (N, T, D), the language part's features.
            tokens: (N, L, D), the visual features.
            attention: (N, T, L), where the vision part attended at every step.
            lengths: (N,), steps of the language part's prediction.

        Returns: logits (N, T, classes) of the enhanced "visual" and "semantic" features, and "fused".
        """
        if self.training:
            tokens = torch.where(masked_positions(attention, lengths)[..., None], self.v_token, tokens)
        placed = language + attention.to(language.dtype) @ self.pos_encoder_tfm().to(language.dtype)
        both = self.model1(torch.cat([tokens, placed], dim=1))
        visual, semantic = both.split([tokens.shape[1], language.shape[1]], dim=1)
        visual, _ = self.model2_vis(visual.transpose(1, 2).unflatten(-1, MAP_SIZE))
        gate = torch.sigmoid(self.w_att(torch.cat([visual, semantic], dim=-1)))
        fused = self.cls(gate * visual + (1 - gate) * semantic)
        return {"visual": self.cls_vis(visual), "semantic": self.cls_sem(semantic), "fused": fused}


def masked_positions(attention: Tensor, lengths: Tensor) -> Tensor:
    """Which visual positions are hidden in training (Na et al. 2022, section 3.3), all images at once.

    Of an image, with probability 0.9: a random step of its prediction is picked, and each of the 10 positions that it
    attended to most is hidden with probability 0.9.

    Args:
        attention: (N, T, L).
        lengths: (N,), steps to pick from.

    Returns: (N, L) bool, True where hidden.
    """
    num_images, device = len(attention), attention.device
    step = (torch.rand(num_images, device=device) * lengths).long()
    attended = attention[torch.arange(num_images, device=device), step].topk(_MASKED_POSITIONS).indices
    hidden = torch.rand(attended.shape, device=device) < _MASK_PROBABILITY
    hidden &= torch.rand(num_images, 1, device=device) < _MASK_PROBABILITY
    return torch.zeros_like(attention[:, 0], dtype=torch.bool).scatter(1, attended, hidden)


class Matrn(VisionAndLanguage):
    """Vision and language as in ABINet, each enhanced by the other. Arguments as ``VisionAndLanguage``."""

    def __init__(self, image_size: tuple[int, int], size: AbinetSize | None = None, num_iterations: int = 3) -> None:
        size = size or AbinetSize()
        super().__init__(image_size, size, num_iterations)
        self.semantic_visual = SemanticVisual(size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def fuse(self, vision: VisionOutput, language: Tensor, expected: Tensor) -> dict[str, Tensor]:
        return self.semantic_visual(language, vision.tokens, vision.attention.detach(), predicted_lengths(expected))
