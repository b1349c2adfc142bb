"""The main model: a ResNet-50 encoder (He et al., CVPR 2016) in a U-shape (Ronneberger et al., MICCAI 2015)."""

from torch import Tensor, nn

from models.architectures import backbones
from models.architectures.decoder import CLASSES, Decoder, conv_bn_relu


class ResNet50Segmenter(nn.Module):
    """(N, 3, row, column) to logits (N, 3, row, column), of any size from 32 pixels on."""

    def __init__(self, backbone_weights: backbones.BackboneWeights = "none") -> None:
        super().__init__()
        encoder = backbones.resnet(50, backbone_weights)
        self.full = conv_bn_relu(3, 32, 3)
        self.stem, self.pool, self.layers = encoder
        self.decoder = Decoder(skips=[32, 64, 256, 512, 1024, 2048], widths=[192, 128, 96, 64, 32], classes=CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.full(x)]  # (N, 32, row, column)
        features.append(self.stem(x))  # (N, 64, row/2, column/2)
        deep = self.pool(features[-1])
        for layer in self.layers:  # (N, 256 ... 2048) at strides 4, 8, 16, 32
            deep = layer(deep)
            features.append(deep)
        logits: Tensor = self.decoder(features)
        return logits
