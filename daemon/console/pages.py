"""The pages: HTML from templates that escape everything; forms that work without a script."""

import threading
from collections import OrderedDict
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from daemon.administration.absences import LATELY_S, refusal_sentence
from daemon.administration.interventions import Stalled
from daemon.administration.moments import in_zone
from daemon.console import actions, visits
from daemon.console.api import JobId, Uid, find, listed, set_cookie
from daemon.console.chart import line_of
from daemon.console.patients import Patient, patient_of
from daemon.console.state import ConsoleState
from daemon.console.timebar import bar_of
from daemon.console.visits import Admin, Operator, SignedIn, Visit, console_of
from daemon.jobs import ENDED, OUT, State
from daemon.ledger.overview import Overview
from daemon.ledger.searches import JobFilter
from reports.identity import software_version

SHOWN = 30
REMEMBERED = 1000

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

environment = Environment(
    loader=PackageLoader("daemon.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
environment.globals["moment"] = in_zone


class Flashes:
    """What is to be said on the next page of a session. Kept here, so that it stands in no address."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, visit: Visit, done: actions.Done) -> None:
        """Say this on the next page."""
        with self._lock:
            self._lines[visit.digest] = done.lines or ("done" if done.done else "nothing was done",)
            while len(self._lines) > REMEMBERED:
                self._lines.popitem(last=False)

    def take(self, visit: Visit) -> tuple[str, ...]:
        """What is to be said now, once."""
        with self._lock:
            return self._lines.pop(visit.digest, ())


def render(request: Request, template: str, visit: Visit | None, *, status: int = 200, **values: Any) -> Response:
    """Return a page. `visit` is None where nobody is signed in."""
    flashes: Flashes = request.app.state.flashes
    said = flashes.take(visit) if visit else ()
    text = environment.get_template(template).render(
        visit=visit, said=said, version=software_version(), path=request.url.path, **values
    )
    return HTMLResponse(text, status)


def _back(path: str) -> Response:
    return RedirectResponse(path, 303)


@router.get("/sign-in")
def form(request: Request) -> Response:
    """The form to sign in."""
    return render(request, "sign_in.html", None, wrong=False)


@router.post("/sign-in")
def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=64)] = "",
    password: Annotated[str, Form(max_length=256)] = "",
) -> Response:
    """Sign in: a new session, whatever the browser had before."""
    console = console_of(request)
    visits.refuse_other_sites(request, console)
    token = request.app.state.door.sign_in(name, password, visits.host_of(request))
    if token is None:
        return render(request, "sign_in.html", None, status=401, wrong=True)
    response = _back("/")
    set_cookie(response, console, token)
    return response


@router.post("/sign-out")
def sign_out(request: Request, visit: SignedIn) -> Response:
    """Sign out."""
    request.app.state.door.sign_out(visit)
    response = _back("/sign-in")
    response.delete_cookie(visits.cookie_name(console_of(request)), path="/")
    return response


@router.get("/")
def home(
    request: Request,
    visit: SignedIn,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    state: Annotated[str | None, Query(max_length=20)] = None,
) -> Response:
    """Find a study; the newest jobs below."""
    console = console_of(request)
    states = tuple(each for each in (*State, "HALTED") if each == state)
    jobs = listed(console, JobFilter(before=before, states=states), SHOWN)
    return render(
        request,
        "find.html",
        visit,
        jobs=jobs,
        more=jobs[-1]["id"] if len(jobs) == SHOWN else None,
        states=["HALTED", *State],
        state=state if states else None,
        found=None,
    )


@router.post("/find")
def search(request: Request, visit: SignedIn, value: Annotated[str, Form(max_length=128)] = "") -> Response:
    """Look for a study, as `porta study`: one that is here has its page, others are told of."""
    found = find(console_of(request), value)
    here = [answer for answer in found["answers"] if answer["series"]]
    if len(here) == 1 and len(found["answers"]) == 1:
        return _back(f"/studies/{here[0]['study_instance_uid']}")
    return render(request, "find.html", visit, jobs=[], more=None, states=["HALTED", *State], state=None, found=found)


@router.get("/studies/{study_instance_uid}")
def study(request: Request, visit: SignedIn, study_instance_uid: Uid) -> Response:
    """What has become of a study, and what can be done."""
    console = console_of(request)
    (answer,) = find(console, study_instance_uid)["answers"]
    series = answer["series"]
    patient = patient_of(console, series[0]["job"]["series_instance_uid"]) if series else Patient()
    uid = answer["study_instance_uid"] or study_instance_uid
    return render(
        request,
        "study.html",
        visit,
        status=200 if series else 404,
        answer=answer,
        uid=uid,
        patient=patient,
        bars={item["job"]["id"]: bar_of(item["job"], now=console.clock()) for item in series},
        links=links_of(console, uid),
        destinations=[each.peer for each in console.config.destinations],
        ended=ENDED,
        out=OUT,
    )


@router.get("/jobs/{job_id}/view")
def view(
    request: Request, visit: SignedIn, job_id: JobId, volume: Annotated[int, Query(ge=0, le=100_000)] = 0
) -> Response:
    """The slices of a volume, with what was found; a script shows them."""
    console, readings = console_of(request), request.app.state.readings
    volumes, job = readings.volumes(job_id), console.ledger.job(job_id)
    if volume not in volumes:
        return render(request, "problem.html", visit, status=404, code=404, detail="there are no results to read")
    return render(
        request,
        "view.html",
        visit,
        job=job_id,
        volume=volume,
        volumes=volumes,
        study=job.study_instance_uid,
        patient=patient_of(console, job.series_instance_uid),
        links=links_of(console, job.study_instance_uid),
        windows=("Liver", "Abdomen", "Lung", "Bone", "Full"),
    )


def links_of(console: ConsoleState, study_instance_uid: str) -> list[tuple[str, str]]:
    """Where else a study can be opened: names and addresses, as configured."""
    web = console.first.web
    given = (("OHIF", web.ohif_url), ("archive", web.archive_url))
    return [(name, url.replace("{study}", study_instance_uid)) for name, url in given if url]


@router.post("/jobs/{job_id}/{action}")
def act(
    request: Request,
    visit: Operator,
    job_id: JobId,
    action: str,
    destination: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Do what a button of a study's page says, and show that page again."""
    console = console_of(request)
    job = console.ledger.job(job_id)
    match action:
        case "retry":
            done = actions.retry(console, visit, Stalled(ids=(job_id,)))
        case "rerun":
            done = actions.rerun(console, visit, JobFilter(ids=(job_id,)))
        case "cancel":
            done = actions.cancel(console, visit, job_id)
        case "send":
            done = actions.send(console, visit, job_id, destination or None)
        case _:
            return render(request, "problem.html", visit, status=404, code=404, detail="there is no such button")
    request.app.state.flashes.put(visit, done)
    return _back(f"/studies/{job.study_instance_uid}")


@router.get("/needs")
def needs(request: Request, visit: SignedIn) -> Response:
    """What needs a person: halts by cause, and the quarantine."""
    console = console_of(request)
    return render(
        request,
        "needs.html",
        visit,
        causes=Overview(console.ledger).causes(),
        halted=listed(console, JobFilter(states=("HALTED",)), SHOWN),
        advice=actions.ADVICE,
        entries=list(reversed(console.quarantine.entries()))[:200],
    )


@router.post("/needs/retry")
def retry_cause(
    request: Request,
    visit: Operator,
    reason: Annotated[str, Form(max_length=64)] = "",
    destination: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Have all jobs of a cause go on."""
    wanted = Stalled(destination=destination or None, reason=reason or None)
    request.app.state.flashes.put(visit, actions.retry(console_of(request), visit, wanted))
    return _back("/needs")


@router.get("/now")
def now(request: Request, visit: SignedIn) -> Response:
    """What goes on; a script keeps it up to date."""
    return render(request, "now.html", visit, now=request.app.state.live.latest())


@router.get("/quality")
def quality(request: Request, visit: SignedIn) -> Response:
    """How good the results are: by model, scanner and rule, over time, and what people corrected."""
    found = request.app.state.quality.latest()
    charts = {name: line_of(weeks) for name, weeks in found["weeks"].items() if weeks}
    return render(request, "quality.html", visit, found=found, charts=charts)


@router.get("/upload")
def upload(request: Request, visit: SignedIn) -> Response:
    """Where files are dropped."""
    return render(request, "upload.html", visit)


@router.get("/rules")
def rules(request: Request, visit: SignedIn) -> Response:
    """The rules and peers as the file has them, what the rules took, and who was refused."""
    console = console_of(request)
    config, since = console.config, console.clock() - 7 * 86_400
    refused = console.desk.refusals(since=console.clock() - LATELY_S)
    return render(
        request,
        "rules.html",
        visit,
        config=config,
        hits=Overview(console.ledger).hits(since=since),
        refusals=[(item, refusal_sentence(item, config), stanza(item)) for item in refused],
    )


def stanza(refusal: Any) -> str | None:
    """The lines of the configuration that would let a refused caller in; None where that is not what is missing."""
    if refusal.reason != "CALLING_AE_TITLE" or not refusal.calling_ae_title:
        return None
    title = refusal.calling_ae_title.replace("\\", "\\\\").replace('"', '\\"')
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in refusal.calling_ae_title.lower()).strip("-")
    return f'[[peer]]\nname = "{name or "peer"}"\nae_title = "{title}"\nhost = "{refusal.host}"\naccept = true\n'


@router.get("/users")
def users(request: Request, visit: Admin) -> Response:
    """Who may use the console, and what each has done."""
    accounts = console_of(request).accounts
    return render(request, "users.html", visit, users=accounts.users(), entries=accounts.entries(most=200))
