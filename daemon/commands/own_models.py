"""What the configuration's names of models mean, and `porta models`: list, verify, add.

A service begins only when every model that a rule names is whole; then each name stands for that card until it ends,
whatever is added meanwhile.
"""

import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from daemon.configuration.config import Config, load
from daemon.configuration.toml_lines import KeyPath
from daemon.errors import BadRequest, ConfigurationError
from daemon.terminal import Terminal, styled, warn
from models.cards import PRETRAINED, Card, read_card, read_cards, sha256_of
from models.catalogue import AT, Catalogue, add, find_added
from models.errors import DeviceUnavailable, ModelError

console = Terminal(width=None if sys.stdout.isatty() else 200)


def catalogue_of(config: Config | None) -> Catalogue:
    """The models that rules of this configuration may name; without one those that ship."""
    if config is None:
        return Catalogue()
    return Catalogue(config.storage.models, {own.name: own.card for own in config.own_models})


def require_models(config: Config) -> Config:
    """The configuration with the card of every model that a rule names, all of them whole, and a device that is there.

    Raises ConfigurationError, with a line for each that is not.
    """
    from models.forward import named_device
    from models.weights import verify

    catalogue = catalogue_of(config)
    cards: dict[str, Path] = {}
    faults: dict[str, str] = {}
    for index, rule in enumerate(config.rules):
        keys: dict[KeyPath, str] = {("model",): rule.model}
        keys |= {("shadow", place): name for place, name in enumerate(rule.shadow)}
        for key, name in keys.items():
            if name in cards or name in faults:
                continue
            try:
                card = catalogue.card(name)
                verify(card)
                cards[name] = card.path
            except ModelError as error:
                faults[name] = config.fault(("rule", index, *key), str(error))
    lines = list(faults.values())
    place = "devices" if config.engine.devices else "device"
    for device in sorted(set(config.engine.worker_devices) - {"auto"}):
        try:
            named_device(device)
        except DeviceUnavailable as error:
            lines.append(config.fault(("engine", place), str(error)))
    if lines:
        raise ConfigurationError(lines)
    return config.with_cards(cards)


def require_models_apart(config: Config) -> Config:
    """Return the same, found out in another process: the service never holds the libraries that this takes.

    A model that ships is whole by the sha256 of its card, and takes none of them.
    """
    if (cards := _shipped_cards(config)) is not None:
        return config.with_cards(cards)
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, config), name="porta-verify", daemon=True)
    process.start()
    theirs.close()
    try:
        outcome: Config | ConfigurationError = ours.recv()
    except EOFError:
        process.join()
        raise ConfigurationError([f"the models cannot be verified: exit code {process.exitcode}"]) from None
    process.join()
    if isinstance(outcome, ConfigurationError):
        raise outcome
    return outcome


def _shipped_cards(config: Config) -> dict[str, Path] | None:
    """The cards of the rules' models where all of them ship and are whole, and no device is to be looked for."""
    if set(config.engine.worker_devices) != {"auto"}:
        return None
    catalogue, names = catalogue_of(config), {name for rule in config.rules for name in (rule.model, *rule.shadow)}
    try:
        cards = {name: catalogue.card(name) for name in names}
        are_whole = all(
            card.path.parent == PRETRAINED and sha256_of(card.weights) == card.sha256 for card in cards.values()
        )
    except (ModelError, OSError):
        return None
    return {name: card.path for name, card in cards.items()} if are_whole else None


def _answer(answer: Connection, config: Config) -> None:
    try:
        answer.send(require_models(config))
    except ConfigurationError as error:
        answer.send(error)


def print_models(config: Config | None) -> bool:
    """The models that are here and their measured quality; a line on stderr for a card that cannot be read.

    False where there is one.
    """
    catalogue = catalogue_of(config)
    right = True
    for path in catalogue.paths():
        try:
            card = read_card(path)
        except ModelError as error:
            warn(f"porta: {error}")
            right = False
            continue
        _print_card(card, catalogue)
    return right


def _print_card(card: Card, catalogue: Catalogue) -> None:
    made_for = f"({card.architecture}, {', '.join(card.modalities)})"
    console.print(styled(card.name, "bold"), card.version, made_for)
    if card.path.parent != catalogue.pretrained:
        console.print(f"  card       {card.path}", highlight=False, soft_wrap=True)
    for name in [name for name, path in catalogue.given.items() if path == card.path]:
        console.print(f"  called     {name}", highlight=False)
    console.print(f"  sha256     {card.sha256}", highlight=False)
    console.print(f"  trained on {card.trained_on}", highlight=False)
    console.print(f"  licence    {card.licence}", highlight=False)
    for name, value in card.quality.items():
        console.print(f"  {name}: {value}", highlight=False)
    if card.research_use_only:
        console.print("  for research use, not a diagnosis")


