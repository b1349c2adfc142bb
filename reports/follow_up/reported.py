"""An earlier study of which only the report is there: sizes as they were reported, lesions by their tracking UIDs.

A SEG is measured anew, by the rules of today. A report can only be taken at its word, and does not say where a lesion
lay: whoever has the SEG has no use for it.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_io.files import values
from dicom_io.sr_reader import MeasurementGroup, read_measurement_groups
from reports import codes
from reports.errors import ReportUnreadable
from reports.findings.course import PriorSize
from reports.findings.names import lesion_numbers
from reports.findings.response import Status
from reports.follow_up.prior import checked_tracking_uid, read_date

SIZES = (codes.VOLUME, codes.LONG_AXIS, codes.SHORT_AXIS)


@dataclass(frozen=True)
class ReportedStudy:
    """`lesions` in the order of the report. `is_measurable` where the report found its slices thin enough for RECIST.

    `study_date` is None where the object has none. `has_split` where one of the lesions was said to have split from
    another; `new` and `merged` are the tracking UIDs of those that were said to be new, or to have merged.
    """

    lesions: tuple[PriorSize, ...]
    is_measurable: bool
    study_date: date | None = None
    has_split: bool = False
    new: frozenset[str] = frozenset()
    merged: frozenset[str] = frozenset()

    def is_whole(self, known: Collection[str]) -> bool:
        """True where no lesion of it can be a part of one of `known`, tracking UIDs.

        A part that has split off bears another tracking UID, and where it lay is not said: so every lesion must be
        one of those, or have been new.
        """
        return not self.has_split and all(
            size.tracking_uid in known or size.tracking_uid in self.new for size in self.lesions
        )


def read_reported(source: Path | Dataset) -> ReportedStudy:
    """An earlier study from Porta's SR of its findings.

    Raises ReportUnreadable when the object is no such SR, or found no liver.
    """
    try:
        ds = source if isinstance(source, Dataset) else dcmread(source)
        groups = read_measurement_groups(ds)
    except (InvalidDicomError, AttributeError, EOFError, IndexError, OSError, TypeError, ValueError) as error:
        raise ReportUnreadable("The file is not a readable report.") from error
    # The liver has a volume and no axes, the summary has neither, nor have the lines of the combined SR a volume
    lesions = [group for group in groups if all(code.value in group.numbers for code in SIZES)]
    # Findings and diameters in one report have no summary where there are lesions
    if not lesions and not any(codes.NUMBER_OF_LESIONS.value in group.numbers for group in groups):
        raise ReportUnreadable("The report does not say how many lesions a liver has.")
    used = Counter(group.tracking_uid for group in lesions)
    names = [group.tracking_identifier for group in lesions]
    # Of two lesions of one tracking UID neither is known
    sizes = [
        replace(size, tracking_uid="") if used[group.tracking_uid] > 1 else size
        for size, group in zip(map(_size, lesion_numbers(names), lesions), lesions, strict=True)
    ]
    courses = [group.answers.get(codes.LESION_COURSE.value) for group in lesions]

    def said(status: Status) -> frozenset[str]:
        pairs = zip(sizes, courses, strict=True)
        return frozenset(size.tracking_uid for size, course in pairs if course == codes.COURSES[status].value) - {""}

    if not all(size.volume_ml > 0 and size.long_axis_mm > 0 for size in sizes):
        raise ReportUnreadable("The report has lesions without a size.")
    return ReportedStudy(
        lesions=tuple(sizes),
        is_measurable=any(codes.TARGET_DIAMETER_SUM.value in group.numbers for group in groups),
        study_date=read_date(values.date(ds, "StudyDate")),
        has_split=codes.COURSES[Status.SPLIT].value in courses,
        new=said(Status.NEW),
        merged=said(Status.MERGED),
    )


def _size(number: int, group: MeasurementGroup) -> PriorSize:
    volume_ml, long_mm, short_mm = (group.numbers[code.value] for code in SIZES)
    return PriorSize(number, checked_tracking_uid(group.tracking_uid), volume_ml, long_mm, short_mm)
