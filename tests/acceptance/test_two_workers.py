"""Two workers work on two studies at a time, and what is killed of them costs nobody else anything."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from daemon.jobs import State
from tests.acceptance.conftest import Site, children_of, until


def test_two_studies_at_a_time(site: Site, phantom_series: Callable[[int], list[Path]]) -> None:
    """Each job is one worker's; both workers are killed in the middle, and each study ends with one set of results."""
    site.changes = {"[log]": "[engine]\nworkers = 2\n[log]"}
    studies = [phantom_series(number) for number in (1, 2)]
    site.start()
    for paths in studies:
        assert site.send(paths) == len(paths)
    until(lambda: len({job.lease for job in site.jobs()} - {None}) == 2, what="a lease of each worker")
    assert site.service is not None
    for pid in children_of(site.service.pid):
        os.kill(pid, signal.SIGKILL)
    until(lambda: site.states() == [State.CONFIRMED] * 2, what="CONFIRMED")
    for job in site.jobs():
        seg, sr = site.results(job.study_instance_uid, f"results-{job.id}")
        assert (len(seg), len(sr)) == (1, 1)
