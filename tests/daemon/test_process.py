"""What the kernel is told of the service and its workers."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.configuration.config import Config, Storage
from daemon.process import tell_systemd

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> dict[str, object]:
    """What code prints as JSON, in a process of its own: limits that are lowered stay low."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_service_dumps_no_core_and_may_hold_many_sockets() -> None:
    """As many as the hard limit allows."""
    code = """
import json, resource
from daemon.process import DESCRIPTORS, limit_service
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
limit_service()
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "wanted": min(DESCRIPTORS, hard) if hard != resource.RLIM_INFINITY else DESCRIPTORS,
}))
"""
    limits = run(code)
    assert limits["core"] == [0, 0]
    assert limits["files"] == limits["wanted"]


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_service_manager_that_listens_is_told(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a socket in a file, or in Linux's own space of names; one that is gone, or none, is no error."""
    name = str(tmp_path / "notify") if kind == "path" else f"@porta-{tmp_path.name}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    tell_systemd("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        tell_systemd("READY=1", "STATUS=here")
        assert manager.recv(100) == b"READY=1\nSTATUS=here"
    monkeypatch.delenv("NOTIFY_SOCKET")
    tell_systemd("READY=1")


def test_storage_is_private_to_its_last_parent(tmp_path: Path) -> None:
    """Folders that were made on the way to the root, the ledger and its journal too; a wide umask changes nothing."""
    root = tmp_path / "srv" / "images" / "porta"
    config = Config(storage=Storage(root=root)).model_dump_json(by_alias=True)
    code = f"""
import json, os
os.umask(0)
from daemon.configuration.config import Config
from daemon.intake import open_storage
spool, ledger = open_storage(Config.model_validate_json({config!r}))
print(json.dumps({{"root": str(spool.root)}}))
"""
    assert run(code) == {"root": str(root)}
    for path in (root.parents[1], root.parent, root, *root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
