"""The API of what is brought: uploads, and files that rules are tried with; and `porta check`."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from daemon.administration.checkup import checks
from daemon.administration.rule_trials import trials_of_files
from daemon.administration.submission import SUBMIT
from daemon.console.api import ANSWERS, PREFIX
from daemon.console.uploads import Uploads, unpack
from daemon.console.visits import Operator, console_of
from daemon.errors import BadRequest
from daemon.ledger.accounts import Entry
from daemon.ledger.searches import JobFilter
from dicom_io.errors import NotDicom

SILENT_S = 60.0
"""A browser that sends nothing for this long has gone."""

router = APIRouter(prefix=PREFIX, tags=["uploads"])

BYTES = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


async def pieces_of(request: Request) -> AsyncIterator[bytes]:
    """The body, piece by piece. Raises BadRequest where it stops coming."""
    stream = request.stream().__aiter__()
    while True:
        try:
            piece = await asyncio.wait_for(stream.__anext__(), SILENT_S)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BadRequest("nothing came for a minute") from None
        yield piece


@router.post("/uploads/file", responses=ANSWERS, openapi_extra=BYTES)
async def upload(
    request: Request, visit: Operator, modality: Annotated[Literal["CT", "MR"], Query()] = "CT"
) -> dict[str, Any]:
    """Take one file in, as its bytes: a DICOM file, a zip of them, or a NIfTI of the given modality."""
    uploads: Uploads = request.app.state.uploads
    taken = await uploads.take(pieces_of(request), modality=modality, session=visit.digest)
    return {"kind": taken.kind, "verdicts": dict(taken.verdicts), "series": sorted(taken.series)}


@router.post("/uploads/finished", responses=ANSWERS)
def finished(request: Request, visit: Operator) -> list[dict[str, str]]:
    """Say that all has been sent: the series need not be waited for any longer. Returns them with their studies."""
    console = console_of(request)
    uploads: Uploads = request.app.state.uploads
    found = []
    for uid in uploads.finish(visit.digest):
        for job in console.desk.jobs(JobFilter(series_instance_uid=uid, only_last=True), limit=1):
            found.append({"series_instance_uid": uid, "study_instance_uid": job.study_instance_uid})
            entry = Entry(console.clock(), visit.user.name, "UPLOAD", visit.host, "DONE", job.id)
            console.accounts.note(entry)
    return found


@router.post("/rules/test", responses=ANSWERS, openapi_extra=BYTES)
async def test_rules(
    request: Request,
    visit: Operator,
    calling_ae_title: Annotated[str, Query(max_length=16, pattern=r"^[ -\[\]-~]*$")] = SUBMIT,
) -> dict[str, Any]:
    """Say which rule each series of a DICOM file or zip takes, and why not each other one; nothing is kept or sent."""
    console = console_of(request)
    unreadable: list[str] = []
    with tempfile.TemporaryDirectory(prefix="porta-rules-") as folder:
        file, inside = Path(folder) / "file", Path(folder) / "inside"
        inside.mkdir()
        with file.open("wb") as target:
            async for piece in pieces_of(request):
                await run_in_threadpool(target.write, piece)

        def try_all() -> list[dict[str, Any]]:
            with file.open("rb") as opened:
                is_archive = opened.read(2) == b"PK"
            paths = unpack(file, inside, console.first.web.upload_mb << 20) if is_archive else [file]
            try:
                found = trials_of_files(
                    console.config, paths, calling_ae_title, warn=lambda line: unreadable.append(line)
                )
                return [asdict(trial) for trial in found]
            except NotDicom:
                raise BadRequest("no DICOM file") from None

        trials = await run_in_threadpool(try_all)
    return {"trials": trials, "unreadable": len(unreadable)}


@router.post("/check", responses=ANSWERS)
def check(request: Request, visit: Operator) -> list[dict[str, Any]]:
    """Look at all that must be right, as `porta check` does; peers are asked, which may take a while."""
    console = console_of(request)
    console.accounts.note(Entry(console.clock(), visit.user.name, "CHECK", visit.host))
    return [asdict(item) for item in checks(console.config)]
