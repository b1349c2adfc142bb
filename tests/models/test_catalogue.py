"""The catalogue: what a name means, and how a model is added whole, once and never over another."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from models.cards import Card, read_card
from models.catalogue import Catalogue, add, find_added
from models.errors import CardInvalid, UnknownModel, WeightsCorrupt

HOW = {
    "coarse_spacing_mm": 3.0,
    "fine_spacing_mm": 1.5,
    "coarse_step_mm": 4.0,
    "fine_step_mm": 2.0,
    "neighbour_mm": 4.0,
    "window_hu": [-160, 240],
}


def made(folder: Path, name: str = "ours", version: str = "1.0", weights: bytes = b"weights", **changes: Any) -> Card:
    """A card and a file beside it that has its sha256, whatever else it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "card.json"
    content = {
        "name": name,
        "version": version,
        "architecture": "fcn_vgg16",
        "modalities": ["CT"],
        "preprocessing": HOW,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "trained_on": "nobody",
        "licence": "CC0",
        "quality": {},
        "research_use_only": True,
    }
    path.write_text(json.dumps(content | changes))
    path.with_suffix(".safetensors").write_bytes(weights)
    return read_card(path)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """One that ships a model, with a folder that is not there yet."""
    made(tmp_path / "shipped", "resnet50", "1.0.0", b"first")
    return Catalogue(tmp_path / "root" / "models", {}, tmp_path / "shipped")


def test_without_a_folder_the_models_that_ship_are_there(catalogue: Catalogue) -> None:
    """By name, and by name and version."""
    assert catalogue.names == {"resnet50", "resnet50@1.0.0"}
    for name in catalogue.names:
        assert catalogue.card(name).version == "1.0.0"
    for name in ("resnet", "resnet50@2", "@", "", "../x"):
        with pytest.raises(UnknownModel, match="there is no model"):
            catalogue.card(name)


def test_added_model_is_found_by_its_name_and_version(catalogue: Catalogue, tmp_path: Path) -> None:
    """Card and weights are copies, open to the service's account; a second time nothing is done."""
    card = made(tmp_path / "given")
    target = add(card, catalogue)
    assert target == tmp_path / "root/models/ours@1.0.json"
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
    for path in (target, target.with_suffix(".safetensors")):
        assert path.read_bytes() == (tmp_path / "given" / f"card{path.suffix}").read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
    assert add(card, catalogue) is None
    assert catalogue.names == {"resnet50", "resnet50@1.0.0", "ours", "ours@1.0"}
    assert catalogue.card("ours") == catalogue.card("ours@1.0")
    assert sorted(path.name for path in target.parent.iterdir()) == ["ours@1.0.json", "ours@1.0.safetensors"]


def test_name_of_several_versions_must_say_which(catalogue: Catalogue, tmp_path: Path) -> None:
    """A new version never takes the place of what rules mean; the name of one that ships means that one."""
    add(made(tmp_path / "a"), catalogue)
    add(made(tmp_path / "b", version="1.1"), catalogue)
    add(made(tmp_path / "c", name="resnet50", version="2"), catalogue)
    with pytest.raises(UnknownModel, match='"ours" has several versions; write "ours@1.0" or "ours@1.1"'):
        catalogue.card("ours")
    assert catalogue.card("ours@1.1").version == "1.1"
    assert catalogue.card("resnet50").version == "1.0.0"
    assert catalogue.card("resnet50@2").version == "2"


