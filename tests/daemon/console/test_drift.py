"""When a measure drifts: by enough against its scatter, in the direction that matters, and of enough values."""

import pytest

from daemon.console.drift import MEASURES, drift_of


def wave(mean: float, scatter: float, count: int) -> list[float]:
    """As many values about a mean."""
    return [mean + scatter * (-1) ** index for index in range(count)]


@pytest.mark.parametrize(
    ("measure", "before", "lately", "drifts"),
    [
        ("liver_dice", wave(0.95, 0.02, 20), wave(0.80, 0.02, 10), True),
        ("liver_dice", wave(0.80, 0.02, 20), wave(0.95, 0.02, 10), False),
        ("liver_dice", wave(0.95, 0.02, 20), wave(0.93, 0.02, 10), False),
        ("liver_dice", wave(0.95, 0.02, 19), wave(0.80, 0.02, 10), False),
        ("lesion_dice", wave(0.7, 0.3, 20), wave(0.55, 0.3, 10), False),
        ("confidence", wave(0.8, 0.1, 60), wave(0.6, 0.1, 30), True),
        ("expected_dice", wave(0.95, 0.01, 60), wave(0.9, 0.01, 30), True),
        ("liver_ml", wave(1500, 100, 60), wave(1200, 100, 30), True),
        ("liver_ml", wave(1500, 100, 60), wave(1800, 100, 30), True),
        ("liver_ml", wave(1500, 100, 60), wave(1400, 100, 30), False),
        ("refused", [0.0] * 60, wave(0.5, 0.5, 30), True),
        ("refused", wave(0.5, 0.5, 60), [0.0] * 30, False),
        ("refused", [0.0] * 60, [1.0] * 30, True),
        ("refused", [0.0] * 60, [0.0] * 30, False),
        ("refused", [], [], False),
    ],
)
def test_what_drifts(measure: str, before: list[float], lately: list[float], drifts: bool) -> None:  # noqa: FBT001
    """A fall of the Dice does and a rise does not; a volume does both ways; scatter and few values are no drift."""
    assert MEASURES[measure].lately == (10 if measure.endswith("n_dice") or measure == "liver_dice" else 30)
    assert (drift_of("model", "resnet50 1", measure, before + lately) is not None) == drifts


def test_it_is_said_in_a_sentence() -> None:
    """What, of whom, and the two means."""
    drift = drift_of("scanner", "ACME-CT", "liver_ml", wave(1500, 10, 60) + wave(1200, 10, 30))
    assert drift is not None
    assert drift.sentence == "scanner ACME-CT: liver volume in mL was 1.5e+03, and is 1.2e+03 lately."
