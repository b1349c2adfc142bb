"""What is read of a job: the SEG's frames on the slices that they name, and why there is nothing to read."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from daemon.console.readings import labels_on
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
