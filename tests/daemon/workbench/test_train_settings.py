"""The configuration of a training: options over the file, and each fault with its key and line."""

from pathlib import Path

import pytest

from daemon.errors import ConfigurationError
from daemon.workbench.train_settings import MOST_PHANTOMS, TrainSettings, load_settings
from models.architectures.names import ARCHITECTURE_NAMES


def faults(path: Path, text: str, overrides: dict[tuple[str, str], object] | None = None) -> tuple[str, ...]:
    """What is said of a file."""
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load_settings(path, overrides or {})
    return error.value.faults


def test_names_are_those_of_the_networks() -> None:
    """The list that needs no torch is the list of those there are."""
    from models.architectures.registry import ARCHITECTURES

    assert tuple(ARCHITECTURES) == ARCHITECTURE_NAMES


def test_options_go_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    """An option that was not given changes nothing."""
    path = tmp_path / "train.toml"
    path.write_text('[training]\nsteps = 7\nbatch = 3\n[data]\nfold = "1/5"\nfolders = ["a"]\n')
    settings = load_settings(
        path,
        {
            ("training", "steps"): 9,
            ("training", "pixels"): None,
            ("data", "leave_out"): ("x",),
            ("data", "folders"): (),
        },
    )
    assert (settings.training.steps, settings.training.batch, settings.training.pixels) == (9, 3, 128)
    assert (settings.data.fold, settings.data.leave_out) == (None, ("x",))
    assert settings.data.folders == (Path("a"),)
    assert load_settings(None) == TrainSettings()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[training]\nstep = 5\n", 'train.toml:2: training.step: unknown key; did you mean "steps"?'),
        ("[training]\n\nsteps = 0\n", "train.toml:3: training.steps: must be at least 1, not 0"),
        ('[network]\nmodel = "resnet5"\n', 'no architecture "resnet5"; did you mean "resnet50"?'),
        ('[data]\nfold = "6/5"\n', "train.toml:2: data.fold: must be one of several"),
        ('[data]\nfold = "1/5"\nsplit = "s.json"\n', "train.toml:1: data: split and fold say two things"),
        ("[preprocessing]\nwindow_hu = [240.0, -160.0]\n", "window_hu must be two growing values"),
        ('[training]\nschedule = "linear"\n', 'training.schedule: must be "cosine" or "poly", not "linear"'),
        ("[data]\nphantoms = 1000001\n", "data.phantoms: must be at most 1000000, not 1000001"),
        ("[balance]\nreal = 1.5\n", "balance.real: must be at most 1, not 1.5"),
        ("steps = ", "train.toml:1: steps: the value is missing"),
    ],
)
def test_fault_names_key_and_line(tmp_path: Path, text: str, line: str) -> None:
    """One printable line each."""
    (fault,) = faults(tmp_path / "train.toml", text)
    assert line in fault
    assert "\n" not in fault


def test_wrong_option_is_named_by_its_key(tmp_path: Path) -> None:
    """There is no line of a file to be named."""
    (fault,) = faults(tmp_path / "train.toml", "", {("training", "schedule"): "linear"})
    assert fault == 'training.schedule: must be "cosine" or "poly", not "linear"'


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read"):
        load_settings(tmp_path / "nowhere.toml")


def test_machine_does_not_make_another_run() -> None:
    """Nor where the data lie: their content is hashed."""
    other = load_settings(None, {("machine", "threads"): 3, ("data", "cache"): Path("x"), ("data", "phantoms"): 3})
    assert other.identity == TrainSettings().identity
    assert load_settings(None, {("training", "seed"): 3}).identity != TrainSettings().identity


def test_frozen_encoder_is_part_of_what_a_run_is() -> None:
    """And of its recipe."""
    assert TrainSettings().identity["training.freeze_encoder"] is False
    frozen = load_settings(None, {("training", "freeze_encoder"): True})
    assert frozen.identity["training.freeze_encoder"] is True
    assert frozen.recipe.freeze_encoder


def test_there_are_seeds_for_as_many_phantoms_as_can_be_asked_for() -> None:
    """The bound that needs no phantom's code is that of the code."""
    from models.phantom import TRAINING_SEEDS

    assert len(TRAINING_SEEDS) == MOST_PHANTOMS


@pytest.mark.parametrize("table", TrainSettings.model_fields)
def test_every_table_suggests_its_keys(tmp_path: Path, table: str) -> None:
    """Those that are made of a dataclass too."""
    key = next(iter(TrainSettings().model_dump()[table]))
    (fault,) = faults(tmp_path / "train.toml", f"[{table}]\n{key}s = 1\n")
    assert f'{table}.{key}s: unknown key; did you mean "{key}"?' in fault
