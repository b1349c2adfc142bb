"""`porta demo`: the whole line on one machine, beside a PACS, and its results compared with a truth that is known."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from daemon.commands.demo_pacs import OrthancNode, OwnNode, Pacs, free_port
from daemon.commands.phantoms import PhantomOrder, lesion_volumes_ml, liver_volume_ml, write_phantom
from daemon.errors import DaemonError, StorageUnusable
from daemon.jobs import State
from daemon.ledger.store import Ledger
from daemon.terminal import Terminal, styled
from dicom_io.errors import PeerError
from dicom_io.geometry import Geometry
from dicom_io.network import scu
from dicom_io.seg_reader import SegmentMask, read_seg
from dicom_io.segmentation import LIVER, Algorithm, Segmentation
from dicom_io.sr_reader import read_measurement_groups
from models.cards import find
from models.phantom import DEMO_SEED, Phantom, Tissue
from reports.codes import NUMBER_OF_LESIONS, VOLUME
from reports.findings.measurements import measure
from reports.pages.overlays import write_overlays
from reports.pages.slice_page import ImageNames

MARKER = ".porta-demo"
LESIONS = 3
LESION_AXES_MM = (14.0, 22.0)
MIN_LIVER_DICE, MAX_VOLUME_ERROR = 0.90, 0.10
LONGEST_WAIT_S = 600.0
SENDER = "MODALITY"

console = Terminal(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Check:
    """One line of the comparison."""

    what: str
    truth: str
    found: str
    right: bool


def run_demo(directory: Path, *, once: bool) -> int:
    """Run the demonstration in `directory`; 0 when the results were right. Raises StorageUnusable, DaemonError."""
    directory = directory.resolve()
    _clear(directory)
    with console.status("making a phantom CT study") as status:
        written = write_phantom(
            directory / "phantom",
            PhantomOrder(
                lesions=LESIONS,
                lesion_axes_mm=LESION_AXES_MM,
                lesion_kinds=(Tissue.METASTASIS,),
                lesion_variety=0.0,
                noise=8.0,
            ),
            seed=DEMO_SEED,
        )
        console.print(f"Phantom: {len(written.paths)} slices, {LESIONS} lesions, seed {DEMO_SEED} (no weights saw it)")
        port = free_port(11112, say=console.print)
        pacs: Pacs = OrthancNode(directory, porta_port=port) if OrthancNode.available() else OwnNode(directory)
        try:
            status.update(f"starting {pacs.name}")
            pacs.start(say=console.print)
            status.update("starting Porta")
            service = _start_service(directory, port, pacs)
            try:
                return _show(
                    directory, written.phantom, written.paths, port, pacs, service, say=status.update, once=once
                )
            finally:
                status.stop()
                _stop(service)
        finally:
            pacs.stop()


def _show(
    directory: Path,
    phantom: Phantom,
    paths: list[Path],
    port: int,
    pacs: Pacs,
    service: subprocess.Popen[bytes],
    *,
    say: Callable[[str], None],
    once: bool,
) -> int:
    # The PACS has the images too, so that a viewer can lay the results over them.
    for remote in (scu.Remote(pacs.ae_title, "127.0.0.1", pacs.port), scu.Remote("PORTA", "127.0.0.1", port)):
        say(f"sending {len(paths)} slices to {remote}")
        started = time.monotonic()
        scu.store(remote, paths, calling_ae_title=SENDER, timeout_s=60)
        console.print(f"Sent to {remote} by C-STORE in {time.monotonic() - started:.1f} s")
    study_instance_uid = _wait(directory, service, say)
    console.print(f"Results in the PACS {time.monotonic() - started:.0f} s after the first image was sent")
    results = directory / "results"
    results.mkdir()
    seg = pacs.fetch(study_instance_uid, "SEG", results)
    sr = pacs.fetch(study_instance_uid, "SR", results)
    checks = compare(phantom, seg, sr)
    picture = _draw(phantom, seg, results)
    _print_checks(checks)
    right = all(check.right for check in checks)
    console.print("The results are right." if right else styled("The results are NOT right.", "bold red"))
    _print_places(directory, port, pacs, study_instance_uid, picture)
    if not once:
        console.print("Listening until Ctrl-C.")
        try:
            service.wait()
        except KeyboardInterrupt:
            console.print("Stopping.")
    return 0 if right else 1


def compare(phantom: Phantom, seg: list[Path], sr: list[Path]) -> list[Check]:
    """The objects that came back out of the PACS against the phantom's truth."""
    checks = [
        Check("SEG objects", "1", str(len(seg)), len(seg) == 1),
        Check("SR objects", "1", str(len(sr)), len(sr) == 1),
    ]
    if len(seg) != 1 or len(sr) != 1:
        return checks
    geometry = phantom.volume.geometry
    labels = labels_on(geometry, read_seg(seg[0]))
    truth = phantom.truth
    dice = 2 * np.count_nonzero((labels > 0) & (truth > 0)) / (np.count_nonzero(labels) + np.count_nonzero(truth))
    checks.append(Check("liver Dice", f">= {MIN_LIVER_DICE:.2f}", f"{dice:.3f}", bool(dice >= MIN_LIVER_DICE)))
    groups = read_measurement_groups(sr[0])
    count = next((int(g.numbers[NUMBER_OF_LESIONS.value]) for g in groups if NUMBER_OF_LESIONS.value in g.numbers), -1)
    checks.append(Check("lesions", str(len(phantom.lesions)), str(count), count == len(phantom.lesions)))
    volumes = [group.numbers[VOLUME.value] for group in groups if VOLUME.value in group.numbers]
    expected = true_volumes_ml(phantom)
    for number, true_ml in enumerate(expected):
        found_ml = volumes[number] if number < len(volumes) else 0.0
        right = abs(found_ml - true_ml) <= MAX_VOLUME_ERROR * true_ml
        what = "liver volume (mL)" if number == 0 else f"lesion {number} volume (mL)"
        checks.append(Check(what, f"{true_ml:.1f} ± {MAX_VOLUME_ERROR:.0%}", f"{found_ml:.1f}", right))
    return checks


