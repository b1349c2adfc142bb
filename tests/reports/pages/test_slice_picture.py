"""Image, outlines, calipers and letters share one space, however the rows run."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from dicom_io.segmentation import Segmentation
from reports import codes
from reports.findings.measurements import measure
from reports.pages.drawing import Box, Canvas
from reports.pages.hanging import hanging
from reports.pages.slice_picture import (
    CALIPER_RGB,
    INSET,
    LESION_RGB,
    LETTER_SIZE,
    LIVER_RGB,
    MARGIN,
    draw_slice,
    lesion_rgb,
    outlines,
    sampled,
    whole_slice,
)
from reports.pages.window import Window

SIDE = 600
PICTURE = Box(0, 0, SIDE, SIDE)
DARK = Window(-100, 100)

STACKS = {
    "plain": {},
    "rows back": {"orientation": (1, 0, 0, 0, -1, 0)},
    "columns back": {"orientation": (-1, 0, 0, 0, 1, 0)},
    "both back": {"orientation": (-1, 0, 0, 0, -1, 0)},
    "transposed": {"orientation": (0, 1, 0, 1, 0, 0)},
    "turned in its plane": {"orientation": (0.8, 0.6, 0, -0.6, 0.8, 0)},
    "tilted and uneven": {"drift_mm": 0.33, "positions_mm": np.cumsum(np.linspace(1, 6, 14))},
    "sagittal": {"orientation": (0, 1, 0, 0, 0, -1), "modality": "MR"},
    "sagittal, rows up": {"orientation": (0, -1, 0, 0, 0, 1)},
    "coronal": {"orientation": (1, 0, 0, 0, 0, -1), "modality": "MR"},
    "oblique": {"orientation": (1, 0, 0, 0, 0.8, -0.6)},
    "oblong pixels": {"spacing_mm": (1.6, 0.8), "rows": 30},
    "a narrow image": {"rows": 90, "columns": 31},
}

every_stack = pytest.mark.parametrize("how", STACKS.values(), ids=STACKS)


def made(make_case, how, *, one_lesion=True):
    """A case of empty values, so that all colour is drawn; with one lesion, which is not its own mirror image."""
    case = make_case(**{"rows": 60, "columns": 60, "spacing_mm": (0.8, 0.8), **how})
    labels = case.segmentation.labels.copy()
    if one_lesion:
        labels[labels == 3] = 1
    segmentation = Segmentation(labels, case.volume.geometry, case.segmentation.algorithm)
    volume = replace(case.volume, array=np.full(labels.shape, -1000, case.volume.array.dtype))
    return replace(
        case, volume=volume, segmentation=segmentation, findings=measure(volume, segmentation, tracking_seed="x")
    )


def drawn(case, plane, *, measured=()):
    canvas = Canvas(SIDE, SIDE)
    grid = draw_slice(
        canvas, PICTURE, case.volume, case.segmentation, case.findings, plane, window=DARK, measured=measured
    )
    return canvas.pixels.astype(int), grid


def near(pixels, colour):
    """(n, 2) x, y of the pixels that have this hue: letters, halos and the image are grey."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    hued = {
        LIVER_RGB: green - np.maximum(red, blue) > 35,
        LESION_RGB: red - np.maximum(green, blue) > 70,
        codes.lesion_colour(2).to_rgb(clip=True): blue - np.maximum(red, green) > 70,
        CALIPER_RGB: np.minimum(red, green) - blue > 50,
    }
    return np.argwhere(hued[colour])[:, ::-1].astype(float)


def border(geometry, plane, mask):
    """(n, 3) LPS mm of the middles of the pixel edges between a mask and what is around it, found pixel by pixel."""
    padded = np.pad(mask, 1)
    points = []
    for row, column in np.argwhere(mask):
        for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            if not padded[row + 1 + down, column + 1 + across]:
                points.append((plane, row + down / 2, column + across / 2))
    return geometry.index_to_lps(points)


def distances(points, others):
    return cKDTree(others).query(points)[0]


