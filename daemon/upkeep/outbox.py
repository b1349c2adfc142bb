"""What lies in the outbox, for a ledger that was lost: whose results they are, when they were written, what they name.

The UIDs of results derive from the series and the revision that they are of (`reports.identity`), so that they are
found again by trying.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from pydicom import Dataset

from daemon.errors import WorkDamaged
from daemon.storage.integrity import SUMS, read_sums, unsound_files
from daemon.storage.spool import Spool
from daemon.worker.handover import load_segmented
from dicom_io.errors import NotDicom, RejectReason
from dicom_io.files import values
from dicom_io.files.image_file import read_dataset
from reports.identity import identity_of
from reports.objects.kinds import FORMS, KINDS, Form

MOST_REVISIONS = 1000
UNDATED = datetime(1970, 1, 1, tzinfo=UTC)
"""UIDs do not derive from the time of a result."""


@dataclass(frozen=True)
class ResultObject:
    """One object of a result, as it lies in the outbox; `path` is relative to the storage root."""

    form: Form
    path: str
    sha256: str
    volume_index: int
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True)
class Results:
    """All that one job left in the outbox: whose it is, when it was written (seconds since 1970), what it says.

    `reason` is a RejectReason where it is no result. `named` are the instances that it refers to, `predecessors` the
    SRs that it supersedes, by their SOP Instance UIDs.
    """

    series_instance_uid: str
    revision: int
    at: float
    reason: str | None
    objects: tuple[ResultObject, ...]
    named: frozenset[str]
    predecessors: tuple[str, ...]


def read_outbox(spool: Spool) -> list[Results]:
    """List what is whole in the outbox, of each series and revision the latest. Raises OSError.

    What is not whole, or cannot be told whose it is, is left out: its job is decided again, and comes to the same UIDs.
    """
    found: dict[tuple[str, int], Results] = {}
    for folder in _numbered(spool.root / "outbox"):
        with suppress(NotDicom):
            if results := _read_results(spool, folder):
                found[results.series_instance_uid, results.revision] = results
    return list(found.values())


def _read_results(spool: Spool, folder: Path) -> Results | None:
    volumes = _numbered(folder)
    if not volumes or not _is_whole(spool.work(int(folder.name)), volumes):
        return None
    whose: tuple[str, int] | None = None
    objects: list[ResultObject] = []
    read: list[Dataset] = []
    files = {volume / name: sha256 for volume in volumes for name, sha256 in read_sums(volume).items()}
    for path, sha256 in files.items():
        if form := _form_of(path.name):
            ds, index = read_dataset(path), int(path.parent.name)
            read.append(ds)
            whose = whose or _whose(ds, form, index)
            uids = [values.uid(ds, key) for key in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
            objects.append(ResultObject(form, str(path.relative_to(spool.root)), sha256, index, *uids))
    is_verdict = {item.form.kind for item in objects} == {"verdict"}
    reason = _reason(read) if is_verdict else None
    if whose is None or (is_verdict and reason is None):
        return None
    order = list(KINDS)
    return Results(
        *whose,
        at=max((volume / SUMS).stat().st_mtime for volume in volumes),
        reason=reason,
        objects=tuple(sorted(objects, key=lambda item: (item.volume_index, order.index(item.form.kind)))),
        named=frozenset(uid for ds in read for _, _, uid in _references(ds)),
        predecessors=tuple(uid for ds in read for _, _, uid in _evidence(ds, "PredecessorDocumentsSequence")),
    )


def _numbered(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


def _is_whole(work: Path, volumes: Sequence[Path]) -> bool:
    """Return whether each volume that was segmented has results, and all of their files hold what was written."""
    with suppress(WorkDamaged):  # what the stages left is removed once the job is reported
        if set(load_segmented(work, labels_only=True).volumes) - {int(path.name) for path in volumes}:
            return False
    return all(read_sums(volume) and not any(unsound_files(volume)) for volume in volumes)


def _form_of(name: str) -> Form | None:
    """Return the form of an object by the name of its file; None for another file."""
    stem, _, suffix = name.rpartition(".")
    return (FORMS.get(stem) or FORMS.get(stem.rpartition("-")[0])) if suffix == "dcm" else None


def _whose(ds: Dataset, form: Form, volume_index: int) -> tuple[str, int] | None:
    """Return the series and the revision from which the SOP Instance UID of an object derives; None if from neither."""
    referred = dict.fromkeys((study, series) for study, series, _ in _references(ds))
    for (study, series), revision in product(referred, range(1, MOST_REVISIONS + 1)):
        identity = identity_of(study, series, revision=revision, created=UNDATED, software_version="")
        of_volume = replace(identity, volume_index=volume_index)
        if of_volume.sop_instance_uid(form.name) == values.uid(ds, "SOPInstanceUID"):
            return series, revision
    return None


def _references(ds: Dataset) -> Iterator[tuple[str, str, str]]:
    """Give study, series and SOP Instance UID of what a SEG (PS3.3 C.7.6.16.1.1) or an SR (C.17.2) is made of."""
    study = values.uid(ds, "StudyInstanceUID")
    yield from _of_series(study, ds)
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "StudiesContainingOtherReferencedInstancesSequence"):
        yield from _evidence(ds, keyword)


def _evidence(ds: Dataset, keyword: str) -> Iterator[tuple[str, str, str]]:
    for item in values.items(ds, keyword):
        yield from _of_series(values.uid(item, "StudyInstanceUID"), item)


def _of_series(study: str, ds: Dataset) -> Iterator[tuple[str, str, str]]:
    for item in values.items(ds, "ReferencedSeriesSequence"):
        series = values.uid(item, "SeriesInstanceUID")
        for keyword in ("ReferencedSOPSequence", "ReferencedInstanceSequence"):
            for reference in values.items(item, keyword):
                yield study, series, values.uid(reference, "ReferencedSOPInstanceUID")


def _reason(read: Sequence[Dataset]) -> str | None:
    """Return the RejectReason that an SR says; None where it says none, as of a SEG that was held back."""
    for ds in read:
        for code in values.items(ds, "ConceptCodeSequence"):
            if (code_value := values.text(code, "CodeValue")) in list(RejectReason):
                return code_value
        if reason := _reason(values.items(ds, "ContentSequence")):
            return reason
    return None
