"""A series with results, and SEGs as a person stores them after correcting these: by OHIF, and by 3D Slicer."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.filebase import DicomBytesIO
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from daemon.choice import Choice, Chosen
from daemon.intake import Intake, Verdict
from daemon.jobs import Event
from daemon.ledger.store import Ledger, Outgoing
from daemon.storage.spool import Spool
from daemon.worker import stages
from daemon.worker.requests import Engine, ReportRequest, SegmentRequest
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.nifti import write_labels
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.volume import Volume
from reports.identity import identity_of

LIVER_HU, LESIONS_HU = 100, (200, 250)
LESIONS = (np.s_[5:7, 8:12, 7:11], np.s_[6:8, 13:16, 10:13])
NEW_LESION = np.s_[4:6, 14:17, 6:8]
TISSUE = Code("T-D0050", "SRT", "Tissue")
"""What OHIF says of every segment."""


def small_geometry() -> Geometry:
    """14 slices of 24 rows and 20 columns; of large voxels, as of a body."""
    origins = np.c_[np.zeros(14), np.zeros(14), 10.0 * np.arange(14)]
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 6.0, 6.0, 24, 20, "1.2.3")


def small_ct() -> NDArray[np.int16]:
    """HU of a liver with two lesions."""
    array = np.full(small_geometry().shape, -500, np.int16)
    array[4:9, 6:18, 5:15] = LIVER_HU
    for place, hu in zip(LESIONS, LESIONS_HU, strict=True):
        array[place] = hu
    return array


def truth() -> list[tuple[str, NDArray[np.bool_]]]:
    """What a person makes of it: the second lesion is none, another one is, and the liver has a column more."""
    liver = np.zeros(small_geometry().shape, bool)
    liver[4:9, 6:18, 5:16] = True
    lesions = [np.zeros_like(liver) for _ in range(2)]
    lesions[0][LESIONS[0]] = lesions[1][NEW_LESION] = True
    return [("Liver", liver), ("Lesion 1", lesions[0]), ("Lesion 2", lesions[1])]


def segment_by_thresholds(model: object, volume: Volume, progress: object = None) -> Segmentation:
    """The network's place is taken: liver and lesions have their HU."""
    labels = (volume.array > LIVER_HU / 2).astype(np.uint8)
    for number, hu in enumerate(LESIONS_HU, start=2):
        labels[volume.array == hu] = number
    return Segmentation(labels, volume.geometry, Algorithm("threshold", "1", "0" * 64), confidences=(0.9, 0.6))


@dataclass(frozen=True)
class Answered:
    """A series that came and has results."""

    job_id: int
    series_instance_uid: str
    study_instance_uid: str
    images: tuple[Path, ...]


def answer(
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    seed: str = "1",
    shadows: tuple[str, ...] = (),
    **more: Any,
) -> Answered:
    """Take a series in, and have the stages make its results, with thresholds for a network."""
    monkeypatch.setattr(stages, "model_on", lambda name, engine: None)
    monkeypatch.setattr(stages, "segment", segment_by_thresholds)
    images = write_ct_series(small_ct(), small_geometry(), folder / f"ct-{seed}", seed=seed, **more)
    header = dcmread(images[0], stop_before_pixels=True)
    intake = Intake(spool, ledger, clock)
    for path in images:
        assert intake.take(path.read_bytes(), calling_ae_title="MODALITY").verdict == Verdict.STORED
    due = next(
        item
        for item in ledger.due_series(now=clock() + 100, quiet_s=20, released_quiet_s=5)
        if item.series_instance_uid == header.SeriesInstanceUID
    )
    ledger.close_series(due, now=clock() + 100, rule="liver-ct")
    job = ledger.job(due.job_id)
    ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=clock())
    paths = tuple(spool.root / path for path in ledger.instance_paths(job.series_instance_uid))
    work, outbox = spool.work(job.id), spool.outbox(job.id)
    stages.segment_series(SegmentRequest(paths, "resnet50", Engine(), work, "portal"))
    of_job = identity_of(
        job.study_instance_uid,
        job.series_instance_uid,
        revision=1,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        software_version="1.2.3",
    )
    reported = stages.report_series(
        ReportRequest(
            paths=paths, model="resnet50", engine=Engine(), work=work, outbox=outbox, identity=of_job, prefer="portal"
        )
    )
    outgoing = [
        Outgoing(
            destination="archive",
            form=result.form,
            sop_instance_uid=result.sop_instance_uid,
            series_instance_uid=result.series_instance_uid,
            path=str(result.path.relative_to(spool.root)),
            confirm="none",
        )
        for result in reported.results
    ]
    for event, items in ((Event.SEGMENTED, []), (Event.REPORTED, outgoing)):
        claimed = ledger.claim_job("host/1", now=clock())
        assert claimed is not None
        ledger.finish_stage(
            claimed, event, now=clock(), outgoing=items, shadow_models=shadows if event == Event.REPORTED else ()
        )
    return Answered(job.id, job.series_instance_uid, job.study_instance_uid, tuple(images))


