"""Which studies a peer has, by C-FIND at STUDY and SERIES level (Study Root, PS3.4 section C.6.2.1)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydicom import Dataset
from pynetdicom import build_context

from dicom_io.errors import InvalidUID
from dicom_io.files.uids import checked_uid
from dicom_io.network.scu import FIND, Remote, associated, instances_of, matches

Key = Literal["StudyInstanceUID", "AccessionNumber", "PatientID"]

MOST = 20
"""As many studies of one patient are looked at, the latest."""


@dataclass(frozen=True)
class HeldSeries:
    """A series that a peer has; `instances` is 0 where it does not say."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int


def find_studies(remote: Remote, key: Key, value: str, *, calling_ae_title: str, timeout_s: float) -> list[str]:
    """StudyInstanceUIDs of what the peer has under a value of one attribute, the latest first; MOST at most.

    A peer that ignores the key would answer with everything: what it names is compared. Raises PeerUnreachable,
    AssociationRefused, ContextNotAccepted, or PeerError when the query fails.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = query.StudyDate = ""
    setattr(query, key, value)
    with associated(remote, [build_context(FIND)], calling_ae_title, timeout_s) as assoc:
        found = matches(assoc, query, remote)
    same = [item for item in found if str(item.get(key, "")).strip() == value]
    same.sort(key=lambda item: str(item.get("StudyDate", "")), reverse=True)
    return _checked(str(item.get("StudyInstanceUID", "")) for item in same)[:MOST]


def find_series(
    remote: Remote, study_instance_uid: str, *, calling_ae_title: str, timeout_s: float
) -> list[HeldSeries]:
    """The series of a study that the peer has. Raises as `find_studies` does."""
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = query.Modality = ""
    query.NumberOfSeriesRelatedInstances = None
    with associated(remote, [build_context(FIND)], calling_ae_title, timeout_s) as assoc:
        found = matches(assoc, query, remote)
    return [
        HeldSeries(
            study_instance_uid=study_instance_uid,
            series_instance_uid=str(item.get("SeriesInstanceUID", "")),
            modality=str(item.get("Modality", "")),
            instances=instances_of(item),
        )
        for item in found
    ]


def _checked(uids: Iterable[str]) -> list[str]:
    checked: dict[str, None] = {}
    for uid in uids:
        try:
            checked[checked_uid(uid)] = None
        except InvalidUID:
            continue
    return list(checked)
