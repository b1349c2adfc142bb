"""An earlier study of which only the report is there: sizes as they were reported, lesions by their tracking UIDs.

A SEG is measured anew, by the rules of today. A report can only be taken at its word, and does not say where a lesion
lay: whoever has the SEG has no use for it.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_io.sr_reader import MeasurementGroup, read_measurement_groups
from reports import codes
from reports.course import Size
from reports.errors import ReportUnreadable
from reports.prior import checked_tracking_uid, read_date

SIZES = (codes.VOLUME, codes.LONG_AXIS, codes.SHORT_AXIS)


@dataclass(frozen=True)
class ReportedStudy:
    """`lesions` in the order of the report. `is_measurable` where the report found its slices thin enough for RECIST.

    `study_date` is None where the object has none.
    """

    lesions: tuple[Size, ...]
    is_measurable: bool
    study_date: date | None = None


def read_reported(source: Path | Dataset) -> ReportedStudy:
    """An earlier study from Porta's SR of its findings.

    Raises ReportUnreadable when the object is no such SR, or found no liver.
    """
    try:
        ds = source if isinstance(source, Dataset) else dcmread(source)
        groups = read_measurement_groups(ds)
    except (InvalidDicomError, AttributeError, EOFError, IndexError, OSError, TypeError, ValueError) as error:
        raise ReportUnreadable("The file is not a readable report.") from error
    if not any(codes.NUMBER_OF_LESIONS.value in group.numbers for group in groups):
        raise ReportUnreadable("The report does not say how many lesions a liver has.")
    # The liver has a volume and no axes, the summary has neither
    lesions = [group for group in groups if all(code.value in group.numbers for code in SIZES)]
    sizes = [_size(number, group) for number, group in enumerate(lesions, start=1)]
    if not all(size.volume_ml > 0 and size.long_axis_mm > 0 for size in sizes):
        raise ReportUnreadable("The report has lesions without a size.")
    return ReportedStudy(
        lesions=tuple(sizes),
        is_measurable=any(codes.TARGET_DIAMETER_SUM.value in group.numbers for group in groups),
        study_date=read_date(ds.get("StudyDate")),
    )


def _size(number: int, group: MeasurementGroup) -> Size:
    volume_ml, long_mm, short_mm = (group.numbers[code.value] for code in SIZES)
    return Size(number, checked_tracking_uid(group.tracking_uid), volume_ml, long_mm, short_mm)
