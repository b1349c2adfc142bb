"""Porta's own results of a patient's earlier studies: brought from an archive before a new one is reported."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pynetdicom import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    LabelMapSegmentationStorage,
    SegmentationStorage,
)

from dicom_io.earlier_studies import Session, Study
from dicom_io.errors import PeerError, PeerUnreachable
from dicom_io.network.earlier import asking
from dicom_io.network.moving import Moving
from dicom_io.network.scu import ECHOED_SYNTAXES, Remote
from dicom_io.web.service import WebService

RESULTS = (SegmentationStorage, LabelMapSegmentationStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage)

MOST_STUDIES = 5
"""From how many studies objects are brought at most: of those that have any the latest, the first, and the latest of
the others."""

MOST_SERIES = 8
"""How many series of a study are brought at most."""

MOST_OBJECTS = 1000
"""How many objects of a series are taken at most; a series of results has one."""

OF_RESULTS = ("SEG", "SR")
"""A study without these modalities has no results of ours."""


def fetch_earlier(
    remote: Remote | WebService,
    study: Study,
    *,
    seg_description: str,
    sr_description: str,
    directory: Path,
    calling_ae_title: str,
    timeout_s: float,
    limit_s: float,
    lacking: Callable[[str, PeerError], None],
    moving: Moving | None = None,
) -> Iterator[Path]:
    """Bring results of a patient's studies before `study`, one study after the other: SEGs, or SRs where it has none.

    First of the latest study that has any, then of the first one: so that what today's is compared with, and the
    baseline, are there when the time is up.

    They are known by the beginning of their SeriesDescription. Files are named by SOP Instance UID. A study whose
    patient cannot be asked for alone has none. Each answer may take `timeout_s`, all of it `limit_s`.

    `lacking` is told of each series that the archive names and does not give, as one whose class it does not send;
    another may. Raises PeerUnreachable (also when the time is up), AssociationRefused, or PeerError when a query
    fails; what came before stays.
    """
    if not study.can_be_asked_for:
        return

    def bring(session: Session, earlier: Study) -> tuple[list[Path], bool]:
        """Return what came, and whether the study has results, be they given or not."""
        series = _series(session, earlier, "SEG", seg_description) or _series(session, earlier, "SR", sr_description)
        paths: list[Path] = []
        for uid in series:
            try:
                paths += session.bring(earlier.study_instance_uid, uid)
            except PeerUnreachable:
                raise
            except PeerError as error:
                lacking(uid, error)
        return paths, bool(series)

    with asking(
        remote,
        study,
        [build_context(sop_class, list(ECHOED_SYNTAXES)) for sop_class in RESULTS],
        directory=directory,
        calling_ae_title=calling_ae_title,
        timeout_s=timeout_s,
        limit_s=limit_s,
        most=MOST_OBJECTS,
        moving=moving,
    ) as session:
        studies, brought = session.studies(OF_RESULTS), 0
        while studies and brought < MOST_STUDIES:
            # The latest, which today's is compared with, then the first of all, which may be the baseline
            paths, has_results = bring(session, studies.pop(-1 if brought == 1 else 0))
            yield from paths
            brought += has_results


def _series(session: Session, study: Study, modality: str, description: str) -> list[str]:
    """The UIDs of the study's series of a modality that bear `description`; what is said to bear none is left out."""
    return [
        str(answer.SeriesInstanceUID)
        for answer in session.series(study, modality)
        if str(answer.get("SeriesDescription") or "").startswith(description)
    ][:MOST_SERIES]
