"""The attacks borrow what the service's own tests share: spool, ledger, a clock that is moved, a log that is read."""

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
