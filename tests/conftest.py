"""What every test may ask for: the field's own tools, and the real data beside the checkout.

Where something is missing the test is skipped with the reason; with PORTA_REQUIRE_INTEGRATION=1, as in CI, it
fails instead: skipped there would mean unproved.
"""

import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import settings

# How many examples of each property are drawn; one whose examples take long draws `settings.default.max_examples // 10`
# or so. `make test-long` asks for the second profile.
settings.register_profile("ci", deadline=None, max_examples=100)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile("ci")


def _missing(reason: str) -> None:
    if os.environ.get("PORTA_REQUIRE_INTEGRATION") == "1":
        pytest.fail(f"{reason}, and PORTA_REQUIRE_INTEGRATION=1")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require_binary() -> Callable[[str], str]:
    """`require_binary("dciodvfy")` is the path of a program: beside this Python, or on the PATH."""

    def find(name: str) -> str:
        beside = Path(sys.executable).parent / name
        path = str(beside) if beside.exists() else shutil.which(name)
        if path is None:
            _missing(f"{name} is not installed")
        return str(path)

    return find


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imaging data, `$PORTA_SHARED_DATA` or `../shared/data`."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("PORTA_SHARED_DATA", default))
    if not path.is_dir():
        _missing("the shared imaging data is not here")
    return path


@pytest.fixture(scope="session")
def unpacked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """`unpacked("chaos_ct3/ct_dicom")` are the files of that zip of the shared data, unpacked once a session."""
    folders: dict[str, Path] = {}

    def files(name: str) -> list[Path]:
        if name not in folders:
            archive = shared_data / f"{name}.zip"
            if not archive.exists():
                _missing(f"{archive.name} is not in the shared data")
            folder = tmp_path_factory.mktemp(name.replace("/", "-"))
            with zipfile.ZipFile(archive) as content:
                content.extractall(folder)
            folders[name] = folder
        return sorted(path for path in folders[name].rglob("*") if path.is_file())

    return files


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """`free_port()` is a TCP port of loopback that nobody listens on, another one each time.

    It is of the tests' worker alone, and none that the system gives to whoever calls somebody: who listened there may
    end and come again.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    ports = cycle(range(12000 + 2000 * worker, 14000 + 2000 * worker))

    def is_free(port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    return lambda: next(filter(is_free, ports))


@dataclass(frozen=True)
class Issued:
    """A certificate in PEM, its key, and who issued it."""

    certificate: Path
    key: Path
    ca: Path


@pytest.fixture(scope="session")
def issue(require_binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Issued]:
    """`issue("porta", days=30)` is a certificate for localhost, of the authority of this session or another one."""
    openssl, folder = require_binary("openssl"), tmp_path_factory.mktemp("certificates")

    def run(*arguments: str | Path) -> None:
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=folder)

    def authority(name: str) -> Path:
        path = folder / f"{name}.pem"
        if not path.exists():
            made = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", path, "-days", "3650")
            run("req", "-x509", "-newkey", "rsa:2048", "-nodes", *made)
        return path

    def make(name: str, *, days: int = 365, by: str = "authority") -> Issued:
        ca, certificate, key = authority(by), folder / f"{name}-{days}-{by}.pem", folder / f"{name}-{days}-{by}.key"
        if not certificate.exists():
            names = folder / "names"
            names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
            asked = folder / "asked"
            run("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", asked, "-subj", f"/CN={name}")
            signed = ("-CA", ca, "-CAkey", ca.with_suffix(".key"), "-CAcreateserial", "-extfile", names)
            run("x509", "-req", "-in", asked, "-out", certificate, "-days", str(days), *signed)
        return Issued(certificate, key, ca)

    return make


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """`missing("what is not here")` skips the test, or fails it where nothing may be skipped."""
    return _missing
