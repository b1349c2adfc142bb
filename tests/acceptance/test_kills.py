"""Nothing acknowledged is lost, and every study ends with exactly one set of results, whatever is killed and when."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from daemon.jobs import State
from tests.acceptance.conftest import Site, children_of, until

Series = Callable[[int], list[Path]]


def one_set_of_results(site: Site, paths: list[Path]) -> None:
    """Wait for CONFIRMED, and see one SEG and one SR in the source's study."""
    study = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    until(lambda: site.states() == [State.CONFIRMED], what="CONFIRMED")
    seg, sr = site.results(study)
    assert (len(seg), len(sr)) == (1, 1)


def leased(site: Site) -> bool:
    """Whether the worker holds the one job, to segment it."""
    return [job.lease is not None for job in site.jobs() if job.state == State.RECEIVED] == [True]


def test_killed_after_the_last_acknowledgement(site: Site, phantom_series: Series) -> None:
    """SIGKILL to the group right after the last 0x0000: the restarted service has every slice and reports once."""
    paths = phantom_series(1)
    site.start()
    assert site.send(paths) == len(paths)
    site.kill_group()
    assert [job.instances for job in site.jobs()] == [len(paths)]
    site.start()
    one_set_of_results(site, paths)
    kept = list((site.root / "spool").rglob("*.dcm"))
    assert len(kept) == len(paths)


def test_killed_again_and_again(site: Site, phantom_series: Series) -> None:
    """SIGKILL to the group at the first sight of each state on the way, and each time while it is being left."""
    paths = phantom_series(2)
    site.start()
    assert site.send(paths) == len(paths)
    seen: list[str] = []
    while State.CONFIRMED not in seen:
        until(lambda: site.states()[0] not in seen, what="the next state")
        seen.append(site.states()[0])
        site.kill_group()
        site.start()
    assert {State.RECEIVING, State.RECEIVED, State.CONFIRMED} <= set(seen)
    one_set_of_results(site, paths)
    assert [job.attempts for job in site.jobs()] == [0]


def test_killed_during_segmentation(site: Site, phantom_series: Series) -> None:
    """SIGKILL to the group while the worker holds the job: the lease is freed at start, no attempt is counted."""
    paths = phantom_series(3)
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: leased(site), what="a lease")
    site.kill_group()
    site.start()
    one_set_of_results(site, paths)


def test_killed_during_delivery_with_orthanc_down(site: Site, phantom_series: Series) -> None:
    """Orthanc is down when the results are due, and Porta is killed while it tries: they arrive once, later."""
    paths = phantom_series(4)
    site.orthanc.stop()
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: "destination.awaited" in site.log, what="a try to deliver")
    site.kill_group()
    assert site.states() == [State.REPORTED]
    site.start()
    site.orthanc.start(say=lambda text: None)
    one_set_of_results(site, paths)


def test_the_parent_alone_is_killed(site: Site, phantom_series: Series) -> None:
    """SIGKILL to the service alone while its worker works: the worker does not stay behind."""
    paths = phantom_series(5)
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: leased(site), what="a lease")
    assert site.service is not None
    children = children_of(site.service.pid)
    assert children, "there is no worker to stay behind"
    os.kill(site.service.pid, signal.SIGKILL)
    site.service.wait(10)
    until(lambda: not any(_alive(pid) for pid in children), seconds=10, what="the end of the worker")
    site.start()
    one_set_of_results(site, paths)


def test_the_worker_alone_is_killed(site: Site, phantom_series: Series) -> None:
    """A worker that is killed is a failed attempt, and the next one succeeds; the service lives on."""
    paths = phantom_series(6)
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: leased(site), what="a lease")
    assert site.service is not None
    for pid in children_of(site.service.pid):
        os.kill(pid, signal.SIGKILL)
    one_set_of_results(site, paths)
    assert "worker.ended" in site.log


def test_orthanc_is_down_for_longer_than_the_first_retries(site: Site, phantom_series: Series) -> None:
    """The jobs say what is waited for meanwhile, and the results arrive when Orthanc is back."""
    paths = phantom_series(7)
    site.orthanc.stop()
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: site.log.count("destination.awaited") >= 3, what="the third retry")
    shown = site.porta("jobs", "--json").stdout
    assert '"state": "REPORTED"' in shown
    assert "UNREACHABLE" in shown
    site.orthanc.start(say=lambda text: None)
    one_set_of_results(site, paths)


def test_an_outage_that_is_given_up_halts_and_is_retried(site: Site, phantom_series: Series) -> None:
    """After `give_up_after_s` the deliveries halt, the job is shown so, and `porta retry` sends it on."""
    paths = phantom_series(8)
    site.changes = {"longest_retry_s = 2": "longest_retry_s = 2\ngive_up_after_s = 1"}
    site.orthanc.stop()
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: site.log.count("delivery.halted") == 2, what="the halt")
    assert '"halt": "DESTINATION_UNREACHABLE"' in site.porta("jobs", "--json").stdout
    assert "HALTED DESTINATION_UNREACHABLE" in site.porta("jobs").stdout
    site.orthanc.start(say=lambda text: None)
    assert site.porta("retry", "1").returncode == 0
    one_set_of_results(site, paths)


@pytest.mark.parametrize("moment", ["idle", "working"])
def test_sigterm_ends_cleanly_within_ten_seconds(site: Site, phantom_series: Series, moment: str) -> None:
    """SIGTERM ends the service with exit code 0, also in the middle of a segmentation, which is done anew later."""
    paths = phantom_series(9)
    site.start()
    if moment == "working":
        assert site.send(paths) == len(paths)
        until(lambda: leased(site), what="a lease")
    assert site.stop() < 10
    assert site.service is not None
    assert site.service.returncode == 0
    if moment == "working":
        assert [(job.state, job.attempts, job.lease) for job in site.jobs()] == [(State.RECEIVED, 0, None)]
        site.start()
        one_set_of_results(site, paths)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
