"""The images of a patient's earlier studies: which series of slices an archive has."""

from dataclasses import dataclass, field

from pynetdicom import build_context

from dicom_io.earlier_studies import Session, Study
from dicom_io.files.image_file import MODALITY_OF
from dicom_io.network.scu import instances_of
from dicom_io.pixel_format import SUPPORTED_SYNTAXES

SLICES = tuple(
    build_context(sop_class, syntax) for sop_class in sorted(MODALITY_OF) for syntax in sorted(SUPPORTED_SYNTAXES)
)
"""What an archive may send: each transfer syntax for itself, so that images come as the archive keeps them."""

MOST_STUDIES = 3
"""Of how many earlier studies series are named at most, the latest."""


@dataclass(frozen=True)
class EarlierSeries:
    """A series of an earlier study as the archive tells it: "" and 0 where it does not."""

    study: Study
    series_instance_uid: str
    description: str = field(default="", repr=False)
    images: int = 0


def earlier_series(session: Session, modality: str) -> list[list[EarlierSeries]]:
    """The series of `modality` of each of the latest earlier studies of the patient, the latest study first.

    A study of the same day is none: it may be the same visit under another number.
    Raises PeerUnreachable, AssociationRefused, PeerError.
    """
    named: list[list[EarlierSeries]] = []
    for earlier in session.studies([modality]):
        if earlier.date != session.study.date and (answers := session.series(earlier, modality)):
            named.append(
                [
                    EarlierSeries(
                        earlier,
                        str(answer.SeriesInstanceUID),
                        str(answer.get("SeriesDescription") or "").strip(),
                        instances_of(answer),
                    )
                    for answer in answers
                ]
            )
        if len(named) == MOST_STUDIES:
            break
    return named
