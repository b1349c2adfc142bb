"""The images of a patient's earlier studies: which series of slices an archive has."""

from dataclasses import dataclass, field

from pydicom import Dataset
from pynetdicom import build_context

from dicom_io.network.earlier import Session, Study
from dicom_io.network.scu import ECHOED_SYNTAXES
from dicom_io.series import SLICE_CLASSES

SLICES = tuple(build_context(sop_class, syntax) for sop_class in sorted(SLICE_CLASSES) for syntax in ECHOED_SYNTAXES)
"""What an archive may send: each transfer syntax for itself, so that images come as the archive keeps them."""

MOST_STUDIES = 3
"""Of how many earlier studies series are named at most, the latest."""


@dataclass(frozen=True)
class EarlierSeries:
    """A series of an earlier study as the archive tells it: "" and 0 where it does not."""

    study_instance_uid: str
    series_instance_uid: str
    description: str = field(default="", repr=False)
    images: int = 0

    @classmethod
    def of(cls, study: Study, answer: Dataset) -> "EarlierSeries":
        """What an answer to a query says."""
        try:
            images = int(answer.get("NumberOfSeriesRelatedInstances") or 0)
        except (TypeError, ValueError):
            images = 0
        description = str(answer.get("SeriesDescription") or "").strip()
        return cls(study.study_instance_uid, str(answer.SeriesInstanceUID), description, images)


def earlier_series(session: Session, modality: str) -> list[list[EarlierSeries]]:
    """The series of `modality` of each of the latest earlier studies of the patient, the latest study first.

    Raises PeerUnreachable, AssociationRefused, PeerError.
    """
    named: list[list[EarlierSeries]] = []
    for earlier in session.studies([modality]):
        if series := session.series(earlier, modality):
            named.append([EarlierSeries.of(earlier, answer) for answer in series])
        if len(named) == MOST_STUDIES:
            break
    return named
