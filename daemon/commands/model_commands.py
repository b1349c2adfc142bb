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
from daemon.configuration.config import Config, load

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


def finetune(
    base: Annotated[str, typer.Option(help="One of `porta models`, or the card (.json) of your own.")],
    data: Annotated[list[Path], typer.Option(help="A folder of cases with their truth; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="All is kept here; the same command goes on.")],
    leave_out: Annotated[
        list[str] | None, typer.Option(help="A case to measure on, with its patient's others; else a third.")
    ] = None,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="The backbone stays as it is; quicker, and less can go wrong.")
    ] = False,
    phantoms: Annotated[int, typer.Option(min=0, help="How many phantoms to learn from as well.")] = 0,
    tumours_not_drawn: Annotated[
        list[str] | None, typer.Option(help="A case or collection whose liver label hides tumours.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 12,
    pixels: Annotated[int, typer.Option(min=32, max=1024, help="Rows and columns of a sample.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="AdamW's, at its peak.")] = 1e-4,
    name: Annotated[str | None, typer.Option(help="Of the new weights; else the base's with -tuned.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Prepared cases; else OUT/cache.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the network.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make samples.")] = 1,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes that prepare cases.")] = None,
) -> None:
    """Train on with 1 to 10 labelled cases, and measure before and after on the cases held back: one table."""
    require_train_extra("monai", "sklearn", "seaborn")
    from daemon.workbench import finetuning

    log.configure("warning", "auto")
    asked = finetuning.Finetuning(
        base=own_models.findable(base),
        folders=tuple(data),
        leave_out=tuple(leave_out or ()),
        tumours_not_drawn=tuple(tumours_not_drawn or ()),
        phantoms=phantoms,
        freeze_encoder=freeze_encoder,
        steps=steps,
        batch=batch,
        pixels=pixels,
        learning_rate=learning_rate,
        name=name,
        cache=cache,
        seed=seed,
        device=device,
        threads=threads,
        workers=workers,
        processes=processes,
        command=shlex.join(["porta", *sys.argv[1:]]),
    )
    finetuning.finetune(asked, out)


def _configured(path: Path | None) -> Config | None:
    log.configure()
    return own_models.configuration(path)
