"""What the worker process does with one series: segment it, and write its results. Files in, files out.

Each stage is a function of paths and plain values, so that it can be sent to another process and walked twice: what
an earlier walk has written whole is kept, never made again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import Comprehensive3DSRStorage

from daemon.spool import write_durably
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series import Series, open_series, read_volume
from dicom_io.volume import Volume
from models.cards import find
from models.inference import Model, load_model, segment
from reports.identity import ResultIdentity
from reports.measurements import Findings, findings_json, measure
from reports.seg import build_seg
from reports.sr import build_sr
from reports.verification import verify_seg

LABELS, FINDINGS = "labels.npz", "findings.json"

Progress = Callable[[int, int], None]


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
    """One object that was written, proved, and is to be sent."""

    object: str
    sop_instance_uid: str
    series_instance_uid: str
    path: Path


@dataclass(frozen=True)
class Reported:
    """What the report stage leaves: the objects in the order they are to be sent, and what they say."""

    results: tuple[Result, ...]
    findings: Findings


@lru_cache(maxsize=2)
def model_on(name: str, engine: Engine) -> Model:
    """The model, loaded once per process. Raises ModelError."""
    return load_model(find(name), device=engine.device, threads=engine.threads)


def load_models(models: Sequence[str], engine: Engine) -> None:
    """Load models before the first series needs them. Raises ModelError."""
    for model in models:
        model_on(model, engine)


def segment_series(paths: Sequence[Path], model: str, engine: Engine, work: Path) -> tuple[str, ...]:
    """Read a series, segment it, and keep the labels in `work`; returns the warnings.

    Raises SeriesRejected, NotDicom, ModelError.
    """
    series = open_series(paths)
    segmentation = segment(model_on(model, engine), read_volume(series))
    save_segmentation(segmentation, work)
    return segmentation.warnings


def report_series(paths: Sequence[Path], work: Path, outbox: Path, identity: ResultIdentity) -> Reported:
    """Measure what `work` holds, write SEG, SR and findings to `outbox`, and prove the SEG's geometry.

    Raises GeometryNotProved, SourceUnusable.
    """
    series = open_series(paths)
    volume = read_volume(series)
    segmentation = load_segmentation(work, series)
    return write_results(series, volume, segmentation, outbox, identity)


def write_results(
    series: Series, volume: Volume, segmentation: Segmentation, outbox: Path, identity: ResultIdentity
) -> Reported:
    """SEG (unless no liver was found), SR and findings.json; the SEG is read back from the disk and proved."""
    findings = measure(volume, segmentation, tracking_seed=identity.seed)
    results = []
    seg: Dataset | None = None
    if findings.liver_volume_ml > 0:
        path = outbox / "seg.dcm"
        seg = _written_once(path, lambda: build_seg(series.headers, segmentation, findings, identity=identity))
        verify_seg(path, volume.geometry, segmentation, findings, volume.sop_instance_uids)
        results.append(_result("seg", seg, path))
    path = outbox / "sr.dcm"
    sr = _written_once(
        path,
        lambda: build_sr(
            series.headers,
            findings,
            segmentation.algorithm,
            identity=identity,
            seg=seg,
            predecessor=predecessor_of(identity, series),
        ),
    )
    results.append(_result("sr", sr, path))
    write_durably(outbox / FINDINGS, findings_bytes(findings, segmentation.algorithm, identity.software_version))
    return Reported(tuple(results), findings)


def findings_bytes(findings: Findings, algorithm: Algorithm, software_version: str) -> bytes:
    """`findings.json` as it lies on the disk."""
    content: dict[str, Any] = findings_json(findings, algorithm, software=f"porta-hepatis {software_version}")
    return json.dumps(content, indent=2).encode()


def save_segmentation(segmentation: Segmentation, work: Path) -> None:
    """Keep the labels between two stages, durably."""
    buffer = BytesIO()
    about = {
        "algorithm": asdict(segmentation.algorithm),
        "confidences": segmentation.confidences,
        "warnings": segmentation.warnings,
    }
    np.savez_compressed(buffer, labels=segmentation.labels, about=np.array(json.dumps(about)))
    write_durably(work / LABELS, buffer.getvalue())


def load_segmentation(work: Path, series: Series) -> Segmentation:
    """The labels that `save_segmentation` kept, on the geometry of the series."""
    with np.load(work / LABELS, allow_pickle=False) as stored:
        labels, about = stored["labels"], json.loads(str(stored["about"]))
    algorithm = about["algorithm"] | {"modalities": tuple(about["algorithm"]["modalities"])}
    return Segmentation(
        labels=labels,
        geometry=series.geometry,
        algorithm=Algorithm(**algorithm),
        confidences=tuple(about["confidences"]),
        warnings=tuple(about["warnings"]),
    )


def identity_of(
    study_instance_uid: str, series_instance_uid: str, *, revision: int, created: datetime, software_version: str
) -> ResultIdentity:
    """The identity of a series' results: the same whenever and wherever the same revision is made."""
    seed = f"{study_instance_uid}/{series_instance_uid}"
    return ResultIdentity(seed=seed, revision=revision, created=created, software_version=software_version)


def predecessor_of(identity: ResultIdentity, series: Series) -> Dataset | None:
    """The UIDs of the SR that this revision's supersedes; they derive from the same seed."""
    if identity.revision == 1:
        return None
    before = replace(identity, revision=identity.revision - 1)
    ds = Dataset()
    ds.SOPClassUID = Comprehensive3DSRStorage
    ds.SOPInstanceUID = before.sr_sop_instance_uid
    ds.SeriesInstanceUID = before.sr_series_instance_uid
    ds.StudyInstanceUID = str(series.headers[0].StudyInstanceUID)
    return ds


def _written_once(path: Path, build: Callable[[], Dataset]) -> Dataset:
    """The object at `path`, built and written durably if no earlier walk did."""
    if not path.exists():
        buffer = BytesIO()
        dcmwrite(buffer, build(), enforce_file_format=True)
        write_durably(path, buffer.getvalue())
    return dcmread(path)


def _result(kind: str, ds: Dataset, path: Path) -> Result:
    return Result(kind, str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), path)