@every_stack
def test_every_pixel_shows_what_lies_there(make_case, how) -> None:
    """Against a plain interpolation at the patient position of each pixel of the picture; and black around."""
    case = make_case(**{"rows": 60, "columns": 60, "spacing_mm": (0.8, 0.8), **how})
    geometry, plane = case.volume.geometry, 5
    grid = whole_slice(geometry, plane, 150)
    x, y = np.meshgrid(np.arange(150), np.arange(150))
    points = grid.origin_lps_mm + grid.pixel_mm * (x[..., None] * grid.right + y[..., None] * grid.down)
    np.testing.assert_allclose(grid.to_pixels(points), np.stack([x, y], axis=-1), atol=1e-6)
    indices = geometry.lps_to_index(points)
    assert np.abs(indices[..., 0] - plane).max() < 1e-6
    rows, columns = indices[..., 1], indices[..., 2]
    values = map_coordinates(case.volume.array[plane].astype(float), [rows, columns], order=1, mode="nearest")
    inside = (np.abs(rows - (geometry.rows - 1) / 2) < (geometry.rows - 1) / 2 - 0.01) & (
        np.abs(columns - (geometry.columns - 1) / 2) < (geometry.columns - 1) / 2 - 0.01
    )
    window = Window(-50, 150)
    greys = sampled(case.volume, plane, grid, window)
    expected = np.clip((values + 50) * 255 / 200, 0, 255)
    assert np.abs(greys - expected)[inside].max() <= 1
    outside = (np.abs(rows - (geometry.rows - 1) / 2) > geometry.rows / 2) | (
        np.abs(columns - (geometry.columns - 1) / 2) > geometry.columns / 2
    )
    assert not greys[outside].any() and inside.mean() > 0.2


@every_stack
def test_the_whole_slice_is_in_the_picture_at_its_true_shape(make_case, how) -> None:
    """Square pixels, and the image's outermost edges at the picture's."""
    case = make_case(**{"rows": 60, "columns": 60, "spacing_mm": (0.8, 0.8), **how})
    geometry = case.volume.geometry
    grid = whole_slice(geometry, 3, SIDE)
    rows, columns = geometry.rows, geometry.columns
    corners = grid.to_pixels(
        geometry.index_to_lps([[3, r, c] for r in (-0.5, rows - 0.5) for c in (-0.5, columns - 0.5)])
    )
    assert corners.min() == pytest.approx(-0.5, abs=1e-6) and corners.max() == pytest.approx(SIDE - 0.5, abs=1e-6)
    across = np.linalg.norm(corners[1] - corners[0]) * grid.pixel_mm
    down = np.linalg.norm(corners[2] - corners[0]) * grid.pixel_mm
    assert (across, down) == pytest.approx((columns * geometry.column_spacing_mm, rows * geometry.row_spacing_mm))


@every_stack
def test_outlines_are_drawn_on_the_borders_of_the_masks(make_case, how) -> None:
    """Every border has its colour beside it, and the colour is nowhere else."""
    case = made(make_case, how)
    (lesion,) = case.findings.lesions
    plane, geometry = lesion.place.key_slice, case.volume.geometry
    pixels, grid = drawn(case, plane)
    labels = case.segmentation.labels[plane]
    half_a_pixel = 0.5 * max(geometry.row_spacing_mm, geometry.column_spacing_mm) / grid.pixel_mm
    red = near(pixels, LESION_RGB)
    corner = np.array([SIDE, SIDE]) * 0.9
    for colour, mask in ((LIVER_RGB, labels >= 1), (LESION_RGB, labels == 2)):
        expected = grid.to_pixels(border(geometry, plane, mask))
        found = near(pixels, colour)
        assert distances(expected, found).max() < 2.0
        if colour == LIVER_RGB:
            assert distances(found, expected).max() < half_a_pixel + 2.0
    # The number of a lesion that is not measured here has its colour too, and stands beside it
    expected = grid.to_pixels(border(geometry, plane, labels == 2))
    far = red[distances(red, expected) > half_a_pixel + 2.0]
    assert len(far) < 150 and (not len(far) or np.ptp(far, axis=0).max() < 25)
    assert not (red > corner).all(axis=1).any()


