"""Bright (or dark) lesions in the parenchyma of a real CT: cases with known lesions, for `porta evaluate`.

No arterial CT with drawn tumours is at hand. Here bumpy ellipsoids with a soft edge, brighter than the liver by `--hu`,
are put into it where it is even: away from its surface, its vessels and what else is in it. Every seed is a volume.

    .venv/bin/python bench/inserted.py ct.zip --volume 0 -o inserted        # the first volume of a series of two phases
    porta evaluate --weights resnet50 --data inserted -o figures            # recall of lesions of 10 mm and more

The liver is that of `--liver LABELS.nii.gz`, or what `--weights` find in the volume `--liver-volume` of the series
(liver Dice of such a case says nothing then, and a tumour that was in it before counts as a false lesion).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter

from dicom_io.archive import dicom_files
from dicom_io.geometry import Geometry
from dicom_io.nifti import read_labels, read_nifti, write_image, write_labels
from dicom_io.pixels import read_volume
from dicom_io.segmentation import LIVER
from dicom_io.series.series import open_series
from dicom_io.volume import Volume
from models.cards import find
from models.inference import load_model, segment
from models.phantom import Lesion

EVEN_HU = 12.0
"""How far the smoothed value of a place may be from the liver's median for it to be parenchyma."""
EDGE_MM = 2.5
ROOM = 0.7
"""The part of a lesion's radius within which all is parenchyma."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source", type=Path, help="a folder or zip of one DICOM series, or a NIfTI")
    options.add_argument("-o", "--out", type=Path, required=True)
    options.add_argument("--volume", type=int, default=0, help="which volume of the series")
    options.add_argument("--liver-volume", type=int, default=-1, help="of the same places: where the liver is found")
    options.add_argument("--liver", type=Path, help="label volume; else by the weights")
    options.add_argument("--weights", default="resnet50")
    options.add_argument("--seeds", type=int, default=6, help="how many cases")
    options.add_argument("--lesions", type=int, default=5, help="in each, where there is room")
    options.add_argument("--diameters", type=float, nargs=2, default=(10.0, 35.0), help="mm")
    options.add_argument("--hu", type=float, nargs=2, default=(20.0, 60.0), help="above the liver; negative: below")
    chosen = options.parse_args()
    volume, liver = read(chosen)
    name = chosen.source.parent.name
    for seed in range(chosen.seeds):
        draw = np.random.default_rng(seed)
        array, instances = insert_lesions(volume, liver, draw, chosen.lesions, chosen.diameters, chosen.hu)
        folder = chosen.out / f"{name}-inserted-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        write_image(array, volume.geometry, folder / "ct.nii.gz")
        write_labels((liver + (instances > 0)).astype(np.uint8), volume.geometry, folder / "labels.nii.gz")
        write_labels(instances, volume.geometry, folder / "tumour_instances.nii.gz")
        print(f"{folder}: {instances.max()} lesions, liver {np.median(volume.array[liver > 0]):.0f} HU")


def read(chosen: argparse.Namespace) -> tuple[Volume, NDArray[np.uint8]]:
    """The volume, and its liver without the lesions that were in it: 0 and 1."""
    if chosen.source.name.endswith((".nii", ".nii.gz")):
        volumes = [read_nifti(chosen.source)]
    else:
        with tempfile.TemporaryDirectory() as workdir:
            series = open_series(dicom_files(chosen.source, Path(workdir)))
            volumes = [read_volume(stack) for stack in series.stacks]
    volume = volumes[chosen.volume]
    if chosen.liver:
        labels = read_labels(chosen.liver, volume.geometry)
    else:
        labels = segment(load_model(find(chosen.weights), device="auto"), volumes[chosen.liver_volume]).labels
    return volume, (labels == LIVER).astype(np.uint8)


def insert_lesions(
    volume: Volume,
    liver: NDArray[np.uint8],
    draw: np.random.Generator,
    count: int,
    diameters_mm: tuple[float, float],
    hu: tuple[float, float],
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """The image (slice, row, column) with up to `count` lesions of these sizes and contrasts, and their numbers."""
    geometry = volume.geometry
    spacing = (float(np.median(geometry.slice_widths_mm)), geometry.row_spacing_mm, geometry.column_spacing_mm)
    image, numbers = volume.array.astype(np.int16), np.zeros(geometry.shape, np.uint8)
    (box,) = find_objects(liver)
    corner = np.array([part.start for part in box])
    organ, instances = liver[box] > 0, numbers[box]
    array = image[box].astype(np.float32)
    smooth = gaussian_filter(array, [2.0 / mm for mm in spacing])
    even = organ & (np.abs(smooth - np.median(array[organ])) < EVEN_HU)
    inside_mm = distance_transform_edt(np.pad(organ, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    for diameter in sorted(np.exp(draw.uniform(*np.log(diameters_mm), count)), reverse=True):
        room_mm = distance_transform_edt(even & (instances == 0), sampling=spacing)
        room = (room_mm > ROOM * diameter / 2) & (inside_mm > diameter / 2 + EDGE_MM)
        places = np.argwhere(room)
        if not len(places):
            continue
        place = places[draw.integers(len(places))]
        lesion = draw_lesion(draw, diameter / 2, geometry.index_to_lps(place + corner))
        radius = normalised_radius(lesion, geometry, corner, organ.shape)
        cover = np.clip((1 - radius) * min(lesion.axes) / EDGE_MM + 0.5, 0, 1)
        array += cover * float(draw.uniform(*hu)) * organ
        instances[(radius < 1) & organ & (instances == 0)] = instances.max() + 1
    image[box] = np.rint(array)
    return image, numbers


def draw_lesion(draw: np.random.Generator, radius_mm: float, centre: NDArray[np.float64]) -> Lesion:
    """A bumpy ellipsoid about a place, LPS mm."""
    x, y, z = (radius_mm * draw.uniform(0.85, 1.15, 3)).tolist()
    bumps = tuple(
        (float(draw.uniform(0.01, 0.05)), *draw.normal(0, 2, 3).tolist(), float(draw.uniform(0, 6.3))) for _ in range(3)
    )
    return Lesion(tuple(centre.tolist()), (x, y, z), bumps=bumps)


def normalised_radius(
    lesion: Lesion, geometry: Geometry, corner: NDArray[np.int64], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Of a part of the grid, from `corner` on: 1 on the lesion's surface, 9 on slices that it does not reach."""
    radius = np.full(shape, 9.0, np.float32)
    rows, columns = np.indices(shape[1:]) + corner[1:, None, None]
    for number, plane in enumerate(radius):
        slice_number = number + corner[0]
        if abs(geometry.origins_lps_mm[slice_number] - lesion.centre)[2] < 1.5 * lesion.axes[2]:
            places = np.stack([np.full(rows.shape, slice_number), rows, columns], axis=-1)
            plane[...] = lesion.distance(*np.moveaxis(geometry.index_to_lps(places), -1, 0))
    return radius


if __name__ == "__main__":
    main()
