"""Whose a result is: the keys of patient and study, byte for byte, in every object and form; and what is left out."""

import io
from dataclasses import replace
from itertools import product
from typing import get_args

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from reports.objects.case import build
from reports.objects.kinds import CHOICES, FORMS, KINDS, SegType, SrClass
from reports.objects.pdf import patient_line
from reports.objects.profile import Profile
from reports.objects.sr import build_rejection_sr
from reports.pages.heat_page import GRADCAM, Explanation
from reports.source_headers import KEYS, left_out

ODD = {
    "PatientName": b"\xff\xfeDoe\\^^=\xe8",
    "PatientID": b" P-1\\ \xa4" + b"7" * 80 + b" ",
    "IssuerOfPatientID": b"clinic\\north",
    "PatientBirthDate": b"19610309-19610412 ",
    "PatientBirthTime": b"10:11 ",
    "PatientSex": b"female",
    "OtherPatientNames": b"Roe^Jane\\\xc0",
    "StudyDate": b"2024.05.01",
    "StudyTime": b"10:11:12",
    "StudyID": b"123456789012345678",
    "AccessionNumber": b"12345678901234567890",
    "StudyDescription": b"x" * 70 + b"\x80\x1b",
    "ReferringPhysicianName": b"a^b^c^d^e^f^g^h ",
    "NameOfPhysiciansReadingStudy": b"\xe4\xe4",
}
"""Values under which an archive may have filed a study, whatever the standard says of them."""


def say(ds: Dataset, keyword: str, content: bytes) -> None:
    """Have a data set state bytes, as one does that was read from a file."""
    tag = Tag(keyword)
    ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(content), content, 0, False, True)


