"""Which images are of one patient, study and series: what counts as the same, as a spelling, and as another."""

import pytest
from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

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
    {"PatientName": "First^Person=\u7530^\u592a"},
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
    {"PatientName": "F\u00edrst^Person"},
    {"PatientName": "=First^Person"},
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


PAIRS = {
    "an accent": ("Pe\u00f1a^Ana", "Pena^Ana"),
    "another letter": ("\u00d6zt\u00fcrk^A", "Ozturk^A"),
    "a short i": ("\u0410\u043d\u0434\u0440\u0435\u0439", "\u0410\u043d\u0434\u0440\u0435\u0438"),
    "a vowel sign": ("\u092e\u0940\u0930\u093e", "\u092e\u093e\u0930\u093e"),
    "a tone mark": ("\u0e01\u0e49\u0e32", "\u0e01\u0e32"),
    "a point": ("\u05e9\u05c1", "\u05e9\u05c2"),
    "a voiced kana": ("\u30ab\u30ca", "\u30ac\u30ca"),
    "another ideograph": ("Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "Yamada^Tarou=\u5c71\u7530^\u592a\u6717"),
    "another reading": ("A^B=\u5c71^\u592a=\u3084", "A^B=\u5c71^\u592a=\u3086"),
    "nothing in common": ("Yamada^Tarou", "=\u5c71\u7530^\u592a\u90ce"),
    "outside the first plane": ("\U00020bb7\u91ce", "\u5409\u91ce"),
    "symbols alone": ("\u2605", "\u2606"),
    "bytes that are none of its characters": (b"M\xfcller", b"M\xf6ller"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_names_are_never_one(name: str):
    """What tells them apart in any script counts."""
    images = [image(PatientName=None) for _ in range(2)]
    for ds, value in zip(images, PAIRS[name], strict=True):
        raw = value if isinstance(value, bytes) else value.encode()
        ds[0x00100010] = RawDataElement(Tag("PatientName"), "PN", len(raw), raw, 0, False, True)
        ds.set_original_encoding(False, True, ["utf8"])
    assert disagreement(map(identity_of, images)).differing == ("PatientName",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Pe\u00f1a^Ana", "PEN\u0303A^ANA"),
        ("\uff94\uff8f\uff80\uff9e^A", "\u30e4\u30de\u30c0^A"),
        ("Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "YAMADA^Tarou"),
        ("=\u5c71\u7530^\u592a\u90ce=\u3084", "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"),
        ("\u092e\u0940\u0930\u093e^\u0915", "\u0915^\u092e\u0940\u0930\u093e"),
    ],
)
def test_one_name_is_not_two(one: str, other: str):
    """In other code points, another width, case or order, or with a group that the other does not have."""
    found = disagreement([identity_of(image(PatientName=one)), identity_of(image(PatientName=other))])
    assert (found.differing, found.spelled) == ((), ("PatientName",))
