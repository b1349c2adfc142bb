"""Earlier results of the patient: fetched once for a job, kept in its folder, and compared with what was found.

work/priors/<number>.dcm         SEGs of earlier studies, and SRs of those that have none, as the archives gave them
work/priors/fetched/             what an archive is giving, until all is there
work/priors.json                 how many those are, and whether an archive failed; written last

What is fetched is kept until the job is reported, failures too: a stage that is walked twice then compares with the
same, and so names the lesions the same. A report is never held up by its priors: an archive that fails is a warning.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from pydicom import Dataset, dcmread

from daemon.guard import guarded
from daemon.log import get_logger
from daemon.storage.spool import write_durably
from daemon.worker.requests import Archive
from dicom_io.earlier_studies import Study
from dicom_io.errors import PeerError, SegmentationUnreadable
from dicom_io.files import values
from dicom_io.files.image_file import read_dataset
from dicom_io.network.earlier_results import fetch_earlier
from dicom_io.segmentation import Segmentation
from reports.errors import LiversDiffer, ReportUnreadable
from reports.findings.caveats import FindingsWarning
from reports.findings.measurements import Findings
from reports.follow_up.follow_up import Today
from reports.follow_up.history import with_history
from reports.follow_up.prior import Prior, read_date, read_prior
from reports.follow_up.reported import ReportedStudy, read_reported
from reports.objects.kinds import KINDS

PRIORS = "priors.json"

LIMIT_S = 60.0
"""How long one archive may take for all that it has."""

MOST_TRIES = 2
"""How many SEGs of one study are laid over a result at most, until one fits."""


log = get_logger()

FAILURES = (PeerError, OSError, RuntimeError, ValueError)
"""What an archive may make fail. pynetdicom raises the last two for an association that ends between two messages."""


@dataclass(frozen=True)
class Priors:
    """SEGs and SRs of earlier studies, the latest first. `failed`: there may be others that could not be fetched.

    `from_images`: they were not fetched, but made for this comparison from the images of an earlier study.
    """

    objects: tuple[Path, ...] = ()
    failed: bool = False
    from_images: bool = False


NO_PRIORS = Priors()


@dataclass(frozen=True)
class _Kept:
    count: int
    failed: bool


def fetch_priors(image: Path, archives: Sequence[Archive], work: Path) -> Priors:
    """The results that `archives` have of earlier studies of the patient of `image`, kept in `work`.

    What an earlier walk kept is not fetched again. Raises StorageUnusable, NotDicom.
    """
    if not archives:
        return NO_PRIORS
    if not (work / PRIORS).exists():
        study, failed = Study.of(read_dataset(image)), False
        # In the job's own folder: what a worker leaves that is killed is removed with it, or by the next one
        with _emptied(work / "priors" / "fetched") as folder:
            paths: list[Path] = []
            lacking: set[str] = set()
            for number, archive in enumerate(archives):
                try:
                    for path in fetch_earlier(
                        archive.remote,
                        study,
                        seg_description=KINDS["seg"].description,
                        sr_description=KINDS["sr"].description,
                        directory=folder / str(number),
                        calling_ae_title=archive.calling_ae_title,
                        timeout_s=archive.timeout_s,
                        limit_s=LIMIT_S,
                        lacking=partial(_not_given, lacking, archive),
                        moving=archive.moving,
                    ):
                        paths.append(path)  # one by one: what came before a failure is used
                except FAILURES as error:
                    failed = True
                    log.warning("archive.failed", peer=archive.name, error=error)
            ages: dict[Path, tuple[str, ...]] = {}
            for path in paths:
                with guarded(_left_out):
                    ages[path] = _age(path)
            # What one archive names and cannot give is missing only where no other has given it
            failed = failed or len(ages) < len(paths) or bool(lacking - {age[-1] for age in ages.values()})
            found = {path.name: path.read_bytes() for path in sorted(ages, key=ages.__getitem__, reverse=True)}
        for number, content in enumerate(found.values()):
            write_durably(work / "priors" / f"{number}.dcm", content)
        write_durably(work / PRIORS, json.dumps(asdict(_Kept(len(found), failed))).encode())
    kept = _Kept(**json.loads((work / PRIORS).read_text()))
    return Priors(tuple(work / "priors" / f"{number}.dcm" for number in range(kept.count)), kept.failed)


def _not_given(lacking: set[str], archive: Archive, series_instance_uid: str, error: PeerError) -> None:
    log.warning("prior.not_given", peer=archive.name, error=error)
    lacking.add(series_instance_uid)


def _left_out(error: Exception) -> None:
    log.warning("prior.left_out", error=error)


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """A folder with nothing of an earlier walk in it, gone at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> tuple[str, ...]:
    """Return a key that sorts results by study, then by creation, then by their place among those of one result."""
    ds = dcmread(path, stop_before_pixels=True)
    keywords = ("StudyDate", "StudyTime", "StudyInstanceUID", "ContentDate", "ContentTime")
    keys = (*keywords, "SOPInstanceUID", "SeriesInstanceUID")
    return tuple(str(ds.get(keyword) or "") for keyword in keys)


