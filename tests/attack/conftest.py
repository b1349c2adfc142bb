"""The attacks borrow what the service's own tests share: spool, ledger, a clock that is moved, a log that is read.

With PORTA_ATTACK=long (`make attack`) each has its full size, and a table of what was measured is printed at the end.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from daemon.configuration.config import Config, Dicom
from daemon.intake import Intake
from daemon.ledger.store import Ledger
from daemon.receiver import Receiver
from daemon.storage.spool import Spool
from dicom_io.network.scu import Remote
from tests.daemon.conftest import (
    assert_no_canary,
    clock,
    empty_ledger,
    ledger,
    make_config,
    make_ct,
    make_instance,
    read_log,
    spool,
    until,
)

__all__ = [
    "assert_no_canary",
    "clock",
    "empty_ledger",
    "ledger",
    "make_config",
    "make_ct",
    "make_instance",
    "read_log",
    "spool",
    "until",
]

IS_LONG = os.environ.get("PORTA_ATTACK") == "long"

Size = TypeVar("Size")


@pytest.fixture(scope="session")
def sized() -> Callable[[Size, Size], Size]:
    """`sized(20, 5000)` is how much an attack does: the first with the other tests, the second in its long form."""
    return lambda short, long: long if IS_LONG else short


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """`figure("answers lost", 0)` writes down what a test measured, for the table of `make attack`."""
    return record_property


@pytest.fixture
def porta(
    make_config: Callable[..., Config], spool: Spool, ledger: Ledger, free_port: Callable[[], int]
) -> Iterator[Remote]:
    """A receiver that takes as many associations as come."""
    port = free_port()
    dicom = Dicom(ae_title="PORTA", host="127.0.0.1", port=port, network_timeout_s=20, maximum_associations=2000)
    config = make_config(dicom=dicom)
    receiver = Receiver(config, Intake(spool, ledger), ledger)
    receiver.start()
    yield Remote("PORTA", "127.0.0.1", port)
    receiver.stop(5)


@pytest.fixture
def images(make_ct: Callable[..., bytes], tmp_path: Path) -> list[Path]:
    """Two small images."""
    paths = [tmp_path / f"{index}.dcm" for index in (1, 2)]
    for index, path in enumerate(paths, start=1):
        path.write_bytes(make_ct("stream", index))
    return paths


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table test -> figure."""
    if not IS_LONG:
        return
    terminalreporter.section("attacks")
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    # Some figures are known when the attack is over: those of a fixture
    ends = (report for report in terminalreporter.stats.get("", ()) if report.when == "teardown")
    measured = {report.nodeid: report.user_properties for report in ends}
    for report in sorted((report for report in reports if report.when == "call"), key=lambda report: report.nodeid):
        figures = ", ".join(f"{name} {value}" for name, value in measured.get(report.nodeid, report.user_properties))
        terminalreporter.line(f"{report.nodeid.removeprefix('tests/')} -> {figures or report.outcome}")
