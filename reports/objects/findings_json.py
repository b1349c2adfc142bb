"""The content of findings.json: what was found, for programs.

Its numbers come from the lists of `reports.measures`, as those of the SR do.
"""

from collections.abc import Sequence
from typing import Any

from dicom_io.segmentation import Algorithm
from reports.findings.course import Course, EarlierStudy, FollowUp, PriorLesion, PriorSize
from reports.findings.criteria import CRITERIA_CAVEAT, Criterion
from reports.findings.findings import Findings, Lesion
from reports.findings.response import RESPONSE_CAVEAT
from reports.findings.texture import BIN_WIDTH_HU
from reports.measures import CHANGE, LESION, LIVER, SUMMARY, Measure, Whole, rounded

LIVER_KEYS = ("volume_ml", "centroid_lps_mm")

LESION_KEYS = (
    *("number", "segment", "tracking_uid", "volume_ml", "long_axis_mm", "short_axis_mm", "axis_end_points_lps_mm"),
    *("diameter_3d_mm", "hu_mean", "hu_sd", "key_slice", "key_sop_instance_uid", "key_frame_number", "surface_mm2"),
    *("mesh_volume_ml", "sphericity", "hu_p10", "hu_p50", "hu_p90", "skewness", "kurtosis", "entropy_bits"),
    *("contrast_to_liver_hu", "distance_to_capsule_mm", "subcapsular", "distance_to_edge_mm", "touches_border"),
    *("region", "confidence", "certain", "centroid_lps_mm"),
)
"""The order in which the keys of schema 1 have always stood. A new key needs no place here."""


def findings_json(findings: Findings, algorithm: Algorithm, *, software: str) -> dict[str, Any]:
    """The content of findings.json, schema 1: every key always present, null where unknown.

    `software` is the name and version of the program. Lengths are mm, volumes mL, points LPS mm.
    """
    summary = _numbers(SUMMARY, findings)
    return {
        "schema": 1,
        "software": software,
        "model": {
            "name": algorithm.name,
            "version": algorithm.version,
            "sha256": algorithm.weights_sha256,
            "research_use_only": True,
        },
        "liver": _in_order(
            LIVER_KEYS, _numbers(LIVER, findings) | {"centroid_lps_mm": _rounded(findings.liver_centroid_lps_mm)}
        ),
        "lesions": [
            _lesion_json(lesion) | _course_json(lesion.course) | {"history": _history_json(findings, lesion)}
            for lesion in findings.lesions
        ],
        "lesion_count": summary.pop("lesion_count"),
        "confidence_calibrated": findings.is_calibrated,
        "burden_percent": summary.pop("burden_percent"),
        "targets": list(findings.targets),
        "target_diameter_sum_mm": summary.pop("target_diameter_sum_mm"),
        "spread": findings.spread,
        "lobes": findings.lobes,
        "size_category": findings.size_category,
        "milan": _criterion_json(findings.milan),
        "up_to_seven": _criterion_json(findings.up_to_seven),
        "severity": {"level": findings.severity.level, "reasons": list(findings.severity.reasons)},
        "prior": _prior_json(findings.follow_up),
        "plane": findings.plane,
        "entropy_bin_width_hu": BIN_WIDTH_HU,
        "warnings": list(findings.warnings),
        **summary,
    }


def _lesion_json(lesion: Lesion) -> dict[str, Any]:
    place = lesion.place
    others = {
        "number": lesion.number,
        "segment": lesion.segment,
        "tracking_uid": lesion.tracking_uid,
        "axis_end_points_lps_mm": _rounded(lesion.size.axis_end_points_lps_mm),
        "key_slice": place.key_slice,
        "key_sop_instance_uid": place.key_sop_instance_uid,
        "key_frame_number": place.key_frame_number,
        "key_instance_number": place.key_instance_number,
        "key_position_mm": _rounded(place.key_position_mm),
        "subcapsular": place.subcapsular,
        "touches_border": place.touches_border,
        "target": lesion.target,
        "region": {"half": place.half, "third": place.third},
        "certain": lesion.certain,
        "centroid_lps_mm": _rounded(place.centroid_lps_mm),
    }
    return _in_order(LESION_KEYS, others | _numbers(LESION, lesion))


