"""The commands about models: what is here, whether it is whole, one more; and one that learns from few cases."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from daemon import log
from daemon.commands import own_models
from daemon.commands.options import ConfigOption
from daemon.commands.train_extra import require_train_extra
from daemon.commands.training_options import MACHINE, takes_keys
from daemon.configuration.config import Config, load
from daemon.workbench.train_settings import FINETUNING, Overrides

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    help="List the models with their training data and measured quality; verify them, add one.",
)


@app.callback()
def models(context: typer.Context, config: ConfigOption = None) -> None:
    """List the models with their training data and measured quality."""
    context.obj = config
    if context.invoked_subcommand is None:
        raise typer.Exit(0 if own_models.print_models(_configured(config)) else 2)


@app.command()
def verify(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One model; else all.")] = None,
    config: ConfigOption = None,
) -> None:
    """Check card, sha256 and layers of one model, or of all models."""
    settings = _configured(config or context.obj)
    raise typer.Exit(0 if own_models.verify_models(settings, name) else 2)


@app.command()
def add(
    context: typer.Context,
    card: Annotated[Path, typer.Argument(metavar="CARD.json", help="The card; its weights lie beside it.")],
    config: ConfigOption = None,
) -> None:
    """Check a card and its weights, and copy both into the folder that the service reads."""
    log.configure()
    own_models.add_model(load(config or context.obj, known_models=None), card)


@takes_keys(
    "data.leave_out",
    "training.freeze_encoder",
    "data.phantoms",
    "data.tumours_not_drawn",
    "training.steps",
    "training.batch",
    "training.pixels",
    "training.learning_rate",
    "card.name",
    "data.cache",
    "training.seed",
    *MACHINE,
    defaults=FINETUNING,
)
def finetune(
    base: Annotated[str, typer.Option(help="One of `porta models`, or the card (.json) of your own.")],
    data: Annotated[list[Path], typer.Option(help="A folder of cases with their truth; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for all files; the same command continues.")],
    overrides: Overrides,
) -> None:
    """Train on with 1 to 10 labelled cases, and measure before and after on the cases held back: one table.

    Without --leave-out a third of the patients is held back.
    """
    require_train_extra("monai", "sklearn", "seaborn")
    from daemon.workbench import finetuning

    log.configure("warning", "auto")
    asked = finetuning.Finetuning(
        base=own_models.findable(base),
        overrides={**overrides, ("data", "folders"): tuple(data)},
        command=shlex.join(["porta", *sys.argv[1:]]),
    )
    finetuning.finetune(asked, out)


def _configured(path: Path | None) -> Config | None:
    log.configure()
    return own_models.configuration(path)
