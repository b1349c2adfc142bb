"""Who asks: sessions by a cookie, roles, and proof that a change was asked for by our own pages.

A token of 256 random bits is in the browser alone; the ledger has its hash. It is new at each sign-in. The token of a
form derives from it, so that another site, which sees neither, cannot make one.
"""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from daemon.console.passwords import is_right
from daemon.console.state import ConsoleState
from daemon.ledger.accounts import Entry, Role, User

SAFE = ("GET", "HEAD", "OPTIONS")
SEEN_EVERY_S = 60.0
"""A visit is written down this often, not at each request."""
MOST_OF_AN_ADDRESS = 20
"""Wrong passwords of one address within `locked_minutes`, whatever the names."""
REMEMBERED = 10_000


class NotSignedIn(Exception):
    """Nobody is signed in: a page leads to the form, the API answers 401."""


@dataclass(frozen=True)
class Visit:
    """A request of a user who is signed in."""

    user: User
    token: str
    host: str

    @property
    def form_token(self) -> str:
        """What each form and each change by the API carries."""
        return form_token(self.token)

    @property
    def digest(self) -> str:
        """The session as the ledger knows it."""
        return digest_of(self.token)

    def may(self, role: str) -> bool:
        """True where the user has this role, or a higher one."""
        return self.user.role.covers(Role(role))


def digest_of(token: str) -> str:
    """The hash under which the ledger knows a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def form_token(token: str) -> str:
    """The token of the forms of a session."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def console_of(request: Request) -> ConsoleState:
    """The console that a request is for."""
    console: ConsoleState = request.app.state.console
    return console


def cookie_name(console: ConsoleState) -> str:
    """`__Host-` binds a cookie to this host over TLS; browsers refuse it without."""
    return "__Host-porta" if is_secure(console) else "porta"


def is_secure(console: ConsoleState) -> bool:
    """True where browsers reach the console over TLS."""
    return console.first.web.origin.startswith("https://")


def host_of(request: Request) -> str:
    """The address of the browser, or of the proxy before it."""
    return (request.client.host if request.client else "")[:64]


async def signed_in(request: Request) -> Visit:
    """The visit of a request. Raises NotSignedIn, and 403 for a change that none of our pages asked for."""
    console = console_of(request)
    visit = await run_in_threadpool(find_visit, request, console)
    if visit is None:
        raise NotSignedIn
    if request.method not in SAFE:
        refuse_other_sites(request, console)
        given = request.headers.get("x-csrf-token") or await _of_form(request)
        if not hmac.compare_digest(given.encode(), visit.form_token.encode()):
            raise HTTPException(403, "the form is of another session: load the page again")
    return visit


def find_visit(request: Request, console: ConsoleState) -> Visit | None:
    """The visit of the cookie of a request; None of one that is missing, too old or idle."""
    token = request.cookies.get(cookie_name(console), "")
    if not 20 <= len(token) <= 100:
        return None
    web, now = console.first.web, console.clock()
    digest = digest_of(token)
    oldest, idle = now - 3600 * web.session_hours, now - 60 * web.idle_minutes
    found = console.accounts.session(digest, opened_since=oldest, seen_since=idle)
    if found is None:
        return None
    user, seen_at = found
    if now - seen_at > min(SEEN_EVERY_S, 10 * web.idle_minutes):
        console.accounts.see(digest, now=now)
    return Visit(user, token, host_of(request))


def refuse_other_sites(request: Request, console: ConsoleState) -> None:
    """Raise 403 where a browser says that another site has asked."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    if (origin is not None and origin != console.first.web.origin) or site not in ("same-origin", "none"):
        raise HTTPException(403, "asked for by another site")


async def _of_form(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return ""
    given = (await request.form()).get("csrf", "")
    return "" if isinstance(given, UploadFile) else given


SignedIn = Annotated[Visit, Depends(signed_in)]


def _needs(role: Role) -> object:
    async def check(visit: SignedIn) -> Visit:
        if not visit.may(role):
            raise HTTPException(403, f"this needs the role {role}")
        return visit

    return Depends(check)


Operator = Annotated[Visit, _needs(Role.OPERATOR)]
Admin = Annotated[Visit, _needs(Role.ADMIN)]


class Door:
    """Signs users in: counts what fails, by name in the ledger and by address here. Safe to use from many threads."""

    def __init__(self, console: ConsoleState, is_right: Callable[[str, str | None], bool] = is_right) -> None:
        self._console, self._is_right = console, is_right
        self._failed: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def sign_in(self, name: str, password: str, host: str) -> str | None:
        """Return the token of a new session; None for a wrong name or password, or while either is locked.

        The answer is the same for all of these, and takes as long.
        """
        console, now = self._console, self._console.clock()
        web = console.first.web
        user = console.accounts.user(name) if 0 < len(name) <= 64 and "\0" not in name else None
        locked = user is not None and user.locked_until is not None and user.locked_until > now
        barred = self._is_barred(host, now)
        right = self._is_right(password, user.password_hash if user else None)
        if user is None or locked or barred or not right:
            self._count(host, now)
            if user is not None and not (locked or barred):
                until = now + 60 * web.locked_minutes
                console.accounts.count_failure(user.name, most=web.attempts, locked_until=until)
            code = "LOCKED" if locked or barred else "REFUSED"
            # A name that nobody has may be a password in the wrong field
            console.accounts.note(Entry(now, user.name if user else "-", "SIGN_IN", host, code))
            return None
        return self.open(user, host)

    def open(self, user: User, host: str) -> str:
        """Open a session for a user who has proved to be that."""
        console, now = self._console, self._console.clock()
        token = secrets.token_urlsafe(32)
        console.accounts.open_session(digest_of(token), user.name, now=now)
        console.accounts.note(Entry(now, user.name, "SIGN_IN", host, "DONE"))
        return token

    def sign_out(self, visit: Visit) -> None:
        """End a session, and forget those that are over."""
        console, now = self._console, self._console.clock()
        console.accounts.close_sessions(visit.digest, seen_before=now - 60 * console.first.web.idle_minutes)
        console.accounts.note(Entry(now, visit.user.name, "SIGN_OUT", visit.host))

    def _is_barred(self, host: str, now: float) -> bool:
        with self._lock:
            since = now - 60 * self._console.first.web.locked_minutes
            return sum(at > since for at in self._failed.get(host, [])) >= MOST_OF_AN_ADDRESS

    def _count(self, host: str, now: float) -> None:
        with self._lock:
            self._failed[host] = [*self._failed.get(host, []), now][-MOST_OF_AN_ADDRESS:]
            self._failed.move_to_end(host)
            while len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
