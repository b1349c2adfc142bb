"""The commands about models: what is here, whether it is whole, one more; and one that learns from few cases."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from daemon import log, own_models
from daemon.config import Config, load
from daemon.errors import ConfigurationError
from daemon.options import ConfigOption

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    help="The models that are here, what they were trained on and how they measured; verify, add.",
)


@app.callback()
def models(context: typer.Context, config: ConfigOption = None) -> None:
    """List the models that are here, what they were trained on and how they measured."""
    context.obj = config
    if context.invoked_subcommand is None:
        raise typer.Exit(0 if own_models.print_models(_configured(config)) else 2)


@app.command()
def verify(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One model; else all.")] = None,
    config: ConfigOption = None,
) -> None:
    """Check card, sha256 and layers of one model, or of all that are here."""
    settings = _configured(config or context.obj)
    raise typer.Exit(0 if own_models.verify_models(settings, name) else 2)


@app.command()
def add(
    context: typer.Context,
    card: Annotated[Path, typer.Argument(metavar="CARD.json", help="The weights lie beside it.")],
    config: ConfigOption = None,
) -> None:
    """Check a card and its weights, and copy both into the folder that the service reads."""
    log.configure()
    own_models.add_model(load(config or context.obj, known_models=None), card)


def _configured(path: Path | None) -> Config | None:
    """The configuration, if there is one.

    One that cannot be used is a fault where `--config` asked for it; else a line, and the models that ship remain.
    """
    log.configure()
    try:
        return load(path, known_models=None)
    except ConfigurationError as error:
        if path is not None:
            raise
        if not error.faults[0].startswith("no configuration found"):
            print(f"porta: {error.faults[0]}; only the models that ship are looked at", file=sys.stderr)
        return None
