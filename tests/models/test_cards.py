"""Cards: reading one, finding one, and whether the shipped one tells what it must."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from models.cards import PRETRAINED, Preprocessing, find, fitting, licences_of, read_card, read_cards
from models.datasets.patients import CHAOS_CT, CHAOS_MR, IRCADB, LITS, MSD_LIVER
from models.errors import CardInvalid, UnknownModel
from models.weights import ARCHITECTURES

CONTENT: dict[str, Any] = {
    "name": "small",
    "version": "1.2.0",
    "architecture": "resnet50",
    "modalities": ["CT", "MR"],
    "sha256": "ab" * 32,
    "preprocessing": {
        "coarse_spacing_mm": 3.0,
        "fine_spacing_mm": 1.5,
        "coarse_step_mm": 4.0,
        "fine_step_mm": 2.0,
        "neighbour_mm": 4.0,
        "window_hu": [-160, 240],
    },
    "trained_on": "one patient",
    "licence": "CC0",
    "quality": {"patient 1, left out": {"liver_dice": 0.9}},
    "research_use_only": True,
}


def test_card_is_read_with_its_weights_beside_it(tmp_path: Path) -> None:
    """Every field of the JSON arrives, and the weights bear the card's stem."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(CONTENT))
    card = read_card(path)
    assert card.weights == tmp_path / "small.safetensors"
    assert card.modalities == ("CT", "MR")
    assert card.preprocessing.window_hu == (-160, 240)
    assert json.loads(json.dumps(asdict(card.preprocessing))) == CONTENT["preprocessing"] | {"window_percentiles": None}
    for name in ("name", "version", "architecture", "sha256", "trained_on", "licence", "quality", "research_use_only"):
        assert getattr(card, name) == CONTENT[name]


