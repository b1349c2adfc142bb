"""What has become of lesions since an earlier study: the values that `reports.follow_up` makes and the reports show."""

from dataclasses import dataclass

from reports.response import Growth, Response, Status


@dataclass(frozen=True)
class PriorLesion:
    """One lesion of an earlier study: `number` counts from 1 as there; `tracking_uid` "" where it had none.

    `key_slice` is the plane of the long axis in the earlier SEG.
    """

    number: int
    tracking_uid: str
    volume_ml: float
    long_axis_mm: float
    short_axis_mm: float
    centroid_lps_mm: tuple[float, float, float]
    key_slice: int


@dataclass(frozen=True)
class Course:
    """What has become of one lesion: `number` is today's, `prior_numbers` are those of the earlier study.

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
class FollowUp:
    """A study against an earlier one: `courses` of today's lesions in their order, `prior_lesions` of the earlier one.

    `disappeared` are the earlier ones that are gone, `outside` those that today's images do not reach. `days` lie
    between the studies, None where a date is missing. `dice` and `surface_mm` say how well the livers fit.
    """

    days: int | None
    courses: tuple[Course, ...]
    prior_lesions: tuple[PriorLesion, ...]
    disappeared: tuple[PriorLesion, ...]
    outside: tuple[PriorLesion, ...]
    response: Response
    dice: float
    surface_mm: float
