"""What was found, as one value: the liver, its lesions, and what follows from their numbers; and as findings.json.

Pure. `reports.findings.measurements` makes it, everything else in this folder reads it.
"""

from dataclasses import dataclass
from typing import Any

from dicom_io.segmentation import Algorithm
from reports.findings.caveats import NOT_JUDGED
from reports.findings.course import Course, EarlierStudy, FollowUp, PriorLesion, Size
from reports.findings.criteria import CRITERIA_CAVEAT, Criterion
from reports.findings.response import RESPONSE_CAVEAT
from reports.findings.severity import NOT_KNOWN, Severity

Point = tuple[float, float, float]

SUBCAPSULAR_MM = 10.0
"""Lesions nearer than this to the liver's surface are subcapsular (under 1 cm, as ablation studies have it: for example
Diagn Interv Radiol 2020, PMC7075578)."""


@dataclass(frozen=True)
class Lesion:
    """One lesion: `number` counts from 1, `segment` is its SegmentNumber in the SEG.

    Long and short axis follow RECIST 1.1: the longest diameter in one slice, and the longest chord at a right angle
    to it in that slice, both on the convex outline; `axis_end_points_lps_mm` are ((p, q), (p, q)), long before
    short. The slice, `key_slice`, is one of those acquired, as RECIST has it: of an axial stack an axial one, of a
    sagittal, coronal or oblique stack one of that plane, where the axes are other ones than an axial slice would
    show. `key_sop_instance_uid` and, in an Enhanced image, `key_frame_number` name its image.

    `diameter_3d_mm` is the largest distance in space, another number with another name. `confidence` is the model's
    mean tumour probability; where `Findings.is_calibrated`, how probably the lesion is real.

    Shape (`surfaces`): `surface_mm2`, `mesh_volume_ml` and `sphericity` are those of the mesh that IBSI
    measures; `volume_ml` counts voxels.

    Values (`texture`): `hu_mean`, `hu_sd`, the percentiles `hu_p10`, `hu_p50`, `hu_p90`, `entropy_bits` and
    `contrast_to_liver_hu` (the lesion's mean less that of the liver without lesions) are None where the values are no
    Hounsfield units (MR), the last also where no liver is left to compare with. `skewness` and `kurtosis` (excess)
    have no unit.

    Place: `distance_to_capsule_mm` to the liver's outer surface (None where none is in the field), `subcapsular`
    when it is under SUBCAPSULAR_MM; `distance_to_edge_mm` to the edge of the field of view, `touches_border` when the
    lesion lies on that edge and so is cut off; `half` ("right", "left") and `third` ("cranial", "middle", "caudal") of
    the liver, by the lesion's centre (`reports.findings.regions`).

    `certain` is False where the model is unsure of the liver's outline and the lesion lies at it.
    """

    number: int
    segment: int
    tracking_uid: str
    volume_ml: float
    long_axis_mm: float
    short_axis_mm: float
    axis_end_points_lps_mm: tuple[tuple[Point, Point], tuple[Point, Point]]
    diameter_3d_mm: float
    hu_mean: float | None
    hu_sd: float | None
    key_slice: int
    key_sop_instance_uid: str | None
    confidence: float | None
    centroid_lps_mm: Point
    key_frame_number: int | None = None
    surface_mm2: float | None = None
    mesh_volume_ml: float | None = None
    sphericity: float | None = None
    hu_p10: float | None = None
    hu_p50: float | None = None
    hu_p90: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    entropy_bits: float | None = None
    contrast_to_liver_hu: float | None = None
    distance_to_capsule_mm: float | None = None
    subcapsular: bool | None = None
    distance_to_edge_mm: float | None = None
    touches_border: bool | None = None
    half: str | None = None
    third: str | None = None
    certain: bool = True

    @property
    def region(self) -> str | None:
        """Where in the liver, in words."""
        return f"{self.half} half, {self.third} third" if self.half and self.third else None


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
        "volume_ml": _rounded(lesion.volume_ml),
        "long_axis_mm": _rounded(lesion.long_axis_mm),
        "short_axis_mm": _rounded(lesion.short_axis_mm),
        "axis_end_points_lps_mm": _rounded(lesion.axis_end_points_lps_mm),
        "diameter_3d_mm": _rounded(lesion.diameter_3d_mm),
        "hu_mean": _rounded(lesion.hu_mean),
        "hu_sd": _rounded(lesion.hu_sd),
        "key_slice": lesion.key_slice,
        "key_sop_instance_uid": lesion.key_sop_instance_uid,
        "key_frame_number": lesion.key_frame_number,
        "surface_mm2": _rounded(lesion.surface_mm2),
        "mesh_volume_ml": _rounded(lesion.mesh_volume_ml),
        "sphericity": _rounded(lesion.sphericity),
        "hu_p10": _rounded(lesion.hu_p10),
        "hu_p50": _rounded(lesion.hu_p50),
        "hu_p90": _rounded(lesion.hu_p90),
        "skewness": _rounded(lesion.skewness),
        "kurtosis": _rounded(lesion.kurtosis),
        "entropy_bits": _rounded(lesion.entropy_bits),
        "contrast_to_liver_hu": _rounded(lesion.contrast_to_liver_hu),
        "distance_to_capsule_mm": _rounded(lesion.distance_to_capsule_mm),
        "subcapsular": lesion.subcapsular,
        "distance_to_edge_mm": _rounded(lesion.distance_to_edge_mm),
        "touches_border": lesion.touches_border,
        "region": {"half": lesion.half, "third": lesion.third},
        "confidence": _rounded(lesion.confidence),
        "certain": lesion.certain,
        "centroid_lps_mm": _rounded(lesion.centroid_lps_mm),
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


def _size_json(lesion: Size | PriorLesion) -> dict[str, Any]:
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
