"""Options of a training are made of the keys of its configuration."""

from typing import Any

import typer
from typer.testing import CliRunner

from daemon.commands.training_options import takes_keys
from daemon.workbench.train_settings import FINETUNING, Overrides

KEYS = ("data.folders", "training.batch", "training.learning_rate", "training.freeze_encoder")


def make_app(given: list[Any]) -> typer.Typer:
    """A command with one option of each kind, which notes what it was given."""
    app = typer.Typer()

    @takes_keys(
        "data.folders", "training.batch", "training.learning_rate", "training.freeze_encoder", defaults=FINETUNING
    )
    def learn(out: str, overrides: Overrides, runs: int = 3) -> None:
        """Learn."""
        given.extend([out, overrides, runs])

    app.command()(learn)
    return app


def test_options_are_overrides_by_table_and_key() -> None:
    """Of their types; what was not given is the default, and the command's own parameters are as they were."""
    given: list[Any] = []
    app = make_app(given)
    for arguments in (
        ["a"],
        ["b", "--data", "x", "--data", "y", "--batch", "2", "--freeze-encoder", "--learning-rate", "1"],
    ):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    out, nothing, runs, _, everything, _ = given
    assert (out, runs) == ("a", 3)
    assert [nothing["training", key] for key in ("batch", "learning_rate")] == [12, 1e-4]
    folders, batch, rate, frozen = everything.values()
    assert ([str(folder) for folder in folders], batch, rate, frozen) == (["x", "y"], 2, 1.0, True)
    assert list(everything)[:2] == [("data", "folders"), ("training", "batch")]


def test_options_have_the_bounds_of_their_key() -> None:
    """Said before anything is read."""
    answer = CliRunner().invoke(make_app([]), ["a", "--batch", "0"])
    assert answer.exit_code == 2
    assert "greater than or equal to 1" in answer.output


def test_help_shows_the_defaults_that_hold() -> None:
    """Those of the command, not of the file."""
    shown = CliRunner().invoke(make_app([]), ["--help"], env={"COLUMNS": "200"}).output
    assert "AdamW's, at its peak." in shown
    assert "[default: 0.0001]" in shown
