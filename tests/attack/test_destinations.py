"""Two destinations, one of which accepts connections and says nothing: the other one gets everything meanwhile."""

import socket
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread

from daemon.jobs import DeliveryState
from daemon.ledger.store import Ledger
from tests.acceptance.conftest import Site, phantom_series, site, until

__all__ = ["phantom_series", "site"]

SILENT = """
[[peer]]
name = "silent"
ae_title = "SILENT"
host = "127.0.0.1"
port = {port}
[[destination]]
peer = "silent"
timeout_s = 3600
[[rule]]"""


def test_a_silent_destination_beside_a_live_one(
    site: Site, phantom_series: Callable[[int], list[Path]], figure: Callable[[str, object], None]
):
    """It is waited for by itself for an hour; SEG and SR of each study are confirmed by the other."""
    studies = [phantom_series(number) for number in (11, 12)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site.changes = {
            "[[rule]]": SILENT.format(port=silent.getsockname()[1]),
            'destinations = ["orthanc"]': 'destinations = ["silent", "orthanc"]',
        }
        site.start()
        for paths in studies:
            assert site.send(paths) == len(paths)
        ledger = Ledger(f"sqlite:///{site.root / 'ledger.sqlite'}")

        def confirmed() -> int:
            deliveries = [each for job in ledger.all_jobs() for each in ledger.deliveries_of(job.id)]
            return sum((each.destination, each.state) == ("orthanc", DeliveryState.CONFIRMED) for each in deliveries)

        until(lambda: confirmed() == 4, what="four objects at the live one")
        figure("objects confirmed by the live one", confirmed())
        ledger.close()
        assert "destination.awaited" not in site.log
        for paths in studies:
            seg, sr = site.results(str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID), paths[0].stem)
            assert (len(seg), len(sr)) == (1, 1)
