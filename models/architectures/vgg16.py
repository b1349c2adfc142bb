"""A VGG-16 encoder with batch norm (Simonyan & Zisserman, ICLR 2015), and the decoder of `resnet50` at its widths."""

from torch import Tensor, nn
from torch.nn import functional as F

from models.architectures import backbones
from models.architectures.decoder import CLASSES, Decoder


class VGG16Segmenter(nn.Module):
    """(N, 3, row, column) to logits (N, 3, row, column), of any size from 32 pixels on."""

    def __init__(self, backbone_weights: backbones.BackboneWeights = "none") -> None:
        super().__init__()
        self.blocks = backbones.vgg16(backbone_weights)
        self.decoder = Decoder(skips=[64, 128, 256, 512, 512, 512], widths=[192, 128, 96, 64, 32], classes=CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for block in self.blocks:  # (N, 64, 128, 256, 512, 512) at strides 1, 2, 4, 8, 16
            features.append(block(x))
            x = F.max_pool2d(features[-1], 2, ceil_mode=True)
        features.append(x)  # (N, 512, row/32, column/32)
        logits: Tensor = self.decoder(features)
        return logits
