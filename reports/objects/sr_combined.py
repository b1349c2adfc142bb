"""Findings and diameters in one SR, for sites that want one: OHIF's measurement panel takes it, with the segments.

Each lesion is two groups of the same tracking UID: first the diameters with their lines, as OHIF's own tool writes them
(`sr_bidirectional`), then TID 1411 with everything that was found and the reference to the segment
(`sr`). OHIF merges the two, draws and hydrates them. It decides by the title, and under 126000 it opens a black
viewport as soon as one tracking UID has no coordinates (DICOM_NOTES). So the liver has no group of its own: the
first lesion's says in words what was found as a whole, for as numbers they would pass for the lesion's. Whoever
maps groups to segments by index counts lesions double.

Without a lesion there is nothing to draw: then it is the SR of findings, under the title that OHIF opens as text.
"""

from collections.abc import Sequence

from pydicom import Dataset

from dicom_io.geometry import Geometry
from dicom_io.segmentation import LIVER, Algorithm
from reports import codes
from reports.findings.measurements import Findings
from reports.identity import ResultIdentity
from reports.objects.kinds import KINDS, SrClass
from reports.objects.sr import remarks, segment_groups, summary_group
from reports.objects.sr_bidirectional import diameters_group
from reports.objects.sr_document import Group, add_comments, document, key_slices, name_frames
from reports.source_frames import SourceFrame, source_frames
from reports.source_headers import usable_headers

KIND = KINDS["sr_combined"]


def build_combined_sr(
    headers: Sequence[Dataset],
    geometry: Geometry,
    findings: Findings,
    algorithm: Algorithm,
    *,
    identity: ResultIdentity,
    seg: Dataset | None,
    predecessors: Sequence[Dataset] = (),
    frame_numbers: Sequence[int | None] = (),
    sources: Sequence[Dataset] = (),
    volume_note: str = "",
    sr_class: SrClass = "comprehensive_3d",
    name: str = "sr_combined",
) -> Dataset:
    """The one SR of a result; arguments and errors are those of `build_sr`, and `geometry` is that of the headers."""
    if (seg is None) != (findings.liver_volume_ml == 0):
        raise ValueError("a SEG goes with a liver, and with nothing else")
    sources = sources or usable_headers(headers, None if seg is None else str(seg.FrameOfReferenceUID))
    frames = source_frames(sources, frame_numbers)
    of_segments: list[Group] = []
    if seg is not None:
        of_segments = segment_groups(findings, algorithm, identity, seg, str(sources[0].SeriesInstanceUID))
    if findings.lesions:
        lines = _lines(findings, geometry, frames, algorithm, identity)
        groups = [group for pair in zip(lines, of_segments[LIVER:], strict=True) for group in pair]
        research_use, count, *notes = remarks(findings, volume_note)
        add_comments(groups[1], [research_use, count, _whole(findings), *notes])
    else:
        groups = [*of_segments, summary_group(findings, algorithm, identity, volume_note)]
    planes = key_slices(findings, len(sources))
    sr = document(
        groups,
        sources if seg is None else [*sources, seg],
        title=codes.IMAGING_MEASUREMENT_REPORT if findings.lesions else codes.ONCOLOGY_MEASUREMENT_REPORT,
        description=KIND.description,
        name=name,
        series_number=identity.series_number_of(KIND.series_offset),
        library=[sources[plane] for plane in planes],
        source=headers[0],
        algorithm=algorithm,
        identity=identity,
        predecessors=predecessors,
        sr_class=sr_class,
    )
    name_frames(sr, [frames[plane].frame_number for plane in planes])
    return sr


def _whole(findings: Findings) -> str:
    """The measurements that the SR of findings has of the liver and the whole, and that no other sentence gives.

    MR values have no unit, and no meaning outside their own series: there the mean value is None.
    """
    sentence = f"Tumour burden {findings.burden_percent:.2f} % of the liver's volume."
    if findings.liver_hu_mean is None:
        return sentence
    deviation = "" if findings.liver_hu_sd is None else f", standard deviation {findings.liver_hu_sd:.1f} HU"
    return f"{sentence} The liver's mean value is {findings.liver_hu_mean:.1f} HU{deviation}."


def _lines(
    findings: Findings,
    geometry: Geometry,
    frames: Sequence[SourceFrame],
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> list[Group]:
    return [
        diameters_group(lesion, geometry, frames[lesion.place.key_slice], algorithm, identity)
        for lesion in findings.lesions
    ]
