"""SEGs that people corrected and stored to us: never a job, always acknowledged, and scored against what was sent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from daemon.configuration.config import Config
from daemon.errors import WorkerCrashed
from daemon.feedback import NOT_YET, Feedback
from daemon.intake import Accepted, Intake, Verdict
from daemon.jobs import CorrectionState, HaltCode
from daemon.ledger.corrections import Corrections
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool
from daemon.worker.requests import Unusable
from tests.daemon.corrected import Answered, Here, answer, drawn, drawn_in_slicer, small_geometry, truth


@pytest.fixture
def answered(
    spool: Spool, ledger: Ledger, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_log: Any
) -> Answered:
    """Nothing of the patient is logged, whatever a test does."""
    return answer(spool, ledger, clock, tmp_path, monkeypatch, patient_name="ZZPHI^CANARY", patient_id="ZZPHI")


@pytest.fixture
def intake(spool: Spool, ledger: Ledger, clock: Any) -> Intake:
    return Intake(spool, ledger, clock)


@pytest.fixture
def feedback(make_config: Callable[..., Config], spool: Spool, ledger: Ledger, clock: Any) -> Feedback:
    return Feedback(make_config(), spool, ledger, Here(), clock, lambda: 0.5)


@pytest.mark.parametrize("viewer", ["OHIF", "Slicer"])
def test_a_corrected_seg_is_scored(
    answered: Answered, intake: Intake, feedback: Feedback, ledger: Ledger, tmp_path: Path, read_log: Any, viewer: str
) -> None:
    """Acknowledged and kept, no job; then Dice and volumes, and of two lesions one taken away and one added."""
    content = (
        drawn(answered.images, truth())
        if viewer == "OHIF"
        else drawn_in_slicer(answered.images, truth(), tmp_path / "slicer")
    )
    jobs = ledger.all_jobs()
    assert intake.take(content, calling_ae_title="VIEWER") == Accepted(Verdict.CORRECTION)
    assert intake.take(content, calling_ae_title="VIEWER").verdict == Verdict.ALREADY_STORED
    assert ledger.all_jobs() == jobs
    assert feedback.score_due() == 1
    assert feedback.score_due() == 0
    (found,) = Corrections(ledger).latest()
    assert (found.state, found.job_id, found.calling_ae_title) == (CorrectionState.SCORED, answered.job_id, "VIEWER")
    assert (found.model, found.version, found.model_sha256) == ("threshold", "1", "0" * 64)
    assert (found.series_instance_uid, found.study_instance_uid) == (
        answered.series_instance_uid,
        answered.study_instance_uid,
    )
    (figures,) = found.volumes
    ours, theirs = 5 * 12 * 10, 5 * 12 * 11
    assert figures == {
        "volume_index": 0,
        "liver_dice": round(2 * ours / (ours + theirs), 4),
        "liver_rvd": round((theirs - ours) / ours, 4),
        "lesion_dice": round(2 * 32 / (32 + 18 + 32 + 12), 4),
        "lesion_rvd": round((32 + 12 - 50) / 50, 4),
        "lesions": 2,
        "shadow_lesions": 2,
        "lesions_met": 1,
        "shadow_lesions_met": 1,
    }
    assert read_log.named("correction.scored")
    ledger.close()
    assert not [file for file in tmp_path.glob("ledger.sqlite*") if b"ZZPHI" in file.read_bytes()]


def test_components_of_one_segment_are_lesions(answered: Answered, intake: Intake, feedback: Feedback, ledger: Ledger):
    """Where all lesions were drawn into one segment; without a liver nothing is said of the liver."""
    lesions = truth()[1][1] | truth()[2][1]
    intake.take(drawn(answered.images, [("tumours", lesions)]), calling_ae_title="VIEWER")
    feedback.score_due()
    (figures,) = Corrections(ledger).latest()[0].volumes
    assert (figures["shadow_lesions"], figures["lesions_met"]) == (2, 1)
    assert (figures["liver_dice"], figures["liver_rvd"]) == (None, None)


def other_patient(ds: Dataset) -> None:
    ds.PatientID = "ZZPHI2"


def elsewhere(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient = [500, 0, 0]


def by_another_network(ds: Dataset) -> None:
    for segment in ds.SegmentSequence:
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", "another"


def cut(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:10]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_patient, Unusable.OTHER_PATIENT),
        (elsewhere, Unusable.NOT_ON_IMAGES),
        (by_another_network, Unusable.OTHER_ALGORITHM),
        (cut, Unusable.UNREADABLE),
    ],
)
def test_what_tells_nothing_is_left(
    answered: Answered, intake: Intake, feedback: Feedback, ledger: Ledger, change: Callable[[Dataset], None], code: str
) -> None:
    """Acknowledged and kept all the same, with the code of why."""
    content = drawn(answered.images, truth(), change)
    assert intake.take(content, calling_ae_title="VIEWER").verdict == Verdict.CORRECTION
    feedback.score_due()
    (found,) = Corrections(ledger).latest()
    assert (found.state, found.code, found.volumes) == (CorrectionState.FAILED, code, ())


def test_neither_liver_nor_lesion(answered: Answered, intake: Intake, feedback: Feedback, ledger: Ledger) -> None:
    """Another organ of the same images says nothing of ours."""
    intake.take(drawn(answered.images, [("Spleen", truth()[0][1])]), calling_ae_title="VIEWER")
    feedback.score_due()
    assert Corrections(ledger).latest()[0].code == Unusable.NO_LIVER_OR_LESION


def test_images_without_a_result(
    intake: Intake, feedback: Feedback, ledger: Ledger, clock: Any, tmp_path: Path, spool: Spool
) -> None:
    """It waits as long as they are worked on, without an attempt, and is left once there will be none."""
    from dicom_io.files.image_writer import write_ct_series
    from tests.daemon.corrected import small_ct

    images = write_ct_series(small_ct(), small_geometry(), tmp_path / "ct", seed=9)
    intake.take(images[0].read_bytes(), calling_ae_title="MODALITY")
    intake.take(drawn(images, truth()), calling_ae_title="VIEWER")
    feedback.score_due()
    (found,) = Corrections(ledger).latest()
    assert (found.state, found.code, found.attempts) == (CorrectionState.PENDING, NOT_YET, 0)
    (job,) = ledger.all_jobs()
    ledger.cancel(job.id, now=clock())
    assert feedback.score_due() == 0
    clock.pass_s(60)
    assert feedback.score_due() == 1
    assert Corrections(ledger).latest()[0].code == Unusable.NO_RESULT


def test_a_worker_that_dies_is_tried_again(
    answered: Answered, intake: Intake, feedback: Feedback, ledger: Ledger, clock: Any
) -> None:
    """As often as a job is; then a person may look at the log."""
    worker = feedback.executor
    assert isinstance(worker, Here)
    worker.acts = [WorkerCrashed("exit code 1")] * 3
    intake.take(drawn(answered.images, truth()), calling_ae_title="VIEWER")
    for attempts in (1, 2):
        assert feedback.score_due() == 1
        (found,) = Corrections(ledger).latest()
        assert (found.state, found.attempts, found.code) == (CorrectionState.PENDING, attempts, "WorkerCrashed")
        clock.pass_s(60)
    feedback.score_due()
    (found,) = Corrections(ledger).latest()
    assert (found.state, found.code) == (CorrectionState.FAILED, HaltCode.WORKER_FAILED)
    assert worker.rests == 3


def test_what_it_is_not(answered: Answered, intake: Intake, ledger: Ledger, spool: Spool) -> None:
    """Other bytes under its UID are set aside; a SEG of images that never came is a series as any other."""
    uid = generate_uid()

    def named(ds: Dataset) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid

    def of_others(ds: Dataset) -> None:
        ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4.5"

    intake.take(drawn(answered.images, truth(), named), calling_ae_title="VIEWER")
    again = drawn(answered.images, [("Liver", np.roll(truth()[0][1], 1, axis=2))], named)
    assert intake.take(again, calling_ae_title="VIEWER").verdict == Verdict.DUPLICATE_DIFFERENT
    assert len(list((spool.root / "corrections").iterdir())) == 1
    assert intake.take(drawn(answered.images, truth(), of_others), calling_ae_title="VIEWER").verdict == Verdict.STORED
    assert len(ledger.all_jobs()) == 2


def test_a_file_that_was_lost_is_kept_when_it_comes_again(
    answered: Answered, intake: Intake, feedback: Feedback, ledger: Ledger, spool: Spool
) -> None:
    """Under its old name; scored after that."""
    content = drawn(answered.images, truth())
    intake.take(content, calling_ae_title="VIEWER")
    (path,) = (spool.root / "corrections").iterdir()
    path.unlink()
    assert intake.take(content, calling_ae_title="VIEWER").verdict == Verdict.CORRECTION
    assert path.read_bytes() == content
    feedback.score_due()
    assert Corrections(ledger).latest()[0].state == CorrectionState.SCORED
