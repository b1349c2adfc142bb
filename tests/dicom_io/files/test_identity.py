"""Which images are of one patient, study and series: what counts as the same, as a spelling, and as another."""

import pytest
from pydicom import DataElement, Dataset

from dicom_io.files.identity import changed_module, disagreement, identity_of, place

STATED = {
    "PatientID": "EX-001",
    "PatientName": "First^Person",
    "PatientBirthDate": "19610309",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.3",
    "AccessionNumber": "A1",
    "SeriesInstanceUID": "1.2.3.4",
    "SeriesNumber": "7",
    "SpecificCharacterSet": "ISO_IR 192",
}


def image(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in (STATED | values).items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


SPELLED = [
    {"PatientID": "ex-001"},
    {"PatientName": "FIRST^PERSON"},
    {"PatientName": "Person^First"},
    {"PatientName": "First^Person^^^"},
    {"PatientName": "First Person"},
    {"PatientName": "F\u00edrst^P\u00e9rson"},
    {"PatientName": None},
    {"PatientBirthDate": "1961.03.09"},
    {"PatientBirthDate": ""},
    {"PatientSex": "FEMALE"},
    {"AccessionNumber": None},
    {"AccessionNumber": "a1"},
    {"IssuerOfPatientID": "SITE"},
    {"SeriesNumber": "8"},
]
ANOTHER = [
    {"PatientID": "EX-002"},
    {"PatientID": "EX001"},
    {"PatientID": None},
    {"PatientName": "Second^Person"},
    {"PatientName": "First^Person^Second"},
    {"PatientBirthDate": "19610903"},
    {"PatientSex": "M"},
    {"StudyInstanceUID": "1.2.30"},
    {"AccessionNumber": "A2"},
    {"SeriesInstanceUID": "1.2.3.40"},
]
SAME = [{}, {"PatientID": "EX-001 "}, {"PatientName": "First^Person "}, {"StudyDescription": "Abdomen"}]


def named(values: dict[str, object]) -> str:
    return ",".join(f"{keyword}={value}" for keyword, value in values.items()) or "nothing"


@pytest.mark.parametrize("values", SAME, ids=named)
def test_images_that_agree(values: dict[str, object]):
    """Padding, and what only describes, is no disagreement."""
    found = disagreement([identity_of(image()), identity_of(image(**values))])
    assert (found.differing, found.spelled) == ((), ())


@pytest.mark.parametrize("values", SPELLED, ids=named)
def test_images_that_are_written_differently(values: dict[str, object]):
    """Case, order, accents, punctuation of dates, or nothing at all: the same person."""
    found = disagreement([identity_of(image()), identity_of(image(**values))])
    assert (found.differing, found.spelled) == ((), tuple(values))


@pytest.mark.parametrize("values", ANOTHER, ids=named)
def test_images_of_another(values: dict[str, object]):
    """One among many is enough, and it may be any of them."""
    others = [identity_of(image()) for _ in range(5)]
    for position in (0, 5):
        identities = [*others[:position], identity_of(image(**values)), *others[position:]]
        assert disagreement(identities).differing == tuple(values)


def test_an_archive_files_by_what_is_written():
    """PatientID and StudyInstanceUID, character by character but for padding."""
    filed = place(identity_of(image()))
    assert filed == place(identity_of(image(PatientID="EX-001 ", PatientName="Second^Person")))
    assert len({filed, *(place(identity_of(image(PatientID=text))) for text in ("ex-001", "", None))}) == 3
    assert filed != place(identity_of(image(StudyInstanceUID="1.2")))


@pytest.mark.parametrize(
    ("values", "module"),
    [
        ({}, None),
        ({"PatientID": "ex-001"}, "PATIENT"),
        ({"PatientName": "Other", "AccessionNumber": "A2"}, "PATIENT"),
        ({"StudyDescription": "Abdomen", "SeriesNumber": "8"}, "STUDY"),
        ({"SeriesDescription": "Arterial"}, "SERIES"),
        ({"InstitutionName": "Elsewhere"}, None),
    ],
    ids=str,
)
def test_what_a_later_version_changes(values: dict[str, object], module: str | None):
    assert changed_module(identity_of(image()), identity_of(image(**values))) == module


def test_nobody_can_read_it_and_nothing_breaks_it():
    """Digests alone; a value that cannot be decoded is compared by its bytes."""
    assert "First" not in str(identity_of(image()))
    odd = [image(), image()]
    for ds, value in zip(odd, ("\udcff\udcfe", "\udcff\udcfd"), strict=True):
        ds["PatientID"] = DataElement(0x00100020, "LO", value, validation_mode=0)
    assert disagreement(map(identity_of, odd)).differing == ("PatientID",)
    several = image()
    several.PatientID = ["EX-001", "EX-002"]
    assert disagreement([identity_of(several), identity_of(image())]).differing == ("PatientID",)
