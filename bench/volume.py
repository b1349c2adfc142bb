"""How fast a series becomes a volume in HU, and in how much memory, against other readers of the same files.

    .venv/bin/python bench/volume.py [FOLDER] [--slices 300] [--runs 5] [--syntax jpeg-ls]

All start from files in the page cache. "Porta, headers at hand" fills the volume as the service does, from headers
that were read when the files were received; "Porta, bare files" reads and checks the headers too. Where a peer gives
other voxels than Porta, that is said. Memory is measured in a separate process, beyond what it had before it read.

FOLDER is a DICOM series of your own; of several series in it, the one with the most images is taken. With --syntax the
series is compressed first; pydicom then decodes it slice by slice.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import highdicom
import numpy as np
import SimpleITK
from imagecodecs import jpeg2k_encode, jpeg8_encode, jpegls_encode, packbits_encode
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from stopwatch import MIB, in_turn, peak_rss_mib, print_ratio, print_table, spread
from studies import COLUMNS, ROWS, write_noise

from dicom_io.archive import dicom_files
from dicom_io.files.image_writer import write_ct_series
from dicom_io.pixels import read_volume
from dicom_io.series.series import group_by_series, open_series
from dicom_io.series.stacks import Stack
from models.phantom import grid

BYTES, PYDICOM, SIMPLEITK, HIGHDICOM = "raw bytes", "pydicom loop", "SimpleITK ImageSeriesReader", "highdicom"
FILLED, BARE = "Porta, headers at hand", "Porta, bare files"

Voxels = NDArray[np.generic]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, nargs="?")
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--syntax", choices=sorted(ENCODERS), help="compress the series first")
    options.add_argument("--memory-of", choices=list(WAYS), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.memory_of:
        print(memory_mib(chosen.memory_of, sorted(chosen.folder.iterdir())))
        return
    with tempfile.TemporaryDirectory(prefix="porta-bench-") as name:
        folder = Path(name) / "series"
        if chosen.folder:
            groups, _ = group_by_series(dicom_files(chosen.folder, Path(name)))
            if not groups:
                raise SystemExit(f"{chosen.folder}: no DICOM series")
            folder.mkdir()
            for index, file in enumerate(max(groups.values(), key=len)):
                (folder / f"{index:05}.dcm").write_bytes(file.path.read_bytes())
        else:
            # Porta refuses a stack that is shorter than 50 mm
            step_mm = max(1.0, 60 / chosen.slices)
            write = write_soft if chosen.syntax else write_noise
            write(folder, slices=chosen.slices, seed="volume", step_mm=step_mm)
        paths = sorted(folder.iterdir())
        if chosen.syntax:
            compress(paths, chosen.syntax)
        measure(paths, runs=chosen.runs)


def measure(paths: Sequence[Path], *, runs: int) -> None:
    """Print seconds, memory and ratios, and first whether a peer gives other voxels."""
    stack = only_stack(paths)
    ours = by_porta(paths, stack)
    differing = [name for name in (PYDICOM, SIMPLEITK, HIGHDICOM) if not same(WAYS[name](paths, stack), ours)]
    if differing:
        print(f"not the voxels that Porta reads: {', '.join(differing)}\n")
    shape, volume_mib = "x".join(map(str, ours.shape)), ours.nbytes / MIB
    del ours

    def timed(read: Callable[[Sequence[Path], Stack], object]) -> Callable[[int], float]:
        def measured(_: int) -> float:
            gc.collect()
            started = time.monotonic()
            read(paths, stack)
            return time.monotonic() - started

        return measured

    figures = in_turn(runs, {name: timed(read) for name, read in WAYS.items()})
    memory = {name: measured_apart(name, paths) for name in WAYS}
    rows = [
        (name, spread(seconds, 3), f"{len(paths) / median(seconds):.0f}", f"{memory[name] / volume_mib:.2f}")
        for name, seconds in figures.items()
    ]
    columns = ("", "s", "slices/s", "peak memory / volume")
    print_table(f"{len(paths)} files to a volume of {shape} ({volume_mib:.0f} MiB), {runs} runs", columns, rows)
    for peer in (BYTES, PYDICOM, SIMPLEITK):
        print_ratio(f"{FILLED}, to {peer}, seconds: smaller is better", figures[FILLED], figures[peer])


def only_stack(paths: Sequence[Path]) -> Stack:
    """The volume of the series, the first of several."""
    return open_series(paths).stacks[0]


def same(theirs: object, ours: Voxels) -> bool:
    return isinstance(theirs, np.ndarray) and np.array_equal(theirs, ours)


def by_bytes(paths: Sequence[Path], _: Stack) -> int:
    """What no reader can beat: the bytes alone."""
    return sum(len(path.read_bytes()) for path in paths)


def by_pydicom(paths: Sequence[Path], _: Stack) -> Voxels:
    """As written in tutorials: decode, rescale, sort by z, stack."""
    images = [dcmread(path) for path in paths]
    images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    return np.stack([image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in images])


def by_simpleitk(paths: Sequence[Path], _: Stack) -> Voxels:
    """GDCM sorts the files and ITK reads them."""
    uid = dcmread(paths[0], specific_tags=["SeriesInstanceUID"], stop_before_pixels=True).SeriesInstanceUID
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(paths[0].parent), str(uid)))
    return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()))


def by_highdicom(paths: Sequence[Path], _: Stack) -> Voxels:
    """Its Volume, with the modality's rescale; slices from the feet up, as Porta has those of a plain axial series."""
    volume = highdicom.get_volume_from_series([dcmread(path) for path in paths])
    return np.asarray(volume.to_patient_orientation("HPL").array)


