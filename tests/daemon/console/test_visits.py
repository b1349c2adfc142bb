"""Signing in: sessions, what they outlast, and what is counted."""

from typing import Any

import pytest

from daemon.console.visits import MOST_OF_AN_ADDRESS, Door
from daemon.ledger.accounts import Role
from tests.daemon.console.conftest import PASSWORD, Site


def test_in_and_out_by_the_form(site: Site) -> None:
    """The page of a browser that is signed in says who it is; signed out, the same cookie opens nothing."""
    browser = site.browser()
    assert browser.get("/").headers["location"] == "/sign-in"
    answer = browser.post("/sign-in", data={"name": "operator", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "operator (operator)" in browser.get("/").text
    cookie = dict(browser.cookies)
    token = browser.get("/api/v1/session").json()["csrf"]
    assert browser.post("/sign-out", data={"csrf": token}).status_code == 303
    browser.cookies.update(cookie)
    assert browser.get("/").status_code == 303


def test_the_cookie_is_out_of_reach(site: Site) -> None:
    """No script reads it, no other site's request carries it, and the ledger has its hash alone."""
    browser = site.browser()
    given = browser.post("/sign-in", data={"name": "viewer", "password": PASSWORD}).headers["set-cookie"].lower()
    assert "httponly" in given and "samesite=strict" in given and "path=/" in given and "domain" not in given
    token = browser.cookies["porta"]
    with site.console.ledger.database.reading() as connection:
        kept = connection.exec_driver_sql("SELECT digest FROM sessions").scalars().all()
    assert len(kept) == 1 and token not in kept


def test_a_session_that_was_planted_is_none(site: Site) -> None:
    """Signing in gives a new token, whatever the browser brought: a planted one stays worth nothing."""
    browser = site.browser()
    planted = "A" * 43
    browser.cookies.set("porta", planted, domain="127.0.0.1", path="/")
    answer = browser.post("/sign-in", data={"name": "viewer", "password": PASSWORD})
    assert planted not in answer.headers["set-cookie"]
    thief = site.browser()
    thief.cookies.set("porta", planted)
    assert thief.get("/").status_code == 303


def test_sessions_end(site: Site, clock: Any) -> None:
    """After a time without doing anything, and after one in any case."""
    web = site.config.web
    browser = site.browser("viewer")
    for _ in range(3):
        clock.pass_s(60 * web.idle_minutes - 1)
        assert browser.get("/").status_code == 200
    clock.pass_s(60 * web.idle_minutes + 1)
    assert browser.get("/").status_code == 303
    browser = site.browser("viewer")
    for _ in range(int(2 * web.session_hours)):
        assert browser.get("/").status_code == 200
        clock.pass_s(1799)
    clock.pass_s(60)
    assert browser.get("/").status_code == 303


@pytest.fixture
def quick(site: Site) -> Site:
    """With passwords that are compared at once: a hash takes a tenth of a second, which is its purpose."""
    site.app.state.door = Door(site.console, lambda given, kept: kept is not None and given == PASSWORD)
    return site


def test_wrong_passwords_lock_a_name(quick: Site, clock: Any) -> None:
    """For a time, also for who knows the password, with the same answer; then it opens again."""
    site = quick
    browser = site.browser()
    answers = [browser.post("/sign-in", data={"name": "admin", "password": "wrong"}) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {401}
    locked = browser.post("/sign-in", data={"name": "admin", "password": PASSWORD})
    assert locked.status_code == 401 and locked.text == answers[0].text
    assert browser.post("/sign-in", data={"name": "viewer", "password": PASSWORD}).status_code == 303
    clock.pass_s(60 * site.config.web.locked_minutes + 1)
    assert browser.post("/sign-in", data={"name": "admin", "password": PASSWORD}).status_code == 303
    codes = [entry.code for entry in site.console.accounts.entries(most=20) if entry.user == "admin"]
    assert codes == ["DONE", "LOCKED", *["REFUSED"] * 5]


def test_an_address_that_guesses_names_is_barred(quick: Site, clock: Any) -> None:
    """Whatever the names, which are not written down: one may be a password in the wrong field."""
    site = quick
    browser = site.browser()
    for number in range(MOST_OF_AN_ADDRESS):
        browser.post("/sign-in", data={"name": f"secret-{number}", "password": "x"})
    assert browser.post("/sign-in", data={"name": "viewer", "password": PASSWORD}).status_code == 401
    assert all("secret" not in str(entry) for entry in site.console.accounts.entries(most=50))
    clock.pass_s(60 * site.config.web.locked_minutes + 1)
    assert browser.post("/sign-in", data={"name": "viewer", "password": PASSWORD}).status_code == 303


def test_another_role_counts_at_once(site: Site, clock: Any, password_hash: str) -> None:
    """Who gets another role or password, or is removed, is signed out everywhere."""
    browser, other = site.browser("operator"), site.browser("viewer")
    site.console.accounts.put("operator", Role.VIEWER, password_hash, now=clock())
    assert browser.get("/").status_code == 303
    site.console.accounts.remove("viewer")
    assert other.get("/").status_code == 303
    assert site.browser().post("/sign-in", data={"name": "viewer", "password": PASSWORD}).status_code == 401
