"""Storage Commitment Push Model as its SCU (PS3.4 annex J): asked for by N-ACTION, answered by N-EVENT-REPORT.

The report comes on the same association, or on one that the peer opens, soon or days later: whoever listens takes it
(`scp.start`). Each request has a new Transaction UID, by which its report is known.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Signal
from typing import Any, cast
from uuid import uuid4

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from dicom_io.errors import CommitmentRefused, InvalidUID
from dicom_io.files import values
from dicom_io.files.uids import checked_uid
from dicom_io.files.values import DAMAGED
from dicom_io.network.checkpoint import Checkpoint
from dicom_io.network.scu import Remote, associated, read_meta, require, status_of, while_open

COMMITMENT: UID = StorageCommitmentPushModel
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_ACTION = 1

MOST_REFERENCES = 100
"""Objects of one request: its report, about 150 bytes an object, stays far below what a message may have."""

SUCCESS, INVALID_ARGUMENT, PROCESSING_FAILURE = 0x0000, 0x0115, 0x0110
"""Answers to an N-EVENT-REPORT (PS3.7 section 10.1.1.1.8)."""


@dataclass(frozen=True)
class Reference:
    """An object that is to be committed."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Report:
    """What a peer says of a request: for each SOP Instance UID None, or its Failure Reason (0008,1197)."""

    transaction_uid: str
    failures: Mapping[str, int | None]


def read_reference(path: Path) -> Reference:
    """Return the class and the instance that a file is of. Raises NotDicom, FileNotFoundError."""
    file = read_meta(path)
    return Reference(file.sop_class_uid, file.sop_instance_uid)


def new_transaction_uid() -> str:
    """A UID that no other request has, and that nobody guesses."""
    return f"2.25.{uuid4().int}"


def request(
    remote: Remote,
    references: Sequence[Reference],
    *,
    transaction_uid: str,
    calling_ae_title: str,
    timeout_s: float,
    report_s: float,
    reported: Callable[[Report], int],
) -> None:
    """Ask a peer to commit itself to objects that it stored; once it has agreed to, wait `report_s` for its report.

    `reported` is given each report that comes on this association, and returns the status of the answer. Raises
    PeerUnreachable, AssociationRefused, ContextNotAccepted, or CommitmentRefused where the peer does not take the
    request.
    """
    said = Signal()

    def take(event: Event) -> tuple[int, None]:
        status = answer(event, reported)
        said.set()
        return status, None

    wanted = Dataset()
    wanted.TransactionUID = transaction_uid
    wanted.ReferencedSOPSequence = [_item(reference) for reference in references]
    handlers = [(evt.EVT_N_EVENT_REPORT, take)]
    with associated(
        remote, [build_context(COMMITMENT)], calling_ae_title, timeout_s, handlers=cast(Any, handlers)
    ) as assoc:
        require(assoc, COMMITMENT, remote)
        _serve_reports_beside(assoc)
        response, _ = while_open(assoc, remote).send_n_action(
            wanted, REQUEST_ACTION, COMMITMENT, UID(WELL_KNOWN_INSTANCE)
        )
        if (status := status_of(response, remote)) != SUCCESS:
            raise CommitmentRefused(str(remote), status)
        deadline = time.monotonic() + report_s
        while not said.wait(0.05) and assoc.is_established and time.monotonic() < deadline:
            pass


def answer(event: Event, reported: Callable[[Report], int]) -> int:
    """Read the report of an N-EVENT-REPORT, have it taken, and return the status to answer."""
    try:
        report = _report(event.event_information)
    except (InvalidUID, *DAMAGED):
        return INVALID_ARGUMENT
    return reported(report)


def _report(ds: Dataset) -> Report:
    """PS3.4 table J.3-2; the event's type (complete, or failures exist) says nothing that the lists do not."""
    failures: dict[str, int | None] = {}
    for item in values.items(ds, "ReferencedSOPSequence"):
        failures[checked_uid(item.get("ReferencedSOPInstanceUID", ""))] = None
    for item in values.items(ds, "FailedSOPSequence"):
        uid = checked_uid(item.get("ReferencedSOPInstanceUID", ""))
        failures[uid] = int(item.get("FailureReason") or PROCESSING_FAILURE)
    return Report(checked_uid(ds.get("TransactionUID", "")), failures)


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _serve_reports_beside(assoc: Association) -> None:
    """Have a report that comes while an answer is waited for leave the reactor as it is.

    pynetdicom serves it in another thread, and says afterwards that the reactor goes on: who waits for it to be held
    would wait for ever.
    """
    serve = assoc._serve_request

    def serve_and_restore(message: Any, context_id: int) -> None:
        serve(message, context_id)
        cast(Checkpoint, assoc._reactor_checkpoint).say_held()

    assoc._serve_request = serve_and_restore  # type: ignore[method-assign, assignment]
