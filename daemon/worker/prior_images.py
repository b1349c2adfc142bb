"""An earlier study that has no results: its images are fetched and segmented, so that today's can be compared with it.

work/priors/images/              images of one series, while it is looked at; left by a worker that died over them
work/priors/images.dcm           the SEG of the series that was found fit; it is compared with, and never sent
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

from daemon.storage.spool import write_durably
from daemon.worker.priors import FAILURES, Priors
from daemon.worker.requests import Archive
from daemon.worker.results import write_results
from daemon.worker.sources import refuse_unfit
from dicom_io.earlier_studies import Session, Study
from dicom_io.errors import NotDicom, SeriesRejected
from dicom_io.files.image_file import read_dataset, read_image_file
from dicom_io.network.earlier import asking
from dicom_io.network.earlier_images import MOST_STUDIES, SLICES, EarlierSeries, earlier_series
from dicom_io.pixels import read_volume
from dicom_io.segmentation import Segmentation
from dicom_io.series.hounsfield import refuse_other_values
from dicom_io.series.preference import chosen_stacks, suitability_by_words
from dicom_io.series.series import arrange
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume
from models.doubts import LIVER_UNCERTAIN, NOT_LIKE_LIVER, VALUES_DOUBTFUL
from reports.errors import GeometryNotProved, SourceUnusable
from reports.findings.caveats import FindingsWarning
from reports.identity import ResultIdentity
from reports.objects.case import measured_case
from reports.objects.profile import Profile

PRIOR_IMAGES = "prior_images.json"

LIMIT_S = 180.0
"""How long archives may take to name and send images, all together."""

MOST_IMAGES = 2000
"""A series of more is not fetched; nor what an archive sends beyond."""

UNFIT = frozenset(
    [
        FindingsWarning.PARTIAL_LIVER,
        FindingsWarning.CONTRAST_DOUBTFUL,
        VALUES_DOUBTFUL,
        NOT_LIKE_LIVER,
        LIVER_UNCERTAIN,
    ]
)
"""Warnings of a volume that nobody looks at, and so nothing of today's is compared with."""


@dataclass(frozen=True)
class Segmenting:
    """How an earlier volume is segmented, as today's was: the preferred phase, and the memory for it (None: all)."""

    segment: Callable[[Volume], Segmentation]
    prefer: str
    memory_mb: int | None


@dataclass(frozen=True)
class _Outcome:
    found: bool = False
    failed: bool = False


def segmented_prior(
    today: Stack, archives: Sequence[Archive], work: Path, identity: ResultIdentity, how: Segmenting
) -> Priors:
    """The SEG of the latest earlier study that `archives` have whose images are fit; kept in `work`.

    `identity` is that of the results of `today`. What an earlier walk found out stays. Raises StorageUnusable,
    ModelError.
    """
    path, folder = work / "priors" / "images.dcm", work / "priors" / "images"
    if not (work / PRIOR_IMAGES).exists():
        outcome = _Outcome(failed=folder.exists())
        if not outcome.failed:
            folder.mkdir(mode=0o700, parents=True)
            outcome = _looked_for(_Search(today, how.prefer, folder), archives, path, identity, how)
        shutil.rmtree(folder, ignore_errors=True)
        write_durably(work / PRIOR_IMAGES, json.dumps(asdict(outcome)).encode())
    kept = _Outcome(**json.loads((work / PRIOR_IMAGES).read_text()))
    return Priors((path,) if kept.found else (), kept.failed, from_images=True)


def likeliest(
    series: Sequence[EarlierSeries], description: str, images: int, *, prefer: str, modality: str
) -> EarlierSeries | None:
    """Return the series of a study that today's series of `images` images most likely continues; None without one.

    One of the same description before the others, of MR no other; then by phase and kernel, as far as the description
    says them, and by the number of images (0: not known), the nearest first.
    """

    def is_named_alike(each: EarlierSeries) -> bool:
        return bool(description) and each.description.casefold() == description.casefold()

    def rank(each: EarlierSeries) -> tuple[float, ...]:
        apart = abs(math.log(each.images / images)) if each.images and images else math.inf
        return is_named_alike(each), *suitability_by_words(each.description, prefer), -apart

    wanted = [each for each in series if each.images <= MOST_IMAGES and (modality == "CT" or is_named_alike(each))]
    return max(wanted, key=rank, default=None)


