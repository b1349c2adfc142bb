"""No answer that came is lost: pynetdicom's reactor takes none that a call of ours waits for."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification

from dicom_io.errors import PeerError
from dicom_io.files.uids import derive_uid
from dicom_io.network.scu import FIND, Remote, associated, matches, status_of

SOP_CLASSES = (CTImageStorage, FIND, Verification, StorageCommitmentPushModel)
THREADS, PER_ASSOCIATION = 4, 25


@pytest.fixture
def peer() -> Iterator[Remote]:
    """A peer in a process of its own that answers everything."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("answering_peer.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Remote("PEER", "127.0.0.1", int(process.stdout.readline()))
        process.stdin.close()


def store(assoc: Association, remote: Remote) -> int:
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = derive_uid("instance", 1)
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return status_of(assoc.send_c_store(ds), remote)


def find(assoc: Association, remote: Remote) -> int:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    return 0x0000 if len(matches(assoc, query, remote)) == 2 else 0xC000


def echo(assoc: Association, remote: Remote) -> int:
    return status_of(assoc.send_c_echo(), remote)


def act(assoc: Association, remote: Remote) -> int:
    ds = Dataset()
    ds.TransactionUID = derive_uid("transaction", 1)
    status, _ = assoc.send_n_action(ds, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    return status_of(status, remote)


SERVICES = {"C-STORE": store, "C-FIND": find, "C-ECHO": echo, "N-ACTION": act}


def converse(peer: Remote, names: list[str], *, timeout_s: float) -> None:
    """Ask one thing after the other over one association. Raises PeerError at the first answer that is missing."""
    contexts = [build_context(sop_class, ExplicitVRLittleEndian) for sop_class in SOP_CLASSES]
    with associated(peer, contexts, "PORTA", timeout_s) as assoc:
        for name in names:
            assert SERVICES[name](assoc, peer) == 0x0000
    assert assoc.is_released


@pytest.fixture
def slow_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What load does now and then, always: once a reactor has passed its checkpoint it needs 50 ms to say so.

    Meanwhile a call sends its request, and needs 100 ms more until it waits for the answer.
    """
    said: dict[int, bool] = {}
    send = DIMSEServiceProvider.send_msg

    def say(assoc: Association, is_paused: bool) -> None:
        if not is_paused and threading.current_thread() is assoc:
            time.sleep(0.05)
        said[id(assoc)] = is_paused

    def send_and_lag(dimse: DIMSEServiceProvider, primitive: Any, context_id: int) -> None:
        send(dimse, primitive, context_id)
        time.sleep(0.1)

    monkeypatch.setattr(Association, "_is_paused", property(lambda assoc: said[id(assoc)], say), raising=False)
    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_and_lag)


@pytest.mark.usefixtures("slow_threads")
@pytest.mark.parametrize("name", SERVICES)
def test_a_reactor_that_lags(peer: Remote, name: str):
    """Each answer comes to the call that waits for it."""
    converse(peer, [name] * 3, timeout_s=2)


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Processes that only compute."""
    with ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


def test_many_messages(peer: Remote, sized: Callable[[Any, Any], Any], figure: Callable[[str, object], None]):
    """Several threads with an association each, under load: every message is answered."""
    wanted = sized(400, 100_000)
    lost: Counter[str] = Counter()
    names = (list(SERVICES) * PER_ASSOCIATION)[:PER_ASSOCIATION]

    def send() -> None:
        for _ in range(wanted // (THREADS * PER_ASSOCIATION)):
            try:
                converse(peer, names, timeout_s=20)
            except (PeerError, AssertionError) as error:
                lost[type(error).__name__] += 1

    started = time.monotonic()
    with load(sized(0, 2)):
        threads = [threading.Thread(target=send) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    figure("messages", wanted)
    figure("answers lost", lost.total())
    figure("messages a second", round(wanted / (time.monotonic() - started)))
    assert not lost
