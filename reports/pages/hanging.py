"""How radiologists hang an image plane: what lies on the right of the picture, what at its bottom, and the letters."""

import numpy as np

from dicom_io.geometry import Float

LETTER_COSINE = 0.3
"""The least part of a direction that gets a letter (17 degrees off the other axes)."""

_LEFT, _BACK, _FEET = np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0, 0, -1.0])

_RIGHT_AND_DOWN = {0: (_BACK, _FEET), 1: (_LEFT, _FEET), 2: (_LEFT, _BACK)}
"""By the axis that the normal is nearest to: sagittal, coronal, axial."""


def hanging(normal: Float) -> tuple[Float, Float]:
    """Unit vectors (3,) in the plane across `normal`: what is drawn to the right, and what downwards.

    Axial: the patient's left, and the back. Coronal: left, feet. Sagittal: back, feet. An oblique plane hangs as the
    one that it is nearest to, with these directions turned into it, so that lengths stay true.
    """
    right, down = _RIGHT_AND_DOWN[int(np.abs(normal).argmax())]
    in_plane = right - (right @ normal) * normal
    in_plane = in_plane / np.linalg.norm(in_plane)
    across = np.cross(normal, in_plane)
    return in_plane, np.asarray(across if across @ down > 0 else -across)


def letters(direction: Float) -> str:
    """Return where a unit vector (3,) points to, the nearest first: "L", "HA"... (PS3.3 section C.7.6.1.1.1)."""
    order = np.argsort(-np.abs(direction), kind="stable")
    names = (("L", "R"), ("P", "A"), ("H", "F"))
    return "".join(names[axis][int(direction[axis] < 0)] for axis in order if abs(direction[axis]) >= LETTER_COSINE)
