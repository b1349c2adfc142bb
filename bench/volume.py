"""How fast a series becomes a volume in HU, against reading its bytes, a plain pydicom loop, and SimpleITK.

All four start from the files on disk (in the page cache). Porta's way also checks what a series must be checked for:
UIDs, orientation, grid, positions, spacing. Where a peer gives other voxels than Porta, that is said.

    .venv/bin/python bench/volume.py [FOLDER] [--slices 300] [--runs 5]

FOLDER is a DICOM series of your own; of several series in it, the one with the most images is taken.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import dcmread
from stopwatch import in_turn, print_ratio, print_table, spread
from studies import write_noise

from dicom_io.archive import dicom_files
from dicom_io.series import group_by_series, open_series, read_volume

BYTES, PYDICOM, SIMPLEITK, PORTA = "raw bytes", "pydicom loop", "SimpleITK ImageSeriesReader", "Porta"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, nargs="?")
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--runs", type=int, default=5)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="porta-bench-") as name:
        if chosen.folder:
            groups, _ = group_by_series(dicom_files(chosen.folder, Path(name)))
            if not groups:
                raise SystemExit(f"{chosen.folder}: no DICOM series")
            measure([path for _, path in max(groups.values(), key=len)], runs=chosen.runs)
        else:
            # Porta refuses a stack that is shorter than 50 mm
            step_mm = max(1.0, 60 / chosen.slices)
            files = write_noise(Path(name) / "series", slices=chosen.slices, seed="volume", step_mm=step_mm)
            measure(files, runs=chosen.runs)


def measure(paths: Sequence[Path], *, runs: int) -> None:
    """Print seconds and ratios, and first whether a peer gives other voxels."""
    ways = {PYDICOM: by_pydicom, SIMPLEITK: by_simpleitk, PORTA: by_porta}
    voxels: dict[str, NDArray[np.generic]] = {name: read(paths) for name, read in ways.items()}
    differing = [name for name in (PYDICOM, SIMPLEITK) if not np.array_equal(voxels[name], voxels[PORTA])]
    if differing:
        print(f"not the voxels that Porta reads: {', '.join(differing)}\n")
    shape = "x".join(map(str, voxels.pop(PORTA).shape))
    voxels.clear()

    def timed(read: Callable[[Sequence[Path]], object]) -> Callable[[int], float]:
        def measured(_: int) -> float:
            started = time.monotonic()
            read(paths)
            return time.monotonic() - started

        return measured

    figures = in_turn(runs, {name: timed(read) for name, read in {BYTES: by_bytes, **ways}.items()})
    rows = [(name, spread(values, 2), f"{len(paths) / median(values):.0f}") for name, values in figures.items()]
    print_table(f"{len(paths)} files to a volume of {shape}, {runs} runs", ("", "s", "slices/s"), rows)
    for peer in (BYTES, PYDICOM, SIMPLEITK):
        print_ratio(f"{PORTA} to {peer}, seconds: smaller is better", figures[PORTA], figures[peer])


def by_bytes(paths: Sequence[Path]) -> int:
    """What no reader can beat: the bytes alone."""
    return sum(len(path.read_bytes()) for path in paths)


def by_pydicom(paths: Sequence[Path]) -> NDArray[np.float64]:
    """As written in tutorials: decode, rescale, sort by z, stack."""
    images = [dcmread(path) for path in paths]
    images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    return np.stack([image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in images])


def by_simpleitk(paths: Sequence[Path]) -> NDArray[np.generic]:
    """GDCM sorts the files and ITK reads them."""
    uid = dcmread(paths[0], specific_tags=["SeriesInstanceUID"], stop_before_pixels=True).SeriesInstanceUID
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(paths[0].parent), str(uid)))
    return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()))


def by_porta(paths: Sequence[Path]) -> NDArray[np.generic]:
    """As the service does it."""
    return read_volume(open_series(paths)).array


if __name__ == "__main__":
    main()
