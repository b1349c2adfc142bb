"""The tables of the comparison: means with bounds, the best of a row marked, nothing where nothing is known."""

import pytest

from reports.evaluation.comparison_tables import (
    UNDEFINED,
    case_rows,
    collection_rows,
    lesion_rows,
    number,
    plain_row,
    score_rows,
)


@pytest.fixture
def two(make_evaluation):
    """A better and a worse model on the same cases."""
    return {"good": make_evaluation(seed=2, skill=0.9), "bad": make_evaluation(seed=2, skill=0.6)}


def test_means_stand_with_their_bounds(two) -> None:
    """As the summary has them."""
    dice = score_rows(two, "liver")[0]
    summary = two["good"]["summary"]["liver"]["dice"]
    assert dice.name == "Dice"
    assert dice.cells[0].text == f"{summary['mean']:.3f}"
    assert dice.cells[0].beside == f"{summary['low']:.3f} to {summary['high']:.3f}"


def test_the_best_is_the_highest_or_the_lowest(two) -> None:
    """By what a figure means; nobody where all are alike, nor of the RVD: too much and too little cancel out."""
    two["good"]["summary"]["liver"]["rvd"]["mean"], two["bad"]["summary"]["liver"]["rvd"]["mean"] = 0.05, -0.01
    rows = {row.name: [cell.best for cell in row.cells] for row in score_rows(two, "liver")}
    assert rows["Dice"] == [True, False]
    assert rows["HD95"] == [True, False]
    assert rows["RVD"] == [False, False]
    assert rows["Global Dice"] == [False, False]
    assert not any(cell.best for row in score_rows({"alone": two["good"]}, "liver") for cell in row.cells)


def test_what_is_undefined_is_a_dash(make_evaluation) -> None:
    """And no winner is made of it."""
    rows = score_rows({"a": make_evaluation(tumours=False), "b": make_evaluation()}, "tumour")
    assert rows[0].cells[0].text == UNDEFINED
    assert not rows[0].cells[1].best


def test_collections_are_told_apart(two) -> None:
    """The mean over all would be that of the phantoms."""
    rows = collection_rows(two, "liver")
    assert [(row.name, row.meaning) for row in rows] == [("made up", "2 cases"), ("phantoms", "4 cases")]
    own = [case["liver"]["dice"] for case in two["good"]["cases"] if case["collection"] == "made up"]
    assert rows[0].cells[0].text == f"{sum(own) / 2:.3f}"


def test_every_case_has_its_row(two) -> None:
    """But for those that no model has a figure of."""
    assert len(case_rows(two, "liver")) == 6
    assert [row.name for row in case_rows(two, "tumour")] == ["case-0", "case-2", "case-3", "case-4", "case-5"]


def test_lesions_have_strict_scores_and_sizes(two) -> None:
    """Sizes that no true lesion has are left out."""
    names = [row.name for row in lesion_rows(two)]
    assert {"Precision", "Strict recall", "False lesions", "Recall, 20-30 mm"} <= set(names)
    assert "Recall, >100 mm" not in names


def test_numbers_have_a_true_minus_and_no_minus_zero() -> None:
    """A rounded nothing is not negative."""
    assert (number(-0.25, 2), number(-0.0001, 2), number(3, 0)) == ("\N{MINUS SIGN}0.25", "0.00", "3")


def test_a_plain_row_is_scaled_and_may_have_gaps() -> None:
    """What was not measured is a dash, and nobody is best; else the cheapest is."""
    row = plain_row("Parameters", "millions", [2e6, None, 1e6], 1, scale=1e-6)
    assert [(cell.text, cell.best) for cell in row.cells] == [("2.0", False), (UNDEFINED, False), ("1.0", False)]
    row = plain_row("Parameters", "millions", [2e6, 1e6], 1, scale=1e-6)
    assert [cell.best for cell in row.cells] == [False, True]


def test_a_figure_of_fewer_cases_says_of_how_many_and_nobody_is_best(two) -> None:
    """The worse model found nothing in its worst case: its distances are means over the others."""
    two["bad"]["cases"][0]["liver"]["hd95_mm"] = None
    row = next(row for row in score_rows(two, "liver") if row.name == "HD95")
    assert [cell.count for cell in row.cells] == ["", "n = 5"]
    assert not any(cell.best for cell in row.cells)
    two["good"]["cases"][0]["liver"]["hd95_mm"] = None
    row = next(row for row in score_rows(two, "liver") if row.name == "HD95")
    assert [(cell.count, cell.best) for cell in row.cells] == [("n = 5", True), ("n = 5", False)]


def test_a_collection_without_a_case_of_one_model_has_no_best(two) -> None:
    """Its Dice is of the others."""
    two["bad"]["cases"][0]["liver"]["dice"] = None
    cells = collection_rows(two, "liver")[0].cells
    assert [(cell.count, cell.best) for cell in cells] == [("", False), ("n = 1", False)]
    assert not any(cell.best for cell in case_rows(two, "liver")[0].cells)


def test_errors_of_diameter_are_of_the_lesions_that_each_model_found(two) -> None:
    """Who finds the large ones alone is no better; recall is of all that there are, whoever found them."""
    for evaluation, found in ((two["good"], True), (two["bad"], False)):
        evaluation["cases"][0]["lesions"][0]["found"] = found
    for key in ("recall", "diameter_error_mm"):
        two["bad"]["summary"]["lesions"][key] = {"mean": 0.1, "low": None, "high": None}
    rows = {row.name: row.cells for row in lesion_rows(two)}
    assert not any(cell.best for cell in rows["Diameter error"])
    assert rows["Diameter error"][1].count.startswith("n = ")
    assert [cell.best for cell in rows["Recall"]] == [True, False]
    assert [cell.count for cell in rows["Recall"]] == ["", ""]
