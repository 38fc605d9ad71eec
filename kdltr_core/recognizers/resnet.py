"""ResNet45, the convolutional stem of ABINet and MATRN (Fang et al. 2021, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdltr_core.recognizers.layers import Block


class BasicBlock(Block):
    """Residual block: 1×1, then 3×3 with the stride; a shortcut convolution only where the shape changes."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_planes != planes:
            self.is_compiled = False  # the first of its stage
            self.downsample = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + residual)


class ResNet45(nn.Module):
    """Five stages of basic blocks; the first and the third may halve the image.

    Args:
        first_stride: of the first stage: 2 for a teacher's images, 1 for a student's.
        planes: channels of the stages.
        blocks: of the stages.
    """

    def __init__(self, first_stride: int, planes: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, planes[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        strides, width = (first_stride, 1, 2, 1, 1), planes[0]
        for i, (stride, after, depth) in enumerate(zip(strides, planes, blocks, strict=True), start=1):
            first = BasicBlock(width, after, stride)
            self.add_module(f"layer{i}", nn.Sequential(first, *(BasicBlock(after, after, 1) for _ in range(depth - 1))))
            width = after
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to the maps of the third and of the fifth stage, (N, planes, h, w) each."""
        x = F.relu(self.bn1(self.conv1(images)))
        third = self.get_submodule("layer3")(self.get_submodule("layer2")(self.get_submodule("layer1")(x)))
        return third, self.get_submodule("layer5")(self.get_submodule("layer4")(third))
