"""How much memory a volume needs from its files to its report, known before a pixel is read. Imports no torch."""

from math import prod

MIB = 2**20

WORKER_MB = 1300
"""What any volume needs: a worker with torch, the shipped model and its activations (measured: 760 at rest, 250 more
in the fine pass), and the largest axial grid of a stack that is not axial (`models.reslicing`, 256)."""
SLICE_MB = 0.3
"""The network's own grid and its answer, for a slice: a liver box of 250 x 250 mm."""
VOXEL_BYTES = 14
"""A voxel as float32 (4) and its label (1), and the most that stands beside them: what checks or numbers the labels.
Measured with the volume as int16, which takes 2 less: 11 to 12."""
FRAME_BYTES = 7
"""What writing and proving the SEG takes beyond that for a voxel of its image, where 8 segments lie on every slice: a
frame of 512 x 512 took 0.34 MiB. It grows with the lesions, which no shape tells."""


USUAL_FIELD_MM = 500.0
"""Up to this field of view SLICE_MB holds. The network's pixels are millimetres: a wider field has more of them,
however few pixels the image has."""


def required_memory_mb(
    shape: tuple[int, int, int], field_mm: tuple[float, float] = (USUAL_FIELD_MM, USUAL_FIELD_MM)
) -> int:
    """MiB that reading, segmenting and reporting a volume of (slices, rows, columns) take at most, in `field_mm`.

    An upper estimate: for values that need float32, a liver that fills the image, and up to some 8 lesions on each
    slice; more of them need more. A GPU's own memory is not counted.

    Peaks of one process that did all three, for int16 slices of 512 x 512, with two threads on the CPU: the shipped
    model on a phantom, 100 slices 1164 MiB, 300 slices 1697; two thresholds in its place on an image that is all liver,
    1000 slices 3582, 2000 slices 6481; on a phantom, which they take for many lesions, 300 slices (2403 frames in the
    SEG) 2312, 1000 slices 6240. For 100, 300, 1000 and 2000 slices this says 1855, 2965, 6850 and 12400.
    """
    slice_mb = SLICE_MB * max(1.0, prod(field_mm) / USUAL_FIELD_MM**2)
    return int(WORKER_MB + slice_mb * shape[0] + (VOXEL_BYTES + FRAME_BYTES) * prod(shape) / MIB)
