"""Key images that any PACS shows: a summary page, then each lesion on its key slice with outline and calipers.

Single-frame Secondary Capture objects (PS3.3 section A.8.1), uncompressed RGB. The multi-frame class would hold them in
one object, but plain archives and viewers know the single-frame one best, show each as a separate image in the
series' list, and each names the very slice that it was drawn on.

The pixels hold nothing of the patient's attributes; the objects do, as every object of the study. The summary page
names the series by its description, a free text that people write: its BurnedInAnnotation is YES then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from pydicom.valuerep import DS

from dicom_io.segmentation import Segmentation
from reports.envelope import RESEARCH_USE, seal
from reports.findings.measurements import Findings, Lesion
from reports.objects.case import Case
from reports.objects.kinds import KINDS, Kind
from reports.objects.result_object import image_names, image_references, result_object, source_series
from reports.pages.drawing import Canvas
from reports.pages.hanging import letters
from reports.pages.slice_page import HEIGHT, WIDTH, draw_page, most_liver
from reports.pages.slice_picture import PictureGrid
from reports.pages.summary_page import draw_summary
from reports.pages.window import display_window
from reports.source_frames import SourceFrame
from reports.source_headers import quietly

KIND = KINDS["key_images"]

LESION_IMAGES = 10
"""How many lesions have an image, the largest first."""

LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True, eq=False)
class Page:
    """The content of one object: pixels (row, column, 3), the source frames they were drawn from, and their place.

    `has_free_text` where words of the source's header stand in the pixels.
    """

    pixels: NDArray[np.uint8]
    frames: Sequence[SourceFrame]
    comment: str
    grid: PictureGrid | None = None
    has_free_text: bool = False


def build_key_images(case: Case) -> list[Dataset]:
    """Build the key images of one volume, in a separate series of the source's study, in the order they are shown.

    A summary page; then the key slices of the largest lesions, or without any the slice with the most liver; without
    a liver the page alone. The same case gives the same bytes. Raises SourceUnusable.
    """
    names, canvas = image_names(case), Canvas(WIDTH, HEIGHT)
    series = source_series(case.source.headers[0], case.volume.modality)
    draw_summary(
        canvas,
        case.findings,
        case.segmentation.algorithm,
        identity=case.identity,
        series=series,
        volume_note=case.note,
    )
    summary = "Summary of the findings"
    pages = [Page(canvas.pixels, case.source.frames, summary, has_free_text=series != names.series)]
    window = display_window(case.volume, case.source.headers[0])
    for plane, measured, comment in _shown(case.segmentation, case.findings):
        drawn = draw_page(
            canvas,
            case.volume,
            case.segmentation,
            case.findings,
            plane,
            window,
            measured=measured,
            made_by=case.made_by,
            names=names,
        )
        pages.append(Page(drawn.pixels, [case.source.frames[plane]], comment, drawn.grid))
    return [secondary_capture(case, KIND, number, page) for number, page in enumerate(pages, start=1)]


def _shown(segmentation: Segmentation, findings: Findings) -> list[tuple[int, tuple[Lesion, ...], str]]:
    """Slice, lesions with calipers, and a word for each image after the summary."""
    if findings.lesions:
        by_size = findings.lesions[:LESION_IMAGES]
        return [(lesion.place.key_slice, (lesion,), f"Lesion {lesion.number}") for lesion in by_size]
    plane = most_liver(segmentation)
    return [] if plane is None else [(plane, (), "Slice with the most liver")]


def secondary_capture(case: Case, kind: Kind, number: int, page: Page) -> Dataset:
    """Image `number` of a series of pictures. Raises SourceUnusable."""
    source, algorithm = case.source.usable[0], case.segmentation.algorithm
    with quietly():
        ds = result_object(case, kind, number, sop_class_uid=SecondaryCaptureImageStorage, modality="OT")
        ds.BodyPartExamined, ds.ConversionType = "LIVER", "WSD"
        ds.ImageType = ["DERIVED", "SECONDARY"]
        ds.ImageComments = page.comment
        ds.BurnedInAnnotation = "YES" if page.has_free_text else "NO"
        ds.DerivationDescription = (
            f"{page.comment}: liver and lesions as segmented by {algorithm.name} {algorithm.version}. {RESEARCH_USE}"
        )[:1024]
        ds.SourceImageSequence = image_references(page.frames)
        for keyword in LOSSY:
            if keyword in source:
                ds.add(source[keyword])
        _place(ds, page.grid)
        _set_pixels(ds, page.pixels)
        seal(ds, case.source.headers[0], case.identity)
    return ds


def _place(ds: Dataset, grid: PictureGrid | None) -> None:
    """PatientOrientation, and the spacing with which a viewer's ruler measures true millimetres."""
    if grid is None:
        ds.PatientOrientation = None
        return
    ds.PatientOrientation = [letters(grid.right), letters(grid.down)]
    ds.PixelSpacing = [DS(grid.pixel_mm, auto_format=True)] * 2


def _set_pixels(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.add_new("PixelData", "OB", pixels.tobytes())
