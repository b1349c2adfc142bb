"""`porta feedback`: what people have corrected and stored to us, and cases to train on."""

from pathlib import Path
from typing import Annotated

import typer

from daemon.commands.admin_commands import configured
from daemon.commands.options import ConfigOption, JsonOption

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List the SEGs that people corrected and stored to us; make cases of them to train on.",
)


@app.command("list")
def list_corrections(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the corrections, the newest first, with how far they are from what was sent."""
    from daemon.administration.corrections import print_corrections

    print_corrections(configured(config), as_json=as_json)


@app.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder; it will hold patients' images.")],
    config: ConfigOption = None,
) -> None:
    """Copy the last correction of each series, with its images, for `porta finetune` and `porta train`."""
    from daemon.administration.corrections import export_cases

    raise typer.Exit(0 if export_cases(configured(config), target) else 1)
