"""What was found, as one value: the liver, its lesions, and what follows from their numbers; and as findings.json.

Pure. `reports.findings.measurements` makes it, everything else in this folder reads it.
"""

from dataclasses import dataclass
from typing import Any

from dicom_io.segmentation import Algorithm
from reports.findings.caveats import NOT_JUDGED
from reports.findings.course import Course, EarlierStudy, FollowUp, PriorLesion, PriorSize
from reports.findings.criteria import CRITERIA_CAVEAT, Criterion
from reports.findings.places import Place
from reports.findings.response import RESPONSE_CAVEAT
from reports.findings.severity import NOT_KNOWN, Severity
from reports.findings.sizes import Point, Size
from reports.findings.surfaces import Shape
from reports.findings.texture import Values


@dataclass(frozen=True)
class Lesion:
    """One lesion: `number` counts from 1, `segment` is its SegmentNumber in the SEG.

    `confidence` is the model's mean tumour probability; where `Findings.is_calibrated`, how probably the lesion is
    real.
    `certain` is False where the model is unsure of the liver's outline and the lesion lies at it.
    """

    number: int
    segment: int
    tracking_uid: str
    size: Size
    values: Values
    shape: Shape
    place: Place
    confidence: float | None
    certain: bool = True


@dataclass(frozen=True)
class Findings:
    """What was found. The liver includes its lesions; no lesion, and no liver, are findings too.

    `plane` is the one that the slices lie in, and the lesions' axes with them (`Geometry.plane_name`).

    `liver_hu_mean` and `liver_hu_sd` are those of the liver without lesions, away from its edges (None in MR);
    `liver_cut_off_mm2` is the area of it that lies on the edge of the field of view.

    `targets` are the numbers of the lesions that RECIST 1.1 would follow, and `target_diameter_sum_mm` their long axes
    added up (None where slices are too thick for it). `spread` is "none", "solitary", "2-3" or "multifocal", `lobes`
    "unilobar", "bilobar" or None, `size_category` that of the longest axis, in mm. `milan` and `up_to_seven` are
    computed from numbers alone (`criteria`), None without lesions; `severity` follows docs/severity.md.

    Severity, `milan`, `up_to_seven` and targets are those of the lesions that are certain. Where the images are not
    such as the model knows (`is_judged` False) lesions are not reported: there are none, no burden and no severity.

    `expected_dice`: how well the network expects to have drawn the liver, 0..1 (`dicom_io.segmentation`).

    `follow_up` is the course since an earlier study (docs/follow-up.md), None where there is none to compare with.
    """

    liver_volume_ml: float
    liver_centroid_lps_mm: Point | None
    lesions: tuple[Lesion, ...]
    burden_percent: float | None
    warnings: tuple[str, ...]
    plane: str = "axial"
    liver_hu_mean: float | None = None
    liver_hu_sd: float | None = None
    liver_cut_off_mm2: float = 0.0
    targets: tuple[int, ...] = ()
    target_diameter_sum_mm: float | None = None
    spread: str = "none"
    lobes: str | None = None
    size_category: str | None = None
    milan: Criterion | None = None
    up_to_seven: Criterion | None = None
    severity: Severity = NOT_KNOWN
    follow_up: FollowUp | None = None
    is_calibrated: bool = False
    expected_dice: float | None = None

    @property
    def confidence_note(self) -> str:
        """What kind of number a confidence is."""
        return "calibrated" if self.is_calibrated else "uncalibrated"

    @property
    def has_liver(self) -> bool:
        """Whether a liver was found."""
        return self.liver_volume_ml > 0

    @property
    def is_judged(self) -> bool:
        """Whether the images are such that lesions are reported."""
        return not NOT_JUDGED & set(self.warnings)

    @property
    def lesion_count(self) -> int:
        """How many lesions were found."""
        return len(self.lesions)

    def course(self, lesion: Lesion) -> Course | None:
        """What has become of a lesion since the earlier study; None where there is none to compare with."""
        return self.follow_up.courses[lesion.number - 1] if self.follow_up else None

    def history(self, lesion: Lesion) -> list[tuple[EarlierStudy, Course]]:
        """All earlier studies, the first of them first, each with what this lesion was then."""
        studies = self.follow_up.studies if self.follow_up else ()
        return [(study, study.courses[lesion.number - 1]) for study in studies]


