"""The errors of the service keep their data on the way between processes."""

import pickle

import pytest

from daemon import errors

EVERY = [
    errors.ConfigurationError(["porta.toml:1: a", "porta.toml:2: b"]),
    errors.StorageUnusable("/srv/porta is read-only"),
    errors.LedgerUnavailable("no answer"),
    errors.LedgerLost("ledger.sqlite"),
    errors.FileDamaged("spool/1.2/1.dcm"),
    errors.WorkDamaged("work/1/0/labels.npz"),
    errors.UnknownJob(3),
    errors.RuleGone("liver-ct"),
    errors.WrongState(3, "RECEIVED", "retry"),
    errors.EvaluationStopped("the same command goes on"),
    errors.WorkerFailed("no result"),
    errors.WorkerCrashed("exit code -9"),
    errors.WorkerTimedOut("1800 s"),
    errors.WorkerOutOfMemory("9 GB"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_an_error_travels_between_processes(error: errors.DaemonError):
    """The worker raises it, the service reads it: the type, the sentence and the data are the same."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_the_tree_is_drawn_in_the_docstring():
    """Each error of the module stands in its picture."""
    drawn = errors.__doc__ or ""
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.DaemonError):
            assert name in drawn
