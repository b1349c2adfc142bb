"""The report for a clinician as an Encapsulated PDF (PS3.3 section A.45.1): the same numbers, with charts and pictures.

A page may be printed and so parted from its object: each names the patient. That is why BurnedInAnnotation is YES.
"""

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_io.files import values
from dicom_io.segmentation import Segmentation
from reports import codes
from reports.envelope import seal
from reports.findings.measurements import Findings, Lesion
from reports.objects.case import Case
from reports.objects.kinds import KINDS
from reports.objects.result_object import LAST_LETTER, image_names, instance_references, result_object, source_series
from reports.pages.drawing import Canvas
from reports.pages.pdf_pages import Heading, draw_pdf
from reports.pages.slice_page import HEIGHT, WIDTH, draw_page, most_liver
from reports.pages.window import display_window
from reports.source_headers import quietly

KIND = KINDS["pdf"]
TITLE = "Liver and liver lesions: automatic measurements"
LESION_PICTURES = 6
"""How many lesions have a picture, the largest first."""


def build_pdf(case: Case) -> list[Dataset]:
    """Build the PDF of one volume, in a separate series. The same case gives the same bytes. Raises SourceUnusable."""
    algorithm, names = case.segmentation.algorithm, image_names(case)
    window, canvas = display_window(case.volume, case.source.headers[0]), Canvas(WIDTH, HEIGHT)
    pictures = [
        draw_page(
            canvas,
            case.volume,
            case.segmentation,
            case.findings,
            plane,
            window,
            measured=measured,
            made_by=case.made_by,
            names=names,
        ).pixels
        for plane, measured in _shown(case.segmentation, case.findings)
    ]
    with quietly():
        heading = Heading(patient_line(case.source.headers[0]), _series_line(case))
    document = draw_pdf(case.findings, algorithm, pictures, heading=heading, identity=case.identity, title=TITLE)
    with quietly():
        ds = result_object(case, KIND, 1, sop_class_uid=EncapsulatedPDFStorage, modality="DOC")
        ds.ConversionType = "WSD"
        ds.AcquisitionDateTime = None
        ds.BurnedInAnnotation = "YES"
        ds.SourceInstanceSequence = instance_references(case.source.frames)
        ds.DocumentTitle = TITLE
        ds.ConceptNameCodeSequence = [CodedConcept.from_code(codes.ONCOLOGY_MEASUREMENT_REPORT)]
        ds.VerificationFlag = "UNVERIFIED"
        ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
        ds.EncapsulatedDocumentLength = len(document)
        ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
        seal(ds, case.source.headers[0], case.identity)
    return [ds]


def patient_line(source: Dataset) -> str:
    """Return a line about patient and study: name, number, birth date, study date, accession number, where stated.

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
    groups = values.text(source, "PatientName").split("=")
    for group in groups:
        words = " ".join(part for part in group.split("^") if part.strip()).strip()
        if words and all(ord(letter) < LAST_LETTER for letter in words):
            return words
    return "name in the object's header" if values.is_stated(source, "PatientName") else ""


def _text(source: Dataset, keyword: str) -> str:
    value = values.text(source, keyword).strip()
    return value if all(ord(letter) < LAST_LETTER for letter in value) else ""


def _date(source: Dataset, keyword: str) -> str:
    date = values.date(source, keyword)
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if date else _text(source, keyword)


def _series_line(case: Case) -> str:
    identity, of = case.identity, source_series(case.source.headers[0], case.volume.modality)
    label = f", {identity.volume_label}" if identity.volume_label else ""
    revision = f", revision {identity.revision}" if identity.revision > 1 else ""
    return f"Automatic segmentation of {of}{label}{revision}. {case.note}".strip()


def _shown(segmentation: Segmentation, findings: Findings) -> list[tuple[int, tuple[Lesion, ...]]]:
    """The slice with the most liver, then the key slices of the largest lesions; nothing without a liver."""
    plane = most_liver(segmentation)
    if plane is None:
        return []
    return [(plane, ()), *((lesion.place.key_slice, (lesion,)) for lesion in findings.lesions[:LESION_PICTURES])]
