"""How fast Porta takes in a series, against DCMTK's storescp.

The same 300 slices of 0.5 MB go by dcmsend, over loopback, to storescp and to `porta run` in turn. Each acknowledged
slice is, with Porta, fsynced and committed in the ledger; with storescp it is written and no more.

    .venv/bin/python bench/ingest.py [--slices 300] [--runs 5] [--dir FOLDER]
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from nodes import HOST, Porta, dcmsend, porta, storescp
from stopwatch import in_turn, peak_rss_mib, print_ratio, print_table, spread
from studies import write_noise

from dicom_io.network import scu

NOT_CLOSED = "[series]\nquiet_s = 3600\nreleased_quiet_s = 3600\n"
"""Receiving alone: the series stays open, so nothing else runs meanwhile."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--dir", type=Path, help="on the disk that is to be measured; else the temporary folder's")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="porta-bench-", dir=chosen.dir) as name:
        measure(Path(name), slices=chosen.slices, runs=chosen.runs)


def measure(directory: Path, *, slices: int, runs: int) -> None:
    """Print MB/s of both, and the ratio."""
    sent: dict[int, tuple[Path, float]] = {}

    def source(run: int) -> tuple[Path, float]:
        """Another series for each run: an instance that is known is not stored again."""
        if run not in sent:
            files = write_noise(directory / f"series{run}", slices=slices, seed=f"ingest-{run}")
            sent[run] = files[0].parent, sum(file.stat().st_size for file in files) / 1e6
        return sent[run]

    with storescp(directory / "storescp") as port, porta(directory / "porta", NOT_CLOSED) as node:

        def megabytes_a_second(remote: scu.Remote) -> Callable[[int], float]:
            def measured(run: int) -> float:
                folder, megabytes = source(run)
                return megabytes / dcmsend(folder, remote)

            return measured

        peer, ours = "DCMTK storescp", "Porta"
        figures = in_turn(
            runs,
            {
                peer: megabytes_a_second(scu.Remote("STORESCP", HOST, port)),
                ours: megabytes_a_second(node.remote),
            },
        )
        check_kept(directory, node, slices * runs)
        rss = peak_rss_mib(node.pid)
        raw = in_turn(runs, {"write and fsync": lambda run: write_and_fsync(sent[run][0], directory / "plain")})
    rows = [
        (name, spread(values, 0), f"{slices / median([sent[0][1] / value for value in values]):.0f}")
        for name, values in (figures | raw).items()
    ]
    print_table(f"{slices} slices of 0.5 MB by dcmsend over loopback, {runs} runs", ("", "MB/s", "slices/s"), rows)
    print(f"peak memory of Porta's service: {rss:.0f} MiB")
    print_ratio(f"{ours} to {peer}, MB/s: larger is better", figures[ours], figures[peer])


def check_kept(directory: Path, node: Porta, expected: int) -> None:
    """A figure counts only when everything arrived at both."""
    kept = len(list((node.root / "spool").glob("*/*.dcm")))
    theirs = len([file for file in (directory / "storescp").iterdir() if file.is_file()])
    if (kept, theirs) != (expected, expected):
        raise SystemExit(f"of {expected} instances Porta kept {kept} and storescp {theirs}; see {node.log}")


def write_and_fsync(source: Path, target: Path) -> float:
    """MB/s of the disk itself: the same files written and fsynced one by one."""
    target.mkdir(exist_ok=True)
    contents = [file.read_bytes() for file in sorted(source.iterdir())]
    started = time.monotonic()
    for number, content in enumerate(contents):
        with (target / str(number)).open("wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
    seconds = time.monotonic() - started
    shutil.rmtree(target)
    return sum(map(len, contents)) / 1e6 / seconds


if __name__ == "__main__":
    main()
