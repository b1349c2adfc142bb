"""Patients on one side only, the same for the same seed, and files that say what they hold."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.datasets.cases import Case
from models.datasets.splits import Split, check, fold, leave_out, make_split, part, read_split, write_split
from models.errors import SplitInvalid


@dataclass(frozen=True)
class Named:
    """A source that is never read."""

    name: str
    patient: str
    collection: str = "LiTS"
    fingerprint: str = ""

    def read(self) -> Case:
        raise AssertionError("a split reads no case")


def lits(count: int) -> list[Named]:
    return [Named(f"volume-{number}", f"LiTS/{number}") for number in range(count)]


def test_shares_of_the_patients() -> None:
    """Every case in one part, and no patient in two, also when one has several examinations."""
    sources = lits(50) + [Named(f"again-{number}", f"LiTS/{number}", "MSD") for number in range(20)]
    split = make_split(sources, validation=0.2, test=0.1)
    check(split, sources)
    names = [*split.training, *split.validation, *split.test]
    assert sorted(names) == sorted(source.name for source in sources)
    patients = {source.name: source.patient for source in sources}
    assert len({patients[name] for name in split.test}) == 5
    assert len({patients[name] for name in split.validation}) == 9


def test_a_seed_decides(tmp_path: Path) -> None:
    """Not the order of the sources; another seed, another split."""
    sources = lits(40)
    assert make_split(sources) == make_split(sources)
    turned = make_split(sources[::-1])
    assert set(turned.test) == set(make_split(sources).test)
    assert make_split(sources, seed=1) != make_split(sources)


def test_every_collection_has_its_share() -> None:
    """Ten of a hundred and two of twenty, not twelve of the larger one."""
    sources = lits(100) + [Named(f"p-{number}", f"phantoms/{number}", "phantoms") for number in range(20)]
    split = make_split(sources, validation=0.1, test=0.1)
    assert sum(name.startswith("p-") for name in split.test) == 2
    assert len(split.test) == 12


def test_a_patient_more_moves_few_others() -> None:
    before, after = make_split(lits(100), test=0.2), make_split(lits(101), test=0.2)
    assert len(set(before.test) & set(after.test)) >= 17


def test_folds_test_every_patient_once() -> None:
    """And each leaves patients for validation and training."""
    sources = [*lits(23), Named("again-3", "LiTS/3")]
    folds = [fold(sources, k, 5) for k in range(1, 6)]
    tested = [name for split in folds for name in split.test]
    assert sorted(tested) == sorted(source.name for source in sources)
    for split in folds:
        check(split, sources)
        assert len(split.validation) >= 2 and len(split.training) > 10


@pytest.mark.parametrize(("k", "of", "why"), [(0, 5, "first"), (6, 5, "first"), (1, 1, "first"), (1, 9, "8 patients")])
def test_folds_that_are_none(k: int, of: int, why: str) -> None:
    with pytest.raises(SplitInvalid, match=f"fold {k}/{of}: .*{why}"):
        fold(lits(8), k, of)


def test_a_case_is_left_out_with_its_patient() -> None:
    """LiTS volume 44 and patient 17 of 3D-IRCADb-01 are one."""
    sources = [*lits(8), Named("volume-44", "3D-IRCADb-01/17"), Named("3Dircadb1.17", "3D-IRCADb-01/17")]
    split = leave_out(sources, ["3Dircadb1.17"])
    assert split.test == ("volume-44", "3Dircadb1.17")
    check(split, sources)
    with pytest.raises(SplitInvalid, match="volume-99: no case of this name"):
        leave_out(sources, ["volume-99"])


def test_too_few_patients() -> None:
    """Three are enough for three parts, two are not; one is enough where nothing else is wanted."""
    split = make_split(lits(3))
    assert (len(split.training), len(split.validation), len(split.test)) == (1, 1, 1)
    with pytest.raises(SplitInvalid, match="2 patients are too few"):
        make_split(lits(2))
    assert make_split(lits(1), validation=0, test=0).training == ("volume-0",)
    with pytest.raises(SplitInvalid, match="shares from 0, together below 1"):
        make_split(lits(9), validation=0.5, test=0.5)


def test_a_file_gives_it_back(tmp_path: Path) -> None:
    sources = lits(10)
    split = make_split(sources)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]
    assert [source.name for source in part(sources, split.test)] == list(split.test)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not JSON"),
        ("[]", "must have the keys training, validation, test and no others"),
        ('{"training": [], "validation": []}', "must have the keys"),
        ('{"training": [], "validation": [], "test": [], "more": []}', "and no others"),
        ('{"training": [], "validation": "volume-1", "test": []}', "validation must be a list of names"),
        ('{"training": [1], "validation": [], "test": []}', "training must be a list of names"),
    ],
)
def test_a_file_that_is_no_split(content: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(SplitInvalid, match=f"split.json: .*{why}"):
        read_split(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SplitInvalid, match=r"split.json: No such file"):
        read_split(tmp_path / "split.json")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"test": ["volume-9"]}, "test: there is no case volume-9"),
        ({"test": ["volume-0"]}, "volume-0 stands twice, in training and in test"),
        ({"test": ["again-0"]}, "again-0 is in test, another case of its patient LiTS/0 in training"),
    ],
)
def test_what_a_split_must_not_hold(changes: dict[str, list[str]], why: str) -> None:
    """A name of nothing, a name twice, a patient on two sides."""
    raw = {"training": ["volume-0", "volume-1"], "validation": ["volume-2"], "test": ["volume-3"]} | changes
    split = Split(**{key: tuple(names) for key, names in json.loads(json.dumps(raw)).items()})
    with pytest.raises(SplitInvalid, match=why):
        check(split, [*lits(4), Named("again-0", "LiTS/0")])
