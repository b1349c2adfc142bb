"""Models measured on cases: every figure where it belongs, runs that go on, cases that cannot be read."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_io.axes import SIZE_CLASSES
from dicom_io.geometry import Geometry
from dicom_io.volume import Volume
from models.datasets.cases import Case
from models.errors import CaseUnreadable, RunMismatch
from models.evaluation.evaluation import LABELS_BY, Asked, code_sha256, evaluate, found_labels, measure_case
from models.evaluation.summary import Measured, summary_of
from models.inference import Model

MakeGeometry = Callable[..., Geometry]
Lopsided = Callable[[Geometry], tuple[Volume, NDArray[np.uint8]]]

ASKED = Asked("porta-hepatis 0", "porta evaluate", "test")
CASE_KEYS = {
    "name", "patient", "collection", "tumours_drawn", "seconds", "slices", "liver", "tumour", "confusion", "lesions",
    "false_lesions", "burden_percent", "true_burden_percent", "expected_dice",
}  # fmt: skip
FIGURES = [
    "dice", "iou", "voe", "rvd", "assd_mm", "hd95_mm", "accuracy", "precision", "recall", "specificity", "f1",
    "auc_roc", "volume_ml", "true_volume_ml",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Made:
    """A source of one case, or of an error; counts how often it is read."""

    case: Case | None
    name: str
    patient: str
    reads: list[str]
    collection: str = "made"
    fingerprint: str = "f"

    def read(self) -> Case:
        self.reads.append(self.name)
        if self.case is None:
            raise CaseUnreadable(f"{self.name}.nii: not a NIfTI image")
        return self.case


@pytest.fixture
def made(axial: MakeGeometry, lopsided: Lopsided) -> Callable[..., Made]:
    """`made("a", patient="p")`: a liver with a lesion, to be found by `stand_in`."""
    volume, truth = lopsided(axial(rows=60, columns=52, spacing_mm=(3.0, 3.5), positions_mm=np.arange(34) * 4.0))

    def make(name: str, *, patient: str = "p", lesions: bool = True, tumours_drawn: bool = True) -> Made:
        labels = truth if lesions else np.minimum(truth, 1)
        case = Case(name, patient, volume, labels, tumours_drawn=tumours_drawn)
        return Made(case, name, patient, [])

    return make


def test_every_figure_of_a_case_is_there(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """The two thresholds find what there is to find: good figures, one lesion, nothing undefined."""
    content = evaluate(stand_in, [made("a")], tmp_path, ASKED)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == content
    assert {name: content[name] for name in ("schema", "software", "command", "split_part", "classes", "worst")} == {
        "schema": 1,
        "software": "porta-hepatis 0",
        "command": "porta evaluate",
        "split_part": "test",
        "classes": ["background", "liver", "tumour"],
        "worst": ["a"],
    }
    assert content["model"] == {
        "name": "thresholds", "version": "1.0.0", "architecture": "none", "sha256": "0" * 64, "calibrated": False,
    }  # fmt: skip
    (case,) = content["cases"]
    assert set(case) == CASE_KEYS
    for structure, least in (("liver", 0.97), ("tumour", 0.85)):
        figures = case[structure]
        assert list(figures) == FIGURES
        assert None not in figures.values()
        assert figures["dice"] == figures["f1"] >= least
        assert figures["auc_roc"] > 0.99
        assert figures["assd_mm"] < 1
        assert figures["rvd"] == pytest.approx(figures["volume_ml"] / figures["true_volume_ml"] - 1, abs=1e-5)
    assert np.sum(case["confusion"]) == 34 * 60 * 52
    (lesion,) = case["lesions"]
    assert lesion["found"] is True
    assert lesion["confidence"] > 0.8
    assert case["expected_dice"] > 0.95
    assert lesion["dice"] == pytest.approx(case["tumour"]["dice"], abs=1e-5)
    assert lesion["size_class"] in SIZE_CLASSES
    assert case["false_lesions"] == []
    assert case["true_burden_percent"] == pytest.approx(
        100 * case["tumour"]["true_volume_ml"] / case["liver"]["true_volume_ml"], abs=1e-4
    )
    for curve in content["roc"].values():
        assert len(curve["fpr"]) == len(curve["tpr"]) <= 256
        assert curve["auc"] > 0.99


def test_summary_has_means_bounds_and_lesions(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Two patients, one of them healthy in truth: what is found in it is false."""
    content = evaluate(stand_in, [made("a", patient="p"), made("b", patient="q", lesions=False)], tmp_path, ASKED)
    summary, (ill, healthy) = content["summary"], content["cases"]
    dice = [case["liver"]["dice"] for case in (ill, healthy)]
    assert summary["liver"]["dice"]["mean"] == pytest.approx(np.mean(dice), abs=1e-5)
    assert summary["liver"]["dice"]["low"] <= summary["liver"]["dice"]["mean"] <= summary["liver"]["dice"]["high"]
    assert summary["tumour"]["dice"] == {"mean": ill["tumour"]["dice"], "low": None, "high": None}
    assert healthy["tumour"]["dice"] is None
    assert (healthy["tumour"]["true_volume_ml"], healthy["true_burden_percent"]) == (0, 0)
    assert len(healthy["false_lesions"]) == 1
    assert healthy["false_lesions"][0]["confidence"] > 0.8
    lesions = summary["lesions"]
    assert lesions["recall"]["mean"] == 1
    assert lesions["precision"]["mean"] == 0.5
    assert lesions["false_per_scan"]["mean"] == 0.5
    assert lesions["strict"]["recall"]["mean"] == 1
    assert sum(entry["count"] for entry in lesions["recall_by_size"].values()) == lesions["count"] == 1
    assert list(lesions["recall_by_size"]) == list(SIZE_CLASSES)
    assert lesions["diameter_error_mm"]["mean"] >= abs(lesions["diameter_error_mm"]["bias"])
    assert summary["global"]["tumour_dice"] < ill["tumour"]["dice"]
    confusion = np.sum([case["confusion"] for case in content["cases"]], axis=0)
    assert summary["global"]["liver_dice"] == pytest.approx(
        2 * confusion[1:, 1:].sum() / (confusion[1:].sum() + confusion[:, 1:].sum()), abs=1e-5
    )


