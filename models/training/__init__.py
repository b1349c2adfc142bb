"""From prepared cases to weights: samples, augmentation, losses, the training loop, runs on disk."""