def compare_with_priors(findings: Findings, segmentation: Segmentation, header: Dataset, priors: Priors) -> Findings:
    """The findings against the latest study of `priors` that fits, and on the way of all others that fit.

    Or with a warning that says why there is no comparison. `header` is one of today's images.
    """
    if priors.failed:
        findings = _warned(findings, FindingsWarning.PRIORS_NOT_FETCHED)
    if findings.burden_percent is None or not priors.objects:
        return findings
    studies = _by_study(priors.objects)
    reported = _reports(studies)
    if not reported and not any(study.segs for study in studies):
        return findings  # reports that no liver was found
    today = Today.of(findings, segmentation, read_date(values.date(header, "StudyDate")))
    with_segs = [study for study in studies if study.segs]
    for number, study in enumerate(with_segs):
        for latest in _segs(study):
            with guarded(_left_out), suppress(LiversDiffer):
                others = map(_segs, reversed(with_segs[number + 1 :]))
                found = with_history(today, latest, others, reported, left_out=number)
                return _warned(found, FindingsWarning.PRIOR_FROM_IMAGES) if priors.from_images else found
    return _warned(findings, FindingsWarning.PRIOR_NOT_COMPARED)


@dataclass(frozen=True)
class _Found:
    """The objects that were fetched of one earlier study."""

    segs: tuple[Path, ...]
    reports: tuple[Path, ...]


def _by_study(paths: Sequence[Path]) -> list[_Found]:
    """The latest study first, and of each the latest object first, as `paths` are."""
    kinds: dict[str, list[tuple[Path, str]]] = {}
    for path in paths:
        with guarded(_left_out):
            ds = dcmread(path, stop_before_pixels=True)
            kinds.setdefault(str(ds.StudyInstanceUID), []).append((path, str(ds.get("Modality"))))
    return [
        _Found(*(tuple(path for path, kind in found if kind == wanted) for wanted in ("SEG", "SR")))
        for found in kinds.values()
    ]


def _segs(study: _Found) -> Iterator[Prior]:
    """Read one after another the SEGs of a study that may be tried."""
    for path in study.segs[:MOST_TRIES]:
        prior = None
        with guarded(_left_out), suppress(SegmentationUnreadable):
            prior = read_prior(path)
        if prior:
            yield prior


def _reports(studies: Sequence[_Found]) -> list[ReportedStudy]:
    """Return, of each study without a SEG, the latest readable report; of several, the one that can be measured."""
    found: list[ReportedStudy] = []
    for study in studies:
        read: list[tuple[tuple[str, ...], ReportedStudy]] = []
        for path in () if study.segs else study.reports:
            with guarded(_left_out), suppress(ReportUnreadable):
                read.append((_age(path)[3:5], read_reported(path)))
        latest = [report for made, report in read if made == read[0][0]]
        # Findings with diameters do not say in a code whether slices were thin enough, findings alone do
        found += sorted(latest, key=lambda report: not report.is_measurable)[:1]
    return found


def _warned(findings: Findings, warning: FindingsWarning) -> Findings:
    return replace(findings, warnings=(*findings.warnings, str(warning)))
