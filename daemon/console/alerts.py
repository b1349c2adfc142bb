"""Tells people that something needs them: once, again while it lasts, and that it is over. Codes and names alone."""

import hashlib
import hmac
import json
import smtplib
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from daemon.configuration.config import Alerts
from daemon.console.live import Live
from daemon.console.state import ConsoleState
from daemon.errors import DaemonError
from daemon.guard import guarded
from daemon.log import get_logger

EVERY_S = 30.0
TIMEOUT_S = 10.0
LASTING_S = 60.0
"""What is over sooner, as a restart, is told to nobody."""
DAYS = 7.0

log = get_logger()


@dataclass(frozen=True)
class Alert:
    """What needs a person: a code, what it is about (a destination, a halt), and a sentence."""

    code: str
    about: str
    sentence: str


def alerts_of(now: Mapping[str, Any]) -> Iterator[Alert]:
    """Say what of a snapshot needs a person."""
    if not now["service"]["running"]:
        yield Alert("SERVICE_DOWN", "", "The service does not run: nothing is received.")
    for cause in now["causes"]:
        at = f" at {cause['destination']}" if cause["destination"] else ""
        about = f"{cause['halt']}{at}"
        yield Alert("JOBS_HALTED", about, f"{cause['jobs']} jobs stand still: {about}.")
    for item in now["destinations"]:
        if item["outage"]:
            yield Alert("DESTINATION_AWAY", item["destination"], f"{item['destination']} is away; results wait for it.")
    for drift in now["drift"]:
        about = f"{drift['measure']} of {drift['by']} {drift['name']}"
        yield Alert("DRIFT", about, f"{drift['sentence']} Look at the last results, and at what has changed.")
    disk = now["disk"]
    if disk["free_mb"] < 2 * disk["min_free_mb"] or (disk["days_left"] is not None and disk["days_left"] < DAYS):
        yield Alert("DISK", "", f"{disk['free_mb']} MB are free; below {disk['min_free_mb']} images are refused.")


@dataclass
class Watch:
    """Looks every EVERY_S, and tells what is new, what lasts, and what is over."""

    console: ConsoleState
    live: Live
    tell: Callable[[Alerts, str, list[Alert]], None]
    _since: dict[tuple[str, str], float] = field(default_factory=dict)
    _told: dict[tuple[str, str], float] = field(default_factory=dict)
    _known: dict[tuple[str, str], Alert] = field(default_factory=dict)

    def look(self) -> None:
        """Look once. Raises LedgerUnavailable."""
        settings, now = self.console.first.alerts, self.console.clock()
        self.live.quality.latest()
        there = {(alert.code, alert.about): alert for alert in alerts_of(self.live.latest())}
        over = [self._known[key] for key in self._told if key not in there]
        self._since = {key: self._since.get(key, now) for key in there}
        again_s = 60 * settings.repeat_minutes
        due = [
            key
            for key, since in self._since.items()
            if now - since >= LASTING_S and now - self._told.get(key, -again_s) >= again_s
        ]
        self._known |= there
        if due:
            self.tell(settings, "needs a person", [there[key] for key in due])
        if over:
            self.tell(settings, "over", over)
        self._told = {key: at for key, at in self._told.items() if key in there} | dict.fromkeys(due, now)
        self._known = {key: alert for key, alert in self._known.items() if key in there}

    def run(self, stopping: threading.Event) -> None:
        """Look until the console ends."""

        def failed(error: Exception) -> None:
            log.warning("alert.failed", error=error)

        while not stopping.wait(EVERY_S):
            with guarded(failed):
                try:
                    self.look()
                except DaemonError as error:
                    failed(error)


def tell_people(settings: Alerts, what: str, alerts: list[Alert]) -> None:
    """Send the webhook and the mail; one that fails is a line in the log, and keeps not from the other."""
    if settings.webhook:
        try:
            post(settings, what, alerts)
        except (OSError, urllib.error.URLError, ValueError) as error:
            log.warning("alert.failed", verb="webhook", error=error)
    if settings.mail_to:
        try:
            mail(settings, what, alerts)
        except (OSError, smtplib.SMTPException) as error:
            log.warning("alert.failed", verb="mail", error=error)
    log.info("alert.told", count=len(alerts), code=alerts[0].code)


def post(settings: Alerts, what: str, alerts: list[Alert]) -> None:
    """POST the alerts as JSON, signed where there is a secret. Raises OSError."""
    body = json.dumps({"what": what, "alerts": [vars(alert) for alert in alerts]}).encode()
    headers = {"Content-Type": "application/json"}
    if settings.secret:
        secret = settings.secret.read_bytes().strip()
        headers["X-Porta-Signature"] = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(str(settings.webhook), data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
        pass


def mail(settings: Alerts, what: str, alerts: list[Alert]) -> None:
    """Send the alerts as one mail. Raises OSError, SMTPException."""
    message = EmailMessage()
    message["From"], message["To"] = settings.mail_from, ", ".join(settings.mail_to)
    message["Subject"] = f"Porta Hepatis: {what}: {', '.join(sorted({alert.code for alert in alerts}))}"
    message.set_content("\n".join(alert.sentence for alert in alerts) + "\n\nThe console says more.\n")
    with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_S) as relay:
        relay.send_message(message)