@pytest.mark.parametrize(
    "changes", [{"weights": b"others"}, {"trained_on": "somebody"}, {"quality": {"liver_dice": 1.0}}]
)
def test_other_content_under_the_same_version_is_refused(
    catalogue: Catalogue, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Be it weights or what the card says; what was there stays."""
    target = add(made(tmp_path / "a"), catalogue)
    assert target is not None
    before = target.read_bytes()
    with pytest.raises(CardInvalid, match=r"card\.json: version: ours 1\.0 is here already with another content"):
        add(made(tmp_path / "b", **changes), catalogue)
    assert target.read_bytes() == before
    assert target.with_suffix(".safetensors").read_bytes() == b"weights"


def test_a_version_that_ships_or_has_a_name_is_not_taken(catalogue: Catalogue, tmp_path: Path) -> None:
    """Nor is a damaged file of that name."""
    named = made(tmp_path / "named", "mine", "3")
    catalogue = Catalogue(catalogue.folder, {"house": named.path}, catalogue.pretrained)
    assert catalogue.card("house").name == "mine"
    for name, version in (("resnet50", "1.0.0"), ("mine", "3")):
        with pytest.raises(CardInvalid, match="with another content"):
            add(made(tmp_path / "b", name, version, b"others"), catalogue)
    assert catalogue.folder is not None
    (catalogue.folder / "ours@1.0.json").write_text("{}")
    with pytest.raises(CardInvalid, match="with another content"):
        add(made(tmp_path / "c"), catalogue)


def test_what_a_kill_left_half_is_made_whole(catalogue: Catalogue, tmp_path: Path) -> None:
    """The card comes last: weights without one are nobody's. Weights that were damaged since are mended."""
    card = made(tmp_path / "a")
    assert catalogue.folder is not None
    catalogue.folder.mkdir(parents=True)
    weights = catalogue.folder / "ours@1.0.safetensors"
    weights.write_bytes(b"wei")
    (catalogue.folder / ".ours@1.0.json.part").write_bytes(b"{")
    assert find_added(catalogue.folder) == {}
    assert add(card, catalogue) is not None
    weights.write_bytes(b"wei")
    assert add(card, catalogue) is not None
    assert weights.read_bytes() == b"weights"


@pytest.mark.parametrize(("key", "value"), [("name", "../x"), ("name", "a b"), ("version", "1/2"), ("version", "ü")])
def test_name_that_is_no_file_s_is_refused(catalogue: Catalogue, tmp_path: Path, key: str, value: str) -> None:
    """Before it becomes a path."""
    with pytest.raises(CardInvalid, match=rf"card\.json: {key}: must be 1 to 64 letters"):
        add(made(tmp_path / "a", **{key: value}), catalogue)
    assert not (tmp_path / "root").exists()


def test_weights_that_change_meanwhile_are_not_added(catalogue: Catalogue, tmp_path: Path) -> None:
    """What was verified is what is copied, or nothing."""
    card = made(tmp_path / "a")
    card.weights.write_bytes(b"others")
    with pytest.raises(WeightsCorrupt, match=r"card\.safetensors: has changed while it was copied"):
        add(card, catalogue)
    assert catalogue.names == {"resnet50", "resnet50@1.0.0"}


def test_two_at_once_leave_one(catalogue: Catalogue, tmp_path: Path) -> None:
    """Of two contents for one version the first is kept whole, the other refused."""
    cards = [made(tmp_path / str(number), weights=bytes([number]) * 2_000_000) for number in range(2)]
    ended: list[object] = []

    def one(card: Card) -> None:
        try:
            ended.append(add(card, catalogue))
        except CardInvalid as error:
            ended.append(error)

    threads = [threading.Thread(target=one, args=(card,)) for card in cards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(end).__name__ for end in ended) == ["CardInvalid", "PosixPath"]
    kept = catalogue.card("ours")
    assert hashlib.sha256(kept.weights.read_bytes()).hexdigest() == kept.sha256


def test_card_under_another_s_file_name_is_told(catalogue: Catalogue, tmp_path: Path) -> None:
    """Somebody copied by hand."""
    target = add(made(tmp_path / "a"), catalogue)
    assert target is not None
    target.rename(target.with_name("ours@9.json"))
    with pytest.raises(CardInvalid, match=r"ours@9\.json: name: is that of ours@1\.0"):
        catalogue.card("ours")


def test_folder_that_is_none_is_told(catalogue: Catalogue, tmp_path: Path) -> None:
    """A file in its place has no models, and takes none."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root/models").touch()
    assert catalogue.names == {"resnet50", "resnet50@1.0.0"}
    with pytest.raises(WeightsCorrupt, match="models: File exists"):
        add(made(tmp_path / "a"), catalogue)


def test_whom_weights_learned_from_comes_with_them(catalogue: Catalogue, tmp_path: Path) -> None:
    """Names of a site's cases, for the owner's eyes; what lies there is no model."""
    target = add(made(tmp_path / "a"), catalogue, {"data/case2", "data/case1"})
    assert target is not None
    path = target.with_suffix(".patients")
    assert json.loads(path.read_text()) == {"patients": ["data/case1", "data/case2"]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert catalogue.names == {"resnet50", "resnet50@1.0.0", "ours", "ours@1.0"}
