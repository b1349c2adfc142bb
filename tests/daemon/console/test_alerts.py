"""Who is told what needs a person: once, again while it lasts, and that it is over; by a real webhook and mail."""

import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from daemon.configuration.config import Alerts, Config
from daemon.console.alerts import Alert, Watch, alerts_of, tell_people

QUIET: dict[str, Any] = {
    "service": {"running": True},
    "causes": [],
    "destinations": [{"destination": "archive", "outage": False}],
    "drift": [],
    "disk": {"free_mb": 9000, "min_free_mb": 1000, "days_left": 30.0},
}
HALTED = QUIET | {"causes": [{"halt": "DELIVERY_FAILED", "destination": "archive", "jobs": 3}]}


def test_what_needs_a_person() -> None:
    """Nothing of a quiet snapshot; each thing by its code."""
    assert list(alerts_of(QUIET)) == []
    away = {"destination": "archive", "outage": True}
    drift = {"measure": "liver_dice", "by": "rule", "name": "liver-ct", "sentence": "Dice was 0.95, and is 0.8 lately."}
    full = {"free_mb": 1999, "min_free_mb": 1000, "days_left": None}
    worst = HALTED | {"service": {"running": False}, "destinations": [away], "drift": [drift], "disk": full}
    codes = ["SERVICE_DOWN", "JOBS_HALTED", "DESTINATION_AWAY", "DRIFT", "DISK"]
    assert [alert.code for alert in alerts_of(worst)] == codes
    assert [alert.code for alert in alerts_of(QUIET | {"disk": QUIET["disk"] | {"days_left": 6.9}})] == ["DISK"]


def test_once_again_and_over(make_config: Callable[..., Config], clock: Any) -> None:
    """What lasts a minute is told, again after `repeat_minutes`, and last that it is over; a blink is not told."""
    told: list[tuple[str, str]] = []
    state: dict[str, Any] = {"now": QUIET}

    class Snapshots:
        quality = SimpleNamespace(latest=dict)

        def latest(self) -> dict[str, Any]:
            return state["now"]

    class State:
        first = make_config(alerts=Alerts(repeat_minutes=60))

        def __init__(self) -> None:
            self.clock = clock

    def tell(_: Alerts, what: str, alerts: list[Alert]) -> None:
        told.extend((what, alert.code) for alert in alerts)

    watch = Watch(State(), Snapshots(), tell)  # type: ignore[arg-type]
    for now, seconds in ((HALTED, 30), (QUIET, 90), (HALTED, 30), (HALTED, 30), (HALTED, 30)):
        state["now"] = now
        watch.look()
        clock.pass_s(seconds)
    assert told == [("needs a person", "JOBS_HALTED")]
    for _ in range(119):
        watch.look()
        clock.pass_s(30)
    assert told == [("needs a person", "JOBS_HALTED")]
    clock.pass_s(60)
    watch.look()
    assert told == [("needs a person", "JOBS_HALTED")] * 2
    state["now"] = QUIET
    watch.look()
    watch.look()
    assert told[2:] == [("over", "JOBS_HALTED")]


@contextmanager
def listening(server: socketserver.BaseServer) -> Iterator[int]:
    """A server in a thread; its port."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_webhook_and_a_mail(tmp_path: Path, read_log: Any) -> None:
    """The body is signed by the secret of the file; the mail names codes; both come although one of them fails."""
    got: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["X-Porta-Signature"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Relay(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 relay\r\n")
            text = False
            for line in self.rfile:
                word = line.strip().upper()
                if text:
                    got[-1] += line
                    text = line != b".\r\n"
                    self.wfile.write(b"" if text else b"250 taken\r\n")
                elif word == b"DATA":
                    got.append(b"")
                    text = True
                    self.wfile.write(b"354 go on\r\n")
                else:
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                    if word == b"QUIT":
                        return

    secret = tmp_path / "secret"
    secret.write_bytes(b"a key\n")
    alert = Alert("JOBS_HALTED", "DELIVERY_FAILED at archive", "3 jobs stand still: DELIVERY_FAILED at archive.")
    hook, relay = HTTPServer(("127.0.0.1", 0), Hook), socketserver.TCPServer(("127.0.0.1", 0), Relay)
    with listening(hook) as port, listening(relay) as smtp:
        to: dict[str, Any] = {"mail_to": ("pacs@hospital.example",), "smtp_port": smtp}
        settings = Alerts(webhook=f"http://127.0.0.1:{port}/hook", secret=secret, **to)
        tell_people(settings, "needs a person", [alert])
        (signature, body), text = got
        assert signature == "sha256=" + hmac.new(b"a key", body, hashlib.sha256).hexdigest()
        assert json.loads(body)["alerts"] == [vars(alert)]
        assert b"Subject: Porta Hepatis: needs a person: JOBS_HALTED" in text and b"3 jobs stand still" in text
        tell_people(Alerts(webhook="http://127.0.0.1:1/", **to), "over", [alert])
        assert len(got) == 3 and b"over: JOBS_HALTED" in got[2]
    assert [line["verb"] for line in read_log.named("alert.failed")] == ["webhook"]
