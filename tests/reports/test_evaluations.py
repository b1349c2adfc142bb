"""What charts read of an evaluation.json: nothing of another schema, and nothing where a value is null."""

import json

import pytest

from reports.criteria import size_category_of
from reports.errors import EvaluationUnreadable
from reports.evaluations import (
    SIZE_CLASSES,
    Estimate,
    common_counts,
    confusion,
    counted,
    estimate,
    read_evaluation,
    size_class,
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
    assert counted(made, "tumour", "dice") == 0
    assert counted(made, "liver", "dice") == 6
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


@pytest.mark.parametrize("mm", [4.0, 9.94, 9.96, 10.0, 10.1, 20.0, 20.04, 20.06, 30.0, 50.0, 50.1, 100.0, 100.1, 300.0])
def test_size_classes_are_those_of_the_report(mm) -> None:
    """`reports.criteria` says the same of the longest lesion of a report."""
    named = size_category_of([mm])
    assert named is not None
    assert size_class(mm) == named.replace(" ", "")
    assert size_class(mm) in SIZE_CLASSES
