"""What charts read of an evaluation.json: nothing of another schema, and nothing where a value is null."""

import json

import pytest

from reports.errors import EvaluationUnreadable
from reports.evaluation.evaluations import (
    Estimate,
    common_counts,
    confusion,
    counted_drawn,
    estimate,
    read_evaluation,
    values,
)


def test_what_was_written_is_read(make_evaluation, tmp_path) -> None:
    """The content, unchanged."""
    made = make_evaluation()
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(made))
    assert read_evaluation(path) == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made.update(schema=2), "not an evaluation of schema 1"),
        (lambda made: made.pop("roc"), "lacks the key 'roc'"),
        (lambda made: made["cases"][2].pop("confusion"), "case 3 lacks the key 'confusion'"),
        (lambda made: made["summary"].pop("lesions"), "the summary lacks the key 'lesions'"),
    ],
)
def test_another_file_is_one_clear_line(make_evaluation, tmp_path, change, said) -> None:
    """Which file, and what it lacks."""
    made = make_evaluation()
    change(made)
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(made))
    with pytest.raises(EvaluationUnreadable) as refused:
        read_evaluation(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_or_cut_off_file_is_one_clear_line(tmp_path) -> None:
    """As a run that was killed leaves them."""
    path = tmp_path / "evaluation.json"
    with pytest.raises(EvaluationUnreadable, match="No such file"):
        read_evaluation(path)
    path.write_text('{"schema": 1, "cases": [')
    with pytest.raises(EvaluationUnreadable, match="not JSON; run `porta evaluate` again"):
        read_evaluation(path)


def test_null_is_no_estimate(make_evaluation) -> None:
    """Where no case has a tumour its metrics are undefined, and zero cases have them."""
    made = make_evaluation(tumours=False)
    assert estimate(made, "tumour", "dice") is None
    assert len(values(made, "tumour", "dice")) == 0
    assert len(values(made, "liver", "dice")) == 6
    assert isinstance(estimate(make_evaluation(), "liver", "dice"), Estimate)


def test_plain_numbers_are_estimates_without_bounds(make_evaluation) -> None:
    """As the summary's global and lesion figures."""
    assert estimate(make_evaluation(), "global", "liver_dice") == Estimate(0.95, None, None)


def test_counts_are_shared_or_each_its_own(make_evaluation) -> None:
    """Models may have been measured on different cases; a chart must say so."""
    same = {"a": make_evaluation(cases=4), "b": make_evaluation(cases=4)}
    assert common_counts(same) == "4 cases of 2 patients"
    other = same | {"c": make_evaluation(cases=1)}
    assert common_counts(other) == "a, b: 4 cases of 2 patients; c: 1 case of 1 patient"


def test_confusion_is_the_sum_of_the_cases_that_have_one(make_evaluation) -> None:
    """A case whose tumours are not drawn has none."""
    made = make_evaluation(cases=3)
    total, used = confusion(made)
    assert used == 2
    first, third = made["cases"][0]["confusion"], made["cases"][2]["confusion"]
    assert total == [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(first, third, strict=True)]


def test_what_is_no_structure_is_one_clear_line(make_evaluation, tmp_path) -> None:
    """Cases that are numbers, a summary that is null: JSON of a damaged file."""
    path = tmp_path / "evaluation.json"
    for change in ({"cases": [1]}, {"cases": 1}, {"summary": None}):
        path.write_text(json.dumps(make_evaluation() | change))
        with pytest.raises(EvaluationUnreadable, match=r"evaluation.json: damaged; run `porta evaluate` again"):
            read_evaluation(path)


def test_drawn_cases_are_counted_for_each_model(make_evaluation) -> None:
    """One model alone could not be measured on the last two."""
    assert counted_drawn({"a": make_evaluation(), "b": make_evaluation()}) == "5 cases"
    assert counted_drawn({"a": make_evaluation(), "b": make_evaluation(cases=3)}) == "a: 5 cases; b: 2 cases"