class _Search:
    """A search in archives for images to compare today's series with, within LIMIT_S."""

    def __init__(self, today: Stack, prefer: str, folder: Path) -> None:
        header = read_dataset(today.slices[0].path)
        self.study = Study.of(header)
        self.description = str(header.get("SeriesDescription") or "").strip()
        self.modality = today.modality
        self.images = 0 if today.frame_numbers[0] else len(today.slices)
        self.prefer = prefer
        self.folder = folder
        self.failed = False
        self._left_s = LIMIT_S

    def candidates(self, archives: Sequence[Archive]) -> list[tuple[Archive, EarlierSeries]]:
        """The likeliest series of each of the latest studies that any archive has, the latest study first."""
        found: dict[str, tuple[Archive, EarlierSeries]] = {}
        for archive in archives if self.study.can_be_asked_for else ():
            try:
                with self._session(archive) as session:
                    studies = earlier_series(session, self.modality)
            except FAILURES:
                self.failed = True
                continue
            for series in studies:
                chosen = likeliest(series, self.description, self.images, prefer=self.prefer, modality=self.modality)
                if chosen:
                    found.setdefault(chosen.study.study_instance_uid, (archive, chosen))
        latest_first = sorted(found.values(), key=lambda each: (each[1].study.date, each[1].study.time), reverse=True)
        return latest_first[:MOST_STUDIES]

    def fetched(self, archive: Archive, series: EarlierSeries) -> list[Path]:
        """Fetch the images of a series; none where it cannot be had completely.

        Over a separate association: none waits while a series is segmented.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            with self._session(archive) as session:
                return session.bring(series.study.study_instance_uid, series.series_instance_uid)
        except FAILURES:
            self.failed = True
            return []

    @contextmanager
    def _session(self, archive: Archive) -> Iterator[Session]:
        started = time.monotonic()
        try:
            with asking(
                archive.remote,
                self.study,
                SLICES,
                directory=self.folder,
                calling_ae_title=archive.calling_ae_title,
                timeout_s=archive.timeout_s,
                limit_s=max(self._left_s, 0.0),
                most=MOST_IMAGES,
                moving=archive.moving,
            ) as session:
                yield session
        finally:
            self._left_s -= time.monotonic() - started


def _looked_for(
    search: _Search, archives: Sequence[Archive], path: Path, identity: ResultIdentity, how: Segmenting
) -> _Outcome:
    for archive, series in search.candidates(archives):
        if images := search.fetched(archive, series):
            for seg in _segmented(images, search, identity, how):
                write_durably(path, seg.read_bytes())
                return _Outcome(True, search.failed)
    return _Outcome(False, search.failed)


def _segmented(images: Sequence[Path], search: _Search, identity: ResultIdentity, how: Segmenting) -> Iterator[Path]:
    """The SEG of each volume of a series, proved; none of one that cannot be segmented, has no liver, or is UNFIT."""
    try:
        series = arrange([read_image_file(path) for path in images])
        refuse_unfit(series, how.memory_mb)
        stacks, _ = chosen_stacks(series, how.prefer)
    except (SeriesRejected, NotDicom):
        return
    for stack in stacks if series.modality == search.modality else ():
        try:
            volume = read_volume(stack)
            refuse_other_values(volume)
            segmentation = how.segment(volume)
            case = measured_case(stack, volume, segmentation, identity=_identity(stack, segmentation, identity))
            results = write_results(case, search.folder / f"results-{stack.index}", profiles=[Profile(("seg",))])
        except (SeriesRejected, SourceUnusable, GeometryNotProved):
            continue
        if not UNFIT & set(case.findings.warnings):
            yield from (result.path for result in results)


def _identity(stack: Stack, segmentation: Segmentation, today: ResultIdentity) -> ResultIdentity:
    """Return a separate identity: results of that series that come here one day may number lesions otherwise."""
    seed = f"{stack.study_instance_uid}/{stack.series_instance_uid}/{segmentation.algorithm.weights_sha256}"
    return replace(today, seed=seed, revision=1, volume_index=stack.index, volume_label=stack.label)