def findings_json(findings: Findings, algorithm: Algorithm, *, software: str) -> dict[str, Any]:
    """The content of findings.json, schema 1: every key always present, null where unknown.

    `software` is the name and version of the program. Lengths are mm, volumes mL, points LPS mm.
    """
    return {
        "schema": 1,
        "software": software,
        "model": {
            "name": algorithm.name,
            "version": algorithm.version,
            "sha256": algorithm.weights_sha256,
            "research_use_only": True,
        },
        "liver": {
            "volume_ml": _rounded(findings.liver_volume_ml),
            "centroid_lps_mm": _rounded(findings.liver_centroid_lps_mm),
            "hu_mean": _rounded(findings.liver_hu_mean),
            "hu_sd": _rounded(findings.liver_hu_sd),
            "cut_off_mm2": _rounded(findings.liver_cut_off_mm2),
            "expected_dice": _rounded(findings.expected_dice),
        },
        "lesions": [
            _lesion_json(lesion) | _course_json(findings.course(lesion)) | {"history": _history_json(findings, lesion)}
            for lesion in findings.lesions
        ],
        "lesion_count": findings.lesion_count if findings.is_judged else None,
        "confidence_calibrated": findings.is_calibrated,
        "burden_percent": _rounded(findings.burden_percent),
        "targets": list(findings.targets),
        "target_diameter_sum_mm": _rounded(findings.target_diameter_sum_mm),
        "spread": findings.spread,
        "lobes": findings.lobes,
        "size_category": findings.size_category,
        "milan": _criterion_json(findings.milan),
        "up_to_seven": _criterion_json(findings.up_to_seven),
        "severity": {"level": findings.severity.level, "reasons": list(findings.severity.reasons)},
        "prior": _prior_json(findings.follow_up),
        "plane": findings.plane,
        "warnings": list(findings.warnings),
    }


def _lesion_json(lesion: Lesion) -> dict[str, Any]:
    return {
        "number": lesion.number,
        "segment": lesion.segment,
        "tracking_uid": lesion.tracking_uid,
        "volume_ml": _rounded(lesion.size.volume_ml),
        "long_axis_mm": _rounded(lesion.size.long_axis_mm),
        "short_axis_mm": _rounded(lesion.size.short_axis_mm),
        "axis_end_points_lps_mm": _rounded(lesion.size.axis_end_points_lps_mm),
        "diameter_3d_mm": _rounded(lesion.size.diameter_3d_mm),
        "hu_mean": _rounded(lesion.values.hu_mean),
        "hu_sd": _rounded(lesion.values.hu_sd),
        "key_slice": lesion.place.key_slice,
        "key_sop_instance_uid": lesion.place.key_sop_instance_uid,
        "key_frame_number": lesion.place.key_frame_number,
        "surface_mm2": _rounded(lesion.shape.surface_mm2),
        "mesh_volume_ml": _rounded(lesion.shape.mesh_volume_ml),
        "sphericity": _rounded(lesion.shape.sphericity),
        "hu_p10": _rounded(lesion.values.hu_p10),
        "hu_p50": _rounded(lesion.values.hu_p50),
        "hu_p90": _rounded(lesion.values.hu_p90),
        "skewness": _rounded(lesion.values.skewness),
        "kurtosis": _rounded(lesion.values.kurtosis),
        "entropy_bits": _rounded(lesion.values.entropy_bits),
        "contrast_to_liver_hu": _rounded(lesion.values.contrast_to_liver_hu),
        "distance_to_capsule_mm": _rounded(lesion.place.distance_to_capsule_mm),
        "subcapsular": lesion.place.subcapsular,
        "distance_to_edge_mm": _rounded(lesion.place.distance_to_edge_mm),
        "touches_border": lesion.place.touches_border,
        "region": {"half": lesion.place.half, "third": lesion.place.third},
        "confidence": _rounded(lesion.confidence),
        "certain": lesion.certain,
        "centroid_lps_mm": _rounded(lesion.place.centroid_lps_mm),
    }


def _course_json(course: Course | None) -> dict[str, Any]:
    growth = course.growth if course else None
    return {
        "status": course.status if course else None,
        "prior_numbers": list(course.prior_numbers) if course else None,
        "growth_mm": _rounded(growth and growth.diameter_change_mm),
        "growth_ml": _rounded(growth and growth.volume_change_ml),
        "growth_percent": _rounded(growth and growth.volume_percent),
        "doubling_days": _rounded(growth and growth.doubling_days),
    }


def _history_json(findings: Findings, lesion: Lesion) -> list[dict[str, Any]] | None:
    """What the lesion was in each earlier study that knows it, the first of them first."""
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
    """No date: how many days lie between says as much."""
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
    """Numbers to a thousandth, in nested tuples too: below that a voxel grid says nothing."""
    if isinstance(value, tuple):
        return [_rounded(part) for part in value]
    return None if value is None else round(float(value), 3)