def reread(ds: Dataset) -> Dataset:
    """What an archive gets."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))


def stated(ds: Dataset) -> dict[str, bytes]:
    """The keys of an object as bytes."""
    return {keyword: found.value for keyword in KEYS if (found := ds.get_item(Tag(keyword))) and found.value}


def test_every_object_in_every_form_has_the_keys_of_its_source(make_case, identity, validate) -> None:
    """Bytes that do not decode too, and all else is still right: dciodvfy complains of nothing but these values."""
    assert set(ODD) == set(KEYS)
    example = make_case(SpecificCharacterSet="ISO_IR 192")
    for keyword, content in ODD.items():
        say(example.headers[0], keyword, content)
    labels, lesion = example.segmentation.labels, example.findings.lesions[0]
    heat = Explanation(GRADCAM, lesion.place.key_slice, np.ones(labels.shape[1:], np.float32), 1.0)
    more = {"probabilities": {1: labels, 2: labels}, "explanations": {lesion.segment: heat}}
    objects = {}
    for seg_type, sr_class in product(get_args(SegType), get_args(SrClass)):
        case = example.reported(identity, profile=Profile(seg_type=seg_type, sr_class=sr_class), **more)
        for kind in (KINDS[name] for name in CHOICES):
            form = case.form_of(kind).name
            objects[form] = objects.get(form) or build(case, kind)
    for form in (form for form in FORMS.values() if form.kind == "verdict"):
        objects[form.name] = [build_rejection_sr(example.headers, "Why.", "TILT", identity=identity, form=form)]
    assert set(objects) == set(FORMS)
    for name, built in objects.items():
        for ds in built:
            assert stated(reread(ds)) == ODD, name
            assert reread(ds).SpecificCharacterSet == "ISO_IR 192"
        of_others = [line for line in validate(built[0]) if not any(keyword in line for keyword in ODD)]
        assert of_others == [] or "labelmap" in name, name  # which dciodvfy 2022 takes for a plain SEG
    assert stated(example.headers[0]) == ODD


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("GB18030", "例^昞".encode("gb18030")),
        ("ISO_IR 100", "表^能子".encode("shift_jis")),
        ("ISO_IR 100", b"Example\\Case"),
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1")),
        (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        ("KLINGON 1", b"\xe4\xf6\xfc"),
        ("ISO-IR 192", "Jörg".encode()),
        (None, b"\xe4\xf6\xfc\\"),
    ],
)
def test_names_come_back_in_their_own_character_set(make_case, charset, name) -> None:
    """With the term that the source states, though nobody knows it."""
    with pydicom.config.disable_value_validation():
        example = make_case(SpecificCharacterSet=charset)
    say(example.headers[0], "PatientName", name)
    seg = reread(example.seg())
    assert seg.get_item(Tag("PatientName")).value.rstrip() == name
    assert seg.get("SpecificCharacterSet") == charset


@pytest.mark.parametrize("charset", ["UTF-16", "hex", "rot13", "idna", "unicode_escape"])
def test_a_character_set_in_which_nothing_can_be_said(make_case, charset) -> None:
    """Left out and told; the name is there."""
    example = make_case()
    say(example.headers[0], "SpecificCharacterSet", charset.encode())
    say(example.headers[0], "PatientName", b"D\0o\0e\0!!")
    seg = reread(example.seg())
    assert "SpecificCharacterSet" not in seg and seg.ContentLabel == "LIVER_LESIONS"
    assert seg.get_item(Tag("PatientName")).value == b"D\0o\0e\0!!"
    assert left_out(example.headers[0]) == ("SpecificCharacterSet",)


def test_padding_is_no_part_of_a_key(make_case) -> None:
    """NUL at the end, as some write it, is not valid, and no archive counts it; an empty key is as absent."""
    example = make_case()
    for keyword, content in {"PatientID": b"P-1\0", "StudyID": b"\0\0", "IssuerOfPatientID": b""}.items():
        say(example.headers[0], keyword, content)
    keys = stated(reread(example.seg()))
    assert keys["PatientID"] == b"P-1 "
    assert "StudyID" not in keys and "IssuerOfPatientID" not in reread(example.seg())


CONVERTED = {
    "PatientAge": ([b"64", b"064y", b"64Y "], "064Y"),
    "PatientWeight": ([b"80,5", b" 80.5 "], "80.5"),
    "LastMenstrualDate": ([b"2024.04.01", b"2024-04-01"], "20240401"),
    "SmokingStatus": ([b"yes "], "YES"),
}
LOST = {
    "PatientAge": [b"old", b"64\\65", b"2000Y"],
    "PatientWeight": [b"NaN ", b"80 kg ", b"1,5,2 ", b"1\\x "],
    "LastMenstrualDate": [b"spring"],
    "PatientComments": [b"\xff\xfe"],
    "Occupation": [b"x" * 40],
    "AdmissionID": [b"7" * 70],
    "PregnancyStatus": [b"\1\2\3", b"*?"],
    "PatientIdentityRemoved": [b"maybe "],
    "SmokingStatus": [b"often "],
    "TimezoneOffsetFromUTC": [b"CEST", b"+9900 "],
}


@pytest.mark.parametrize("keyword", CONVERTED)
def test_what_has_a_valid_form_gets_it(make_case, validate, keyword) -> None:
    spellings, expected = CONVERTED[keyword]
    for content in spellings:
        example = make_case()
        say(example.headers[0], keyword, content)
        seg = example.seg()
        assert str(seg[keyword].value) == expected
        assert left_out(example.headers[0]) == ()
    assert validate(seg) == []


@pytest.mark.parametrize("keyword", LOST)
def test_what_has_none_is_left_out_and_told(make_case, validate, keyword) -> None:
    """By its keyword alone."""
    for content in LOST[keyword]:
        example = make_case(SpecificCharacterSet="ISO_IR 192")
        say(example.headers[0], keyword, content)
        seg = example.seg()
        assert keyword not in seg
        assert left_out(example.headers[0]) == (keyword,)
    assert validate(seg) == []


def test_a_code_without_its_scheme_is_told_and_an_empty_sequence_is_not(make_case) -> None:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "CTABD", "CT Abdomen"
    example = make_case(ProcedureCodeSequence=[item], EthnicGroupCodeSequence=[Dataset()], PatientAge="064Y")
    assert left_out(example.headers[0]) == ("ProcedureCodeSequence",)


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"Example\\Case", "Example\\Case"), (b"\xff\xfe", "name in the object's header"), (b"", "")],
)
def test_a_page_names_the_patient_as_far_as_it_can(make_case, name, shown) -> None:
    example = make_case(SpecificCharacterSet="ISO_IR 192", PatientBirthDate=None, StudyDate=None, AccessionNumber=None)
    say(example.headers[0], "PatientName", name)
    say(example.headers[0], "StudyDate", b"2024.02.29")
    line = patient_line(example.headers[0])
    assert line == ", ".join(filter(None, [shown, "ID P-1", "study of 2024-02-29"]))


def test_a_revision_has_them_too(make_case, identity) -> None:
    """Whatever else an identity says."""
    example = make_case()
    say(example.headers[0], "PatientName", b"Example\\Case")
    seg = reread(example.seg(replace(identity, revision=2, volume_index=1)))
    assert seg.get_item(Tag("PatientName")).value == b"Example\\Case"


def request(**values: str) -> Dataset:
    """An item of RequestAttributesSequence."""
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def test_the_requests_of_the_images_are_those_of_the_results(make_case, identity, validate) -> None:
    """RequestAttributesSequence as in the images; in an SR as its own ReferencedRequestSequence, complete."""
    given = request(RequestedProcedureID="RP1", ScheduledProcedureStepID="SPS1", AccessionNumber="A1")
    given.RequestedProcedureDescription, given.StudyInstanceUID = "CT liver", "1.2.826.0.1.7.1"
    example = make_case(RequestAttributesSequence=[given])
    case = example.reported(identity)
    (seg,), (sr,), (first, *_) = (build(case, KINDS[name]) for name in ("seg", "sr", "key_images"))
    for ds in (seg, first):
        (item,) = reread(ds).RequestAttributesSequence
        assert (item.RequestedProcedureID, item.ScheduledProcedureStepID) == ("RP1", "SPS1")
        assert validate(ds) == []
    again = reread(sr)
    (item,) = again.ReferencedRequestSequence
    assert (item.RequestedProcedureID, item.AccessionNumber, item.StudyInstanceUID) == ("RP1", "A1", "1.2.826.0.1.7.1")
    assert (item.RequestedProcedureDescription, item.FillerOrderNumberImagingServiceRequest) == ("CT liver", "")
    assert "RequestAttributesSequence" not in again and validate(sr) == []


def test_images_without_requests_name_none(make_case, identity) -> None:
    """Nor do those whose sequence holds nothing."""
    for attributes in ({}, {"RequestAttributesSequence": []}):
        case = make_case(**attributes).reported(identity)
        seg, sr = (reread(build(case, KINDS[name])[0]) for name in ("seg", "sr"))
        assert "RequestAttributesSequence" not in seg and "ReferencedRequestSequence" not in sr
