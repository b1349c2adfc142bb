"""`porta feedback`, and the loop: a correction, a case, weights that learned from it, a shadow, the rule's model."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.commands.admin_commands import read
from daemon.commands.cli import main
from daemon.commands.own_models import require_models
from daemon.feedback import Feedback
from daemon.intake import Intake
from daemon.jobs import ShadowState
from daemon.ledger.store import Ledger
from daemon.shadows import Shadows
from daemon.storage.spool import Spool
from daemon.worker import stages
from daemon.worker.handover import load_segmentation
from daemon.worker.requests import Engine, SegmentRequest
from models.architectures.fcn import VGG16FCN
from models.cards import PRETRAINED, read_card
from models.datasets.discovery import find_cases
from models.weights import save_network
from tests.daemon.corrected import Answered, Here, answer, drawn, small_geometry, truth

SMALL = ("--steps", "1", "--batch", "2", "--pixels", "32", "--threads", "1", "--workers", "0", "--device", "cpu")
MODEL = 'model = "resnet50"'
Porta = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path, spool: Spool, ledger: Ledger) -> Path:
    """A configuration of this storage root and ledger."""
    path = tmp_path / "porta.toml"
    path.write_text(
        f'[storage]\nroot = "{spool.root}"\n[ledger]\nurl = "{ledger.database._engine.url}"\n'
        '[[peer]]\nname = "archive"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = 104\n'
        '[[destination]]\npeer = "archive"\n'
        f'[[rule]]\nname = "liver-ct"\nmatch = {{ Modality = "CT" }}\n{MODEL}\ndestinations = ["archive"]\n'
    )
    return path


@pytest.fixture
def porta(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Porta:
    """`porta("feedback", …)` in this process: exit code, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["porta", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def corrected(
    file: Path, spool: Spool, ledger: Ledger, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Answered]:
    """The series of two patients, each corrected and scored."""
    found, intake = [], Intake(spool, ledger, clock)
    for seed in ("one", "two"):
        found.append(answer(spool, ledger, clock, tmp_path, monkeypatch, seed=seed, patient_id=seed))
        intake.take(drawn(found[-1].images, truth()), calling_ae_title="VIEWER")
    assert Feedback(read(file), spool, ledger, Here(), clock).score_due() == 2
    return found


def base_card(folder: Path) -> Path:
    """The card of weights that know nothing."""
    torch.manual_seed(0)
    card = json.loads((PRETRAINED / "resnet50.json").read_text())
    card |= {"name": "first", "version": "7", "architecture": "fcn_vgg16", "trained_on": "nobody", "licence": "CC0"}
    card["preprocessing"] |= {"coarse_spacing_mm": 12.0, "fine_spacing_mm": 6.0, "coarse_step_mm": 20.0}
    card["preprocessing"] |= {"fine_step_mm": 10.0, "neighbour_mm": 10.0}
    path = folder / "first.json"
    path.write_text(json.dumps(card | {"sha256": save_network(VGG16FCN(), path.with_suffix(".safetensors"))}))
    return path


def test_corrections_are_listed_and_exported(
    corrected: list[Answered], porta: Porta, file: Path, spool: Spool, ledger: Ledger, clock: Any, tmp_path: Path
) -> None:
    """IoU follows from Dice, no volume is told. Cases are what the person drew last; without a liver there is none."""
    code, out, _ = porta("feedback", "list", "--json", "-c", file)
    newest, oldest = json.loads(out)
    assert (code, oldest["id"], oldest["state"], oldest["code"], oldest["job"]) == (0, 1, "SCORED", None, 1)
    assert (newest["series_instance_uid"], newest["model"]) == (corrected[1].series_instance_uid, "threshold")
    (volume,) = newest["volumes"]
    assert volume["liver_iou"] == round(600 / 660, 4)
    assert (volume["lesions_removed"], volume["lesions_added"], volume["corrected_lesions"]) == (1, 1, 2)
    code, out, _ = porta("feedback", "list", "-c", file)
    assert code == 0 and "job 2, threshold 1: Dice liver 0.952" in out and "1 lesions taken away, 1 added" in out
    lesions = truth()[1:]
    Intake(spool, ledger, clock).take(drawn(corrected[1].images, lesions), calling_ae_title="VIEWER")
    Feedback(read(file), spool, ledger, Here(), clock).score_due()
    target = tmp_path / "cases"
    code, out, err = porta("feedback", "export", target, "-c", file)
    assert (code, "porta: correction 3 has no liver: nothing can be learned from it" in err.splitlines()) == (0, True)
    assert "1 cases" in out and [path.name for path in target.iterdir()] == ["case-1"]
    assert target.stat().st_mode & 0o777 == 0o700
    assert find_cases(target).skipped == ()
    (source,) = find_cases(target).sources
    case = source.read()
    liver, *drawn_lesions = (mask for _, mask in truth())
    assert ((case.labels == 2) == (drawn_lesions[0] | drawn_lesions[1])).all()
    assert ((case.labels > 0) == (liver | drawn_lesions[1])).all()
    assert case.volume.geometry.shape == small_geometry().shape
    code, _, err = porta("feedback", "export", target, "-c", file)
    assert code == 2 and "is not empty" in err


def test_nothing_to_export(porta: Porta, file: Path, tmp_path: Path) -> None:
    """Exit code 1, and an empty list."""
    assert porta("feedback", "export", tmp_path / "cases", "-c", file)[0] == 1
    assert porta("feedback", "list", "-c", file)[:2] == (0, "nobody has corrected anything\n")


@pytest.mark.timeout(600)
def test_from_a_correction_to_the_model_of_the_rule(
    corrected: list[Answered],
    porta: Porta,
    file: Path,
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """export -> finetune -> models add -> shadow -> the rule: each step takes what the one before it made."""
    assert porta("feedback", "export", tmp_path / "cases", "-c", file)[0] == 0
    held_back = next(item.name for item in find_cases(tmp_path / "cases").sources if item.name.startswith("case-2"))
    options = ("--data", tmp_path / "cases", "--leave-out", held_back, "-o", tmp_path / "out", *SMALL)
    code, _, err = porta("finetune", "--base", base_card(tmp_path), *options)
    assert code == 0, err
    tuned = read_card(tmp_path / "out/run/fcn_vgg16.json")
    assert porta("models", "add", tuned.path, "-c", file)[0] == 0
    name = f"{tuned.name}@{tuned.version}"

    file.write_text(file.read_text().replace(MODEL, f'{MODEL}\nshadow = ["{name}"]'))
    third = answer(spool, ledger, clock, tmp_path, monkeypatch, seed="three", patient_id="three", shadows=(name,))
    monkeypatch.undo()  # from here on networks segment
    assert Shadows(require_models(read(file)), spool, ledger, Here(), clock).compare_due() == 1
    (shadow,) = ledger.shadows_of(third.job_id)
    assert (shadow.state, shadow.version, shadow.sha256) == (ShadowState.COMPARED, tuned.version, tuned.sha256)

    file.write_text(file.read_text().replace(f'{MODEL}\nshadow = ["{name}"]', f'model = "{name}"'))
    config = require_models(read(file))
    work = tmp_path / "work"
    paths = tuple(spool.root / path for path in ledger.instance_paths(third.series_instance_uid))
    promoted = config.card(config.rules[0].model)
    stages.segment_series(SegmentRequest(paths, promoted, Engine(device="cpu", threads=1), work, "portal"))
    made_by = load_segmentation(work / "0", small_geometry()).algorithm
    assert (made_by.name, made_by.weights_sha256) == (tuned.name, tuned.sha256)