def true_volumes_ml(phantom: Phantom) -> list[float]:
    """Liver with its lesions, then each lesion from large to small, by the truth's voxels."""
    return [liver_volume_ml(phantom), *sorted(lesion_volumes_ml(phantom), reverse=True)]


def labels_on(geometry: Geometry, segments: list[SegmentMask]) -> NDArray[np.uint8]:
    """The segments of a SEG, put on a grid by the position of their frames."""
    labels = np.zeros(geometry.shape, np.uint8)
    for segment in segments:
        planes = np.rint(geometry.lps_to_index(segment.origins_lps_mm)[:, 0]).astype(int)
        for plane, mask in zip(planes, segment.masks, strict=True):
            labels[plane][mask] = segment.number
    return labels


def _draw(phantom: Phantom, seg: list[Path], results: Path) -> Path | None:
    if len(seg) != 1:
        return None
    card = find("resnet50")
    labels = labels_on(phantom.volume.geometry, read_seg(seg[0]))
    segmentation = Segmentation(labels, phantom.volume.geometry, Algorithm(card.name, card.version, card.sha256))
    findings = measure(phantom.volume, segmentation, tracking_seed="demo")
    return write_overlays(phantom.volume, segmentation, findings, results, ImageNames("CT"))[
        -1 if labels.max() > LIVER else 0
    ]


