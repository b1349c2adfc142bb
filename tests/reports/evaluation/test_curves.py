"""Curves of a training: drawn from whatever there is so far, whole each time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.evaluation.curves import draw_curves, read_columns


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Loss and Dice of thirty steps."""
    losses, dices = tmp_path / "loss.csv", tmp_path / "dice.csv"
    rows = [f"{step},{2 / step:.6f},{6e-4 * (1 - step / 31):.6g}" for step in range(1, 31)]
    losses.write_text("\n".join(["step,loss,learning_rate", *rows]) + "\n")
    dices.write_text("step,liver_dice,tumour_dice\n10,0.5000,\n20,0.7500,0.2500\n")
    return losses, dices


def test_columns_are_read_with_gaps(files: tuple[Path, Path]) -> None:
    """A tumour that nobody drew has no Dice."""
    columns = read_columns(files[1], ("step", "tumour_dice"))
    assert columns["step"].tolist() == [10, 20]
    assert np.isnan(columns["tumour_dice"][0])
    assert columns["tumour_dice"][1] == 0.25


def test_picture_is_drawn_and_takes_the_place_of_the_last(files: tuple[Path, Path], tmp_path: Path) -> None:
    """A PNG of a page's width; nothing half written is left."""
    out = tmp_path / "curves.png"
    out.write_bytes(b"old")
    draw_curves(*files, out, title="resnet50")
    with Image.open(out) as picture:
        assert picture.size == (880, 660)
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00)):
        assert (np.abs(colours.astype(int) - colour).max(axis=1) < 12).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "dice.csv", "loss.csv"]


@pytest.mark.parametrize("steps", [0, 1])
def test_a_run_that_has_just_begun_has_a_picture(tmp_path: Path, steps: int) -> None:
    """Without a validation, without a step."""
    losses, dices = tmp_path / "loss.csv", tmp_path / "dice.csv"
    losses.write_text("step,loss,learning_rate\n" + "1,1.5,0.0006\n" * steps)
    dices.write_text("step,liver_dice,tumour_dice\n")
    draw_curves(losses, dices, tmp_path / "curves.png", title="vgg16")
    assert (tmp_path / "curves.png").stat().st_size > 1000
