"""Earlier results of the patient: fetched once for a job, kept in its folder, and compared with what was found.

work/priors/<number>.dcm         SEGs of earlier studies, as the archives gave them
work/priors.json                 how many those are, and whether an archive failed; written last

What is fetched is kept until the job is reported, failures too: a stage that is walked twice then compares with the
same, and so names the lesions the same. A report is never held up by its priors: an archive that fails is a warning.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydicom import Dataset, dcmread

from daemon.spool import write_durably
from dicom_io.errors import PeerError, SegmentationUnreadable
from dicom_io.image_file import read_dataset
from dicom_io.network.earlier import Study, fetch_earlier_segs
from dicom_io.network.scu import Remote
from dicom_io.segmentation import Segmentation
from reports.caveats import FindingsWarning
from reports.errors import LiversDiffer
from reports.follow_up import follow_up, with_follow_up
from reports.measurements import Findings
from reports.prior import read_date, read_prior
from reports.seg import SERIES_DESCRIPTION

PRIORS = "priors.json"

LIMIT_S = 60.0
"""How long one archive may take for all that it has."""

MOST_TRIES = 3
"""How many earlier SEGs are laid over a result at most, until one fits."""


@dataclass(frozen=True)
class Archive:
    """Where earlier results are asked for, as whom, and how long each answer may take."""

    remote: Remote
    calling_ae_title: str
    timeout_s: float


@dataclass(frozen=True)
class Priors:
    """SEGs of earlier studies, the latest first; and whether there may be others that could not be fetched."""

    segs: tuple[Path, ...] = ()
    failed: bool = False


NO_PRIORS = Priors()


@dataclass(frozen=True)
class _Kept:
    count: int
    failed: bool


def fetch_priors(image: Path, archives: Sequence[Archive], work: Path) -> Priors:
    """The SEGs that `archives` have of earlier studies of the patient of `image`, kept in `work`.

    What an earlier walk kept is not fetched again. Raises StorageUnusable, NotDicom.
    """
    if not archives:
        return NO_PRIORS
    if not (work / PRIORS).exists():
        study, failed = Study.of(read_dataset(image)), False
        found: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory(prefix="porta-priors-") as folder:
            for number, archive in enumerate(archives):
                try:
                    paths = fetch_earlier_segs(
                        archive.remote,
                        study,
                        description=SERIES_DESCRIPTION,
                        directory=Path(folder) / str(number),
                        calling_ae_title=archive.calling_ae_title,
                        timeout_s=archive.timeout_s,
                        limit_s=LIMIT_S,
                    )
                    found |= {path.name: path.read_bytes() for path in sorted(paths, key=_age, reverse=True)}
                # pynetdicom raises RuntimeError and ValueError for an association that ends between two messages
                except (PeerError, OSError, RuntimeError, ValueError):
                    failed = True
        for number, content in enumerate(found.values()):
            write_durably(work / "priors" / f"{number}.dcm", content)
        write_durably(work / PRIORS, json.dumps(asdict(_Kept(len(found), failed))).encode())
    kept = _Kept(**json.loads((work / PRIORS).read_text()))
    return Priors(tuple(work / "priors" / f"{number}.dcm" for number in range(kept.count)), kept.failed)


def _age(path: Path) -> tuple[str, ...]:
    """What sorts SEGs by their study, then by when they were made, then by their place among those of one result."""
    ds = dcmread(path, stop_before_pixels=True)
    keywords = ("StudyDate", "StudyTime", "StudyInstanceUID", "ContentDate", "ContentTime", "SOPInstanceUID")
    return tuple(str(ds.get(keyword) or "") for keyword in keywords)


def compared(findings: Findings, segmentation: Segmentation, header: Dataset, priors: Priors) -> Findings:
    """The findings against the first of `priors` that fits, or with a warning that says why there is no comparison.

    `header` is one of today's images.
    """
    if priors.failed:
        findings = _warned(findings, FindingsWarning.PRIORS_NOT_FETCHED)
    if findings.burden_percent is None or not priors.segs:
        return findings
    tries = 0
    for path in priors.segs:
        if tries == MOST_TRIES:
            break
        try:
            prior = read_prior(path)
            tries += 1
            study_date = read_date(header.get("StudyDate"))
            return with_follow_up(findings, follow_up(findings, segmentation, prior, study_date=study_date))
        except (SegmentationUnreadable, LiversDiffer):
            continue
    return _warned(findings, FindingsWarning.PRIOR_NOT_COMPARED)


def _warned(findings: Findings, warning: FindingsWarning) -> Findings:
    return replace(findings, warnings=(*findings.warnings, str(warning)))
