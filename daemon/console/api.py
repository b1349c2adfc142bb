"""The JSON API: what the pages show, for scripts. Keys are only ever added; times are ISO 8601 UTC.

A change needs the header `X-CSRF-Token`, which `POST /api/v1/session` gives along with the cookie.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from daemon.administration.absences import LATELY_S, refusal_sentence
from daemon.administration.enquiry import answers
from daemon.administration.interventions import Stalled
from daemon.administration.records import iso, job_json
from daemon.console import actions, visits
from daemon.console.patients import patient_of
from daemon.console.state import ConsoleState
from daemon.console.visits import Admin, Operator, SignedIn, console_of
from daemon.jobs import State
from daemon.ledger.overview import Overview
from daemon.ledger.searches import JobFilter

PREFIX = "/api/v1"
MOST_JOBS = 500
STREAM_S = 600.0
STREAMS = 100

router = APIRouter(prefix=PREFIX, tags=["console"])

JobId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Uid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]
ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request cannot be understood, with the reason"},
    401: {"description": "Nobody is signed in"},
    403: {"description": "The role does not allow it, or no page of ours asked for it"},
    404: {"description": "There is no such job or study"},
    413: {"description": "More than may be sent"},
}


class Strict(BaseModel):
    """What is sent: without unknown keys, and nothing is taken for what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Credentials(Strict):
    """A name and its password."""

    name: str = Field(max_length=64)
    password: str = Field(max_length=256)


class Session(BaseModel):
    """Who is signed in; `csrf` goes into the header of each change."""

    name: str
    role: str
    csrf: str


class Search(Strict):
    """A study is looked for by this: sent in the body, so that it stands in no address."""

    value: str = Field(max_length=128, pattern=r"^[^*?\\]*[^\s*?\\][^*?\\]*$")


class Which(Strict):
    """Jobs that stand still or wait: by reason, by destination, or all of them."""

    reason: str | None = Field(default=None, max_length=64)
    destination: str | None = Field(default=None, max_length=64)
    all: bool = False


class Target(Strict):
    """Where results are sent again; everywhere where they went, without one."""

    destination: str | None = Field(default=None, max_length=64)


class Outcome(BaseModel):
    """What came of a change, in the words of the command."""

    done: bool
    lines: list[str]


@router.post("/session", responses=ANSWERS)
def sign_in(request: Request, response: Response, given: Credentials) -> Session:
    """Sign in: sets the cookie. 401 for a wrong name or password, or while either is locked."""
    console = console_of(request)
    visits.refuse_other_sites(request, console)
    token = request.app.state.door.sign_in(given.name, given.password, visits.host_of(request))
    if token is None:
        raise HTTPException(401, "wrong name or password, or locked for now")
    set_cookie(response, console, token)
    user = console.accounts.user(given.name)
    return Session(name=given.name, role=user.role if user else "", csrf=visits.form_token(token))


@router.get("/quality", responses=ANSWERS)
def quality(request: Request, visit: SignedIn) -> dict[str, Any]:
    """Tell how good the results are: groups by model, scanner and rule, what drifts, and the latest corrections."""
    found: dict[str, Any] = request.app.state.quality.latest()
    return found


@router.get("/session", responses=ANSWERS)
def who(visit: SignedIn) -> Session:
    """Say who is signed in."""
    return Session(name=visit.user.name, role=visit.user.role, csrf=visit.form_token)


@router.delete("/session", status_code=204, responses=ANSWERS)
def sign_out(request: Request, visit: SignedIn) -> None:
    """Sign out."""
    request.app.state.door.sign_out(visit)


def set_cookie(response: Response, console: ConsoleState, token: str) -> None:
    """Give the browser its token, where no script reads it and no other site's request carries it."""
    response.set_cookie(
        visits.cookie_name(console),
        token,
        max_age=int(3600 * console.first.web.session_hours),
        httponly=True,
        secure=visits.is_secure(console),
        samesite="strict",
        path="/",
    )


