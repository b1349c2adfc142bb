"""What oncology counts from the lesions' long axes: targets, how many and how large they are, Milan, up-to-seven.

Pure. Lengths are compared as they are written, to a tenth of a millimetre.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom_io.axes import size_class_of
from dicom_io.geometry import Geometry
from dicom_io.series.stacks import THICK_MM, THICK_QUANTILE

TARGET_MM = 10.0
"""RECIST 1.1 (Eisenhauer 2009): the least long axis of a measurable lesion, by CT with slices of at most 5 mm."""

TARGETS_PER_ORGAN = 2

MILAN_ONE_MM, MILAN_EACH_MM, MILAN_COUNT = 50.0, 30.0, 3
"""Mazzaferro 1996 (N Engl J Med 334:693): one tumour of at most 5 cm, or up to three of at most 3 cm each."""

UP_TO = 7.0
"""Mazzaferro 2009 (Lancet Oncol 10:35): the largest tumour's size in cm and the number of tumours, added up."""

CRITERIA_CAVEAT = (
    "Computed from imaging numbers alone (long axes in the slices and the number of lesions); no vascular invasion or "
    "extrahepatic disease is known, nor that a lesion is a hepatocellular carcinoma."
)

NONE, SOLITARY, FEW, MULTIFOCAL = "none", "solitary", "2-3", "multifocal"
UNILOBAR, BILOBAR = "unilobar", "bilobar"


@dataclass(frozen=True)
class Criterion:
    """The result of a criterion, and the numbers that gave it. CRITERIA_CAVEAT belongs beside it."""

    met: bool
    computed: str


def target_indices(long_axes_mm: Sequence[float]) -> tuple[int, ...]:
    """Return which lesions RECIST 1.1 would follow in this organ: at least TARGET_MM, largest first, two at most."""
    order = sorted(range(len(long_axes_mm)), key=lambda index: -long_axes_mm[index])
    return tuple(index for index in order if round(long_axes_mm[index], 1) >= TARGET_MM)[:TARGETS_PER_ORGAN]


def slices_are_thick(geometry: Geometry, planes: Sequence[int]) -> bool:
    """Whether slices stand for more than 5 mm: most of the stack, as the series' warning has it, or one of `planes`.

    The distance of slices stands for their thickness, which a volume does not carry.
    """
    widths = geometry.slice_widths_mm
    limit = THICK_MM + 0.01
    return bool(np.quantile(widths, THICK_QUANTILE) > limit or any(widths[plane] > limit for plane in planes))


def spread_of(lesion_count: int) -> str:
    """NONE, SOLITARY, FEW or MULTIFOCAL."""
    return (NONE, SOLITARY, FEW, FEW)[lesion_count] if lesion_count <= 3 else MULTIFOCAL


def lobes_of(halves: Sequence[str]) -> str | None:
    """Return whether the lesions' centres, given by their halves, lie on one side or both; None without lesions."""
    return None if not halves else (UNILOBAR if len(set(halves)) == 1 else BILOBAR)


def size_category_of(long_axes_mm: Sequence[float]) -> str | None:
    """Return the class of `dicom_io.axes` of the longest, in words: "< 10", "10-20", …; None without lesions."""
    if not long_axes_mm:
        return None
    return size_class_of(max(long_axes_mm)).replace("<", "< ").replace(">", "> ")


def milan_of(long_axes_mm: Sequence[float]) -> Criterion | None:
    """The Milan criteria, as far as size and number go; None without lesions."""
    if not long_axes_mm:
        return None
    count, largest = len(long_axes_mm), round(max(long_axes_mm), 1)
    allowed = MILAN_ONE_MM if count == 1 else MILAN_EACH_MM
    return Criterion(
        met=count <= MILAN_COUNT and largest <= allowed,
        computed=f"{_lesions(count)}, the largest {largest:.1f} mm; "
        f"1 of at most {MILAN_ONE_MM:g} mm, or up to {MILAN_COUNT} of at most {MILAN_EACH_MM:g} mm",
    )


def up_to_seven_of(long_axes_mm: Sequence[float]) -> Criterion | None:
    """The up-to-seven criteria, as far as size and number go; None without lesions."""
    if not long_axes_mm:
        return None
    count, largest = len(long_axes_mm), round(max(long_axes_mm), 1)
    total = round(count + largest / 10, 2)
    return Criterion(
        met=total <= UP_TO,
        computed=f"{_lesions(count)} + {largest / 10:.2f} cm = {total:.2f}; at most {UP_TO:g}",
    )


def _lesions(count: int) -> str:
    return "1 lesion" if count == 1 else f"{count} lesions"
