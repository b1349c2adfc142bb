"""What Porta adds between the last instance and the results in the PACS, the model's own time left out.

A phantom study goes by dcmsend to `porta run`, beside a real Orthanc. Counted is from the release of the association
until Orthanc has acknowledged SEG and SR, less the segmentation stage (its `duration_s` in the log) and less the
configured wait for more slices. What is left: closing, routing, reading the series again, measuring, SEG, SR, the
self-check, and the sending. The peer of the ratio is the least that sending can cost: the same SEG and SR, under other
UIDs, sent by DCMTK's storescu straight to that Orthanc.

    .venv/bin/python bench/overhead.py [--slices 300] [--rows 512] [--runs 2] [--quiet 5]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nodes import HOST, Porta, dcmsend, free_port, porta, storescu
from pydicom import dcmread
from stopwatch import in_turn, peak_rss_mib, print_ratio, print_table, spread
from studies import enlarged_phantom

from daemon.commands.demo_pacs import OrthancNode
from dicom_io.files.image_writer import write_ct_series
from dicom_io.files.uids import derive_uid
from dicom_io.network import scu
from models.phantom import DEMO_SEED

AIM_OVERHEAD_S, AIM_RSS_MIB = 5.0, 4 * 1024
LONGEST_WAIT_S = 1200.0

MORE = """\
[[peer]]
name = "pacs"
ae_title = "{ae_title}"
host = "{host}"
port = {port}
[[destination]]
peer = "pacs"
confirm = "query"
[[rule]]
name = "liver-ct"
match = {{ Modality = "CT" }}
model = "resnet50"
destinations = ["pacs"]
[series]
quiet_s = {longest_quiet:g}
released_quiet_s = {quiet:g}
"""


@dataclass(frozen=True)
class Passage:
    """One study from its last instance to its results, in seconds."""

    whole: float
    segmenting: float
    quiet: float
    reporting: float

    @property
    def overhead(self) -> float:
        """What neither the model nor the configuration asks for."""
        return self.whole - self.segmenting - self.quiet


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--rows", type=int, default=512, help="and columns; an even number")
    options.add_argument("--extent", type=float, nargs=2, default=(300.0, 384.0), help="along and across, mm")
    options.add_argument("--runs", type=int, default=2)
    options.add_argument("--quiet", type=float, default=5.0, help="released_quiet_s of the configuration")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="porta-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        phantom = enlarged_phantom(
            slices=chosen.slices, rows=chosen.rows, extent_mm=tuple(chosen.extent), seed=DEMO_SEED
        )
        volume = phantom.volume
        for run in range(chosen.runs):
            write_ct_series(volume.array, volume.geometry, directory / f"series{run}", seed=f"overhead-{run}")
        del phantom, volume
        port = free_port()
        pacs = stack.enter_context(orthanc(directory, porta_port=port))
        quiet_s = chosen.quiet
        more = MORE.format(
            ae_title=pacs.ae_title, host=HOST, port=pacs.port, quiet=quiet_s, longest_quiet=max(20.0, quiet_s)
        )
        node = stack.enter_context(porta(directory / "porta", more, port=port))
        measure(directory, node, scu.Remote(pacs.ae_title, HOST, pacs.port), runs=chosen.runs, quiet_s=quiet_s)


def measure(directory: Path, node: Porta, pacs: scu.Remote, *, runs: int, quiet_s: float) -> None:
    """Print where the time went, the memory, and the ratio."""
    passages: list[Passage] = []

    def ours(run: int) -> float:
        passages.append(pass_through(directory / f"series{run}", node, pacs, quiet_s=quiet_s))
        return passages[-1].overhead

    def peer(run: int) -> float:
        outbox = sorted((node.root / "outbox").iterdir(), key=lambda path: int(path.name))[run] / "0"
        renamed = under_other_uids(outbox, directory / f"renamed{run}", run)
        return storescu(renamed, pacs)

    figures = in_turn(runs, {"Porta": ours, "storescu": peer})
    parts = {
        "last instance to results in Orthanc": [passage.whole for passage in passages],
        "of it segmentation": [passage.segmenting for passage in passages],
        "of it waiting for more slices (configured)": [passage.quiet for passage in passages],
        "left: overhead": figures["Porta"],
        "of it measuring, SEG, SR, self-check": [passage.reporting for passage in passages],
        "DCMTK storescu, the same SEG and SR": figures["storescu"],
    }
    slices = len(list((directory / "series0").iterdir()))
    print_table(f"{slices} slices, {runs} runs", ("", "s"), [(what, spread(s, 2)) for what, s in parts.items()])
    worker = next(event["pid"] for event in reversed(node.events()) if event["event"] == "worker.started")
    service_mib, worker_mib = peak_rss_mib(node.pid), peak_rss_mib(worker)
    total = service_mib + worker_mib
    print(f"peak memory: service {service_mib:.0f} MiB, worker {worker_mib:.0f} MiB, together at most {total:.0f} MiB")
    print(f"aims for 300 slices on 2 cores: overhead at most {AIM_OVERHEAD_S:g} s, memory at most {AIM_RSS_MIB} MiB")
    print_ratio("Porta's overhead to storescu, seconds: smaller is better", figures["Porta"], figures["storescu"])


def pass_through(series: Path, node: Porta, pacs: scu.Remote, *, quiet_s: float) -> Passage:
    """Send one study and wait until Orthanc has acknowledged its SEG and its SR."""
    before = len(node.events())
    dcmsend(series, node.remote)
    sent = time.time()
    deadline = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < deadline:
        events = node.events()[before:]
        stored = [event for event in events if event["event"] == "object.stored"]
        if len(stored) == 2:
            break
        if bad := [event for event in events if event["level"] == "error" or event["event"] == "job.rejected"]:
            raise SystemExit(f"no results: {bad}")
        finished = [event for event in events if event["event"] == "stage.finished"]
        if len(finished) == 2 and not (node.root / "outbox" / str(finished[0]["job_id"]) / "0" / "seg.dcm").exists():
            raise SystemExit("the model found no liver in the phantom, so there is no SEG to time")
        time.sleep(0.1)
    else:
        raise SystemExit(f"no results after {LONGEST_WAIT_S:g} s; only {stored}")
    stages = {event["from_state"]: event["duration_s"] for event in events if event["event"] == "stage.finished"}
    header = dcmread(next(series.iterdir()), stop_before_pixels=True)
    check_held(pacs, str(header.StudyInstanceUID))
    return Passage(
        whole=datetime.fromisoformat(stored[-1]["timestamp"]).timestamp() - sent,
        segmenting=stages["RECEIVED"],
        quiet=quiet_s,
        reporting=stages["SEGMENTED"],
    )


def check_held(pacs: scu.Remote, study_instance_uid: str) -> None:
    """The figure counts only when Orthanc gives both objects back."""
    for modality in ("SEG", "SR"):
        with tempfile.TemporaryDirectory() as name:
            held = scu.fetch(
                pacs,
                study_instance_uid=study_instance_uid,
                modality=modality,
                directory=Path(name),
                calling_ae_title="PORTA",
                timeout_s=60,
            )
        if len(held) != 1:
            raise SystemExit(f"Orthanc holds {len(held)} {modality} of the study, not 1")


def under_other_uids(outbox: Path, target: Path, run: int) -> list[Path]:
    """Copies of SEG and SR that Orthanc does not know yet."""
    target.mkdir()
    paths = []
    for name in ("seg.dcm", "sr.dcm"):
        ds = dcmread(outbox / name)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(ds, keyword, derive_uid("bench", run, ds[keyword].value))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(target / name)
        paths.append(target / name)
    return paths


@contextmanager
def orthanc(directory: Path, *, porta_port: int) -> Iterator[OrthancNode]:
    """The demonstration's Orthanc, which answers this machine and our AE titles alone."""
    node = OrthancNode(directory, porta_port=porta_port)
    try:
        node.start(say=lambda line: None)
        yield node
    finally:
        node.stop()


if __name__ == "__main__":
    main()
