"""The systemd unit: what it starts, what it may write, and that systemd understands it."""

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from daemon.configuration.config import DEFAULT_PLACES, Config
from daemon.service import WATCHDOG_TICK_S

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


def test_systemd_knows_whether_it_is_ready_and_at_work(service: dict[str, str]):
    """It waits for several signs of life before it kills, and for the models before it gives up."""
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["WatchdogSec"]) >= 6 * WATCHDOG_TICK_S
    assert int(service["TimeoutStartSec"]) >= 120
    assert service["ExecReload"] == service["ExecStart"].replace(" run ", " reload ")


def test_its_log_is_bounded(service: dict[str, str], deploy: Path):
    """Lines in a time by the unit, the journal's size by journald."""
    assert int(service["LogRateLimitBurst"]) > 0
    journal = RawConfigParser()
    journal.read(deploy / "journald.conf")
    assert set(journal["Journal"]) >= {"systemmaxuse", "maxretentionsec"}


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


@pytest.fixture
def analyze() -> str:
    """systemd's own program, of the Debian package systemd."""
    if not (found := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    return found


@pytest.mark.parametrize("name", UNITS)
def test_its_exposure_is_at_most_two_of_ten(analyze: str, deploy: Path, name: str):
    """By `systemd-analyze security`, which weighs what a broken-into service could do to the machine."""
    options = ["--offline=true", "--threshold=20", "--no-pager"]
    done = subprocess.run([analyze, "security", *options, deploy / name], capture_output=True, text=True)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze needs a running systemd")
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_it(analyze: str, deploy: Path, tmp_path: Path, name: str):
    """`systemd-analyze verify` finds nothing, with a program that is here in place of the installed one."""
    unit = tmp_path / name
    unit.write_text(re.sub(r"^Exec(Start|Reload)=\S+", r"Exec\1=/bin/true", (deploy / name).read_text(), flags=re.M))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
