"""An archive that is asked for a patient's earlier studies: C-FIND for studies and series, C-GET for what they hold.

Where it offers no C-GET and knows us as a destination of C-MOVE, by that; a DICOMweb service by QIDO-RS and WADO-RS.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

from pydicom import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from dicom_io.earlier_studies import ASKED, Session, Study, earlier_of, is_wanted
from dicom_io.errors import InvalidUID
from dicom_io.files.uids import checked_uid
from dicom_io.network.examination import GET
from dicom_io.network.moving import MOVE, Moving, listening, move_series
from dicom_io.network.scp import Received
from dicom_io.network.scu import FIND, Remote, associated, get_series, matches, sent_as
from dicom_io.web.earlier import WebSession
from dicom_io.web.service import WebService


class _Association:
    """One association in which an archive is asked for studies before `study` of its patient: a `Session`."""

    def __init__(
        self, assoc: Association, remote: Remote, study: Study, kept: "_Kept", moving: Moving | None = None
    ) -> None:
        self._assoc = assoc
        self._remote = remote
        self.study = study
        self._kept = kept
        self._moving = moving

    def studies(self, modalities: Collection[str]) -> list[Study]:
        """The earlier studies of the same patient, the latest first, that have one of `modalities` or may have."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        if not self.study.patient_id.isascii():
            query.SpecificCharacterSet = "ISO_IR 192"
        query.PatientID = self.study.patient_id
        for keyword in ASKED:
            setattr(query, keyword, "")
        answers = [Study.of(answer) for answer in matches(self._assoc, query, self._remote)]
        return earlier_of(self.study, answers, modalities)

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
        self._kept.paths.clear()
        if self._moving is not None and not sent_as(self._assoc, GET) and sent_as(self._assoc, MOVE):
            self._move(self._moving, study_instance_uid, series_instance_uid)
        else:
            get_series(self._assoc, study_instance_uid, series_instance_uid, self._remote)
        paths = list(self._kept.paths)
        return sorted(path for path in paths if is_wanted(path, self.study, study_instance_uid, series_instance_uid))

    def _move(self, moving: Moving, study_instance_uid: str, series_instance_uid: str) -> None:
        """Have the archive send a series to a port that is listened on meanwhile."""

        def store(received: Received) -> int:
            return self._kept.keep(received.sop_instance_uid, received.part10())

        with listening(moving, self._remote, store):
            move_series(self._assoc, moving.ae_title, study_instance_uid, series_instance_uid, self._remote)


@dataclass(frozen=True)
class _Kept:
    """What came of a series: files named by SOP Instance UID, `most` of them at most."""

    directory: Path
    most: int
    paths: list[Path] = field(default_factory=list)

    def keep(self, sop_instance_uid: object, content: bytes) -> int:
        """Keep a file; return the status to answer."""
        try:
            name = checked_uid(sop_instance_uid)
        except InvalidUID:
            return 0xA900
        if len(self.paths) == self.most:
            return 0xA700  # out of resources
        path = self.directory / f"{name}.dcm"
        if not path.exists():  # what came before stays: it was looked at, and may be in use
            path.write_bytes(content)
            self.paths.append(path)
        return 0x0000


@contextmanager
def asking(
    remote: Remote | WebService,
    study: Study,
    storage: Collection[PresentationContext],
    *,
    directory: Path,
    calling_ae_title: str,
    timeout_s: float,
    limit_s: float,
    most: int,
    moving: Moving | None = None,
) -> Iterator[Session]:
    """Ask an archive for what the patient of `study` has of before; it may send what `storage` proposes.

    What it sends comes into `directory`, in files named by SOP Instance UID, `most` of a series at most. Each answer
    may take `timeout_s`, all of it `limit_s`. `moving` is where a C-MOVE may send to. Raises PeerUnreachable or
    AssociationRefused.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if isinstance(remote, WebService):
        yield WebSession(remote, study, directory, timeout_s, time.monotonic() + limit_s, most)
        return
    kept = _Kept(directory, most)

    def keep(event: Event) -> int:
        return kept.keep(event.request.AffectedSOPInstanceUID, event.encoded_dataset())  # type: ignore[union-attr]

    models = [FIND, GET, *([MOVE] if moving else [])]
    contexts = [*map(build_context, models), *storage]
    sop_classes = dict.fromkeys(str(context.abstract_syntax) for context in storage)
    roles = [build_role(sop_class, scp_role=True) for sop_class in sop_classes]
    with (
        associated(remote, contexts, calling_ae_title, timeout_s, roles, [(evt.EVT_C_STORE, keep)]) as assoc,
        _at_most(limit_s, assoc),
    ):
        yield _Association(assoc, remote, study, kept, moving)


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