def verify_models(config: Config | None, name: str | None) -> bool:
    """Verify one model, or all: card, sha256 and layers; print a line for each. False where one is not sound.

    Raises UnknownModel.
    """
    from models.weights import verify

    catalogue = catalogue_of(config)
    right = True
    for path in catalogue.paths() if name is None else [catalogue.card(name).path]:
        try:
            card = read_card(path)
            verify(card)
        except ModelError as error:
            warn(f"porta: {error}")
            right = False
        else:
            console.print(_whole(card), highlight=False, soft_wrap=True)
    return right


def _whole(card: Card) -> str:
    return f"{card.name} {card.version}: whole, sha256 {card.sha256}"


def add_model(config: Config, path: Path) -> None:
    """Check a card and its weights, and copy both into the folder that the service reads.

    Raises CardInvalid, UnknownModel and WeightsCorrupt, and BadRequest where the service would not start with it; then
    nothing is added.
    """
    from models.training.runs import learned_from
    from models.weights import verify

    catalogue = catalogue_of(config)
    card = read_card(path)
    _refuse_clash(card, catalogue, config)
    verify(card)
    kept = add(card, catalogue, learned_from(card))
    console.print(_whole(card), highlight=False, soft_wrap=True)
    console.print(f"  trained on {card.trained_on}", highlight=False, soft_wrap=True)
    console.print(f"  licence    {card.licence}", highlight=False, soft_wrap=True)
    if card.research_use_only:
        console.print("  for research use, not a diagnosis")
    if kept is None:
        console.print("It was here already.")
        return
    name = f"{card.name}{AT}{card.version}"
    console.print(f'Added as {kept}; a rule names it by model = "{name}".', highlight=False, soft_wrap=True)


def _refuse_clash(card: Card, catalogue: Catalogue, config: Config) -> None:
    """Raise BadRequest where, with this card, a name of the configuration would be given twice or mean two models."""
    name = card.name
    if name in catalogue.given and not _is_called(card, catalogue.given[name]):
        raise BadRequest(
            f'{card.path}: name: a [[model]] of the configuration is called "{name}", and the service would not start'
            " with another of that name: rename the card, or the [[model]] and what names it"
        )
    versions = find_added(catalogue.folder).get(name, {})
    if not versions or card.version in versions or name in read_cards(catalogue.pretrained):
        return
    there = " or ".join(f'"{name}{AT}{version}"' for version in sorted(versions))
    for rule in config.rules:
        if name in (rule.model, *rule.shadow):
            key = "model" if name == rule.model else "shadow"
            raise BadRequest(
                f'{card.path}: version: the {key} "{name}" of the rule "{rule.name}" would mean two models, and the'
                f" service would not start: write {there} there first"
            )


def _is_called(card: Card, other: Path) -> bool:
    """True where another card has the same name and version: then this one is not added, or refused for its content."""
    try:
        there = read_card(other)
    except ModelError:
        return False
    return (there.name, there.version) == (card.name, card.version)


def configuration(path: Path | None) -> Config | None:
    """The configuration, if there is one.

    One that cannot be used is a fault where `--config` asked for it; else a line, and the models that ship remain.
    """
    try:
        return load(path, known_models=None)
    except ConfigurationError as error:
        if path is not None:
            raise
        if not error.faults[0].startswith("no configuration found"):
            warn(f"porta: {error.faults[0]}; only the models that ship are looked at")
        return None


def findable(name: str) -> str:
    """What `models.cards.find` takes for a model that a command names: one of `porta models`, or the path of a card.

    All but cards and models that ship are looked for in the configuration that is found. Raises UnknownModel,
    CardInvalid.
    """
    if name.endswith(".json") or name in read_cards():
        return name
    return str(catalogue_of(configuration(None)).card(name).path)


def print_verified(config: Config) -> None:
    """Print a line for each model of the rules, all of which were verified."""
    names = dict.fromkeys(name for rule in config.rules for name in (rule.model, *rule.shadow))
    for name in names:
        card = read_card(Path(config.card(name)))
        console.print(f"model {name}: {_whole(card)}", highlight=False, soft_wrap=True)