@pytest.mark.parametrize(("written", "read"), [([1, 99.5], (1, 99.5)), (None, None)])
def test_percentiles_are_read_where_a_card_has_them(
    tmp_path: Path, written: list[float] | None, read: tuple[float, float] | None
) -> None:
    """Of weights that know MR; null, as a dataclass is written, and absence mean the same."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(CONTENT | {"preprocessing": CONTENT["preprocessing"] | {"window_percentiles": written}}))
    card = read_card(path)
    assert card.preprocessing.window_percentiles == read
    assert (card.takes("CT"), card.takes("MR"), card.takes("PT")) == (True, read is not None, False)


@pytest.mark.parametrize("percentiles", [(5.0, 5.0), (99.0, 1.0), (-1.0, 99.0), (1.0, 101.0)])
def test_percentiles_that_are_no_range_are_refused(percentiles: tuple[float, float]) -> None:
    """Before any image is divided by it."""
    with pytest.raises(ValueError, match="percentiles"):
        Preprocessing(3.0, 1.5, 4.0, 2.0, 4.0, (-160.0, 240.0), percentiles)


HOW = CONTENT["preprocessing"]
MEASURED = {
    "slope": 1.0,
    "intercept": 0.0,
    "lesions": 20,
    "real": 10,
    "cases": 5,
    "brier_before": 0.2,
    "brier_after": 0.1,
}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a card of weights: no JSON"),
        ("[]", "not a card of weights: no JSON object"),
        (b"\xff{}", "not a card of weights: no JSON"),
        ({"weights": "x"}, "weights: unknown key; known: name, version, architecture, "),
        ({"sha265": "x"}, "sha265: unknown key"),
        ({"name": None}, "name: must be text"),
        ({"version": 1}, "version: must be text"),
        ({"version": "v" * 65}, "version: must be 1 to 64 printable characters, and no backslash"),
        ({"name": "n" * 65}, "name: must be 1 to 64 printable characters"),
        ({"name": "a\\b"}, "name: must be 1 to 64 printable characters"),
        ({"version": "1\n"}, "version: must be 1 to 64 printable characters"),
        ({"version": "\ud800"}, "version: must be 1 to 64 printable characters"),
        ({"licence": ""}, "licence: must be text"),
        ({"modalities": "CT"}, "modalities: must be a list"),
        ({"modalities": []}, "modalities: must name at least one"),
        ({"modalities": [1]}, "modalities: must be text"),
        ({"sha256": "ab"}, "sha256: must be 64 digits"),
        ({"quality": []}, "quality: must be an object"),
        ({"research_use_only": 1}, "research_use_only: must be true or false"),
        ({"preprocessing": []}, "preprocessing: must be an object"),
        ({"preprocessing": HOW | {"window": 1}}, "preprocessing.window: unknown key"),
        ({"preprocessing": HOW | {"fine_step_mm": True}}, "preprocessing.fine_step_mm: must be a number"),
        ({"preprocessing": HOW | {"fine_step_mm": 0}}, "preprocessing.fine_step_mm: must be from 0.1 to 50"),
        ({"preprocessing": HOW | {"neighbour_mm": -1}}, "preprocessing.neighbour_mm: must be from 0 to 50"),
        ({"preprocessing": HOW | {"fine_step_mm": float("nan")}}, "preprocessing.fine_step_mm: must be a number"),
        ({"preprocessing": HOW | {"fine_step_mm": 10**400}}, "preprocessing.fine_step_mm: must be a number"),
        ({"preprocessing": HOW | {"window_hu": [1]}}, "preprocessing.window_hu: must be a list of 2"),
        ({"preprocessing": HOW | {"window_hu": [2, 1]}}, "preprocessing.window_hu: must be two growing values"),
        ({"preprocessing": HOW | {"window_hu": [1, 1.5]}}, "preprocessing.window_hu: must be two growing values"),
        ({"preprocessing": HOW | {"window_hu": [-1e6, 0]}}, "preprocessing.window_hu: must be from -32768 to 32768"),
        ({"preprocessing": HOW | {"fine_spacing_mm": 1e-6}}, "preprocessing.fine_spacing_mm: must be from 0.1 to 50"),
        ({"preprocessing": HOW | {"coarse_spacing_mm": 1e6}}, "preprocessing.coarse_spacing_mm: must be from 0.1 to"),
        ({"preprocessing": HOW | {"neighbour_mm": 1e6}}, "preprocessing.neighbour_mm: must be from 0 to 50"),
        ({"licence": "free\x1b[2J"}, "licence: must have no control characters"),
        ({"trained_on": "a\u202eb"}, "trained_on: must have no control characters"),
        ({"quality": {"CHAOS": {"Dice\n": 1}}}, "quality.CHAOS: must have no control characters"),
        ({"quality": {"CHAOS": ["0.9\r"]}}, "quality.CHAOS: must have no control characters"),
        (
            {"preprocessing": HOW | {"window_percentiles": [5, 5]}},
            "preprocessing.window_percentiles: must be two growing",
        ),
        ({"calibration": []}, "calibration: must be an object"),
        ({"calibration": {"slope": 1.0}}, "calibration.intercept: missing"),
        ({"calibration": MEASURED | {"slope": "steep"}}, "calibration.slope: must be a number"),
        ({"calibration": MEASURED | {"slope": float("nan")}}, "calibration.slope: must be a number"),
        ({"calibration": MEASURED | {"lesions": 1.5}}, "calibration.lesions: must be a whole number"),
        ({"calibration": MEASURED | {"sloep": 1}}, "calibration.sloep: unknown key"),
    ],
)
def test_card_that_cannot_be_used_is_told_by_file_and_key(tmp_path: Path, content: Any, said: str) -> None:
    """In one line, before anything is loaded."""
    path = tmp_path / "small.json"
    text = json.dumps(CONTENT | content) if isinstance(content, dict) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CardInvalid) as error:
        read_card(path)
    assert str(error.value).startswith(f"{path}: {said}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", [*CONTENT, *(f"preprocessing.{key}" for key in HOW)])
def test_missing_key_is_named(tmp_path: Path, key: str) -> None:
    """Each of them must be there, but for what older cards do not have."""
    content = json.loads(json.dumps(CONTENT))
    table, _, inner = key.partition(".")
    del (content[table] if inner else content)[inner or table]
    path = tmp_path / "small.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CardInvalid) as error:
        read_card(path)
    assert str(error.value) == f"{path}: {key}: missing"


def test_card_that_is_not_there_is_named(tmp_path: Path) -> None:
    """By its path, through `find` too."""
    with pytest.raises(CardInvalid, match=r"gone\.json: No such file"):
        find(str(tmp_path / "gone.json"))


def test_shipped_model_takes_ct_alone() -> None:
    """A card that was written before percentiles were known is read as it was."""
    card = find("resnet50")
    assert (card.takes("CT"), card.takes("MR")) == (True, False)
    assert card.preprocessing.window_percentiles is None


def test_cards_of_a_folder_are_found_by_name_not_by_file(tmp_path: Path) -> None:
    """A site may name the files as it likes."""
    (tmp_path / "whatever.json").write_text(json.dumps(CONTENT))
    assert list(read_cards(tmp_path)) == ["small"]
    assert find("small", tmp_path).version == "1.2.0"


@pytest.mark.parametrize("stem", ["small{}", "small{}@1.2.0"])
def test_sister_for_mr_lies_beside_weights_for_ct(tmp_path: Path, stem: str) -> None:
    """Asked for as `small`; only where the weights themselves do not take the modality, and the sister does."""
    percentiles = {"preprocessing": CONTENT["preprocessing"] | {"window_percentiles": [1, 99]}}
    card, sister = (tmp_path / f"{stem.format(what)}.json" for what in ("", "-mr"))
    card.write_text(json.dumps(CONTENT | {"modalities": ["CT"]}))
    assert fitting(str(card), "MR") == str(card)
    sister.write_text(json.dumps(CONTENT | {"modalities": ["MR"]} | percentiles))
    assert [fitting(str(card), modality) for modality in ("CT", "MR", "PT")] == [str(card), str(sister), str(card)]
    sister.write_text(json.dumps(CONTENT | {"modalities": ["CT"]}))
    assert fitting(str(card), "MR") == str(card)


def test_unknown_model_is_named_in_the_error(tmp_path: Path) -> None:
    """A rule that names a model without a card fails with that name."""
    with pytest.raises(UnknownModel, match="'large'"):
        find("large", tmp_path)


@pytest.mark.parametrize("name", sorted(path.stem for path in PRETRAINED.glob("*.safetensors")))
def test_shipped_weights_are_those_of_their_card(name: str) -> None:
    """The sha256 is the file's, the architecture is here, and the file is small enough to live in the repository."""
    card = find(name)
    assert card.architecture in ARCHITECTURES
    assert card.weights.stat().st_size <= 60_000_000
    assert hashlib.sha256(card.weights.read_bytes()).hexdigest() == card.sha256


