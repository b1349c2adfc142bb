"""The networks by the name that a card, a recipe or a command gives them.

    name                       parameters    output stride    maps joined on the way up
    resnet50                   25 458 755    32               16, 8, 4, 2, 1
    deeplabv3plus_resnet101    45 683 635    16               4
    vgg16                      16 284 835    32               16, 8, 4, 2, 1
    fcn_vgg16                  17 087 305    32               16, 8
    fcn_resnet50               32 947 779    8                none

The output stride is that of the deepest map. In training every batch norm needs two values a channel: a batch of one
must have more than 32 rows or columns, so that the map at stride 32 is larger than one pixel.
"""

from torch import nn

from models.architectures.backbones import BackboneWeights
from models.architectures.deeplabv3plus import DeepLabV3PlusResNet101
from models.architectures.fcn import VGG16FCN, ResNet50FCN
from models.architectures.resnet50 import ResNet50Segmenter
from models.architectures.vgg16 import VGG16Segmenter
from models.errors import UnknownModel

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "resnet50": ResNet50Segmenter,
    "deeplabv3plus_resnet101": DeepLabV3PlusResNet101,
    "vgg16": VGG16Segmenter,
    "fcn_vgg16": VGG16FCN,
    "fcn_resnet50": ResNet50FCN,
}

EXPLAINED_LAYERS: dict[str, tuple[str, ...]] = {
    "resnet50": ("layers.0", "layers.1", "layers.2", "layers.3"),
    "deeplabv3plus_resnet101": ("layers.0", "layers.1", "layers.2", "layers.3"),
    "vgg16": ("blocks.2", "blocks.3", "blocks.4"),
    "fcn_vgg16": ("blocks.2", "blocks.3", "blocks.4"),
    "fcn_resnet50": ("layers.3",),
}
"""The modules whose maps Grad-CAM weighs, in the order they are computed: the encoder's from stride 4 on.

The head of `fcn_resnet50` sees the last alone.
"""


ENCODERS: dict[str, tuple[str, ...]] = {
    "resnet50": ("stem", "layers"),
    "deeplabv3plus_resnet101": ("stem", "layers"),
    "vgg16": ("blocks",),
    "fcn_vgg16": ("blocks",),
    "fcn_resnet50": ("stem", "layers"),
}
"""The modules of the backbone, which few cases had better leave alone."""


def build(name: str, backbone_weights: BackboneWeights = "none") -> nn.Module:
    """A network to be trained: random weights, or its backbone's from ImageNet or a torchvision state dict.

    Raises UnknownModel for a name that is not here, ModelError when ImageNet's weights cannot be fetched, and
    WeightsCorrupt when a file cannot be read or holds the layers of another network.
    """
    if name not in ARCHITECTURES:
        raise UnknownModel(f"no architecture {name!r}: there are {', '.join(ARCHITECTURES)}")
    make = ARCHITECTURES[name]
    return make() if backbone_weights == "none" else make(backbone_weights)
