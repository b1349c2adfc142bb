"""How long SEG, SR, self-check and key images take beside the network, against highdicom's bare write of the SEG.

    .venv/bin/python bench/objects.py [--slices 300] [--lesions 10] [--rows 512] [--runs 5]

From labels in memory to every object on the disk, fsynced, as the service does it: findings, SEG, its proof, SR and key
images. The peer makes a BINARY SEG of the same labels from the same headers and saves it: nothing is measured, and
nothing proved. Memory is measured in a separate process, beyond headers, volume and labels.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from stopwatch import in_turn, peak_rss_mib, print_ratio, print_table, spread

from daemon.worker.results import write_results
from dicom_io.files.image_writer import write_ct_series
from dicom_io.pixels import read_volume
from dicom_io.segmentation import LIVER, Algorithm, Segmentation
from dicom_io.series.series import open_series, stack_headers
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume
from models.phantom import grid
from reports.identity import ResultIdentity
from reports.objects.case import measured_case
from reports.objects.profile import Profile

OURS, PEER = "Porta: findings, SEG, proof, SR, key images", "highdicom: BINARY SEG alone"
PROFILE = Profile(("seg", "sr", "key_images"))
EXTENT_MM = 300.0


@dataclass(frozen=True, eq=False)
class Study:
    """A series on the disk, its headers and volume, and labels on its grid."""

    stack: Stack
    headers: tuple[Dataset, ...]
    volume: Volume
    segmentation: Segmentation


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--lesions", type=int, default=10)
    options.add_argument("--rows", type=int, default=512)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--memory-of", choices=(OURS, PEER), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="porta-bench-") as name:
        study = make_study(Path(name) / "series", chosen.slices, chosen.rows, chosen.lesions)
        if chosen.memory_of:
            print(memory_mib(chosen.memory_of, study, Path(name)))
            return
        measure(study, Path(name), runs=chosen.runs)


def measure(study: Study, folder: Path, *, runs: int) -> None:
    """Print seconds, memory and the ratio."""
    shape = study.segmentation.geometry.shape
    lesions = int(study.segmentation.labels.max()) - LIVER

    def timed(way: str) -> object:
        def measured(run: int) -> float:
            gc.collect()
            started = time.monotonic()
            WAYS[way](study, folder / f"{way[:5]}-{run}")
            return time.monotonic() - started

        return measured

    figures = in_turn(runs, {way: timed(way) for way in WAYS})  # type: ignore[arg-type]
    size = ["--slices", str(shape[0]), "--rows", str(shape[1]), "--lesions", str(lesions)]
    memory = {way: measured_apart(way, size) for way in WAYS}
    rows = [(way, spread(seconds, 2), f"{memory[way]:.0f}") for way, seconds in figures.items()]
    title = f"{shape[0]} slices of {shape[1]} x {shape[2]}, {lesions} lesions, {runs} runs"
    print_table(title, ("", "s", "memory beyond the study's, MiB"), rows)
    print_ratio(f"{OURS}, to {PEER}, seconds: smaller is better", figures[OURS], figures[PEER])


def make_study(folder: Path, slices: int, rows: int, lesions: int) -> Study:
    """A liver-sized ellipsoid with balls of 8 to 40 mm on a helix in it; soft tissue with a CT's noise."""
    step, pixel = EXTENT_MM / slices, EXTENT_MM * 1.25 / rows
    geometry = grid(slices=slices, rows=rows, columns=rows, spacing_mm=(step, pixel, pixel), seed=0)
    z, y, x = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(geometry.shape, (step, pixel, pixel), strict=True)),
        indexing="ij",
        sparse=True,
    )
    labels = ((x / 90) ** 2 + (y / 75) ** 2 + (z / 85) ** 2 < 1).astype(np.uint8)
    for number in range(lesions):
        angle, height = 2.4 * number, -50 + 100 * (number + 0.5) / max(1, lesions)
        radius = 20 - 16 * number / max(1, lesions - 1)
        centre = (height, 45 * np.cos(angle), 45 * np.sin(angle))
        distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        labels[(distance < radius**2) & (labels == LIVER)] = LIVER + 1 + number
    draw = np.random.default_rng(0)
    array = draw.normal(60, 12, geometry.shape).astype(np.int16) + np.int16(50) * (labels == LIVER)
    stack = open_series(write_ct_series(array.astype(np.int16), geometry, folder, seed="reports")).stacks[0]
    volume = read_volume(stack)
    segmentation = Segmentation(labels, volume.geometry, Algorithm("bench", "1", "0" * 64))
    return Study(stack, tuple(stack_headers(stack)), volume, segmentation)


def by_porta(study: Study, outbox: Path) -> None:
    """As the service's last stage does it."""
    outbox.mkdir()
    identity = ResultIdentity(seed="b", revision=1, created=datetime(2026, 1, 1, tzinfo=UTC), software_version="0")
    case = measured_case(study.stack, study.volume, study.segmentation, identity=identity)
    write_results(case, outbox, profiles=(PROFILE,))


def by_highdicom(study: Study, outbox: Path) -> None:
    """The least that makes a file of the labels."""
    outbox.mkdir()
    labels: NDArray[np.uint8] = study.segmentation.labels
    liver, tissue = Code("10200004", "SCT", "Liver"), Code("85756007", "SCT", "Tissue")
    segments = [
        hd.seg.SegmentDescription(number, f"Segment {number}", tissue, liver, "MANUAL")
        for number in range(1, int(labels.max()) + 1)
    ]
    seg = hd.seg.Segmentation(
        source_images=list(study.headers),
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="bench",
        manufacturer_model_name="bench",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(outbox / "seg.dcm")


WAYS = {OURS: by_porta, PEER: by_highdicom}


def memory_mib(way: str, study: Study, folder: Path) -> float:
    """The most memory that it takes beyond what the process had (proc(5): clear_refs, VmHWM)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_rss_mib()
    WAYS[way](study, folder / "memory")
    return peak_rss_mib() - before


def measured_apart(way: str, size: list[str]) -> float:
    """`memory_mib` in a separate process."""
    command = [sys.executable, __file__, *size, "--memory-of", way]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
