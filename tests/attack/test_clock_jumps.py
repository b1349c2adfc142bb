"""The wall clock of a running service is set by an hour and by a day, both ways: nothing stops, nothing hurries."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from daemon.ledger.store import Ledger
from dicom_io.files.uids import derive_uid

CONFIG = """\
[dicom]
ae_title = "PORTA"
host = "127.0.0.1"
port = {port}
[[peer]]
name = "modality"
ae_title = "MODALITY"
accept = true
[[peer]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = 104
[[destination]]
peer = "archive"
[[rule]]
name = "none"
match = {{ Modality = "CT", SeriesDescription = "No series is called this" }}
model = "resnet50"
destinations = ["archive"]
[storage]
root = "{root}"
min_free_mb = 0
[series]
quiet_s = 5
released_quiet_s = 1
[log]
format = "json"
"""
HOUR_S, DAY_S = 3600, 86_400

Until = Callable[..., None]


@dataclass
class Service:
    """The service as a process whose wall clock the test sets; its monotonic clock is the machine's."""

    folder: Path
    port: int
    library: Path
    process: "subprocess.Popen[bytes] | None" = None
    offset_s: int = 0
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.set_clock(0)
        (self.folder / "porta.toml").write_text(CONFIG.format(port=self.port, root=self.folder / "root"))
        self.environment = os.environ | {
            "LD_PRELOAD": str(self.library),
            "PORTA_WALL_OFFSET": str(self.folder / "offset"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def set_clock(self, jump_s: int) -> None:
        """Set the wall clock by so much from where it is."""
        self.offset_s += jump_s
        (self.folder / "offset.new").write_text(str(self.offset_s))
        (self.folder / "offset.new").replace(self.folder / "offset")

    def python(self, code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env=self.environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def start(self) -> None:
        with (self.folder / "porta.log").open("ab") as output:
            command = [sys.executable, "-m", "daemon.commands.cli", "run", "-c", str(self.folder / "porta.toml")]
            self.process = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)

    @property
    def log(self) -> str:
        return (self.folder / "porta.log").read_text(errors="replace")

    def associate(self) -> Association | None:
        ae = AE("MODALITY")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        assoc = ae.associate("127.0.0.1", self.port, ae_title="PORTA")
        return assoc if assoc.is_established else None

    def history(self, series: int) -> list[str]:
        """What has happened to the one job of a series."""
        ledger = Ledger(f"sqlite:///{self.folder / 'root' / 'ledger.sqlite'}")
        try:
            jobs = ledger.jobs_of_series(derive_uid("series", series))
            return [event["event"] for job in jobs for event in ledger.history(job.id)]
        finally:
            ledger.close()


@pytest.fixture(scope="module")
def wall_clock(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], None]) -> Path:
    """The library that sets the wall clock of a process, as built from `wall_clock.c`."""
    compiler = shutil.which("cc")
    if compiler is None:
        missing("no C compiler is installed")
    library = tmp_path_factory.mktemp("wall-clock") / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run([str(compiler), "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
    return library


@pytest.fixture
def service(tmp_path: Path, free_port: Callable[[], int], wall_clock: Path, until: Until) -> Iterator[Service]:
    service = Service(tmp_path, free_port(), wall_clock)
    service.start()
    assert service.process is not None
    try:
        until(lambda: "service.started" in service.log, patience_s=120)
        yield service
    finally:
        service.process.terminate()
        service.process.wait(15)


def test_the_wall_clock_alone_is_set(service: Service):
    """What the test below stands on: the library leaves the monotonic clock alone."""
    service.set_clock(DAY_S)
    wall, monotonic = map(float, service.python("import time; print(time.time(), time.monotonic())").split())
    assert wall - time.time() == pytest.approx(DAY_S, abs=HOUR_S)
    assert time.monotonic() - monotonic < HOUR_S


def test_series_are_closed_after_each_jump_and_none_before_it_is_whole(
    service: Service, make_ct: Callable[..., bytes], until: Until, figure: Callable[[str, object], None]
):
    """An association is open as the clock jumps: its series is closed once, with all that it brought."""
    jumps = (HOUR_S, -HOUR_S, DAY_S, -DAY_S, -2 * DAY_S)
    for number, jump_s in enumerate(jumps, start=1):
        assoc = service.associate()
        assert assoc is not None

        def send(index: int, assoc: Association = assoc, number: int = number) -> Any:
            return assoc.send_c_store(dcmread(BytesIO(make_ct(number, index)))).Status

        assert send(1) == 0x0000
        service.set_clock(jump_s)
        until(lambda number=number: service.log.count("clock.jumped") == number)
        assert send(2) == 0x0000
        assoc.release()
        until(lambda number=number: "REJECTED" in service.history(number), patience_s=60)
        assert service.history(number) == ["OPENED", "REJECTED"]
    figure("jumps", len(jumps))
    assert service.log.count("clock.jumped") == len(jumps)
