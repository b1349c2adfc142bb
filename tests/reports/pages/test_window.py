"""Which values are black and white: the source's window where it shows a liver."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from reports.pages.window import Window, display_window


def header(center, width) -> Dataset:
    ds = Dataset()
    ds.WindowCenter, ds.WindowWidth = center, width
    return ds


@pytest.mark.parametrize(
    ("center", "width", "shown"),
    [
        ("50", "400", (-150, 250)),
        (["-600", "40"], ["1500", "350"], (-135, 215)),
        ("-600", "1500", (-140, 260)),
        ("300", "1500", (-140, 260)),
        ("35", "80", (-140, 260)),
        ("50", "0", (-140, 260)),
        (["40", "50"], "400", (-160, 240)),
        ("", "", (-140, 260)),
    ],
    ids=["soft tissue", "lung first", "lung", "bone", "brain", "no width", "one width for two", "empty"],
)
def test_the_source_s_window_is_used_where_it_shows_a_liver(make_case, center, width, shown) -> None:
    """Else 60/400: on a lung or brain window a liver is one grey."""
    window = display_window(make_case().volume, header(center, width))
    assert (window.low, window.high) == shown


def test_a_broken_window_is_none(make_case) -> None:
    """What cannot be read is no reason for a report to fail."""
    ds = Dataset()
    for keyword in (0x00281050, 0x00281051):
        ds[keyword] = RawDataElement(Tag(keyword), "DS", 4, b"wide", 0, False, True)
    assert display_window(make_case().volume, ds) == display_window(make_case().volume)
    assert display_window(make_case().volume, Dataset()).name == "C 60 W 400"


def test_mr_is_shown_by_its_own_range(make_case) -> None:
    """Its values have no unit: percentiles, and no division by nothing in an empty volume."""
    case = make_case(modality="MR")
    array = np.zeros(case.volume.array.shape, np.float32)
    array[:, 10:30, 10:30] = np.linspace(5000, 9000, 20)
    window = display_window(replace(case.volume, array=array), header("50", "400"))
    assert window.low == 0 and 8500 < window.high <= 9000
    window = display_window(replace(case.volume, array=np.zeros_like(array)))
    assert window.high > window.low


def test_greys_run_from_black_to_white() -> None:
    """Linear, cut off at both ends."""
    values = np.array([-500, -150, 50, 250, 3000], np.float32)
    np.testing.assert_array_equal(Window(-150, 250).grey(values), [0, 0, 128, 255, 255])
