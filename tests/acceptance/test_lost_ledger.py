"""A ledger that is deleted under the running service: nothing acknowledged is lost, and no result is doubled."""

import json
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread

from tests.acceptance.conftest import Site, until


def test_a_ledger_that_is_deleted_is_noticed_refused_and_made_anew(
    site: Site, phantom_series: Callable[[int], list[Path]]
) -> None:
    """The archive has the results of before once, as they were, and those of what came later."""
    first, second = phantom_series(31), phantom_series(32)
    studies = [str(dcmread(paths[0]).StudyInstanceUID) for paths in (first, second)]
    site.start()
    assert site.send(first) == len(first)
    until(lambda: site.states() == ["CONFIRMED"], what="the results")
    before = [[path.read_bytes() for path in paths] for paths in site.results(studies[0], "before")]
    assert list(map(len, before)) == [1, 1]

    for path in site.root.glob("ledger.sqlite*"):
        path.unlink()
    assert site.send(second) == 0
    until(lambda: "ledger.lost" in site.log, seconds=30, what="the line in the log")
    assert site.stop() < 10

    refused = site.porta("run")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "porta ledger rebuild" in line
    rebuilt = site.porta("ledger", "rebuild")
    assert (rebuilt.returncode, rebuilt.stderr) == (0, "")

    site.start()
    assert site.send(second) == len(second)
    until(lambda: site.states() == ["CONFIRMED"] * 2, what="the results of both")
    after = [[path.read_bytes() for path in paths] for paths in site.results(studies[0], "after")]
    assert after == before
    assert list(map(len, site.results(studies[1]))) == [1, 1]
    verified = site.porta("verify", "--json")
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["instances"] == len(first) + len(second)
