"""What the network looked at, as images that any PACS shows: a page of Grad-CAM for each of the largest lesions.

Secondary captures as the key images are, in a series of their own behind them: who takes these without the others
gets no picture that could be taken for the finding itself. Their pages show one slice at two scales, so that they
state no spacing: a ruler on them would measure wrongly.
"""

from collections.abc import Mapping, Sequence

from pydicom import Dataset

from dicom_io.segmentation import Segmentation
from dicom_io.volume import Volume
from reports.findings.measurements import Findings
from reports.identity import ResultIdentity
from reports.objects.key_images import Page, secondary_capture
from reports.objects.kinds import KINDS
from reports.objects.result_object import source_series_number
from reports.pages.drawing import Canvas
from reports.pages.heat_page import HEIGHT, WIDTH, Explanation, draw_heat_page
from reports.pages.window import display_window
from reports.source_frames import source_frames
from reports.source_headers import usable_headers

KIND = KINDS["explain"]


def build_explanation_images(
    headers: Sequence[Dataset],
    volume: Volume,
    segmentation: Segmentation,
    findings: Findings,
    explanations: Mapping[int, Explanation],
    *,
    identity: ResultIdentity,
    frame_numbers: Sequence[int | None] = (),
    sources: Sequence[Dataset] = (),
) -> list[Dataset]:
    """A page for each lesion that `explanations` has by its number, the largest first; none without.

    `headers` and `frame_numbers` are the images of the volume in slice order, as `build_seg` has them; they are not
    changed. The same arguments give the same bytes. Raises SourceUnusable, and ValueError when headers, frame numbers
    and volume differ in number.
    """
    if len(headers) != volume.geometry.slices:
        raise ValueError("one header per slice")
    explained = [lesion for lesion in findings.lesions if lesion.number in explanations]
    if not explained:
        return []
    sources = sources or usable_headers(headers, volume.geometry.frame_of_reference_uid)
    frames, algorithm = source_frames(sources, frame_numbers), segmentation.algorithm
    canvas, window = Canvas(WIDTH, HEIGHT), display_window(volume, headers[0])
    images = []
    for number, lesion in enumerate(explained, start=1):
        explanation = explanations[lesion.number]
        pixels = draw_heat_page(
            canvas,
            volume,
            segmentation,
            findings,
            lesion,
            explanation,
            window,
            made_by=f"Porta {identity.software_version}, {algorithm.name} {algorithm.version}",
            series_number=source_series_number(sources[0]),
        )
        comment = f"{explanation.kind.title} of lesion {lesion.number}"
        page = Page(pixels, [frames[explanation.plane]], comment)
        images.append(
            secondary_capture(
                sources[0],
                headers[0],
                page,
                number,
                algorithm,
                identity,
                kind=KIND,
            )
        )
    return images
