"""Every number of findings.json, with its unit and its coded concept in the SR, or the reason why the SR lacks it.

`reports.objects.findings_json` and `reports.objects.sr` write from these lists. A new number takes two places: the part
of the lesion that holds it, and a row here. The rows of a list stand in the order of the SR.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydicom.sr.coding import Code

from reports import codes
from reports.findings.findings import Findings, Lesion
from reports.findings.response import Growth

Whole = TypeVar("Whole")


@dataclass(frozen=True)
class Measure(Generic[Whole]):
    """One number `of` a whole: its key in findings.json, its concept in the SR and how it was derived.

    `code` is None where the SR has no such number; `why_not` then says why. The SR's value is `factor` times that of
    findings.json. `method` says how it was measured, where others measure it otherwise. Raises ValueError for a row
    with both or neither.
    """

    key: str
    unit: Code
    code: Code | None
    derivation: Code | None
    of: Callable[[Whole], float | None]
    factor: float = 1.0
    why_not: str = ""
    method: Code | None = None

    def __post_init__(self) -> None:
        if (self.code is None) != bool(self.why_not):
            raise ValueError(f"{self.key} needs a code, or a reason why the SR lacks it")


ATTENUATION = codes.ATTENUATION_COEFFICIENT

LIVER: tuple[Measure[Findings], ...] = (
    Measure("volume_ml", codes.MILLILITER, codes.VOLUME, None, lambda found: found.liver_volume_ml),
    Measure("hu_mean", codes.HOUNSFIELD_UNIT, ATTENUATION, codes.MEAN, lambda found: found.liver_hu_mean),
    Measure("hu_sd", codes.HOUNSFIELD_UNIT, ATTENUATION, codes.STANDARD_DEVIATION, lambda found: found.liver_hu_sd),
    Measure(
        "cut_off_mm2",
        codes.SQUARE_MILLIMETER,
        None,
        None,
        lambda found: found.liver_cut_off_mm2,
        why_not="the warning PARTIAL_LIVER says what follows from it",
    ),
    Measure(
        "expected_dice",
        codes.NO_UNITS,
        None,
        None,
        lambda found: found.expected_dice,
        why_not="the warning LIVER_UNCERTAIN says what follows from it",
    ),
)
"""The liver with its lesions. The values are those of the liver without lesions, None in MR."""

LESION: tuple[Measure[Lesion], ...] = (
    Measure("volume_ml", codes.MILLILITER, codes.VOLUME, None, lambda lesion: lesion.size.volume_ml),
    Measure("long_axis_mm", codes.MILLIMETER, codes.LONG_AXIS, None, lambda lesion: lesion.size.long_axis_mm),
    Measure("short_axis_mm", codes.MILLIMETER, codes.SHORT_AXIS, None, lambda lesion: lesion.size.short_axis_mm),
    Measure("diameter_3d_mm", codes.MILLIMETER, codes.DIAMETER_3D, None, lambda lesion: lesion.size.diameter_3d_mm),
    Measure("hu_mean", codes.HOUNSFIELD_UNIT, ATTENUATION, codes.MEAN, lambda lesion: lesion.values.hu_mean),
    Measure("hu_sd", codes.HOUNSFIELD_UNIT, ATTENUATION, codes.STANDARD_DEVIATION, lambda lesion: lesion.values.hu_sd),
    Measure("hu_p10", codes.HOUNSFIELD_UNIT, ATTENUATION, codes.TENTH_PERCENTILE, lambda lesion: lesion.values.hu_p10),
    Measure("hu_p50", codes.HOUNSFIELD_UNIT, ATTENUATION, codes.MEDIAN, lambda lesion: lesion.values.hu_p50),
    Measure(
        "hu_p90", codes.HOUNSFIELD_UNIT, ATTENUATION, codes.NINETIETH_PERCENTILE, lambda lesion: lesion.values.hu_p90
    ),
    Measure("mesh_volume_ml", codes.MILLILITER, codes.MESH_VOLUME, None, lambda lesion: lesion.shape.mesh_volume_ml),
    Measure("surface_mm2", codes.SQUARE_MILLIMETER, codes.MESH_SURFACE, None, lambda lesion: lesion.shape.surface_mm2),
    Measure("sphericity", codes.NO_UNITS, codes.SPHERICITY, None, lambda lesion: lesion.shape.sphericity),
    Measure("skewness", codes.NO_UNITS, codes.SKEWNESS, None, lambda lesion: lesion.values.skewness),
    Measure("kurtosis", codes.NO_UNITS, codes.KURTOSIS, None, lambda lesion: lesion.values.kurtosis),
    Measure(
        "entropy_bits",
        codes.BIT,
        codes.HISTOGRAM_ENTROPY,
        None,
        lambda lesion: lesion.values.entropy_bits,
        method=codes.FIXED_BINS,
    ),
    Measure("confidence", codes.PERCENT, codes.CERTAINTY, None, lambda lesion: lesion.confidence, factor=100),
    Measure(
        "contrast_to_liver_hu",
        codes.HOUNSFIELD_UNIT,
        None,
        None,
        lambda lesion: lesion.values.contrast_to_liver_hu,
        why_not="the lesion's comment says it",
    ),
    Measure(
        "distance_to_capsule_mm",
        codes.MILLIMETER,
        None,
        None,
        lambda lesion: lesion.place.distance_to_capsule_mm,
        why_not="the lesion's comment says it",
    ),
    Measure(
        "distance_to_edge_mm",
        codes.MILLIMETER,
        None,
        None,
        lambda lesion: lesion.place.distance_to_edge_mm,
        why_not="it describes the images; the lesion's comment says when it is 0",
    ),
)

CHANGE: tuple[Measure[Growth], ...] = (
    Measure("growth_mm", codes.MILLIMETER, codes.DIAMETER_CHANGE, None, lambda growth: growth.diameter_change_mm),
    Measure(
        "growth_ml",
        codes.MILLILITER,
        None,
        None,
        lambda growth: growth.volume_change_ml,
        why_not="the lesion's comment gives both volumes",
    ),
    Measure("growth_percent", codes.PERCENT, codes.VOLUME_CHANGE, None, lambda growth: growth.volume_percent),
    Measure("doubling_days", codes.DAY, codes.DOUBLING_TIME, None, lambda growth: growth.doubling_days),
)
"""The change of a lesion since the earlier study."""

SUMMARY: tuple[Measure[Findings], ...] = (
    Measure(
        "lesion_count",
        codes.NO_UNITS,
        codes.NUMBER_OF_LESIONS,
        None,
        lambda found: found.lesion_count if found.is_judged else None,
    ),
    Measure("burden_percent", codes.PERCENT, codes.TUMOR_BURDEN, None, lambda found: found.burden_percent),
    Measure(
        "target_diameter_sum_mm",
        codes.MILLIMETER,
        codes.TARGET_DIAMETER_SUM,
        None,
        lambda found: found.target_diameter_sum_mm,
    ),
)

OTHER_NUMBERS = {
    "schema": "it is the version of findings.json",
    "liver.centroid_lps_mm": "it follows from the liver's segment",
    "lesions[].number": "it is part of the Tracking Identifier",
    "lesions[].segment": "it is the number of the referenced segment",
    "lesions[].axis_end_points_lps_mm": "the SR of diameters has the lines",
    "lesions[].key_slice": "the Image Library lists the image",
    "lesions[].key_frame_number": "the Image Library lists the image",
    "lesions[].key_instance_number": "the lesion's comment says it",
    "lesions[].key_position_mm": "the lesion's comment says it",
    "lesions[].centroid_lps_mm": "it follows from the lesion's segment",
    "lesions[].target": "a code in the lesion's group says it",
    "lesions[].prior_numbers": "the lesion's comment says them",
    "lesions[].history": "the lesion's comment says it",
    "entropy_bin_width_hu": "the method of the entropy says it",
    "targets": "they are the largest lesions, in the order of the groups",
    "prior": "the comments of the summary say it",
}
"""The numbers of findings.json that measure nothing of today's study, and what the SR has in their place. A key stands
for all numbers below it."""


def rounded(value: float | None) -> float | None:
    """Round to a thousandth, below which a voxel grid says nothing; a count is left unchanged."""
    return value if value is None or isinstance(value, int) else round(float(value), 3)
