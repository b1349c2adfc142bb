"""What a network learns from and is measured on: an examination with its truth, and where one is found.

readers (models.datasets, models.phantom) -> CaseSource -> Case -> models.training.prepared -> training
                                                               -> models.evaluation.evaluation
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_io.volume import Volume

BACKGROUND, LIVER, TUMOUR = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Case:
    """One examination and its truth, both on the same grid.

    `name` tells it from the others of a run. `patient` is the same for all examinations of one patient, whatever the
    collection: splits are made by it. `labels` (slice, row, column) uint8: 0, 1 liver, 2 tumour. `instances` the same
    for tumours that were drawn one by one: 0, then 1, 2, …; None where they were not, and components stand for them.
    `tumours_drawn` False: label 1 may hide tumours, so nobody knows which tumours are false.
    """

    name: str
    patient: str
    volume: Volume
    labels: NDArray[np.uint8]
    instances: NDArray[np.uint8] | None = None
    tumours_drawn: bool = True

    def __post_init__(self) -> None:
        for array in (self.labels, self.instances):
            if array is not None and array.shape != self.volume.geometry.shape:
                raise ValueError("labels and instances must lie on the volume's grid")


class CaseSource(Protocol):
    """The source of a Case, known before a voxel is read."""

    @property
    def name(self) -> str:
        """Unique in a collection; never a patient's name: that of a folder, a file or a seed."""
        ...

    @property
    def patient(self) -> str:
        """The key by which splits keep a patient's examinations together."""
        ...

    @property
    def collection(self) -> str:
        """The name of the collection, as a card may print it: "LiTS", "CHAOS CT", "phantoms"."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the content does (hexadecimal), so that what was prepared from it is known to be stale."""
        ...

    def read(self) -> Case:
        """Read image and truth. Raises CaseUnreadable with one line that names the file and what is wrong with it."""
        ...
