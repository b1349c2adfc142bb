"""`porta init`: asks for what a first configuration needs, writes it, and says what to enter in the PACS."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from daemon.administration.first_configuration import (
    Answers,
    Kind,
    configuration_text,
    find_orthanc,
    pacs_side,
)
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
    asks = not yes and sys.stdin.isatty()
    found = find_orthanc() if pacs_host in (None, "127.0.0.1", "localhost") and pacs_port is None else None
    if found:
        say(f"An Orthanc answers on this machine: {found.ae_title}, port {found.port}")
    told = _Told(asks=asks)
    answers = Answers(
        kind=_kind(told.text("What is the PACS (orthanc, dcm4chee, other)", kind, "orthanc" if found else "other")),
        pacs_ae_title=told.text("AE title of the PACS", pacs_ae_title, found.ae_title if found else None),
        pacs_host=told.text("Host of the PACS", pacs_host, "127.0.0.1" if found else None),
        pacs_port=told.number("DICOM port of the PACS", pacs_port, found.port if found else 104),
        ae_title=told.text("AE title of Porta", ae_title, "PORTA"),
        address=told.text("Address at which the PACS finds Porta", address, "127.0.0.1" if found else None),
        port=told.number("Port of Porta", port, 11112),
        root=Path(told.text("Folder for images and results", root, "/var/lib/porta")),
    )
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
        raise BadRequest(f"{text} is none of {', '.join(Kind)}; write other for another PACS")
    return Kind(text)


class _Told:
    """Answers by option, by a person, or by default."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks

    def text(self, question: str, given: object, default: str | None) -> str:
        """Return what was given, else what is answered. Raises BadRequest where nobody says it."""
        if given is not None:
            return str(given)
        if self._asks:
            return str(typer.prompt(question, default=default))
        if default is None:
            raise BadRequest(f"{question}? name it by its option: `porta init --help` lists them")
        return default

    def number(self, question: str, given: int | None, default: int) -> int:
        """Return a whole number. Raises BadRequest for what is none."""
        text = self.text(question, given, str(default))
        if not text.strip().isdigit():
            raise BadRequest(f"{question}: {text} is no whole number")
        return int(text)
