"""What the decoders share; and the one of `resnet50` and `vgg16`: up by two, join the skip connection, convolve."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 3  # background, liver, tumour


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps rows and columns, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def enlarge(x: Tensor, times: int, like: Tensor) -> Tensor:
    """Bilinearly by `times`, then cut to the rows and columns of `like`.

    A map at stride s of an image of n pixels has n / s rounded up, so the last of its pixels may lie partly beyond the
    image. Resizing to n would squeeze that overhang in, and shift what lies at the far edge by up to s - 1 pixels.
    """
    larger = F.interpolate(x, scale_factor=float(times), mode="bilinear", align_corners=False)
    return larger[..., : like.shape[-2], : like.shape[-1]]


class Joint(nn.Module):
    """A step up: both paths are brought to `out_channels` by 1x1 before the 3x3, which keeps it light."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(in_channels, out_channels, 1)
        self.skip = conv_bn_relu(skip_channels, out_channels, 1)
        self.fuse = conv_bn_relu(2 * out_channels, out_channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.reduce(x), size=skip.shape[-2:], mode="bilinear", align_corners=False)
        fused: Tensor = self.fuse(torch.cat([x, self.skip(skip)], dim=1))
        return fused


class Decoder(nn.Module):
    """The path from the deepest feature map to logits (N, classes, row, column) on the input's own grid.

    `skips` are the channels of the encoder's maps from fine to coarse, the first at stride 1.
    """

    def __init__(self, skips: Sequence[int], widths: Sequence[int], classes: int) -> None:
        super().__init__()
        deep = [skips[-1], *widths[:-1]]
        self.joints = nn.ModuleList(
            Joint(below, skip, width) for below, skip, width in zip(deep, reversed(skips[:-1]), widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = features[-1]
        for joint, skip in zip(self.joints, reversed(features[:-1]), strict=True):
            x = joint(x, skip)
        logits: Tensor = self.head(x)
        return logits
