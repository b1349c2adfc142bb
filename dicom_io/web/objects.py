"""Objects at a DICOMweb service: stored by STOW-RS (PS3.18 section 10.5), and asked for by QIDO-RS (10.6)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from dicom_io.errors import PeerUnreachable, StoreRefused
from dicom_io.pace import Pace
from dicom_io.web.service import WebService, ask, refusal

PIECE = 1 << 18

NOBODY = "2.25.1"
"""The StudyInstanceUID that a service is asked for to see whether it answers us."""

OUT_OF_RESOURCES = 0xA700
WARNING = 0xB000
"""Stored, and something was changed or is odd (PS3.4 table B.2-1)."""

FAILED, FAILURE_REASON = "00081198", "00081197"
REFERENCED, WARNING_REASON = "00081199", "00081196"


def store(service: WebService, path: Path, *, timeout_s: float, pace: Pace | None = None) -> int:
    """Store a file as it is, byte for byte; return 0x0000, or the warning that it was stored with.

    Raises FileNotFoundError, PeerUnreachable, StoreRefused with the Failure Reason that the service gives (PS3.18
    table I.2-2), or WebRefused where it gives none.
    """
    boundary = uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
    }
    try:
        answer = ask(service, "studies", timeout_s=timeout_s, content=_body(head, path, tail, pace), headers=headers)
    except PeerUnreachable:
        _raise_if_refused(service, timeout_s=timeout_s)
        raise
    reason = _number(_first(answer.body, FAILED), FAILURE_REASON)
    if reason is not None:
        raise StoreRefused(reason)
    if answer.status not in (200, 202):
        raise refusal(service, answer)
    warning = _number(_first(answer.body, REFERENCED), WARNING_REASON)
    return warning if warning is not None else (WARNING if answer.status == 202 else 0x0000)


def holds(
    service: WebService,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    timeout_s: float,
) -> bool:
    """Whether the service has the instance. Raises PeerUnreachable, WebRefused."""
    answer = ask(
        service,
        f"studies/{study_instance_uid}/series/{series_instance_uid}/instances",
        parameters={"SOPInstanceUID": sop_instance_uid},
        timeout_s=timeout_s,
    )
    # PS3.18 section 10.6.3: 204 where nothing matches; many services say 404 of a study that they do not have
    if answer.status in (204, 404):
        return False
    if answer.status != 200:
        raise refusal(service, answer)
    # A service that ignores the key answers with its other instances: look at what it names
    found = answer.body if isinstance(answer.body, list) else []
    return any(sop_instance_uid in _values(item, "00080018") for item in found)


def _raise_if_refused(service: WebService, *, timeout_s: float) -> None:
    """Raise WebRefused where the service does not let us in.

    One that says so while we still send, and closes, has its answer lost on the way: a query says it again.
    """
    answer = ask(service, "studies", parameters={"StudyInstanceUID": NOBODY, "limit": "1"}, timeout_s=timeout_s)
    if answer.status in (401, 403, 407):
        raise refusal(service, answer)


def _body(head: bytes, path: Path, tail: bytes, pace: Pace | None) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            if pace is not None:
                pace(len(piece))
            yield piece
    yield tail


def _values(item: Any, tag: str) -> list[Any]:
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _first(body: Any, tag: str) -> Any:
    item = body[0] if isinstance(body, list) and body else body
    return next(iter(_values(item, tag)), None)


def _number(item: Any, tag: str) -> int | None:
    """Return a number of an item; None where there is none."""
    found = next(iter(_values(item, tag)), None)
    return found if isinstance(found, int) and 0 < found <= 0xFFFF else None
