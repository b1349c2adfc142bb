"""The attacks borrow what the service's own tests share: spool, ledger, a clock that is moved, a log that is read.

With PORTA_ATTACK=long (`make attack`) each has its full size, and a table of what was measured is printed at the end.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

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


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table test -> figure."""
    if not IS_LONG:
        return
    terminalreporter.section("attacks")
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    for report in sorted((report for report in reports if report.when == "call"), key=lambda report: report.nodeid):
        figures = ", ".join(f"{name} {value}" for name, value in report.user_properties)
        terminalreporter.line(f"{report.nodeid.removeprefix('tests/')} -> {figures or report.outcome}")
