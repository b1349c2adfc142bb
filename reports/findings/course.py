"""The course of lesions since an earlier study: values that `reports.follow_up` makes and reports show."""

from dataclasses import dataclass

from reports.findings.response import Growth, Response, Status


@dataclass(frozen=True)
class PriorLesion:
    """One lesion of an earlier study: `number` is its name there; `tracking_uid` "" where it had none.

    `key_slice` is the plane of the long axis in the earlier SEG, `segment` its label among the earlier ones.
    """

    number: int
    tracking_uid: str
    volume_ml: float
    long_axis_mm: float
    short_axis_mm: float
    centroid_lps_mm: tuple[float, float, float]
    key_slice: int
    segment: int


@dataclass(frozen=True)
class Course:
    """The course of one lesion: `number` is today's, `prior_numbers` are those of the earlier study.

    `growth` is None for a new one, or one that the earlier images do not reach; of lesions that merged or split it is
    that of all of them together, `numbers` today.
    """

    number: int
    status: Status
    tracking_uid: str
    numbers: tuple[int, ...] = ()
    prior_numbers: tuple[int, ...] = ()
    growth: Growth | None = None


@dataclass(frozen=True)
class PriorSize:
    """The size of a lesion in an earlier study; `number` and `tracking_uid` ("" for none) are those of that study."""

    number: int
    tracking_uid: str
    volume_ml: float
    long_axis_mm: float
    short_axis_mm: float


@dataclass(frozen=True)
class EarlierStudy:
    """One earlier study on the way to today's: `days` before it, None where a date is missing.

    `courses` say of today's lesions, in their order, what they were then. `target_sum_mm` are the long axes of what the
    baseline's targets were then, added up, None where that is not known. `is_compared` is the study that today's is
    compared with, lesion by lesion; `is_baseline` the first of those that RECIST 1.1 can measure, `is_nadir` the one
    with the smallest sum. `is_from_report` where only its SR was found: its sizes are then those that were reported,
    of lesions known by their tracking UID alone.
    """

    days: int | None
    lesions: tuple[PriorSize, ...]
    courses: tuple[Course, ...]
    target_sum_mm: float | None = None
    is_compared: bool = False
    is_baseline: bool = False
    is_nadir: bool = False
    is_from_report: bool = False


@dataclass(frozen=True)
class FollowUp:
    """A study against an earlier one, whose lesions are `prior_lesions`; what became of each is its `Lesion.course`.

    `disappeared` are the earlier ones that are gone, `outside` those that today's images do not reach. `days` lie
    between the studies, None where a date is missing. `dice` and `surface_mm` say how well the livers fit. `studies`
    are all earlier studies that are known, that one too, the first of them first. `highest_number` is the highest that
    a lesion was ever given, today's too.
    """

    days: int | None
    prior_lesions: tuple[PriorLesion, ...]
    disappeared: tuple[PriorLesion, ...]
    outside: tuple[PriorLesion, ...]
    response: Response
    dice: float
    surface_mm: float
    studies: tuple[EarlierStudy, ...] = ()
    highest_number: int = 0


def earlier_by(days: int | None) -> str:
    """Say how long before today's a study was: "90 days earlier"."""
    if days is None:
        return "in an earlier study"
    return f"{days} day{'s' * (days != 1)} earlier" if days else "earlier on the same day"
