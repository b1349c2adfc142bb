"""A patient of a seed, and the image and the truth of one on a grid."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_io.files.uids import derive_uid
from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.phantom.acquisition import Acquisition, Shading, blurred, draw_shading, noise_of, sample_offsets_mm
from models.phantom.body import Body, Outline, draw_body, outline
from models.phantom.bowel import Coil, draw_bowel, paint_bowel
from models.phantom.canvas import Canvas, Shape, canvas
from models.phantom.contrast import Contrast, Tissue
from models.phantom.lesions import Lesion, Wish, mark, paint_lesion, place
from models.phantom.liver import Liver, draw_liver, liver_axes
from models.phantom.organs import Organs, draw_organs, paint_chest, paint_gallbladder, paint_organs
from models.phantom.skeleton import Skeleton, draw_skeleton, muscles, paint_ribs, paint_spine, paint_sternum
from models.phantom.space import Axes, Float, SmoothField, axes_of, smooth_field
from models.phantom.vessels import Vessels, draw_vessels, paint_great_vessels, paint_veins_at_the_liver

LIVER, LESION = 1, 2
PLACING_MM = 5.0
SLAB_VOXELS = 2**18
"""Painted at one time: what lies in a core's cache."""


@dataclass(frozen=True, eq=False)
class Patient:
    """All that lies in one abdomen. The same whatever is done with it: contrast, lesions and grid come later."""

    seed: int
    body: Body
    skeleton: Skeleton
    liver: Liver
    organs: Organs
    bowel: tuple[Coil, ...]
    vessels: Vessels
    cysts: tuple[Lesion, ...]
    texture: SmoothField
    fine_texture: SmoothField


@dataclass(frozen=True, eq=False)
class Phantom:
    """A volume with its truth: 0 background, 1 liver, 2 every lesion.

    `lesions` from large to small, of those that reach into the image; `instances` the same for the truth, each voxel
    of lesion n having n (from 1), None where nobody kept them.
    """

    volume: Volume
    truth: NDArray[np.uint8]
    lesions: tuple[Lesion, ...]
    instances: NDArray[np.uint8] | None = None


