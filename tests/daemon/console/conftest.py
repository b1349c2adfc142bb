"""A console as browsers meet it, in this process: a user of each role, a ledger with a study, one that stands still."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient

from daemon.configuration.config import Config
from daemon.console.app import create_app
from daemon.console.boundary import Boundary
from daemon.console.passwords import hash_password
from daemon.console.state import ConsoleState
from daemon.console.visits import form_token
from daemon.intake import Intake
from daemon.ledger.accounts import Role
from daemon.ledger.store import Ledger
from daemon.storage.spool import Spool

PASSWORD = "correct horse battery"
ORIGIN = "http://127.0.0.1:8043"


@pytest.fixture(scope="session")
def password_hash() -> str:
    """A hash takes long, which is its purpose."""
    return hash_password(PASSWORD)


@dataclass
class Site:
    """A console, and browsers that are signed in."""

    console: ConsoleState
    app: Boundary
    config: Config
    tokens: dict[str, str] = field(default_factory=dict)

    def browser(self, role: str | None = None) -> TestClient:
        """A browser of a user of this role, or of nobody."""
        client = TestClient(self.app, base_url=ORIGIN, follow_redirects=False, raise_server_exceptions=False)
        if role:
            user = self.console.accounts.user(role)
            assert user is not None
            token = self.app.state.door.open(user, "test")  # a password takes a tenth of a second
            client.cookies.set("porta", token, domain="127.0.0.1", path="/")
            client.headers["x-csrf-token"] = form_token(token)
        return client


@pytest.fixture
def site(
    make_config: Callable[..., Config], ledger: Ledger, spool: Spool, clock: Any, password_hash: str, read_log: Any
) -> Iterator[Site]:
    """Nothing of a patient is logged, whatever a test does."""
    config = make_config(ledger={"url": str(ledger.database._engine.url)})
    console = ConsoleState(config, ledger, clock=clock)
    for role in Role:
        console.accounts.put(role, role, password_hash, now=clock())
    yield Site(console, create_app(console), config)
    assert read_log.events is not None


@pytest.fixture
def receive(site: Site, spool: Spool, ledger: Ledger, clock: Any, make_ct: Callable[..., bytes]) -> Callable[..., int]:
    """`receive(series)`: two images of a series, closed under the rule; the id of its job."""

    def received(series: int, rule: str | None = "liver-ct", **more: Any) -> int:
        for index in (1, 2):
            Intake(spool, ledger, clock).take(make_ct(series, index, **more), calling_ae_title="MODALITY")
        due = ledger.due_series(now=clock() + 100, quiet_s=20, released_quiet_s=5)[-1]
        reason = None if rule else "NO_RULE"
        ledger.close_series(due, now=clock() + 100, rule=rule, reject_reason=reason)
        return due.job_id

    return received
