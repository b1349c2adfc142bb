"""What is read of a job: the SEG's frames on the slices that they name, and why there is nothing to read."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from daemon.choice import Choice, Chosen
from daemon.jobs import Event
from daemon.ledger.store import Ledger, Outgoing
from dicom_io.files.uids import derive_uid
from dicom_io.seg_labels import labels_on
from reports.objects.kinds import FORMS
from tests.daemon.console.conftest import Site


def mask(number: int, uids: list[str], frames: list[int | None], masks: np.ndarray) -> Any:
    """A segment with a frame for each of these images."""
    return SimpleNamespace(
        number=number,
        masks=masks,
        source_sop_instance_uids=tuple((uid,) for uid in uids),
        source_frame_numbers=tuple((frame,) for frame in frames),
    )


def test_frames_lie_on_the_images_that_they_name() -> None:
    """Whatever their order; frames of one file by their number; an image that is not here is passed over."""
    stack: Any = SimpleNamespace(
        sop_instance_uids=("1.1", "1.2", "1.3", "1.3"),
        frame_numbers=(None, None, 1, 2),
        geometry=SimpleNamespace(shape=(4, 2, 2)),
    )
    one = np.zeros((2, 2, 2), bool)
    one[0, 0, 0] = one[1, 1, 1] = True
    labels = labels_on(stack, [mask(1, ["1.2", "1.3"], [None, 2], one), mask(2, ["1.1", "9"], [None, None], one)])
    assert np.argwhere(labels == 1).tolist() == [[1, 0, 0], [3, 1, 1]]
    assert np.argwhere(labels == 2).tolist() == [[0, 0, 0]]


def test_nothing_to_read(site: Site, receive: Callable[..., int]) -> None:
    """A job without results says so; there is none of another number; no path leads elsewhere."""
    job_id = receive(1)
    viewer = site.browser("viewer")
    assert viewer.get(f"/api/v1/jobs/{job_id}/volumes").json() == []
    answer = viewer.get(f"/api/v1/jobs/{job_id}/volumes/0")
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "there are no results to read: see the page of the study",
    )
    assert viewer.get(f"/jobs/{job_id}/view").status_code == 404
    assert viewer.get("/api/v1/jobs/99/volumes").status_code == 404
    assert viewer.get(f"/api/v1/jobs/{job_id}/objects/0").status_code == 404
    for path in (
        "/static/../templates/base.html",
        "/static/%2e%2e/app.py",
        f"/api/v1/jobs/{job_id}/volumes/..%2f..%2f",
    ):
        assert viewer.get(path).status_code in (400, 404), path


def test_an_object_as_it_was_sent(site: Site, receive: Callable[..., int], ledger: Ledger, clock: Any) -> None:
    """The link on the page of the study gives the bytes of the outbox under the object's UID; one that is gone, 404."""
    job = ledger.job(receive(1))
    assert ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=clock())
    path = Path("outbox") / str(job.id) / "sr.dcm"
    (site.config.storage.root / path).parent.mkdir(parents=True)
    (site.config.storage.root / path).write_bytes(b"an SR")
    outgoing = Outgoing("archive", FORMS["sr"], derive_uid("sr"), derive_uid("sr", 2), str(path), "none")
    for event, items in ((Event.SEGMENTED, []), (Event.REPORTED, [outgoing])):
        claimed = ledger.claim_job("host/1", now=clock())
        assert claimed is not None
        ledger.finish_stage(claimed, event, now=clock(), outgoing=items)
    viewer = site.browser("viewer")
    (link,) = re.findall(
        r'href="(/api/v1/jobs/\d+/objects/\d+)"', viewer.get(f"/studies/{job.study_instance_uid}").text
    )
    answer = viewer.get(link)
    assert (answer.content, answer.headers["content-type"]) == (b"an SR", "application/dicom")
    assert derive_uid("sr") in answer.headers["content-disposition"]
    (site.config.storage.root / path).unlink()
    assert viewer.get(link).status_code == 404
