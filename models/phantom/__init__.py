"""Abdomens that never lived, whose truth is known: for training, for tests and for the demonstration.

Numpy and scipy alone; everything is drawn from a seed and is a function of the patient position, so that a phantom is
the same on every grid. It knows nothing of networks, files or training.

    body -> skeleton, liver, organs, bowel, vessels, lesions      what there is, and its surfaces (shapes, space)
    contrast, acquisition                                         how it looks
    patient                                                       painted together on a canvas: image and truth
    randomisation                                                 as asked for, or all drawn for training
"""

from models.phantom.acquisition import Kernel
from models.phantom.contrast import Phase, Weighting
from models.phantom.lesions import Lesion, Placement
from models.phantom.patient import Phantom, grid
from models.phantom.randomisation import DEMO_SEED, TRAINING_SEEDS, make_phantom, training_phantom

__all__ = [
    "DEMO_SEED",
    "TRAINING_SEEDS",
    "Kernel",
    "Lesion",
    "Phantom",
    "Phase",
    "Placement",
    "Weighting",
    "grid",
    "make_phantom",
    "training_phantom",
]