@router.post("/studies/search", responses=ANSWERS)
def search(request: Request, visit: SignedIn, given: Search) -> dict[str, Any]:
    """Find studies as `porta study` does, by a UID, an accession number or a PatientID; archives are asked too."""
    return find(console_of(request), given.value)


@router.get("/studies/{study_instance_uid}", responses=ANSWERS)
def study(request: Request, visit: SignedIn, study_instance_uid: Uid) -> dict[str, Any]:
    """Say what has become of a study, and what to do."""
    console = console_of(request)
    found: list[dict[str, Any]] = find(console, study_instance_uid)["answers"]
    return found[0]


@router.get("/studies/{study_instance_uid}/patient", responses=ANSWERS)
def patient(request: Request, visit: SignedIn, study_instance_uid: Uid) -> dict[str, str]:
    """Say who a study is of, as its files have it."""
    console = console_of(request)
    jobs = console.desk.jobs(JobFilter(study_instance_uid=study_instance_uid, only_last=True), limit=1)
    if not jobs:
        raise HTTPException(404, "there is no such study")
    return asdict(patient_of(console, jobs[0].series_instance_uid))


def find(console: ConsoleState, value: str) -> dict[str, Any]:
    """What `porta study` says of a value; `unasked` are the archives that did not answer. Raises BadRequest."""
    unasked: list[str] = []
    found = answers(console.config, value, now=console.clock(), warn=unasked.append)
    kept = [{key: item for key, item in answer.items() if key != "lines"} for answer in found]
    return {"answers": kept, "unasked": [line.removeprefix("porta: ") for line in unasked]}


@router.get("/jobs", responses=ANSWERS)
def jobs(
    request: Request,
    visit: SignedIn,
    state: Annotated[list[State | Literal["HALTED"]] | None, Query(max_length=20)] = None,
    rule: Annotated[str | None, Query(max_length=64)] = None,
    destination: Annotated[str | None, Query(max_length=64)] = None,
    reason: Annotated[str | None, Query(max_length=64)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_JOBS)] = 50,
) -> list[dict[str, Any]]:
    """List jobs, the newest first; `before` an id for the next page."""
    wanted = JobFilter(states=tuple(state or ()), rule=rule, destination=destination, reason=reason, before=before)
    return listed(console_of(request), wanted, limit)


def listed(console: ConsoleState, wanted: JobFilter, limit: int) -> list[dict[str, Any]]:
    """Jobs as scripts read them, without their shadows."""
    desk = console.desk
    found = desk.jobs(wanted, limit=limit)
    deliveries, histories = desk.deliveries(found), desk.histories(found)
    return [job_json(job, deliveries[job.id], [], histories[job.id]) for job in found]


@router.get("/jobs/{job_id}", responses=ANSWERS)
def job(request: Request, visit: SignedIn, job_id: JobId) -> dict[str, Any]:
    """Show one job with its deliveries, its shadows and its history."""
    desk = console_of(request).desk
    found = [desk.ledger.job(job_id)]
    history = desk.histories(found)[job_id]
    content = job_json(found[0], desk.deliveries(found)[job_id], desk.shadows(found)[job_id], history)
    keys = ("event", "from_state", "to_state", "code")
    content["events"] = [{key: getattr(item, key) for key in keys} | {"at": iso(item.at)} for item in history]
    return content


@router.post("/jobs/{job_id}/retry", responses=ANSWERS)
def retry_job(request: Request, visit: Operator, job_id: JobId) -> Outcome:
    """Have a job go on that stands still or waits."""
    return outcome(actions.retry(console_of(request), visit, Stalled(ids=(job_id,))))


@router.post("/jobs/{job_id}/rerun", responses=ANSWERS)
def rerun_job(request: Request, visit: Operator, job_id: JobId) -> Outcome:
    """Match the series of a job by today's rules and process it again."""
    return outcome(actions.rerun(console_of(request), visit, JobFilter(ids=(job_id,))))


