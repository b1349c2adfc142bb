"""torchvision, imported in one place.

Beside a CPU-only torch the registry's torchvision (built for CUDA) cannot load its compiled ops, and importing it
stops at `operator torchvision::nms does not exist`. Nothing here uses those ops: declaring their schemas is enough.
"""

import torch

try:
    from torchvision.models import resnet50
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for op in ("nms", "qnms"):
        torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.models import resnet50

__all__ = ["resnet50"]
