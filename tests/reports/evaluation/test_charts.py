"""Charts: each is written as a picture, says how many it stands for, and draws what the evaluation says."""

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from reports.errors import EvaluationUnreadable
from reports.evaluation.agreement_charts import draw_bland_altman
from reports.evaluation.chart_style import Chart, looks, new_chart, signed
from reports.evaluation.charts import KINDS, draw_charts
from reports.evaluation.composition_charts import NO_LIVER, lesion_diameters, severity_levels
from reports.evaluation.learning_curves import draw_learning, read_learning, step_seconds
from reports.evaluation.metric_charts import Cost, draw_costs, draw_metrics
from reports.findings.severity import Level

NAMES = ("resnet50", "deeplabv3plus_resnet101", "vgg16")


@pytest.fixture
def evaluations(make_evaluation):
    """Three models on the same cases."""
    return {name: make_evaluation(name, seed=1, skill=0.9 - 0.1 * place) for place, name in enumerate(NAMES)}


def inked(path) -> float:
    """The part of a picture that is not white."""
    pixels = imread(path)[..., :3]
    return float((pixels < 0.97).any(axis=-1).mean())


def test_every_chart_is_a_picture(evaluations, tmp_path) -> None:
    """All kinds, none of them empty, nothing else left in the folder."""
    drawn = draw_charts(evaluations, tmp_path / "charts")
    assert [chart.path.name for chart in drawn] == [kind.file for kind in KINDS]
    assert sorted(tmp_path.joinpath("charts").iterdir()) == sorted(chart.path for chart in drawn)
    for chart in drawn:
        assert 0.02 < inked(chart.path) < 0.9, chart.path.name
        assert chart.alt.endswith(".")


def test_nothing_found_and_nothing_true_can_be_drawn(make_evaluation, tmp_path) -> None:
    """One healthy case of which all that can be null is null."""
    made = make_evaluation(cases=1, tumours=False)
    for key in ("auc_roc", "assd_mm", "hd95_mm", "volume_ml"):
        made["cases"][0]["liver"][key] = None
        made["summary"]["liver"][key] = {"mean": None, "low": None, "high": None}
    made["cases"][0]["confusion"] = None
    made["roc"]["liver"] = {"fpr": [], "tpr": [], "auc": None}
    assert len(draw_charts({"resnet50": made}, tmp_path)) == len(KINDS)


def test_charts_are_the_same_every_time(evaluations, tmp_path) -> None:
    """Byte for byte, so that a committed picture changes only with its numbers."""
    one = draw_bland_altman(evaluations, tmp_path / "one.png").read_bytes()
    assert one == draw_bland_altman(evaluations, tmp_path / "two.png").read_bytes()


def test_a_model_looks_the_same_in_every_chart() -> None:
    """By its place; eight have eight colours, and five of them five dashes too."""
    found = looks([str(number) for number in range(8)])
    assert len({look.colour for look in found.values()}) == 8
    assert len({str(look.dash) for look in list(found.values())[:5]}) == 5


def test_colours_differ_for_the_colour_blind() -> None:
    """Any two of the five models' colours are apart as a deuteranope sees them (Viénot 1999)."""
    hexes = [look.colour for look in looks([str(number) for number in range(5)]).values()]
    linear = (np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in hexes]) / 255) ** 2.2
    deuteranope = np.array([[0.293, 0.707, -0.022], [0.293, 0.707, -0.022], [-0.022, 0.022, 1.0]])
    seen = (linear @ deuteranope.T).clip(0, 1) ** (1 / 2.2)
    gaps = [np.abs(a - b).max() for place, a in enumerate(seen) for b in seen[:place]]
    assert min(gaps) > 0.15


def test_a_note_stays_on_the_chart() -> None:
    """Long notes are broken into lines."""
    chart = new_chart("T", "word " * 60, size=(6.0, 4.0))
    chart.figure.draw_without_rendering()
    _, note = chart.figure.texts
    assert note.get_window_extent().x1 < chart.figure.bbox.x1


def test_a_minus_is_as_long_as_a_plus() -> None:
    """Typographic signs."""
    assert (signed(-3.2), signed(3.2), signed(-0.5, 1)) == ("\N{MINUS SIGN}3", "+3", "\N{MINUS SIGN}0.5")


def test_severity_is_that_of_the_table(make_evaluation) -> None:
    """One lesion of 40 mm is moderate; not found it is none, with a false one of 12 mm it is low."""
    made = make_evaluation(cases=1)
    (case,) = made["cases"]
    lesion = {"true_volume_ml": 30.0, "true_diameter_mm": 40.0, "found": False, "diameter_mm": None}
    case |= {"lesions": [lesion], "false_lesions": [], "true_burden_percent": 2.0, "burden_percent": 0.0}
    assert severity_levels(made, true=True) == [Level.MODERATE]
    assert severity_levels(made, true=False) == [Level.NONE]
    case["false_lesions"] = [{"volume_ml": 0.5, "diameter_mm": 12.0, "confidence": 0.6}]
    assert severity_levels(made, true=False) == [Level.LOW]
    assert lesion_diameters(case, true=False) == [12.0]
    case["liver"]["volume_ml"] = 0.0
    assert severity_levels(made, true=False) == [NO_LIVER]
    assert severity_levels(made, true=True) == [Level.MODERATE]
    case["tumours_drawn"] = False
    assert severity_levels(made, true=True) == []