@every_stack
def test_calipers_end_where_the_axes_end(make_case, how) -> None:
    """The line is there from end to end, a bar across both, and its length in millimetres is that of the picture."""
    case = made(make_case, how)
    (lesion,) = case.findings.lesions
    pixels, grid = drawn(case, lesion.place.key_slice, measured=[lesion])
    yellow = near(pixels, CALIPER_RGB)
    for ends_lps_mm, length_mm in zip(
        lesion.size.axis_end_points_lps_mm, (lesion.size.long_axis_mm, lesion.size.short_axis_mm), strict=True
    ):
        ends = grid.to_pixels(ends_lps_mm)
        indices = case.volume.geometry.lps_to_index(ends_lps_mm)
        np.testing.assert_allclose(indices[:, 0], lesion.place.key_slice, atol=1e-6)
        line = ends[0] + np.linspace(0.02, 0.98, 60)[:, None] * (ends[1] - ends[0])
        assert distances(line, yellow).max() < 1.5
        along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        across = np.array([-along[1], along[0]])
        for end in ends:
            assert distances([end + across * 5, end - across * 5], yellow).max() < 1.6
            # Nothing beyond the bar: the length is not longer than it is
            assert distances([end], yellow).max() < 1.6
        for end, outward in ((ends[0], -along), (ends[1], along)):
            assert distances([end + outward * 5], yellow).min() > 2
        assert np.linalg.norm(ends[1] - ends[0]) * grid.pixel_mm == pytest.approx(length_mm, rel=1e-6)


def letter_is(pixels, letter, x, baseline, align) -> bool:
    expected = Canvas(SIDE, SIDE)
    box = expected.text(x, baseline, letter, LETTER_SIZE, bold=True, align=align, halo=True)
    part = np.s_[round(box.top) - 2 : round(box.bottom) + 2, round(box.left) - 2 : round(box.right) + 2]
    return bool((expected.pixels[part] == pixels[part]).all())


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        ((1, 0, 0, 0, 1, 0), "RLAP"),  # head first or feet first, supine: the cosines are the patient's
        ((-1, 0, 0, 0, 1, 0), "RLAP"),  # columns run to the right: feet first on scanners that do not turn the image
        ((1, 0, 0, 0, -1, 0), "RLAP"),  # rows run to the front: prone, and LiTS
        ((-1, 0, 0, 0, -1, 0), "RLAP"),
        ((0, 1, 0, 1, 0, 0), "RLAP"),
        ((0, 1, 0, 0, 0, -1), "APHF"),
        ((0, -1, 0, 0, 0, 1), "APHF"),
        ((1, 0, 0, 0, 0, -1), "RLHF"),
        ((-1, 0, 0, 0, 0, 1), "RLHF"),
    ],
)
def test_the_letters_and_the_patient_agree(make_case, orientation, expected) -> None:
    """What is bright on the patient's left, back or feet is drawn at that letter, whatever the rows' direction."""
    case = make_case(orientation=orientation, rows=60, columns=60, spacing_mm=(0.8, 0.8), liver=False)
    geometry, plane = case.volume.geometry, 6
    points = geometry.index_to_lps(np.stack(np.indices(geometry.shape), axis=-1))
    middle = points[plane].reshape(-1, 3).mean(axis=0)
    directions = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "F": (2, -1), "H": (2, 1)}
    left, right, top, bottom = expected
    for letter, axis, wanted in ((left, 1, -1), (right, 1, 1), (top, 0, -1), (bottom, 0, 1)):
        dimension, sign = directions[letter]
        patch = np.abs((points[..., dimension] - middle[dimension]) * sign - 14) < 2
        volume = replace(case.volume, array=np.where(patch, 900, -1000).astype(np.int16))
        greys = sampled(volume, plane, whole_slice(geometry, plane, 100), DARK)
        assert (np.argwhere(greys > 128)[:, axis].mean() - 49.5) * wanted > 15
    black = replace(case.volume, array=np.full(geometry.shape, -1000, np.int16))
    pixels, _ = drawn(replace(case, volume=black), plane)
    places = (
        (left, MARGIN, SIDE / 2 + 11, "left"),
        (right, SIDE - MARGIN, SIDE / 2 + 11, "right"),
        (top, SIDE / 2, MARGIN + 22, "center"),
        (bottom, SIDE / 2, SIDE - MARGIN, "center"),
    )
    for letter, *where in places:
        assert letter_is(pixels, letter, *where)
        assert not letter_is(pixels, "X", *where)


