"""A patient's earlier studies, whichever way an archive is asked for them: whose they are.

A wrong patient's study must never come back. The PatientID is the query's key, and an archive may match it loosely, so
that every answer is compared, and every object's own header once more: the same PatientID and issuer, and no birth date
or sex that contradicts. Only the query carries the PatientID; no error, file name or `repr` does.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydicom import Dataset, dcmread

from dicom_io.files import values
from dicom_io.files.values import DAMAGED

ASKED = (
    "StudyInstanceUID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ModalitiesInStudy",
)
"""What an archive is asked to say of a study, besides the PatientID."""

NOT_QUERIED = "*?\\"
"""What makes a key match more than one value (PS3.4 section C.2.2.2): a PatientID with one is not asked for."""


@dataclass(frozen=True)
class Study:
    """Whose study it is, and when it was made; as its header says it, "" where it does not."""

    study_instance_uid: str
    patient_id: str = field(repr=False)
    issuer: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)
    date: str = field(default="", repr=False)
    time: str = field(default="", repr=False)
    modalities: frozenset[str] = frozenset()
    """Return ModalitiesInStudy of an answer; empty where the archive does not state it."""

    @classmethod
    def of(cls, ds: Dataset) -> "Study":
        """What a header, or an answer to a query, says."""

        def text(keyword: str) -> str:
            return values.text(ds, keyword).strip()

        return cls(
            study_instance_uid=text("StudyInstanceUID"),
            patient_id=text("PatientID"),
            issuer=text("IssuerOfPatientID"),
            birth_date=values.date(ds, "PatientBirthDate") or text("PatientBirthDate"),
            sex=text("PatientSex").upper(),
            date=values.date(ds, "StudyDate") or text("StudyDate"),
            time=text("StudyTime").replace(":", ""),
            modalities=frozenset(values.codes(ds, "ModalitiesInStudy")),
        )

    @property
    def can_be_asked_for(self) -> bool:
        """Whether it names one patient, and a day before which earlier studies lie."""
        return bool(self.patient_id and self.date) and not set(NOT_QUERIED) & set(self.patient_id)

    def is_earlier(self, other: "Study") -> bool:
        """Whether `other` is an earlier study of the same patient, as far as both headers tell."""
        agree = ((self.issuer, other.issuer), (self.birth_date, other.birth_date), (self.sex, other.sex))
        return (
            self.patient_id == other.patient_id != ""
            and all(not one or not two or one == two for one, two in agree)
            and other.study_instance_uid not in ("", self.study_instance_uid)
            and self.date.isdecimal()
            and other.date.isdecimal()
            # A study without a time is not earlier on the same day
            and (other.date, other.time or "~") < (self.date, self.time)
        )


class Session(Protocol):
    """An archive that is being asked for studies before `study` of its patient.

    Methods raise PeerUnreachable (also when the time is up), or PeerError when a query or a retrieval fails.
    """

    @property
    def study(self) -> Study:
        """The study before which those are that are asked for."""
        ...

    def studies(self, modalities: Collection[str]) -> list[Study]:
        """The earlier studies of the same patient, the latest first, that have one of `modalities` or may have."""
        ...

    def series(self, earlier: Study, modality: str) -> list[Dataset]:
        """Of each series of a modality its SeriesInstanceUID, and the description and size that the archive says."""
        ...

    def bring(self, study_instance_uid: str, series_instance_uid: str) -> list[Path]:
        """The files of a series, by name; what does not itself say that it is of it, and earlier, is removed."""
        ...


def earlier_of(study: Study, answers: Iterable[Study], modalities: Collection[str]) -> list[Study]:
    """Return the earlier studies among an archive's answers, the latest first, that have one of `modalities` or may."""
    # Most of a patient's studies are of no use here: a query or two less for each
    found = [answer for answer in answers if not answer.modalities or answer.modalities & set(modalities)]
    return sorted(filter(study.is_earlier, found), key=lambda earlier: (earlier.date, earlier.time), reverse=True)


def is_wanted(path: Path, study: Study, study_instance_uid: str, series_instance_uid: str) -> bool:
    """Whether the object itself says that it is of this series, and earlier, of the patient; removed where not."""
    try:
        ds = dcmread(path, stop_before_pixels=True)
        is_asked_for = (ds.StudyInstanceUID, ds.SeriesInstanceUID) == (study_instance_uid, series_instance_uid)
        if is_asked_for and study.is_earlier(Study.of(ds)):
            return True
    except (*DAMAGED, OSError):
        pass
    path.unlink()
    return False
