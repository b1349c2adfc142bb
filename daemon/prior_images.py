"""An earlier study that has no results: its images are fetched and segmented, so that today's can be compared with it.

work/priors/images/              images of one series, while it is looked at; left by a worker that died over them
work/priors/images.dcm           the SEG of the series that had a whole liver; it is compared with, and never sent
work/prior_images.json           whether there is one, and whether something failed; written last

It is tried once: what a worker died over is not looked at again, and today's results come without it.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from daemon.config import Profile
from daemon.priors import FAILURES, NO_PRIORS, Archive, Priors
from daemon.results import write_results
from daemon.sources import refuse_unfit
from daemon.spool import write_durably
from dicom_io.errors import NotDicom, SeriesRejected
from dicom_io.image_file import read_dataset, read_image_file
from dicom_io.network.earlier import Session, Study, asking
from dicom_io.network.earlier_images import SLICES, EarlierSeries, earlier_series
from dicom_io.pixels import read_volume
from dicom_io.preference import chosen_stacks
from dicom_io.segmentation import Segmentation
from dicom_io.series import Stack, arrange
from dicom_io.volume import Volume
from reports.caveats import FindingsWarning
from reports.errors import GeometryNotProved, SourceUnusable
from reports.identity import ResultIdentity

PRIOR_IMAGES = "prior_images.json"

LIMIT_S = 180.0
"""How long one archive may take to name and send images."""

MOST_IMAGES = 2000
"""A series of more is not fetched."""


@dataclass(frozen=True)
class Segmenting:
    """How an earlier volume is segmented: as today's, which of several, in which memory (None: all there is)."""

    segment: Callable[[Volume], Segmentation]
    prefer: str
    memory_mb: int | None


@dataclass(frozen=True)
class _Outcome:
    found: bool = False
    failed: bool = False


def segmented_prior(
    today: Sequence[Path], archives: Sequence[Archive], work: Path, identity: ResultIdentity, how: Segmenting
) -> Priors:
    """The SEG of the latest earlier study that `archives` have whose images show a whole liver; kept in `work`.

    `today` are the images of the series that is reported, `identity` that of its results. What an earlier walk found
    out stays. Raises StorageUnusable, NotDicom, ModelError.
    """
    asked = [archive for archive in archives if archive.images]
    if not asked:
        return NO_PRIORS
    path, folder = work / "priors" / "images.dcm", work / "priors" / "images"
    if not (work / PRIOR_IMAGES).exists():
        outcome = _Outcome(failed=folder.exists())
        if not outcome.failed:
            folder.mkdir(mode=0o700, parents=True)
            outcome = _looked_for(today, asked, folder, path, identity, how)
        shutil.rmtree(folder)
        write_durably(work / PRIOR_IMAGES, json.dumps(asdict(outcome)).encode())
    kept = _Outcome(**json.loads((work / PRIOR_IMAGES).read_text()))
    return Priors((path,) if kept.found else (), kept.failed, from_images=True)


def likeliest(series: Sequence[EarlierSeries], description: str, images: int) -> EarlierSeries | None:
    """Which of a study's series is most likely the one that today's, of so many `images`, continues; None for none.

    One of the same description before the others, then that of the number of images that is nearest.
    """

    def rank(each: EarlierSeries) -> tuple[bool, float]:
        is_named_alike = bool(description) and each.description.casefold() == description.casefold()
        return not is_named_alike, abs(math.log(each.images / images)) if each.images else math.inf

    return min((each for each in series if each.images <= MOST_IMAGES), key=rank, default=None)


def _looked_for(
    today: Sequence[Path],
    archives: Sequence[Archive],
    folder: Path,
    path: Path,
    identity: ResultIdentity,
    how: Segmenting,
) -> _Outcome:
    failed = False
    for number, archive in enumerate(archives):
        for images in _fetched(today, archive, folder / str(number)):
            failed = failed or images is None
            if images and (seg := _segmented(images, identity, how)):
                write_durably(path, seg.read_bytes())
                return _Outcome(True, failed)
    return _Outcome(False, failed)


def _fetched(today: Sequence[Path], archive: Archive, folder: Path) -> Iterator[list[Path] | None]:
    """The images of the likeliest series of one earlier study after the other, the latest first; None for a failure.

    Each is fetched over an association of its own: none waits while a series is segmented.
    """
    header = read_dataset(today[0])
    study, description, modality = Study.of(header), str(header.get("SeriesDescription") or ""), str(header.Modality)
    if not study.can_be_asked_for:
        return
    left_s = LIMIT_S

    @contextmanager
    def session() -> Iterator[Session]:
        nonlocal left_s
        started = time.monotonic()
        with asking(
            archive.remote,
            study,
            SLICES,
            directory=folder,
            calling_ae_title=archive.calling_ae_title,
            timeout_s=archive.timeout_s,
            limit_s=max(left_s, 0.0),
        ) as opened:
            yield opened
        left_s -= time.monotonic() - started

    try:
        with session() as opened:
            studies = earlier_series(opened, modality)
        for series in studies:
            if wanted := likeliest(series, description, len(today)):
                with session() as opened:
                    paths = opened.bring(wanted.study_instance_uid, wanted.series_instance_uid)
                yield paths
                shutil.rmtree(folder)
    except FAILURES:
        yield None


def _segmented(paths: Sequence[Path], identity: ResultIdentity, how: Segmenting) -> Path | None:
    """The SEG of a series, proved, in its folder; None where it cannot be segmented or has no whole liver."""
    outbox = paths[0].parent / "results"
    try:
        series = arrange([read_image_file(path) for path in paths])
        refuse_unfit(series, how.memory_mb)
        stack = chosen_stacks(series, how.prefer)[0][0]
        volume = read_volume(stack)
    except (SeriesRejected, NotDicom):
        return None
    segmentation = how.segment(volume)
    try:
        findings, results = write_results(
            stack, volume, segmentation, outbox, identity=_identity(stack, identity), profiles=[Profile(("seg",))]
        )
    except (SourceUnusable, GeometryNotProved):
        return None
    if not results or FindingsWarning.PARTIAL_LIVER in findings.warnings:
        return None
    return results[0].path


def _identity(stack: Stack, today: ResultIdentity) -> ResultIdentity:
    """That of the results that the series would have: if it is ever sent here, its lesions bear the same UIDs."""
    seed = f"{stack.study_instance_uid}/{stack.series_instance_uid}"
    return replace(today, seed=seed, revision=1, volume_index=stack.index, volume_label=stack.label)
