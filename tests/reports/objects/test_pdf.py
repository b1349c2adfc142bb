"""The PDF: an object that any archive takes, a document that any reader opens, and the findings' own numbers in it."""

import io
import time
from dataclasses import replace

import pydicom
import pytest
from pydicom import Dataset
from pypdf import PdfReader

from dicom_io.errors import SeriesWarning
from reports.findings.caveats import FindingsWarning
from reports.objects.case import with_image_numbers
from reports.objects.pdf import LESION_PICTURES, TITLE, build_pdf
from reports.objects.result_object import image_names
from reports.pages.pdf_pages import TABLE_LESIONS
from reports.pages.slice_page import slice_line


def built(case, identity, **more) -> Dataset:
    (ds,) = build_pdf(case.under(identity, **more))
    return ds


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def pages(ds: Dataset) -> list[str]:
    """The text of each page, as another program reads it out of the object as it was written."""
    again = pydicom.dcmread(io.BytesIO(written(ds)))
    assert len(again.EncapsulatedDocument) - again.EncapsulatedDocumentLength in (0, 1)
    document = again.EncapsulatedDocument[: again.EncapsulatedDocumentLength]
    return [page.extract_text() for page in PdfReader(io.BytesIO(document)).pages]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"lesions": False},
        {"liver": False},
        {"modality": "MR", "frame_numbers": tuple(range(3, 17))},
        {"frame_of_reference_uid": None},
        {"PatientName": None, "StudyDate": None, "PatientID": None, "Manufacturer": None},
    ],
    ids=["CT", "no lesion", "no liver", "Enhanced MR", "no frame", "bare"],
)
def test_it_passes_dciodvfy(make_case, identity, validate, how) -> None:
    """No error, and no warning but those that the source brings; in the study, after the images."""
    case = make_case(**how)
    ds = built(case, identity)
    assert validate(ds) == []
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1" and ds.Modality == "DOC"
    assert (ds.SeriesNumber, ds.SeriesDescription) == (9005, "Porta: report (PDF)")
    assert ds.StudyInstanceUID == case.headers[0].StudyInstanceUID
    assert ds.DocumentTitle == TITLE and ds.BurnedInAnnotation == "YES"
    named = {item.ReferencedSOPInstanceUID for item in ds.SourceInstanceSequence}
    assert named == set(case.volume.sop_instance_uids)


def test_it_says_what_the_findings_say(make_case, identity) -> None:
    """Each number as it is written elsewhere, who made it, and that it is no diagnosis, on every page."""
    case = make_case()
    findings = case.findings
    first, *others = pages(built(case, identity, note="The portal phase was segmented."))
    for text in (
        f"{findings.liver_volume_ml:.0f} mL",
        f"{findings.burden_percent:.1f} %",
        "The portal phase was segmented.",
        "resnet50 1.2.0",
        case.segmentation.algorithm.weights_sha256,
        *(f"{lesion.size.long_axis_mm:.1f} x {lesion.size.short_axis_mm:.1f}" for lesion in findings.lesions),
        *(f"{lesion.size.diameter_3d_mm:.1f}" for lesion in findings.lesions),
    ):
        assert text in first
    assert others and all("For research use, not a diagnosis." in text for text in (first, *others))
    assert all("Doe" in text or "Jane" in text for text in (first, *others))


def test_slices_are_named_as_viewers_count_them(make_case, identity) -> None:
    """The images are numbered from the head, as scanners do: the 99th slice from the feet was I:21 in every viewer."""
    case = make_case(SeriesDescription="Recon 2 LIVER")
    count = len(case.headers)
    for index, header in enumerate(case.headers):
        header.InstanceNumber = count - index
    case = replace(case, findings=with_image_numbers(case.findings, case.headers))
    first, _, *pictures = pages(built(case, identity, note="Contrast phase: portal, known by a word in ProtocolName."))
    head = " ".join(first.split())
    assert 'CT series 4, "Recon 2 LIVER"' in head
    assert "Contrast phase: portal, known by a word in ProtocolName." in head
    for lesion in case.findings.lesions:
        plane = lesion.place.key_slice
        z_mm = float(case.headers[plane].ImagePositionPatient[2])
        assert lesion.place.key_image == f"image {count - plane}"
        assert f"z {z_mm:.1f}" in first and f"{count - plane}" in first
        names = image_names(case.under(identity))
        line = slice_line(case.volume.geometry, plane, names)
        assert line == f"CT series 4, image {count - plane}, axial, z = {z_mm:.1f} mm"


