"""Who may reach what: each route there is, asked by nobody, by a viewer, by another site, and too large."""

from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from daemon.console.app import ROUTERS, STATIC
from tests.daemon.console.conftest import ORIGIN, Site

OPEN = {"/health", "/ready", "/metrics", "/sign-in", "/api/v1/session"}
OF_EVERYONE = {
    ("DELETE", "/api/v1/session"),
    ("POST", "/sign-out"),
    ("POST", "/find"),
    ("POST", "/api/v1/studies/search"),
}
"""Changes, or what is asked in a body, that a viewer may send."""
OF_ADMINS = {"/users", "/api/v1/users", "/api/v1/audit"}


def routes() -> Iterator[tuple[str, str]]:
    """Each method and path of the application."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield from ((method, route.path) for method in route.methods)


def filled(path: str) -> str:
    """A path with values for its parts."""
    parts = {"job_id": "1", "study_instance_uid": "1.2", "action": "retry"}
    return path.format(**parts, volume="0", index="0", delivery="0")


def test_there_are_routes() -> None:
    """The tests below would prove nothing of an empty list."""
    assert len(list(routes())) >= 25


def test_nobody_gets_anything(site: Site) -> None:
    """Each route but the form and the probes asks who it is, before anything else."""
    nobody = site.browser()
    for method, path in routes():
        if path in OPEN and (method, path) != ("GET", "/api/v1/session") and method != "DELETE":
            continue
        answer = nobody.request(method, filled(path))
        wanted = (401,) if path.startswith("/api") else (303,)
        assert answer.status_code in wanted, (method, path, answer.status_code)


def test_a_viewer_changes_nothing(site: Site) -> None:
    """Each change but signing out needs an operator; users and the audit an administrator."""
    viewer = site.browser("viewer")
    for method, path in routes():
        if (method, path) in OF_EVERYONE or path in OPEN:
            continue
        if method in ("POST", "PUT", "PATCH", "DELETE") or path in OF_ADMINS:
            assert viewer.request(method, filled(path)).status_code == 403, (method, path)
    operator = site.browser("operator")
    assert all(operator.get(path).status_code == 403 for path in OF_ADMINS)
    assert all(site.browser("admin").get(path).status_code == 200 for path in OF_ADMINS)


def test_no_change_without_the_token_of_a_form(site: Site) -> None:
    """The cookie alone, which a browser sends by itself, changes nothing; nor does the token of another session."""
    admin, other = site.browser("admin"), site.browser("operator")
    for token in ("", "0" * 64, other.headers["x-csrf-token"]):
        admin.headers["x-csrf-token"] = token
        for method, path in routes():
            if (
                method in ("POST", "DELETE")
                and path not in ("/sign-in",)
                and (method, path) != ("POST", "/api/v1/session")
            ):
                assert admin.request(method, filled(path)).status_code == 403, (method, path)


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
def test_another_site_asks_for_nothing(site: Site, headers: dict[str, str]) -> None:
    """Not even to sign in, and not with the right token."""
    admin = site.browser("admin")
    assert admin.post("/jobs/1/retry", headers=headers).status_code == 403
    assert admin.post("/sign-in", data={"name": "admin", "password": "x"}, headers=headers).status_code == 403
    credentials = {"name": "admin", "password": "x"}
    assert admin.post("/api/v1/session", json=credentials, headers=headers).status_code == 403


def test_another_name_is_refused(site: Site) -> None:
    """A name that another site points at this address reaches nothing but the probes."""
    browser = site.browser("viewer")
    for host in ("evil.example", "evil.example:8043", "127.0.0.1", ""):
        assert browser.get("/", headers={"host": host}).status_code == 421
    assert browser.get("/health", headers={"host": "10.0.0.7:8043"}).json() == {"status": "ok"}


def test_a_form_is_bounded(site: Site) -> None:
    """By what it announces, and by what comes where it announces nothing."""
    browser = site.browser("operator")
    assert browser.post("/find", data={"value": "x" * 70_000}).status_code == 413
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert browser.post("/find", content=iter([b"x" * 40_000] * 3), headers=kind).status_code == 413


def test_answers_bear_the_headers(site: Site) -> None:
    """No script of another site, no frame, nothing kept by a browser or proxy."""
    for path in ("/sign-in", "/api/v1/jobs", "/static/console.css"):
        headers = site.browser("viewer").get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "same-origin"


def test_nothing_comes_from_elsewhere(site: Site) -> None:
    """Templates, styles and scripts name no other host: hospital networks are closed."""
    files = [*STATIC.iterdir(), *(STATIC.parent / "templates").iterdir()]
    texts = {file.name: file.read_text() for file in files}
    namespaces = ("http://www.w3.org/2000/svg",)
    for name, text in texts.items():
        for namespace in namespaces:
            text = text.replace(namespace, "")
        assert "//" not in text.replace("// ", "").replace("\n//", ""), name
    assert ORIGIN.startswith("http://127.0.0.1")


def test_only_the_api_s_own_description_is_there(site: Site) -> None:
    """Each path of the API is in it, and the pages of FastAPI, which load scripts from elsewhere, are not."""
    viewer = site.browser("viewer")
    described = viewer.get("/api/v1/openapi.json").json()["paths"]
    assert {path for _, path in routes() if path.startswith("/api/v1/")} <= set(described) | {"/api/v1/openapi.json"}
    assert viewer.get("/docs").status_code == viewer.get("/redoc").status_code == 404


def test_a_method_that_a_path_does_not_have(site: Site) -> None:
    """405, and which it has (RFC 9110 section 15.5.6)."""
    answer = site.browser("viewer").put("/api/v1/jobs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_what_is_sent_is_described(site: Site) -> None:
    """A state that is none, and a study that is none, are refused by the description itself, without their text."""
    viewer = site.browser("viewer")
    assert viewer.get("/api/v1/jobs?state=ZZPHI").status_code == 400
    for value in ("", " ", "A*", "a?", "\\"):
        answer = viewer.post("/api/v1/studies/search", json={"value": value})
        assert (answer.status_code, answer.json()["detail"][:10]) == (400, "body.value"), value


def test_nothing_is_taken_for_what_it_is_not(site: Site) -> None:
    """No number for a yes, and no key that is not known: a retry of all would be the wrong reading of a mistake."""
    operator = site.browser("operator")
    for body in ({"all": 1}, {"all": "yes"}, {"every": True}):
        assert operator.post("/api/v1/retry", json=body).status_code == 400
    assert operator.post("/api/v1/retry", json={"all": True}).json()["lines"] == ["nothing stands still or waits"]
