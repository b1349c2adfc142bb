"""Findings and diameters in one SR, for sites that want one: OHIF's measurement panel takes it, with the segments.

Each lesion is two groups of the same tracking UID: first the diameters with their lines, as OHIF's own tool writes them
(`sr_bidirectional`), then TID 1411 with everything that was found and the reference to the segment
(`sr`). OHIF merges the two, draws and hydrates them. It decides by the title, and under 126000 it opens a black
viewport as soon as one tracking UID has no coordinates (DICOM_NOTES). So the liver has no separate group: what was
found as a whole stands in words at the head, for as numbers they would pass for a lesion's. Whoever
maps groups to segments by index counts lesions double.

Without a lesion there is nothing to draw: then it is the SR of findings, under the title that OHIF opens as text.
"""

from pydicom import Dataset

from dicom_io.segmentation import LIVER
from reports import codes
from reports.findings.measurements import Findings
from reports.objects.case import Case
from reports.objects.kinds import KINDS
from reports.objects.sr import case_segment_groups, notes_of, summary_group
from reports.objects.sr_bidirectional import diameters_groups
from reports.objects.sr_document import case_document

KIND = KINDS["sr_combined"]


def build_combined_sr(case: Case) -> list[Dataset]:
    """The one SR of a result; errors are those of `build_sr`."""
    findings, of_segments = case.findings, case_segment_groups(case)
    if not findings.lesions:
        groups, title = [*of_segments, summary_group(case)], codes.ONCOLOGY_MEASUREMENT_REPORT
        return [case_document(case, groups, kind=KIND, title=title, notes=notes_of(case))]
    groups = [group for pair in zip(diameters_groups(case), of_segments[LIVER:], strict=True) for group in pair]
    notes = notes_of(case, _whole(findings))
    return [case_document(case, groups, kind=KIND, title=codes.IMAGING_MEASUREMENT_REPORT, notes=notes)]


def _whole(findings: Findings) -> str:
    """The measurements that the SR of findings has of the liver and the whole, and that no other sentence gives.

    MR values have no unit, and no meaning outside their own series: there the mean value is None.
    """
    sentence = f"Tumour burden {findings.burden_percent:.2f} % of the liver's volume."
    if findings.liver_hu_mean is None:
        return sentence
    deviation = "" if findings.liver_hu_sd is None else f", standard deviation {findings.liver_hu_sd:.1f} HU"
    return f"{sentence} The liver's mean value is {findings.liver_hu_mean:.1f} HU{deviation}."
