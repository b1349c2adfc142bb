"""The pictures: which slices, and that the patient's right is on the left however the rows run."""

import numpy as np
import pytest
from matplotlib.image import imread

from dicom_io.volume import Volume
from reports.overlays import write_overlays


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


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0)],
    ids=["plain", "rows back", "columns back", "both back"],
)
def test_right_is_left_and_front_is_up(make_case, tmp_path, orientation) -> None:
    """A bright patch at the patient's right front is drawn in the upper left quarter."""
    case = make_case(orientation=orientation, rows=60, columns=60, spacing_mm=(0.8, 0.8), lesions=False)
    geometry = case.volume.geometry
    points = geometry.index_to_lps(np.stack(np.indices(geometry.shape), axis=-1))
    middle = points.reshape(-1, 3).mean(axis=0)
    patch = (points[..., 0] < middle[0] - 8) & (points[..., 1] < middle[1] - 8)
    array = np.where(patch, 500, -500).astype(np.int16)
    empty = case.segmentation.__class__(np.zeros_like(case.segmentation.labels), geometry, case.segmentation.algorithm)
    volume = Volume(array, geometry, "CT", "1.2")
    (path,) = write_overlays(volume, empty, make_case(liver=False).findings, tmp_path)
    picture = imread(path)[..., :3].min(axis=-1)
    picture = picture[: int(0.94 * len(picture))]
    bright_rows, bright_columns = np.nonzero(picture > 0.9)
    inside = (bright_columns > 40) & (bright_columns < picture.shape[1] - 40) & (bright_rows > 40)
    assert np.median(bright_columns[inside]) < picture.shape[1] / 2
    assert np.median(bright_rows[inside]) < picture.shape[0] / 2


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