def test_main_model_ships() -> None:
    """`model = "resnet50"` of the example configuration works after an installation."""
    assert find("resnet50").weights.is_file()


def test_shipped_card_says_what_a_user_must_know() -> None:
    """Version, data, licence, and that the weights are for research alone."""
    card = find("resnet50")
    assert card.modalities == ("CT",)
    assert card.research_use_only is True
    assert all(part.isdigit() for part in card.version.split("."))
    assert len(card.trained_on) > 20
    assert len(card.licence) > 5
    how = card.preprocessing
    assert 0 < how.fine_spacing_mm < how.coarse_spacing_mm
    assert 0 < how.fine_step_mm < how.coarse_step_mm
    assert how.window_hu[0] < how.window_hu[1]


def test_shipped_card_holds_measured_figures_each_labelled() -> None:
    """Each figure says whether its case was left out of training or not, and at least one real case was."""
    quality = find("resnet50").quality
    labels = {name: name.rpartition(", ")[2] for name in quality}
    assert set(labels.values()) <= {"left out", "training case"}
    assert any(label == "left out" and not name.startswith("phantom") for name, label in labels.items())
    for name, figures in quality.items():
        assert 0 < figures["liver_dice"] <= 1, name


def test_licence_is_that_of_all_that_was_learned_from() -> None:
    """Also of the weights that training began from; phantoms alone bind nobody."""
    assert licences_of(["phantoms"]).startswith("Apache-2.0: trained on phantoms alone")
    begun = licences_of(["phantoms"], "first: CC BY-NC-ND 4.0")
    assert begun.startswith("research use only") and begun.endswith("begun from: first: CC BY-NC-ND 4.0")
    for name in (LITS, IRCADB, CHAOS_CT, CHAOS_MR, MSD_LIVER):
        assert f"{name} CC BY" in licences_of([name])
