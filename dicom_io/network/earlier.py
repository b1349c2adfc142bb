"""An archive that is asked for a patient's earlier studies: C-FIND for studies and series, C-GET for what they hold.

A wrong patient's study must never come back. The PatientID is the query's key, and an archive may match it loosely, so
that every answer is compared, and every object's own header once more: the same PatientID and issuer, and no birth date
or sex that contradicts. Only the query carries the PatientID; no error, file name or `repr` does.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

from pydicom import Dataset, dcmread
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicom_io.errors import InvalidUID
from dicom_io.files import values
from dicom_io.files.uids import checked_uid
from dicom_io.files.values import DAMAGED
from dicom_io.network.scu import Remote, associated, get_series, matches

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


class Session:
    """One association in which an archive is asked for studies before `study` of its patient; see `asking`.

    Methods raise PeerUnreachable (also when the time is up), or PeerError when a query or a sub-operation fails.
    """

    def __init__(self, assoc: Association, remote: Remote, study: Study, received: list[Path]) -> None:
        self._assoc = assoc
        self._remote = remote
        self.study = study
        self._received = received

    def studies(self, modalities: Collection[str]) -> list[Study]:
        """The earlier studies of the same patient, the latest first, that have one of `modalities` or may have."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        if not self.study.patient_id.isascii():
            query.SpecificCharacterSet = "ISO_IR 192"
        query.PatientID = self.study.patient_id
        for keyword in (
            "StudyInstanceUID",
            "IssuerOfPatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "ModalitiesInStudy",
        ):
            setattr(query, keyword, "")
        answers = [Study.of(answer) for answer in matches(self._assoc, query, self._remote)]
        # Most of a patient's studies are of no use here: a query or two less for each
        found = [answer for answer in answers if not answer.modalities or answer.modalities & set(modalities)]
        return sorted(
            filter(self.study.is_earlier, found), key=lambda earlier: (earlier.date, earlier.time), reverse=True
        )

    def series(self, earlier: Study, modality: str) -> list[Dataset]:
        """Of each series of a modality its SeriesInstanceUID, and the description and size that the archive says."""
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID = earlier.study_instance_uid
        query.SeriesInstanceUID = ""
        query.Modality = modality
        query.SeriesDescription = ""
        query.NumberOfSeriesRelatedInstances = None
        return [
            answer
            for answer in matches(self._assoc, query, self._remote)
            if answer.get("Modality") == modality and answer.get("SeriesInstanceUID")
        ]

    def bring(self, study_instance_uid: str, series_instance_uid: str) -> list[Path]:
        """The files of a series, by name; what does not itself say that it is of it, and earlier, is removed."""
        self._received.clear()
        get_series(self._assoc, study_instance_uid, series_instance_uid, self._remote)
        return sorted(
            path for path in self._received if _is_wanted(path, self.study, study_instance_uid, series_instance_uid)
        )


@contextmanager
def asking(
    remote: Remote,
    study: Study,
    storage: Collection[PresentationContext],
    *,
    directory: Path,
    calling_ae_title: str,
    timeout_s: float,
    limit_s: float,
    most: int,
) -> Iterator[Session]:
    """Ask an archive for what the patient of `study` has of before; it may send what `storage` proposes.

    What it sends comes into `directory`, in files named by SOP Instance UID, `most` of a series at most. Each answer
    may take `timeout_s`, all of it `limit_s`. Raises PeerUnreachable or AssociationRefused.
    """
    received: list[Path] = []

    def keep(event: Event) -> int:
        try:
            name = checked_uid(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        except InvalidUID:
            return 0xA900
        if len(received) == most:
            return 0xA700  # out of resources
        path = directory / f"{name}.dcm"
        if not path.exists():  # what came before stays: it was looked at, and may be in use
            path.write_bytes(event.encoded_dataset())
            received.append(path)
        return 0x0000

    models = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
    contexts = [*map(build_context, models), *storage]
    sop_classes = dict.fromkeys(str(context.abstract_syntax) for context in storage)
    roles = [build_role(sop_class, scp_role=True) for sop_class in sop_classes]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        associated(remote, contexts, calling_ae_title, timeout_s, roles, [(evt.EVT_C_STORE, keep)]) as assoc,
        _at_most(limit_s, assoc),
    ):
        yield Session(assoc, remote, study, received)


@contextmanager
def _at_most(seconds: float, assoc: Association) -> Iterator[None]:
    """Abort the association when the time is up: whoever waits for an answer then gets none."""

    def end() -> None:
        assoc.abort()
        # What pynetdicom's queue of messages holds when none came in time: the wait for the next one ends at once
        assoc.dimse.msg_queue.put((None, None))

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_wanted(path: Path, study: Study, study_instance_uid: str, series_instance_uid: str) -> bool:
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
