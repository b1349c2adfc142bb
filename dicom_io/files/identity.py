"""Whose an object says it is, and of which study and series: in a form that can be compared, and that names nobody.

Each attribute becomes two digests: of what it means, in which case, padding, punctuation and the order of a name's
components do not count, and of how it is written. An accent, as any mark or character, makes another name of a name.
Results bear the identity of the images, so that the images of one series must agree in it; archives file by it as it is
written.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.tag import Tag

from dicom_io.files import values
from dicom_io.files.image_header import Identity

PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyID", "AccessionNumber", "StudyDate")
SERIES = ("SeriesInstanceUID",)
"""What tells patients, studies and series apart (PS3.3 sections C.7.1.1, C.7.2.1 and C.7.3.1)."""

OF_STUDY = ("StudyTime", "StudyDescription", "ReferringPhysicianName")
OF_SERIES = ("SeriesNumber", "SeriesDescription", "BodyPartExamined")
"""What only describes a study or series: its images may differ in it, but not one image from itself."""

PLACE = ("PatientID", "StudyInstanceUID")
"""By what an archive files an object."""

Place = tuple[str, ...]
"""What is the same for two objects that an archive files under one patient and study."""

DIGEST_CHARACTERS = 16
GROUPS = "=="
REPLACED = "\ufffd"
"""Stands for bytes that could not be decoded, whatever they were."""


def identity_of(ds: Dataset) -> Identity:
    """Return the digests of patient, study and series of a data set."""
    keywords = (*PATIENT, *STUDY, *SERIES, *OF_STUDY, *OF_SERIES)
    stated = ((keyword, _text(ds, keyword)) for keyword in keywords)
    return {
        keyword: (meaning, _digest(keyword, text)) for keyword, text in stated if (meaning := _meanings(keyword, text))
    }


@dataclass(frozen=True)
class Disagreement:
    """The attributes in which the images of a series differ: in what they mean, or only in how they are written."""

    differing: tuple[str, ...]
    spelled: tuple[str, ...]


def disagreement(identities: Iterable[Identity]) -> Disagreement:
    """Return in what objects of one series differ.

    One that says nothing contradicts no other, but is written otherwise; so is another number of the same series.
    Without a PatientID an archive takes it for another patient's.
    """
    found = list(identities)
    differing, spelled = [], []
    for keyword in (*PATIENT, *STUDY, *SERIES):
        stated = {identity.get(keyword) for identity in found}
        meanings = {said and said[0] for said in stated}
        if keyword == "PatientName":
            is_another = _are_several(meaning for meaning in meanings if meaning)
        else:
            is_another = len(meanings if keyword == "PatientID" else meanings - {None}) > 1
        if is_another:
            differing.append(keyword)
        elif len(stated) > 1:
            spelled.append(keyword)
    spelled += ["SeriesNumber"] if len({identity.get("SeriesNumber") for identity in found}) > 1 else []
    return Disagreement(tuple(differing), tuple(spelled))


def _are_several(meanings: Iterable[str]) -> bool:
    """Whether names are those of several persons: a group that they have differs, or none have they in common.

    The groups are the alphabetic, the ideographic and the phonetic one (PS3.5 section 6.2.1.2).
    """
    found = [(meaning + GROUPS).split("=")[: len(GROUPS) + 1] for meaning in meanings]
    groups = list(zip(*found, strict=True))
    return bool(found) and (any(len(set(filter(None, group))) > 1 for group in groups) or not any(map(all, groups)))


def changed_module(before: Identity, after: Identity) -> str | None:
    """Return the first of PATIENT, STUDY and SERIES in which two versions of one object differ; None for none."""
    modules = {"PATIENT": PATIENT, "STUDY": (*STUDY, *OF_STUDY), "SERIES": (*SERIES, *OF_SERIES)}
    for name, keywords in modules.items():
        if any(before.get(keyword) != after.get(keyword) for keyword in keywords):
            return name
    return None


def place(identity: Identity) -> Place:
    """Return where an archive files an object: as a digest of each attribute by which it does."""
    return tuple(identity.get(keyword, ("", ""))[1] for keyword in PLACE)


def _text(ds: Dataset, keyword: str) -> str:
    """The value as text; the bytes of one that cannot be decoded are as good for a comparison."""
    raw = getattr(ds.get_item(Tag(keyword)), "value", "")
    text = values.text(ds, keyword)
    if (text and REPLACED not in text) or not values.is_stated(ds, keyword):
        return text
    return repr(getattr(raw, "original_string", raw))


def _meanings(keyword: str, text: str) -> str:
    """The digest of what a value means, of a name those of its groups; "" for none."""
    if not keyword.endswith("Name"):
        return _digest(keyword, meaning) if (meaning := _meaning(keyword, text)) else ""
    # Half the width of a letter is a matter of the device, and so is how many code points an accent takes
    groups = unicodedata.normalize("NFKC", text).casefold().split("=")
    return "=".join(_digest(keyword, words) if (words := _words(group)) else "" for group in groups).rstrip("=")


def _words(group: str) -> str:
    """The words of a name in their alphabetical order, with all marks of theirs."""
    plain = "".join(char if char.isalnum() or unicodedata.category(char)[0] == "M" else " " for char in group)
    return " ".join(sorted(plain.split())) or group.strip(" ^")


def _meaning(keyword: str, text: str) -> str:
    """A value without what does not tell two patients or studies apart."""
    if keyword.endswith("UID"):
        return text
    if keyword.endswith("Date"):
        return re.sub(r"[-.:/ ]", "", text) or text
    plain = unicodedata.normalize("NFC", text).casefold()
    if keyword == "PatientSex":
        return plain[:1]
    if keyword == "SeriesNumber":
        return plain.lstrip("+0") or plain
    return " ".join(plain.split())


def _digest(keyword: str, value: str) -> str:
    return hashlib.sha256(f"{keyword}={value}".encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
