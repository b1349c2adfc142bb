"""The networks, one page each, on torchvision's backbones.

All map (N, 3, row, column), three neighbouring slices, to logits (N, 3, row, column): background, liver, tumour.
"""
