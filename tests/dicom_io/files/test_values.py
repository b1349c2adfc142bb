"""Values are read leniently: what cannot be used counts as absent, and the bytes stay as they came."""

from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_io.files import values


def stated(keyword: str, vr: str, content: bytes) -> Dataset:
    """A data set with one element as a file has it."""
    ds = Dataset()
    tag = Tag(keyword)
    ds._dict[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True)
    return ds


@pytest.mark.parametrize(
    ("vr", "content", "number"),
    [
        ("DS", b"5.0 ", 5.0),
        ("DS", b"5\\5.0", 5.0),
        ("DS", b"5\0\0\0", 5.0),
        ("DS", b"+5.0e0", 5.0),
        ("DS", b"5,0 ", None),
        ("DS", b"5 mm", None),
        ("DS", b"5\\6 ", None),
        ("DS", b"NaN ", None),
        ("DS", b"inf ", None),
        ("DS", b"1_0 ", None),
        ("DS", b"1e999 ", None),
        ("DS", b"", None),
        ("DS", b"    ", None),
        ("FD", b"12345", None),
        ("FD", b"\0\0\0\0\0\0\xf8\x7f", None),
        ("OB", b"5 ", None),
        ("DS", b"1" * 400, None),
    ],
)
def test_numbers(vr: str, content: bytes, number: float | None):
    """A finite number as the standard writes it, or nothing."""
    ds = stated("SliceThickness", vr, content)
    assert values.number(ds, "SliceThickness") == number
    assert values.is_stated(ds, "SliceThickness") is bool(content.strip(b" \0"))


@pytest.mark.parametrize(
    ("vr", "content", "code"),
    [
        ("CS", b"ct", "CT"),
        ("CS", b"CT\0\0", "CT"),
        ("CS", b"CT\\CT ", "CT"),
        ("CS", b"CT\\MR ", ""),
        ("FD", b"\0\0\0\0\0\0\xf0?", ""),
        ("LO", b"CT", "CT"),
        ("SQ", b"CTCT", ""),
    ],
)
def test_codes(vr: str, content: bytes, code: str):
    """In capitals, without padding; one, or nothing."""
    assert values.code(stated("Modality", vr, content), "Modality") == code


@pytest.mark.parametrize(
    ("content", "uid"),
    [(b"1.2.3\0", "1.2.3"), (b"1.2.x\0", ""), (b"1." + b"2" * 70, ""), (b"1.2\\1.3\0", ""), (b"", "")],
)
def test_uids(content: bytes, uid: str):
    """One that may become a path, or nothing."""
    assert values.uid(stated("FrameOfReferenceUID", "UI", content), "FrameOfReferenceUID") == uid


def test_reading_changes_nothing():
    """The bytes of a name are there after it was read."""
    ds = stated("PatientName", "PN", b"Doe\\Jane")
    assert values.texts(ds, "PatientName") == ("Doe", "Jane")
    raw = ds.get_item("PatientName")
    assert isinstance(raw, RawDataElement) and raw.value == b"Doe\\Jane"


def test_a_file_that_is_read_lazily(make_series):
    """The same of a data set that pydicom read."""
    ds = dcmread(BytesIO(make_series()[0].read_bytes()))
    assert values.decimals(ds, "PixelSpacing") == ("0.75", "0.5")
    assert isinstance(ds.get_item("PixelSpacing"), RawDataElement)
