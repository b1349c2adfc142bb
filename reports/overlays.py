"""Pictures of a few slices with the outlines drawn in, to look at without a viewer.

Shown as radiologists hang slices of that plane (see `reports.hanging`), with letters at the edges. The axes are
millimetres in the plane, and the image is laid into them by the geometry's cosines: rows that run back to front,
columns that run to the right, pixels that are not square, planes of any direction need no case of their own.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray
from skimage.measure import find_contours

from dicom_io.geometry import Float, Geometry
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.volume import Volume
from reports.envelope import RESEARCH_USE
from reports.hanging import hanging, letters
from reports.measurements import Findings

WINDOW_CENTER_HU = 60.0
WINDOW_WIDTH_HU = 300.0
WINDOW_PERCENTILES = (1.0, 99.5)
"""What is black and white in MR, whose values have no unit, in percent of the volume's voxels."""

LESION_SLICES = 4
LIVER_COLOUR = "#35d04f"
LESION_COLOUR = "#ff4040"


def write_overlays(volume: Volume, segmentation: Segmentation, findings: Findings, directory: Path) -> list[Path]:
    """Write `overlay-001.png`... into `directory` (made if missing) and return their paths.

    The slice with the most liver first, then the key slices of the four largest lesions; without a liver, the
    middle slice.
    """
    directory.mkdir(parents=True, exist_ok=True)
    areas = np.count_nonzero(segmentation.labels, axis=(1, 2))
    largest = int(areas.argmax()) if areas.any() else segmentation.geometry.slices // 2
    planes = dict.fromkeys([largest, *(lesion.key_slice for lesion in findings.lesions[:LESION_SLICES])])
    window = display_window(volume)
    paths = []
    for number, plane in enumerate(planes, start=1):
        path = directory / f"overlay-{number:03d}.png"
        _draw(volume, segmentation, findings, plane, window).savefig(path, dpi=110, facecolor="black")
        paths.append(path)
    return paths


def display_window(volume: Volume) -> tuple[float, float]:
    """The values that are shown black and white: a liver window for CT, percentiles of the volume for MR."""
    if volume.modality == "CT":
        return WINDOW_CENTER_HU - WINDOW_WIDTH_HU / 2, WINDOW_CENTER_HU + WINDOW_WIDTH_HU / 2
    # Every second pixel will do, and a copy of the whole would be as large as the volume
    low, high = np.percentile(volume.array[:, ::2, ::2], WINDOW_PERCENTILES)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _draw(
    volume: Volume, segmentation: Segmentation, findings: Findings, plane: int, window: tuple[float, float]
) -> Figure:
    # No pyplot: its figures live in a module global, and workers may draw at once
    figure = Figure(figsize=(7, 7.4), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.055, 1.0, 0.945))
    axes.set_axis_off()
    axes.set_aspect("equal")
    geometry = volume.geometry
    # (3, 2) from LPS to the picture: what is drawn to the right, and downwards
    hung = np.column_stack(hanging(geometry.normal))
    image = axes.imshow(volume.array[plane], cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
    image.set_transform(_pixels_to_picture_mm(geometry, plane, hung) + axes.transData)

    labels = segmentation.labels[plane]
    for outline in _outlines(geometry, plane, labels >= LIVER):
        axes.plot(*(outline @ hung).T, color=LIVER_COLOUR, linewidth=1.1)
    for lesion in findings.lesions:
        for outline in _outlines(geometry, plane, labels == lesion.segment):
            axes.plot(*(outline @ hung).T, color=LESION_COLOUR, linewidth=1.1)
        if lesion.key_slice == plane:
            for ends in lesion.axis_end_points_lps_mm:
                axes.plot(*(np.array(ends) @ hung).T, color="#ffd34d", linewidth=0.9)

    extremes = [[plane, row, column] for row in (0, geometry.rows - 1) for column in (0, geometry.columns - 1)]
    corners = geometry.index_to_lps(extremes) @ hung
    axes.set_xlim(corners[:, 0].min(), corners[:, 0].max())
    axes.set_ylim(corners[:, 1].max(), corners[:, 1].min())
    _letter(axes, hung)
    figure.text(0.012, 0.028, _caption(findings, geometry, plane), color="white", fontsize=8.5)
    figure.text(0.012, 0.008, RESEARCH_USE, color="#ffd34d", fontsize=8.5)
    return figure


def _pixels_to_picture_mm(geometry: Geometry, plane: int, hung: Float) -> Affine2D:
    """Image coordinates (column, row) to the picture's, as the position of the slice and its cosines say."""
    matrix = np.eye(3)
    matrix[:2, 0] = geometry.row_cosines * geometry.column_spacing_mm @ hung
    matrix[:2, 1] = geometry.column_cosines * geometry.row_spacing_mm @ hung
    matrix[:2, 2] = geometry.origins_lps_mm[plane] @ hung
    return Affine2D(matrix)


def _outlines(geometry: Geometry, plane: int, mask: NDArray[np.bool_]) -> list[Float]:
    """Closed outlines (n, 3) in LPS mm; the mask is padded so that those at the image's edge close too."""
    padded = np.pad(mask, 1).astype(np.float32)
    lines: list[Float] = find_contours(padded, 0.5)  # type: ignore[no-untyped-call]
    return [geometry.index_to_lps(np.column_stack([np.full(len(line), plane), line - 1])) for line in lines]


def _letter(axes: Axes, hung: Float) -> None:
    right, down = hung.T
    for direction, x, y in ((-right, 0.01, 0.5), (right, 0.99, 0.5), (-down, 0.5, 0.975), (down, 0.5, 0.025)):
        axes.text(
            x,
            y,
            letters(direction),
            transform=axes.transAxes,
            color="white",
            fontsize=12,
            # Up to three letters: those at the sides grow inwards
            ha="center" if x == 0.5 else ("left" if x < 0.5 else "right"),
            va="center",
            weight="bold",
        )


def _caption(findings: Findings, geometry: Geometry, plane: int) -> str:
    here = [lesion for lesion in findings.lesions if lesion.key_slice == plane]
    axis = int(np.abs(geometry.normal).argmax())
    middle = geometry.index_to_lps([plane, (geometry.rows - 1) / 2, (geometry.columns - 1) / 2])
    parts = [f"Slice {plane + 1} of {geometry.slices}, {geometry.plane_name}, {'xyz'[axis]} {middle[axis]:.1f} mm"]
    parts.append(f"liver {findings.liver_volume_ml:.0f} mL" if findings.liver_volume_ml else "no liver found")
    parts.append("no lesion" if not findings.lesions else f"{findings.lesion_count} lesion(s)")
    parts += [f"lesion {item.number}: {item.long_axis_mm:.0f} x {item.short_axis_mm:.0f} mm" for item in here[:3]]
    return ", ".join(parts)
