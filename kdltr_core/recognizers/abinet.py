"""ABINet: a vision part that reads, a language part that corrects, and a gate between them (Fang et al. 2021)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdltr_core.charset import Charset36
from kdltr_core.recognizers.abinet_layers import CrossAttentionDecoder, Encoder, PositionAttention, SinusoidalPositions
from kdltr_core.recognizers.recognizer import ParallelRecognizer, RecognizerOutput
from kdltr_core.recognizers.resnet import ResNet45

MAP_SIZE = (8, 32)
NUM_STEPS = 26  # of 25 characters and the end
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class AbinetSize:
    """Widths and depths. The last of ``planes`` is D of all shapes."""

    planes: tuple[int, ...] = (32, 64, 128, 256, 512)
    blocks: tuple[int, ...] = (3, 4, 6, 6, 3)
    num_heads: int = 8
    feedforward: int = 2048
    vision_depth: int = 3
    language_depth: int = 4
    joint_depth: int = 2
    attention_channels: int = 64
    dropout: float = 0.1

    @property
    def dim(self) -> int:
        return self.planes[-1]


@dataclass(frozen=True)
class VisionOutput:
    """What the vision part extracts and reads.

    Attributes:
        middle: (N, C, h · w), the map of the ResNet's third stage.
        tokens: (N, h · w, D), the encoder's output.
        attention: (N, T, h · w).
        feature: (N, T, D).
        logits: (N, T, classes).
    """

    middle: Tensor
    tokens: Tensor
    attention: Tensor
    feature: Tensor
    logits: Tensor


class Backbone(nn.Module):
    """ResNet45 and a transformer encoder over the positions of its map."""

    def __init__(self, first_stride: int, size: AbinetSize) -> None:
        super().__init__()
        self.resnet = ResNet45(first_stride, size.planes, size.blocks)
        self.pos_encoder = SinusoidalPositions(MAP_SIZE[0] * MAP_SIZE[1], size.dim)
        self.transformer = Encoder(size.vision_depth, size.dim, size.num_heads, size.feedforward, size.dropout)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to the third stage's map (N, C, h, w) and the tokens (N, h · w, D)."""
        middle, last = self.resnet(images)
        return middle, self.transformer(self.dropout(last.flatten(2).transpose(1, 2) + self.pos_encoder()))


