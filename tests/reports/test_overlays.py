"""The pictures: which slices, and that they hang as they should however the rows run."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from reports.hanging import hanging
from reports.overlays import display_window, write_overlays


def drawn(case, folder):
    return write_overlays(case.volume, case.segmentation, case.findings, folder)


def test_the_liver_and_each_key_slice_are_drawn(make_case, tmp_path) -> None:
    """Numbered from 001, in a folder that need not exist."""
    case = make_case()
    paths = drawn(case, tmp_path / "new")
    areas = np.count_nonzero(case.segmentation.labels, axis=(1, 2))
    slices = {int(areas.argmax()), *(lesion.key_slice for lesion in case.findings.lesions)}
    assert [path.name for path in paths] == [f"overlay-{n:03d}.png" for n in range(1, len(slices) + 1)]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_without_a_liver_the_middle_is_drawn(make_case, tmp_path) -> None:
    """There is always something to look at."""
    assert len(drawn(make_case(liver=False), tmp_path)) == 1


STACKS = {
    "plain": {},
    "rows back": {"orientation": (1, 0, 0, 0, -1, 0)},
    "columns back": {"orientation": (-1, 0, 0, 0, 1, 0)},
    "both back": {"orientation": (-1, 0, 0, 0, -1, 0)},
    "transposed": {"orientation": (0, 1, 0, 1, 0, 0)},
    "tilted and uneven": {"drift_mm": 0.33, "positions_mm": np.cumsum(np.linspace(1, 6, 14))},
    "sagittal": {"orientation": (0, 1, 0, 0, 0, -1), "modality": "MR"},
    "sagittal, rows up": {"orientation": (0, -1, 0, 0, 0, 1)},
    "coronal": {"orientation": (1, 0, 0, 0, 0, -1), "modality": "MR"},
    "oblique": {"orientation": (1, 0, 0, 0, 0.8, -0.6)},
    "oblong pixels": {"spacing_mm": (1.6, 0.8), "rows": 30},
}


@pytest.mark.parametrize("how", STACKS.values(), ids=STACKS)
def test_slices_hang_as_they_should_at_their_true_shape(make_case, tmp_path, how) -> None:
    """A bright square of 12 mm at the right front top of the patient: where it is drawn, and that it stays square."""
    case = make_case(**{"rows": 60, "columns": 60, "spacing_mm": (0.8, 0.8), "liver": False, **how})
    geometry = case.volume.geometry
    points = geometry.index_to_lps(np.stack(np.indices(geometry.shape), axis=-1))
    plane = geometry.slices // 2
    middle = points[plane].reshape(-1, 3).mean(axis=0)
    # From the middle: towards right, front and head in the plane, 12 mm wide along the picture's own directions
    right, down = hanging(geometry.normal)
    across, along = (points - middle) @ right, (points - middle) @ down
    patch = (np.abs(across + 12) < 6) & (np.abs(along + 12) < 6)
    array = np.where(patch, 900, -500).astype(np.int16)
    volume = replace(case.volume, array=array)
    (path,) = write_overlays(volume, case.segmentation, case.findings, tmp_path)
    picture = imread(path)[..., :3].min(axis=-1)
    rows, columns = picture.shape
    picture = picture[: int(0.94 * rows)]
    inside = np.zeros_like(picture, bool)
    inside[60 : int(0.85 * rows), 60 : columns - 60] = True  # the letters stand at the edges
    found_rows, found_columns = np.nonzero((picture > 0.7) & inside)
    assert found_rows.mean() < 0.45 * rows and found_columns.mean() < 0.45 * columns
    height, width = np.ptp(found_rows) + 1, np.ptp(found_columns) + 1
    assert height == pytest.approx(width, rel=0.15)


def test_mr_is_shown_by_its_own_range(make_case) -> None:
    """Its values have no unit: percentiles, and no division by nothing in an empty volume."""
    case = make_case(modality="MR")
    array = np.zeros(case.volume.array.shape, np.float32)
    array[:, 10:30, 10:30] = np.linspace(5000, 9000, 20)
    low, high = display_window(replace(case.volume, array=array))
    assert low == 0 and 8500 < high <= 9000
    low, high = display_window(replace(case.volume, array=np.zeros_like(array)))
    assert high > low
    assert display_window(make_case().volume) == (-90, 210)


def test_the_outline_is_green_where_the_liver_is(make_case, tmp_path) -> None:
    """Contour and image share one space: the centre of the green pixels is the centre of the liver."""
    case = make_case(rows=60, columns=60, spacing_mm=(0.8, 0.8), lesions=False, orientation=(1, 0, 0, 0, -1, 0))
    picture = imread(drawn(case, tmp_path)[0])[..., :3]
    green = (picture[..., 1] > 0.6) & (picture[..., 0] < 0.45) & (picture[..., 2] < 0.55)
    rows, columns = np.nonzero(green)
    height, width = 0.945 * picture.shape[0], picture.shape[1]
    areas = np.count_nonzero(case.segmentation.labels, axis=(1, 2))
    plane = int(areas.argmax())
    where = np.argwhere(case.segmentation.labels[plane])
    points = case.volume.geometry.index_to_lps(np.column_stack([np.full(len(where), plane), where]))
    corners = case.volume.geometry.index_to_lps([[plane, 0, 0], [plane, 59, 59]])
    low, extent = corners.min(axis=0), np.ptp(corners, axis=0)
    expected = (np.array([points[:, i].min() + points[:, i].max() for i in (0, 1)]) / 2 - low[:2]) / extent[:2]
    side = min(height, width)
    found = (
        ((columns.min() + columns.max()) / 2 - (width - side) / 2) / side,
        ((rows.min() + rows.max()) / 2 - (height - side) / 2) / side,
    )
    assert found == pytest.approx(tuple(expected), abs=0.02)
