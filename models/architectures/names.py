"""The architectures by name, for those who may not load torch to read a command line."""

ARCHITECTURE_NAMES = ("resnet50", "deeplabv3plus_resnet101", "vgg16", "fcn_vgg16", "fcn_resnet50")
