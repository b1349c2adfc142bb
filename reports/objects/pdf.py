"""The report for a clinician as an Encapsulated PDF (PS3.3 section A.45.1): the same numbers, with charts and pictures.

A page may be printed and so parted from its object: each names the patient. That is why BurnedInAnnotation is YES.
"""

from collections.abc import Sequence

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_io.segmentation import Segmentation
from dicom_io.volume import Volume
from reports import codes
from reports.envelope import seal
from reports.findings.measurements import Findings, Lesion
from reports.identity import ResultIdentity
from reports.objects.kinds import KINDS
from reports.objects.result_object import instance_references, result_object, source_series_number
from reports.pages.drawing import Canvas
from reports.pages.pdf_pages import Heading, draw_pdf
from reports.pages.slice_page import HEIGHT, WIDTH, draw_page, most_liver
from reports.pages.window import display_window
from reports.source_frames import source_frames
from reports.source_headers import quietly, usable_headers

KIND = KINDS["pdf"]
TITLE = "Liver and liver lesions: automatic measurements"
LESION_PICTURES = 6
"""How many lesions have a picture, the largest first."""


def build_pdf(
    headers: Sequence[Dataset],
    volume: Volume,
    segmentation: Segmentation,
    findings: Findings,
    *,
    identity: ResultIdentity,
    frame_numbers: Sequence[int | None] = (),
    sources: Sequence[Dataset] = (),
    volume_note: str = "",
) -> Dataset:
    """The PDF of one volume in a series of its own; arguments and errors are those of `key_images.build_key_images`.

    The same arguments give the same bytes.
    """
    if len(headers) != volume.geometry.slices or volume.geometry.shape != segmentation.geometry.shape:
        raise ValueError("one header per slice, and labels on the volume's grid")
    sources = sources or usable_headers(headers, volume.geometry.frame_of_reference_uid)
    frames = source_frames(sources, frame_numbers)
    algorithm, source = segmentation.algorithm, sources[0]
    series_number = source_series_number(source)
    made_by = f"Porta {identity.software_version}, {algorithm.name} {algorithm.version}"
    window, canvas = display_window(volume, headers[0]), Canvas(WIDTH, HEIGHT)
    pictures = [
        draw_page(
            canvas,
            volume,
            segmentation,
            findings,
            plane,
            window,
            measured=measured,
            made_by=made_by,
            series_number=series_number,
        ).pixels
        for plane, measured in _shown(segmentation, findings)
    ]
    heading = Heading(patient_line(source), _series_line(volume, identity, series_number, volume_note))
    document = draw_pdf(findings, algorithm, pictures, heading=heading, identity=identity, title=TITLE)
    with quietly():
        ds = result_object(
            source,
            algorithm,
            identity,
            kind=KIND,
            number=1,
            sop_class_uid=EncapsulatedPDFStorage,
            modality="DOC",
        )
        ds.ConversionType = "WSD"
        ds.AcquisitionDateTime = None
        ds.BurnedInAnnotation = "YES"
        ds.SourceInstanceSequence = instance_references(frames)
        ds.DocumentTitle = TITLE
        ds.ConceptNameCodeSequence = [CodedConcept.from_code(codes.ONCOLOGY_MEASUREMENT_REPORT)]
        ds.VerificationFlag = "UNVERIFIED"
        ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
        ds.EncapsulatedDocumentLength = len(document)
        ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
        seal(ds, headers[0], identity)
    return ds


def patient_line(source: Dataset) -> str:
    """Who, and of which study: name, number, birth date, study date, accession number, as far as they are stated.

    Of the name the first component group that the fonts of the page can write is taken (PS3.5 section 6.2.1): they
    have Latin, Greek and Cyrillic letters, and no ideographs.
    """
    parts = (
        ("", _name(source)),
        ("ID ", _text(source, "PatientID")),
        ("born ", _date(source, "PatientBirthDate")),
        ("study of ", _date(source, "StudyDate")),
        ("accession ", _text(source, "AccessionNumber")),
    )
    return ", ".join(label + value for label, value in parts if value) or "No patient is named in the images"


def _name(source: Dataset) -> str:
    groups = str(source.get("PatientName") or "").split("=")
    for group in groups:
        words = " ".join(part for part in group.split("^") if part.strip()).strip()
        if words and all(ord(letter) < LAST_LETTER for letter in words):
            return words
    return "name in the object's header" if any(groups) else ""


LAST_LETTER = 0x0530
"""Latin, Greek and Cyrillic end before it; DejaVu Sans, in which the pages are set, has them all."""


def _text(source: Dataset, keyword: str) -> str:
    value = str(source.get(keyword) or "").strip()
    return value if all(ord(letter) < LAST_LETTER for letter in value) else ""


def _date(source: Dataset, keyword: str) -> str:
    value = _text(source, keyword)
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdecimal() else value


def _series_line(volume: Volume, identity: ResultIdentity, series_number: str, volume_note: str) -> str:
    of = f"{volume.modality} series {series_number}" if series_number else f"{volume.modality} series"
    label = f", {identity.volume_label}" if identity.volume_label else ""
    revision = f", revision {identity.revision}" if identity.revision > 1 else ""
    return f"Automatic segmentation of {of}{label}{revision}. {volume_note}".strip()


def _shown(segmentation: Segmentation, findings: Findings) -> list[tuple[int, tuple[Lesion, ...]]]:
    """The slice with the most liver, then the key slices of the largest lesions; nothing without a liver."""
    plane = most_liver(segmentation)
    if plane is None:
        return []
    return [(plane, ()), *((lesion.place.key_slice, (lesion,)) for lesion in findings.lesions[:LESION_PICTURES])]