def _course_json(course: Course | None) -> dict[str, Any]:
    return {
        "status": course.status if course else None,
        "prior_numbers": list(course.prior_numbers) if course else None,
        **_numbers(CHANGE, course.growth if course else None),
    }


def _numbers(measures: Sequence[Measure[Whole]], whole: Whole | None) -> dict[str, Any]:
    return {measure.key: None if whole is None else rounded(measure.of(whole)) for measure in measures}


def _in_order(keys: Sequence[str], content: dict[str, Any]) -> dict[str, Any]:
    """Put these keys first, in their order; those that came later follow."""
    return {key: content[key] for key in dict.fromkeys([*keys, *content])}


def _history_json(findings: Findings, lesion: Lesion) -> list[dict[str, Any]] | None:
    """Return the sizes of the lesion in each earlier study that knows it, the first of them first."""
    if findings.follow_up is None:
        return None
    return [
        {
            "days": study.days,
            "prior_numbers": list(course.prior_numbers),
            "volume_ml": _rounded(course.growth.prior_volume_ml),
            "long_axis_mm": _rounded(course.growth.prior_diameter_mm),
        }
        for study, course in findings.history(lesion)
        if course.growth is not None
    ]


def _prior_json(followed: FollowUp | None) -> dict[str, Any] | None:
    """Return the earlier study, without its date: the days between say as much."""
    if followed is None:
        return None
    return {
        "days": followed.days,
        "overlap": _rounded(followed.dice),
        "surface_mm": _rounded(followed.surface_mm),
        "lesions": [_size_json(lesion) for lesion in followed.prior_lesions],
        "disappeared": [lesion.number for lesion in followed.disappeared],
        "outside": [lesion.number for lesion in followed.outside],
        "response": {
            "category": followed.response.category,
            "target": followed.response.target,
            "non_target": followed.response.non_target,
            "new_lesions": followed.response.has_new,
            "reasons": list(followed.response.reasons),
            "prior_sum_mm": _rounded(followed.response.prior_sum_mm),
            "sum_mm": _rounded(followed.response.sum_mm),
            "baseline_sum_mm": _rounded(followed.response.baseline_sum_mm),
            "nadir_sum_mm": _rounded(followed.response.nadir_sum_mm),
            "caveat": RESPONSE_CAVEAT,
        },
        "studies": [_study_json(study) for study in followed.studies],
    }


def _study_json(study: EarlierStudy) -> dict[str, Any]:
    return {
        "days": study.days,
        "compared": study.is_compared,
        "baseline": study.is_baseline,
        "nadir": study.is_nadir,
        "source": "sr" if study.is_from_report else "seg",
        "target_diameter_sum_mm": _rounded(study.target_sum_mm),
        "lesions": [_size_json(lesion) for lesion in study.lesions],
    }


def _size_json(lesion: PriorSize | PriorLesion) -> dict[str, Any]:
    return {
        "number": lesion.number,
        "tracking_uid": lesion.tracking_uid,
        "volume_ml": _rounded(lesion.volume_ml),
        "long_axis_mm": _rounded(lesion.long_axis_mm),
        "short_axis_mm": _rounded(lesion.short_axis_mm),
    }


def _criterion_json(criterion: Criterion | None) -> dict[str, Any] | None:
    if criterion is None:
        return None
    return {"met": criterion.met, "computed": criterion.computed, "caveat": CRITERIA_CAVEAT}


def _rounded(value: Any) -> Any:
    """Round numbers, in nested tuples too."""
    if isinstance(value, tuple):
        return [_rounded(part) for part in value]
    return None if value is None else rounded(float(value))
