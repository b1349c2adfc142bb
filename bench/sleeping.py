"""`porta` whose workers sleep where the model would run, as one waits that has given a GPU its work.

For `bench/scale.py`: PORTA_BENCH_GPU_S says how many seconds a volume takes. What is found is a box within the body;
all else is Porta's own.
"""

import os
import time

import numpy as np

from daemon.commands.cli import main
from dicom_io.progress import Progress, ignore_progress
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.volume import Volume


def sleeping_segment(model: object, volume: Volume, progress: Progress = ignore_progress) -> Segmentation:
    """Return a liver with a lesion in the middle of the volume, after the time of a GPU."""
    time.sleep(float(os.environ["PORTA_BENCH_GPU_S"]))
    labels = np.zeros(volume.geometry.shape, np.uint8)
    for label, share in ((LIVER, 0.25), (LIVER + 1, 0.08)):
        slices, rows, columns = (slice(round(n * (0.5 - share)), round(n * (0.5 + share))) for n in labels.shape)
        labels[slices, rows, columns] = label
    return Segmentation(labels, volume.geometry, model.algorithm, confidences=(0.9,))  # type: ignore[attr-defined]


if __name__ == "__mp_main__":  # a worker, which begins by importing this file
    from daemon.worker import stages

    stages.segment = sleeping_segment  # type: ignore[assignment]

if __name__ == "__main__":
    main()
