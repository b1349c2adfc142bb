"""STOW-RS into Porta (PS3.18 section 10.5): instances over HTTPS go the way of C-STORE, with the same promise.

Each part is written as it comes, and the answer says of each instance what a C-STORE would have been answered: with
success once it is durable and its row committed. Who sends is told by a token that the peer alone has.
"""

import asyncio
import hmac
from base64 import b64decode
from binascii import Error as NotBase64
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydicom import dcmread
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from daemon.configuration.peers import Peer
from daemon.console.state import ConsoleState
from daemon.console.upload_api import pieces_of
from daemon.errors import BadRequest, StorageUnusable
from daemon.intake import STATUS, Intake, Verdict
from daemon.log import get_logger
from daemon.storage.incoming import Part
from dicom_io.errors import PeerUnreachable
from dicom_io.files import values
from dicom_io.files.values import DAMAGED

PREFIX = "/dicom-web"

SUCCESS, NO_MATCH = 0x0000, 0xA900

JSON, DICOM = "application/dicom+json", b"application/dicom"

PIECE = 1 << 20

GUESS_S = 1.0
"""How long a wrong token waits for its answer."""

router = APIRouter(prefix=PREFIX, include_in_schema=False)

log = get_logger()


@router.post("/studies")
async def store(request: Request) -> Response:
    """Take instances of any study in."""
    return await _store(request, None)


@router.post("/studies/{study_instance_uid}")
async def store_in_study(request: Request, study_instance_uid: str) -> Response:
    """Take instances of one study in; others are refused."""
    return await _store(request, study_instance_uid)


async def _store(request: Request, study_instance_uid: str | None) -> Response:
    console: ConsoleState = request.app.state.console
    peer = await run_in_threadpool(_peer_of, console, request.headers.get("authorization", ""))
    if peer is None:
        await asyncio.sleep(GUESS_S)
        return Response(status_code=401, headers={"WWW-Authenticate": 'Bearer realm="DICOMweb"'})
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    is_dicom = kind == b"multipart/related" and options.get(b"type", DICOM) == DICOM
    if not (is_dicom and boundary):
        return Response(status_code=415)
    delivery = _Delivery(console, request.app.state.stow_intake, peer, study_instance_uid)
    parser = MultipartParser(boundary, delivery.callbacks())
    is_whole = False
    try:
        async for piece in pieces_of(request):
            await run_in_threadpool(parser.write, piece)
        parser.finalize()
        if delivery.is_within_a_part:
            raise BadRequest("the body was cut short")
        is_whole = True
    except MultipartParseError:
        raise BadRequest("the body is no multipart/related") from None
    finally:
        await run_in_threadpool(partial(delivery.end, is_whole=is_whole))
    log.info("stow.received", peer=peer.name, instances=len(delivery.stored), missing=len(delivery.failed))
    return JSONResponse(delivery.answer(), delivery.status(), media_type=JSON)


def _peer_of(console: ConsoleState, authorization: str) -> Peer | None:
    """Return the peer whose token this is, as a bearer token or as the password of basic authentication."""
    scheme, _, said = authorization.partition(" ")
    if scheme.lower() == "basic":
        with suppress(NotBase64, UnicodeDecodeError):
            said = b64decode(said.strip(), validate=True).decode().partition(":")[2]
    elif scheme.lower() != "bearer":
        return None
    found = None
    for peer in console.config.peers:
        if (secret := peer.stow_secret) is None or not (peer.accept and peer.store):
            continue
        with suppress(PeerUnreachable):  # a token that is not there lets nobody in
            if hmac.compare_digest(secret.read().encode(), said.strip().encode()):
                found = peer
    return found


@dataclass
class _Delivery:
    """What one request brings, part by part; its methods are called by one thread at a time."""

    console: ConsoleState
    intake: Intake
    peer: Peer
    study_instance_uid: str | None
    stored: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    series: set[str] = field(default_factory=set)
    _part: Part | None = None
    _waiting: bytearray = field(default_factory=bytearray)

    @property
    def is_within_a_part(self) -> bool:
        """True where a part began, and has not come to its end."""
        return self._part is not None

    def callbacks(self) -> Any:
        """The functions that the parser calls."""
        return {"on_part_begin": self._begin, "on_part_data": self._write, "on_part_end": self._end}

    def end(self, *, is_whole: bool) -> None:
        """Say that no more of these series comes in this request, or that it broke off or failed in part.

        A part that did not come to its end is forgotten.
        """
        if self._part is not None:
            self._part.discard()
            self._part = None
        if self.failed or not is_whole:
            self.console.ledger.hold_series(sorted(self.series), calling_ae_title=self.peer.ae_title)
        elif self.series:
            self.console.ledger.release_series(sorted(self.series), now=self.console.clock())

    def status(self) -> int:
        """The HTTP status (PS3.18 table 10.5.3-1); 503 where there was no room for any of it."""
        if not self.failed:
            return 200 if self.stored else 400
        if self.stored:
            return 202
        return 503 if all(_reason(item) == STATUS[Verdict.NO_ROOM] for item in self.failed) else 409

    def answer(self) -> dict[str, Any]:
        """The Store Instances Response (PS3.18 section I.2.2)."""
        lists = {"00081199": self.stored, "00081198": self.failed}
        return {tag: {"vr": "SQ", "Value": items} for tag, items in lists.items() if items}

    def _begin(self) -> None:
        self._part = self.intake.begin()
        self._waiting.clear()

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._part is None:
            return
        self._waiting += data[start:end]
        most_mb = self.peer.maximum_instance_mb or self.console.first.dicom.maximum_instance_mb
        if self._part.bytes + len(self._waiting) > most_mb << 20:
            raise BadRequest("an instance is larger than maximum_instance_mb")
        if len(self._waiting) >= PIECE:
            self._flush(self._part)

    def _flush(self, part: Part) -> None:
        if self._waiting:
            part.write(bytes(self._waiting))
            self._waiting.clear()

    def _end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        with part:
            self._flush(part)
            sop_class_uid, sop_instance_uid, study = _uids(part)
            if self.study_instance_uid not in (None, study):
                status, series = NO_MATCH, None
            elif not self.console.allowance.takes(self.peer.ae_title, part.bytes):
                status, series = STATUS[Verdict.NO_ROOM], None
            else:
                accepted = self.intake.take(part, calling_ae_title=self.peer.ae_title)
                status, series = STATUS[accepted.verdict], accepted.series_instance_uid
        named = {"00081150": sop_class_uid, "00081155": sop_instance_uid}
        item: dict[str, Any] = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in named.items()}
        if status == SUCCESS:
            self.stored.append(item)
            self.series.update(filter(None, [series]))
        else:
            self.failed.append(item | {"00081197": {"vr": "US", "Value": [status]}})


def _uids(part: Part) -> tuple[str, str, str]:
    """Return SOP Class, SOP Instance and StudyInstanceUID of what came, "" where it cannot be read."""
    keywords = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
    try:
        part.finish()
        ds = dcmread(part.path, specific_tags=list(keywords), stop_before_pixels=True)
    except (*DAMAGED, OSError, StorageUnusable):
        return "", "", ""
    sop_class_uid, sop_instance_uid, study_instance_uid = (values.uid(ds, keyword) for keyword in keywords)
    return sop_class_uid, sop_instance_uid, study_instance_uid


def _reason(item: dict[str, Any]) -> int:
    return int(item["00081197"]["Value"][0])