def test_a_small_lesion_is_shown_larger_away_from_itself(make_case) -> None:
    """The source's pixels, nothing drawn over them, with the lesion in the middle; a large one has no need."""
    case = make_case(rows=200, columns=200, spacing_mm=(2.0, 2.0))
    labels = np.zeros(case.volume.geometry.shape, np.uint8)
    labels[3:9, 40:150, 30:120] = 1
    labels[5:7, 60:64, 40:45] = 2
    array = np.where(labels == 2, 95, -60).astype(np.int16)
    volume = replace(case.volume, array=array)
    segmentation = Segmentation(labels, volume.geometry, case.segmentation.algorithm)
    findings = measure(volume, segmentation, tracking_seed="x")
    case = replace(case, volume=volume, segmentation=segmentation, findings=findings)
    pixels, _ = drawn(case, findings.lesions[0].place.key_slice, measured=findings.lesions)
    side = round(INSET * SIDE)
    inset = pixels[MARGIN + 2 : MARGIN + side - 30, SIDE - MARGIN - side + 2 : SIDE - MARGIN - 2]
    assert (inset == inset[..., :1]).all()  # grey alone
    rows, columns = np.nonzero(inset[..., 0] > 160)
    assert (rows.mean(), columns.mean()) == pytest.approx((side / 2 - 2, side / 2 - 2), abs=3)
    assert len(rows) > 1500
    plain, _ = drawn(case, findings.lesions[0].place.key_slice)
    corner = plain[MARGIN : MARGIN + side, SIDE - MARGIN - side : SIDE - MARGIN]
    assert corner.max() < 80


def test_every_lesion_of_the_slice_has_its_number(make_case) -> None:
    """Those that are not measured in the colour of their outline; nothing is written over anything else."""
    case = made(make_case, {"rows": 120, "columns": 120}, one_lesion=False)
    one, two = case.findings.lesions
    plane = next(p for p, s in enumerate(case.segmentation.labels) if (s == 2).any() and (s == 3).any())
    outlined, grid = drawn(case, plane)
    for lesion in (one, two):
        lines = outlines(case.volume.geometry, plane, case.segmentation.labels[plane] == lesion.segment)
        right = np.concatenate([grid.to_pixels(line) for line in lines]).max(axis=0)[0]
        red = near(outlined, lesion_rgb(lesion))
        assert ((red[:, 0] > right + 4) & (red[:, 0] < right + 30)).sum() > 20


def test_an_outline_at_the_edge_of_the_image_closes() -> None:
    """A liver that is cut off has a border there too."""
    from dicom_io.geometry import from_affine

    geometry = from_affine(np.eye(4), (1, 20, 30), "1.2.3")
    mask = np.zeros((20, 30), bool)
    mask[:6, 25:] = True
    (line,) = outlines(geometry, 0, mask)
    assert (line[0] == line[-1]).all()
    assert outlines(geometry, 0, np.zeros_like(mask)) == []


def test_hanging_has_no_part_in_the_images_own_direction(make_case) -> None:
    """The grid's directions are those of the plane, not of the rows."""
    for how in STACKS.values():
        geometry = make_case(**how).volume.geometry
        grid = whole_slice(geometry, 0, 50)
        np.testing.assert_allclose(np.stack([grid.right, grid.down]), np.stack(hanging(geometry.normal)))
