"""Fully convolutional networks (Long, Shelhamer & Darrell, CVPR 2015): FCN-8s on VGG-16, and a head on ResNet-50."""

from torch import Tensor, nn
from torch.nn import functional as F

from models.architectures import backbones
from models.architectures.decoder import CLASSES, conv_bn_relu, enlarge


class VGG16FCN(nn.Module):
    """FCN-8s (§4.2): scores at strides 32, 16 and 8 are added on the way up. Any size from 32 pixels on.

    It leaves the paper in three places. fc6 and fc7, 7x7 and 1x1 of 4096 channels that hold 120 of FCN's 134 million
    parameters, are one 3x3 of 512. Batch norm brings the three scores to one scale, so they need neither training in
    stages nor fixed factors. Upsampling is bilinear, what the paper's begins with and its last step keeps.
    """

    def __init__(self, backbone_weights: backbones.BackboneWeights = "none") -> None:
        super().__init__()
        self.blocks = backbones.vgg16(backbone_weights)
        self.head = nn.Sequential(conv_bn_relu(512, 512, 3), nn.Dropout(0.5), nn.Conv2d(512, CLASSES, 1))
        self.score_16 = nn.Conv2d(512, CLASSES, 1)
        self.score_8 = nn.Conv2d(256, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        pools, deep = [], x
        for block in self.blocks:
            deep = F.max_pool2d(block(deep), 2, ceil_mode=True)
            pools.append(deep)
        _, _, pool_8, pool_16, pool_32 = pools  # (N, 256, 512, 512) at strides 8, 16, 32
        score = self.head(pool_32)  # (N, 3, row/32, column/32)
        score = enlarge(score, 2, pool_16) + self.score_16(pool_16)  # (N, 3, row/16, column/16)
        score = enlarge(score, 2, pool_8) + self.score_8(pool_8)  # (N, 3, row/8, column/8)
        return enlarge(score, 8, x)  # (N, 3, row, column)


class ResNet50FCN(nn.Module):
    """An FCN head on a ResNet-50 dilated to output stride 8, as torchvision's `fcn_resnet50`. Any size from 32 on.

    Nothing is fused on the way up, so all that is known of a place must lie in the last map: at stride 32 and
    1.5 mm one of its pixels would span 48 mm, at stride 8 it spans 12 mm. That costs layers 3 and 4 four and sixteen
    times their work.
    """

    def __init__(self, backbone_weights: backbones.BackboneWeights = "none") -> None:
        super().__init__()
        self.stem, self.pool, self.layers = backbones.resnet(50, backbone_weights, output_stride=8)
        self.head = nn.Sequential(conv_bn_relu(2048, 512, 3), nn.Dropout(0.1), nn.Conv2d(512, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        deep = self.pool(self.stem(x))  # (N, 64, row/4, column/4)
        for layer in self.layers:  # (N, 256 ... 2048) at strides 4, 8, 8, 8
            deep = layer(deep)
        return enlarge(self.head(deep), 8, x)  # (N, 3, row, column)
