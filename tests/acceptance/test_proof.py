"""A real Orthanc sends, and is asked what it has: nobody waits for quiet."""

import base64
import json
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread

from dicom_io.network import scu
from tests.acceptance.conftest import Site, until

QUIET = """\
[series]
quiet_s = 120
released_quiet_s = 100
"""


def start_asking(site: Site) -> None:
    """The service with a peer that may be asked, and times that nobody would wait for."""
    text = site.config.read_text().replace("accept = true", "accept = true\nquery = true", 1)
    head, _, tail = text.partition("[series]")
    config = site.directory / "asking.toml"
    config.write_text(head + QUIET + tail[tail.index("[log]") :])
    with (site.directory / "porta.log").open("ab") as output:
        site.service = subprocess.Popen(
            [sys.executable, "-m", "daemon.commands.cli", "run", "-c", str(config)],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until(site.answers, seconds=120)


def send_from_orthanc(site: Site, paths: list[Path]) -> None:
    """Put files into Orthanc, and have it send them to Porta, as an autorouting script does."""
    remote = scu.Remote("ORTHANC", "127.0.0.1", site.orthanc.port)
    scu.store(remote, paths, calling_ae_title="MODALITY", timeout_s=30)
    orthanc(site, "/modalities/porta/store", orthanc(site, "/series", None))


def orthanc(site: Site, path: str, body: object) -> Any:
    token = base64.b64encode(f"porta:{site.orthanc._password}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.orthanc._http_port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def events(site: Site, name: str) -> list[dict[str, Any]]:
    """The lines of the service's log with this event; `at` is their time in seconds since 1970."""
    found = [json.loads(line) for line in site.log.splitlines() if line.startswith("{")]
    return [
        line | {"at": datetime.fromisoformat(line["timestamp"]).timestamp()} for line in found if line["event"] == name
    ]


def last_received(site: Site) -> float:
    with sqlite3.connect(f"file:{site.root / 'ledger.sqlite'}?mode=ro", uri=True) as connection:
        return float(connection.execute("SELECT max(received_at) FROM instances").fetchone()[0])


def test_results_start_at_once_when_the_count_agrees(
    site: Site, phantom_series: Callable[[int], list[Path]], record_property: Any
) -> None:
    """Orthanc is the calling peer and is asked by C-FIND: proved, chosen, and in the worker's hands."""
    start_asking(site)
    until(lambda: "worker.started" in site.log)
    paths = phantom_series(0)
    send_from_orthanc(site, paths)
    until(lambda: [line for line in events(site, "stage.finished") if line["from_state"] == "RECEIVED"], seconds=300)
    (closed,) = events(site, "series.closed")
    assert (closed["code"], closed["instances"], closed["missing"]) == ("PROVED", len(paths), 0)
    (chosen,) = events(site, "job.chosen")
    (segmented,) = events(site, "stage.finished")[:1]
    last = last_received(site)
    seconds = {
        "closed": closed["at"] - last,
        "chosen": chosen["at"] - last,
        "started": segmented["at"] - segmented["duration_s"] - last,
    }
    record_property("seconds_after_the_last_instance", seconds)
    assert seconds["started"] < 100, "it waited for quiet"


def test_what_orthanc_has_and_porta_has_not_is_waited_for(
    site: Site, phantom_series: Callable[[int], list[Path]]
) -> None:
    """All but three slices come; the series stays open, and the last of the three closes it."""
    start_asking(site)
    paths = phantom_series(0)
    remote = scu.Remote("ORTHANC", "127.0.0.1", site.orthanc.port)
    scu.store(remote, paths, calling_ae_title="MODALITY", timeout_s=30)
    wanted = {str(dcmread(path).SOPInstanceUID) for path in paths[:-3]}
    everything = {
        orthanc(site, f"/instances/{item}", None)["MainDicomTags"]["SOPInstanceUID"]: item
        for item in orthanc(site, "/instances", None)
    }
    orthanc(site, "/modalities/porta/store", [item for uid, item in everything.items() if uid in wanted])
    until(lambda: [line for line in events(site, "series.awaited") if line["missing"] == 3])
    assert site.states() == ["RECEIVING"]
    orthanc(site, "/modalities/porta/store", [item for uid, item in everything.items() if uid not in wanted])
    until(lambda: events(site, "series.closed"), seconds=60)
    assert [line["code"] for line in events(site, "series.closed")] == ["PROVED"]
