"""What the worker process does with one series: segment it, and write its results. Files in, files out.

Each stage is a function of paths and plain values, so that it can be sent to another process and walked twice: what
an earlier walk has written whole is kept, never made again. A series may hold several volumes; each that is segmented
has a folder of its own, named by its index, and which ones those are is written down by the first stage.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import Comprehensive3DSRStorage

from daemon.handover import Segmented, load_segmentation, load_segmented, save_segmentation, save_segmented
from daemon.sources import spooled_series
from daemon.spool import sync_folder, write_durably
from dicom_io.errors import RejectReason, SeriesRejected, SeriesWarning
from dicom_io.pixels import read_volume
from dicom_io.preference import chosen_stacks
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series import Series, Stack, stack_headers
from dicom_io.volume import Volume
from models.cards import find
from models.inference import Model, load_model, segment
from reports.identity import ResultIdentity
from reports.measurements import Findings, findings_json, measure
from reports.seg import build_seg
from reports.sr import build_sr
from reports.verification import verify_seg

FINDINGS = "findings.json"


def software_version() -> str:
    """The version that stands in every SEG and SR."""
    return version("porta-hepatis")


@dataclass(frozen=True)
class Engine:
    """Where a model runs."""

    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Result:
    """One object that was written, proved, and is to be sent; `volume_index` is that of its volume in the series."""

    object: str
    sop_instance_uid: str
    series_instance_uid: str
    path: Path
    volume_index: int = 0


@dataclass(frozen=True)
class Reported:
    """What the report stage leaves: the objects of all volumes in the order they are to be sent, and the warnings."""

    results: tuple[Result, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Replaced:
    """The answer of an earlier job that this job's SRs supersede; `volumes` are the indices that it has SRs of."""

    study_instance_uid: str
    series_instance_uid: str
    revision: int
    volumes: tuple[int, ...] = (0,)


@lru_cache(maxsize=2)
def model_on(name: str, engine: Engine) -> Model:
    """The model, loaded once per process. Raises ModelError."""
    return load_model(find(name), device=engine.device, threads=engine.threads)


def load_models(models: Sequence[str], engine: Engine) -> None:
    """Load models before the first series needs them. Raises ModelError."""
    for model in models:
        model_on(model, engine)


def refuse_without_model(series: Series, model: str) -> None:
    """Raise SeriesRejected(NO_MODEL) where the model is not made for the modality of the series. Loads no weights."""
    card = find(model)
    if not card.takes(series.modality):
        made_for = " and ".join(card.modalities)
        detail = f"{card.name} is made for {made_for}, and the series is {series.modality}."
        raise SeriesRejected(RejectReason.NO_MODEL, detail)


def segment_series(paths: Sequence[Path], model: str, engine: Engine, work: Path, prefer: str) -> tuple[str, ...]:
    """Segment the volumes of a series that `prefer` chooses, and keep the labels of volume i in `work`/i.

    Returns the warnings. A volume whose pixels cannot be read is left out where there are others.
    Raises SeriesRejected, NotDicom, ModelError.
    """
    series = spooled_series(paths)
    refuse_without_model(series, model)
    stacks, note = chosen_stacks(series, prefer)
    segmented: list[int] = []
    warnings: list[str] = []
    unread: list[tuple[Stack, SeriesRejected]] = []
    for stack in stacks:
        try:
            warnings += _segment_stack(stack, model_on(model, engine), work / str(stack.index))
            segmented.append(stack.index)
        except SeriesRejected as error:
            unread.append((stack, error))
    if not segmented:
        raise unread[0][1]
    left_out = (str(SeriesWarning.LEFT_OUT),) if unread else ()
    notes = [note, *(f"Volume {stack.index + 1} could not be read ({error.reason})." for stack, error in unread)]
    save_segmented(Segmented(tuple(segmented), " ".join(filter(None, notes)), left_out), work)
    return tuple(dict.fromkeys([*warnings, *left_out]))


def _segment_stack(stack: Stack, model: Model, work: Path) -> tuple[str, ...]:
    """A function of its own, so that one volume is gone from memory before the next one comes."""
    segmentation = segment(model, read_volume(stack))
    save_segmentation(segmentation, work)
    return segmentation.warnings


def report_series(
    paths: Sequence[Path], work: Path, outbox: Path, identity: ResultIdentity, replaces: Replaced | None = None
) -> Reported:
    """Measure what `work` holds, write SEG, SR and findings of volume i to `outbox`/i, and prove each SEG's geometry.

    `identity` is that of the first volume. The SRs supersede those of the revision before, or of `replaces`.
    Raises GeometryNotProved, SourceUnusable.
    """
    stacks = {stack.index: stack for stack in spooled_series(paths).stacks}
    segmented = load_segmented(work)
    predecessors = predecessors_of(identity, stacks[segmented.volumes[0]], segmented.volumes, replaces)
    results: list[Result] = []
    warnings: list[str] = []
    for index in segmented.volumes:
        findings, written = _report_stack(
            stacks[index],
            segmented,
            work / str(index),
            outbox / str(index),
            replace(identity, volume_index=index, volume_label=stacks[index].label),
            predecessors.get(index),
        )
        results += written
        warnings += findings.warnings
    sync_folder(outbox.parent)  # the job's own folder came with that of its first volume
    return Reported(tuple(results), tuple(dict.fromkeys(warnings)))


