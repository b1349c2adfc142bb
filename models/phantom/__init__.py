"""Abdomens that never lived, whose truth is known: for training, for tests and for the demonstration.

Numpy and scipy alone; everything is drawn from a seed. It knows nothing of networks, files or training.
"""

from models.phantom.plain import DEMO_SEED, TRAINING_SEEDS, Ellipsoid, Phantom, grid, make_phantom
from models.phantom.randomisation import training_phantom

__all__ = ["DEMO_SEED", "TRAINING_SEEDS", "Ellipsoid", "Phantom", "grid", "make_phantom", "training_phantom"]
