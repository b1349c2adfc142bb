"""The API of what is read: volumes of a job, their slices and labels as bytes, findings, and the objects themselves."""

import zlib
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import FileResponse

from daemon.console.api import ANSWERS, PREFIX, JobId
from daemon.console.readings import Reading, Readings
from daemon.console.visits import SignedIn, console_of

router = APIRouter(prefix=f"{PREFIX}/jobs/{{job_id}}", tags=["reading"])

Number = Annotated[int, Path(ge=0, le=100_000)]
BYTES: dict[int | str, dict[str, Any]] = {
    **ANSWERS,
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
}


def _reading(request: Request, job_id: int, volume: int) -> Reading:
    readings: Readings = request.app.state.readings
    return readings.of(job_id, volume)


def _packed(content: bytes) -> Response:
    packer = zlib.compressobj(1, wbits=31)
    packed = packer.compress(content) + packer.flush()
    # Private, and for as long as a page is read: slices of a revision never change
    headers = {"content-encoding": "gzip", "cache-control": "private, max-age=600"}
    return Response(packed, media_type="application/octet-stream", headers=headers)


@router.get("/volumes", responses=ANSWERS)
def volumes(request: Request, visit: SignedIn, job_id: JobId) -> list[int]:
    """List the volumes of a job that have results."""
    readings: Readings = request.app.state.readings
    return readings.volumes(job_id)


@router.get("/volumes/{volume}", responses=ANSWERS)
def volume(request: Request, visit: SignedIn, job_id: JobId, volume: Number) -> dict[str, Any]:
    """Describe a volume: shape, spacing, segments, and the findings with each lesion's place in it."""
    return _reading(request, job_id, volume).description()


@router.get("/volumes/{volume}/slices/{index}", responses=BYTES, response_class=Response)
def slice_values(request: Request, visit: SignedIn, job_id: JobId, volume: Number, index: Number) -> Response:
    """Give the values of a slice, HU or signal: rows x columns, int16, little endian."""
    reading = _reading(request, job_id, volume)
    if index >= reading.stack.geometry.slices:
        raise HTTPException(404, "there is no such slice")
    return _packed(reading.slice_values(index).tobytes())


@router.get("/volumes/{volume}/labels/{index}", responses=BYTES, response_class=Response)
def slice_labels(request: Request, visit: SignedIn, job_id: JobId, volume: Number, index: Number) -> Response:
    """Give the numbers of the segments on a slice: rows x columns, uint8; 0 is none."""
    reading = _reading(request, job_id, volume)
    if index >= reading.stack.geometry.slices:
        raise HTTPException(404, "there is no such slice")
    return _packed(reading.labels[index].tobytes())


@router.get("/objects/{delivery}", responses=BYTES, response_class=FileResponse)
def result_object(request: Request, visit: SignedIn, job_id: JobId, delivery: Number) -> FileResponse:
    """Give an object of a job as it was sent: the first delivery is number 0."""
    console = console_of(request)
    console.ledger.job(job_id)
    sent = console.ledger.deliveries_of(job_id)
    if delivery >= len(sent) or not (console.spool.root / sent[delivery].path).is_file():
        raise HTTPException(404, "there is no such object")
    name = f"{sent[delivery].sop_instance_uid}.dcm"
    return FileResponse(console.spool.root / sent[delivery].path, media_type="application/dicom", filename=name)