def by_porta(_: Sequence[Path], stack: Stack) -> Voxels:
    """As the service does it."""
    return read_volume(stack).array


def by_porta_from_files(paths: Sequence[Path], _: Stack) -> Voxels:
    """As `porta segment` does it."""
    return read_volume(only_stack(paths)).array


WAYS: Mapping[str, Callable[[Sequence[Path], Stack], object]] = {
    BYTES: by_bytes,
    FILLED: by_porta,
    BARE: by_porta_from_files,
    PYDICOM: by_pydicom,
    SIMPLEITK: by_simpleitk,
    HIGHDICOM: by_highdicom,
}


def memory_mib(name: str, paths: Sequence[Path]) -> float:
    """The most memory that reading takes beyond what the process had (proc(5): clear_refs, VmHWM)."""
    stack = only_stack(paths)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_rss_mib()
    kept = WAYS[name](paths, stack)
    peak = peak_rss_mib()
    del kept
    return peak - before


def measured_apart(name: str, paths: Sequence[Path]) -> float:
    """`memory_mib` in a separate process."""
    command = [sys.executable, __file__, str(paths[0].parent), "--memory-of", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def write_soft(directory: Path, *, slices: int, seed: str, step_mm: float) -> list[Path]:
    """Soft shapes under the noise of a CT (15 HU), which compress as a CT does."""
    geometry = grid(slices=slices, rows=ROWS, columns=COLUMNS, spacing_mm=(step_mm, 0.75, 0.75), seed=0)
    draw, array = np.random.default_rng(0), np.empty(geometry.shape, np.int16)
    row, column = np.mgrid[:ROWS, :COLUMNS] / 40
    for index in range(slices):
        shapes = 60 * np.sin(row + index / 30) * np.cos(column)
        array[index] = np.rint(shapes + draw.normal(0, 15, shapes.shape))
    return write_ct_series(array, geometry, directory, seed=seed)


def rle_encode(frame: NDArray[np.uint16]) -> bytes:
    """PS3.5 annex G."""
    parts = [packbits_encode(frame.astype(">u2").tobytes()[byte::2]) for byte in range(2)]
    parts = [part + b"\0" * (len(part) % 2) for part in parts]
    return np.array([2, 64, 64 + len(parts[0]), *[0] * 13], "<u4").tobytes() + b"".join(parts)


ENCODERS: Mapping[str, tuple[str, Callable[[NDArray[np.uint16]], bytes]]] = {
    "rle": (RLELossless, rle_encode),
    "jpeg-ls": (JPEGLSLossless, jpegls_encode),
    "jpeg-2000": (JPEG2000Lossless, lambda frame: jpeg2k_encode(frame, codecformat="j2k", reversible=True, level=0)),
    "jpeg-lossless": (JPEGLosslessSV1, lambda frame: jpeg8_encode(frame, lossless=True, predictor=1, bitspersample=16)),
}


def compress(paths: Sequence[Path], syntax: str) -> None:
    """Encode the pixels of uncompressed 16-bit files, as numbers without a sign."""
    uid, encode = ENCODERS[syntax]
    for path in paths:
        ds = dcmread(path)
        stored = ds.pixel_array.astype(np.int32)
        if ds.PixelRepresentation:  # moved up, so that the sign needs no bit
            stored += 0x8000
            ds.RescaleIntercept = float(ds.RescaleIntercept) - 0x8000 * float(ds.RescaleSlope)
        ds.PixelRepresentation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 0, 16, 16, 15
        ds.PixelData = encapsulate([bytes(encode(stored.astype(np.uint16)))])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = uid
        ds.save_as(path)


if __name__ == "__main__":
    main()
