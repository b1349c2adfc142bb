"""What an archive holds of a patient's earlier studies: C-FIND for studies and series, C-GET for our results of them.

A wrong patient's study must never come back. The PatientID is the query's key, and an archive may match it loosely, so
that every answer is compared, and every object's own header once more: the same PatientID and issuer, and no birth date
or sex that contradicts. Only the query carries the PatientID; no error, file name or `repr` does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    LabelMapSegmentationStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicom_io.errors import InvalidUID, PeerError
from dicom_io.network.scu import ECHOED_SYNTAXES, PENDING, Remote, associated, matches, status_of, while_open
from dicom_io.uids import checked_uid

RESULTS = (SegmentationStorage, LabelMapSegmentationStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage)

MOST_STUDIES = 5
"""From how many studies objects are brought at most: of those that have any the latest, the first, and the latest of
the others."""

MOST_SERIES = 8
"""How many series of a study are brought at most."""

OF_RESULTS = {"SEG", "SR"}
"""A study without these modalities has no results of ours."""

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
    """What ModalitiesInStudy of an answer says; empty where an archive does not say it."""

    @classmethod
    def of(cls, ds: Dataset) -> "Study":
        """What a header, or an answer to a query, says."""

        def text(keyword: str) -> str:
            return str(ds.get(keyword) or "").strip()

        modalities = ds.get("ModalitiesInStudy") or ()
        return cls(
            study_instance_uid=text("StudyInstanceUID"),
            patient_id=text("PatientID"),
            issuer=text("IssuerOfPatientID"),
            birth_date=text("PatientBirthDate"),
            sex=text("PatientSex").upper(),
            date=text("StudyDate"),
            time=text("StudyTime"),
            modalities=frozenset([modalities] if isinstance(modalities, str) else map(str, modalities)),
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


def fetch_earlier(
    remote: Remote,
    study: Study,
    *,
    seg_description: str,
    sr_description: str,
    directory: Path,
    calling_ae_title: str,
    timeout_s: float,
    limit_s: float,
) -> Iterator[Path]:
    """Bring results of a patient's studies before `study`, one study after the other: SEGs, or SRs where it has none.

    First of the latest study that has any, then of the first one: so that what today's is compared with, and the
    baseline, are there when the time is up.

    They are known by the beginning of their SeriesDescription. Files are named by SOP Instance UID. A study whose
    patient cannot be asked for alone has none. Each answer may take `timeout_s`, all of it `limit_s`.

    Raises PeerUnreachable (also when the time is up), AssociationRefused, or PeerError when a query or a sub-operation
    fails; what came before stays.
    """
    if not study.can_be_asked_for:
        return
    files: list[Path] = []

    def keep(event: Event) -> int:
        try:
            name = checked_uid(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        except InvalidUID:
            return 0xA900
        path = directory / f"{name}.dcm"
        path.write_bytes(event.encoded_dataset())
        files.append(path)
        return 0x0000

    def bring(earlier: Study) -> list[Path]:
        files.clear()
        series = _series(assoc, earlier, "SEG", seg_description, remote)
        series = series or _series(assoc, earlier, "SR", sr_description, remote)
        for uid in series:
            _get(assoc, earlier.study_instance_uid, uid, remote)
        return sorted(path for path in dict.fromkeys(files) if _is_wanted(path, study))

    get = StudyRootQueryRetrieveInformationModelGet
    contexts = [build_context(uid) for uid in (StudyRootQueryRetrieveInformationModelFind, get)]
    contexts += [build_context(sop_class, list(ECHOED_SYNTAXES)) for sop_class in RESULTS]
    roles = [build_role(sop_class, scp_role=True) for sop_class in RESULTS]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        associated(remote, contexts, calling_ae_title, timeout_s, roles, [(evt.EVT_C_STORE, keep)]) as assoc,
        _at_most(limit_s, assoc),
    ):
        studies, brought = _studies(assoc, study, remote), 0
        while studies and brought < MOST_STUDIES:
            # The latest, which today's is compared with, then the first of all, which may be the baseline
            paths = bring(studies.pop(-1 if brought == 1 else 0))
            yield from paths
            brought += bool(paths)


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


def _studies(assoc: Association, study: Study, remote: Remote) -> list[Study]:
    """The earlier studies of the same patient, the latest first."""
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    if not study.patient_id.isascii():
        query.SpecificCharacterSet = "ISO_IR 192"
    query.PatientID = study.patient_id
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
    answers = [Study.of(answer) for answer in matches(assoc, query, remote)]
    # Most of a patient's studies are none of ours: two queries less for each
    found = [answer for answer in answers if not answer.modalities or answer.modalities & OF_RESULTS]
    return sorted(filter(study.is_earlier, found), key=lambda earlier: (earlier.date, earlier.time), reverse=True)


def _series(assoc: Association, study: Study, modality: str, description: str, remote: Remote) -> list[str]:
    """The UIDs of the study's series of a modality that bear `description`; what is said to bear none is left out."""
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study.study_instance_uid
    query.SeriesInstanceUID = ""
    query.Modality = modality
    query.SeriesDescription = ""
    return [
        str(answer.SeriesInstanceUID)
        for answer in matches(assoc, query, remote)
        if answer.get("Modality") == modality
        and answer.get("SeriesInstanceUID")
        and str(answer.get("SeriesDescription") or "").startswith(description)
    ][:MOST_SERIES]


def _get(assoc: Association, study_instance_uid: str, series_instance_uid: str, remote: Remote) -> None:
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "SERIES"
    wanted.StudyInstanceUID = study_instance_uid
    wanted.SeriesInstanceUID = series_instance_uid
    get = StudyRootQueryRetrieveInformationModelGet
    for response, _ in while_open(assoc, remote).send_c_get(wanted, get):
        status = status_of(response, remote)
        if status not in PENDING and status != 0x0000:
            raise PeerError(f"{remote} ended a C-GET with status 0x{status:04X}")


def _is_wanted(path: Path, study: Study) -> bool:
    """Whether the object itself says that it is of an earlier study of the patient; removed where not."""
    try:
        if study.is_earlier(Study.of(dcmread(path, stop_before_pixels=True))):
            return True
    except (InvalidDicomError, EOFError, OSError, ValueError):
        pass
    path.unlink()
    return False
