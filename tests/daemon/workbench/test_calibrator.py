"""`porta calibrate`: from evaluations to the card, or one line that says why not."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon.commands.cli import app
from daemon.workbench.calibrator import calibrate
from models.cards import PRETRAINED, find
from models.errors import NotCalibrated


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A card of one's own; its weights are not asked for."""
    return Path(shutil.copy(PRETRAINED / "resnet50.json", tmp_path / "own.json"))


def case(name: str, *, real: list[float], false: list[float], drawn: bool = True) -> dict[str, Any]:
    lesions = [{"found": True, "confidence": confidence} for confidence in real]
    return {
        "patient": name,
        "collection": "phantoms",
        "tumours_drawn": drawn,
        "lesions": [*lesions, {"found": False, "confidence": None}],
        "false_lesions": [{"confidence": confidence} for confidence in false],
    }


def evaluation(path: Path, cases: list[dict[str, Any]], **model: Any) -> Path:
    sha256 = find("resnet50").sha256
    path.write_text(json.dumps({"model": {"sha256": sha256, "calibrated": False} | model, "cases": cases}))
    return path


def cases() -> list[dict[str, Any]]:
    """Eight real lesions and seven false ones, and a case that counts for nothing."""
    some = [case(str(number), real=[0.95 + number / 100], false=[0.77 + number / 100]) for number in range(4)]
    more = [case(f"b{number}", real=[0.85, 0.97][: 2 - number % 2], false=[0.8]) for number in range(3)]
    return [*some, *more, case("hidden", real=[0.9] * 9, false=[0.9] * 9, drawn=False)]


def test_the_card_says_how(card: Path, tmp_path: Path) -> None:
    """Of several evaluations together; nothing else in it changes."""
    before = json.loads(card.read_text())
    every = cases()
    path, calibration = calibrate(
        str(card), [evaluation(tmp_path / "1.json", every[:3]), evaluation(tmp_path / "2.json", every[3:])]
    )
    assert path == card
    assert (calibration.lesions, calibration.real, calibration.cases) == (16, 9, 7)
    assert calibration.of(0.77) < 0.5 < calibration.of(0.97)
    assert find(str(card)).calibration == calibration
    assert json.loads(card.read_text()) == before | {"calibration": asdict(calibration)}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{}", "is no evaluation with confidences; evaluate again"),
        ("no JSON", "is no evaluation with confidences; evaluate again"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_evaluation(card: Path, tmp_path: Path, content: str | None, why: str) -> None:
    """One line, exit code 2, and the card is as it was."""
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    before = card.read_bytes()
    with pytest.raises(NotCalibrated, match=why):
        calibrate(str(card), [path])
    assert card.read_bytes() == before


def test_an_evaluation_from_before_confidences_were_kept(card: Path, tmp_path: Path) -> None:
    """Its lesions say nothing of how sure the network was."""
    old = case("a", real=[0.9], false=[])
    del old["lesions"][0]["confidence"]
    with pytest.raises(NotCalibrated, match="evaluate again"):
        calibrate(str(card), [evaluation(tmp_path / "e.json", [old])])


def test_other_weights_and_calibrated_ones_are_refused(card: Path, tmp_path: Path) -> None:
    """What they were sure of is another number."""
    with pytest.raises(NotCalibrated, match="other weights"):
        calibrate(str(card), [evaluation(tmp_path / "e.json", cases(), sha256="0" * 64)])
    with pytest.raises(NotCalibrated, match="calibrated"):
        calibrate(str(card), [evaluation(tmp_path / "e.json", cases(), calibrated=True)])


def test_the_command(card: Path, tmp_path: Path) -> None:
    """It names the card and what was gained."""
    path = evaluation(tmp_path / "e.json", cases())
    said = CliRunner().invoke(app, ["calibrate", str(path), "--weights", str(card)])
    assert said.exit_code == 0
    assert said.stdout.startswith(f"{card}: 16 lesions of 7 patients, 9 real; Brier score ")
