"""How long the pages of the console take with a ledger of many jobs, against one of few.

    .venv/bin/python bench/console.py [--jobs 100000] [--runs 9]

Measured is a request within this process, from the cookie to the last byte: no network, and no browser.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient
from jobs import FEW, fill
from stopwatch import in_turn, print_ratio, print_table, spread

from daemon.configuration.config import Config, Storage
from daemon.console.app import create_app
from daemon.console.state import ConsoleState
from daemon.ledger.accounts import Role
from daemon.ledger.store import Ledger

PAGES = ("/", "/?state=HALTED", "/studies/1.2.50", "/needs", "/now", "/upload", "/rules", "/users", "/metrics")


def browser(root: Path, count: int) -> TestClient:
    """An administrator's browser, on a ledger of so many jobs."""
    config = Config(storage=Storage(root=root, min_free_mb=0))
    fill(config, count)
    console = ConsoleState(config, Ledger(config.ledger_url))
    console.accounts.put("bench", Role.ADMIN, None, now=time.time())
    app = create_app(console)
    user = console.accounts.user("bench")
    assert user is not None
    client = TestClient(app, base_url=config.web.origin)
    client.cookies.set("porta", app.state.door.open(user, "bench"), domain="127.0.0.1", path="/")
    return client


def timed(client: TestClient, path: str) -> Callable[[int], float]:
    """A way to measure a page, in ms."""

    def measure(run: int) -> float:
        client.app.state.live._made_at = -1e9  # type: ignore[attr-defined]  # as after a second
        started = time.perf_counter()
        assert client.get(path).status_code == 200
        return 1000 * (time.perf_counter() - started)

    return measure


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=9)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="porta-bench-") as folder:
        few, many = browser(Path(folder) / "few", FEW), browser(Path(folder) / "many", chosen.jobs)
        measures = {
            f"{which} {page}": timed(of, page) for which, of in (("few", few), ("many", many)) for page in PAGES
        }
        figures = in_turn(chosen.runs, measures)
    rows = [(page, spread(figures[f"many {page}"], 0), spread(figures[f"few {page}"], 0)) for page in PAGES]
    print_table("Milliseconds until the last byte", ("page", f"{chosen.jobs} jobs", f"{FEW} jobs"), rows)
    print_ratio(f"the first page: {chosen.jobs} jobs / {FEW} jobs", figures["many /"], figures["few /"])


if __name__ == "__main__":
    main()