def _report_stack(
    stack: Stack, segmented: Segmented, work: Path, outbox: Path, identity: ResultIdentity, predecessor: Dataset | None
) -> tuple[Findings, tuple[Result, ...]]:
    segmentation = load_segmentation(work, stack.geometry)
    segmentation = replace(segmentation, warnings=segmentation.warnings + segmented.warnings)
    volume = read_volume(stack)
    return write_results(
        stack, volume, segmentation, outbox, identity=identity, volume_note=segmented.note, predecessor=predecessor
    )


def write_results(
    stack: Stack,
    volume: Volume,
    segmentation: Segmentation,
    outbox: Path,
    *,
    identity: ResultIdentity,
    volume_note: str = "",
    predecessor: Dataset | None = None,
) -> tuple[Findings, tuple[Result, ...]]:
    """SEG (unless no liver was found), SR and findings.json; the SEG is read back from the disk and proved."""
    headers, frames = stack_headers(stack), stack.frame_numbers
    findings = measure(volume, segmentation, tracking_seed=identity.tracking_seed)
    results = []
    seg: Dataset | None = None
    if findings.liver_volume_ml > 0:
        path = outbox / "seg.dcm"
        seg = _written_once(
            path, lambda: build_seg(headers, segmentation, findings, identity=identity, frame_numbers=frames)
        )
        verify_seg(path, volume.geometry, segmentation, findings, stack.sop_instance_uids, frames)
        results.append(_result("seg", seg, path, identity))
    path = outbox / "sr.dcm"
    sr = _written_once(
        path,
        lambda: build_sr(
            headers,
            findings,
            segmentation.algorithm,
            identity=identity,
            seg=seg,
            predecessor=predecessor,
            frame_numbers=frames,
            volume_note=volume_note,
        ),
    )
    results.append(_result("sr", sr, path, identity))
    write_durably(outbox / FINDINGS, findings_bytes(findings, segmentation.algorithm, identity.software_version))
    return findings, tuple(results)


def findings_bytes(findings: Findings, algorithm: Algorithm, software_version: str) -> bytes:
    """`findings.json` as it lies on the disk."""
    content: dict[str, Any] = findings_json(findings, algorithm, software=f"porta-hepatis {software_version}")
    return json.dumps(content, indent=2).encode()


def identity_of(
    study_instance_uid: str, series_instance_uid: str, *, revision: int, created: datetime, software_version: str
) -> ResultIdentity:
    """The identity of a series' results: the same whenever and wherever the same revision is made."""
    seed = f"{study_instance_uid}/{series_instance_uid}"
    return ResultIdentity(seed=seed, revision=revision, created=created, software_version=software_version)


def predecessors_of(
    identity: ResultIdentity, stack: Stack, volumes: Sequence[int], replaces: Replaced | None
) -> dict[int, Dataset]:
    """The UIDs of the SR that each volume's supersedes; they derive from a seed as those of its own do.

    A revision supersedes the one before it, volume by volume; else `replaces` is superseded: each volume's SR by that
    of the same index, or, where the two jobs share none, the first by the first.
    """
    if identity.revision > 1 and (replaces is None or replaces.series_instance_uid != stack.series_instance_uid):
        before, pairs = replace(identity, revision=identity.revision - 1), {index: index for index in volumes}
    elif replaces is not None:
        before = identity_of(
            replaces.study_instance_uid,
            replaces.series_instance_uid,
            revision=replaces.revision,
            created=identity.created,
            software_version=identity.software_version,
        )
        same = {index: index for index in volumes if index in replaces.volumes}
        pairs = same or {volumes[0]: replaces.volumes[0]}
    else:
        return {}
    return {
        index: _sr_reference(replace(before, volume_index=earlier), stack.study_instance_uid)
        for index, earlier in pairs.items()
    }


def _sr_reference(identity: ResultIdentity, study_instance_uid: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = Comprehensive3DSRStorage
    ds.SOPInstanceUID = identity.sr_sop_instance_uid
    ds.SeriesInstanceUID = identity.sr_series_instance_uid
    ds.StudyInstanceUID = study_instance_uid
    return ds


def _written_once(path: Path, build: Callable[[], Dataset]) -> Dataset:
    """The object at `path`, built and written durably if no earlier walk did."""
    if not path.exists():
        buffer = BytesIO()
        dcmwrite(buffer, build(), enforce_file_format=True)
        write_durably(path, buffer.getvalue())
    return dcmread(path)


def _result(kind: str, ds: Dataset, path: Path, identity: ResultIdentity) -> Result:
    return Result(kind, str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), path, identity.volume_index)
