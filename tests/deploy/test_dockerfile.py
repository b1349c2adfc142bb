"""The Dockerfile installs what `make install` installs, copies what there is, and its health check tells true."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

FOLDERS = ("dicom_io", "models", "reports", "daemon")


def normal(command: str) -> list[str]:
    """A step without what may differ: which Python, how loud, editable, extras of the developer."""
    words = re.sub(r"\S*/?\bpip3?\b|\S*python[\d.]*\s+-m\s+pip\b", "pip", command.strip().lstrip("@-")).split()
    words[0] = re.sub(r".*python[\d.]*$", "python", words[0])
    quiet = ("-e", "--editable", "-q", "--quiet", "--disable-pip-version-check")
    return [re.sub(r"^['\"]?\.(\[\w+\])?['\"]?$", ".", word) for word in words if word not in quiet]


def test_the_steps_are_those_of_make_install(deploy: Path, dockerfile: list[tuple[str, str]]):
    """Each step of the first stage is one of the Makefile's, in its order."""
    if not (make := shutil.which("make")):
        pytest.skip("make is not installed")
    plan = subprocess.run(
        [make, "--dry-run", "--always-make", "--no-print-directory", "install"],
        cwd=deploy.parent,
        capture_output=True,
        text=True,
        check=True,
        # make's own variables, when the tests are run by `make test`, would reach this make too.
        env={key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))},
    ).stdout
    steps = [normal(part) for line in plan.splitlines() for part in re.split(r"&&|;", line) if part.strip()]
    first_stage = dockerfile[: [name for name, _ in dockerfile].index("FROM", 1)]
    wanted = [normal(rest) for name, rest in first_stage if name == "RUN"]
    assert wanted == [["python", "-m", "venv", ".venv"], ["pip", "install", "-c", "constraints.txt", "."]]
    assert [step for step in steps if step in wanted] == wanted


def test_what_is_copied_exists_and_is_let_through(deploy: Path, dockerfile: list[tuple[str, str]]):
    """Every source is in the repository and excepted in Dockerfile.dockerignore; all four folders are among them."""
    sources = [
        source for name, rest in dockerfile if name == "COPY" and "--from" not in rest for source in rest.split()[:-1]
    ]
    ignored = (deploy / "Dockerfile.dockerignore").read_text().splitlines()
    assert set(FOLDERS) <= set(sources)
    for source in sources:
        assert (deploy.parent / source).exists(), source
        assert f"!{source}" in ignored


def test_what_pip_needs_is_copied(deploy: Path, dockerfile: list[tuple[str, str]]):
    """The files that pyproject.toml names, which a build without them would miss."""
    pyproject = (deploy.parent / "pyproject.toml").read_text()
    copied = " ".join(rest for name, rest in dockerfile if name == "COPY").split()
    assert {"pyproject.toml", "constraints.txt"} <= set(copied)
    for name in ("README.md", "LICENSE"):
        assert (f'"{name}"' in pyproject) == (name in copied)


def test_the_image_does_not_run_as_root(dockerfile: list[tuple[str, str]]):
    """The last USER is the one that runs."""
    user = [rest for name, rest in dockerfile if name == "USER"][-1]
    assert user == "porta"
    assert any(name == "RUN" and re.search(r"useradd --uid [1-9]\d+ .*\bporta\b", rest) for name, rest in dockerfile)


def test_it_runs_the_service(dockerfile: list[tuple[str, str]]):
    """`docker run porta-hepatis` is `porta run`, and `docker run porta-hepatis check` is `porta check`."""
    assert json.loads(dict(dockerfile)["ENTRYPOINT"]) == ["porta"]
    assert json.loads(dict(dockerfile)["CMD"]) == ["run"]


def test_the_python_is_one_that_the_project_supports(dockerfile: list[tuple[str, str]]):
    """Both stages are the same image, or the environment would not run in the second."""
    images = {rest.split()[0] for name, rest in dockerfile if name == "FROM"}
    assert images == {"python:3.11-slim-bookworm"}


def test_the_health_check_tells_listening_from_not(dockerfile: list[tuple[str, str]], tmp_path: Path):
    """Its own code, run here: exit 0 while something listens on the configured port, else another."""
    _, _, command = dict(dockerfile)["HEALTHCHECK"].partition("CMD ")
    program, *arguments = json.loads(command)
    assert program == "python"
    configuration = tmp_path / "porta.toml"

    def check() -> int:
        return subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PORTA_CONFIG": str(configuration)},
            stderr=subprocess.DEVNULL,
        ).returncode

    with socket.create_server(("127.0.0.1", 0)) as server:
        configuration.write_text(f"[dicom]\nport = {server.getsockname()[1]}\n")
        assert check() == 0
    assert check() != 0