@router.post("/jobs/{job_id}/cancel", responses=ANSWERS)
def cancel_job(request: Request, visit: Operator, job_id: JobId) -> Outcome:
    """End a job."""
    return outcome(actions.cancel(console_of(request), visit, job_id))


@router.post("/jobs/{job_id}/send", responses=ANSWERS)
def send_job(request: Request, visit: Operator, job_id: JobId, given: Target) -> Outcome:
    """Send the finished results of a job again, as they are."""
    return outcome(actions.send(console_of(request), visit, job_id, given.destination))


@router.post("/retry", responses=ANSWERS)
def retry_many(request: Request, visit: Operator, given: Which) -> Outcome:
    """Have all jobs go on that stand still or wait, for a reason or a destination."""
    wanted = Stalled(every=given.all, destination=given.destination, reason=given.reason)
    return outcome(actions.retry(console_of(request), visit, wanted))


def outcome(done: actions.Done) -> Outcome:
    """What was done, as the API answers it."""
    return Outcome(done=done.done, lines=list(done.lines))


@router.get("/needs", responses=ANSWERS)
def needs(request: Request, visit: SignedIn) -> list[dict[str, Any]]:
    """List why jobs stand still, the most frequent first: what needs a person."""
    return [asdict(cause) for cause in Overview(console_of(request).ledger).causes()]


@router.get("/quarantine", responses=ANSWERS)
def quarantine(request: Request, visit: SignedIn) -> list[dict[str, Any]]:
    """List what was not taken in: why, of whom, how often, under which UID."""
    entries = console_of(request).quarantine.entries()
    return [
        asdict(entry) | {"first_at": iso(entry.first_at), "last_at": iso(entry.last_at)} for entry in reversed(entries)
    ]


@router.get("/refusals", responses=ANSWERS)
def refusals(request: Request, visit: SignedIn) -> list[dict[str, Any]]:
    """List who was refused in the last day, and what to change."""
    console = console_of(request)
    found = console.desk.refusals(since=console.clock() - LATELY_S)
    return [
        asdict(item)
        | {
            "first_at": iso(item.first_at),
            "last_at": iso(item.last_at),
            "sentence": refusal_sentence(item, console.config),
        }
        for item in found
    ]


@router.get("/now", responses=ANSWERS)
def now(request: Request, visit: SignedIn) -> dict[str, Any]:
    """Say what goes on: service, queue, jobs in work, destinations, disk."""
    latest: dict[str, Any] = request.app.state.live.latest()
    return latest


@router.get("/live", responses=ANSWERS, response_class=StreamingResponse)
async def live(request: Request, visit: SignedIn) -> StreamingResponse:
    """Stream what goes on as server-sent events, ten minutes at a time; a browser asks again by itself."""
    state = request.app.state
    if state.streams >= STREAMS:
        raise HTTPException(503, "too many pages are open")

    async def events() -> AsyncIterator[str]:
        state.streams += 1
        try:
            for _ in range(int(STREAM_S)):
                told = json.dumps(await run_in_threadpool(state.live.latest))
                yield f"event: now\ndata: {told}\n\n"
                if await request.is_disconnected() or state.stopping.is_set():
                    return
                await asyncio.sleep(1.0)
        finally:
            state.streams -= 1

    return StreamingResponse(events(), media_type="text/event-stream")


@router.get("/audit", responses=ANSWERS)
def audit(request: Request, visit: Admin, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    """List who did what, the latest first."""
    return [asdict(entry) | {"at": iso(entry.at)} for entry in console_of(request).accounts.entries(most=limit)]


@router.get("/users", responses=ANSWERS)
def users(request: Request, visit: Admin) -> list[dict[str, Any]]:
    """List the users and their roles."""
    found = console_of(request).accounts.users()
    return [
        {
            "name": user.name,
            "role": user.role,
            "created_at": iso(user.created_at),
            "locked_until": iso(user.locked_until),
        }
        for user in found
    ]