def test_images_without_a_number_are_counted_from_the_feet(make_case, identity) -> None:
    """And said to be slices, not images; frames are named by their number."""
    case = make_case(InstanceNumber=None)
    assert image_names(case.under(identity)).slices[4] == "slice 5"
    assert case.findings.lesions[0].place.key_image.startswith("slice ")
    frames = make_case(modality="MR", frame_numbers=tuple(range(3, 17)))
    assert image_names(frames.under(identity)).slices[:2] == ["frame 3", "frame 4"]


def test_no_liver_and_no_lesion_are_said(make_case, identity) -> None:
    """One page without pictures; or the liver's picture alone."""
    (only,) = pages(built(make_case(liver=False), identity))
    assert "No liver was found in this series." in only
    first, _ = pages(built(make_case(lesions=False), identity))
    assert "No liver lesion was found." in first


def test_many_lesions_and_every_warning_leave_no_line_upon_another(make_case, identity, many_lesions) -> None:
    """The table ends where the page does, a page of charts alone is left out, and what else is left out is said.

    One warning less than all: with that the table has a page of its own.
    """
    case = many_lesions(make_case(rows=90, columns=90), 30)
    warnings = (
        *map(str, [item for item in SeriesWarning if item != SeriesWarning.INCOMPLETE]),
        *map(str, FindingsWarning),
    )
    case = replace(case, findings=replace(case.findings, warnings=warnings))
    texts = pages(built(case, identity))
    assert len(texts) == 1 + -(-(1 + LESION_PICTURES) // 2)
    assert "more, all in the structured report" in texts[0]
    assert not any("Volume, mL, by lesion" in text for text in texts)
    without = pages(built(many_lesions(make_case(rows=90, columns=90), 30), identity))
    assert f"And {30 - TABLE_LESIONS} more" in without[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Παπαδοπούλου^Ελένη", "Παπαδοπούλου Ελένη"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou"),
        ("王^小東", "name in the object's header"),
        ("A$1^B$2", "A$1 B$2"),
    ],
)
def test_the_patient_is_named_in_letters_that_the_page_can_write(make_case, identity, name, shown) -> None:
    """The first group of the name that it can; never boxes, never mathematics."""
    case = make_case(SpecificCharacterSet="ISO_IR 192", PatientName=name, PatientID="P-7", StudyDate="20240229")
    ds = built(case, identity)
    assert str(ds.PatientName) == name
    (first, *_) = pages(ds)
    assert shown in first and "ID P-7" in first and "study of 2024-02-29" in first


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Los_Angeles"])
def test_it_was_made_when_it_was_made(make_case, identity, monkeypatch, zone) -> None:
    """Whatever the zone of the node is."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        document = built(make_case(), identity).EncapsulatedDocument
    finally:
        monkeypatch.undo()
        time.tzset()
    assert PdfReader(io.BytesIO(document)).metadata.creation_date == identity.created


def test_no_line_leaves_the_page_or_meets_the_foot(make_case, identity) -> None:
    """A long name is shortened; a card that lists many collections pushes its line up."""
    algorithm = replace(make_case().segmentation.algorithm, trained_on="a collection of many cases, " * 30)
    case = make_case(PatientName="Wwwwwwwwwwwwwwww^Mmmmmmmmmmmmmmmm^Wwwwwwwwwwwwwwww", PatientID="W" * 60)
    case = replace(case, segmentation=replace(case.segmentation, algorithm=algorithm))
    places: list[tuple[str, float, float, float]] = []

    def visit(text, matrix, _, font, size) -> None:
        if text.strip():
            places.append((text, matrix[4], matrix[5], size))

    document = built(case, identity).EncapsulatedDocument
    PdfReader(io.BytesIO(document)).pages[0].extract_text(visitor_text=visit)
    foot = max(y for text, _, y, _ in places if text.startswith("For research") and y < 100)
    above = [y for text, _, y, _ in places if "collection of many" in text]
    assert len(above) > 4 and min(above) > foot + 5


def test_the_same_arguments_give_the_same_bytes(make_case, identity) -> None:
    """And another revision another object."""
    assert written(built(make_case(), identity)) == written(built(make_case(), identity))
    other = built(make_case(), replace(identity, revision=2))
    assert other.SOPInstanceUID != built(make_case(), identity).SOPInstanceUID
    assert "revision 2" in pages(other)[0]