def test_tumours_that_nobody_drew_are_not_judged(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Neither their voxels nor their lesions: only what was found is said."""
    content = evaluate(stand_in, [made("a", lesions=False, tumours_drawn=False)], tmp_path, ASKED)
    (case,) = content["cases"]
    assert {name: value for name, value in case["tumour"].items() if value is not None} == {
        "volume_ml": pytest.approx(case["burden_percent"] / 100 * case["liver"]["volume_ml"], rel=1e-4)
    }
    assert (case["confusion"], case["true_burden_percent"], case["lesions"], case["false_lesions"]) == (
        None, None, [], [],
    )  # fmt: skip
    assert content["roc"]["tumour"] is None
    assert content["summary"]["global"]["tumour_dice"] is None
    assert content["summary"]["global"]["liver_dice"] > 0.9
    assert content["summary"]["lesions"]["false_per_scan"]["mean"] is None


def test_a_stopped_run_goes_on(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Cases that were measured are not read again, and the figures are those of a run that was never stopped."""

    class Stopped(Exception):
        pass

    def stop(done: int, of: int, line: str) -> None:
        raise Stopped

    sources = [made("a"), made("b", patient="q")]
    with pytest.raises(Stopped):
        evaluate(stand_in, sources, tmp_path / "one", ASKED, stop)
    went_on = evaluate(stand_in, sources, tmp_path / "one", ASKED)
    assert [source.reads for source in sources] == [["a"], ["b"]]
    whole = evaluate(stand_in, sources, tmp_path / "two", ASKED)
    for content in (went_on, whole):
        for case in content["cases"]:
            case["seconds"] = 0
    assert went_on == whole


def test_a_case_is_measured_again_when_it_changes(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Other content, other weights, other preprocessing; or what was kept is damaged."""
    source = made("a")

    def reads(model: Model, source: Made) -> int:
        evaluate(model, [source], tmp_path, ASKED)
        return len(source.reads)

    assert [reads(stand_in, source) for _ in range(2)] == [1, 1]
    assert reads(stand_in, replace(source, fingerprint="g")) == 2
    card = stand_in.card
    assert reads(replace(stand_in, card=replace(card, sha256="1" * 64)), source) == 3
    finer = replace(card, preprocessing=replace(card.preprocessing, fine_step_mm=3.0))
    assert reads(replace(stand_in, card=finer), source) == 4
    reading = 4
    whole = (tmp_path / "cases").glob
    for damage in (b"", b'{"histograms": []}', b'{"case": {}, "confusion": [], "histograms": {}}'):
        for path in whole("*.json"):
            path.write_bytes(damage)
        reading += 1
        assert reads(stand_in, source) == reading
    for damage in (lambda content: content[:60], lambda content: b"", lambda content: content[:-40] + bytes(40)):
        for path in whole("*.npz"):
            path.write_bytes(damage(path.read_bytes()))
        reading += 1
        assert reads(stand_in, source) == reading
    for path in whole("*.npz"):
        path.unlink()
    assert reads(stand_in, source) == reading + 1


def test_a_case_is_measured_again_by_other_software(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Another version, or other code of what decides the labels."""
    source = made("a")
    for software in ("porta-hepatis 1", "porta-hepatis 2", "porta-hepatis 2"):
        evaluate(stand_in, [source], tmp_path, Asked(software, "porta evaluate"))
    assert len(source.reads) == 2
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        for name in LABELS_BY:
            (folder / name).write_text(name)
    assert code_sha256(one) == code_sha256(other)
    (tmp_path / "other" / "reslicing.py").write_text("changed")
    code_sha256.cache_clear()
    assert code_sha256(one) != code_sha256(other)


def test_the_same_case_twice_counts_once(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Given in two folders."""
    source = made("a")
    assert len(evaluate(stand_in, [source, source], tmp_path, ASKED)["cases"]) == 1


def test_a_case_that_cannot_be_read_is_named_and_left_out(
    stand_in: Model, made: Callable[..., Made], tmp_path: Path
) -> None:
    """The others are measured; without others it is an error."""
    broken, mr = Made(None, "broken", "q", []), made("mr")
    assert mr.case is not None
    volume = replace(mr.case.volume, modality="MR")
    mr = replace(mr, case=replace(mr.case, volume=volume))
    told: list[str] = []
    content = evaluate(stand_in, [broken, made("a"), mr], tmp_path, ASKED, lambda done, of, line: told.append(line))
    assert [case["name"] for case in content["cases"]] == ["a"]
    assert content["skipped"] == [
        "broken.nii: not a NIfTI image",
        "mr: model thresholds is for CT, the volume is MR",
    ]
    assert told[0] == "left out: broken.nii: not a NIfTI image"
    with pytest.raises(CaseUnreadable, match="^broken.nii: not a NIfTI image$"):
        evaluate(stand_in, [broken], tmp_path, ASKED)
    with pytest.raises(CaseUnreadable, match="none of 2 cases"):
        evaluate(stand_in, [broken, mr], tmp_path, ASKED)


def test_a_folder_that_cannot_be_made_is_one_line(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """A file stands in its place."""
    (tmp_path / "out").write_text("")
    with pytest.raises(RunMismatch, match="out"):
        evaluate(stand_in, [made("a")], tmp_path / "out", ASKED)


def test_tables_have_a_row_for_each_case_and_lesion(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Empty where a figure is undefined."""
    healthy, undrawn = made("b", patient="q", lesions=False), made("c", tumours_drawn=False)
    content = evaluate(stand_in, [made("a"), healthy, undrawn], tmp_path, ASKED)
    with (tmp_path / "cases.csv").open(newline="") as file:
        cases = list(csv.DictReader(file))
    with (tmp_path / "lesions.csv").open(newline="") as file:
        lesions = list(csv.DictReader(file))
    assert [row["name"] for row in cases] == ["a", "b", "c"]
    assert float(cases[0]["liver_dice"]) == content["cases"][0]["liver"]["dice"]
    assert [row["tumour_dice"] == "" for row in cases] == [False, True, True]
    assert [(row["true_lesions"], row["found_lesions"], row["false_lesions"]) for row in cases] == [
        ("1", "1", "0"), ("0", "0", "1"), ("", "", ""),
    ]  # fmt: skip
    assert [(row["name"], row["kind"]) for row in lesions] == [("a", "found"), ("b", "false")]
    assert lesions[1]["true_diameter_mm"] == ""


def test_found_labels_come_back(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """What was kept of a case is what the model found: 0, 1, 2 on the source's grid."""
    source = made("a")
    evaluate(stand_in, [source], tmp_path, ASKED)
    assert source.case is not None
    _, labels = measure_case(stand_in, source.case, "made")
    np.testing.assert_array_equal(found_labels(stand_in, source, tmp_path, ASKED.software), labels)
    assert set(np.unique(labels)) == {0, 1, 2}
    with pytest.raises(RunMismatch, match="evaluate again"):
        found_labels(stand_in, made("other"), tmp_path, ASKED.software)


def test_a_model_that_finds_nothing_is_measured(stand_in: Model, made: Callable[..., Made], tmp_path: Path) -> None:
    """Dice 0, distances undefined, every lesion missed; it is the worst case."""
    good, bad = made("good"), made("bad", patient="q")
    assert bad.case is not None
    dark = Volume(np.full(bad.case.volume.array.shape, -100, np.int16), bad.case.volume.geometry, "CT", "1.2")
    content = evaluate(stand_in, [good, replace(bad, case=replace(bad.case, volume=dark))], tmp_path, ASKED)
    assert content["worst"] == ["bad", "good"]
    liver = content["cases"][1]["liver"]
    assert (liver["dice"], liver["rvd"], liver["assd_mm"], liver["precision"], liver["auc_roc"]) == (
        0, -1, None, None, 0.5,
    )  # fmt: skip
    assert content["cases"][1]["burden_percent"] is None
    assert content["summary"]["lesions"]["recall"]["mean"] == 0.5


def test_diameter_and_burden_errors_are_absolute_with_their_bias() -> None:
    """Made-up records of three patients: 2 mm too large, 4 mm too small, nothing found."""

    def lesion(true_mm: float, found_mm: float | None) -> dict[str, object]:
        return {"found": found_mm is not None, "true_diameter_mm": true_mm, "diameter_mm": found_mm, "iou": 0.4,
                "size_class": "10-20" if true_mm <= 20 else "20-30"}  # fmt: skip

    def measured(patient: str, burden: float | None, *lesions: dict[str, object]) -> Measured:
        figures = dict.fromkeys(FIGURES)
        record = {"name": patient, "patient": patient, "tumours_drawn": True, "liver": figures, "tumour": figures,
                  "lesions": list(lesions), "false_lesions": [], "burden_percent": burden,
                  "true_burden_percent": 5.0}  # fmt: skip
        return Measured(record, np.zeros((3, 3), np.int64), {})

    summary = summary_of(
        [
            measured("a", 6.0, lesion(15, 17), lesion(25, 21)),
            measured("b", 2.0, lesion(15, None)),
            measured("c", None),
        ]
    )["summary"]["lesions"]
    assert (summary["diameter_error_mm"]["mean"], summary["diameter_error_mm"]["bias"]) == (3, -1)
    assert (summary["burden_error_percent"]["mean"], summary["burden_error_percent"]["bias"]) == (2, -1)
    assert summary["recall_by_size"]["10-20"] == {"recall": 0.5, "low": 0, "high": 1, "count": 2}
    assert summary["recall_by_size"]["> 100".replace(" ", "")]["recall"] is None
    assert summary["strict"]["recall"]["mean"] == 0