@pytest.fixture
def words(monkeypatch):
    """What is written on each chart that is saved, by its file's name."""
    said = {}
    save = Chart.save

    def kept(chart, path):
        texts = [text.get_text() for text in chart.figure.findobj(Text)]
        said[path.name] = texts
        return save(chart, path)

    monkeypatch.setattr(Chart, "save", kept)
    return said


def test_each_panel_says_of_how_many_cases_it_is(evaluations, tmp_path, words) -> None:
    """One model found no liver in one case: its distances are of five, all other figures of six."""
    evaluations["vgg16"]["cases"][0]["liver"]["assd_mm"] = None
    draw_metrics(evaluations, "liver", tmp_path / "liver.png")
    assert words["liver.png"].count("n = 6") == 7
    assert words["liver.png"].count("n = 5 or 6") == 1


def test_models_measured_on_other_cases_are_each_counted(make_evaluation, tmp_path, words) -> None:
    """Not the most of them, nor the first one's."""
    other = {"a": make_evaluation(), "b": make_evaluation(cases=3)}
    draw_charts(other, tmp_path)
    for name in ("confusion.png", "composition.png", "roc.png"):
        said = " ".join(" ".join(words[name]).split())
        assert "a: 5 cases; b: 2 cases" in said, name
    assert {"truth of a", "truth of b"} <= set(words["severity.png"]) & set(words["sizes.png"])
    assert any("a: " in text and "true lesions; b: " in text for text in words["lesions.png"])


def test_what_an_earlier_set_left_is_taken_away(evaluations, tmp_path) -> None:
    """A chart that is not drawn any more would stand beside those that are."""
    for name in ("learning.png", ".roc.png.part"):
        (tmp_path / name).write_bytes(b"old")
    drawn = draw_charts(evaluations, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(chart.path for chart in drawn)


def test_costs_that_were_not_measured_are_left_out(tmp_path, words) -> None:
    """No CUDA, no bar."""
    costs = [Cost("Memory, MiB", {"a": 900.0, "b": None}, 0)]
    assert 0.02 < inked(draw_costs(costs, "one slice", tmp_path / "costs.png"))
    assert "not measured" in words["costs.png"]
    assert "undefined" not in words["costs.png"]


def test_learning_is_read_and_drawn(tmp_path) -> None:
    """A run with validation, and one that did not reach it."""
    for name, dices in (("one", "step,liver_dice,tumour_dice\n2,0.5,\n4,0.7,0.1\n"), ("two", None)):
        folder = tmp_path / name
        folder.mkdir()
        losses = "".join(f"{step},{2 / step},0.001\n" for step in range(1, 6))
        (folder / "loss.csv").write_text(f"step,loss,learning_rate\n{losses}")
        if dices is not None:
            (folder / "dice.csv").write_text(dices)
    runs = {name: read_learning(tmp_path / name) for name in ("one", "two")}
    assert runs["one"].losses[:, 1].tolist() == [2.0, 1.0, pytest.approx(2 / 3), 0.5, 0.4]
    assert runs["one"].dices[0, 1] == 0.5
    assert np.isnan(runs["one"].dices[0, 2])
    assert runs["two"].dices.shape == (0, 3)
    assert 0.02 < inked(draw_learning(runs, tmp_path / "learning.png"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("step,value\n1,2\n", "has no column 'loss'"),
        ("step,loss\n1,2\n2,x\n", "line 3 is not numbers"),
        ("step,loss\n1,2\n2\n", "line 3 is not numbers"),
    ],
)
def test_other_curves_are_one_clear_line(tmp_path, content, said) -> None:
    """Which file and which line."""
    if content is not None:
        (tmp_path / "loss.csv").write_text(content)
    with pytest.raises(EvaluationUnreadable, match=said):
        read_learning(tmp_path)


def test_a_step_takes_what_the_log_says() -> None:
    """The median from validation to validation; what lay between a stop and the next start is no part of it."""
    log = """\
2026-01-01T10:00:00+00:00 started: porta train
2026-01-01T10:03:30+00:00 step 100: validation Dice liver 0.7
2026-01-01T10:06:50+00:00 step 200: validation Dice liver 0.8, tumour 0.1
2026-01-01T10:07:00+00:00 stopped at step 205
2026-01-02T10:00:00+00:00 started: porta train
2026-01-02T10:05:00+00:00 step 300: validation Dice liver 0.9
2026-01-02T10:08:20+00:00 step 400: validation Dice liver 0.9
2026-01-02T10:08:21+00:00 ended at step 400
"""
    assert step_seconds(log) == 2.0
    assert step_seconds(log[:120]) is None
    assert step_seconds("") is None
