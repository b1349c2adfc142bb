"""The systemd unit: what it starts, what it may write, and that systemd understands it."""

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from daemon.configuration.config import DEFAULT_PLACES, Config

HARDENED = (
    "NoNewPrivileges",
    "PrivateTmp",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictNamespaces",
    "RestrictSUIDSGID",
)


UNITS = ("porta.service", "porta-console.service")


def section(unit: Path) -> dict[str, str]:
    """The [Service] section; a key that is there twice has its last value."""
    parser = RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return dict(parser["Service"])


@pytest.fixture(scope="module")
def service(deploy: Path) -> dict[str, str]:
    """That of Porta itself."""
    return section(deploy / "porta.service")


def test_it_runs_the_installed_porta_with_the_usual_configuration(service: dict[str, str]):
    """The path of `make install` in /opt/porta, and the file where Porta would look for it by itself."""
    assert service["ExecStart"].split() == ["/opt/porta/.venv/bin/porta", "run", "--config", str(DEFAULT_PLACES[-1])]


def test_the_storage_root_is_all_that_it_may_write(service: dict[str, str], config: Config):
    """ProtectSystem=strict, and the default root is the unit's state directory, closed to others."""
    assert service["ProtectSystem"] == "strict"
    assert Path("/var/lib") / service["StateDirectory"] == config.storage.root == Config().storage.root
    assert service["StateDirectoryMode"] == "0700"
    assert service["UMask"] == "0077"


def test_it_comes_back_unless_the_configuration_is_wrong(service: dict[str, str]):
    """Exit 2 is not mended by starting again."""
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"


def test_it_has_time_to_end_and_a_killed_worker_is_not_the_end(service: dict[str, str]):
    """Porta ends within 10 s; systemd's own answer to an OOM kill would be to stop the service."""
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 10
    assert service["OOMPolicy"] == "continue"


def test_the_console_never_costs_the_service_anything(deploy: Path, service: dict[str, str]):
    """It runs beside it, and gives way where processor or memory are short."""
    console = section(deploy / "porta-console.service")
    assert console["ExecStart"].split() == ["/opt/porta/.venv/bin/porta", "console", *service["ExecStart"].split()[2:]]
    assert int(console["OOMScoreAdjust"]) > 0 > int(service["OOMScoreAdjust"])
    assert int(console["Nice"]) > 0 and console["MemoryMax"] and console["RestartPreventExitStatus"] == "2"
    assert console["StateDirectory"] == service["StateDirectory"] and console["ProtectSystem"] == "strict"


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_hardened(deploy: Path, unit: str):
    """No root, no capabilities, and nothing of the system that it does not need."""
    service = section(deploy / unit)
    assert service["User"] == "porta"
    assert service["CapabilityBoundingSet"] == ""
    assert [name for name in HARDENED if service.get(name) != "true"] == []


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_it(deploy: Path, tmp_path: Path, name: str):
    """`systemd-analyze verify` finds nothing, with a program that is here in place of the installed one."""
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / name
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", (deploy / name).read_text(), flags=re.M))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
