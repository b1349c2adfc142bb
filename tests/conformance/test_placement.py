"""Random stacks, oblique, tilted, gapped, anisotropic, in shuffled files: every index and point stays where it is."""

import math
import random
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_io.geometry import Geometry
from dicom_io.pixels import read_volume
from dicom_io.series.series import open_series
from dicom_io.series.stacks import Stack
from tests.conformance.made_files import Made, content, write

ROWS, COLUMNS = 7, 9


@st.composite
def stacks(draw: st.DrawFn) -> Geometry:
    """Planes of any orientation, 5 to 14 of them over at least 50 mm, uneven or not, sheared or not."""
    angle = st.floats(-math.pi, math.pi)
    row, column = _rotation(draw(angle), draw(angle), draw(angle))
    gaps = draw(
        st.one_of(
            st.tuples(st.integers(10, 13), st.floats(5, 12)).map(lambda even: [even[1]] * even[0]),
            st.lists(st.floats(6, 19), min_size=9, max_size=13),
        )
    )
    shear = draw(st.one_of(st.just((0.0, 0.0)), st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))))
    along = np.cross(row, column) + shear[0] * row + shear[1] * column
    start = np.array([draw(st.floats(-900, 900)) for _ in range(3)])
    origins = start + np.cumsum([0.0, *gaps])[:, None] * along
    spacing = draw(st.floats(0.3, 4)), draw(st.floats(0.3, 4))
    return Geometry(origins, row, column, *spacing, ROWS, COLUMNS, "1.2.3")


def _rotation(*angles: float) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.eye(3)
    for (one, two), angle in zip(((1, 2), (2, 0), (0, 1)), angles, strict=True):
        step = np.eye(3)
        step[one, one] = step[two, two] = math.cos(angle)
        step[one, two], step[two, one] = -math.sin(angle), math.sin(angle)
        matrix = step @ matrix
    return matrix[:, 0], matrix[:, 1]


@given(stacks(), st.integers(0, 2**32))
@settings(max_examples=settings.default.max_examples // 10, suppress_health_check=[HealthCheck.too_slow])
def test_a_labelled_point_comes_back_at_its_place(geometry: Geometry, seed: int) -> None:
    """From shuffled files: within 0.01 mm, though positions are decimal strings; and each voxel is in its slice."""
    made = content(geometry, seed)
    with tempfile.TemporaryDirectory() as scratch:
        (stack,) = _shuffled(Path(scratch), made, seed)
        volume = read_volume(stack)
    brightest = np.unravel_index(int(volume.array.argmax()), volume.array.shape)
    assert np.abs(volume.geometry.index_to_lps(brightest) - made.bright_lps_mm).max() <= 0.01
    assert np.array_equal(volume.array, made.array)


@given(stacks(), st.lists(st.tuples(*[st.floats(-1, 2)] * 3), min_size=1, max_size=20))
def test_index_to_lps_to_index(geometry: Geometry, places: list[tuple[float, float, float]]) -> None:
    """Within 1e-6, between the planes and outside the stack too."""
    indices = np.array(places) * np.array(geometry.shape)
    assert np.abs(geometry.lps_to_index(geometry.index_to_lps(indices)) - indices).max() <= 1e-6


@given(stacks())
def test_each_voxel_is_where_the_standard_puts_it(geometry: Geometry) -> None:
    """Equation C.7.6.2.1-1 of PS3.3, for the corners of every plane."""
    for plane in range(geometry.slices):
        for row, column in ((0, 0), (0, COLUMNS - 1), (ROWS - 1, 0), (ROWS - 1, COLUMNS - 1)):
            expected = Made(np.empty(0, np.float32), geometry, (plane, row, column)).bright_lps_mm
            assert np.abs(geometry.index_to_lps((plane, row, column)) - expected).max() <= 1e-6


def _shuffled(folder: Path, made: Made, seed: int) -> tuple[Stack, ...]:
    write(folder, made)
    paths = sorted(folder.iterdir())
    random.Random(seed).shuffle(paths)
    return open_series(paths).stacks
