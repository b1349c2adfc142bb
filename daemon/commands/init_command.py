"""`porta init`: asks for what a first configuration needs, writes it, and says what to enter in the PACS."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from daemon.administration.first_configuration import (
    Answers,
    Kind,
    check_together,
    configuration_text,
    find_orthanc,
    pacs_side,
)
from daemon.configuration.faults import show_value
from daemon.configuration.values import checked_ae_title, checked_host, checked_path, checked_port
from daemon.errors import BadRequest, ConfigurationError
from daemon.terminal import say


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("porta.toml"),
    kind: Annotated[Kind | None, typer.Option(help="The PACS: orthanc, dcm4chee or other.")] = None,
    pacs_ae_title: Annotated[str | None, typer.Option(help="AE title of the PACS.")] = None,
    pacs_host: Annotated[str | None, typer.Option(help="Host name or address of the PACS.")] = None,
    pacs_port: Annotated[int | None, typer.Option(help="DICOM port of the PACS.")] = None,
    ae_title: Annotated[str | None, typer.Option(help="AE title of Porta.")] = None,
    address: Annotated[str | None, typer.Option(help="Where the PACS finds this machine.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of Porta.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder for images, results and the ledger; absolute.")] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Ask nothing: AE title, host and address are needed then, but beside an Orthanc."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a first configuration for a PACS, and print what to enter there; asks for what no option says."""
    if path.exists() and not force:
        raise BadRequest(f"{path} is there already: name another file, or overwrite it by --force")
    if not path.parent.is_dir():  # said before anything is asked
        raise ConfigurationError([f"{path}: cannot be written: {path.parent} is no folder"])
    found = find_orthanc() if pacs_host in (None, "127.0.0.1", "localhost") and pacs_port is None else None
    if found:
        say(f"An Orthanc answers on this machine: {found.ae_title}, port {found.port}")
    ask = _Told(asks=not yes and sys.stdin.isatty()).answer
    here = "127.0.0.1" if found else None
    answers = Answers(
        kind=ask("What is the PACS (orthanc, dcm4chee, other)", "--kind", kind, "orthanc" if found else "other", _kind),
        pacs_ae_title=ask(
            "AE title of the PACS",
            "--pacs-ae-title",
            pacs_ae_title,
            found.ae_title if found else None,
            checked_ae_title,
        ),
        pacs_host=ask("Host of the PACS", "--pacs-host", pacs_host, here, checked_host),
        pacs_port=ask("DICOM port of the PACS", "--pacs-port", pacs_port, str(found.port if found else 104), _port),
        ae_title=ask("AE title of Porta", "--ae-title", ae_title, "PORTA", checked_ae_title),
        address=ask("Address at which the PACS finds Porta", "--address", address, here, checked_host),
        port=ask("Port of Porta", "--port", port, "11112", _port),
        root=ask(
            "Folder for images and results", "--root", root, "/var/lib/porta", lambda text: checked_path(Path(text))
        ),
    )
    check_together(answers)
    text = configuration_text(answers)
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be written: {error.strerror}"]) from error
    say(f"{path} is written. Next: `porta check -c {path}`, then `porta run -c {path}`.")
    say("")
    for line in pacs_side(answers).splitlines():
        say(line)


def _kind(text: str) -> Kind:
    if text not in list(Kind):
        raise ValueError(f"{text} is none of {', '.join(Kind)}; write other for another PACS")
    return Kind(text)


def _path(text: str) -> Path:
    return checked_path(Path(text))


def _port(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"must be a port from 1 to 65535, not {show_value(text)}")
    return checked_port(int(text))


Value = TypeVar("Value")


@dataclass(frozen=True)
class _Told:
    """Answers by option, by a person, or by default."""

    asks: bool

    def answer(
        self, question: str, option: str, given: object, default: str | None, check: Callable[[str], Value]
    ) -> Value:
        """Return what was given, else what is answered, which is asked for until it can be used.

        Raises BadRequest, with the option, where nobody says it, or what was given cannot be used.
        """
        while given is None and self.asks:
            try:
                return check(str(typer.prompt(question, default=default)).strip())
            except ValueError as error:
                say(f"{question}: {error}")
        text = default if given is None else str(given)
        if text is None:
            raise BadRequest(f"{question}? name it by {option}")
        try:
            return check(text)
        except ValueError as error:
            raise BadRequest(f"{option}: {error}") from None
