"""The configuration is read anew under a running association and a running job, with a real PACS."""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE, build_context

from daemon.jobs import State
from dicom_io.errors import AssociationRefused
from dicom_io.network import scu
from tests.acceptance.conftest import Site, children_of, until

TAKEN_UP = "the service has taken it up; what was running goes on\n"


def test_reload(site: Site, phantom_series: Callable[[int], list[Path]], free_port: Callable[[], int]) -> None:
    """No instance, association or job is lost; a file that is wrong changes nothing and says why."""
    images = [dcmread(path) for path in phantom_series(14)]
    patient = {'ae_title = "PORTA"': 'ae_title = "PORTA"\nnetwork_timeout_s = 600'}
    site.changes = patient | {'Modality = "CT"': 'Modality = "MR"'}
    site.start()
    contexts = [build_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)]
    ae = AE("MODALITY")
    ae.network_timeout = None  # a command may take its time on a machine that is busy
    assoc = ae.associate("127.0.0.1", site.port, contexts, ae_title="PORTA")
    assert [assoc.send_c_store(ds).Status for ds in images[:20]] == [0x0000] * 20

    site.changes = patient
    mended = site.porta("reload")
    assert (mended.returncode, mended.stdout) == (0, TAKEN_UP), mended.stderr
    assert assoc.is_established
    assert [assoc.send_c_store(ds).Status for ds in images[20:]] == [0x0000] * (len(images) - 20)
    assert site.porta("reload").stdout == "the service has this configuration already\n"
    assoc.release()  # a command that is run after it may take longer than the job

    until(lambda: site.jobs()[0].lease, what="the work on the job")
    assert site.service is not None
    workers = children_of(site.service.pid)
    for pid in workers:  # so that the stage lasts for longer than the reload
        os.kill(pid, signal.SIGSTOP)
    assert site.jobs()[0].state == State.RECEIVED
    site.changes = patient | {'name = "liver-ct"': 'name = "liver"', 'ae_title = "MODALITY"': 'ae_title = "CT7"'}
    assert site.porta("reload").stdout == TAKEN_UP
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    until(lambda: site.states() == [State.CONFIRMED], seconds=280, what="the results")
    (job,) = site.jobs()
    assert (job.rule, job.instances, job.attempts, job.revision) == ("liver", len(images), 0, 1)
    scu.echo(site.remote, calling_ae_title="CT7", timeout_s=5)
    with pytest.raises(AssociationRefused):
        scu.echo(site.remote, calling_ae_title="MODALITY", timeout_s=5)
    assert "MODALITY at 127.0.0.1 was refused (CALLING_AE_TITLE, 1 time, last " in site.porta("study", "1.2.3").stdout

    renamed = dict(site.changes)
    site.changes = renamed | {'model = "resnet50"': 'model = "nonsense"'}
    wrong = site.porta("reload")
    assert (wrong.returncode, 'rule[0].model: unknown model "nonsense"' in wrong.stderr) == (2, True)
    os.kill(site.service.pid, signal.SIGHUP)
    until(lambda: "configuration.refused" in site.log, what="the refusal")
    site.changes = renamed | {"min_free_mb = 10": "min_free_mb = 11"}
    fixed = site.porta("reload")
    line = site.config.read_text().splitlines().index("min_free_mb = 11") + 1
    why = f"porta.toml:{line}: storage.min_free_mb: a restart is needed: "
    assert (fixed.returncode, why in fixed.stderr, why in site.log) == (2, True, True), fixed.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        there, site.port, site.changes = site.port, taken.getsockname()[1], renamed
        refused, why = site.porta("reload"), f"dicom.port: cannot listen on 127.0.0.1:{site.port}: "
        assert (refused.returncode, why in refused.stderr) == (2, True), refused.stderr
    site.port = there
    scu.echo(site.remote, calling_ae_title="CT7", timeout_s=5)

    ae.ae_title = "CT7"
    open_one = ae.associate("127.0.0.1", site.port, contexts, ae_title="PORTA")
    moved = {old: new.replace("PORTA", "LIVER") for old, new in patient.items()}
    site.port, site.changes = free_port(), renamed | moved
    assert site.porta("reload").stdout == TAKEN_UP
    assert open_one.send_c_store(images[0]).Status == 0x0000
    open_one.release()
    scu.echo(replace(site.remote, ae_title="LIVER"), calling_ae_title="CT7", timeout_s=5)
    assert site.stop() < 10