class AbinetVision(ParallelRecognizer):
    """The vision part, which reads on its own as well.

    Args:
        image_size: (height, width) in pixels, 32×128 or 16×64; both give a map of 8×32.
        size: widths and depths.

    Raises: ValueError for another image size.
    """

    charset = Charset36
    fixed_num_steps = NUM_STEPS
    teacher_only = ("backbone.resnet.layer1.0.downsample.",)
    _mean: Tensor
    _std: Tensor

    def __init__(self, image_size: tuple[int, int], size: AbinetSize | None = None) -> None:
        super().__init__()
        size = size or AbinetSize()
        first_stride = image_size[0] // (2 * MAP_SIZE[0])
        if first_stride not in (1, 2) or image_size != tuple(2 * first_stride * side for side in MAP_SIZE):
            raise ValueError(f"image_size is {image_size}, ABINet and MATRN are built for (32, 128) and (16, 64)")
        self.image_size, self.size = image_size, size
        self.semantic_width, self.visual_shape = size.dim, (size.planes[2], MAP_SIZE[0] * MAP_SIZE[1])
        self.backbone = Backbone(first_stride, size)
        self.attention = PositionAttention(size.dim, size.attention_channels, NUM_STEPS)
        self.cls = nn.Linear(size.dim, self.charset.num_classes)
        self.register_buffer("_mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward_vision(self, images: Tensor) -> VisionOutput:
        """images: (N, 3, H, W) float in [0, 1]."""
        normalised = ((self._as_seen(images) - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        middle, tokens = self.backbone(normalised)
        # In channels-last order this is the same memory: nothing is copied.
        feature, attention = self.attention(tokens.transpose(1, 2).unflatten(-1, MAP_SIZE))
        return VisionOutput(middle.flatten(2), tokens, attention, feature, self.cls(feature))

    def forward(self, images: Tensor) -> RecognizerOutput:
        vision = self.forward_vision(images)
        return RecognizerOutput(vision.logits, vision.middle, vision.feature, vision.attention)

    def forward_training(self, images: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        vision = self.forward_vision(images)
        return RecognizerOutput(
            vision.logits[None], vision.middle, vision.feature[None], vision.attention, {"vision": vision.logits[None]}
        )


class LanguageModel(nn.Module):
    """The bidirectional cloze network: every character is predicted from all the others of a prediction."""

    def __init__(self, size: AbinetSize) -> None:
        super().__init__()
        self.proj = nn.Linear(Charset36.num_classes, size.dim, bias=False)
        self.token_encoder = SinusoidalPositions(NUM_STEPS, size.dim)
        self.pos_encoder = SinusoidalPositions(NUM_STEPS, size.dim)
        self.model = CrossAttentionDecoder(
            size.language_depth, size.dim, size.num_heads, size.feedforward, size.dropout
        )
        self.cls = nn.Linear(size.dim, Charset36.num_classes)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, probabilities: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Correct predictions.

        Args:
            probabilities: (N, T, classes), each step a distribution; no gradient flows into them.
            lengths: (N,), steps of each prediction, the end included, at least 2: one alone sees nothing but itself.

        Returns: features (N, T, D) and logits (N, T, classes).
        """
        memory = self.dropout(self.proj(probabilities.detach()) + self.token_encoder())
        steps = torch.arange(memory.shape[1], device=memory.device)
        others = steps[:, None] != steps[None, :]
        mask = others & (steps < lengths[:, None])[:, None, None]
        queries = self.pos_encoder().expand(memory.shape[0], -1, -1)
        feature = self.model(queries, memory, mask)
        return feature, self.cls(feature)


class Alignment(nn.Module):
    """The gate between what is seen and what is expected."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.w_att = nn.Linear(2 * dim, dim)
        self.cls = nn.Linear(dim, Charset36.num_classes)

    def forward(self, language: Tensor, vision: Tensor) -> Tensor:
        """Two features (N, T, D) to logits (N, T, classes)."""
        gate = torch.sigmoid(self.w_att(torch.cat([language, vision], dim=-1)))
        return self.cls(gate * vision + (1 - gate) * language)


def predicted_lengths(logits: Tensor, end_id: int = 0) -> Tensor:
    """Steps up to and with the first end, all of them without one, and at least 2: (N, T, classes) to (N,)."""
    before_end = (logits.argmax(dim=-1) == end_id).cumsum(dim=-1) == 0
    return (before_end.sum(dim=-1) + 1).clamp(2, logits.shape[1])


class VisionAndLanguage(ParallelRecognizer):
    """A vision part whose predictions a language part corrects, once or several times over.

    Args:
        image_size, size: as for ``AbinetVision``.
        num_iterations: how often a prediction is corrected.
    """

    charset = Charset36
    fixed_num_steps = NUM_STEPS
    teacher_only = tuple(f"vision.{key}" for key in AbinetVision.teacher_only)

    def __init__(self, image_size: tuple[int, int], size: AbinetSize, num_iterations: int) -> None:
        super().__init__()
        self.vision = AbinetVision(image_size, size)
        self.language = LanguageModel(size)
        self.num_iterations = num_iterations
        self.image_size, self.size = image_size, size
        self.semantic_width, self.visual_shape = self.vision.semantic_width, self.vision.visual_shape

    def fuse(self, vision: VisionOutput, language: Tensor, expected: Tensor) -> dict[str, Tensor]:
        """Logits (N, T, classes) of the classifiers behind both parts, by name; the last is "fused", which reads.

        Args:
            language: (N, T, D), the language part's features.
            expected: (N, T, classes), its logits.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> RecognizerOutput:
        vision = self.vision.forward_vision(images)
        fused = self._correct(vision)["fused"]
        return RecognizerOutput(fused[-1], vision.middle, vision.feature, vision.attention)

    def forward_training(self, images: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        vision = self.vision.forward_vision(images)
        heads = {"vision": vision.logits[None], **self._correct(vision)}
        return RecognizerOutput(heads["fused"][-1:], vision.middle, vision.feature[None], vision.attention, heads)

    def _correct(self, vision: VisionOutput) -> dict[str, Tensor]:
        """Logits of every classifier behind the vision part, each (iterations, N, T, classes)."""
        heads: dict[str, list[Tensor]] = defaultdict(list)
        logits = vision.logits
        for _ in range(self.num_iterations):
            feature, expected = self.language(logits.softmax(dim=-1), predicted_lengths(logits))
            corrected = self.fuse(vision, feature, expected)
            for name, values in {"language": expected, **corrected}.items():
                heads[name].append(values)
            logits = corrected["fused"]
        return {name: torch.stack(values) for name, values in heads.items()}


class Abinet(VisionAndLanguage):
    """Vision, language and alignment; the official test mode corrects 3 times. Arguments as ``VisionAndLanguage``."""

    def __init__(self, image_size: tuple[int, int], size: AbinetSize | None = None, num_iterations: int = 1) -> None:
        size = size or AbinetSize()
        super().__init__(image_size, size, num_iterations)
        self.alignment = Alignment(size.dim)

    def fuse(self, vision: VisionOutput, language: Tensor, expected: Tensor) -> dict[str, Tensor]:
        return {"fused": self.alignment(language, vision.feature)}