def _clear(directory: Path) -> None:
    """An empty folder for this run; only a folder that an earlier demonstration made is emptied."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARKER).exists():
            raise StorageUnusable(f"{directory}: holds files that no demonstration made; choose another with --dir")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).write_text("porta demo empties this folder each time it starts\n")


def _start_service(directory: Path, port: int, pacs: Pacs) -> "subprocess.Popen[bytes]":
    config = directory / "porta.toml"
    config.write_text(_CONFIG.format(port=port, root=json.dumps(str(directory / "storage")), pacs=pacs))
    with (directory / "porta.log").open("wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "daemon.commands.cli", "run", "--config", str(config)],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise DaemonError(f"Porta ended with exit code {service.returncode}; see {directory / 'porta.log'}")
        try:
            scu.echo(scu.Remote("PORTA", "127.0.0.1", port), calling_ae_title=SENDER, timeout_s=5)
            return service
        except PeerError:
            time.sleep(0.2)
    _stop(service)
    raise DaemonError(f"Porta did not answer within a minute; see {directory / 'porta.log'}")


def _wait(directory: Path, service: "subprocess.Popen[bytes]", say: Callable[[str], None]) -> str:
    """Wait until the one job is CONFIRMED; return the study's UID."""
    ledger = Ledger(f"sqlite:///{directory / 'storage' / 'ledger.sqlite'}")
    try:
        deadline = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < deadline:
            if service.poll() is not None:
                raise DaemonError(f"Porta ended with exit code {service.returncode}; see {directory / 'porta.log'}")
            for job in ledger.all_jobs():
                say(f"job {job.id}: {_DOING.get(job.state, job.state)}")
                if job.halt or job.state in (State.REJECTED, State.CANCELLED):
                    raise DaemonError(f"job {job.id} is {job.state} {job.halt or job.reject_reason}")
                if job.state == State.CONFIRMED:
                    return job.study_instance_uid
            time.sleep(0.2)
    finally:
        ledger.close()
    raise DaemonError(f"no results after {LONGEST_WAIT_S:.0f} s; see {directory / 'porta.log'}")


_DOING = {
    State.RECEIVING: "received, waiting for more slices",
    State.RECEIVED: "segmenting",
    State.SEGMENTED: "measuring, writing and proving SEG and SR",
    State.REFUSED: "writing why it is not processed",
    State.REPORTED: "sending the results",
    State.DELIVERED: "asking the PACS whether it has them",
}


def _stop(service: "subprocess.Popen[bytes]") -> None:
    if service.poll() is None:
        service.send_signal(signal.SIGTERM)
        try:
            service.wait(12)
        except subprocess.TimeoutExpired:
            service.kill()


def _print_checks(checks: list[Check]) -> None:
    table = Table("", "truth", "found", "")
    for check in checks:
        table.add_row(check.what, check.truth, check.found, "ok" if check.right else styled("WRONG", "bold red"))
    console.print(table)


def _print_places(directory: Path, port: int, pacs: Pacs, study_instance_uid: str, picture: Path | None) -> None:
    console.print(f"Porta:    AE title PORTA, 127.0.0.1:{port}; log {directory / 'porta.log'}")
    for line in pacs.places(study_instance_uid):
        console.print(line)
    console.print(f"Overlay:  {picture}")
    console.print(f"Jobs:     porta jobs --config {directory / 'porta.toml'}")
    console.print(f"Your own: dcmsend -aet {SENDER} -aec PORTA 127.0.0.1 {port} +sd FOLDER")
    console.print("For research use, not a diagnosis.")


_CONFIG = """\
[dicom]
ae_title = "PORTA"
host = "127.0.0.1"
port = {port}
[[peer]]
name = "pacs"
ae_title = "{pacs.ae_title}"
host = "127.0.0.1"
port = {pacs.port}
accept = true
[[peer]]
name = "modality"
ae_title = "MODALITY"
host = "127.0.0.1"
accept = true
[[destination]]
peer = "pacs"
objects = ["seg", "sr"]
confirm = "{pacs.confirm}"
[[rule]]
name = "liver-ct"
match = {{ Modality = "CT" }}
model = "resnet50"
destinations = ["pacs"]
[storage]
root = {root}
min_free_mb = 100
[series]
quiet_s = 20
released_quiet_s = 2
[log]
format = "json"
"""
