"""Series whose attributes hold what they should not: no number, another case, another UID in each image."""

from pathlib import Path

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from tests.conformance.made_files import Change, Made, content, setting, stack, write


def _plain(out: Path, change: Change) -> list[Made]:
    made = content(stack())
    write(out, made, change)
    return [made]


def stating(keyword: str, vr: str, value: bytes) -> Change:
    """A change of every file: an element of these bytes, which pydicom would not make."""

    def change(ds: Dataset, _: int) -> None:
        tag = Tag(keyword)
        ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    return change


def thickness_that_is_no_number(out: Path) -> list[Made]:
    """SliceThickness "5,0", with a decimal comma: nothing that the geometry needs."""
    return _plain(out, stating("SliceThickness", "DS", b"5,0 "))


def codes_in_small_letters(out: Path) -> list[Made]:
    """Modality, PhotometricInterpretation and ImageType in small letters, and padded with NUL."""

    def change(ds: Dataset, _: int) -> None:
        ds.Modality, ds.PhotometricInterpretation = "ct", "monochrome2\0"
        ds.ImageType = ["original", "primary", "axial"]

    return _plain(out, change)


def a_name_in_two_spellings(out: Path) -> list[Made]:
    """The patient's name in capitals, and on half of the slices not."""

    def change(ds: Dataset, index: int) -> None:
        ds.PatientName = "Phantom^Liver" if index >= 7 else "PHANTOM^LIVER"

    return _plain(out, change)


ODD_KEYS = {
    "PatientName": ("PN", b"Example\\Case "),
    "PatientBirthDate": ("DA", b"19610309-19610412 "),
    "StudyDate": ("DA", b"1961.03.09"),
    "StudyTime": ("TM", b"10:11:12"),
    "StudyID": ("SH", b"123456789012345678"),
    "AccessionNumber": ("SH", b"12345678901234567890"),
    "PatientSex": ("CS", b"female"),
}


def keys_that_are_not_valid(out: Path) -> list[Made]:
    """A backslash in the name, a birth date that is a range, numbers too long, a date and a time as before 1993."""

    def change(ds: Dataset, index: int) -> None:
        for keyword, (vr, value) in ODD_KEYS.items():
            stating(keyword, vr, value)(ds, index)

    return _plain(out, change)


def no_modality(out: Path) -> list[Made]:
    """Modality is empty; the SOP class says that they are CT images."""
    return _plain(out, setting(Modality=""))


def frame_of_reference_in_some(out: Path) -> list[Made]:
    """FrameOfReferenceUID is absent in each third slice."""

    def change(ds: Dataset, index: int) -> None:
        if index % 3 == 0:
            del ds.FrameOfReferenceUID

    return _plain(out, change)


def frame_of_reference_of_each(out: Path) -> list[Made]:
    """Each slice has another FrameOfReferenceUID."""
    _plain(out, lambda ds, index: setattr(ds, "FrameOfReferenceUID", f"1.2.3.{index}"))
    return []


def pixel_spacing_of_each(out: Path) -> list[Made]:
    """Each slice has another PixelSpacing."""
    _plain(out, lambda ds, index: setattr(ds, "PixelSpacing", [f"0.{index + 50}", "0.7"]))
    return []


def no_sign(out: Path) -> list[Made]:
    """PixelRepresentation is absent: whether the values have a sign nobody knows."""
    _plain(out, setting(PixelRepresentation=None))
    return []
