"""A backup that was made while the service worked, restored elsewhere after the first host was lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread

from tests.acceptance.conftest import Site, until


def test_a_restore_elsewhere_goes_on_to_one_set_of_results(
    site: Site, phantom_series: Callable[[int], list[Path]]
) -> None:
    """A study is being segmented: backed up, killed, deleted, restored into another root, it has one SEG and one SR."""
    paths = phantom_series(41)
    site.start()
    assert site.send(paths) == len(paths)
    until(lambda: site.jobs()[0].lease is not None, what="the worker")
    made = site.porta("backup", str(site.directory / "backup"))
    assert (made.returncode, made.stderr) == (0, "")
    site.kill_group()
    shutil.rmtree(site.root)

    elsewhere = Site(site.directory / "elsewhere", site.orthanc, site.port, site.dcmsend)
    elsewhere.directory.mkdir()
    restored = elsewhere.porta("restore", str(site.directory / "backup"))
    assert (restored.returncode, restored.stderr) == (0, "")
    assert "0 findings" in restored.stdout
    elsewhere.start()
    try:
        until(lambda: elsewhere.states() == ["CONFIRMED"], what="the results")
        seg, sr = elsewhere.results(str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID))
        assert (len(seg), len(sr)) == (1, 1)
    finally:
        elsewhere.stop()