def drawn(
    images: Sequence[Path],
    segments: Sequence[tuple[str, NDArray[np.bool_]]],
    change: Callable[[Dataset], None] = lambda ds: None,
) -> bytes:
    """A SEG as OHIF stores it: every segment is tissue, its label says what it is."""
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=TISSUE,
            segmented_property_type=TISSUE,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, (label, _) in enumerate(segments, 1)
    ]
    seg = hd.seg.Segmentation(
        source_images=[dcmread(path) for path in images],
        pixel_array=np.stack([mask for _, mask in segments], axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=300,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="OHIF",
        manufacturer_model_name="viewer",
        software_versions="3.12",
        device_serial_number="1",
    )
    change(seg)
    buffer = DicomBytesIO()
    dcmwrite(buffer, seg, enforce_file_format=True)
    return bytes(buffer.getvalue())


def drawn_in_slicer(images: Sequence[Path], segments: Sequence[tuple[str, NDArray[np.bool_]]], folder: Path) -> bytes:
    """A SEG as 3D Slicer stores it: dcmqi writes it."""
    folder.mkdir()
    code = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    described, files = [], []
    for number, (label, mask) in enumerate(segments, 1):
        files.append(folder / f"{number}.nii.gz")
        write_labels(mask.astype(np.uint8), small_geometry(), files[-1])
        described.append(
            [
                {
                    "labelID": 1,
                    "SegmentLabel": label,
                    "SegmentDescription": label,
                    "SegmentAlgorithmType": "SEMIAUTOMATIC",
                    "SegmentAlgorithmName": "SegmentEditor",
                    "SegmentedPropertyCategoryCodeSequence": code,
                    "SegmentedPropertyTypeCodeSequence": code,
                }
            ]
        )
    about = {"SeriesDescription": "Segmentation", "SeriesNumber": "301", "segmentAttributes": described}
    (folder / "about.json").write_text(json.dumps(about))
    command = [str(Path(sys.executable).with_name("itkimage2segimage")), "--skip", "1"]
    command += ["--inputDICOMList", ",".join(map(str, images)), "--inputImageList", ",".join(map(str, files))]
    command += ["--inputMetadata", str(folder / "about.json")]
    command += ["--outputDICOM", str(folder / "seg.dcm")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (folder / "seg.dcm").exists(), done.stderr
    return (folder / "seg.dcm").read_bytes()


@dataclass
class Here:
    """Stands in for the worker: the stage runs in this process, after the acts of the script."""

    acts: list[Exception] = field(default_factory=list)
    rests: int = 0

    def run(self, deadline_s: float, stage: Any, request: Any) -> Any:
        if self.acts:
            raise self.acts.pop(0)
        return stage.load()(request)

    def rest(self) -> None:
        self.rests += 1
