"""Classes of size: the same in reports, evaluation and charts, because there is one table of them."""

import pytest

from dicom_io.axes import size_class_of


@pytest.mark.parametrize(
    ("long_axis_mm", "expected"),
    [
        (0.0, "<10"), (9.94, "<10"), (9.96, "10-20"), (10.0, "10-20"), (20.04, "10-20"), (20.06, "20-30"),
        (30.0, "20-30"), (30.1, "30-50"), (50.0, "30-50"), (50.1, "50-100"), (100.0, "50-100"), (100.1, ">100"),
    ],
)  # fmt: skip
def test_upper_bounds_belong_to_a_class_and_ten_is_measurable(long_axis_mm: float, expected: str) -> None:
    """Lengths count as they are written, to a tenth of a millimetre."""
    assert size_class_of(long_axis_mm) == expected