def grid(
    *,
    slices: int,
    rows: int,
    columns: int,
    spacing_mm: tuple[float, float, float],
    seed: int,
    centre_lps_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Geometry:
    """A transverse grid (slice, row, column), centred on the abdomen or elsewhere."""
    step, row_mm, column_mm = spacing_mm
    corner = np.array(centre_lps_mm) - (np.array([columns, rows, slices]) - 1) / 2 * np.array([column_mm, row_mm, step])
    origins = corner + np.arange(slices)[:, None] * np.array([0.0, 0.0, step])
    return Geometry(
        origins_lps_mm=origins,
        row_cosines=np.array([1.0, 0.0, 0.0]),
        column_cosines=np.array([0.0, 1.0, 0.0]),
        row_spacing_mm=row_mm,
        column_spacing_mm=column_mm,
        rows=rows,
        columns=columns,
        frame_of_reference_uid=derive_uid("phantom-frame", seed),
        slice_spacing_mm=step,
    )


def stream(seed: int, part: str) -> np.random.Generator:
    """Random numbers for one part of a phantom: what is drawn for one leaves the others as they are."""
    return np.random.default_rng([seed, *part.encode()])


def draw_patient(seed: int) -> Patient:
    """The patient of a seed; `cysts` is empty."""
    body = draw_body(stream(seed, "body"))
    liver = draw_liver(stream(seed, "liver"), body)
    field = stream(seed, "texture")
    return Patient(
        seed=seed,
        body=body,
        skeleton=draw_skeleton(stream(seed, "skeleton"), body),
        liver=liver,
        organs=draw_organs(stream(seed, "organs"), body, liver),
        bowel=draw_bowel(stream(seed, "bowel"), body),
        vessels=draw_vessels(stream(seed, "vessels"), body, liver),
        cysts=(),
        texture=smooth_field(field, 4.0),
        fine_texture=smooth_field(field, 2.4),
    )


def draw_lesions(patient: Patient, wish: Wish, *, cysts: int = 0) -> tuple[Patient, tuple[Lesion, ...]]:
    """The patient with so many cysts, and the lesions that were wished for, as far as the liver has room for both."""
    axes = liver_axes(patient.liver, patient.body, PLACING_MM)
    space = _liver_distance(patient, _empty(patient, axes, outline(patient.body, axes), PLACING_MM, 0.0))
    lesions = place(stream(patient.seed, "lesions"), wish, axes, space)
    if not cysts:
        return patient, lesions
    free = np.where(mark(lesions, axes, space < 0) > 0, np.float32(PLACING_MM), space)
    asked = Wish(cysts, (3.0, 14.0), kinds=(Tissue.CYST,))
    found = place(stream(patient.seed, "cysts"), asked, axes, free)
    plain = tuple(replace(cyst, core=0.0, rim_mm=0.0, calcified=False) for cyst in found)
    return replace(patient, cysts=plain), lesions


def image(
    patient: Patient,
    lesions: tuple[Lesion, ...],
    geometry: Geometry,
    *,
    contrast: Contrast,
    how: Acquisition,
) -> Phantom:
    """Image and truth of a patient on a transverse grid.

    The truth is that of the voxels' centres; the image is averaged over each slice's thickness. Without noise the
    same patient looks the same on every grid. Raises ValueError for another than a transverse grid.
    """
    axes = axes_of(geometry)
    plane = outline(patient.body, axes)
    pixel = (geometry.row_spacing_mm, geometry.column_spacing_mm)
    offsets = sample_offsets_mm(how.thickness_mm or geometry.step_mm)
    truth = np.zeros(geometry.shape, dtype=np.uint8)
    instances = np.zeros(geometry.shape, dtype=np.uint8)
    array = np.empty(geometry.shape, dtype=np.int16)
    draw = stream(patient.seed, "noise")
    shading = draw_shading(stream(patient.seed, "shading"), how.shading) if how.shading else None
    at_once = max(1, SLAB_VOXELS // (geometry.rows * geometry.columns))
    for start in range(0, geometry.slices, at_once):
        part = slice(start, min(start + at_once, geometry.slices))
        values = np.zeros((part.stop - start, *geometry.shape[1:]), dtype=np.float32)
        for offset in offsets:
            slab = Axes(axes.x, axes.y, axes.z[part] + np.float32(offset))
            drawn, liver = _painted(patient, lesions, slab, plane, contrast, how, float(np.mean(pixel)))
            values += drawn.values
            if offset == 0:
                in_liver = liver < 0
                instances[part] = mark(lesions, slab, in_liver)
                truth[part] = in_liver.astype(np.uint8) + (instances[part] > 0)
        values = blurred(values / np.float32(len(offsets)), how.kernel, float(np.mean(pixel)))
        middle = Axes(axes.x, axes.y, axes.z[part])
        array[part] = _taken(values, middle, draw, contrast, how, shading, pixel)
    seen = np.unique(instances[instances > 0])
    order = np.zeros(256, dtype=np.uint8)
    order[seen] = np.arange(1, len(seen) + 1)
    volume = Volume(array, geometry, "CT" if contrast.is_ct else "MR", derive_uid("phantom", patient.seed))
    return Phantom(volume, truth, tuple(lesions[number - 1] for number in seen), order[instances])


def _empty(patient: Patient, axes: Axes, plane: Outline, pixel_mm: float, background: float) -> Canvas:
    return canvas(patient.body, axes, plane, pixel_mm, background)


def _liver_distance(patient: Patient, on: Canvas) -> Float:
    """Signed distance to the liver, less the vena cava and the gallbladder in its bed."""
    liver = np.full(on.axes.shape, 50.0, dtype=np.float32)
    window = on.axes.window(*patient.liver.bounds(patient.body))
    if window is not None:
        liver[window] = patient.liver.distance(on.part(window))
    taken: list[Shape] = [*patient.vessels.vena_cava.segments]
    if patient.organs.gallbladder is not None:
        taken.append(patient.organs.gallbladder)
    for shape in taken:
        window = on.axes.window(*shape.bounds(2.0))
        if window is not None:
            away = shape.distance(on.axes.part(window)) - np.float32(1.0)
            liver[window] = np.maximum(liver[window], -away)
    return liver


def _painted(
    patient: Patient,
    lesions: tuple[Lesion, ...],
    axes: Axes,
    plane: Outline,
    contrast: Contrast,
    how: Acquisition,
    pixel_mm: float,
) -> tuple[Canvas, Float]:
    """Everything on the slices at `axes`, from outside inward, and the signed distance to the liver."""
    mean = contrast.mean
    on = _empty(patient, axes, plane, pixel_mm, mean[Tissue.AIR])
    texture, fine = patient.texture.on(axes), patient.fine_texture.on(axes)
    bend = patient.organs.bend.on(axes)
    fat = mean[Tissue.FAT] + contrast.grain.get(Tissue.FAT, 0) * texture
    flesh = mean[Tissue.MUSCLE] + contrast.grain.get(Tissue.MUSCLE, 0) * texture
    streaks = np.clip(fine + 0.5 * bend - 1.6, 0, 1) * (mean[Tissue.FAT] - mean[Tissue.MUSCLE]) * 0.7
    if how.table and contrast.is_ct:
        _paint_table(on, patient.body)
    on.paint(on.skin, mean[Tissue.SKIN])
    on.paint(on.skin + np.float32(1.8), fat)
    on.paint(on.muscle, flesh + streaks)
    strands = np.clip(fine + texture - 2.4, 0, 1) * (mean[Tissue.MUSCLE] - mean[Tissue.FAT]) * 0.6
    on.paint(on.cavity, fat + strands)
    for muscle in muscles(patient.body):
        on.paint_shape(muscle, mean[Tissue.MUSCLE])
    paint_chest(on, patient.organs, patient.body, contrast, texture, fine)
    paint_ribs(on, patient.skeleton, contrast)
    paint_sternum(on, patient.body, contrast)
    paint_spine(on, patient.skeleton, patient.body, contrast, texture)
    paint_bowel(on, patient.bowel, contrast, texture, bend)
    paint_organs(on, patient.organs, contrast, texture, bend)
    paint_great_vessels(on, patient.vessels, contrast)
    liver = _liver_distance(patient, on)
    if patient.liver.ascites_mm:
        around = np.maximum(liver - np.float32(patient.liver.ascites_mm), np.maximum(on.cavity, on.dome) + 2)
        on.paint(around, mean[Tissue.BILE])
    on.paint(liver, mean[Tissue.LIVER] + contrast.grain.get(Tissue.LIVER, 0) * (texture + bend))
    paint_veins_at_the_liver(on, patient.vessels, contrast, liver)
    paint_gallbladder(on, patient.organs, contrast)
    for lesion in (*patient.cysts, *lesions):
        paint_lesion(on, lesion, contrast, liver, texture)
    return on, liver


def _paint_table(on: Canvas, body: Body) -> None:
    """The couch under the patient: a thin shell with foam in it."""
    x, y, _ = on.axes.open
    shape = np.asarray(np.hypot(x / 1.6, y - (body.back_mm - 290)) - 296, dtype=np.float32)
    shell = np.maximum(np.abs(shape), np.abs(x) - np.float32(215)) - np.float32(1.5)
    foam = np.maximum(np.abs(shape - np.float32(12)) - 11, np.abs(x) - np.float32(210))
    on.paint(np.broadcast_to(foam, on.axes.shape), -950.0)
    on.paint(np.broadcast_to(shell, on.axes.shape), -110.0)


def _taken(
    values: Float,
    axes: Axes,
    draw: np.random.Generator,
    contrast: Contrast,
    how: Acquisition,
    shading: Shading | None,
    pixel_mm: tuple[float, float],
) -> NDArray[np.int16]:
    """Values with noise, as whole numbers."""
    shape = (values.shape[0], values.shape[1], values.shape[2])
    if shading is not None:
        values = values * shading.on(axes)
    if contrast.is_ct:
        if how.noise:
            # outside of the body the rays meet little: less noise there
            strength = np.float32(how.noise) * np.clip((values + np.float32(1400)) / np.float32(1000), 0.45, 1)
            values = values + strength * noise_of(draw, shape, how, pixel_mm)
        return np.clip(np.rint(values), -1024, 3071).astype(np.int16)
    if how.noise:  # the magnitude of a complex signal: Rician (Gudbjartsson, Patz, Magn Reson Med 34:910, 1995)
        real, imaginary = (draw.standard_normal(shape, dtype=np.float32) * np.float32(how.noise) for _ in range(2))
        values = np.hypot(values + real, imaginary)
    return np.clip(np.rint(values), 0, 4095).astype(np.int16)
