"""Two outlines in two colours, each where it belongs, on the slice that tells most."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from reports.evaluation.agreement_picture import FOUND_RGB, GAP, HEAD, SIDE, TRUTH_RGB, most_different, write_agreement

SHAPE = (6, 100, 100)


def volume() -> Volume:
    """Axial, pixels of 4 mm, grey."""
    geometry = Geometry(
        origins_lps_mm=np.arange(SHAPE[0])[:, None] * np.array([0, 0, 5.0]),
        row_cosines=np.array([1.0, 0, 0]),
        column_cosines=np.array([0, 1.0, 0]),
        row_spacing_mm=4.0,
        column_spacing_mm=4.0,
        rows=SHAPE[1],
        columns=SHAPE[2],
        frame_of_reference_uid="1.2.3",
    )
    return Volume(np.full(SHAPE, 60, np.int16), geometry, "CT", "1.2.3")


def labels(plane: int, rows: slice, columns: slice, value: int = 1) -> NDArray[np.uint8]:
    """A rectangle in one slice."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[plane, rows, columns] = value
    return drawn


def places(picture: NDArray[np.float32], colour: tuple[int, int, int], panel: int) -> NDArray[np.intp]:
    """Rows and columns of a panel of the picture that have nearly this colour."""
    left = panel * (SIDE + GAP)
    part = picture[HEAD : HEAD + SIDE, left : left + SIDE, :3] * 255
    return np.argwhere(np.abs(part - np.array(colour)).max(axis=-1) < 12)


def test_both_outlines_are_drawn_in_their_colours(tmp_path: Path) -> None:
    """The truth on the patient's right, which is the picture's left; the found one beside it."""
    truth, found = labels(2, slice(30, 70), slice(20, 48)), labels(2, slice(30, 70), slice(52, 80))
    path = write_agreement(volume(), truth, found, tmp_path / "worst" / "a.png", title="case, model")
    picture = imread(path)
    assert picture.shape[1] == SIDE  # no tumours, no second panel
    blue, orange = places(picture, TRUTH_RGB, 0), places(picture, FOUND_RGB, 0)
    assert len(blue) > 300
    assert len(orange) > 200
    assert blue[:, 1].max() < SIDE / 2 < orange[:, 1].min()
    assert abs(blue[:, 0].mean() - SIDE / 2) < 15


def test_tumours_have_their_own_panel_and_slice(tmp_path: Path) -> None:
    """Each panel shows the slice where the two differ most in it."""
    truth = labels(1, slice(20, 80), slice(20, 80)) | labels(4, slice(20, 80), slice(20, 80))
    found = truth.copy()
    found[1, 20:30] = 0
    truth[4, 40:60, 30:50], found[4, 45:60, 55:70] = 2, 3
    picture = imread(write_agreement(volume(), truth, found, tmp_path / "b.png", title="t"))
    assert picture.shape[1] == 2 * SIDE + GAP
    blue, orange = places(picture, TRUTH_RGB, 1), places(picture, FOUND_RGB, 1)
    assert blue[:, 1].max() < orange[:, 1].min()
    only_found = imread(write_agreement(volume(), truth, found, tmp_path / "c.png", title="t", tumours_drawn=False))
    assert len(places(only_found, TRUTH_RGB, 1)) == 0
    assert len(places(only_found, FOUND_RGB, 1)) > 50


def test_most_different_slice() -> None:
    """By area; where both are equal the largest; where there is nothing the middle."""
    one, other = labels(1, slice(0, 50), slice(0, 50)) > 0, labels(3, slice(0, 9), slice(0, 9)) > 0
    assert most_different(one, other) == 1
    assert most_different(one, one) == 1
    assert most_different(one & False, one & False) == 3


def test_nothing_found_is_a_picture(tmp_path: Path) -> None:
    """The whole slice, without an outline."""
    nothing = np.zeros(SHAPE, np.uint8)
    picture = imread(write_agreement(volume(), nothing, nothing, tmp_path / "d.png", title="t"))
    assert len(places(picture, TRUTH_RGB, 0)) == 0


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    """A programmer's mistake."""
    with pytest.raises(ValueError, match="grid"):
        write_agreement(
            volume(), np.zeros((1, 2, 3), np.uint8), np.zeros(SHAPE, np.uint8), tmp_path / "e.png", title=""
        )


def test_a_picture_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    """Another file, renamed: who has the old one open still sees all of it."""
    nothing, path = np.zeros(SHAPE, np.uint8), tmp_path / "f.png"
    path.write_bytes(b"old")
    with path.open("rb") as old:
        write_agreement(volume(), nothing, nothing, path, title="t")
        assert old.read() == b"old"
    assert list(tmp_path.iterdir()) == [path]
