"""What was found, as one value: the liver, its lesions, and what follows from their numbers.

Pure. `reports.findings.measurements` makes it, everything else in this folder reads it.
"""

from dataclasses import dataclass, replace

from reports.findings.caveats import LOW_CONFIDENCE_BELOW, NOT_JUDGED
from reports.findings.course import Course, EarlierStudy, FollowUp
from reports.findings.criteria import Criterion
from reports.findings.places import Place
from reports.findings.severity import NOT_KNOWN, Severity
from reports.findings.sizes import Point, Size
from reports.findings.surfaces import Shape
from reports.findings.texture import Values


@dataclass(frozen=True)
class Lesion:
    """One lesion: `number` names it for life, `segment` is its SegmentNumber in the SEG.

    Numbers count from 1 by falling volume in the first study, and go on with what is new in a later one.

    `confidence` is the model's mean tumour probability; where `Findings.is_calibrated`, how probably the lesion is
    real.
    `certain` is False where the model is unsure of the liver's outline and the lesion lies at it. `course` is what has
    become of it since the earlier study, None where there is none to compare with. `target` is which target of RECIST
    1.1 it is, from 1: of the baseline's, where there is one before, what that target has become; None for no target.
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
    course: Course | None = None
    target: int | None = None

    @property
    def is_doubtful(self) -> bool:
        """True where the model is unsure of it (LOW_CONFIDENCE_BELOW)."""
        return self.confidence is not None and self.confidence < LOW_CONFIDENCE_BELOW

    @property
    def target_name(self) -> str:
        """The mark of a target of RECIST 1.1: "T1", with a question mark where the model is unsure; else ""."""
        return "" if self.target is None else f"T{self.target}" + "?" * self.is_doubtful

    @property
    def name(self) -> str:
        """Its number and mark: "3", "1 (T1)"."""
        return f"{self.number} ({self.target_name})" if self.target else str(self.number)


@dataclass(frozen=True)
class Findings:
    """All findings. The liver includes its lesions; no lesion, and no liver, are findings too.

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

    `follow_up` is what has changed since an earlier study (docs/follow-up.md), None where there is none to compare
    with; each lesion has its own `course`.
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
        """The kind of number that a confidence is."""
        return "calibrated" if self.is_calibrated else "uncalibrated"

    @property
    def has_liver(self) -> bool:
        """True where a liver was found."""
        return self.liver_volume_ml > 0

    @property
    def is_judged(self) -> bool:
        """True where lesions are reported: the images are such as the model knows."""
        return not NOT_JUDGED & set(self.warnings)

    @property
    def lesion_count(self) -> int:
        """The number of lesions."""
        return len(self.lesions)

    def history(self, lesion: Lesion) -> list[tuple[EarlierStudy, Course]]:
        """Return all earlier studies, the first of them first, each with the course of this lesion since then."""
        studies = self.follow_up.studies if self.follow_up else ()
        place = [each.segment for each in self.lesions].index(lesion.segment)
        return [(study, study.courses[place]) for study in studies]


def without_hcc(findings: Findings) -> Findings:
    """Leave out the criteria of hepatocellular carcinoma: they say nothing of other tumours."""
    return replace(findings, milan=None, up_to_seven=None)
