"""`porta evaluate` as it is typed: what it writes, what it goes on from, and one line for whatever is wrong."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from daemon.commands.cli import main
from daemon.workbench import evaluator
from daemon.workbench.evaluator import Request, find_sources, name_cards, plain, refuse_learned, table_of
from dicom_io.nifti import read_labels, read_nifti, write_labels
from models.cards import find
from models.errors import CaseUnreadable, SplitInvalid
from models.phantom import Phantom, grid, make_phantom


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: list[str]


@pytest.fixture
def porta(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """`porta("evaluate", …)` in this process."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["porta", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Answer(int(ended.value.code or 0), said.out, said.err.splitlines())

    return run


def write_image(phantom: Phantom, path: Path) -> None:
    """A NIfTI of the phantom's values: `write_labels` places it, and a float image beside its affine holds them."""
    import nibabel as nib

    write_labels(phantom.truth, phantom.volume.geometry, path)
    placed = nib.load(path)
    nib.save(nib.Nifti1Image(phantom.volume.array.transpose(2, 1, 0), placed.affine, None), path)


@pytest.fixture(scope="module")
def lits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small phantoms laid out as LiTS lays out its training set, and a third whose mask is missing."""
    folder = tmp_path_factory.mktemp("lits")
    for number, seed in ((60, 1_000_003), (61, 1_000_005)):  # not 0: the weights that ship know that patient
        geometry = grid(slices=40, rows=90, columns=110, spacing_mm=(6.0, 3.6, 3.6), seed=seed)
        phantom = make_phantom(geometry, seed=seed, lesions=2)
        write_image(phantom, folder / f"volume-{number}.nii.gz")
        write_labels(phantom.truth, geometry, folder / f"segmentation-{number}.nii.gz")
    (folder / "volume-62.nii.gz").write_bytes((folder / "volume-61.nii.gz").read_bytes())
    return folder


def test_a_model_is_measured_charted_and_gone_on_with(porta: Callable[..., Answer], lits: Path, tmp_path: Path) -> None:
    """The shipped weights by name, and the same by their card's path: one model. A second time nothing is measured."""
    out, card = tmp_path / "out", find("resnet50").weights.with_suffix(".json")
    command = ("evaluate", "--data", lits, "--weights", "resnet50", "--weights", card, "-o", out, "--threads", "1")
    first = porta(*command)
    assert first.code == 0
    assert any("volume-62" in line for line in first.err), "the case without a mask is named"
    assert sum(line.startswith("resnet50: case") for line in first.err) == 2
    assert "lesions: recall" in first.out
    content = json.loads((out / "resnet50" / "evaluation.json").read_text())
    assert content["command"].startswith("porta evaluate --data")
    assert content["model"]["sha256"] == find("resnet50").sha256
    assert {case["collection"] for case in content["cases"]} == {"LiTS"}
    assert all(case["liver"]["dice"] > 0.8 for case in content["cases"])
    worst = sorted((out / "resnet50" / "worst").iterdir())
    assert [path.suffix for path in worst] == [".gz", ".png"] * 2
    volume = read_nifti(lits / f"{content['worst'][0]}.nii.gz".replace("lits_", ""))
    found = read_labels(worst[0], volume.geometry)
    record = next(case for case in content["cases"] if case["name"] == content["worst"][0])
    assert np.count_nonzero(found) * volume.geometry.voxel_volumes_mm3[0] / 1000 == pytest.approx(
        record["liver"]["volume_ml"], rel=1e-4
    )
    assert len(list((out / "charts").glob("*.png"))) >= 8
    again = porta(*command)
    assert again.code == 0
    assert sum(line.endswith("kept from before") for line in again.err) == 2
    assert json.loads((out / "resnet50" / "evaluation.json").read_text()) == content
    for folder in (out / "charts", out / "resnet50" / "worst"):  # as where nothing can be written any more
        shutil.rmtree(folder)
        folder.write_text("")
        refused = porta(*command)
        assert refused.code == 2
        assert [line for line in refused.err if line.startswith("porta: ")] == [f"porta: {folder}: File exists"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--weights", "resnet50"], "no case to measure on: name a folder with --data, or ask for --phantoms"),
        (["--weights", "nothing", "--phantoms", "1"], 'there is no model "nothing"'),
        (["--weights", "{tmp}/none.json", "--phantoms", "1"], "none.json: No such file"),
        (["--weights", "{tmp}/broken.json", "--phantoms", "1"], "broken.json: name: missing"),
        (["--weights", "resnet50", "--data", "{tmp}/nowhere"], "nowhere: no such folder"),
        (["--weights", "resnet50", "--data", "{tmp}/empty"], "empty"),
        (["--weights", "resnet50", "--data", "{lits}", "--split", "{tmp}/none"], "none: No such file"),
        (["--weights", "resnet50", "--data", "{lits}", "--split", "{tmp}/split.json"], "there is no case volume-9"),
        (["--weights", "resnet50", "--data", "{lits}", "--split", "{tmp}/broken.json"], "json: must have the keys"),
        (["--weights", "resnet50", "--data", "{lits}", "--tumours-not-drawn", "x"], "x: no case and no collection"),
        (["--weights", "resnet50", "--data", "{lits}", "-o", "{tmp}/broken.json"], "broken.json"),
    ],
)  # fmt: skip
def test_what_a_person_can_mend_is_one_line(
    porta: Callable[..., Answer], lits: Path, tmp_path: Path, options: list[str], line: str
) -> None:
    """And exit 2, before anything is measured."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{}")
    (tmp_path / "split.json").write_text(json.dumps({"training": [], "validation": [], "test": ["volume-9"]}))
    answer = porta("evaluate", "-o", tmp_path / "out", *(text.format(tmp=tmp_path, lits=lits) for text in options))
    assert answer.code == 2
    said = [each for each in answer.err if each.startswith("porta: ")]
    assert len(said) == 1
    assert line in said[0]


def test_a_split_names_cases_and_phantoms(lits: Path, tmp_path: Path) -> None:
    """Those of its part alone; cases of other parts that are not here do not matter; further phantoms are asked for."""
    path = tmp_path / "split.json"
    names = [source.name for source in find_sources(Request(("resnet50",), folders=(lits,)))]
    parts = {"training": ["elsewhere", names[0], "phantom-3"], "validation": [], "test": [names[1], "phantom-1000001"]}
    path.write_text(json.dumps(parts))
    request = Request(("resnet50",), folders=(lits,), phantoms=3, split=path)
    assert [source.name for source in find_sources(request)] == [
        names[1], "phantom-1000001", "phantom-1000000", "phantom-1000002",
    ]  # fmt: skip
    assert [source.name for source in find_sources(replace(request, part="training", phantoms=0, split=_without(path)))]


def _without(path: Path) -> Path:
    """The split, its training part without what is not here."""
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"training": raw["training"][1:]}))
    return path


def test_a_patient_on_two_sides_is_refused(lits: Path, tmp_path: Path) -> None:
    """A phantom that was trained on too."""
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"training": ["phantom-5"], "validation": [], "test": ["phantom-5"]}))
    with pytest.raises(SplitInvalid, match="split.json: phantom-5 stands twice"):
        find_sources(Request(("resnet50",), folders=(lits,), split=path))


def test_weights_are_not_tested_on_whom_they_know(lits: Path, tmp_path: Path) -> None:
    """A case of a patient whom a run was trained or validated on, under whatever name it lies there."""
    card = replace(find("resnet50"), weights=tmp_path / "run/resnet50.safetensors")
    sources = find_sources(Request(("resnet50",), folders=(lits,)))
    (tmp_path / "run").mkdir()
    refuse_learned([card], sources)
    (tmp_path / "run/run.json").write_text(json.dumps({"patients": ["elsewhere/1"]}))
    refuse_learned([card], sources)
    (tmp_path / "run/run.json").write_text(json.dumps({"patients": [sources[0].patient]}))
    with pytest.raises(
        SplitInvalid, match=rf"run/resnet50.json: was trained or validated on patients of {sources[0].name};"
    ):
        refuse_learned([find("resnet50"), card], sources)


def test_a_case_that_is_called_like_a_phantom_is_no_phantom(lits: Path, tmp_path: Path) -> None:
    """It would be measured in its place and nobody would know."""
    for name, kind in (("image", "volume"), ("labels", "segmentation")):
        (tmp_path / "phantom-1000000").mkdir(exist_ok=True)
        (tmp_path / f"phantom-1000000/{name}.nii.gz").symlink_to(next(iter(sorted(lits.glob(f"{kind}-*")))))
    with pytest.raises(CaseUnreadable, match="phantom-1000000: a case in a folder has this phantom's name"):
        find_sources(Request(("resnet50",), folders=(tmp_path,), phantoms=2))


def test_folders_of_models_are_told_apart() -> None:
    """By name, then by version, then by their weights; the same weights twice are one model."""
    card = find("resnet50")
    newer, other = replace(card, version="9", sha256="b" * 64), replace(card, sha256="c" * 64)
    assert list(name_cards([card, card])) == ["resnet50"]
    assert list(name_cards([card, newer])) == [f"resnet50-{card.version}", "resnet50-9"]
    assert list(name_cards([card, other])) == [
        f"resnet50-{card.version}-{card.sha256[:8]}",
        f"resnet50-{card.version}-cccccccc",
    ]
    assert plain("3D-IRCADb-01/17 a") == "3D-IRCADb-01_17_a"
    assert plain("../..") == "_"


def test_table_has_a_dash_for_what_is_undefined() -> None:
    """And an interval where there is one."""
    undefined = {"mean": None, "low": None, "high": None}
    known = {"mean": 0.91234, "low": 0.9, "high": 0.92}
    structure = dict.fromkeys(("dice", "iou", "rvd", "assd_mm", "hd95_mm", "auc_roc"), undefined)
    lesions = dict.fromkeys(
        ("recall", "precision", "false_per_scan", "diameter_error_mm", "burden_error_percent"), undefined
    )
    summary = {
        "liver": structure | {"dice": known},
        "tumour": structure,
        "lesions": lesions,
        "global": {"liver_dice": 0.9, "tumour_dice": None},
    }
    cells = list(table_of({"m": {"summary": summary, "cases": []}}).columns[1].cells)
    assert cells[:3] == ["0.912 [0.900, 0.920]", "0.900", "–"]
    assert set(cells[3:]) == {"–"}


def test_sigterm_while_measuring_is_a_stop_with_a_line(
    porta: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, as docs/commands.md says, not a death by the signal; who was asked before is asked again."""
    strays: list[int] = []

    def struck(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on")

    def stray(number: int, frame: FrameType | None) -> None:
        strays.append(number)

    monkeypatch.setattr(evaluator, "evaluate_model", struck)
    before = signal.signal(signal.SIGTERM, stray)
    try:
        answer = porta("evaluate", "--weights", "resnet50", "--phantoms", "1", "-o", tmp_path / "out", "--threads", "1")
        assert signal.getsignal(signal.SIGTERM) is stray
    finally:
        signal.signal(signal.SIGTERM, before)
    assert strays == []
    assert answer.code == 1
    assert answer.err[-1] == "porta: stopped; the same command goes on from the cases that were measured"
