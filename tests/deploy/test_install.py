"""A real install: the wheel holds all that runs, another user than root runs it, and systemd hears what it waits for.

Slow for its kind (a wheel, a virtual environment, a service with its models), and so made once.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("daemon", "dicom_io", "models", "reports")
USER = "nobody"
PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's are not, nor what is made under the mask of the service."""
    folder = Path(tempfile.mkdtemp(prefix="porta-install-"))
    folder.chmod(0o755)
    before = os.umask(0o022)
    yield folder
    os.umask(before)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    """The wheel of this copy of the repository."""
    copy = place / "source"
    for name in (*FOLDERS, "deploy"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(REPOSITORY / name, copy)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", place]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, copy], check=True, timeout=240)
    (made,) = place.glob("*.whl")
    return made


def install(
    place: Path, wheel: Path, *, python: str = PYTHON, script: str = "install.sh"
) -> "subprocess.CompletedProcess[str]":
    """Run a script of deploy/ with a root folder in place of /, for a user that is here."""
    return subprocess.run(
        [place / "source" / "deploy" / script, wheel],
        env=os.environ
        | {"ROOT": str(place / "root"), "PORTA_USER": USER, "PYTHON": python, "PIP_OPTIONS": "--no-deps"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def installed(place: Path, wheel: Path, missing: Callable[[str], None]) -> Path:
    """The virtual environment that install.sh fills; libraries are those of the tests, so that nothing is fetched."""
    if os.geteuid() or not shutil.which("runuser"):
        pytest.skip("install.sh is root's to run")
    said = subprocess.run(
        [PYTHON, "-c", "import ensurepip, sys; print(sys.version_info[:2])"], capture_output=True, text=True
    )
    if said.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip(f"{PYTHON} is not of this version, or has no venv")
    libraries = sysconfig.get_paths()["purelib"]
    if subprocess.run(["runuser", "-u", USER, "--", "test", "-r", f"{libraries}/typer/__init__.py"]).returncode:
        pytest.skip(f"the user {USER} may not read the libraries of the tests")
    venv = place / "root/opt/porta/.venv"
    subprocess.run([PYTHON, "-m", "venv", venv], check=True, timeout=120)
    (site,) = venv.glob("lib/python3.*/site-packages")
    (site / "libraries.pth").write_text(libraries + "\n")  # paths of such a file are not searched for further ones
    done = install(place, wheel)
    assert (done.returncode, done.stderr) == (0, "")
    return venv


def test_the_wheel_holds_every_file_that_runs(wheel: Path):
    """Weights, templates, pages of the console and migrations too: all of the four folders, and nothing else."""
    listed = subprocess.run(["git", "ls-files", *FOLDERS], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
    assert names == {name for name in listed.stdout.split() if (REPOSITORY / name).exists()}


def test_a_python_that_the_user_may_not_run_is_refused(installed: Path, place: Path, wheel: Path):
    """One below /root, as pyenv's: said before anything is made of it."""
    hidden = place / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copy(os.path.realpath(PYTHON), hidden / "python3")
    done = install(place, wheel, python=str(hidden / "python3"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"install.sh: the user {USER} may not run {hidden}/python3: name another Python, as in "
        f"PYTHON=/usr/bin/python3 {place}/source/deploy/install.sh"
    ]


def test_installing_again_keeps_the_configuration(installed: Path, place: Path, wheel: Path):
    """Every file lies where the unit looks for it, and a person's changes stay."""
    root = place / "root"
    configuration = root / "etc/porta/porta.toml"
    assert configuration.read_text() == (REPOSITORY / "deploy/systemd.toml").read_text()
    assert configuration.stat().st_mode & 0o777 == 0o640
    configuration.write_text(configuration.read_text() + "# mine\n")
    assert install(place, wheel).returncode == 0
    assert configuration.read_text().endswith("# mine\n")
    unit = (root / "etc/systemd/system/porta.service").read_text()
    program = re.search(r"^ExecStart=(\S+)", unit, re.M)
    assert program is not None
    assert (root / program[1].lstrip("/")).exists()


@dataclass
class Heard:
    """What a service manager is told."""

    socket: socket.socket

    def next(self, seconds: float = 60.0) -> str:
        self.socket.settimeout(seconds)
        return self.socket.recv(4096).decode()


def test_the_installed_service_tells_systemd_how_it_is(installed: Path, place: Path, free_port: Callable[[], int]):
    """With deploy/systemd.toml as it is but for port and folder: ready, at work, reading again, stopping."""
    user = pwd.getpwnam(USER)
    home = place / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    text = (REPOSITORY / "deploy/systemd.toml").read_text().replace("#port = 11112", f"port = {free_port()}")
    configuration = place / "porta.toml"
    configuration.write_text(text + f'\n[storage]\nroot = "{home}/storage"\nmin_free_mb = 1\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        (place / "notify").chmod(0o777)
        service = subprocess.Popen(
            [installed / "bin/porta", "run", "-c", configuration],
            env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(place / "notify"), "HOME": str(home)},
            cwd=home,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            umask=0o077,
            stderr=subprocess.PIPE,
        )
        try:
            heard = Heard(manager)
            said = [heard.next(120), heard.next()]
            assert sorted(word.split("\n")[0] for word in said) == ["READY=1", "WATCHDOG=1"]
            configuration.write_text(configuration.read_text().replace('"ORTHANC"', '"PACS1"'))
            reload = [installed / "bin/porta", "reload", "-c", configuration]  # as the unit's ExecReload
            subprocess.run(reload, cwd=home, user=user.pw_uid, group=user.pw_gid, timeout=100, check=True)
            said = [word for word in iter(heard.next, "READY=1") if word != "WATCHDOG=1"]
            assert [word.split("\n")[0] for word in said] == ["RELOADING=1"]
            service.terminate()
            assert "STOPPING=1" in iter(heard.next, None) and service.wait(20) == 0
        finally:
            service.kill()
            assert service.stderr is not None
            print(service.stderr.read().decode()[-2000:])
    assert pwd.getpwuid((home / "storage").stat().st_uid).pw_name == USER


def test_uninstalling_keeps_what_is_a_persons(installed: Path, place: Path, wheel: Path):
    """The configuration stays, and the storage; this test comes last."""
    assert install(place, wheel, script="uninstall.sh").returncode == 0
    left = {str(path.relative_to(place / "root")) for path in (place / "root").rglob("*") if path.is_file()}
    assert left == {"etc/porta/porta.toml"}
