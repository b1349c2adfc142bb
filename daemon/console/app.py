"""The application: its parts put together, who may reach what, and what an error becomes."""

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from daemon.console import api, pages, probes, reading_api, stow_api, upload_api
from daemon.console.boundary import Boundary
from daemon.console.live import Live
from daemon.console.quality import Quality
from daemon.console.readings import Readings
from daemon.console.state import ConsoleState
from daemon.console.uploads import Uploads
from daemon.console.visits import Door, NotSignedIn
from daemon.errors import BadRequest, DaemonError, LedgerUnavailable, StorageUnusable, UnknownJob, WrongState
from daemon.intake import Intake
from daemon.log import get_logger
from reports.identity import software_version

STATIC = Path(__file__).parent / "static"

STATUS: dict[type[DaemonError], int] = {
    BadRequest: 400,
    UnknownJob: 404,
    WrongState: 409,
    LedgerUnavailable: 503,
    StorageUnusable: 503,
}
"""What an error of ours is answered with; others are 500, without a word of theirs."""

ROUTERS = (probes.router, api.router, upload_api.router, reading_api.router, pages.router)

UPLOADS = (f"{api.PREFIX}/uploads/", f"{api.PREFIX}/rules/test", f"{stow_api.PREFIX}/")

log = get_logger()


def create_app(console: ConsoleState) -> Boundary:
    """Put the console together; without the pages of FastAPI that load scripts from elsewhere."""
    app = FastAPI(
        title="Porta Hepatis",
        version=software_version(),
        description="The console's API. For research use, not a diagnosis.",
        openapi_url=f"{api.PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.console, app.state.door, app.state.quality = console, Door(console), Quality(console)
    app.state.live = Live(console, app.state.quality)
    app.state.streams, app.state.stopping = 0, asyncio.Event()
    app.state.flashes, app.state.uploads = pages.Flashes(), Uploads(console)
    app.state.readings = Readings(console)
    for router in ROUTERS:
        app.include_router(router)
    if console.first.web.stow:
        app.state.stow_intake = Intake(console.spool, console.ledger, console.clock, console.quarantine)
        app.include_router(stow_api.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(DaemonError, _failed)
    app.add_exception_handler(HTTPException, _answered)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(Exception, _unexpected)
    web = console.first.web
    return Boundary(app, origin=web.origin, upload_bytes=web.upload_mb << 20, uploads=UPLOADS)


def _is_api(request: Request) -> bool:
    return request.url.path.startswith((api.PREFIX, stow_api.PREFIX))


async def _not_signed_in(request: Request, error: Exception) -> Response:
    if _is_api(request):
        return JSONResponse({"detail": "nobody is signed in"}, 401)
    return RedirectResponse("/sign-in", 303)


async def _failed(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    if status >= 500:
        log.error("request.failed", error=error, code=str(status))
    detail = str(error) if status < 500 else "the ledger or the storage cannot be used now: see the log"
    return _said(request, status, detail)


async def _answered(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _said(request, error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})  # Allow, of a method that a path does not have
    return answer


async def _not_valid(request: Request, error: Exception) -> Response:
    """Say which part is wrong, and not what it was: a person may have typed a name."""
    assert isinstance(error, RequestValidationError)
    parts = [".".join(map(str, item["loc"])) + f": {item['type']}" for item in error.errors()]
    return _said(request, 400, "; ".join(parts)[:500])


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request.failed", error=error, code="500")
    return _said(request, 500, "something unforeseen happened: see the log")


def _said(request: Request, status: int, detail: str) -> Response:
    if _is_api(request):
        return JSONResponse({"detail": detail}, status)
    return pages.render(request, "problem.html", None, status=status, detail=detail, code=status)
