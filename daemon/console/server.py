"""`porta console`: the process. Its log is that of `daemon.log`: no address, no query, no text of a library."""

import asyncio
import signal
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn

from daemon.configuration.config import Config
from daemon.console.alerts import Watch, tell_people
from daemon.console.app import create_app
from daemon.console.boundary import Boundary
from daemon.console.state import ConsoleState
from daemon.errors import ConfigurationError
from daemon.intake import open_storage
from daemon.log import get_logger
from daemon.process import KILLED_EARLY, limit_service, tell_oom_score
from reports.identity import software_version

STOP_S = 3
MOST_CONNECTIONS = 500

log = get_logger()


def run(config: Config, file: Path | None = None, read_again: Callable[[], Config] | None = None) -> None:
    """Serve the console in the foreground, until SIGTERM or Ctrl-C.

    Raises StorageUnusable, LedgerUnavailable, and ConfigurationError for a port or certificate that cannot be used.
    """
    limit_service()
    tell_oom_score(KILLED_EARLY)  # before the service, which takes images in
    _, ledger = open_storage(config)
    web = config.web
    console = ConsoleState(config, ledger, file, read_again)
    app = create_app(console)
    behind_proxy = web.certificate is None and web.origin.startswith("https://")
    settings = uvicorn.Config(
        app,
        host=web.host,
        port=web.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips="127.0.0.1" if behind_proxy else None,
        ssl_certfile=web.certificate,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=STOP_S,
        lifespan="off",
        ws="none",
    )
    try:
        settings.load()
    except (OSError, ssl.SSLError) as error:
        fault = config.fault(("web", "certificate"), f"cannot be used: {getattr(error, 'strerror', None) or 'no PEM'}")
        raise ConfigurationError([fault]) from error
    log.info("console.started", host=web.host, port=web.port, version=software_version())
    server = _Server(settings, app)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn sends itself the signal again when it has ended
        signal.signal(number, lambda *_: None)
    ended = threading.Event()
    if config.alerts.webhook or config.alerts.mail_to:
        watch = Watch(console, app.state.live, tell_people)
        threading.Thread(target=watch.run, args=(ended,), name="alerts", daemon=True).start()
    server.run()
    ended.set()
    ledger.close()
    if not server.started:
        raise ConfigurationError([config.fault(("web", "port"), f"cannot listen on {web.host}:{web.port}")])
    log.info("console.stopped")


class _Server(uvicorn.Server):
    """Tells open streams that the end has come: they would be waited for."""

    def __init__(self, settings: uvicorn.Config, app: Boundary) -> None:
        super().__init__(settings)
        self._stopping: asyncio.Event = app.state.stopping

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._stopping.set()
        await super().shutdown(sockets)  # type: ignore[arg-type]
