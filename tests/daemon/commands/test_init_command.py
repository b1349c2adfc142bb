"""`porta init`, `--version`, the completion and the manual page: what an administrator meets first."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from daemon.administration.first_configuration import FoundOrthanc
from daemon.commands import init_command
from daemon.commands.cli import app, main
from daemon.commands.manual import manual_page
from daemon.configuration.config import load

GIVEN = ("--pacs-ae-title", "PACS1", "--pacs-host", "192.0.2.5", "--pacs-port", "104", "--address", "192.0.2.7")


@pytest.fixture
def porta(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`porta(arguments)`: exit code, and what was said; no Orthanc is on this machine."""
    monkeypatch.setattr(init_command, "find_orthanc", lambda: None)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["porta", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_init_writes_what_it_was_given(porta: Any, tmp_path: Path):
    """The file loads, the PACS's side is printed, and nothing is overwritten that nobody gave up."""
    path = tmp_path / "porta.toml"
    code, out, err = porta("init", path, *GIVEN, "--yes", "--kind", "dcm4chee", "--root", tmp_path / "root")
    assert (code, err) == (0, "")
    assert "Next: `porta check" in out
    assert "URI dicom:PORTA" in out
    assert load(path, known_models=["resnet50"]).peer("pacs").host == "192.0.2.5"
    before = path.read_text()
    code, out, err = porta("init", path, *GIVEN, "--yes")
    assert (code, out) == (2, "")
    assert err == f"porta: {path} is there already: name another file, or overwrite it by --force\n"
    assert path.read_text() == before
    assert porta("init", path, *GIVEN, "--yes", "--force")[0] == 0
    assert path.read_text() != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--yes",), "AE title of the PACS? name it by --pacs-ae-title"),
        ((*GIVEN, "--ae-title", "A" * 17), "--ae-title: an AE title has at most 16 characters, this one has 17"),
        ((*GIVEN, "--pacs-port", "0"), "--pacs-port: must be a port from 1 to 65535, not 0"),
        ((*GIVEN, "--root", "porta"), '--root: must be an absolute path, not "porta"'),
        ((*GIVEN, "--address", "!!"), '--address: must be a host name or an IP address, not "!!"'),
        (
            (*GIVEN, "--pacs-host", "192.0.2.5:104"),
            '--pacs-host: must be a host name or an IP address, not "192.0.2.5:104"; give the port by its key',
        ),
        ((*GIVEN, "--ae-title", "PACS1"), "--ae-title: PACS1 is the PACS's own title; give Porta another one"),
        (
            (*GIVEN, "--address", "0.0.0.0"),
            "--address: 0.0.0.0 is nobody's; give the address at which the PACS finds Porta",
        ),
        (
            (*GIVEN, "--address", "localhost"),
            "--address: localhost is the PACS's own machine there; give the address at which 192.0.2.5 finds Porta",
        ),
        (
            (*GIVEN, "--pacs-host", "localhost", "--port", "104"),
            "--port: 104 is the PACS's, on the same machine; choose another one",
        ),
    ],
)
def test_what_cannot_be_used_is_not_written(porta: Any, tmp_path: Path, arguments: tuple[str, ...], said: str):
    """One line names the option and says what to do; no file is left."""
    assert porta("init", tmp_path / "porta.toml", *arguments, "--yes") == (2, "", f"porta: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(porta: Any, tmp_path: Path):
    path = tmp_path / "none" / "porta.toml"
    code, _, err = porta("init", path, *GIVEN, "--yes")
    assert (code, err) == (
        2,
        f"porta: {path}: cannot be written: {path.parent} is no folder\n",
    )


def test_an_orthanc_that_is_found_answers_for_itself(porta: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing need be given beside it."""
    monkeypatch.setattr(init_command, "find_orthanc", lambda: FoundOrthanc("MYORTHANC", 4243))
    code, out, _ = porta("init", tmp_path / "porta.toml", "--yes", "--root", tmp_path / "root")
    assert code == 0
    assert out.startswith("An Orthanc answers on this machine: MYORTHANC, port 4243\n")
    assert all(word in out for word in ('"DicomModalities"', "OnStableStudy"))
    config = load(tmp_path / "porta.toml", known_models=["resnet50"])
    assert (config.peer("pacs").ae_title, config.peer("pacs").port) == ("MYORTHANC", 4243)


def test_who_sits_at_a_terminal_is_asked(porta: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For what no option says, each with its default where there is one; again where the answer cannot be used."""
    asked: list[tuple[str, object]] = []
    given = ["orthnac", "other", "192.0.2.9", "104a", "70000", "104", "PORTA", "192.0.2.7", "11112", "porta"]
    answers = iter([*given, str(tmp_path / "root")])

    def prompt(question: str, default: object = None) -> object:
        asked.append((question, default))
        return next(answers)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "prompt", prompt)
    code, out, err = porta("init", tmp_path / "porta.toml", "--pacs-ae-title", "PACS1")
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == [
        "What is the PACS (orthanc, dcm4chee, other): orthnac is none of orthanc, dcm4chee, other; write other for "
        "another PACS",
        'DICOM port of the PACS: must be a port from 1 to 65535, not "104a"',
        "DICOM port of the PACS: must be a port from 1 to 65535, not 70000",
        'Folder for images and results: must be an absolute path, not "porta"',
    ]
    kind, port, root = ["other"] * 2, ["104"] * 3, ["/var/lib/porta"] * 2
    assert [default for _, default in asked] == [*kind, None, *port, "PORTA", None, "11112", *root]
    assert load(tmp_path / "porta.toml", known_models=["resnet50"]).peer("pacs").host == "192.0.2.9"


def test_the_version(porta: Any):
    """That which stands in every SEG and SR."""
    from reports.identity import software_version

    assert porta("--version") == (0, f"porta {software_version()}\n", "")


def test_commands_are_completed():
    """By the shell's own way of asking."""
    environment = os.environ | {"_PORTA_COMPLETE": "complete_bash", "COMP_WORDS": "porta re", "COMP_CWORD": "1"}
    program = "import sys; sys.argv = ['porta']; from daemon.commands.cli import app; app(prog_name='porta')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert set(done.stdout.split()) == {"reload", "rerun", "retry", "restore", "retention"}


def test_the_manual_page_has_every_command_and_is_roff(require_binary: Callable[[str], str], porta: Any):
    """Each with its options; groff reads it without a warning."""
    page = manual_page(app, "0.0")
    assert all(
        f".SS porta {name}\n" in page for name in ("check", "init", "models verify", "console user add", "reload")
    )
    assert porta("man")[1].startswith(".TH PORTA 1")
    groff = require_binary("groff")
    warned = [f"-w{kind}" for kind in ("input", "mac", "escape", "syntax")]
    command = [groff, "-man", "-Tutf8", "-Wbreak", *warned]
    done = subprocess.run(command, input=page, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    text = re.sub(r".\x08", "", done.stdout)  # bold is struck twice
    assert "--store" in text.replace("\N{HYPHEN}", "-").replace("\N{MINUS SIGN}", "-")
