"""DeepLabv3+ (Chen et al., ECCV 2018) on ResNet-101: atrous separable pyramid, and a decoder with a low-level skip.

torchvision has only DeepLabv3, which has neither the separable convolutions nor the decoder.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.architectures import backbones
from models.architectures.decoder import CLASSES, conv_bn_relu, enlarge

RATES = (6, 12, 18)  # at output stride 16 (Chen et al., arXiv:1706.05587, §4.1)
WIDTH = 256
LOW_LEVEL = 48  # so that the 256 low-level channels do not outweigh the pyramid's (§4.1, Table 1)


def separable(in_channels: int, out_channels: int, rate: int = 1) -> nn.Sequential:
    """An atrous separable convolution (§3.1): 3x3 for each channel, then 1x1 across; batch norm and ReLU after both."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=rate, dilation=rate, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        conv_bn_relu(in_channels, out_channels, 1),
    )


class ImagePooling(nn.Module):
    """The mean of the whole image, through 1x1 and batch norm, repeated at every place.

    One value an image and channel: of a batch of one no variance can be had. There, and there alone, training uses
    the running statistics and leaves them as they are.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.reduce(x.mean(dim=(-2, -1), keepdim=True))  # (N, 256, 1, 1)
        norm = self.norm
        if self.training and len(x) == 1:
            mean = F.batch_norm(mean, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            mean = norm(mean)
        return F.relu(mean).expand(-1, -1, *x.shape[-2:])


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, three atrous separable 3x3 and the whole image, side by side."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_bn_relu(in_channels, WIDTH, 1),
                *(separable(in_channels, WIDTH, rate) for rate in RATES),
                ImagePooling(in_channels, WIDTH),
            ]
        )
        # Dropout as in the authors' code (tensorflow/models, deeplab/model.py); the paper gives none.
        self.project = nn.Sequential(conv_bn_relu(len(self.branches) * WIDTH, WIDTH, 1), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([branch(x) for branch in self.branches], dim=1)  # (N, 1280, row/16, column/16)
        projected: Tensor = self.project(joined)
        return projected


class DeepLabV3PlusResNet101(nn.Module):
    """(N, 3, row, column) to logits (N, 3, row, column), of any size from 32 pixels on."""

    def __init__(self, backbone_weights: backbones.BackboneWeights = "none") -> None:
        super().__init__()
        self.stem, self.pool, self.layers = backbones.resnet(101, backbone_weights, output_stride=16)
        self.pyramid = Pyramid(2048)
        self.low_level = conv_bn_relu(256, LOW_LEVEL, 1)
        self.refine = nn.Sequential(separable(WIDTH + LOW_LEVEL, WIDTH), separable(WIDTH, WIDTH))
        self.head = nn.Conv2d(WIDTH, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        low, *rest = self.layers
        low_level = low(self.pool(self.stem(x)))  # (N, 256, row/4, column/4)
        deep = low_level
        for layer in rest:  # (N, 512, 1024, 2048) at strides 8, 16, 16
            deep = layer(deep)
        deep = enlarge(self.pyramid(deep), 4, low_level)  # (N, 256, row/4, column/4)
        refined = self.refine(torch.cat([deep, self.low_level(low_level)], dim=1))
        return enlarge(self.head(refined), 4, x)  # (N, 3, row, column)
