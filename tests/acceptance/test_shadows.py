"""Shadow models beside the main one, in the whole service: compared once, whatever is killed, and never sent."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from pydicom import dcmread

from daemon.jobs import Shadow, State
from daemon.ledger.store import Ledger
from models.architectures.fcn import VGG16FCN
from models.cards import PRETRAINED
from models.weights import save_network
from tests.acceptance.conftest import Site, until

Series = Callable[[int], list[Path]]
PATIENCE_S = 400.0
"""The machine may be busy."""


@pytest.fixture
def shadowed(site: Site, tmp_path: Path) -> Site:
    """A site with one shadow: weights that nobody trained, brought by `porta models add`."""
    torch.manual_seed(0)
    path = tmp_path / "fcn_vgg16.json"
    card = json.loads((PRETRAINED / "resnet50.json").read_text()) | {
        "name": "untrained",
        "version": "1.0.0",
        "architecture": "fcn_vgg16",
    }
    path.write_text(json.dumps(card | {"sha256": save_network(VGG16FCN(), path.with_suffix(".safetensors"))}))
    added = site.porta("models", "add", str(path))
    assert added.returncode == 0, added.stderr
    own = 'model = "resnet50"'
    site.changes[own] = f'{own}\nshadow = ["untrained"]'
    return site


def shown(site: Site) -> dict[str, Any]:
    """What `porta job 1` says."""
    answer = site.porta("job", "1", "--json")
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def shadow_of(site: Site) -> Shadow:
    """As it stands in the ledger."""
    ledger = Ledger(f"sqlite:///{site.root / 'ledger.sqlite'}")
    try:
        (shadow,) = ledger.shadows_of(1)
        return shadow
    finally:
        ledger.close()


def hurried(site: Site) -> bool:
    """Whether a shadow's worker is there; it gets the usual priority, where that may be given, lest the test wait."""
    assert site.service is not None
    children: list[int] = []
    for task in Path(f"/proc/{site.service.pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            children += map(int, task.read_text().split())
    low = [pid for pid in children if _niceness(pid) == 10]
    for pid in low:
        with suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, pid, 0)
    return bool(low)


def _niceness(pid: int) -> int | None:
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except ProcessLookupError:
        return None


@pytest.mark.timeout(1500)
def test_killed_while_it_runs_it_is_compared_once_and_nothing_of_it_is_sent(
    shadowed: Site, phantom_series: Series
) -> None:
    """It runs once the job is reported; SIGKILL to the group in its middle; then its figures stand in the job."""
    site, paths = shadowed, phantom_series(1)
    study = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: hurried(site), seconds=PATIENCE_S, what="the shadow's worker")
    site.kill_group()
    assert site.jobs()[0].state in (State.REPORTED, State.DELIVERED, State.CONFIRMED)
    assert shadow_of(site).state == "PENDING"
    assert list((site.root / "work").iterdir()) == [site.root / "work" / "1"]

    site.start()
    until(lambda: site.states() == [State.CONFIRMED], seconds=PATIENCE_S, what="CONFIRMED")
    until(lambda: hurried(site) or shadow_of(site).state != "PENDING", seconds=PATIENCE_S, what="the worker again")
    until(lambda: shadow_of(site).state != "PENDING", seconds=PATIENCE_S, what="a comparison")
    found = shown(site)
    (shadow,) = found["shadows"]
    assert (shadow["model"], shadow["state"], shadow["code"]) == ("untrained", "COMPARED", None)
    card = json.loads((site.root / "models" / "untrained@1.0.0.json").read_text())
    assert shadow["sha256"] == card["sha256"]
    (volume,) = shadow["volumes"]
    assert volume["liver_rvd"] >= -1
    assert not [key for key in volume if key.endswith("_ml")]
    assert all(isinstance(value, int | float | None) for value in volume.values())
    assert volume["liver_dice"] < 0.9
    assert [event["event"] for event in found["events"]].count("SHADOW_COMPARED") == 1
    assert (found["state"], found["attempts"], found["halt"]) == ("CONFIRMED", 0, None)

    seg, sr = site.results(study)
    assert (len(seg), len(sr)) == (1, 1)
    assert {delivery["object"] for delivery in found["deliveries"]} == {"seg", "sr"}
    outbox = {path.name for path in (site.root / "outbox").rglob("*") if path.is_file()}
    assert outbox == {"seg.dcm", "sr.dcm", "SHA256SUMS", "findings.json"}
    until(lambda: not list((site.root / "work").iterdir()), what="the end of the labels")
    assert site.stop() < 10


@pytest.mark.timeout(1500)
def test_one_that_fails_leaves_the_results_alone(shadowed: Site, phantom_series: Series) -> None:
    """Its weights are damaged while the service runs: its code stands in the job, which is CONFIRMED all the same."""
    site, paths = shadowed, phantom_series(2)
    site.start()
    os.truncate(site.root / "models" / "untrained@1.0.0.safetensors", 1000)
    assert site.send(paths) == len(paths)
    until(lambda: site.states() == [State.CONFIRMED], seconds=PATIENCE_S, what="CONFIRMED")
    until(lambda: hurried(site) or shadow_of(site).state == "FAILED", seconds=PATIENCE_S, what="the shadow's worker")
    until(lambda: shadow_of(site).state == "FAILED", seconds=PATIENCE_S, what="the shadow's failure")
    assert shadow_of(site).code == "MODEL_UNUSABLE"
    assert [(job.halt, job.attempts) for job in site.jobs()] == [(None, 0)]
    assert site.service is not None
    site.service.send_signal(signal.SIGTERM)
    site.service.wait(15)
    again = site.porta("check")
    assert again.returncode == 2
    assert "untrained@1.0.0.safetensors: is no safetensors file, or is cut short" in again.stderr
